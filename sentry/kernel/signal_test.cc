// SPDX-License-Identifier: Apache-2.0
#include "sentry/kernel/signal.h"

#include <cstddef>

#include "gtest/gtest.h"

namespace sentry::kernel {
namespace {

static_assert(sizeof(SignalInfo) == 128);
static_assert(offsetof(SignalInfo, si_pid) == 16 && offsetof(SignalInfo, si_addr) == 16 &&
              offsetof(SignalInfo, si_value) == 24);

TEST(PendingSignalsTest, StandardSignalsDoNotQueue) {
  PendingSignals pending;
  EXPECT_TRUE(pending.Add(UserSignal(SIGUSR1, 10, 0)));
  EXPECT_FALSE(pending.Add(UserSignal(SIGUSR1, 11, 0)));
  SignalInfo info;
  ASSERT_TRUE(pending.Take(~SignalSet{0}, &info));
  EXPECT_EQ(info.si_pid, 10);
  EXPECT_FALSE(pending.Take(~SignalSet{0}, &info));
  EXPECT_EQ(pending.set(), 0u);
}

TEST(PendingSignalsTest, RealTimeSignalsQueueInOrder) {
  PendingSignals pending;
  int rt = kFirstRealTime + 5;
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(pending.Add(UserSignal(rt, i, 0)));
  SignalInfo info;
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(pending.set(), SignalBit(rt));
    ASSERT_TRUE(pending.Take(SignalBit(rt), &info));
    EXPECT_EQ(info.si_pid, i);
  }
  EXPECT_EQ(pending.set(), 0u);
  EXPECT_EQ(pending.queued(), 0u);
}

TEST(PendingSignalsTest, SynchronousFirstThenLowestNumber) {
  PendingSignals pending;
  pending.Add(KernelSignal(SIGHUP));
  pending.Add(KernelSignal(SIGSEGV));
  pending.Add(KernelSignal(SIGINT));
  SignalInfo info;
  int expected[] = {SIGSEGV, SIGHUP, SIGINT};
  for (int signal : expected) {
    ASSERT_TRUE(pending.Take(~SignalSet{0}, &info));
    EXPECT_EQ(info.si_signo, signal);
  }
}

TEST(PendingSignalsTest, TakeHonoursTheMaskAndDiscardDropsAll) {
  PendingSignals pending;
  pending.Add(KernelSignal(SIGTERM));
  pending.Add(KernelSignal(40));
  pending.Add(KernelSignal(40));
  SignalInfo info;
  EXPECT_FALSE(pending.Take(~(SignalBit(SIGTERM) | SignalBit(40)), &info));
  pending.Discard(SignalBit(40));
  EXPECT_EQ(pending.set(), SignalBit(SIGTERM));
  EXPECT_EQ(pending.queued(), 1u);
}

TEST(SignalTest, DefaultActions) {
  EXPECT_EQ(DefaultActionOf(SIGCHLD), DefaultAction::kIgnore);
  EXPECT_EQ(DefaultActionOf(SIGCONT), DefaultAction::kContinue);
  EXPECT_EQ(DefaultActionOf(SIGTTOU), DefaultAction::kStop);
  EXPECT_EQ(DefaultActionOf(SIGSEGV), DefaultAction::kCore);
  EXPECT_EQ(DefaultActionOf(SIGTERM), DefaultAction::kTerminate);
  EXPECT_EQ(DefaultActionOf(64), DefaultAction::kTerminate);
}

}  // namespace
}  // namespace sentry::kernel
