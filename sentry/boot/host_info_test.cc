// SPDX-License-Identifier: Apache-2.0
#include "sentry/boot/host_info.h"

#include <gtest/gtest.h>
#include <sched.h>

#include <algorithm>

namespace sentry {
namespace {

TEST(HostInfo, IsThatOfThisProcess) {
  cpu_set_t set;
  ASSERT_EQ(0, sched_getaffinity(0, sizeof set, &set));
  const HostInfo info = ReadHostInfo();
  EXPECT_EQ(static_cast<unsigned>(CPU_COUNT(&set)), info.cpus);
  EXPECT_GT(info.total_memory, uint64_t{64} << 20);
  // The whole file, however many processors: one block for each, the last one ended.
  const std::string& text = info.cpuinfo;
  size_t blocks = 0;
  for (size_t at = text.find("processor\t"); at != std::string::npos; at = text.find("processor\t", at + 1)) ++blocks;
  EXPECT_GE(blocks, info.cpus);
  EXPECT_TRUE(text.ends_with("\n\n")) << text.substr(text.size() - std::min<size_t>(text.size(), 40));
}

TEST(HostInfo, CountsOnlyProcessorsThatMayBeUsed) {
  cpu_set_t all, one;
  ASSERT_EQ(0, sched_getaffinity(0, sizeof all, &all));
  CPU_ZERO(&one);
  for (int i = 0; i < CPU_SETSIZE; ++i) {
    if (!CPU_ISSET(i, &all)) continue;
    CPU_SET(i, &one);
    break;
  }
  ASSERT_EQ(0, sched_setaffinity(0, sizeof one, &one));
  EXPECT_EQ(1u, ReadHostInfo().cpus);
  ASSERT_EQ(0, sched_setaffinity(0, sizeof all, &all));
}

}  // namespace
}  // namespace sentry
