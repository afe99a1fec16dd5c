// SPDX-License-Identifier: Apache-2.0
#include "platform/systrap/spin_policy.h"

#include <algorithm>

#include "gtest/gtest.h"

namespace platform::systrap {
namespace {

using Move = SpinPolicy::Move;
constexpr uint64_t kUs = 1000;  // ticks

struct Simulation {
  SpinPolicy policy{kUs};
  uint64_t now = 1'000'000 * kUs;

  // One call: the guest's time, then the sentry's.
  Move Call(uint64_t guest_us, uint64_t sentry_us, bool asleep = false) {
    now += guest_us * kUs;
    policy.OnEvent(now);
    now += sentry_us * kUs;
    return policy.BeforeHandOver(now, asleep);
  }
  // Calls until a move is wanted; -1 after `limit`.
  int Until(Move move, int limit, uint64_t guest_us, uint64_t sentry_us, bool asleep = false) {
    for (int i = 1; i <= limit; ++i) {
      if (Call(guest_us, sentry_us, asleep) == move) return i;
    }
    return -1;
  }
  void Spread() {
    ASSERT_GT(Until(Move::kSpread, 1 << 20, 1, 1), 0);
    policy.OnSpread(now);
  }
};

TEST(SpinPolicyTest, SpreadsInABurstOnly) {
  Simulation s;
  EXPECT_EQ(s.Until(Move::kSpread, 10'000, 100, 1), -1);
  EXPECT_EQ(s.Until(Move::kSpread, 10'000, 1, 100), -1);
  int calls = s.Until(Move::kSpread, 10'000, 2, 2);
  EXPECT_GT(calls, 30);
  EXPECT_LT(calls, 100);
}

TEST(SpinPolicyTest, SleepEndsTheBurst) {
  Simulation s;
  for (int i = 0; i < 1000; ++i) {
    ASSERT_EQ(s.Until(Move::kSpread, 30, 1, 1), -1);
    s.policy.OnGathered();
  }
}

TEST(SpinPolicyTest, StaysWhileItPays) {
  Simulation s;
  s.Spread();
  EXPECT_TRUE(s.policy.spread());
  EXPECT_TRUE(s.policy.untried());
  EXPECT_EQ(s.Until(Move::kGather, 10'000, 1, 1), -1);
  EXPECT_FALSE(s.policy.untried());
  // One slow call in fifty does not matter.
  for (int i = 0; i < 1000; ++i) ASSERT_EQ(s.Call(1, 1, i % 50 == 0), Move::kStay) << i;
}

TEST(SpinPolicyTest, GathersWhenCallsTakeLong) {
  Simulation s;
  s.Spread();
  int calls = s.Until(Move::kGather, 100, 1, 60, /*asleep=*/true);
  EXPECT_GT(calls, 0);
  EXPECT_LT(calls, 10);
  EXPECT_FALSE(s.policy.spread());
  // And is slower to try again.
  int again = s.Until(Move::kSpread, 100'000, 1, 1);
  EXPECT_GT(again, 200);
}

TEST(SpinPolicyTest, BadStaysBecomeRare) {
  Simulation s;
  int spreads = 0;
  for (int i = 0; i < 1'000'000; ++i) {
    if (s.Call(1, 1) != Move::kSpread) continue;
    ++spreads;
    s.policy.OnSpread(s.now);
    s.policy.OnSpinFailed(s.now, false);
  }
  EXPECT_LT(spreads, 30);
}

TEST(SpinPolicyTest, SomebodyElsesCpuIsLeftAloneForLonger) {
  Simulation s;
  uint64_t longest = 0;
  for (int i = 0; i < 8; ++i) {
    s.Spread();
    for (int j = 0; j < 1000; ++j) s.Call(1, 1);  // otherwise good
    s.policy.OnSpinFailed(s.now, /*preempted=*/true);
    uint64_t start = s.now;
    s.Spread();
    uint64_t waited = (s.now - start) / kUs;
    EXPECT_LE(waited, 2'000'000u) << i;
    longest = std::max(longest, waited);
    s.policy.OnGathered();
  }
  EXPECT_GE(longest, 900'000u);
}

TEST(SpinPolicyTest, GoodStaysForgive) {
  Simulation s;
  s.Spread();
  s.policy.OnSpinFailed(s.now, false);
  s.Spread();
  for (int j = 0; j < 1000; ++j) s.Call(1, 1);
  s.policy.OnGathered();
  EXPECT_LT(s.Until(Move::kSpread, 100'000, 1, 1), 100);
}

TEST(SpinPolicyTest, AsksSeldomForACpuThatIsNotThere) {
  Simulation s;
  int asked = 0;
  uint64_t start = s.now;
  while (s.now - start < 1'000'000 * kUs) {
    if (s.Call(1, 1) != Move::kSpread) continue;
    ++asked;
    s.policy.OnNoCpu(s.now);
  }
  EXPECT_LE(asked, 101);
}

}  // namespace
}  // namespace platform::systrap
