// SPDX-License-Identifier: Apache-2.0
// The ptrace platform: guest code runs in stub processes under PTRACE_SYSEMU. Works wherever ptrace(2) does; the
// reference for the others.
#ifndef PLATFORM_PTRACE_PTRACE_PLATFORM_H_
#define PLATFORM_PTRACE_PTRACE_PLATFORM_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "platform/platform.h"
#include "platform/ptrace/placement.h"
#include "platform/ptrace/stub_watch.h"
#include "platform/stub/zygote.h"

namespace platform::ptrace {

class PtracePlatform final : public Platform {
 public:
  // Starts the zygote (see stub::Zygote::Start for when and by whom this may be called) and proves with one intercepted
  // call that ptrace works here. All AddressSpaces and Contexts must be gone before the platform is.
  static absl::StatusOr<std::unique_ptr<PtracePlatform>> Start();

  const char* Name() const override { return "ptrace"; }
  base::Result<base::RefPtr<AddressSpace>> NewAddressSpace() override;
  std::unique_ptr<Context> NewContext() override;
  size_t FpuStateSize() const override { return initial_fpu_.size(); }
  void OnBlock() override;
  void OnUnblock() override;
  void OnStubLost(std::function<void()> callback) override;

  bool SupportsRseq() const override { return supports_rseq_; }

  stub::Zygote& zygote() { return *zygote_; }
  const stub::StubLayout& layout() const { return zygote_->layout(); }
  Placement& placement() { return placement_; }
  StubWatch& watch() { return watch_; }
  const std::vector<uint8_t>& initial_fpu() const { return initial_fpu_; }

 private:
  PtracePlatform() = default;
  absl::Status SelfTest();

  std::unique_ptr<stub::Zygote> zygote_;
  Placement placement_;
  StubWatch watch_;
  std::vector<uint8_t> initial_fpu_;
  bool supports_rseq_ = false;
};

}  // namespace platform::ptrace

#endif  // PLATFORM_PTRACE_PTRACE_PLATFORM_H_
