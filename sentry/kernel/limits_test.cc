// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "sentry/kernel/thread_group.h"

namespace sentry::kernel {
namespace {

TEST(Limits, SetFollowsTheManual) {
  Limits limits;
  EXPECT_EQ(limits.Soft(RLIMIT_NOFILE), 1024u);
  EXPECT_EQ(limits.Set(RLIM_NLIMITS, {1, 1}, true).error_number(), EINVAL);
  EXPECT_EQ(limits.Set(-1, {1, 1}, true).error_number(), EINVAL);
  EXPECT_EQ(limits.Set(RLIMIT_CPU, {2, 1}, true).error_number(), EINVAL);
  EXPECT_TRUE(limits.Set(RLIMIT_NOFILE, {10, 100}, false).ok());
  EXPECT_EQ(limits.Set(RLIMIT_NOFILE, {10, 101}, false).error_number(), EPERM);
  EXPECT_TRUE(limits.Set(RLIMIT_NOFILE, {10, 101}, true).ok());
  EXPECT_EQ(limits.Set(RLIMIT_NOFILE, {1, (1 << 20) + 1}, true).error_number(), EPERM);
  EXPECT_EQ(limits.Get(RLIMIT_NOFILE).rlim_cur, 10u);
  Limits copy;
  copy.CopyFrom(limits);
  EXPECT_EQ(copy.Get(RLIMIT_NOFILE).rlim_max, 101u);
}

TEST(ExitStatus, IsTheWaitWord) {
  EXPECT_EQ(ExitStatus{.code = 3}.ToWaitStatus(), 0x300);
  EXPECT_EQ((ExitStatus{.signal = 9}).ToWaitStatus(), 9);
  EXPECT_EQ((ExitStatus{.signal = 11, .core = true}).ToWaitStatus(), 0x8b);
}

}  // namespace
}  // namespace sentry::kernel
