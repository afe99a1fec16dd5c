// SPDX-License-Identifier: Apache-2.0
// ThreadGroup::State: what a process is, for the kernel's own files only. Three guards:
//   T  the TaskSet mutex (topology)      S  the signal mutex (SignalLock below), taken after T
//   TS written with T and S held, read with either
#ifndef SENTRY_KERNEL_THREAD_GROUP_STATE_H_
#define SENTRY_KERNEL_THREAD_GROUP_STATE_H_

#include <list>
#include <memory>
#include <vector>

#include "sentry/kernel/task.h"
#include "sentry/kernel/thread_group.h"

namespace sentry::kernel {

// posix_timers.h: PosixTimers(ThreadGroup&); OnExec() deletes timer_create's and keeps the interval timers; Shutdown()
// disarms all for good (called once when the last thread ends, without locks).
class AsyncWork;
class PosixTimers;

struct ThreadGroup::State {
  // TS. Leader first (alive or a zombie), others only while alive. The references end with Task::Internal::ReleaseTask.
  std::vector<RefPtr<Task>> threads;
  Task* leader = nullptr;
  int live_threads = 0;

  // T.
  Task* parent = nullptr;                   // the parent thread; null for a process started from outside
  std::list<RefPtr<ThreadGroup>> children;  // in order of birth; zombies stay until they are waited for
  std::list<RefPtr<ThreadGroup>>::iterator child_position;  // in the parent's list; valid iff parent
  RefPtr<ProcessGroup> process_group;
  int exit_signal = 0;
  bool has_exec = false;    // execve(2) since fork: setpgid by the parent gives EACCES
  bool zombie = false;      // all threads ended
  bool released = false;    // waited for: ids are gone
  CpuUsage dead_usage;      // of threads released already
  CpuUsage children_usage;  // of waited-for children and theirs

  // S.
  PendingSignals shared_pending;
  bool init_may_die = false;  // a synchronous fault of an init without a handler: SIGNAL_UNKILLABLE is off
  bool exiting = false;       // exit_group or a fatal signal: every thread has kWorkKill
  ExitStatus exit_status;
  Task* exec_task = nullptr;  // a thread that waits in exec for all the others to end
  struct GroupStop {
    int signal = 0;               // of the stop that is under way or complete; 0: none
    int pending_threads = 0;      // live threads that haven't stopped for it yet
    bool complete = false;        // all live threads are stopped
    bool wait_stopped = false;    // not reported through wait(WUNTRACED) yet; cleared by wait and by SIGCONT
    bool wait_continued = false;  // same of SIGCONT
    bool tell_continued = false;  // the first thread to wake up tells the parent
  } stop;

  // Own locks.
  mutable Mutex handlers_mu{LockRank::kLeaf};
  RefPtr<SignalHandlers> handlers ABSL_GUARDED_BY(handlers_mu);
  std::unique_ptr<PosixTimers> timers;    // made with the group, lives as long
  std::unique_ptr<AsyncWork> async_work;  // the same
  std::atomic<bool> has_exited{false};    // zombie, readable without locks; exit_queue was notified after
};

// Holds the signal mutex of a group: its present handlers' (exec may replace them, hence the second look).
class ABSL_SCOPED_LOCKABLE SignalLock {
 public:
  explicit SignalLock(const ThreadGroup& group) ABSL_NO_THREAD_SAFETY_ANALYSIS {
    for (;;) {
      handlers_ = group.handlers();
      handlers_->mu.Lock();
      if (group.handlers() == handlers_) return;
      handlers_->mu.Unlock();
    }
  }
  ~SignalLock() ABSL_NO_THREAD_SAFETY_ANALYSIS { handlers_->mu.Unlock(); }
  SignalLock(const SignalLock&) = delete;
  SignalLock& operator=(const SignalLock&) = delete;
  SignalHandlers& handlers() const { return *handlers_; }

 private:
  RefPtr<SignalHandlers> handlers_;
};

// A kernel uid as the user namespace of `group` shows it. T held.
inline uid_t UidSeenByLocked(const ThreadGroup& group, uid_t uid) {
  const ThreadGroup::State& state = group.state();
  RefPtr<const Credentials> creds = state.leader ? state.leader->creds_ref() : nullptr;
  return creds ? creds->ShownUid(uid) : uid;
}

}  // namespace sentry::kernel

#endif  // SENTRY_KERNEL_THREAD_GROUP_STATE_H_
