// SPDX-License-Identifier: Apache-2.0
// Controllers of cgroups(7), both versions: pids, cpu, freezer, and named hierarchies.
#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <atomic>
#include <memory>
#include <vector>

#include "tests/syscalls/cgroup_util.h"

namespace {

std::string Pid(pid_t pid) { return std::to_string(pid); }

using PidsTest = ControllerTest;

TEST_P(PidsTest, ForkIsRefusedAtTheLimit) {
  USE("pids");
  Group group(path());
  EXPECT_EQ(group.Read("pids.max"), "max\n");
  EXPECT_EQ(group.Read("pids.current"), "0\n");
  ASSERT_EQ(group.Write("pids.max", "2"), 0);
  Fd events(open((group / "pids.events").c_str(), O_RDONLY | O_CLOEXEC));
  char text[64];
  ASSERT_GT(pread(events.get(), text, sizeof text, 0), 0);
  EXPECT_EQ(RunInChild([&] {
              CHILD_CHECK(group.Write("cgroup.procs", "0") == 0);
              CHILD_CHECK(group.Read("pids.current") == "1\n");
              Child one([] { pause(); });
              CHILD_CHECK(one.pid() > 0);
              CHILD_CHECK(group.Read("pids.current") == "2\n");
              CHILD_CHECK(fork() == -1 && errno == EAGAIN);
              pthread_t thread;
              CHILD_CHECK(pthread_create(
                              &thread, nullptr, [](void*) -> void* { return nullptr; }, nullptr) == EAGAIN);
            }),
            Exited(0));
  EXPECT_GE(ValueOf(group.Read("pids.events"), "max"), 2);
  if (v2()) {
    EXPECT_TRUE(PollFor(events.get(), POLLPRI, 20000)) << "v1 does not tell";
  }
  EXPECT_TRUE(Eventually([&] { return group.Read("pids.current") == "0\n"; }));
}

TEST_P(PidsTest, TheLimitAboveCounts) {
  USE("pids");
  Group group(path());
  ASSERT_OK(mkdir((group / "a").c_str(), 0755));
  if (v2()) {
    ASSERT_EQ(group.Write("cgroup.subtree_control", "+pids"), 0);
  }
  ASSERT_EQ(group.Write("pids.max", "1"), 0);
  EXPECT_EQ(RunInChild([&] {
              CHILD_CHECK(Store(group / "a/cgroup.procs", "0") == 0);
              CHILD_CHECK(group.Read("pids.current") == "1\n");
              CHILD_CHECK(ReadFile(group / "a/pids.max") == "max\n");
              CHILD_CHECK(fork() == -1 && errno == EAGAIN);
            }),
            Exited(0));
}

TEST_P(PidsTest, ZombiesCountAndMovesAreFree) {
  USE("pids");
  Group group(path());
  Event go;
  Child child([&] { go.Wait(); });
  Child other([] { pause(); });
  ASSERT_EQ(group.Write("cgroup.procs", Pid(child.pid())), 0);
  ASSERT_EQ(group.Write("pids.max", "0"), 0);
  EXPECT_EQ(group.Write("cgroup.procs", Pid(other.pid())), 0) << "over the limit by moving";
  EXPECT_EQ(group.Read("pids.current"), "2\n");
  go.Set();
  siginfo_t info;
  ASSERT_OK(waitid(P_PID, static_cast<id_t>(child.pid()), &info, WEXITED | WNOWAIT));
  EXPECT_EQ(group.Read("pids.current"), "2\n");
  EXPECT_EQ(child.Wait(), Exited(0));
  EXPECT_TRUE(Eventually([&] { return group.Read("pids.current") == "1\n"; }));
}

TEST_P(PidsTest, Values) {
  USE("pids");
  Group group(path());
  EXPECT_EQ(group.Write("pids.max", "-1"), EINVAL);
  EXPECT_EQ(group.Write("pids.max", "many"), EINVAL);
  EXPECT_EQ(group.Write("pids.max", ""), 0) << "an empty write does nothing";
  EXPECT_EQ(group.Write("pids.max", "4194305"), EINVAL);
  EXPECT_EQ(group.Write("pids.max", "4194304"), 0);
  EXPECT_EQ(group.Write("pids.max", " 0x10\n"), 0);
  EXPECT_EQ(group.Read("pids.max"), "16\n");
  EXPECT_EQ(group.Write("pids.max", "max"), 0);
  EXPECT_EQ(group.Read("pids.max"), "max\n");
}

TEST_P(PidsTest, CloneIntoAFullGroup) {
  USE("pids");
  if (!v2()) GTEST_SKIP() << "clone3 takes v2 groups only";
  Group group(path());
  ASSERT_EQ(group.Write("pids.max", "0"), 0);
  Fd directory(open(group.path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  clone_args args = {};
  args.flags = CLONE_INTO_CGROUP;
  args.exit_signal = SIGCHLD;
  args.cgroup = static_cast<uint64_t>(directory.get());
  EXPECT_FAILS(EAGAIN, syscall(SYS_clone3, &args, sizeof args));
}

INSTANTIATE_TEST_SUITE_P(V1, PidsTest, testing::Values(1));
INSTANTIATE_TEST_SUITE_P(V2, PidsTest, testing::Values(2));

struct Shared {
  std::atomic<uint64_t> counter{0};
  static Shared* Make() {
    void* page = mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return page == MAP_FAILED ? nullptr : new (page) Shared;
  }
};

class CpuTest : public ControllerTest {
 protected:
  // In microseconds.
  int SetQuota(const Group& group, long quota, long period) {
    if (v2()) return group.Write("cpu.max", std::to_string(quota) + " " + std::to_string(period));
    const int error = group.Write("cpu.cfs_period_us", std::to_string(period));
    return error ? error : group.Write("cpu.cfs_quota_us", std::to_string(quota));
  }
  long Stat(const Group& group, const std::string& key) { return ValueOf(group.Read("cpu.stat"), key); }
};

TEST_P(CpuTest, ABusyProcessGetsItsQuota) {
  USE("cpu");
  Group group(path());
  constexpr long kQuota = 10000, kPeriod = 50000;
  ASSERT_EQ(SetQuota(group, kQuota, kPeriod), 0);
  Shared* shared = Shared::Make();
  const pid_t pid = fork();
  if (pid == 0) {
    BoundChild();
    CHILD_CHECK(group.Write("cgroup.procs", "0") == 0);
    for (;;) shared->counter.fetch_add(1);
  }
  EXPECT_TRUE(Eventually([&] { return Stat(group, "nr_periods") >= 10 && Stat(group, "nr_throttled") >= 3; }));
  kill(pid, SIGKILL);
  rusage usage = {};
  int status;
  ASSERT_EQ(wait4(pid, &status, 0, &usage), pid) << "throttled or not, it dies";
  EXPECT_EQ(status, Killed(SIGKILL));
  const long used =
      (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000 + usage.ru_utime.tv_usec + usage.ru_stime.tv_usec;
  // By the number of periods, not by the clock. Twice: what one look comes late is paid back only later.
  EXPECT_LT(used, 2 * kQuota * (Stat(group, "nr_periods") + 2));
  EXPECT_GT(Stat(group, v2() ? "throttled_usec" : "throttled_time"), 0);
}

TEST_P(CpuTest, TheQuotaCanBeTakenAway) {
  USE("cpu");
  Group group(path());
  ASSERT_EQ(SetQuota(group, 1000, 1000000), 0);
  Shared* shared = Shared::Make();
  Child child([&] {
    CHILD_CHECK(group.Write("cgroup.procs", "0") == 0);
    for (;;) shared->counter.fetch_add(1);
  });
  ASSERT_TRUE(Eventually([&] { return Stat(group, "nr_throttled") >= 1; }));
  ASSERT_EQ(v2() ? group.Write("cpu.max", "max") : group.Write("cpu.cfs_quota_us", "-1"), 0);
  const uint64_t before = shared->counter;
  EXPECT_TRUE(Eventually([&] { return shared->counter > before + 1000; }));
}

TEST_P(CpuTest, TheQuotaAboveCountsAndLeavingHelps) {
  USE("cpu");
  Group group(path());
  ASSERT_OK(mkdir((group / "a").c_str(), 0755));
  ASSERT_EQ(SetQuota(group, 1000, 1000000), 0);
  Shared* shared = Shared::Make();
  Child child([&] {
    CHILD_CHECK(Store(group / "a/cgroup.procs", "0") == 0);
    for (;;) shared->counter.fetch_add(1);
  });
  ASSERT_TRUE(Eventually([&] { return Stat(group, "nr_throttled") >= 1; }));
  ASSERT_EQ(Store(path() + (v2() ? "/others/cgroup.procs" : "/cgroup.procs"), Pid(child.pid())), 0);
  const uint64_t before = shared->counter;
  EXPECT_TRUE(Eventually([&] { return shared->counter > before + 1000; }));
}

TEST_P(CpuTest, Values) {
  USE("cpu");
  Group group(path());
  if (v2()) {
    EXPECT_EQ(group.Read("cpu.max"), "max 100000\n");
    EXPECT_EQ(group.Read("cpu.weight"), "100\n");
    EXPECT_EQ(group.Write("cpu.max", "999"), EINVAL);
    EXPECT_EQ(group.Write("cpu.max", "10000 999"), EINVAL);
    EXPECT_EQ(group.Write("cpu.max", "10000 1000001"), EINVAL);
    EXPECT_EQ(group.Write("cpu.max", "often"), EINVAL);
    EXPECT_EQ(group.Write("cpu.max", "20000"), 0) << "the period stays";
    EXPECT_EQ(group.Read("cpu.max"), "20000 100000\n");
    EXPECT_EQ(group.Write("cpu.max", "max 50000"), 0);
    EXPECT_EQ(group.Read("cpu.max"), "max 50000\n");
    EXPECT_EQ(group.Write("cpu.weight", "0"), ERANGE);
    EXPECT_EQ(group.Write("cpu.weight", "10001"), ERANGE);
    EXPECT_EQ(group.Write("cpu.weight", "77"), 0);
    EXPECT_EQ(group.Read("cpu.weight"), "77\n");
    return;
  }
  EXPECT_EQ(group.Read("cpu.cfs_quota_us"), "-1\n");
  EXPECT_EQ(group.Read("cpu.cfs_period_us"), "100000\n");
  EXPECT_EQ(group.Read("cpu.shares"), "1024\n");
  EXPECT_EQ(group.Write("cpu.cfs_quota_us", "999"), EINVAL);
  EXPECT_EQ(group.Write("cpu.cfs_period_us", "999"), EINVAL);
  EXPECT_EQ(group.Write("cpu.cfs_period_us", "1000001"), EINVAL);
  EXPECT_EQ(group.Write("cpu.shares", "1"), 0);
  EXPECT_EQ(group.Read("cpu.shares"), "2\n");
  ASSERT_EQ(SetQuota(group, 20000, 100000), 0);
  ASSERT_OK(mkdir((group / "a").c_str(), 0755));
  EXPECT_EQ(Store(group / "a/cpu.cfs_quota_us", "30000"), EINVAL) << "more than the group above has";
  EXPECT_EQ(Store(group / "a/cpu.cfs_quota_us", "20000"), 0);
}

INSTANTIATE_TEST_SUITE_P(V1, CpuTest, testing::Values(1));
INSTANTIATE_TEST_SUITE_P(V2, CpuTest, testing::Values(2));

TEST(CgroupV1, Files) {
  Hierarchy pids("pids");
  ASSERT_TRUE(pids.ok()) << pids.why();
  Group group(pids.path());
  for (const char* name :
       {"cgroup.clone_children", "cgroup.procs", "notify_on_release", "pids.current", "pids.max", "tasks"})
    EXPECT_OK(access((group / name).c_str(), F_OK)) << name;
  EXPECT_FAILS(ENOENT, access((group / "cgroup.events").c_str(), F_OK));
}

TEST(CgroupV1, ThreadsMoveAlone) {
  Hierarchy pids("pids");
  ASSERT_TRUE(pids.ok()) << pids.why();
  Group group(pids.path());
  EXPECT_EQ(RunInChild([&] {
              const std::string before = PathIn("self", "pids");
              Event done;
              pthread_t thread;
              auto body = [](void* argument) -> void* {
                static_cast<Event*>(argument)->Wait();
                return nullptr;
              };
              CHILD_CHECK(pthread_create(&thread, nullptr, body, &done) == 0);
              CHILD_CHECK(group.Write("tasks", "0") == 0);
              CHILD_CHECK(group.Read("tasks") == Pid(getpid()) + "\n");
              CHILD_CHECK(group.Read("pids.current") == "1\n");
              CHILD_CHECK(PathIn("self", "pids") != before);
              done.Set();
              pthread_join(thread, nullptr);
            }),
            Exited(0));
}

TEST(CgroupV1, NamedHierarchy) {
  Hierarchy named("none,name=runsc-test");
  ASSERT_TRUE(named.ok()) << named.why();
  EXPECT_EQ(PathIn("self", "name=runsc-test"), "/");
  {
    Group group(named.path());
    EXPECT_EQ(RunInChild([&] {
                CHILD_CHECK(group.Write("cgroup.procs", "0") == 0);
                CHILD_CHECK(PathIn("self", "name=runsc-test") == group.name());
              }),
              Exited(0));
    Hierarchy again("none,name=runsc-test");
    ASSERT_TRUE(again.ok()) << again.why();
    EXPECT_OK(access((again.path() + group.name()).c_str(), F_OK)) << "the same one";
  }
}

// A hierarchy ends with its last mount, unless a group of it is still on its way out: then the end of a later one is
// its end. Nobody else on the machine is to find it.
TEST(CgroupV1, NamedHierarchyEnds) {
  const auto is_gone = [] { return PathIn("self", "name=runsc-test").empty(); };
  bool gone = is_gone();
  for (int round = 0; round < 8 && !gone; ++round) {
    { Hierarchy named("none,name=runsc-test"); }
    // The end takes a moment, in which another mount would revive it.
    for (int look = 0; look < 40 && !(gone = is_gone()); ++look) usleep(50'000);
  }
  EXPECT_TRUE(gone);
}

TEST(CgroupV1, MountOptions) {
  Hierarchy pids("pids");
  ASSERT_TRUE(pids.ok()) << pids.why();
  TempDir at;
  auto try_mount = [&](const char* options) { return mount("x", at.path().c_str(), "cgroup", 0, options); };
  EXPECT_FAILS(EINVAL, try_mount("nothing"));
  EXPECT_FAILS(EINVAL, try_mount("none"));
  EXPECT_FAILS(EINVAL, try_mount("none,pids,name=x"));
  EXPECT_FAILS(EINVAL, try_mount("all,pids"));
  EXPECT_FAILS(EINVAL, try_mount("name="));
  EXPECT_FAILS(EINVAL, try_mount("name=a b"));
  EXPECT_FAILS(EBUSY, try_mount("pids,name=other")) << "another hierarchy has it";
  EXPECT_FAILS(EINVAL, mount("x", at.path().c_str(), "cgroup2", 0, "pids"));
}

TEST(CgroupV1, Freezer) {
  Hierarchy freezer("freezer");
  ASSERT_TRUE(freezer.ok()) << freezer.why();
  Group group(freezer.path());
  Shared* shared = Shared::Make();
  Child child([&] {
    CHILD_CHECK(group.Write("cgroup.procs", "0") == 0);
    for (;;) shared->counter.fetch_add(1);
  });
  ASSERT_TRUE(Eventually([&] { return shared->counter > 0; }));
  EXPECT_EQ(group.Read("freezer.state"), "THAWED\n");
  EXPECT_EQ(group.Write("freezer.state", "COLD"), EINVAL);
  ASSERT_EQ(group.Write("freezer.state", "FROZEN"), 0);
  ASSERT_TRUE(Eventually([&] { return group.Read("freezer.state") == "FROZEN\n"; }));
  EXPECT_EQ(group.Read("freezer.self_freezing"), "1\n");
  EXPECT_EQ(group.Read("freezer.parent_freezing"), "0\n");
  const uint64_t before = shared->counter;
  for (int i = 0; i < 100; ++i) sched_yield();
  EXPECT_EQ(shared->counter, before);
  ASSERT_EQ(group.Write("freezer.state", "THAWED"), 0);
  EXPECT_TRUE(Eventually([&] { return shared->counter != before; }));
}

TEST(CgroupV1, CpuTimeIsCounted) {
  Hierarchy cpuacct("cpuacct");
  ASSERT_TRUE(cpuacct.ok()) << cpuacct.why();
  Group group(cpuacct.path());
  Shared* shared = Shared::Make();
  Child child([&] {
    CHILD_CHECK(group.Write("cgroup.procs", "0") == 0);
    for (;;) shared->counter.fetch_add(1);
  });
  EXPECT_TRUE(Eventually([&] { return std::stol(group.Read("cpuacct.usage")) > 50'000'000; }));
  EXPECT_TRUE(Eventually([&] { return ValueOf(group.Read("cpuacct.stat"), "user") > 0; }));
}

TEST(CgroupV1, TableOfControllers) {
  Hierarchy pids("pids");
  ASSERT_TRUE(pids.ok()) << pids.why();
  const std::string table = ReadFile("/proc/cgroups");
  EXPECT_EQ(table.find("#subsys_name\thierarchy\tnum_cgroups\tenabled\n"), 0u) << table;
  const size_t line = table.find("\npids\t");
  ASSERT_NE(line, std::string::npos);
  EXPECT_NE(table[line + 6], '0') << "in a v1 hierarchy";
}

}  // namespace
