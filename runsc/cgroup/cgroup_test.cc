// SPDX-License-Identifier: Apache-2.0
// Settings and paths; the hierarchies are plain directories here (a v1 layout), so nothing of the host is touched.
#include "runsc/cgroup/cgroup.h"

#include <stdlib.h>
#include <sys/stat.h>

#include <fstream>
#include <sstream>

#include "gtest/gtest.h"

namespace runsc {
namespace {

std::string Text(const std::vector<CgroupSetting>& settings) {
  std::string text;
  for (const auto& s : settings) text += s.file + "=" + s.value + ";";
  return text;
}

TEST(Cgroup, Settings) {
  spec::Resources r;
  r.memory_limit = 1000;
  r.memory_swap = 1500;
  r.pids_limit = -1;
  r.cpu_shares = 1024;
  r.cpu_quota = 5000;
  EXPECT_EQ(Text(CgroupSettings(r, "memory")), "memory.limit_in_bytes=1000;memory.memsw.limit_in_bytes=1500;");
  EXPECT_EQ(Text(CgroupSettings(r, "pids")), "pids.max=max;");
  EXPECT_EQ(Text(CgroupSettings(r, "cpu")), "cpu.shares=1024;cpu.cfs_quota_us=5000;");
  EXPECT_EQ(Text(CgroupSettings(r, "")),
            "memory.max=1000;memory.swap.max=500;pids.max=max;cpu.weight=39;cpu.max=5000 100000;");
}

TEST(Cgroup, Paths) {
  EXPECT_EQ(*CgroupPath("/a/b", "c", false), "/a/b");
  EXPECT_EQ(*CgroupPath("a/../../b", "c", false), "/b");
  EXPECT_EQ(*CgroupPath("", "c", false), "/runsc/c");
  EXPECT_EQ(*CgroupPath("user-1.slice:docker:x", "c", true), "/user.slice/user-1.slice/docker-x.scope");
  EXPECT_EQ(*CgroupPath("", "c", true), "/system.slice/runsc-c.scope");
  EXPECT_FALSE(CgroupPath("/a/b", "c", true).ok());
}

TEST(Cgroup, FailureLeavesNothing) {
  const char* tmp = getenv("TEST_TMPDIR");
  std::string base = std::string(tmp ? tmp : "/tmp") + "/cgroup.XXXXXX";
  ASSERT_NE(mkdtemp(base.data()), nullptr);
  ASSERT_EQ(mkdir((base + "/memory").c_str(), 0755), 0);
  spec::Resources r;
  r.memory_limit = 1;
  auto cgroup = Cgroup::Create(base, "/x/y", r);
  EXPECT_EQ(cgroup.status().message(), "linux.resources: the host has no memory cgroup at " + base + "/memory");
  // With the file that makes it a hierarchy, but without the control file in the new directory.
  std::ofstream(base + "/memory/cgroup.procs") << "";
  cgroup = Cgroup::Create(base, "/x/y", r);
  ASSERT_FALSE(cgroup.ok());
  EXPECT_NE(cgroup.status().message().find("memory.limit_in_bytes"), std::string::npos);
  struct stat st;
  EXPECT_NE(stat((base + "/memory/x").c_str(), &st), 0);
  r = {};
  cgroup = Cgroup::Create(base, "/x/y", r);
  ASSERT_TRUE(cgroup.ok()) << cgroup.status();
  EXPECT_EQ(cgroup->paths(), std::vector<std::string>{base + "/memory/x/y"});
  EXPECT_TRUE(cgroup->Remove().ok());
  EXPECT_TRUE(cgroup->Remove().ok());
  EXPECT_NE(stat((base + "/memory/x/y").c_str(), &st), 0);
}

}  // namespace
}  // namespace runsc
