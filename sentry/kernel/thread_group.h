// SPDX-License-Identifier: Apache-2.0
// ThreadGroup: a process. Signal state under `signal_mu_` (rank kSignal; taken after the TaskSet mutex where both are
// needed), topology under the TaskSet mutex.
#ifndef SENTRY_KERNEL_THREAD_GROUP_H_
#define SENTRY_KERNEL_THREAD_GROUP_H_

#include <sys/resource.h>

#include <array>
#include <atomic>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "sentry/common.h"
#include "sentry/kernel/core/timer.h"
#include "sentry/kernel/core/wait_queue.h"
#include "sentry/kernel/session.h"
#include "sentry/kernel/signal.h"

namespace sentry::kernel {

class Task;
class AsyncWork;
class PosixTimers;

// Shared by CLONE_SIGHAND; copied by fork; reset by exec.
class SignalHandlers : public RefCounted<SignalHandlers> {
 public:
  RefPtr<SignalHandlers> Clone() const;
  // Guarded by the mutex here, which is the thread group's signal mutex as well: all its groups share it.
  mutable Mutex mu{LockRank::kSignal};
  std::array<SignalAction, kSignalMax + 1> actions;  // [1..64]
};

// What became of a process: the status word of wait(2).
struct ExitStatus {
  int code = 0;    // 0..255
  int signal = 0;  // > 0: killed by it
  bool core = false;
  int ToWaitStatus() const { return signal ? signal | (core ? 0x80 : 0) : (code & 0xff) << 8; }
};

struct CpuUsage {
  int64_t user_ns = 0, system_ns = 0;
  uint64_t minor_faults = 0, major_faults = 0, voluntary_switches = 0, involuntary_switches = 0;
  uint64_t max_rss_kb = 0;
  // Of read(2), write(2) and their kin: bytes and calls.
  uint64_t read_chars = 0, written_chars = 0, read_calls = 0, write_calls = 0;
  CpuUsage& operator+=(const CpuUsage& other);
};

class Limits {
 public:
  Limits();  // Linux's defaults of a Debian login
  rlimit64 Get(int resource) const;
  // Checks EINVAL and EPERM (raising the hard limit without CAP_SYS_RESOURCE).
  Result<void> Set(int resource, const rlimit64& limit, bool may_raise_hard);
  void CopyFrom(const Limits& other);  // fork
  uint64_t Soft(int resource) const { return soft_[resource].load(std::memory_order_relaxed); }

 private:
  std::array<std::atomic<uint64_t>, RLIM_NLIMITS> soft_, hard_;
};

class ThreadGroup : public RefCounted<ThreadGroup> {
 public:
  ThreadGroup(RefPtr<PidNamespace> pid_ns, RefPtr<SignalHandlers> handlers, int exit_signal);
  ~ThreadGroup();

  const RefPtr<PidNamespace>& pid_ns() const { return pid_ns_; }
  // In the root namespace of the sandbox; and as seen from `ns` (0: not visible).
  pid_t tgid() const { return tgid_; }
  pid_t TgidIn(const PidNamespace& ns) const;
  RefPtr<SignalHandlers> handlers() const;
  Limits& limits() { return limits_; }
  const Limits& limits() const { return limits_; }

  // Topology (TaskSet mutex is taken inside).
  RefPtr<Task> leader() const;
  RefPtr<ThreadGroup> parent() const;  // of the leader; null for init
  RefPtr<ProcessGroup> process_group() const;
  RefPtr<Session> session() const;
  std::vector<RefPtr<Task>> Threads() const;
  int thread_count() const;
  bool IsInit() const;  // of its pid namespace

  // setsid(2), setpgid(2) of this group by itself or its parent.
  Result<pid_t> CreateSession();
  Result<void> SetProcessGroup(pid_t group_in_ns, const PidNamespace& ns, Task& by);

  // Process-directed signal; permission was checked. EAGAIN when RLIMIT_SIGPENDING is exceeded (sigqueue).
  Result<void> SendSignal(const SignalInfo& info);
  // sigaction(2): the former action; `action` null only reads. A signal that becomes ignored is no longer pending.
  SignalAction ExchangeAction(int signal, const SignalAction* action);
  // exit_group(2) and fatal signals: every thread ends with this status. First one wins.
  void Exit(ExitStatus status);
  bool IsExiting() const;
  ExitStatus exit_status() const;

  CpuUsage usage() const;                                   // of all threads, dead ones included
  CpuUsage children_usage() const;                          // of waited-for children
  int64_t start_time_ns() const { return start_time_ns_; }  // CLOCK_BOOTTIME
  // Notified (kEventIn) when the group becomes a zombie: pidfd poll.
  WaitQueue& exit_queue() { return exit_queue_; }
  bool HasExited() const;
  // For threads without a task (the control server): the status once the process ended, nothing at the deadline.
  std::optional<ExitStatus> WaitForExit(int64_t deadline_ns);
  // Waiters for children of this group's tasks (wait4).
  WaitQueue& child_queue() { return child_queue_; }
  // Signalfd: notified (kEventIn) of every signal that is queued to the group or one of its tasks.
  WaitQueue& signal_queue() { return signal_queue_; }

  std::atomic<bool> child_subreaper{false};
  std::atomic<int> oom_score_adj{0};
  PosixTimers& timers();
  AsyncWork& async_work();

  // The container this process belongs to (boot/); empty inside nested namespaces too: inherited.
  const std::string& container_id() const { return container_id_; }
  void set_container_id(std::string id) { container_id_ = std::move(id); }

  struct State;  // thread_group_state.h: members guarded by the TaskSet and signal mutexes; the kernel layer's own
                 // files only
  State& state() const { return *state_; }

 private:
  friend class Task;
  friend class TaskSet;
  friend class ProcessGroup;
  friend class Session;
  RefPtr<PidNamespace> pid_ns_;
  pid_t tgid_ = 0;
  std::array<pid_t, kMaxPidLevel + 1> ids_ = {};  // by level; set before others can see the group
  std::string container_id_;
  const int64_t start_time_ns_;
  Limits limits_;
  WaitQueue exit_queue_, child_queue_, signal_queue_;
  std::unique_ptr<State> state_;
};

}  // namespace sentry::kernel

#endif  // SENTRY_KERNEL_THREAD_GROUP_H_
