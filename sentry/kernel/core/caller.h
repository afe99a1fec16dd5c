// SPDX-License-Identifier: Apache-2.0
// Caller: the part of the current task that layers below the kernel (vfs, fs, socket) may see. One sentry thread runs
// one guest task, so Caller::Current() is that task; sentry threads without a task have none (CurrentOrNull() is null).
#ifndef SENTRY_KERNEL_CORE_CALLER_H_
#define SENTRY_KERNEL_CORE_CALLER_H_

#include <signal.h>
#include <sys/types.h>

#include <string>
#include <type_traits>

#include "sentry/common.h"
#include "sentry/kernel/core/credentials.h"
#include "sentry/kernel/core/user_addr.h"
#include "sentry/kernel/core/wait_queue.h"

namespace sentry {

class Caller {
 public:
  static Caller& Current() { return *current_; }
  static Caller* CurrentOrNull() { return current_; }

  virtual const RefPtr<const Credentials>& creds() const = 0;
  virtual Blocker& blocker() = 0;
  // Sleeps until the blocker is woken (ok), the absolute CLOCK_MONOTONIC deadline passes (ETIMEDOUT) or a signal, a
  // kill, a stop or a checkpoint asks the task back to its run loop (kErestartsys). Wake-ups may be spurious: loop on
  // the condition.
  virtual Result<void> Block(int64_t deadline_ns = kNoDeadline) = 0;
  // As Block, but only death interrupts it (kErestartsys then).
  virtual Result<void> BlockKillable(int64_t deadline_ns = kNoDeadline) = 0;

  // Guest memory of the caller. All or nothing: EFAULT.
  virtual Result<void> CopyInBytes(UserAddr from, void* to, size_t length) = 0;
  virtual Result<void> CopyOutBytes(UserAddr to, const void* from, size_t length) = 0;
  template <typename T>
  Result<T> CopyIn(UserAddr from) {
    static_assert(std::is_trivially_copyable_v<T>);
    T value;
    TRY(CopyInBytes(from, &value, sizeof value));
    return value;
  }
  template <typename T>
  Result<void> CopyOut(UserAddr to, const T& value) {
    static_assert(std::is_trivially_copyable_v<T>);
    return CopyOutBytes(to, &value, sizeof value);
  }
  // A NUL-terminated string of at most `limit` bytes with the NUL. ENAMETOOLONG, EFAULT.
  virtual Result<std::string> CopyInString(UserAddr from, size_t limit) = 0;

  // Soft resource limit (RLIMIT_*).
  virtual uint64_t SoftLimit(int resource) const = 0;
  // Ids as the caller's own pid namespace sees them.
  virtual pid_t CallerTgid() const = 0;
  virtual pid_t CallerTid() const = 0;
  // Which namespace that is: an identity for comparison.
  virtual uint64_t CallerPidNamespace() const { return 0; }
  // An identity for POSIX record locks (the fd table, as Linux's files_struct) and for leases/owners.
  virtual const void* LockOwner() const = 0;
  // Sends a thread-directed signal to the caller itself (SIGPIPE, SIGXFSZ).
  virtual void RaiseSelf(int signal) = 0;
  virtual mode_t umask() const = 0;

 protected:
  virtual ~Caller() = default;
  // Set once by the thread that runs the task.
  static void SetCurrent(Caller* caller) { current_ = caller; }

 private:
  static inline thread_local Caller* current_ = nullptr;
};

// Runs `attempt` (returning Result<T>) until it gives something other than EAGAIN, sleeping on `queue` between.
// EAGAIN is returned as it is when `nonblocking`.
// `exclusive`: the queue's owner calls NotifyOne; the caller of this passes on what it leaves.
template <typename F>
auto BlockOn(Caller& caller, WaitQueue& queue, EventMask mask, bool nonblocking, int64_t deadline_ns, F attempt,
             bool exclusive = false) -> decltype(attempt()) {
  auto result = attempt();
  if (result.ok() || result.error() != Errno(EAGAIN) || nonblocking) return result;
  BlockerEntry entry(caller.blocker());
  queue.Add(entry, mask, exclusive);
  // What came together with a signal or the deadline is still taken, as Linux does.
  Result<void> blocked;
  for (;;) {
    entry.Arm();
    auto again = attempt();
    if (again.ok() || again.error() != Errno(EAGAIN)) return again;
    if (!blocked.ok()) return blocked.error();
    blocked = caller.Block(deadline_ns);
  }
}

}  // namespace sentry

#endif  // SENTRY_KERNEL_CORE_CALLER_H_
