// SPDX-License-Identifier: Apache-2.0
// Process groups and sessions (credentials(7), job control), and the controlling terminal as the kernel sees it.
// Membership is guarded by the TaskSet mutex.
#ifndef SENTRY_KERNEL_SESSION_H_
#define SENTRY_KERNEL_SESSION_H_

#include <sys/types.h>

#include <map>
#include <set>

#include "sentry/common.h"
#include "sentry/kernel/namespaces.h"
#include "sentry/kernel/signal.h"

namespace sentry::kernel {

class ThreadGroup;

// A terminal that can be a session's controlling one; implemented by fs/devpts. It keeps the session and the foreground
// process group under its own lock (kTty) and calls into the task set, never the other way round with the task-set
// mutex held.
class ControllingTerminal : public RefCounted<ControllingTerminal> {
 public:
  virtual ~ControllingTerminal() = default;
  virtual dev_t Device() const = 0;  // for /proc/PID/stat tty_nr
  // As seen by tcgetpgrp in `ns`; 0 when none.
  virtual RefPtr<class ProcessGroup> Foreground() = 0;
  // Becomes the controlling terminal of a session from outside (ProcessRequest::terminal), which has it set already.
  virtual void Associate(RefPtr<class Session> session, RefPtr<class ProcessGroup> foreground) {}
  // The session leader exited or called TIOCNOTTY: the terminal forgets the session (SIGHUP and SIGCONT are the
  // kernel's).
  virtual void Disassociate() = 0;
};

class Session : public RefCounted<Session> {
 public:
  Session(pid_t id, PidNamespace* ns, ThreadGroup* leader);
  ~Session();
  // The id in the root pid namespace, and in another (0 when it has none there).
  pid_t id() const { return id_; }
  pid_t IdIn(const PidNamespace& ns) const;
  RefPtr<ControllingTerminal> terminal() const;
  // TIOCSCTTY: false when the session has one already.
  bool SetTerminal(RefPtr<ControllingTerminal> terminal);
  void ClearTerminal();

 private:
  friend class Task;
  friend class TaskSet;
  friend class ThreadGroup;
  friend class ProcessGroup;
  void RegisterLocked(const ThreadGroup& leader);  // the leader's ids in all its namespaces
  void UnregisterLocked();
  pid_t id_;
  RefPtr<PidNamespace> ns_;  // the leader's
  ThreadGroup* leader_;      // null once it exited; TaskSet mutex
  int group_count_ = 0;      // process groups; the id is free again when the last goes; TaskSet mutex
  std::map<const PidNamespace*, pid_t> ids_;
  mutable Mutex mu_{LockRank::kLeaf};
  RefPtr<ControllingTerminal> terminal_ ABSL_GUARDED_BY(mu_);
};

class ProcessGroup : public RefCounted<ProcessGroup> {
 public:
  ProcessGroup(pid_t id, RefPtr<Session> session, PidNamespace* ns);
  ~ProcessGroup();
  pid_t id() const { return id_; }
  pid_t IdIn(const PidNamespace& ns) const;
  const RefPtr<Session>& session() const { return session_; }
  // No member has a parent in the same session but another group (setpgid(2)). Takes the TaskSet mutex.
  bool IsOrphaned() const;
  // To every member. Takes the TaskSet mutex.
  void SendSignal(const SignalInfo& info);

  // With the TaskSet mutex held. A member that leaves last frees the id, and the session's when it was its last group.
  void JoinLocked(ThreadGroup& member);
  void LeaveLocked(ThreadGroup& member);
  // As IsOrphaned, as if `ignored` were not a member (the exit rule of setpgid(2)).
  bool IsOrphanedLocked(const ThreadGroup* ignored) const;
  bool HasStoppedMemberLocked() const;
  void SendSignalLocked(const SignalInfo& info);

 private:
  friend class Task;
  friend class TaskSet;
  friend class ThreadGroup;
  void RegisterLocked(const ThreadGroup& leader);
  void UnregisterLocked();
  pid_t id_;
  RefPtr<PidNamespace> ns_;  // the first leader's
  RefPtr<Session> session_;
  std::map<const PidNamespace*, pid_t> ids_;
  std::set<ThreadGroup*> members_;  // TaskSet mutex
};

}  // namespace sentry::kernel

#endif  // SENTRY_KERNEL_SESSION_H_
