// SPDX-License-Identifier: Apache-2.0
#include "sentry/boot/host_info.h"

#include <gtest/gtest.h>
#include <sched.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>

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

TEST(HostInfo, QuotasOfAnyAncestor) {
  std::string root = testing::TempDir() + "/quota";
  auto put = [&](const std::string& path, const std::string& text) {
    std::filesystem::create_directories(std::filesystem::path(root + path).parent_path());
    std::ofstream(root + path) << text;
  };
  put("/cpu.max", "max 100000\n");
  put("/a/b/cpu.max", "max 100000\n");
  EXPECT_FALSE(HasCpuQuota("0::/a/b\n", root));
  EXPECT_FALSE(HasCpuQuota("0::/nothing\n", root));
  EXPECT_FALSE(HasCpuQuota("", root));
  EXPECT_FALSE(HasCpuQuota("rubbish\n:\n0:\n", root));
  put("/a/cpu.max", "50000 100000\n");
  EXPECT_TRUE(HasCpuQuota("0::/a/b\n", root));
  EXPECT_TRUE(HasCpuQuota("3:memory:/x\n0::/a/b", root));
  EXPECT_FALSE(HasCpuQuota("0::/c\n", root));
  put("/cpu/c/cpu.cfs_quota_us", "-1\n");
  EXPECT_FALSE(HasCpuQuota("4:cpu,cpuacct:/c\n", root));
  put("/cpu/c/cpu.cfs_quota_us", "20000\n");
  EXPECT_TRUE(HasCpuQuota("4:cpuacct,cpu:/c/d\n", root));
  EXPECT_FALSE(HasCpuQuota("4:cpuset:/c\n", root));
}

}  // namespace
}  // namespace sentry
