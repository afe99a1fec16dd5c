// SPDX-License-Identifier: Apache-2.0
// What a stack needs of the world (time, randomness, a wake-up), and its timers. Re-arming to a later time, which is
// what most segments do, costs nothing: the owner looks at its own deadlines when the old one fires.
#ifndef SENTRY_NET_TIMER_H_
#define SENTRY_NET_TIMER_H_

#include <cstdint>
#include <set>
#include <utility>

#include "sentry/common.h"

namespace sentry::net {

inline constexpr int64_t kNsPerMs = 1'000'000;

// Thread-safe. Tests have a clock that they move by hand.
class Environment : public RefCounted<Environment> {
 public:
  virtual ~Environment() = default;
  // Monotonic.
  virtual int64_t NowNs() = 0;
  virtual int64_t RealtimeNs() = 0;
  virtual uint64_t Random() = 0;
  // Stack::RunTimers is to be called at `deadline_ns` or soon after; kNoDeadline: not at all. Replaces the last
  // request. Called with the timer lock held.
  virtual void WakeAt(int64_t deadline_ns) = 0;
};

// An object with a timer. It is destroyed only after it left its queue (TimerQueue::Cancel in its destructor).
class Timed : public RefCounted<Timed> {
 public:
  virtual ~Timed() = default;
  // Without locks of the queue; may be early or spurious.
  virtual void OnTimer(int64_t now_ns) = 0;

 private:
  friend class TimerQueue;
  int64_t armed_ns_ = kNoDeadline;  // TimerQueue::mu_
};

class TimerQueue {
 public:
  explicit TimerQueue(Environment& environment) : environment_(environment) {}
  // Makes `timed` fire at `deadline_ns` or earlier.
  void Arm(Timed& timed, int64_t deadline_ns);
  void Cancel(Timed& timed);
  // Fires what is due.
  void Run(int64_t now_ns);
  // For tests; kNoDeadline: none.
  int64_t Earliest() const;

 private:
  Environment& environment_;
  mutable Mutex mu_{LockRank::kNetTimer};
  std::set<std::pair<int64_t, Timed*>> armed_ ABSL_GUARDED_BY(mu_);
  int64_t requested_ns_ ABSL_GUARDED_BY(mu_) = kNoDeadline;
};

}  // namespace sentry::net

#endif  // SENTRY_NET_TIMER_H_
