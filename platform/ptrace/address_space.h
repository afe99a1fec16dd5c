// SPDX-License-Identifier: Apache-2.0
// PtraceAddressSpace: one stub process. Its leader is never traced after creation (the kernel would not report the
// death of a traced leader while another traced thread isn't reaped); a second thread, the service thread, waits
// untraced in the pause loop and is borrowed by whoever needs a host call made but has no stub thread of its own here.
#ifndef PLATFORM_PTRACE_ADDRESS_SPACE_H_
#define PLATFORM_PTRACE_ADDRESS_SPACE_H_

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "base/mutex.h"
#include "base/result.h"
#include "platform/platform.h"
#include "platform/ptrace/interval_set.h"
#include "platform/ptrace/ptrace_platform.h"
#include "platform/ptrace/tracee.h"

namespace platform::ptrace {

class PtraceContext;

class PtraceAddressSpace final : public AddressSpace {
 public:
  static base::Result<base::RefPtr<PtraceAddressSpace>> Create(PtracePlatform& platform);
  // Kills the stub process; the zygote leaves no zombie of it.
  ~PtraceAddressSpace() override;

  // EINVAL: not page-aligned or outside the guest's addresses. ESRCH: the stub is dead. By a thread without a bound
  // Context it works too, slower.
  base::Result<void> Map(uint64_t address, uint64_t length, int fd, uint64_t offset, Protection protection,
                         bool populate) override ABSL_LOCKS_EXCLUDED(mu_);
  void Unmap(uint64_t address, uint64_t length) override ABSL_LOCKS_EXCLUDED(mu_);
  void Protect(uint64_t address, uint64_t length, Protection protection) override ABSL_LOCKS_EXCLUDED(mu_);

  pid_t pid() const { return pid_; }
  // A new untraced thread in the pause loop with initial vector state, on the slot's CPU.
  base::Result<pid_t> NewThread(const Placement::Slot& slot) ABSL_LOCKS_EXCLUDED(mu_);
  // The stub process was found dead: its pid may belong to another process from now on.
  void MarkDead() { dead_.store(true, std::memory_order_relaxed); }
  bool dead() const { return dead_.load(std::memory_order_relaxed); }

  void Register(PtraceContext& context) ABSL_LOCKS_EXCLUDED(mu_);
  void Unregister(PtraceContext& context) ABSL_LOCKS_EXCLUDED(mu_);

 private:
  PtraceAddressSpace(PtracePlatform& platform, pid_t pid) : platform_(platform), pid_(pid) {}

  // Runs `body` with a stopped thread of this stub: the caller's own, else the service thread.
  base::Result<void> WithTracee(const std::function<base::Result<void>(Tracee&)>& body)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  PtraceContext* OwnContextLocked() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void UnmapLocked(Tracee& tracee, uint64_t start, uint64_t end) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // A mapping that must go can't be made to: guest code must not run any more.
  void Kill(const char* call, uint64_t start, uint64_t end, base::Errno error);

  PtracePlatform& platform_;
  const pid_t pid_;
  pid_t service_tid_ = 0;
  std::atomic<bool> dead_{false};

  // Held over host calls made in the stub: they are bounded, no guest code runs meanwhile in that thread.
  base::Mutex mu_{base::LockRank::kPlatform};
  IntervalSet mapped_ ABSL_GUARDED_BY(mu_);
  std::vector<PtraceContext*> contexts_ ABSL_GUARDED_BY(mu_);
};

}  // namespace platform::ptrace

#endif  // PLATFORM_PTRACE_ADDRESS_SPACE_H_
