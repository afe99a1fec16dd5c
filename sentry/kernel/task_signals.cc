// SPDX-License-Identifier: Apache-2.0
// The receiving side of signals: masks, taking, stops, handlers. signal(7), sigaction(2).
#include <asm/unistd.h>

#include "sentry/arch/signal_frame.h"
#include "sentry/kernel/posix_timers.h"
#include "sentry/kernel/ptrace.h"
#include "sentry/kernel/task_internal.h"

namespace sentry::kernel {
namespace {

class TaskFrameMemory final : public arch::FrameMemory {
 public:
  explicit TaskFrameMemory(Task& task) : task_(task) {}
  Result<void> Read(uint64_t from, void* to, size_t length) override {
    return task_.CopyInBytes(UserAddr(from), to, length);
  }
  Result<void> Write(uint64_t to, const void* from, size_t length) override {
    return task_.CopyOutBytes(UserAddr(to), from, length);
  }

 private:
  Task& task_;
};

// 512..516 when the interrupted system call asks for a restart.
int RestartCode(const Registers& regs) {
  auto rax = static_cast<int64_t>(regs.rax);
  return static_cast<int64_t>(regs.orig_rax) >= 0 && rax <= -512 && rax >= -516 ? static_cast<int>(-rax) : 0;
}

// The system call instruction is two bytes long.
void Rewind(Registers& regs, uint64_t number) {
  regs.rax = number;
  regs.rip -= 2;
}

}  // namespace

void Task::RaiseSelf(int signal) {
  if (!internal_->worker_body) (void)SendSignal(KernelSignal(signal));
}

void Task::Internal::SetMaskLocked(Task& task, SignalSet mask) {
  mask &= ~kUnblockable;
  SignalSet added = mask & ~task.signal_mask();
  task.mask_.store(mask, std::memory_order_relaxed);
  UpdateSignalWorkLocked(task);
  // Shared signals that this thread was to take are offered to the others.
  ThreadGroup::State& state = task.group_->state();
  if (state.shared_pending.set() & added) {
    for (const RefPtr<Task>& thread : state.threads) {
      if (thread.get() != &task) UpdateSignalWorkLocked(*thread);
    }
  }
}

void Task::set_signal_mask(SignalSet mask) {
  SignalLock lock(*group_);
  Internal::SetMaskLocked(*this, mask);
}

void Task::SetTemporaryMask(SignalSet mask) {
  if (!internal_->saved_mask) internal_->saved_mask = signal_mask();
  set_signal_mask(mask);
}

SignalSet Task::PendingSignals() const {
  SignalLock lock(*group_);
  return internal_->pending.set() | group_->state().shared_pending.set();
}

bool Task::HasDeliverableSignal() const { return PendingSignals() & ~signal_mask(); }

Result<SignalInfo> Task::TakeSignal(SignalSet set) {
  SignalLock lock(*group_);
  SignalInfo info;
  bool taken = Internal::TakeSignalLocked(*this, set & ~kUnblockable, &info);
  Internal::UpdateSignalWorkLocked(*this);
  if (!taken) return Errno(EAGAIN);
  return info;
}

void Task::ForceSignal(const SignalInfo& info) {
  SignalLock lock(*group_);
  SignalSet bit = SignalBit(info.si_signo);
  SignalAction& action = lock.handlers().actions[info.si_signo];
  if ((signal_mask() & bit) || action.handler == kSignalIgnore) {
    action.handler = kSignalDefault;
    mask_.store(signal_mask() & ~bit, std::memory_order_relaxed);
  }
  if (action.handler == kSignalDefault && !IsTraced(*this)) group_->state().init_may_die = true;
  (void)internal_->pending.Add(info);
  Internal::AddWork(*this, kWorkSignal);
}

Result<void> Task::SetAltStack(const AltStack& stack) {
  arch::SignalStack current{.sp = alt_stack.sp, .flags = alt_stack.flags, .size = alt_stack.size};
  if (arch::OnSignalStack(current, regs_.rsp)) return Errno(EPERM);
  uint32_t mode = stack.flags & ~arch::kSsAutodisarm;
  if (mode != SS_DISABLE && mode != SS_ONSTACK && mode != 0) return Errno(EINVAL);
  if (stack.sp == alt_stack.sp && stack.size == alt_stack.size && stack.flags == alt_stack.flags) return {};
  if (mode == SS_DISABLE) {
    alt_stack = {.sp = 0, .size = 0, .flags = stack.flags};
    return {};
  }
  constexpr uint64_t kMinimum = 2048;  // MINSIGSTKSZ of the x86-64 ABI
  if (stack.size < kMinimum) return Errno(ENOMEM);
  alt_stack = stack;
  return {};
}

int64_t Task::ReturnFromSignal() {
  TaskFrameMemory memory(*this);
  auto state = arch::PopSignalFrame(memory, *context_, kernel_.platform().FpuStateSize(), &regs_);
  if (!state.ok()) {
    regs_.orig_rax = ~uint64_t{0};
    ForceSignal(KernelSignal(SIGSEGV));
    return static_cast<int64_t>(regs_.rax);
  }
  set_signal_mask(state->mask);
  // As restore_altstack: a bad one is ignored.
  (void)SetAltStack({.sp = state->stack.sp, .size = state->stack.size, .flags = state->stack.flags});
  return static_cast<int64_t>(regs_.rax);
}

void Task::SetWaitingFor(SignalSet set) {
  SignalLock lock(*group_);
  internal_->waiting_for = set;
}

void Task::Internal::TakePartInStop(Task& task) {
  Internal& internal = *task.internal_;
  ThreadGroup& group = task.group();
  ThreadGroup::State& state = group.state();
  bool completed = false;
  int signal;
  {
    SignalLock lock(group);
    internal.work.fetch_and(~uint32_t{kWorkStop}, std::memory_order_relaxed);
    signal = state.stop.signal;
    if (!internal.counted_in_stop || signal == 0) return;
    internal.counted_in_stop = false;
    internal.stopped = true;
    if (--state.stop.pending_threads == 0) completed = state.stop.complete = state.stop.wait_stopped = true;
  }
  TaskSet& tasks = task.kernel_.tasks();
  if (completed) {
    MutexLock lock(tasks.mu());
    bool still;
    {
      SignalLock signal_lock(group);
      still = state.stop.complete;
    }
    if (still) NotifyParentLocked(group, CLD_STOPPED, signal);
  }
  bool tell = false;
  bool reported = false;  // to the tracer; it may come while the task sleeps here
  for (;;) {
    if (!reported && IsTraced(task)) {
      reported = true;
      bool seized = task.ptrace()->seized.load(std::memory_order_relaxed);
      (void)PtraceStop(task, signal | (seized ? kPtraceEventStop : 0), nullptr, 0, PtraceState::SyscallStop::kNone);
    }
    {
      SignalLock lock(group);
      // A tracer that resumes a stopped tracee lets it run on; one that goes away leaves it stopped.
      if (reported && IsTraced(task)) internal.stopped = false;
      if (!internal.stopped || (internal.work.load(std::memory_order_acquire) & kWorkFatal)) {
        internal.stopped = false;
        tell = std::exchange(state.stop.tell_continued, false);
        break;
      }
    }
    SleepOnce(task, RunState::kStopped);
  }
  if (tell) {
    MutexLock lock(tasks.mu());
    NotifyParentLocked(group, CLD_CONTINUED, SIGCONT);
  }
}

bool Task::Internal::SetUpHandler(Task& task, const SignalAction& action, const SignalInfo& info) {
  Internal& internal = *task.internal_;
  Registers& regs = task.regs();
  switch (RestartCode(regs)) {
    case 0:
      break;
    case 512:  // ERESTARTSYS
      if (!(action.flags & SA_RESTART)) {
        regs.rax = static_cast<uint64_t>(-EINTR);
        break;
      }
      [[fallthrough]];
    case 513:  // ERESTARTNOINTR
      Rewind(regs, regs.orig_rax);
      break;
    default:
      regs.rax = static_cast<uint64_t>(-EINTR);
  }
  regs.orig_rax = ~uint64_t{0};

  auto undeliverable = [&] {
    // A SIGSEGV whose own handler has no stack must not loop.
    if (info.si_signo == SIGSEGV) {
      SignalLock lock(task.group());
      lock.handlers().actions[SIGSEGV].handler = kSignalDefault;
    }
    task.ForceSignal(KernelSignal(SIGSEGV));
    return false;
  };
  if (internal.rseq.address != 0 && !AbortRseq(task)) return undeliverable();
  TaskFrameMemory memory(task);
  bool write = internal.fault_access == platform::Access::kWrite;
  bool exec = internal.fault_access == platform::Access::kExec;
  arch::FrameRequest request{.handler = action.handler,
                             .flags = action.flags,
                             .restorer = action.restorer,
                             .info = info,
                             .mask = internal.saved_mask.value_or(task.signal_mask()),
                             .trap = arch::TrapFromSignal(info, write, exec)};
  arch::SignalStack stack{.sp = task.alt_stack.sp, .flags = task.alt_stack.flags, .size = task.alt_stack.size};
  Result<void> pushed =
      arch::PushSignalFrame(memory, task.context(), task.kernel_.platform().FpuStateSize(), request, &stack, &regs);
  if (!pushed.ok()) return undeliverable();
  task.alt_stack = {.sp = stack.sp, .size = stack.size, .flags = stack.flags};
  internal.saved_mask.reset();
  SignalSet mask = task.signal_mask() | action.mask;
  if (!(action.flags & SA_NODEFER)) mask |= SignalBit(info.si_signo);
  task.set_signal_mask(mask);
  return true;
}

void Task::Internal::DeliverSignals(Task& task) {
  Internal& internal = *task.internal_;
  ThreadGroup& group = task.group();
  ThreadGroup::State& state = group.state();
  Registers& regs = task.regs();
  // A call that has succeeded gives its caller's mask back before signals are looked at (restore_saved_sigmask_unless).
  bool interrupted =
      RestartCode(regs) != 0 || (static_cast<int64_t>(regs.orig_rax) >= 0 && regs.rax == static_cast<uint64_t>(-EINTR));
  if (internal.saved_mask && !interrupted) task.set_signal_mask(*std::exchange(internal.saved_mask, std::nullopt));

  for (;;) {
    uint32_t work = internal.work.load(std::memory_order_acquire);
    if (work & kWorkFatal) return;
    if (work & kWorkStop) {
      TakePartInStop(task);
      if (task.ptrace()->interrupt.exchange(false)) {
        SignalInfo trap = KernelSignal(SIGTRAP);
        trap.si_code = SIGTRAP | kPtraceEventStop;
        (void)PtraceStop(task, trap.si_code, &trap, 0, PtraceState::SyscallStop::kNone);
      }
      continue;
    }
    SignalInfo info;
    {
      SignalLock lock(group);
      if (!TakeSignalLocked(task, ~task.signal_mask(), &info)) {
        UpdateSignalWorkLocked(task);
        break;
      }
    }
    if (IsTraced(task) && info.si_signo != SIGKILL) {
      PtraceSignal(task, &info);
      if (info.si_signo == 0) continue;
      if (task.signal_mask() & SignalBit(info.si_signo)) {
        // The tracer replaced it by one that is blocked.
        (void)task.SendSignal(info);
        continue;
      }
    }
    SignalAction action;
    bool stop = false;
    {
      SignalLock lock(group);
      SignalAction& current = lock.handlers().actions[info.si_signo];
      action = current;
      if (action.handler == kSignalIgnore) continue;
      if (action.handler != kSignalDefault) {
        if (action.flags & SA_RESETHAND) current.handler = kSignalDefault;
      } else {
        DefaultAction what = DefaultActionOf(info.si_signo);
        if (what == DefaultAction::kIgnore || what == DefaultAction::kContinue) continue;
        if (group.IsInit() && !state.init_may_die && !(SignalBit(info.si_signo) & kUnblockable)) continue;
        stop = what == DefaultAction::kStop;
        if (!stop) {
          ExitGroupLocked(group, {.signal = info.si_signo});
          return;
        }
      }
    }
    if (stop) {
      if (info.si_signo != SIGSTOP) {
        RefPtr<ProcessGroup> members = group.process_group();
        if (!members || members->IsOrphaned()) continue;
      }
      SignalLock lock(group);
      StartGroupStopLocked(group, info.si_signo);
      continue;
    }
    if (SetUpHandler(task, action, info)) PtraceHandlerEntered(task);
  }

  switch (RestartCode(regs)) {
    case 0:
      break;
    case 516:  // ERESTART_RESTARTBLOCK
      Rewind(regs, __NR_restart_syscall);
      break;
    default:
      Rewind(regs, regs.orig_rax);
  }
  if (internal.saved_mask) task.set_signal_mask(*std::exchange(internal.saved_mask, std::nullopt));
}

}  // namespace sentry::kernel
