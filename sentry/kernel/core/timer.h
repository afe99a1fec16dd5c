// SPDX-License-Identifier: Apache-2.0
// Timers on the sentry's one timer thread, which sleeps until the earliest deadline and not at all when none is armed.
// Everything that fires later uses them: alarm, setitimer(ITIMER_REAL), timer_create, timerfd. Thread-safe.
#ifndef SENTRY_KERNEL_CORE_TIMER_H_
#define SENTRY_KERNEL_CORE_TIMER_H_

#include <cstdint>
#include <functional>

#include "sentry/common.h"

namespace sentry {

class Timer {
 public:
  // `on_expiry(count)` runs on the timer thread, without locks of the timer service held; count ≥ 1 periods have passed
  // since the last call.
  explicit Timer(std::function<void(uint64_t count)> on_expiry);
  // Disarms and waits for a running callback (so never destroy a timer from its own callback or under a lock that it
  // takes).
  ~Timer();
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;

  // First expiry at `deadline_ns` (CLOCK_MONOTONIC), then every `period_ns` unless 0. Replaces an earlier setting.
  void Arm(int64_t deadline_ns, int64_t period_ns);
  // No callback starts after this returns; one may be running.
  void Disarm();
  struct Setting {
    int64_t deadline_ns = 0;  // 0: disarmed
    int64_t period_ns = 0;
  };
  Setting Get() const;

 private:
  friend class TimerService;
  std::function<void(uint64_t)> on_expiry_;
  // Guarded by the service's mutex.
  int64_t deadline_ns_ = 0;
  int64_t period_ns_ = 0;
  bool running_ = false;
};

}  // namespace sentry

#endif  // SENTRY_KERNEL_CORE_TIMER_H_
