// SPDX-License-Identifier: Apache-2.0
// How signals are sent: what is dropped, which thread is chosen, what they do at once (SIGKILL, SIGCONT, fatal ones).
// signal(7), kernel/signal.c's rules.
#include "sentry/kernel/posix_timers.h"
#include "sentry/kernel/ptrace.h"
#include "sentry/kernel/task_internal.h"

namespace sentry::kernel {
namespace {

constexpr SignalSet kNeverCaught = kUnblockable;

// From the kernel or from outside the receiver's pid namespace: may kill or stop an init.
bool IsForced(const SignalInfo& info) {
  return info.si_code == SI_KERNEL || (info.si_code == SI_USER && info.si_pid == 0);
}

bool IsProtectedInit(ThreadGroup& group) { return group.IsInit() && !group.state().init_may_die; }

// Nobody would notice it.
bool IsIgnored(ThreadGroup& group, const SignalAction& action, const SignalInfo& info) {
  int signal = info.si_signo;
  if (action.handler == kSignalIgnore) return true;
  if (action.handler != kSignalDefault) return false;
  if (IsProtectedInit(group) && !((SignalBit(signal) & kNeverCaught) && IsForced(info))) return true;
  DefaultAction what = DefaultActionOf(signal);
  return what == DefaultAction::kIgnore || what == DefaultAction::kContinue;
}

bool BlockedBy(const Task& thread, const Task::Internal& internal, int signal) {
  return ((thread.signal_mask() | internal.waiting_for) & SignalBit(signal)) != 0;
}

bool IsLive(Task& thread) { return !thread.internal().signals_detached; }

bool Wants(Task& thread, int signal) {
  Task::Internal& internal = thread.internal();
  if (!IsLive(thread) || (thread.signal_mask() & SignalBit(signal))) return false;
  return internal.run_state.load(std::memory_order_relaxed) != RunState::kTraced;
}

bool IsFatalByDefault(int signal) {
  DefaultAction what = DefaultActionOf(signal);
  return what == DefaultAction::kTerminate || what == DefaultAction::kCore;
}

void DiscardEverywhere(ThreadGroup::State& state, SignalSet which) {
  state.shared_pending.Discard(which);
  for (const RefPtr<Task>& thread : state.threads) thread->internal().pending.Discard(which);
}

void ContinueLocked(ThreadGroup& group) {
  ThreadGroup::State& state = group.state();
  DiscardEverywhere(state, kStopSignals);
  auto& stop = state.stop;
  bool was_stopped = stop.complete;
  if (was_stopped) stop.wait_continued = stop.tell_continued = true;
  stop.signal = 0;
  stop.pending_threads = 0;
  stop.complete = stop.wait_stopped = false;
  for (const RefPtr<Task>& thread : state.threads) {
    Task::Internal& internal = thread->internal();
    bool slept = internal.stopped || internal.counted_in_stop;
    internal.stopped = internal.counted_in_stop = false;
    if (slept) Task::Internal::Kick(*thread);
  }
}

}  // namespace

RefPtr<SignalHandlers> SignalHandlers::Clone() const {
  auto copy = MakeRef<SignalHandlers>();
  MutexLock lock(mu);
  copy->actions = actions;
  return copy;
}

void Task::Internal::UpdateSignalWorkLocked(Task& task) {
  Internal& internal = *task.internal_;
  SignalSet pending = internal.pending.set() | task.group().state().shared_pending.set();
  if ((pending & ~task.signal_mask()) && !internal.signals_detached) {
    AddWork(task, kWorkSignal);
  } else {
    internal.work.fetch_and(~uint32_t{kWorkSignal}, std::memory_order_relaxed);
  }
}

void Task::Internal::StartGroupStopLocked(ThreadGroup& group, int signal) {
  ThreadGroup::State& state = group.state();
  auto& stop = state.stop;
  if (stop.signal != 0 || state.exiting || state.exec_task) return;
  stop = {};
  stop.signal = signal;
  for (const RefPtr<Task>& thread : state.threads) {
    Internal& internal = thread->internal();
    if (internal.signals_detached || internal.stopped) continue;
    internal.counted_in_stop = true;
    ++stop.pending_threads;
    AddWork(*thread, kWorkStop);
  }
}

Result<bool> Task::Internal::SendSignalLocked(ThreadGroup& group, Task* thread, const SignalInfo& info,
                                              SignalHandlers& handlers) {
  ThreadGroup::State& state = group.state();
  int signal = info.si_signo;
  if (state.exiting || state.zombie || (thread && thread->internal().signals_detached)) return false;
  SignalSet bit = SignalBit(signal);
  if (bit & kStopSignals) DiscardEverywhere(state, SignalBit(SIGCONT));
  if (signal == SIGCONT) ContinueLocked(group);

  const SignalAction& action = handlers.actions[signal];
  Task* judge = thread ? thread : state.leader;  // whose mask saves the signal from being dropped
  bool kept = judge && (BlockedBy(*judge, judge->internal(), signal) || (IsTraced(*judge) && signal != SIGKILL));
  if (!kept && IsIgnored(group, action, info)) return false;

  if (signal == SIGKILL) {
    ExitGroupLocked(group, {.signal = SIGKILL});
    return true;
  }

  kernel::PendingSignals& queue = thread ? thread->internal().pending : state.shared_pending;
  if (signal >= kFirstRealTime && queue.queued() >= group.limits().Soft(RLIMIT_SIGPENDING) &&
      info.si_code != SI_TIMER) {
    if (info.si_code != SI_USER && info.si_code != SI_KERNEL && info.si_code != SI_TKILL) return Errno(EAGAIN);
    if (queue.set() & bit) return false;
  }
  bool queued = queue.Add(info);

  // Readers of signalfds and sigtimedwait look by themselves.
  group.signal_queue().Notify(kEventIn);
  if (thread) {
    thread->signal_queue().Notify(kEventIn);
  } else {
    for (const RefPtr<Task>& each : state.threads) each->signal_queue().Notify(kEventIn);
  }

  Task* chosen = nullptr;
  if (thread) {
    if (Wants(*thread, signal)) chosen = thread;
  } else {
    if (state.leader && Wants(*state.leader, signal)) chosen = state.leader;
    for (const RefPtr<Task>& each : state.threads) {
      if (chosen) break;
      if (Wants(*each, signal)) chosen = each.get();
    }
  }
  if (!chosen) return queued;
  bool fatal = action.handler == kSignalDefault && IsFatalByDefault(signal) && !IsProtectedInit(group);
  if (fatal && !(chosen->internal().waiting_for & bit) && !IsTraced(*chosen)) {
    ExitGroupLocked(group, {.signal = signal});
    return true;
  }
  AddWork(*chosen, kWorkSignal);
  return queued;
}

Result<void> ThreadGroup::SendSignal(const SignalInfo& info) {
  if (info.si_signo < 1 || info.si_signo > kSignalMax) return Errno(EINVAL);
  SignalLock lock(*this);
  TRY(Task::Internal::SendSignalLocked(*this, nullptr, info, lock.handlers()));
  return {};
}

Result<void> Task::SendSignal(const SignalInfo& info) {
  if (info.si_signo < 1 || info.si_signo > kSignalMax) return Errno(EINVAL);
  SignalLock lock(*group_);
  TRY(Internal::SendSignalLocked(*group_, this, info, lock.handlers()));
  return {};
}

SignalAction ThreadGroup::ExchangeAction(int signal, const SignalAction* action) {
  SignalLock lock(*this);
  SignalAction& current = lock.handlers().actions[signal];
  SignalAction old = current;
  if (!action) return old;
  current = *action;
  DefaultAction what = DefaultActionOf(signal);
  bool ignored =
      action->handler == kSignalIgnore ||
      (action->handler == kSignalDefault && (what == DefaultAction::kIgnore || what == DefaultAction::kContinue));
  if (ignored) {
    DiscardEverywhere(*state_, SignalBit(signal));
    timers().OnSignalsDiscarded(SignalBit(signal));
  }
  return old;
}

bool Task::Internal::DetachSignalsLocked(Task& task) {
  Internal& internal = *task.internal_;
  ThreadGroup::State& state = task.group().state();
  if (internal.signals_detached) return false;
  internal.signals_detached = true;
  internal.pending.Discard(~SignalSet{0});
  if (state.shared_pending.set() != 0) {
    for (const RefPtr<Task>& thread : state.threads) {
      if (thread.get() != &task) UpdateSignalWorkLocked(*thread);
    }
  }
  internal.stopped = false;
  if (!internal.counted_in_stop) return false;
  internal.counted_in_stop = false;
  auto& stop = state.stop;
  if (stop.signal == 0 || --stop.pending_threads > 0) return false;
  // The last one to leave leaves nobody to be stopped.
  bool others = false;
  for (const RefPtr<Task>& thread : state.threads) others |= !thread->internal().signals_detached;
  stop.complete = stop.wait_stopped = others;
  return others;
}

bool Task::Internal::TakeSignalLocked(Task& task, SignalSet allowed, SignalInfo* info) {
  Internal& internal = *task.internal_;
  ThreadGroup& group = task.group();
  if (!internal.pending.Take(allowed, info) && !group.state().shared_pending.Take(allowed, info)) return false;
  if (info->si_code == SI_TIMER) group.timers().OnSignalTaken(info);
  return true;
}

void Task::Internal::InheritSignals(Task& parent, Task& child, uint64_t clone_flags) {
  child.mask_.store(parent.internal_->saved_mask.value_or(parent.signal_mask()), std::memory_order_relaxed);
  if ((clone_flags & (CLONE_VM | CLONE_VFORK)) == CLONE_VM) {
    child.alt_stack = AltStack{};
  } else {
    child.alt_stack = parent.alt_stack;
  }
}

void Task::Internal::ResetSignalsForExec(Task& task) {
  ThreadGroup& group = task.group();
  task.alt_stack = AltStack{};
  RefPtr<SignalHandlers> old = group.handlers();
  RefPtr<SignalHandlers> own = old->Clone();
  for (int signal = 1; signal <= kSignalMax; ++signal) {
    SignalAction& action = own->actions[signal];
    bool ignored = action.handler == kSignalIgnore;
    action = SignalAction{};
    if (ignored) action.handler = kSignalIgnore;
  }
  // Under the old mutex, so that a sender that holds it isn't overtaken; SignalLock looks twice.
  MutexLock lock(old->mu);
  MutexLock pointer_lock(group.state().handlers_mu);
  group.state().handlers = own;
}

}  // namespace sentry::kernel
