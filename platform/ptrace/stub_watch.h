// SPDX-License-Identifier: Apache-2.0
// StubWatch: notices the death of a stub process while no guest of it runs (killed from outside, or by the host's
// out-of-memory killer). One thread sleeps on pidfds. Thread-safe.
#ifndef PLATFORM_PTRACE_STUB_WATCH_H_
#define PLATFORM_PTRACE_STUB_WATCH_H_

#include <sys/types.h>

#include <functional>
#include <map>

#include "base/mutex.h"
#include "base/unique_fd.h"

namespace platform::ptrace {

class StubWatch {
 public:
  // Opens the epoll instance; without one (EMFILE) nothing is watched.
  StubWatch();

  // `pid` is a live stub, `service_tid` an untraced thread of it. Its death calls the callback of Start, unless Remove
  // came first. The whole process's pidfd stays silent while a traced thread's end was not waited for, so the thread's
  // is watched; hosts before Linux 6.9 have none: there a stub whose guests all block in the sentry is missed until one
  // of them runs.
  void Add(pid_t pid, pid_t service_tid) ABSL_LOCKS_EXCLUDED(mu_);
  // Before the owner kills the stub.
  void Remove(pid_t pid) ABSL_LOCKS_EXCLUDED(mu_);
  // Starts the thread, once. `on_death` runs on it without locks. `signal` is what killed the stub; 0: not known
  // (before Linux 6.15), or it exited.
  using DeathCallback = std::function<void(pid_t pid, int signal)>;
  void Start(DeathCallback on_death);

 private:
  void Run();

  base::UniqueFd epoll_fd_;
  DeathCallback on_death_;
  base::Mutex mu_{base::LockRank::kLeaf};
  std::map<pid_t, base::UniqueFd> pidfds_ ABSL_GUARDED_BY(mu_);
};

}  // namespace platform::ptrace

#endif  // PLATFORM_PTRACE_STUB_WATCH_H_
