// SPDX-License-Identifier: Apache-2.0
// Settings and paths; the hierarchies are plain directories here (a v1 layout), so nothing of the host is touched.
#include "runsc/cgroup/cgroup.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

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

// A root that looks as cgroup2's, with the files that its kernel would make. The directories are there before, as a
// plain file system makes no files in new ones.
class UnifiedTest : public testing::Test {
 protected:
  void SetUp() override {
    const char* tmp = getenv("TEST_TMPDIR");
    base_ = std::string(tmp ? tmp : "/tmp") + "/unified.XXXXXX";
    ASSERT_NE(mkdtemp(base_.data()), nullptr);
    for (const char* directory : {"", "/a.slice", "/a.slice/b.scope"}) {
      mkdir((base_ + directory).c_str(), 0755);
      for (const char* file :
           {"cgroup.controllers", "cgroup.procs", "cgroup.subtree_control", "memory.max", "memory.swap.max",
            "memory.low", "pids.max", "cpu.weight", "cpu.max", "cpuset.cpus", "cpuset.mems", "hugetlb.2MB.max"})
        std::ofstream(base_ + directory + "/" + file) << "";
    }
  }
  std::string Read(const std::string& file) const {
    std::ifstream in(base_ + file);
    std::stringstream text;
    text << in.rdbuf();
    return text.str();
  }
  std::string base_;
};

TEST_F(UnifiedTest, LimitsProcessesAndParents) {
  EXPECT_TRUE(IsUnified(base_));
  spec::Resources r;
  r.memory_limit = 1000;
  r.memory_swap = 1500;
  r.memory_reservation = 500;
  r.pids_limit = 10;
  r.cpu_shares = 1024;
  r.cpu_quota = 5000;
  r.cpu_period = 20000;
  r.cpuset_cpus = "0-1";
  r.cpuset_mems = "0";
  r.unified = {{"hugetlb.2MB.max", "0"}};
  auto cgroup = Cgroup::Create(base_, "/a.slice/b.scope", r);
  ASSERT_TRUE(cgroup.ok()) << cgroup.status();
  EXPECT_EQ(cgroup->paths(), std::vector<std::string>{base_ + "/a.slice/b.scope"});
  const std::string scope = "/a.slice/b.scope/";
  EXPECT_EQ(Read(scope + "memory.max"), "1000");
  EXPECT_EQ(Read(scope + "memory.swap.max"), "500");
  EXPECT_EQ(Read(scope + "memory.low"), "500");
  EXPECT_EQ(Read(scope + "pids.max"), "104");
  EXPECT_EQ(Read(scope + "cpu.weight"), "39");
  EXPECT_EQ(Read(scope + "cpu.max"), "5000 20000");
  EXPECT_EQ(Read(scope + "cpuset.cpus"), "0-1");
  EXPECT_EQ(Read(scope + "hugetlb.2MB.max"), "0");
  // Each parent passes the controllers on, one write each of which a plain file keeps the last; the leaf has processes.
  EXPECT_EQ(Read("/cgroup.subtree_control"), "+cpuset");
  EXPECT_EQ(Read("/a.slice/cgroup.subtree_control"), "+cpuset");
  EXPECT_EQ(Read(scope + "cgroup.subtree_control"), "");
  ASSERT_TRUE(cgroup->Join(77).ok());
  EXPECT_EQ(Read(scope + "cgroup.procs"), "77");
  EXPECT_EQ(Read("/a.slice/cgroup.procs"), "");
  spec::Resources more;
  more.memory_limit = -1;
  more.cpu_quota = -1;
  ASSERT_TRUE(cgroup->Update(base_, more).ok());
  EXPECT_EQ(Read(scope + "memory.max").substr(0, 3), "max");
  EXPECT_EQ(Read(scope + "cpu.max").substr(0, 10), "max 100000");
  EXPECT_EQ(Read(scope + "pids.max"), "104");
}

TEST_F(UnifiedTest, AControllerThatIsMissingIsNamed) {
  unlink((base_ + "/a.slice/b.scope/pids.max").c_str());
  spec::Resources r;
  r.pids_limit = 10;
  auto cgroup = Cgroup::Create(base_, "/a.slice/b.scope", r);
  ASSERT_FALSE(cgroup.ok());
  EXPECT_NE(cgroup.status().message().find("/a.slice/b.scope/pids.max"), std::string::npos) << cgroup.status();
}

// The host's own second hierarchy, where it has one without controllers: the kernel makes and removes.
TEST(Unified, OfTheKernel) {
  const std::string base = "/sys/fs/cgroup/unified";
  if (!IsUnified(base) || geteuid() != 0 || access(base.c_str(), W_OK) != 0) GTEST_SKIP() << "no such hierarchy";
  const std::string path = "/runsc-cgroup-test-" + std::to_string(getpid()) + "/leaf";
  auto cgroup = Cgroup::Create(base, path, {});
  ASSERT_TRUE(cgroup.ok()) << cgroup.status();
  pid_t child = fork();
  if (child == 0) {
    pause();
    _exit(0);
  }
  EXPECT_TRUE(cgroup->Join(child).ok());
  std::ifstream procs(base + path + "/cgroup.procs");
  pid_t member = 0;
  procs >> member;
  EXPECT_EQ(member, child);
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  EXPECT_TRUE(cgroup->Remove().ok());
  struct stat st;
  EXPECT_NE(stat((base + path).c_str(), &st), 0);
  rmdir((base + path.substr(0, path.rfind('/'))).c_str());
}

}  // namespace
}  // namespace runsc
