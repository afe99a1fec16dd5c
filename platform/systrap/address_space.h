// SPDX-License-Identifier: Apache-2.0
// SystrapAddressSpace: one stub process. Its first thread is the service thread, which changes memory and makes guest
// threads on the sentry's order. Guest threads never end before the process does: one that is given up is parked for
// the next Context.
#ifndef PLATFORM_SYSTRAP_ADDRESS_SPACE_H_
#define PLATFORM_SYSTRAP_ADDRESS_SPACE_H_

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "base/mutex.h"
#include "base/result.h"
#include "platform/platform.h"
#include "platform/ptrace/interval_set.h"
#include "platform/systrap/call_sites.h"
#include "platform/systrap/service.h"
#include "platform/systrap/stub_process.h"
#include "platform/systrap/stub_thread.h"
#include "platform/systrap/systrap_platform.h"

namespace platform::systrap {

class SystrapAddressSpace final : public AddressSpace {
 public:
  static base::Result<base::RefPtr<SystrapAddressSpace>> Create(SystrapPlatform& platform);
  // Gives the stub process to the next space if it can be emptied. Else kills it; the zygote leaves no zombie of it.
  ~SystrapAddressSpace() override;

  // From any thread. EINVAL: not page-aligned or outside the guest's addresses. ESRCH: the stub is dead.
  base::Result<void> Map(uint64_t address, uint64_t length, int fd, uint64_t offset, Protection protection,
                         bool populate) override ABSL_LOCKS_EXCLUDED(mu_);
  base::Result<void> MapAll(std::span<const Mapping> mappings) override ABSL_LOCKS_EXCLUDED(mu_);
  void Unmap(uint64_t address, uint64_t length) override ABSL_LOCKS_EXCLUDED(mu_);
  void Protect(uint64_t address, uint64_t length, Protection protection) override ABSL_LOCKS_EXCLUDED(mu_);
  void MarkText(uint64_t address, uint64_t length) override ABSL_LOCKS_EXCLUDED(mu_);
  void LendRoom(uint64_t address, uint64_t length) override ABSL_LOCKS_EXCLUDED(mu_);
  void TakeBackRoom(uint64_t address, uint64_t length) override ABSL_LOCKS_EXCLUDED(mu_);

  // A thread makes the call `number` often, that returns to `return_address`: it may get there without a trap from now
  // on.
  void PatchSite(uint64_t return_address, uint64_t number) ABSL_LOCKS_EXCLUDED(mu_);
  // Undoes the patches of that site's page; it gets none any more.
  void RefuseSite(uint64_t return_address) ABSL_LOCKS_EXCLUDED(mu_);
  // Whether anything was ever patched here.
  bool patched() const { return patched_.load(std::memory_order_relaxed); }
  // No more; what was is undone.
  void StopPatching() ABSL_LOCKS_EXCLUDED(mu_);
  // See CallSites.
  std::optional<CallSites::Gate> GateAt(uint64_t address, bool gone) ABSL_LOCKS_EXCLUDED(mu_);
  std::optional<CallSites::Gate> GateReturningTo(uint64_t address, bool gone) ABSL_LOCKS_EXCLUDED(mu_);
  std::optional<CallSites::Gate> RelocatedEndingAt(uint64_t address) ABSL_LOCKS_EXCLUDED(mu_);
  // Grows whenever text is put back or gates go: what the functions above said is no longer so.
  uint32_t patch_epoch() const { return patch_epoch_.load(std::memory_order_relaxed); }

  pid_t pid() const { return pid_; }
  // A guest thread that waits for its first registers, in initial vector state. EAGAIN, ENOMEM, ESRCH.
  base::Result<StubThread*> TakeThread() ABSL_LOCKS_EXCLUDED(mu_);
  // It has stopped with an event.
  void ParkThread(StubThread* thread) ABSL_LOCKS_EXCLUDED(mu_);
  void MarkDead() { dead_.store(true, std::memory_order_seq_cst); }
  bool dead() const { return dead_.load(std::memory_order_relaxed); }
  // The stub did what it never does by itself, or can't be made to do what it must: its process ends, nothing else
  // does.
  void Kill(const char* why);
  // The process has ended, by `signal` if that is known and of its own making: everyone who waits for its guest threads
  // finds out.
  void OnDeath(int signal = 0) ABSL_LOCKS_EXCLUDED(threads_mu_);
  int death_signal() const { return death_signal_.load(std::memory_order_relaxed); }

 private:
  SystrapAddressSpace(SystrapPlatform& platform, StubProcess stub);

  base::Result<Service::Outcome> RunLocked(std::span<const Order> orders) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  base::Result<StubThread*> NewThreadLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void UnmapLocked(uint64_t start, uint64_t end) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Nothing of this space's guests is left in the process, neither memory nor what its thread had; false if that can't
  // be had.
  bool EmptyLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) ABSL_LOCKS_EXCLUDED(threads_mu_);
  // Makes a patched copy of the site's page, or a new one of one that is patched. False: this site can't be had.
  bool PatchLocked(uint64_t return_address, uint64_t number) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // The pages of the range are about to be replaced or unmapped; with `restore`, they are as they were then.
  void DropPatchesLocked(uint64_t start, uint64_t end, bool restore) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Before the range is mapped, unmapped or protected.
  void BeforeChangeLocked(uint64_t start, uint64_t end, bool restore) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void TakeBackRoomLocked(uint64_t start, uint64_t end) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  bool RunAllLocked(std::span<const Order> orders) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // A page of the shared file, of this space's own. 0: none.
  uint64_t TakePageLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  bool CleanseLocked(StubThread& thread) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  Control* control() const;

  SystrapPlatform& platform_;
  const pid_t pid_;
  const uint64_t control_offset_;
  std::atomic<bool> dead_{false};
  std::atomic<int> death_signal_{0};

  // Held over host calls made in the stub: they are bounded.
  base::Mutex mu_{base::LockRank::kPlatform};
  Service service_ ABSL_GUARDED_BY(mu_);
  int service_cpu_ ABSL_GUARDED_BY(mu_) = -1;  // index of the placement that the service thread was pinned to
  ptrace::IntervalSet mapped_ ABSL_GUARDED_BY(mu_);
  std::vector<StubThread*> parked_ ABSL_GUARDED_BY(mu_);
  std::vector<uint64_t> units_ ABSL_GUARDED_BY(mu_);  // of the shared file, area by area
  std::atomic<bool> patched_{false};
  std::atomic<uint32_t> patch_epoch_{0};
  bool patching_ ABSL_GUARDED_BY(mu_);
  CallSites sites_ ABSL_GUARDED_BY(mu_);
  std::vector<uint64_t> refused_ ABSL_GUARDED_BY(mu_);      // return addresses that can't be patched
  std::vector<uint64_t> patch_units_ ABSL_GUARDED_BY(mu_);  // of the shared file, for gates and copies of text
  std::vector<uint64_t> free_pages_ ABSL_GUARDED_BY(mu_);   // of those

  base::Mutex threads_mu_{base::LockRank::kLeaf};
  std::vector<std::unique_ptr<StubThread>> threads_ ABSL_GUARDED_BY(threads_mu_);
};

}  // namespace platform::systrap

#endif  // PLATFORM_SYSTRAP_ADDRESS_SPACE_H_
