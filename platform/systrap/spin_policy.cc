// SPDX-License-Identifier: Apache-2.0
#include "platform/systrap/spin_policy.h"

#include <algorithm>

namespace platform::systrap {

SpinPolicy::Move SpinPolicy::BeforeHandOver(uint64_t now, bool asleep) {
  const bool quick = now - turn_ < kShortUs * us_;
  turn_ = now;
  if (spread_) {
    credit_ = asleep ? credit_ - kSleepCost : std::min(credit_ + 1, kMostCredit);
    if (credit_ >= 0 || served_ == 0) return Move::kStay;
    EndStay();
    return Move::kGather;
  }
  if (!quick) burst_ = 0;
  return burst_ >= wanted_burst_ && now >= retry_ ? Move::kSpread : Move::kStay;
}

void SpinPolicy::OnEvent(uint64_t now) {
  if (spread_) {
    ++served_;
  } else if (now - turn_ < kShortUs * us_) {
    ++burst_;
  } else {
    burst_ = 0;
  }
  turn_ = now;
}

void SpinPolicy::OnNoCpu(uint64_t now) {
  burst_ = 0;
  retry_ = now + kFirstBackoffUs * us_;
}

void SpinPolicy::OnSpread(uint64_t) {
  spread_ = true;
  served_ = 0;
  credit_ = kSleepCost;
}

void SpinPolicy::OnSpinFailed(uint64_t now, bool preempted) {
  // Where others run, too, waiting pays more than asking.
  if (preempted || served_ == 0) BackOff(now);
  EndStay();
}

void SpinPolicy::OnGathered() {
  if (spread_) EndStay();
  burst_ = 0;
}

void SpinPolicy::EndStay() {
  if (served_ >= kGoodStay) {
    wanted_burst_ = kFirstBurst;
    if (served_ >= 16 * kGoodStay) backoff_us_ = kFirstBackoffUs;
  } else if (served_ < kGoodStay / 4) {
    wanted_burst_ = std::min(wanted_burst_ * 4, kLongestBurst);
  }
  spread_ = false;
  burst_ = 0;
}

void SpinPolicy::BackOff(uint64_t now) {
  retry_ = now + backoff_us_ * us_;
  backoff_us_ = std::min(backoff_us_ * 4, kLongestBackoffUs);
}

}  // namespace platform::systrap
