// SPDX-License-Identifier: Apache-2.0
// The parts that need no stub: IntervalSet against a bitmap, Placement.
#include <bitset>
#include <random>
#include <vector>

#include "gtest/gtest.h"
#include "platform/ptrace/interval_set.h"
#include "platform/ptrace/placement.h"

namespace platform::ptrace {
namespace {

TEST(IntervalSetTest, AgreesWithABitmap) {
  std::mt19937 random(7);
  IntervalSet set;
  std::bitset<128> bits;
  for (int i = 0; i < 20'000; ++i) {
    uint64_t start = random() % 127, end = start + 1 + random() % (128 - start);
    bool add = random() % 2 == 0;
    if (add) {
      set.Add(start, end);
    } else {
      set.Remove(start, end);
    }
    for (uint64_t b = start; b < end; ++b) bits[b] = add;
    std::bitset<128> seen;
    size_t pieces = 0;
    uint64_t last_end = 0;
    set.ForEach(0, 128, [&](uint64_t from, uint64_t to) {
      EXPECT_LT(from, to);
      EXPECT_TRUE(pieces == 0 || from > last_end) << "adjacent ranges not joined";
      last_end = to;
      ++pieces;
      for (uint64_t b = from; b < to; ++b) seen[b] = true;
      return true;
    });
    ASSERT_EQ(seen, bits);
    ASSERT_EQ(pieces, set.size());
    uint64_t from = random() % 127, to = from + 1 + random() % (128 - from);
    bool any = false;
    for (uint64_t b = from; b < to; ++b) any |= bits[b];
    ASSERT_EQ(set.Intersects(from, to), any);
  }
}

TEST(IntervalSetTest, ForEachClipsAndStops) {
  IntervalSet set;
  set.Add(10, 20);
  set.Add(30, 40);
  std::vector<std::pair<uint64_t, uint64_t>> seen;
  EXPECT_TRUE(set.ForEach(15, 35, [&](uint64_t a, uint64_t b) {
    seen.emplace_back(a, b);
    return true;
  }));
  EXPECT_EQ(seen, (std::vector<std::pair<uint64_t, uint64_t>>{{15, 20}, {30, 35}}));
  EXPECT_FALSE(set.ForEach(0, 100, [](uint64_t, uint64_t) { return false; }));
}

TEST(PlacementTest, SpreadsPairsAndMovesCrowdedOnes) {
  Placement placement;
  if (placement.cpu_count() < 2) GTEST_SKIP() << "one CPU";
  std::vector<Placement::Slot> slots(static_cast<size_t>(placement.cpu_count()));
  for (auto& slot : slots) placement.Enter(slot);
  for (int i = 0; i < placement.cpu_count(); ++i) EXPECT_EQ(placement.PairsForTest(i), 1);
  // A pair beside another; nothing idle; then one CPU becomes idle.
  Placement::Slot late;
  placement.Enter(late);
  EXPECT_FALSE(placement.Rebalance(late));
  int crowded = late.index;
  size_t other = static_cast<size_t>(crowded == slots[0].index ? 1 : 0);
  placement.Leave(slots[other]);
  EXPECT_TRUE(placement.Rebalance(late));
  EXPECT_EQ(late.index, slots[other].index);
  EXPECT_EQ(placement.PairsForTest(crowded), 1);
  EXPECT_FALSE(placement.Rebalance(late));
  placement.Leave(late);
  placement.Leave(late);
  EXPECT_EQ(placement.PairsForTest(slots[other].index), 0);
}

TEST(PlacementTest, KeepsToTheAllowedCpus) {
  Placement placement;
  if (!placement.enabled()) GTEST_SKIP() << "one CPU";
  Placement::Slot slot;
  for (int round = 0; round < 3; ++round) {
    for (int cpu = 0; cpu < std::min(placement.cpu_count(), 64); ++cpu) {
      placement.Restrict(slot, uint64_t{1} << cpu);
      placement.Enter(slot);
      EXPECT_EQ(slot.index, cpu);
      EXPECT_EQ(placement.PairsForTest(cpu), 1);
      // Crowded, with an idle CPU beside that it may not use.
      Placement::Slot other = {.allowed = uint64_t{1} << cpu};
      placement.Enter(other);
      EXPECT_FALSE(placement.Rebalance(slot));
      placement.Leave(other);
    }
  }
  // No CPU that there is: anywhere.
  placement.Restrict(slot, 0);
  placement.Leave(slot);
  slot.index = -1;
  placement.Enter(slot);
  EXPECT_GE(slot.index, 0);
  placement.Leave(slot);
}

TEST(PlacementTest, SpreadsOverTwoCpusWhileNobodyElseWantsThem) {
  Placement placement;
  if (placement.cpu_count() != 2) GTEST_SKIP() << "not two CPUs";
  Placement::Slot slot, other;
  EXPECT_FALSE(placement.Spread(slot));
  placement.Enter(slot);
  const int first = slot.index;
  ASSERT_TRUE(placement.Spread(slot));
  EXPECT_EQ(slot.index, first);
  EXPECT_EQ(slot.stub_index, 1 - first);
  EXPECT_FALSE(placement.Spread(slot));
  EXPECT_FALSE(placement.IsCrowded(slot));
  EXPECT_EQ(placement.PairsForTest(0), 1);
  EXPECT_EQ(placement.PairsForTest(1), 1);
  placement.Enter(other);
  EXPECT_TRUE(placement.IsCrowded(slot));
  EXPECT_FALSE(placement.Spread(other));
  // To the CPU that the other one is not on.
  placement.Gather(slot, /*to_stub=*/slot.index == other.index);
  EXPECT_EQ(slot.index, 1 - other.index);
  EXPECT_EQ(placement.PairsForTest(0), 1);
  EXPECT_EQ(placement.PairsForTest(1), 1);
  placement.Leave(other);
  ASSERT_TRUE(placement.Spread(slot));
  placement.Leave(slot);
  EXPECT_EQ(slot.stub_index, -1);
  EXPECT_EQ(placement.PairsForTest(0), 0);
  EXPECT_EQ(placement.PairsForTest(1), 0);
  // Not where the guest may not run.
  placement.Restrict(slot, uint64_t{1} << slot.index);
  placement.Enter(slot);
  EXPECT_FALSE(placement.Spread(slot));
  placement.Leave(slot);
}

}  // namespace
}  // namespace platform::ptrace
