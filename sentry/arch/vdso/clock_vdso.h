// SPDX-License-Identifier: Apache-2.0
// The vDSO of a sandbox: a small ELF image (vdso_guest.c) over the TSC and a page of parameters, both in the MemoryFile
// and mapped into every guest. When the TSC is not to be trusted, the guest's functions make the system call.
#ifndef SENTRY_ARCH_VDSO_CLOCK_VDSO_H_
#define SENTRY_ARCH_VDSO_CLOCK_VDSO_H_

#include <atomic>
#include <functional>
#include <memory>

#include "platform/clock_params.h"
#include "platform/memory_file.h"
#include "sentry/arch/vdso.h"
#include "sentry/common.h"
#include "sentry/mm/mapped_object.h"

namespace sentry::arch {

// How the parameters follow the host's clocks. Pure; see ClockVdso for when it is asked.
class ClockCalibrator {
 public:
  struct Sample {
    uint64_t tsc;
    int64_t monotonic_ns, realtime_ns;  // of the same instant
  };
  // The parameters for guests from `sample` on (without the sequence); what guests read never goes back.
  platform::ClockParams Update(const Sample& sample);
  // Ticks until the next update is due.
  uint64_t interval() const { return interval_; }

 private:
  bool have_sample_ = false;
  Sample last_{};
  double ns_per_tick_ = 0;  // 0: not known yet
  uint64_t interval_ = 0;
  int updates_ = 0;
  platform::ClockParams params_{};
};

class ClockVdso final : public Vdso {
 public:
  // Reads the host's clock source: call before the process is confined. The MemoryFile must outlive the result.
  static Result<std::unique_ptr<Vdso>> Create(platform::MemoryFile& memory);
  ~ClockVdso() override;

  // ENOMEM. Maps [vvar] read-only (for good) and, above it, [vdso]. [vvar] is two mappings: the offsets, the
  // parameters.
  Result<uint64_t> MapInto(mm::MemoryManager& mm, RefPtr<mm::MappedObject> offsets) override;
  Result<RefPtr<mm::MappedObject>> NewOffsets(int64_t monotonic_ns) override;
  Result<void> SetOffsets(mm::MemoryManager& mm, RefPtr<mm::MappedObject> offsets) override;
  void UpdateParams() override;
  void Mirror(platform::ClockParams* copy) override;

 private:
  class Pages;
  ClockVdso(platform::MemoryFile& memory, RefPtr<Pages> pages, bool usable);

  platform::MemoryFile& memory_;
  const RefPtr<Pages> pages_;
  platform::ClockParams* const params_;    // in the sentry's view of the parameter page
  platform::ClockParams* copy_ = nullptr;  // for stubs; written as params_ is
  const bool usable_;
  std::atomic<uint64_t> due_{0};  // TSC
  Mutex mu_{LockRank::kLeaf};
  ClockCalibrator calibrator_ ABSL_GUARDED_BY(mu_);
};

}  // namespace sentry::arch

#endif  // SENTRY_ARCH_VDSO_CLOCK_VDSO_H_
