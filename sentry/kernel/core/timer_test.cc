// SPDX-License-Identifier: Apache-2.0
#include "sentry/kernel/core/timer.h"

#include <atomic>

#include "gtest/gtest.h"
#include "sentry/kernel/core/wait_queue.h"

namespace sentry {
namespace {

// Far enough that only a hang of the service reaches it.
int64_t Patience() { return base::MonotonicNs() + 30 * base::kNsPerSecond; }

TEST(TimerTest, OneShotFiresOnceAndDisarms) {
  Blocker fired;
  std::atomic<uint64_t> count{0};
  Timer timer([&](uint64_t n) {
    count += n;
    fired.Wake();
  });
  int64_t deadline = base::MonotonicNs() + 1'000'000;
  timer.Arm(deadline, 0);
  ASSERT_TRUE(fired.Wait(Patience()));
  EXPECT_GE(base::MonotonicNs(), deadline);
  EXPECT_EQ(count.load(), 1u);
  EXPECT_EQ(timer.Get().deadline_ns, 0);
}

TEST(TimerTest, PeriodicCountsMissedPeriods) {
  Blocker fired;
  std::atomic<uint64_t> count{0};
  Timer timer([&](uint64_t n) {
    count += n;
    fired.Wake();
  });
  // Ten periods in the past: the first call reports all of them.
  timer.Arm(base::MonotonicNs() - 10'000'000'000, 1'000'000'000);
  ASSERT_TRUE(fired.Wait(Patience()));
  EXPECT_GE(count.load(), 11u);
  EXPECT_GT(timer.Get().deadline_ns, base::MonotonicNs() - 1'000'000'000);
  EXPECT_EQ(timer.Get().period_ns, 1'000'000'000);
}

TEST(TimerTest, EarlierTimerOvertakesALaterOne) {
  Blocker fired;
  Timer late([](uint64_t) { FAIL() << "an hour has not passed"; });
  late.Arm(base::MonotonicNs() + 3600 * base::kNsPerSecond, 0);
  Timer early([&](uint64_t) { fired.Wake(); });
  early.Arm(base::MonotonicNs() + 1000, 0);
  EXPECT_TRUE(fired.Wait(Patience()));
}

TEST(TimerTest, DestructorWaitsForTheCallback) {
  Blocker entered;
  std::atomic<bool> done{false};
  {
    Timer timer([&](uint64_t) {
      entered.Wake();
      for (int i = 0; i < 1000; ++i) std::atomic_thread_fence(std::memory_order_seq_cst);
      done = true;
    });
    timer.Arm(1, 0);
    ASSERT_TRUE(entered.Wait(Patience()));
  }
  EXPECT_TRUE(done.load());
}

TEST(TimerTest, CallbackMayRearm) {
  Blocker fired;
  std::atomic<int> count{0};
  Timer* self = nullptr;
  Timer timer([&](uint64_t) {
    if (++count < 3) {
      self->Arm(base::MonotonicNs(), 0);
    } else {
      fired.Wake();
    }
  });
  self = &timer;
  timer.Arm(base::MonotonicNs(), 0);
  ASSERT_TRUE(fired.Wait(Patience()));
  EXPECT_EQ(count.load(), 3);
}

}  // namespace
}  // namespace sentry
