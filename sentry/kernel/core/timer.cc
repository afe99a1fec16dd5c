// SPDX-License-Identifier: Apache-2.0
// The timer service: a set ordered by deadline and one thread, started by the first Arm.
#include "sentry/kernel/core/timer.h"

#include <pthread.h>
#include <signal.h>

#include <set>
#include <utility>

#include "base/log.h"

namespace sentry {

class TimerService {
 public:
  static TimerService& Get() {
    static TimerService* const service = new TimerService;  // its thread never ends
    return *service;
  }

  // The mutex may be taken while the owner of the timer holds its own of the same rank; nothing is taken under it.
  void Arm(Timer& timer, int64_t deadline_ns, int64_t period_ns) {
    mu_.LockNested();
    if (timer.deadline_ns_ != 0) armed_.erase({timer.deadline_ns_, &timer});
    timer.deadline_ns_ = deadline_ns > 0 ? deadline_ns : 1;
    timer.period_ns_ = period_ns > 0 ? period_ns : 0;
    auto [position, inserted] = armed_.insert({timer.deadline_ns_, &timer});
    if (!started_) Start();
    if (position == armed_.begin()) wake_.NotifyOne();
    mu_.Unlock();
  }

  void Disarm(Timer& timer) {
    mu_.LockNested();
    DisarmLocked(timer);
    mu_.Unlock();
  }

  void DisarmAndWait(Timer& timer) {
    mu_.LockNested();
    DisarmLocked(timer);
    CHECK_THAT(!timer.running_ || !pthread_equal(pthread_self(), thread_));
    while (timer.running_) {
      // The callback may have armed it again.
      idle_.Wait(mu_);
      DisarmLocked(timer);
    }
    mu_.Unlock();
  }

  Timer::Setting Get(const Timer& timer) {
    mu_.LockNested();
    Timer::Setting setting{timer.deadline_ns_, timer.deadline_ns_ ? timer.period_ns_ : 0};
    mu_.Unlock();
    return setting;
  }

 private:
  void DisarmLocked(Timer& timer) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    if (timer.deadline_ns_ != 0) armed_.erase({timer.deadline_ns_, &timer});
    timer.deadline_ns_ = 0;
  }

  void Start() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int error = pthread_create(
        &thread_, nullptr,
        [](void* self) -> void* {
          pthread_setname_np(pthread_self(), "timers");
          static_cast<TimerService*>(self)->Loop();
          return nullptr;
        },
        this);
    pthread_sigmask(SIG_SETMASK, &old, nullptr);
    // Without a thread the timers stay armed and the next Arm tries again.
    if (error == 0) started_ = true;
  }

  void Loop() {
    mu_.Lock();
    for (;;) {
      if (armed_.empty()) {
        wake_.Wait(mu_);
        continue;
      }
      auto [deadline_ns, timer] = *armed_.begin();
      int64_t now_ns = base::MonotonicNs();
      if (now_ns < deadline_ns) {
        wake_.WaitUntil(mu_, deadline_ns);
        continue;
      }
      armed_.erase(armed_.begin());
      uint64_t count = 1;
      if (timer->period_ns_ > 0) {
        uint64_t missed = static_cast<uint64_t>(now_ns - deadline_ns) / timer->period_ns_;
        count += missed;
        if (__builtin_add_overflow(deadline_ns, static_cast<int64_t>(count) * timer->period_ns_,
                                   &timer->deadline_ns_)) {
          timer->deadline_ns_ = INT64_MAX;
        }
        armed_.insert({timer->deadline_ns_, timer});
      } else {
        timer->deadline_ns_ = 0;
      }
      timer->running_ = true;
      mu_.Unlock();
      timer->on_expiry_(count);
      mu_.Lock();
      timer->running_ = false;
      idle_.NotifyAll();
    }
  }

  Mutex mu_{LockRank::kTimer};
  base::CondVar wake_, idle_;
  std::set<std::pair<int64_t, Timer*>> armed_ ABSL_GUARDED_BY(mu_);
  bool started_ ABSL_GUARDED_BY(mu_) = false;
  pthread_t thread_ ABSL_GUARDED_BY(mu_) = {};
};

Timer::Timer(std::function<void(uint64_t)> on_expiry) : on_expiry_(std::move(on_expiry)) {}
Timer::~Timer() { TimerService::Get().DisarmAndWait(*this); }
void Timer::Arm(int64_t deadline_ns, int64_t period_ns) { TimerService::Get().Arm(*this, deadline_ns, period_ns); }
void Timer::Disarm() { TimerService::Get().Disarm(*this); }
Timer::Setting Timer::Get() const { return TimerService::Get().Get(*this); }

}  // namespace sentry
