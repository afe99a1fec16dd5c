// SPDX-License-Identifier: Apache-2.0
// The systrap platform: guest code runs in stub processes in which seccomp turns every system call into a signal, and
// the signal's handler hands over to the sentry through shared memory. No ptrace.
#ifndef PLATFORM_SYSTRAP_SYSTRAP_PLATFORM_H_
#define PLATFORM_SYSTRAP_SYSTRAP_PLATFORM_H_

#include <sys/types.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/mutex.h"
#include "platform/platform.h"
#include "platform/ptrace/placement.h"
#include "platform/ptrace/stub_watch.h"
#include "platform/stub/zygote.h"
#include "platform/systrap/shared_file.h"
#include "platform/systrap/stub_process.h"

namespace platform::systrap {

class SystrapAddressSpace;

class SystrapPlatform final : public Platform {
 public:
  // Starts the zygote (see stub::Zygote::Start for when and by whom this may be called) and proves with one call and
  // one fault of a guest that the host lets it work. All AddressSpaces and Contexts must be gone before the platform
  // is.
  static absl::StatusOr<std::unique_ptr<SystrapPlatform>> Start();

  const char* Name() const override { return "systrap"; }
  base::Result<base::RefPtr<AddressSpace>> NewAddressSpace() override;
  std::unique_ptr<Context> NewContext() override;
  size_t FpuStateSize() const override { return initial_fpu_.size(); }
  void AllowSpinning(bool allowed) override { may_spin_ = allowed && placement_.enabled(); }
  void AllowPatching(bool allowed) override { may_patch_ = allowed; }
  void OnBlock() override;
  void OnUnblock() override;
  void OnStubLost(std::function<void()> callback) override;
  bool SupportsRseq() const override { return supports_rseq_; }
  ClockParams* clock_params() override { return reinterpret_cast<ClockParams*>(file_->Pointer(clock_offset_)); }

  SharedFile& file() { return *file_; }
  ptrace::Placement& placement() { return placement_; }
  stub::Zygote& zygote() { return *zygote_; }
  // To the caller's CPU, where hand-overs are cheap.
  void PinZygote();
  const std::vector<uint8_t>& initial_fpu() const { return initial_fpu_; }
  // The components in it.
  uint64_t xfeatures() const { return xfeatures_; }
  uint32_t mxcsr_mask() const { return mxcsr_mask_; }
  bool may_spin() const { return may_spin_; }
  bool may_patch() const { return may_patch_; }
  uint64_t ticks_per_us() const { return ticks_per_us_; }
  // Whether the death of a stub wakes those who wait for it.
  bool watching() const { return watching_.load(std::memory_order_relaxed); }

  // Guest threads per stub process.
  uint32_t max_threads() const { return max_threads_; }
  void set_max_threads_for_test(uint32_t value) { max_threads_ = value; }

  // A new stub process whose control page is the unit at `control`.
  base::Result<pid_t> Fork(uint64_t control);
  // While registered, the death of the space's process is noticed, and is the sandbox's loss.
  // `watched`: it was a pooled one.
  void Register(SystrapAddressSpace& space, bool watched) ABSL_LOCKS_EXCLUDED(spaces_mu_);
  void Unregister(SystrapAddressSpace& space) ABSL_LOCKS_EXCLUDED(spaces_mu_);
  // The sentry is about to kill it.
  void Forget(SystrapAddressSpace& space);
  // The pool of stub processes that have no guest now.
  bool HasRoomForStub() ABSL_LOCKS_EXCLUDED(spaces_mu_);
  // Takes the place of Unregister. False: no room; `stub` is as it was.
  bool GiveStub(SystrapAddressSpace& space, StubProcess& stub) ABSL_LOCKS_EXCLUDED(spaces_mu_);
  std::optional<StubProcess> TakeStub() ABSL_LOCKS_EXCLUDED(spaces_mu_);
  // Frees units once the killed process can't write to them any more.
  void FreeAfterDeath(pid_t pid, std::vector<uint64_t> units) ABSL_LOCKS_EXCLUDED(spaces_mu_);

 private:
  SystrapPlatform() = default;
  absl::Status ProbeVectorState();
  void CalibrateSpinning();
  absl::Status SelfTest();
  absl::Status RunTestGuest(SystrapAddressSpace& space);
  // False: it had no guest.
  bool OnDeath(pid_t pid, int signal) ABSL_LOCKS_EXCLUDED(spaces_mu_);

  struct Grave {
    pid_t pid;
    std::vector<uint64_t> units;
  };

  std::unique_ptr<SharedFile> file_;
  uint64_t clock_offset_ = 0;  // the unit whose first page all stubs read
  std::unique_ptr<stub::Zygote> zygote_;
  ptrace::Placement placement_;
  ptrace::StubWatch watch_;
  std::vector<uint8_t> initial_fpu_;
  uint64_t xfeatures_ = 0;
  uint32_t mxcsr_mask_ = 0;
  bool may_spin_ = false;
  bool may_patch_ = true;
  uint64_t ticks_per_us_ = 1;  // of the time-stamp counter
  uint64_t stub_spins_ = 1;
  std::atomic<bool> watching_{false};
  uint32_t max_threads_ = kMaxAreas;
  bool supports_rseq_ = false;

  // Before a space's threads_mu_; never with a space's mu_.
  base::Mutex spaces_mu_{base::LockRank::kPlatform};
  std::map<pid_t, SystrapAddressSpace*> spaces_ ABSL_GUARDED_BY(spaces_mu_);
  std::vector<StubProcess> pool_ ABSL_GUARDED_BY(spaces_mu_);
  std::deque<Grave> graves_ ABSL_GUARDED_BY(spaces_mu_);
};

}  // namespace platform::systrap

#endif  // PLATFORM_SYSTRAP_SYSTRAP_PLATFORM_H_
