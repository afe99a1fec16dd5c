// SPDX-License-Identifier: Apache-2.0
// TaskSet: every task of the sandbox, and the mutex of their topology (rank kTaskSet). Look-ups by id are in a
// namespace.
#ifndef SENTRY_KERNEL_TASK_SET_H_
#define SENTRY_KERNEL_TASK_SET_H_

#include <functional>
#include <map>
#include <vector>

#include "sentry/common.h"
#include "sentry/kernel/task.h"

namespace sentry::kernel {

struct WaitRequest {
  enum class Who : uint8_t { kAny, kPid, kGroup, kPidfd } who = Who::kAny;
  pid_t id = 0;
  RefPtr<ThreadGroup> target;  // kPidfd
  int options = 0;  // WNOHANG, WUNTRACED = WSTOPPED, WEXITED, WCONTINUED, WNOWAIT, __WCLONE, __WALL, __WNOTHREAD
};

struct WaitResult {
  pid_t pid = 0;  // in the caller's namespace; 0: WNOHANG and nothing
  uid_t uid = 0;
  int wait_status = 0;  // as wait4 gives it
  int code = 0;         // CLD_*
  int status = 0;       // siginfo si_status
  CpuUsage usage;
};

class TaskSet {
 public:
  Mutex& mu() ABSL_LOCK_RETURNED(mu_) { return mu_; }
  RefPtr<Task> FindTask(const PidNamespace& ns, pid_t tid);
  RefPtr<ThreadGroup> FindThreadGroup(const PidNamespace& ns, pid_t tgid);
  RefPtr<ProcessGroup> FindProcessGroup(const PidNamespace& ns, pid_t id);
  // Every thread group visible in `ns`, by its id there, zombies included.
  std::vector<std::pair<pid_t, RefPtr<ThreadGroup>>> ThreadGroups(const PidNamespace& ns);
  // The newest id of `ns`, 0 before the first.
  pid_t LastPid(const PidNamespace& ns) const;
  size_t task_count() const;
  uint64_t forks_total() const;
  // wait4/waitid of `caller` (blocks through it).
  Result<WaitResult> Wait(Task& caller, const WaitRequest& request);
  // setuid: the task counts against RLIMIT_NPROC of another user now.
  void MoveTaskCount(Task& task, uid_t uid);
  // Tasks whose real user is `uid`.
  size_t TasksOfUser(uid_t uid) const;
  // kill(2)'s permission rule (EPERM).
  static Result<void> CheckKillPermission(const Task& by, Task& target, int signal);

 private:
  friend class Kernel;
  friend class Task;
  friend class ThreadGroup;
  mutable Mutex mu_{LockRank::kTaskSet};
  size_t task_count_ ABSL_GUARDED_BY(mu_) = 0;
  uint64_t forks_total_ ABSL_GUARDED_BY(mu_) = 0;
  std::map<uid_t, size_t> tasks_of_user_ ABSL_GUARDED_BY(mu_);
};

}  // namespace sentry::kernel

#endif  // SENTRY_KERNEL_TASK_SET_H_
