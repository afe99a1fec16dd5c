// SPDX-License-Identifier: Apache-2.0
// SpinPolicy: when a sentry thread spins on its mailbox while its stub thread runs on another CPU ("spread"), and when
// the two share one and sleep in turn. Spread, a round trip is three times faster; but to spread costs a wake-up of
// another CPU, and so does every call that takes the sentry long. Pure; times are ticks of the time-stamp counter.
#ifndef PLATFORM_SYSTRAP_SPIN_POLICY_H_
#define PLATFORM_SYSTRAP_SPIN_POLICY_H_

#include <cstdint>

namespace platform::systrap {

class SpinPolicy {
 public:
  explicit SpinPolicy(uint64_t ticks_per_us) : us_(ticks_per_us) {}

  enum class Move {
    kStay,
    kSpread,  // if there is a CPU to be had: OnSpread then
    kGather,  // on the sentry thread's CPU; done as far as the policy goes
  };
  // The sentry is about to give the turn away. `asleep`: the stub thread has stopped to spin for it.
  Move BeforeHandOver(uint64_t now, bool asleep);
  // The turn is the sentry's again.
  void OnEvent(uint64_t now);
  // Looked for and not found: it won't ask again at once.
  void OnNoCpu(uint64_t now);
  void OnSpread(uint64_t now);
  // No event while the sentry span, or (`preempted`) somebody else wants the sentry's CPU.
  void OnSpinFailed(uint64_t now, bool preempted);
  // The sentry thread is going to sleep, or the CPUs are wanted by others.
  void OnGathered();

  bool spread() const { return spread_; }
  // No event has come since the pair was spread: the other CPU may be somebody else's.
  bool untried() const { return spread_ && served_ == 0; }
  // How long to spin at most; `woken`: the other CPU has to wake up first.
  uint64_t SpinTicks(bool woken) const { return (woken ? kWakeUpUs : kSpinUs) * us_; }
  // A gap between two readings of the counter that is no work of ours.
  uint64_t PreemptionTicks() const { return kPreemptionUs * us_; }

 private:
  static constexpr uint64_t kSpinUs = 50;
  static constexpr uint64_t kWakeUpUs = 300;
  static constexpr uint64_t kPreemptionUs = 20;
  // What lies between two calls of a burst, on either side, at most.
  static constexpr uint64_t kShortUs = 20;
  static constexpr uint32_t kFirstBurst = 64;
  static constexpr uint32_t kLongestBurst = 1 << 16;
  // A stay with as many calls as this has paid; one with fewer than a quarter has not.
  static constexpr uint32_t kGoodStay = 256;
  // Calls gain 1 each, a wake-up of the other CPU costs about 20.
  static constexpr int kSleepCost = 20;
  static constexpr int kMostCredit = 100;
  static constexpr uint64_t kFirstBackoffUs = 10'000;
  static constexpr uint64_t kLongestBackoffUs = 1'000'000;

  void EndStay();
  void BackOff(uint64_t now);

  const uint64_t us_;
  bool spread_ = false;
  uint32_t burst_ = 0;  // short calls in a row
  uint32_t wanted_burst_ = kFirstBurst;
  uint32_t served_ = 0;  // events of this stay
  int credit_ = 0;
  uint64_t turn_ = 0;  // when it changed hands last
  uint64_t retry_ = 0;
  uint64_t backoff_us_ = kFirstBackoffUs;
};

}  // namespace platform::systrap

#endif  // PLATFORM_SYSTRAP_SPIN_POLICY_H_
