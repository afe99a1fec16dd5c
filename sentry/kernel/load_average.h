// SPDX-License-Identifier: Apache-2.0
// The load averages of the sandbox: every 5 s the number of tasks that run or sleep uninterruptibly, in exponentially
// decayed averages (proc(5), /proc/loadavg). Nobody wakes up to count: the first task that begins or ends a sleep, is
// made, ends or reads after a count was due finds all tasks as they have been since then.
#ifndef SENTRY_KERNEL_LOAD_AVERAGE_H_
#define SENTRY_KERNEL_LOAD_AVERAGE_H_

#include <array>
#include <atomic>
#include <cstdint>

#include "sentry/common.h"

namespace sentry::kernel {

class Kernel;

class LoadAverage {
 public:
  static constexpr int64_t kStepNs = 5'000'000'000;
  static constexpr int kShift = 11;
  static constexpr uint64_t kOne = uint64_t{1} << kShift;
  // Over 1, 5 and 15 minutes, in units of 1/kOne tasks.
  using Averages = std::array<uint64_t, 3>;
  // After `steps` counts that found `active` tasks.
  static Averages After(Averages averages, uint64_t active, uint64_t steps);

  // Before a task becomes active or stops being so; `tick` is the time-stamp counter. Any thread, without locks.
  static void OnChange(Kernel& kernel, uint64_t tick) {
    if (tick >= next_tick_.load(std::memory_order_relaxed)) [[unlikely]]
      (void)Get(kernel);
  }
  // As of now. Any thread, without locks.
  static Averages Get(Kernel& kernel);

 private:
  // About when the next count is due.
  static inline std::atomic<uint64_t> next_tick_{0};
};

}  // namespace sentry::kernel

#endif  // SENTRY_KERNEL_LOAD_AVERAGE_H_
