// SPDX-License-Identifier: Apache-2.0
// ThreadGroup: construction, look at its topology, and its end.
#include "sentry/kernel/thread_group.h"

#include "sentry/kernel/async_work.h"
#include "sentry/kernel/posix_timers.h"
#include "sentry/kernel/task_internal.h"

namespace sentry::kernel {

ThreadGroup::ThreadGroup(RefPtr<PidNamespace> pid_ns, RefPtr<SignalHandlers> handlers, int exit_signal)
    : pid_ns_(std::move(pid_ns)), start_time_ns_(base::ClockNs(CLOCK_BOOTTIME)), state_(std::make_unique<State>()) {
  state_->handlers = std::move(handlers);
  state_->exit_signal = exit_signal;
  state_->timers = std::make_unique<PosixTimers>(*this);
  state_->async_work = std::make_unique<AsyncWork>(*this);
}

ThreadGroup::~ThreadGroup() = default;

RefPtr<SignalHandlers> ThreadGroup::handlers() const {
  MutexLock lock(state_->handlers_mu);
  return state_->handlers;
}

pid_t ThreadGroup::TgidIn(const PidNamespace& ns) const {
  if (!pid_ns_->IsSameOrDescendantOf(ns)) return 0;
  return ids_[ns.level()];
}

RefPtr<Task> ThreadGroup::leader() const {
  MutexLock lock(Kernel::Get().tasks().mu());
  return RefPtr<Task>(state_->leader);
}

RefPtr<ThreadGroup> ThreadGroup::parent() const {
  MutexLock lock(Kernel::Get().tasks().mu());
  return state_->parent ? state_->parent->group_ref() : nullptr;
}

RefPtr<ProcessGroup> ThreadGroup::process_group() const {
  MutexLock lock(Kernel::Get().tasks().mu());
  return state_->process_group;
}

RefPtr<Session> ThreadGroup::session() const {
  MutexLock lock(Kernel::Get().tasks().mu());
  return state_->process_group ? state_->process_group->session() : nullptr;
}

std::vector<RefPtr<Task>> ThreadGroup::Threads() const {
  MutexLock lock(Kernel::Get().tasks().mu());
  return state_->threads;
}

int ThreadGroup::thread_count() const {
  MutexLock lock(Kernel::Get().tasks().mu());
  return static_cast<int>(state_->threads.size());
}

bool ThreadGroup::IsInit() const { return ids_[pid_ns_->level()] == 1; }

void Task::Internal::ExitGroupLocked(ThreadGroup& group, ExitStatus status) {
  ThreadGroup::State& state = group.state();
  if (state.exiting) return;
  state.exiting = true;
  state.exit_status = status;
  state.stop.signal = 0;
  for (const RefPtr<Task>& thread : state.threads) AddWork(*thread, kWorkKill);
}

void ThreadGroup::Exit(ExitStatus status) {
  SignalLock lock(*this);
  Task* self = Task::CurrentOrNull();
  // A thread that exec by another one is ending cannot end the process any more.
  if (state_->exec_task && self && &self->group() == this && self != state_->exec_task && !status.signal) return;
  Task::Internal::ExitGroupLocked(*this, status);
}

bool ThreadGroup::IsExiting() const {
  SignalLock lock(*this);
  return state_->exiting;
}

ExitStatus ThreadGroup::exit_status() const {
  SignalLock lock(*this);
  return state_->exit_status;
}

bool ThreadGroup::HasExited() const { return state_->has_exited.load(std::memory_order_acquire); }

std::optional<ExitStatus> ThreadGroup::WaitForExit(int64_t deadline_ns) {
  Blocker blocker;
  BlockerEntry entry(blocker);
  exit_queue_.Add(entry, kEventIn);
  for (;;) {
    if (HasExited()) return exit_status();
    if (!blocker.Wait(deadline_ns) && !HasExited()) return std::nullopt;
  }
}

CpuUsage ThreadGroup::usage() const {
  MutexLock lock(Kernel::Get().tasks().mu());
  CpuUsage sum = state_->dead_usage;
  for (const RefPtr<Task>& thread : state_->threads) sum += thread->usage();
  return sum;
}

CpuUsage ThreadGroup::children_usage() const {
  MutexLock lock(Kernel::Get().tasks().mu());
  return state_->children_usage;
}

PosixTimers& ThreadGroup::timers() { return *state_->timers; }

AsyncWork& ThreadGroup::async_work() { return *state_->async_work; }

}  // namespace sentry::kernel
