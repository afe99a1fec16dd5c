// SPDX-License-Identifier: Apache-2.0
// The only places where a task sleeps, and how it is called back.
#include <x86intrin.h>

#include "sentry/kernel/cgroup.h"
#include "sentry/kernel/load_average.h"
#include "sentry/kernel/task_internal.h"

namespace sentry::kernel {
namespace {

// Marks the task as asleep for /proc, stops its CPU clock and tells the platform.
class SleepScope {
 public:
  SleepScope(Task& task, RunState state) : task_(task), internal_(task.internal()) {
    const uint64_t now = __rdtsc();
    StopClock(now);
    LoadAverage::OnChange(task_.kernel(), now);
    internal_.voluntary_switches.fetch_add(1, std::memory_order_relaxed);
    internal_.run_state.store(state, std::memory_order_relaxed);
    task_.kernel().platform().OnBlock();
  }
  ~SleepScope() {
    task_.kernel().platform().OnUnblock();
    const uint64_t now = __rdtsc();
    LoadAverage::OnChange(task_.kernel(), now);
    internal_.run_state.store(RunState::kKernel, std::memory_order_relaxed);
    internal_.kernel_entry_tick.store(now, std::memory_order_relaxed);
  }

 private:
  void StopClock(uint64_t now) {
    uint64_t entry = internal_.kernel_entry_tick.exchange(0, std::memory_order_relaxed);
    if (entry && now > entry) {
      internal_.system_ticks.store(internal_.system_ticks.load(std::memory_order_relaxed) + (now - entry),
                                   std::memory_order_relaxed);
    }
  }
  Task& task_;
  Task::Internal& internal_;
};

}  // namespace

Result<void> Task::Block(int64_t deadline_ns) {
  if (internal_->no_sleep) [[unlikely]]
    return kWouldSleep;
  if (internal_->work.load(std::memory_order_acquire) & kWorkInterruptsBlock) return base::kErestartsys;
  bool woken;
  {
    SleepScope sleep(*this, RunState::kSleeping);
    woken = blocker_.Wait(deadline_ns);
  }
  if (internal_->work.load(std::memory_order_acquire) & kWorkInterruptsBlock) return base::kErestartsys;
  if (!woken) return Errno(ETIMEDOUT);
  return OkResult();
}

Result<void> Task::BlockKillable(int64_t deadline_ns) {
  if (internal_->no_sleep) [[unlikely]]
    return kWouldSleep;
  if (internal_->work.load(std::memory_order_acquire) & kWorkFatal) return base::kErestartsys;
  bool woken;
  {
    SleepScope sleep(*this, RunState::kDiskSleep);
    woken = blocker_.Wait(deadline_ns);
  }
  if (internal_->work.load(std::memory_order_acquire) & kWorkFatal) return base::kErestartsys;
  if (!woken) return Errno(ETIMEDOUT);
  return OkResult();
}

void Task::Internal::SleepOnce(Task& task, RunState state) {
  // Stopped for another reason is frozen as well.
  if ((state == RunState::kStopped || state == RunState::kTraced) &&
      (task.internal_->work.load(std::memory_order_acquire) & kWorkFreeze))
    Cgroups::OnParked(task);
  SleepScope sleep(task, state);
  (void)task.blocker_.Wait(kNoDeadline);
}

void Task::Internal::Kick(Task& task) {
  // The own thread looks at `work` before it sleeps or switches.
  if (&task == Task::CurrentOrNull()) return;
  task.blocker_.Wake();
  // Pairs with the run loop: it stores kGuest, then loads `work`; here `work` was stored before.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if (task.internal_->run_state.load(std::memory_order_seq_cst) == RunState::kGuest) task.context_->Interrupt();
}

void Task::Internal::AddThrottle(Task& task) {
  task.internal_->work.fetch_or(kWorkThrottle, std::memory_order_seq_cst);
  if (&task != Task::CurrentOrNull() && task.internal_->run_state.load(std::memory_order_seq_cst) == RunState::kGuest)
    task.context_->Interrupt();
}

void Task::SetAffinity(uint64_t cpus) {
  cpu_affinity.store(cpus, std::memory_order_seq_cst);
  Internal::Kick(*this);
}

void Task::Internal::AddWork(Task& task, uint32_t bits) {
  uint32_t before = task.internal_->work.fetch_or(bits, std::memory_order_seq_cst);
  if ((before & bits) != bits) Kick(task);
}

}  // namespace sentry::kernel
