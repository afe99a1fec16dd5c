// SPDX-License-Identifier: Apache-2.0
// The end of a task: what it gives up, who is told, who inherits its children. Order matters: memory, files and the
// host's stub are gone before the parent hears of it, so a parent that forks again at once finds the room.
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <x86intrin.h>

#include "sentry/kernel/cgroup.h"
#include "sentry/kernel/futex.h"
#include "sentry/kernel/load_average.h"
#include "sentry/kernel/posix_timers.h"
#include "sentry/kernel/task_internal.h"

namespace sentry::kernel {
namespace {

SignalInfo ChildSignal(ThreadGroup& child, ThreadGroup& parent, int signal, int code, int status) {
  SignalInfo info = {};
  info.si_signo = signal;
  info.si_code = code;
  info.si_pid = child.TgidIn(*parent.pid_ns());
  const ThreadGroup::State& state = child.state();
  if (state.leader) {
    if (RefPtr<const Credentials> creds = state.leader->creds_ref()) info.si_uid = UidSeenByLocked(parent, creds->ruid);
  }
  info.si_status = status;
  CpuUsage usage = state.dead_usage;
  for (const RefPtr<Task>& thread : state.threads) usage += thread->usage();
  constexpr int64_t kNsPerTick = base::kNsPerSecond / 100;  // USER_HZ
  info.si_utime = usage.user_ns / kNsPerTick;
  info.si_stime = usage.system_ns / kNsPerTick;
  return info;
}

// A thread of the group that can be a parent. T held.
Task* LiveThread(ThreadGroup& group) {
  for (const RefPtr<Task>& thread : group.state().threads) {
    if (!thread->internal().signals_detached) return thread.get();
  }
  return nullptr;
}

// prctl(PR_SET_CHILD_SUBREAPER): the nearest ancestor that wants orphans, in the same pid namespace; else its init. T
// held.
Task* FindReaper(ThreadGroup& dying) {
  PidNamespace* ns = dying.pid_ns().get();
  for (Task* at = dying.state().parent; at && at->group().pid_ns().get() == ns; at = at->group().state().parent) {
    if (!at->group().child_subreaper.load(std::memory_order_relaxed)) continue;
    if (Task* thread = LiveThread(at->group())) return thread;
  }
  return nullptr;
}

// (own) Of the thread alone.
ExitStatus ThreadStatus(Task& task) {
  return {.code = task.internal().exit_code, .signal = task.internal().exit_signal};
}

// As wait(2) would tell it: what ends the group, else what exit(2) was given.
uint64_t ExitEventStatus(Task& task) {
  SignalLock lock(task.group());
  const ThreadGroup::State& state = task.group().state();
  ExitStatus status = state.exiting ? state.exit_status : ThreadStatus(task);
  return status.signal ? static_cast<uint64_t>(status.signal) : static_cast<uint64_t>(status.code & 0xff) << 8;
}

}  // namespace

void Task::Internal::NotifyParentLocked(ThreadGroup& group, int cld_code, int status) {
  ThreadGroup::State& state = group.state();
  if (!state.parent) return;
  ThreadGroup& parent = state.parent->group();
  bool send;
  {
    SignalLock lock(parent);
    const SignalAction& action = lock.handlers().actions[SIGCHLD];
    send = action.handler != kSignalIgnore && !(action.flags & SA_NOCLDSTOP);
  }
  if (send) (void)parent.SendSignal(ChildSignal(group, parent, SIGCHLD, cld_code, status));
  parent.child_queue().Notify(kEventIn);
}

bool Task::Internal::NotifyParentOfExitLocked(ThreadGroup& group) {
  ThreadGroup::State& state = group.state();
  if (!state.parent) return true;
  ThreadGroup& parent = state.parent->group();
  int signal = state.exit_signal;
  bool nobody_waits = false;
  if (signal == SIGCHLD) {
    SignalLock lock(parent);
    const SignalAction& action = lock.handlers().actions[SIGCHLD];
    nobody_waits = action.handler == kSignalIgnore || (action.flags & SA_NOCLDWAIT);
    if (action.handler == kSignalIgnore) signal = 0;
  }
  // clone(2) takes any number up to 255 as the exit signal; what is no signal is not sent.
  if (signal > 0 && signal <= kSignalMax) {
    const ExitStatus& exit = state.exit_status;
    int code = !exit.signal ? CLD_EXITED : exit.core ? CLD_DUMPED : CLD_KILLED;
    (void)parent.SendSignal(ChildSignal(group, parent, signal, code, exit.signal ? exit.signal : exit.code & 0xff));
  }
  parent.child_queue().Notify(kEventIn);
  return nobody_waits;
}

void Task::Internal::ReleaseMm(Task& task) {
  // While the area is there: who waits for the id below unmaps it with the thread's stack.
  if (task.internal_->rseq.address != 0) (void)task.context_->SetRseq({});
  ExitFutexes(task);
  // Only others in the same memory could see the id cleared (set_tid_address(2)).
  if (!task.clear_child_tid.IsNull() && task.mm_->task_count.load(std::memory_order_relaxed) > 1) ClearChildTid(task);
  task.clear_child_tid = UserAddr();
  task.robust_list_head = UserAddr();
  task.robust_list_length = 0;
  task.internal_->rseq = {};
  task.internal_->rseq_pin = {};
  if (RefPtr<VforkDone> done = std::move(task.internal_->vfork_done)) {
    done->done.store(true, std::memory_order_release);
    done->queue.Notify(kEventIn);
  }
}

void Task::Internal::LeaveResources(Task& task) {
  Internal& internal = *task.internal_;
  internal.max_rss_kb.store(task.mm_->GetUsage().peak_resident / 1024, std::memory_order_relaxed);
  ReleaseMm(task);
  task.LeaveSemaphoreUndo();
  task.keyrings.Reset();
  // The stub thread first: clearing the memory of a process without threads needs no help from it.
  task.context_->Release();
  RefPtr<mm::MemoryManager> mm;
  RefPtr<FdTable> fds;
  RefPtr<vfs::FsContext> fs;
  RefPtr<Namespaces> namespaces;
  RefPtr<ExeFile> exe_file;
  vfs::Path exe;
  RefPtr<vfs::LandlockDomain> landlock;
  {
    MutexLock lock(task.mu_);
    landlock = std::move(internal.landlock);
    mm = std::move(task.mm_);
    fds = std::move(task.fds_);
    fs = std::move(task.fs_);
    namespaces = std::move(task.namespaces_);
    exe_file = std::move(internal.exe_file);
    exe = std::move(task.exe_);
  }
  if (mm->task_count.fetch_sub(1, std::memory_order_acq_rel) == 1) mm->Clear();
  vfs::LandlockDomain::SetCurrent(nullptr);
}

void Task::LeaveSemaphoreUndo() {
  RefPtr<ipc::SemaphoreUndo> undo = std::move(semaphore_undo);
  if (undo && undo->users.fetch_sub(1, std::memory_order_acq_rel) == 1) undo->Apply();
}

void Task::Internal::Abandon(Task& task) {
  task.LeaveSemaphoreUndo();
  task.context_->Release();
  if (task.mm_ && task.mm_->task_count.fetch_sub(1, std::memory_order_acq_rel) == 1) task.mm_->Clear();
}

void Task::Internal::LeaveTerminal(Task& task) {
  ThreadGroup& group = *task.group_;
  RefPtr<Session> session = group.session();
  if (!session) return;
  {
    MutexLock lock(task.kernel_.tasks().mu());
    if (session->leader_ != &group) return;
    session->leader_ = nullptr;
  }
  RefPtr<ControllingTerminal> terminal = session->terminal();
  if (!terminal) return;
  RefPtr<ProcessGroup> foreground = terminal->Foreground();
  session->ClearTerminal();
  terminal->Disassociate();
  if (foreground) {
    foreground->SendSignal(KernelSignal(SIGHUP));
    foreground->SendSignal(KernelSignal(SIGCONT));
  }
}

void Task::Internal::HangUpOrphansLocked(ThreadGroup& group, const ThreadGroup* parent, bool exiting) {
  const RefPtr<ProcessGroup>& members = group.state().process_group;
  if (!members || !parent) return;
  const RefPtr<ProcessGroup>& parents = parent->state().process_group;
  // Only the link to a parent of the same session in another group keeps a group from being orphaned.
  if (!parents || parents == members || parents->session() != members->session()) return;
  if (!members->IsOrphanedLocked(exiting ? &group : nullptr) || !members->HasStoppedMemberLocked()) return;
  members->SendSignalLocked(KernelSignal(SIGHUP));
  members->SendSignalLocked(KernelSignal(SIGCONT));
}

void Task::Internal::ReparentChildrenLocked(Task& task, Garbage& garbage) {
  ThreadGroup& group = *task.group_;
  auto& children = group.state().children;
  if (children.empty()) return;
  Task* reaper = LiveThread(group);
  bool stays = reaper != nullptr;
  if (!stays) {
    reaper = FindReaper(group);
    ThreadGroup* init = group.pid_ns_->init_;
    if (!reaper && init && init != &group) reaper = LiveThread(*init);
  }
  std::vector<RefPtr<ThreadGroup>> orphans;
  for (auto it = children.begin(); it != children.end();) {
    RefPtr<ThreadGroup> child = *it;
    ThreadGroup::State& state = child->state();
    if (state.parent != &task) {
      ++it;
      continue;
    }
    for (const RefPtr<Task>& thread : state.threads) {
      int signal = thread->parent_death_signal.load(std::memory_order_relaxed);
      if (signal != 0 && !state.zombie)
        (void)child->SendSignal(
            UserSignal(signal, group.TgidIn(*child->pid_ns()), UidSeenByLocked(*child, task.creds_->ruid)));
    }
    state.parent = reaper;
    if (stays) {
      ++it;
      continue;
    }
    for (const RefPtr<Task>& thread : state.threads) WithdrawAnswer(*thread, SYS_getppid);
    it = children.erase(it);
    state.exit_signal = SIGCHLD;
    if (reaper) {
      auto& list = reaper->group().state().children;
      state.child_position = list.insert(list.end(), child);
    }
    orphans.push_back(child);
  }
  for (const RefPtr<ThreadGroup>& child : orphans) {
    if (child->state().zombie) {
      if (NotifyParentOfExitLocked(*child)) ReleaseGroupLocked(*child, garbage);
    } else {
      HangUpOrphansLocked(*child, &group, /*exiting=*/false);
    }
    garbage.groups.push_back(child);
  }
}

void Task::Internal::KillPidNamespace(Task& init) {
  ThreadGroup& group = *init.group_;
  PidNamespace& ns = *group.pid_ns_;
  BlockerEntry entry(init.blocker_);
  group.child_queue().Add(entry, kEventIn);
  {
    MutexLock lock(init.kernel_.tasks().mu());
    ns.dying_ = true;
    for (const auto& [id, task] : ns.tasks_) {
      if (&task->group() == &group) continue;
      SignalLock signals(task->group());
      ExitGroupLocked(task->group(), {.signal = SIGKILL});
    }
  }
  for (;;) {
    bool left = false;
    Garbage garbage;
    {
      MutexLock lock(init.kernel_.tasks().mu());
      std::vector<ThreadGroup*> zombies;
      for (const RefPtr<ThreadGroup>& child : group.state().children) {
        if (child->state().zombie) zombies.push_back(child.get());
      }
      for (ThreadGroup* zombie : zombies) ReleaseGroupLocked(*zombie, garbage);
      for (const auto& [id, task] : ns.tasks_) left = left || (&task->group() != &group && !task->internal_->zombie);
    }
    if (!left) return;
    SleepOnce(init, RunState::kDiskSleep);
  }
}

void Task::Internal::ExitNotify(Task& task) {
  Internal& internal = *task.internal_;
  RefPtr<ThreadGroup> group = task.group_;
  ThreadGroup::State& state = group->state();
  bool ended;
  {
    Garbage garbage;
    MutexLock lock(task.kernel_.tasks().mu());
    Cgroups::Get().ExitLocked(task);
    PtraceExitLocked(task);
    ReparentChildrenLocked(task, garbage);
    if (state.leader == &task) {
      internal.zombie = true;
      internal.run_state.store(RunState::kZombie, std::memory_order_release);
      PidNamespace* ns = group->pid_ns_.get();
      for (; ns; ns = ns->parent().get()) {
        if (ns->dying_ && ns->init_) ns->init_->child_queue().Notify(kEventIn);
      }
    } else {
      ReleaseTaskLocked(task, garbage);
    }
    if (Task* exec = state.exec_task) Kick(*exec);
    ended = !state.exec_task && state.leader && state.leader->internal_->zombie && state.threads.size() == 1;
    if (ended) {
      state.zombie = true;
      HangUpOrphansLocked(*group, state.parent ? &state.parent->group() : nullptr, /*exiting=*/true);
      state.has_exited.store(true, std::memory_order_release);
      if (NotifyParentOfExitLocked(*group)) ReleaseGroupLocked(*group, garbage);
    }
  }
  if (ended) group->exit_queue().Notify(kEventIn);
}

void Task::Internal::ExitTask(Task& task) {
  Internal& internal = *task.internal_;
  ThreadGroup& group = *task.group_;
  ThreadGroup::State& state = group.state();
  PtraceEvent(task, PTRACE_EVENT_EXIT, ExitEventStatus(task));
  LoadAverage::OnChange(task.kernel_, __rdtsc());
  bool last;
  {
    MutexLock lock(task.kernel_.tasks().mu());
    bool stop_complete;
    int stop_signal;
    {
      SignalLock signals(group);
      stop_complete = DetachSignalsLocked(task);
      internal.signals_detached = true;
      stop_signal = state.stop.signal;
      last = --state.live_threads == 0;
      if (last && !state.exiting) {
        // The last thread's code, whoever leads (synchronize_group_exit of the kernel).
        state.exiting = true;
        state.exit_status = ThreadStatus(task);
      }
    }
    if (stop_complete) NotifyParentLocked(group, CLD_STOPPED, stop_signal);
  }
  if (last) {
    group.timers().Shutdown();
    group.async_work().Shutdown(task);
  }
  ReleaseSeccomp(task);
  LeaveResources(task);
  if (last) {
    LeaveTerminal(task);
    if (group.IsInit()) KillPidNamespace(task);
  }
  ExitNotify(task);
}

}  // namespace sentry::kernel
