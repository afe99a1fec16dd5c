// SPDX-License-Identifier: Apache-2.0
#include "sentry/kernel/load_average.h"

#include <cmath>

#include "gtest/gtest.h"

namespace sentry::kernel {
namespace {

constexpr double kMinutes[] = {1, 5, 15};

double Tasks(uint64_t average) { return static_cast<double>(average) / LoadAverage::kOne; }

TEST(LoadAverageTest, FollowsTheExponential) {
  for (uint64_t steps : {1, 12, 60, 180}) {
    const LoadAverage::Averages averages = LoadAverage::After({}, 4, steps);
    for (int i = 0; i < 3; ++i) {
      const double seconds = static_cast<double>(steps) * 5;
      EXPECT_NEAR(Tasks(averages[i]), 4 * (1 - std::exp(-seconds / 60 / kMinutes[i])), 0.05)
          << steps << " steps, " << i;
    }
  }
}

TEST(LoadAverageTest, ReachesAConstantNumberAndNothing) {
  LoadAverage::Averages averages = LoadAverage::After({}, 3, 100'000);
  for (uint64_t average : averages) EXPECT_EQ(average, 3 * LoadAverage::kOne);
  EXPECT_EQ(LoadAverage::After(averages, 3, 1), averages);
  averages = LoadAverage::After(averages, 0, 100'000);
  for (uint64_t average : averages) EXPECT_EQ(average, 0u);
}

TEST(LoadAverageTest, ManyStepsAreAsManyTimesOne) {
  LoadAverage::Averages one_by_one = {5000, 100, 70'000}, at_once = LoadAverage::After(one_by_one, 2, 37);
  for (int i = 0; i < 37; ++i) one_by_one = LoadAverage::After(one_by_one, 2, 1);
  EXPECT_EQ(one_by_one, at_once);
  EXPECT_EQ(LoadAverage::After(at_once, 9, 0), at_once);
}

// kernel/sched/loadavg.c of Linux: the first counts of one task are 0.08 and 0.15 over a minute.
TEST(LoadAverageTest, FirstSteps) {
  EXPECT_EQ(LoadAverage::After({}, 1, 1), (LoadAverage::Averages{164, 34, 11}));
  EXPECT_EQ(LoadAverage::After({}, 1, 2)[0], 315u);
}

// No time span that a guest could wait for takes long to catch up with.
TEST(LoadAverageTest, YearsOfIdlingAreQuick) {
  EXPECT_EQ(LoadAverage::After({1 << 20, 1 << 20, 1 << 20}, 0, uint64_t{1} << 40), LoadAverage::Averages{});
}

}  // namespace
}  // namespace sentry::kernel
