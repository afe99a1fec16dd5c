// SPDX-License-Identifier: Apache-2.0
// What guests write into the files.
#include <gtest/gtest.h>

#include "sentry/fs/cgroup/cgroup_fs.h"

namespace sentry::fs {
namespace {

using kernel::kCgroupNoLimit;

TEST(ParseCgroup, Numbers) {
  EXPECT_EQ(*ParseCgroupNumber("0"), 0);
  EXPECT_EQ(*ParseCgroupNumber("42"), 42);
  EXPECT_EQ(*ParseCgroupNumber("-42"), -42);
  EXPECT_EQ(*ParseCgroupNumber("+7"), 7);
  EXPECT_EQ(*ParseCgroupNumber("0x1F"), 31);
  EXPECT_EQ(*ParseCgroupNumber("010"), 8);
  EXPECT_EQ(*ParseCgroupNumber("9223372036854775807"), INT64_MAX);
  EXPECT_EQ(ParseCgroupNumber("9223372036854775808").error_number(), ERANGE);
  EXPECT_EQ(ParseCgroupNumber(std::string(5000, '9')).error_number(), ERANGE);
  for (const char* bad : {"", "-", "x", "1x", "0x", "08", "1 2", "--1"})
    EXPECT_EQ(ParseCgroupNumber(bad).error_number(), EINVAL) << bad;
}

TEST(ParseCgroup, Limits) {
  EXPECT_EQ(*ParseCgroupLimit("max"), kCgroupNoLimit);
  EXPECT_EQ(*ParseCgroupLimit("5"), 5);
  EXPECT_EQ(ParseCgroupLimit("Max").error_number(), EINVAL);
  EXPECT_EQ(ShowCgroupLimit(kCgroupNoLimit), "max\n");
  EXPECT_EQ(ShowCgroupLimit(5), "5\n");
}

TEST(ParseCgroup, Bytes) {
  EXPECT_EQ(*ParseCgroupBytes("4096", "max"), 4096);
  EXPECT_EQ(*ParseCgroupBytes("4097", "max"), 4096);
  EXPECT_EQ(*ParseCgroupBytes("4k", "max"), 4096);
  EXPECT_EQ(*ParseCgroupBytes("2M", "max"), 2 << 20);
  EXPECT_EQ(*ParseCgroupBytes("1G", "max"), 1 << 30);
  EXPECT_EQ(*ParseCgroupBytes("0", "max"), 0);
  EXPECT_EQ(*ParseCgroupBytes("max", "max"), kCgroupNoLimit);
  EXPECT_EQ(*ParseCgroupBytes("-1", "-1"), kCgroupNoLimit);
  EXPECT_EQ(*ParseCgroupBytes("18446744073709551615", "max"), kCgroupNoLimit);
  EXPECT_EQ(*ParseCgroupBytes("9999999999T", "max"), kCgroupNoLimit);
  for (const char* bad : {"", "-1", "K", "1KB", "1.5G", "lots"})
    EXPECT_EQ(ParseCgroupBytes(bad, "max").error_number(), EINVAL) << bad;
}

}  // namespace
}  // namespace sentry::fs
