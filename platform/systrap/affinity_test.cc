// SPDX-License-Identifier: Apache-2.0
// Threads that wait for each other come together on one CPU; others don't.
#include <sched.h>

#include "base/clock.h"
#include "base/wake_hint.h"
#include "gtest/gtest.h"
#include "platform/systrap/context.h"
#include "platform/testing/test_guest.h"

namespace platform::systrap {
namespace {

using testing::TestGuest;
using testing::TestPlacement;
using testing::TestPlatform;

GUEST_PROGRAM(call, "1: mov $1000, %eax; syscall; jmp 1b");

// One run of the guest between two sleeps, the second of which is ended by a thread of the CPU `waker`.
void RunAndSleep(TestGuest& guest, int waker, int64_t run_ns = 0) {
  Registers r = TestGuest::Start();
  EXPECT_EQ(guest.context().Switch(r).kind, Event::Kind::kSyscall);
  for (int64_t start = base::MonotonicNs(); base::MonotonicNs() - start < run_ns;) {
  }
  TestPlatform().OnBlock();
  base::waker_hint = static_cast<uint32_t>(waker + 1);
  TestPlatform().OnUnblock();
}

class AffinityTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!TestPlacement().enabled()) GTEST_SKIP() << "one CPU, or a host that pins nothing";
    TestPlatform().AllowSpinning(false);
  }
  void TearDown() override { TestPlatform().AllowSpinning(true); }
};

// A run may take long on a loaded machine; of many, so many in a row are short.
bool ComesTo(TestGuest& guest, int cpu) {
  for (int i = 0; i < 2000 && testing::SlotOf(guest.context()).index != cpu; ++i) RunAndSleep(guest, cpu);
  return testing::SlotOf(guest.context()).index == cpu;
}

TEST_F(AffinityTest, ShortRunsFollowTheWaker) {
  TestGuest guest(call());
  for (int round = 0; round < 4; ++round) {
    const int other = 1 - std::min(testing::SlotOf(guest.context()).index, 1);
    ASSERT_TRUE(ComesTo(guest, other));
    EXPECT_EQ(TestPlacement().PairsForTest(other), 1);
    EXPECT_EQ(base::wake_hint, static_cast<uint32_t>(other + 1));
    cpu_set_t mask;
    ASSERT_EQ(sched_getaffinity(testing::StubTid(guest.context()), sizeof mask, &mask), 0);
    EXPECT_EQ(CPU_COUNT(&mask), 1);
    cpu_set_t own;
    ASSERT_EQ(sched_getaffinity(0, sizeof own, &own), 0);
    EXPECT_TRUE(CPU_EQUAL(&mask, &own));
  }
}

TEST_F(AffinityTest, LongRunsStay) {
  TestGuest guest(call());
  const int index = testing::SlotOf(guest.context()).index;
  for (int i = 0; i < 30; ++i) RunAndSleep(guest, 1 - std::min(index, 1), 200'000);
  EXPECT_EQ(testing::SlotOf(guest.context()).index, index);
}

TEST_F(AffinityTest, NobodyGoesWhereOthersRun) {
  TestGuest guest(call());
  const int index = testing::SlotOf(guest.context()).index, other = 1 - std::min(index, 1);
  ptrace::Placement::Slot busy[2];
  for (auto& slot : busy) {
    slot.index = other;
    TestPlacement().Enter(slot);
  }
  for (int i = 0; i < 100; ++i) RunAndSleep(guest, other);
  EXPECT_EQ(testing::SlotOf(guest.context()).index, index);
  for (auto& slot : busy) TestPlacement().Leave(slot);
}

TEST_F(AffinityTest, BadHints) {
  TestGuest guest(call());
  const int index = testing::SlotOf(guest.context()).index;
  for (int i = 0; i < 100; ++i) RunAndSleep(guest, i % 2 == 0 ? -1 : TestPlacement().cpu_count() + i);
  EXPECT_EQ(testing::SlotOf(guest.context()).index, index);
}

}  // namespace
}  // namespace platform::systrap
