// SPDX-License-Identifier: Apache-2.0
// KvmContext: one guest thread. Between its turns on a CPU it is a few registers and an image of vector state.
#ifndef PLATFORM_KVM_CONTEXT_H_
#define PLATFORM_KVM_CONTEXT_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "platform/kvm/address_space.h"
#include "platform/kvm/kvm_abi.h"
#include "platform/kvm/vcpu.h"
#include "platform/platform.h"

namespace platform::kvm {

class KvmContext final : public Context {
 public:
  explicit KvmContext(KvmPlatform& platform);
  ~KvmContext() override;

  base::Result<void> Bind(AddressSpace& space) override;
  Event Switch(Registers& registers) override;
  base::Result<std::unique_ptr<Context>> CloneInSpace() override;
  void Interrupt() override;
  size_t GetFpu(std::span<uint8_t> buffer) override;
  base::Result<void> SetFpu(std::span<const uint8_t> image) override;
  base::Result<void> ResetFpu() override;
  base::Result<void> SetDebugRegisters(std::span<const uint64_t, 8> values) override;
  uint64_t DebugStatus() override { return debug_status_; }
  void SetAnswer(uint32_t number, std::optional<uint32_t> value) override;
  void Release() override;

 private:
  friend class VcpuPool;
  using Outcome = std::optional<Event>;

  void SetInitialFpu();
  bool Loadable(const Registers& registers) const;
  // Until an event, or (nothing) until the CPU is wanted by somebody else.
  Outcome RunOn(Vcpu& cpu, Registers& registers);
  Outcome OnTrap(Vcpu& cpu, const Exit& exit, Registers& registers);
  Outcome OnPageFault(const Exit& exit, Registers& registers);
  Outcome OnUndefined(Registers& registers);
  int FloatingPointCode(bool simd);

  KvmPlatform& platform_;
  base::RefPtr<KvmAddressSpace> space_;
  std::atomic<bool> interrupted_{false};
  std::atomic<Vcpu*> running_{nullptr};
  uint64_t fs_base_ = 0;  // as the guest left them
  uint64_t gs_base_ = 0;
  uint64_t debug_[8] = {};
  bool debug_on_ = false;
  uint64_t debug_status_ = kDebugStatusInitial;
  int host_faults_ = 0;  // in a row
  // The pool's, under its lock: the CPU that has the vector state, else the image that counts.
  Vcpu* vcpu_ = nullptr;
  XsaveArea fpu_;
  Answers answers_ = {};
  bool debug_dirty_ = false;
};

}  // namespace platform::kvm

#endif  // PLATFORM_KVM_CONTEXT_H_
