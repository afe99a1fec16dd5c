// SPDX-License-Identifier: Apache-2.0
#include "sentry/kernel/load_average.h"

#include <x86intrin.h>

#include <algorithm>

#include "sentry/kernel/kernel.h"
#include "sentry/kernel/task.h"

namespace sentry::kernel {
namespace {

struct State {
  Mutex mu{LockRank::kLeaf};
  LoadAverage::Averages averages ABSL_GUARDED_BY(mu) = {};
  int64_t next_ns ABSL_GUARDED_BY(mu) = base::MonotonicNs() + LoadAverage::kStepNs;
};

uint64_t CountActive(Kernel& kernel) {
  uint64_t active = 0;
  for (const auto& [pid, group] : kernel.tasks().ThreadGroups(*kernel.root_pid_ns())) {
    for (const RefPtr<Task>& thread : group->Threads()) {
      const char state = thread->StateLetter();
      active += state == 'R' || state == 'D';
    }
  }
  return active;
}

uint64_t TickIn(const Kernel& kernel, int64_t ns) {
  constexpr int64_t kTicks = int64_t{1} << 30;
  return __rdtsc() + static_cast<uint64_t>(ns * kTicks / std::max<int64_t>(kernel.TicksToNs(kTicks), 1));
}

}  // namespace

LoadAverage::Averages LoadAverage::After(Averages averages, uint64_t active, uint64_t steps) {
  // What is kept of an average in a step: e^(-5 s / 1, 5, 15 min).
  constexpr uint64_t kKeep[] = {1884, 2014, 2037};
  for (size_t i = 0; i < averages.size(); ++i) {
    uint64_t& average = averages[i];
    for (uint64_t step = 0; step < steps; ++step) {
      // Towards the number of tasks, so that a constant one is reached.
      const uint64_t target = active * kOne, rounding = target >= average ? kOne - 1 : 0;
      const uint64_t next = (average * kKeep[i] + target * (kOne - kKeep[i]) + rounding) / kOne;
      if (next == average) break;
      average = next;
    }
  }
  return averages;
}

LoadAverage::Averages LoadAverage::Get(Kernel& kernel) {
  static State& state = *new State();
  const int64_t now = base::MonotonicNs();
  bool due;
  {
    MutexLock lock(state.mu);
    due = now >= state.next_ns;
  }
  const uint64_t active = due ? CountActive(kernel) : 0;
  MutexLock lock(state.mu);
  if (due && now >= state.next_ns) {  // else another thread was faster
    const int64_t steps = (now - state.next_ns) / kStepNs + 1;
    state.averages = After(state.averages, active, static_cast<uint64_t>(steps));
    state.next_ns += steps * kStepNs;
  }
  next_tick_.store(TickIn(kernel, std::max<int64_t>(state.next_ns - now, 0)), std::memory_order_relaxed);
  return state.averages;
}

}  // namespace sentry::kernel
