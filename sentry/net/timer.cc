// SPDX-License-Identifier: Apache-2.0
#include "sentry/net/timer.h"

namespace sentry::net {

void TimerQueue::Arm(Timed& timed, int64_t deadline_ns) {
  MutexLock lock(mu_);
  if (timed.armed_ns_ <= deadline_ns) return;
  if (timed.armed_ns_ != kNoDeadline) armed_.erase({timed.armed_ns_, &timed});
  timed.armed_ns_ = deadline_ns;
  armed_.insert({deadline_ns, &timed});
  if (deadline_ns < requested_ns_) environment_.WakeAt(requested_ns_ = deadline_ns);
}

void TimerQueue::Cancel(Timed& timed) {
  MutexLock lock(mu_);
  if (timed.armed_ns_ == kNoDeadline) return;
  armed_.erase({timed.armed_ns_, &timed});
  timed.armed_ns_ = kNoDeadline;
}

void TimerQueue::Run(int64_t now_ns) {
  for (;;) {
    RefPtr<Timed> due;
    {
      MutexLock lock(mu_);
      while (!due && !armed_.empty() && armed_.begin()->first <= now_ns) {
        Timed* timed = armed_.begin()->second;
        armed_.erase(armed_.begin());
        timed->armed_ns_ = kNoDeadline;
        if (timed->TryIncRef()) due = RefPtr<Timed>::Adopt(timed);
      }
      if (!due) {
        requested_ns_ = armed_.empty() ? kNoDeadline : armed_.begin()->first;
        environment_.WakeAt(requested_ns_);
        return;
      }
    }
    due->OnTimer(now_ns);
  }
}

int64_t TimerQueue::Earliest() const {
  MutexLock lock(mu_);
  return armed_.empty() ? kNoDeadline : armed_.begin()->first;
}

}  // namespace sentry::net
