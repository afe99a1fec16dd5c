// SPDX-License-Identifier: Apache-2.0
// The tracee's side of ptrace(2): stops, events, and what wait(2) tells the tracer. The requests are in ptrace.cc.
#include <sys/ptrace.h>
#include <sys/wait.h>

#include <array>
#include <optional>
#include <utility>

#include "base/log.h"
#include "sentry/arch/signal_frame.h"
#include "sentry/kernel/ptrace.h"
#include "sentry/kernel/task_internal.h"

namespace sentry::kernel {
namespace {

// T held. SIGCHLD and a wake-up of wait(2) for the tracer.
void TellTracerLocked(Task& tracer, Task& tracee, int code, int status) {
  ThreadGroup& group = tracer.group();
  SignalInfo info = KernelSignal(SIGCHLD);
  info.si_code = code;
  info.si_pid = tracee.TidIn(tracer.pid_ns());
  RefPtr<const Credentials> creds = tracee.creds_ref();
  info.si_uid = creds ? tracer.creds_ref()->ShownUid(creds->ruid) : 0;
  info.si_status = status;
  bool wanted;
  {
    SignalLock lock(group);
    const SignalAction& action = lock.handlers().actions[SIGCHLD];
    wanted = action.handler != kSignalIgnore && !(action.flags & SA_NOCLDSTOP);
  }
  if (wanted) (void)group.SendSignal(info);
  group.child_queue().Notify(kEventIn);
}

void SaveFpu(Task& task, PtraceState& state) {
  state.fpu.resize(Task::Internal::kernel(task).platform().FpuStateSize());
  state.fpu.resize(task.context().GetFpu(state.fpu));
  state.fpu_changed = false;
}

bool OptionFor(uint32_t options, int event) { return event > 0 && event <= 7 && (options & (1u << event)); }

bool Matches(Task& caller, const WaitRequest& request, Task& tracee) {
  switch (request.who) {
    case WaitRequest::Who::kAny:
      return true;
    case WaitRequest::Who::kPid:
      return tracee.TidIn(caller.pid_ns()) == request.id;
    case WaitRequest::Who::kGroup: {
      const RefPtr<ProcessGroup>& group = tracee.group().state().process_group;
      return group && group->IdIn(caller.pid_ns()) == request.id;
    }
    case WaitRequest::Who::kPidfd:
      return request.target.get() == &tracee.group();
  }
  return false;
}

// A kill ends every stop; the stop at exit comes after it, and only SIGKILL skips that.
bool IsKilled(Task& task, int status) {
  if (!(task.internal().work.load(std::memory_order_acquire) & kWorkKill)) return false;
  if (status >> 8 != PTRACE_EVENT_EXIT) return true;
  SignalLock lock(task.group());
  return task.group().state().exiting && task.group().state().exit_status.signal == SIGKILL;
}

}  // namespace

int PtraceStop(Task& task, int status, const SignalInfo* info, uint64_t message,
               PtraceState::SyscallStop syscall_stop) {
  PtraceState& state = *task.ptrace();
  Task::Internal& internal = task.internal();
  TaskSet& tasks = Task::Internal::kernel(task).tasks();
  if (!state.tracer.load(std::memory_order_acquire)) return -1;
  if (std::exchange(state.trap_flag_forced, false)) task.regs().eflags &= ~arch::kEflagsTrap;
  SaveFpu(task, state);
  const bool trapped = (status & 0x7f) == SIGTRAP && info && info->si_code > 0 && status >> 8 == 0;
  const uint64_t debug_status = trapped ? task.context().DebugStatus() : 0;
  {
    MutexLock lock(tasks.mu());
    if (trapped) state.debug[6] = debug_status;
    Task* tracer = state.tracer.load(std::memory_order_relaxed);
    if (!tracer || IsKilled(task, status)) return -1;
    state.stopped = state.waitable = true;
    state.listening = false;
    state.status = status;
    state.message = message;
    state.has_info = info != nullptr;
    if (info) state.info = *info;
    state.resume_signal = 0;
    state.syscall_stop = syscall_stop;
    TellTracerLocked(*tracer, task, CLD_TRAPPED, status & 0x7f);
  }
  bool changed = false;
  std::optional<std::array<uint64_t, 8>> debug;
  int resume_signal = 0;
  for (;;) {
    {
      MutexLock lock(tasks.mu());
      bool killed = IsKilled(task, status);
      // SIGCONT ends PTRACE_LISTEN with another stop.
      bool continued = false;
      if (state.listening) {
        SignalLock signal_lock(task.group());
        continued = !internal.stopped;
      }
      if (!state.stopped || killed || continued) {
        state.stopped = state.waitable = state.listening = false;
        if (continued && !killed) {
          state.interrupt.store(true);
          Task::Internal::AddWork(task, kWorkStop);
        }
        changed = std::exchange(state.fpu_changed, false);
        if (std::exchange(state.debug_changed, false)) debug = state.debug;
        resume_signal = killed ? 0 : state.resume_signal;
        break;
      }
    }
    Task::Internal::SleepOnce(task, RunState::kTraced);
  }
  {
    // A signal that came meanwhile chose no thread in a trace stop; it is seen now (recalc_sigpending).
    SignalLock lock(task.group());
    Task::Internal::UpdateSignalWorkLocked(task);
  }
  if (changed && !task.context().SetFpu(state.fpu).ok()) (void)task.context().ResetFpu();
  if (debug && !task.context().SetDebugRegisters(*debug).ok()) {
    LOG_WARNING("ptrace: the host refuses debug registers: task %d goes on without its breakpoints", task.tid());
  }
  return resume_signal;
}

void PtraceSignal(Task& task, SignalInfo* info) {
  PtraceState& state = *task.ptrace();
  SignalInfo stopped_with = *info;
  int signal = PtraceStop(task, info->si_signo, &stopped_with, 0, PtraceState::SyscallStop::kNone);
  if (signal == info->si_signo) {
    MutexLock lock(Task::Internal::kernel(task).tasks().mu());
    if (state.info.si_signo == signal) *info = state.info;  // PTRACE_SETSIGINFO
    return;
  }
  if (signal < 0) return;  // nobody looked at it
  if (signal == 0) {
    info->si_signo = 0;
    return;
  }
  *info = UserSignal(signal, 0, 0);
}

void Task::Internal::PtraceEvent(Task& task, int event, uint64_t message) {
  PtraceState& state = *task.ptrace_;
  if (!IsTraced(task) || !OptionFor(state.options.load(std::memory_order_relaxed), event)) return;
  SignalInfo info = KernelSignal(SIGTRAP);
  info.si_code = SIGTRAP | event << 8;
  int signal =
      PtraceStop(task, info.si_code, &info, message,
                 event == PTRACE_EVENT_SECCOMP ? PtraceState::SyscallStop::kSeccomp : PtraceState::SyscallStop::kNone);
  if (signal > 0) (void)task.SendSignal(UserSignal(signal, 0, 0));
}

void Task::Internal::PtraceExec(Task& task, pid_t former_tid) {
  PtraceState& state = *task.ptrace_;
  {
    // The new address space's thread has none.
    MutexLock lock(kernel(task).tasks().mu());
    state.debug = PtraceState::kDebugInitial;
    state.debug_changed = false;
  }
  if (!IsTraced(task)) return;
  if (state.options.load(std::memory_order_relaxed) & PTRACE_O_TRACEEXEC) {
    PtraceEvent(task, PTRACE_EVENT_EXEC, former_tid);
  } else if (!state.seized.load(std::memory_order_relaxed)) {
    (void)task.SendSignal(UserSignal(SIGTRAP, task.TidIn(task.pid_ns()), task.creds()->ShownUid(task.creds()->ruid)));
  }
}

bool Task::Internal::PtraceSyscallEnter(Task& task) {
  PtraceState& state = *task.ptrace_;
  if (!IsTraced(task)) return true;
  bool emulate = state.emulate.load(std::memory_order_relaxed);
  task.regs_.rax = static_cast<uint64_t>(-ENOSYS);
  int status = SIGTRAP | (state.options.load(std::memory_order_relaxed) & PTRACE_O_TRACESYSGOOD ? 0x80 : 0);
  SignalInfo info = UserSignal(SIGTRAP, task.TidIn(task.pid_ns()), task.creds()->ShownUid(task.creds()->ruid));
  info.si_code = status;
  int signal = PtraceStop(task, status, &info, 1, PtraceState::SyscallStop::kEntry);
  if (signal > 0) (void)task.SendSignal(UserSignal(signal, 0, 0));
  return !emulate && static_cast<int64_t>(task.regs_.orig_rax) >= 0;
}

void Task::Internal::PtraceSyscallExit(Task& task) {
  PtraceState& state = *task.ptrace_;
  if (!IsTraced(task) || state.emulate.load(std::memory_order_relaxed)) return;
  if (state.single_step.load(std::memory_order_relaxed)) {
    // The call was the step: a signal like that of the flag, before anything else of the program runs.
    SignalInfo step = KernelSignal(SIGTRAP);
    step.si_code = TRAP_BRKPT;
    step.si_addr = reinterpret_cast<void*>(task.regs_.rip);
    task.ForceSignal(step);
    return;
  }
  if (!task.internal_->trace_syscalls.load(std::memory_order_relaxed)) return;
  int status = SIGTRAP | (state.options.load(std::memory_order_relaxed) & PTRACE_O_TRACESYSGOOD ? 0x80 : 0);
  SignalInfo info = UserSignal(SIGTRAP, task.TidIn(task.pid_ns()), task.creds()->ShownUid(task.creds()->ruid));
  info.si_code = status;
  int signal = PtraceStop(task, status, &info, 2, PtraceState::SyscallStop::kExit);
  if (signal > 0) (void)task.SendSignal(UserSignal(signal, 0, 0));
}

void Task::Internal::RecordDebugTrap(Task& task) {
  PtraceState& state = *task.ptrace_;
  // Written by tracers in its stops only.
  if (IsTraced(task) || state.debug[7] == 0) return;
  const uint64_t status = task.context().DebugStatus();
  MutexLock lock(kernel(task).tasks().mu());
  state.debug[6] = status;
}

void Task::Internal::ForceTrapFlag(Task& task) {
  PtraceState& state = *task.ptrace_;
  auto& flags = task.regs_.eflags;
  const bool wanted = state.single_step.load(std::memory_order_relaxed);
  // A program that has set it itself keeps it.
  if (wanted && (flags & arch::kEflagsTrap)) return;
  flags = wanted ? flags | arch::kEflagsTrap : flags & ~arch::kEflagsTrap;
  state.trap_flag_forced = wanted;
}

void Task::Internal::PtraceHandlerEntered(Task& task) {
  if (!task.ptrace_->single_step.load(std::memory_order_relaxed)) return;
  SignalInfo info = UserSignal(SIGTRAP, task.TidIn(task.pid_ns()), task.creds()->ShownUid(task.creds()->ruid));
  info.si_code = SIGTRAP;
  (void)PtraceStop(task, SIGTRAP, &info, 0, PtraceState::SyscallStop::kNone);
}

void Task::Internal::PtraceCloneLocked(Task& parent, Task& child, const CloneRequest& request) {
  PtraceState& from = *parent.ptrace_;
  Task* tracer = from.tracer.load(std::memory_order_relaxed);
  if (!tracer || (request.flags & CLONE_UNTRACED)) return;
  uint32_t options = from.options.load(std::memory_order_relaxed);
  int event = request.flags & CLONE_VFORK               ? PTRACE_EVENT_VFORK
              : (request.exit_signal & 0xff) == SIGCHLD ? PTRACE_EVENT_FORK
                                                        : PTRACE_EVENT_CLONE;
  if (!OptionFor(options, event) && !(request.flags & CLONE_PTRACE)) return;
  PtraceState& to = *child.ptrace_;
  to.options.store(options);
  to.seized.store(from.seized.load());
  to.tracer.store(tracer);
  tracer->ptrace_->tracees.insert(&child);
  if (to.seized.load()) {
    to.interrupt.store(true);
    child.internal_->work.fetch_or(kWorkStop);
  } else {
    SignalLock lock(child.group());
    child.internal_->pending.Add(UserSignal(SIGSTOP, 0, 0));
    child.internal_->work.fetch_or(kWorkSignal);
  }
}

void Task::Internal::PtraceExitLocked(Task& task) {
  PtraceState& state = *task.ptrace_;
  if (Task* tracer = state.tracer.exchange(nullptr)) {
    tracer->ptrace_->tracees.erase(&task);
    ThreadGroup& group = task.group();
    Task* parent = group.state().parent;
    bool leader = group.state().leader == &task;
    // A child's end is told by the ordinary way.
    if (!leader || !parent || &parent->group() != &tracer->group()) {
      ExitStatus status{.code = task.internal_->exit_code, .signal = task.internal_->exit_signal};
      {
        SignalLock lock(group);
        if (group.state().exiting) status = group.state().exit_status;
      }
      RefPtr<const Credentials> creds = task.creds_ref();
      tracer->ptrace_->dead.push_back({.tid = task.tid(),
                                       .tid_in_namespace = task.TidIn(tracer->pid_ns()),
                                       .uid = creds ? creds->ruid : 0,
                                       .status = status});
      TellTracerLocked(*tracer, task, status.signal ? CLD_KILLED : CLD_EXITED,
                       status.signal ? status.signal : status.code);
    }
  }
  for (Task* tracee : state.tracees) {
    PtraceState& its = *tracee->ptrace_;
    its.tracer.store(nullptr);
    // A signal that the tracer didn't decide on is delivered.
    bool signal_stop =
        its.stopped && its.has_info && its.syscall_stop == PtraceState::SyscallStop::kNone && its.status < 0x80;
    its.resume_signal = signal_stop ? its.status : 0;
    its.stopped = its.waitable = false;
    its.single_step = its.emulate = false;
    tracee->internal_->trace_syscalls.store(false);
    if (its.options.exchange(0) & PTRACE_O_EXITKILL) {
      SignalLock lock(tracee->group());
      ExitGroupLocked(tracee->group(), {.signal = SIGKILL});
    }
    Kick(*tracee);
  }
  state.tracees.clear();
  state.dead.clear();
}

bool Task::Internal::PtraceWaitLocked(Task& caller, const WaitRequest& request, bool* candidates, WaitResult* result) {
  bool found = false;
  bool consume = !(request.options & WNOWAIT);
  for (const RefPtr<Task>& thread : caller.group().state().threads) {
    if ((request.options & __WNOTHREAD) && thread.get() != &caller) continue;
    PtraceState& tracer = *thread->ptrace_;
    for (Task* tracee : tracer.tracees) {
      if (!Matches(caller, request, *tracee)) continue;
      *candidates = true;
      PtraceState& state = *tracee->ptrace_;
      if (found || !state.stopped || !state.waitable) continue;
      found = true;
      if (consume) state.waitable = false;
      RefPtr<const Credentials> creds = tracee->creds_ref();
      *result = {.pid = tracee->TidIn(caller.pid_ns()),
                 .uid = creds ? creds->ruid : 0,
                 .wait_status = state.status << 8 | 0x7f,
                 .code = CLD_TRAPPED,
                 .status = state.status,
                 .usage = tracee->usage()};
    }
    if (found) continue;
    for (auto it = tracer.dead.begin(); it != tracer.dead.end(); ++it) {
      bool matches = request.who == WaitRequest::Who::kAny ||
                     (request.who == WaitRequest::Who::kPid && it->tid_in_namespace == request.id);
      if (!matches || (request.options & (WEXITED | __WALL | __WCLONE)) == 0) continue;
      found = true;
      *result = {.pid = it->tid_in_namespace,
                 .uid = it->uid,
                 .wait_status = it->status.ToWaitStatus(),
                 .code = it->status.signal ? CLD_KILLED : CLD_EXITED,
                 .status = it->status.signal ? it->status.signal : it->status.code};
      if (consume) tracer.dead.erase(it);
      break;
    }
  }
  return found;
}

}  // namespace sentry::kernel
