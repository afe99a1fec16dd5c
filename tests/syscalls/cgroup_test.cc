// SPDX-License-Identifier: Apache-2.0
// cgroups(7), version 2: the tree, membership, events, stops, and cgroup_namespaces(7).
#include "tests/syscalls/cgroup_util.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/sched.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <atomic>
#include <sstream>

#ifndef CLONE_NEWCGROUP
#define CLONE_NEWCGROUP 0x02000000
#endif

namespace {

class CgroupTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!v2_.ok()) FAIL() << v2_.why();
  }
  Hierarchy v2_{""};
};

std::string Pid(pid_t pid) { return std::to_string(pid); }

// Something that every process of the test sees.
struct Shared {
  std::atomic<uint64_t> counter{0};
  static Shared* Make() {
    void* page = mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return page == MAP_FAILED ? nullptr : new (page) Shared;
  }
};

// Until it is killed.
void Count(Shared* shared) {
  for (;;) shared->counter.fetch_add(1);
}

long Clone3(clone_args& args, size_t size = sizeof(clone_args)) { return syscall(SYS_clone3, &args, size); }

pid_t CloneInto(int directory, const std::function<void()>& body) {
  clone_args args = {};
  args.flags = CLONE_INTO_CGROUP;
  args.exit_signal = SIGCHLD;
  args.cgroup = static_cast<uint64_t>(directory);
  const long pid = Clone3(args);
  if (pid == 0) {
    BoundChild();
    body();
    _exit(0);
  }
  return static_cast<pid_t>(pid);
}

TEST_F(CgroupTest, FilesOfAGroup) {
  Group group(v2_.path());
  for (const char* name : {"cgroup.controllers", "cgroup.events", "cgroup.freeze", "cgroup.kill", "cgroup.max.depth",
                           "cgroup.max.descendants", "cgroup.procs", "cgroup.stat", "cgroup.subtree_control",
                           "cgroup.threads", "cgroup.type", "cpu.stat"}) {
    EXPECT_OK(access((group / name).c_str(), F_OK)) << name;
  }
  EXPECT_EQ(group.Read("cgroup.type"), "domain\n");
  EXPECT_EQ(group.Read("cgroup.procs"), "");
  EXPECT_EQ(group.Read("cgroup.subtree_control"), "") << "no controller";
  EXPECT_EQ(group.Read("cgroup.max.depth"), "max\n");
  EXPECT_EQ(group.Read("cgroup.freeze"), "0\n");
  EXPECT_EQ(ValueOf(group.Read("cgroup.events"), "populated"), 0);
  EXPECT_EQ(ValueOf(group.Read("cgroup.events"), "frozen"), 0);
  struct stat st;
  ASSERT_OK(stat((group / "cgroup.procs").c_str(), &st));
  EXPECT_EQ(st.st_mode, S_IFREG | 0644u);
  ASSERT_OK(stat((group / "cgroup.kill").c_str(), &st));
  EXPECT_EQ(st.st_mode, S_IFREG | 0200u);
  EXPECT_FAILS(EEXIST, mkdir(group.path().c_str(), 0755));
  EXPECT_FAILS(EPERM, unlink((group / "cgroup.procs").c_str()));
  EXPECT_FAILS(EACCES, open((group / "file").c_str(), O_CREAT | O_WRONLY, 0644));
  EXPECT_FAILS(EINVAL, mkdir((group / "a\nb").c_str(), 0755));
}

TEST_F(CgroupTest, ChildrenKeepAGroup) {
  Group group(v2_.path());
  ASSERT_OK(mkdir((group / "a").c_str(), 0755));
  ASSERT_OK(mkdir((group / "a/b").c_str(), 0755));
  EXPECT_EQ(ValueOf(group.Read("cgroup.stat"), "nr_descendants"), 2);
  EXPECT_FAILS(EBUSY, rmdir((group / "a").c_str()));
  EXPECT_OK(rmdir((group / "a/b").c_str()));
  EXPECT_OK(rmdir((group / "a").c_str()));
  EXPECT_FAILS(ENOENT, access((group / "a").c_str(), F_OK));
  EXPECT_EQ(ValueOf(group.Read("cgroup.stat"), "nr_descendants"), 0);
}

TEST_F(CgroupTest, ProcessesMove) {
  Group group(v2_.path());
  Child child([] { pause(); });
  EXPECT_EQ(group.Write("cgroup.procs", Pid(child.pid())), 0);
  EXPECT_EQ(group.Read("cgroup.procs"), Pid(child.pid()) + "\n");
  EXPECT_EQ(group.Read("cgroup.threads"), Pid(child.pid()) + "\n");
  EXPECT_EQ(PathIn(Pid(child.pid()), ""), group.name());
  EXPECT_FAILS(EBUSY, rmdir(group.path().c_str()));
  EXPECT_EQ(group.Write("cgroup.procs", "x"), EINVAL);
  EXPECT_EQ(group.Write("cgroup.procs", "-1"), EINVAL);
  EXPECT_EQ(group.Write("cgroup.procs", "4194303"), ESRCH);
  EXPECT_EQ(group.Write("cgroup.procs", Pid(child.pid()) + "\n"), 0) << "again, with a line's end";
}

TEST_F(CgroupTest, ZeroIsTheWriterAndChildrenInherit) {
  Group group(v2_.path());
  EXPECT_EQ(RunInChild([&] {
              CHILD_CHECK(group.Write("cgroup.procs", "0") == 0);
              CHILD_CHECK(PathIn("self", "") == group.name());
              CHILD_CHECK(RunInChild([&] { CHILD_CHECK(PathIn("self", "") == group.name()); }) == Exited(0));
            }),
            Exited(0));
  EXPECT_TRUE(Eventually([&] { return group.Read("cgroup.procs").empty(); }));
}

TEST_F(CgroupTest, ThreadsMoveWithTheirProcess) {
  Group group(v2_.path());
  EXPECT_EQ(RunInChild([&] {
              Event started, done;
              pthread_t thread;
              std::pair<Event*, Event*> events(&started, &done);
              auto body = [](void* argument) -> void* {
                auto& both = *static_cast<std::pair<Event*, Event*>*>(argument);
                both.first->Set();
                both.second->Wait();
                return nullptr;
              };
              CHILD_CHECK(pthread_create(&thread, nullptr, body, &events) == 0);
              CHILD_CHECK(started.Wait());
              CHILD_CHECK(group.Write("cgroup.procs", "0") == 0);
              CHILD_CHECK(group.Read("cgroup.procs") == Pid(getpid()) + "\n");
              std::istringstream ids(group.Read("cgroup.threads"));
              int count = 0;
              for (pid_t id; ids >> id;) ++count;
              CHILD_CHECK(count == 2);
              done.Set();
              pthread_join(thread, nullptr);
            }),
            Exited(0));
}

TEST_F(CgroupTest, PopulatedIsTold) {
  Group group(v2_.path());
  Fd events(open((group / "cgroup.events").c_str(), O_RDONLY | O_CLOEXEC));
  ASSERT_TRUE(events.ok());
  char text[64];
  ASSERT_GT(pread(events.get(), text, sizeof text, 0), 0);
  EXPECT_FALSE(PollFor(events.get(), POLLPRI, 0));
  Child child([] { pause(); });
  ASSERT_EQ(group.Write("cgroup.procs", Pid(child.pid())), 0);
  EXPECT_TRUE(PollFor(events.get(), POLLPRI, 20000));
  EXPECT_EQ(ValueOf(group.Read("cgroup.events"), "populated"), 1);
  ASSERT_GT(pread(events.get(), text, sizeof text, 0), 0);
  EXPECT_FALSE(PollFor(events.get(), POLLPRI, 0)) << "read means seen";
  child.Kill(SIGKILL);
  EXPECT_TRUE(PollFor(events.get(), POLLPRI, 20000));
  child.Wait();
  EXPECT_EQ(ValueOf(group.Read("cgroup.events"), "populated"), 0);
}

TEST_F(CgroupTest, PopulatedIsSeenByInotifyAndAbove) {
  Group group(v2_.path());
  ASSERT_OK(mkdir((group / "a").c_str(), 0755));
  Fd watcher(inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  ASSERT_OK(inotify_add_watch(watcher.get(), (group / "cgroup.events").c_str(), IN_MODIFY));
  Child child([] { pause(); });
  ASSERT_EQ(Store(group / "a/cgroup.procs", Pid(child.pid())), 0);
  EXPECT_TRUE(PollFor(watcher.get(), POLLIN, 20000));
  inotify_event event;
  ASSERT_EQ(read(watcher.get(), &event, sizeof event), static_cast<ssize_t>(sizeof event));
  EXPECT_EQ(event.mask, static_cast<uint32_t>(IN_MODIFY));
  EXPECT_EQ(ValueOf(group.Read("cgroup.events"), "populated"), 1);
  EXPECT_EQ(group.Read("cgroup.procs"), "") << "own processes only";
}

TEST_F(CgroupTest, AZombieKeepsNoGroup) {
  Group group(v2_.path());
  Event go;
  Child child([&] { go.Wait(); });
  ASSERT_EQ(group.Write("cgroup.procs", Pid(child.pid())), 0);
  go.Set();
  siginfo_t info;
  ASSERT_OK(waitid(P_PID, static_cast<id_t>(child.pid()), &info, WEXITED | WNOWAIT));
  EXPECT_EQ(ValueOf(group.Read("cgroup.events"), "populated"), 0);
  EXPECT_EQ(group.Read("cgroup.procs"), "");
  EXPECT_OK(rmdir(group.path().c_str()));
  EXPECT_EQ(PathIn(Pid(child.pid()), ""), group.name() + " (deleted)");
  EXPECT_EQ(child.Wait(), Exited(0));
}

TEST_F(CgroupTest, RemovedGroup) {
  Group group(v2_.path());
  ASSERT_OK(mkdir((group / "a").c_str(), 0755));
  Fd procs(open((group / "a/cgroup.procs").c_str(), O_RDWR | O_CLOEXEC));
  Fd directory(open((group / "a").c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  ASSERT_TRUE(procs.ok() && directory.ok());
  ASSERT_OK(rmdir((group / "a").c_str()));
  char c;
  EXPECT_FAILS(ENODEV, read(procs.get(), &c, 1));
  EXPECT_FAILS(ENODEV, write(procs.get(), "0", 1));
  EXPECT_FAILS(ENOENT, mkdirat(directory.get(), "b", 0755));
  EXPECT_FAILS(ENOENT, CloneInto(directory.get(), [] {}));
}

TEST_F(CgroupTest, KillEndsAllBelow) {
  Group group(v2_.path());
  ASSERT_OK(mkdir((group / "a").c_str(), 0755));
  Child one([] {
    signal(SIGTERM, SIG_IGN);
    for (;;) pause();
  });
  Child two([] { pause(); });
  ASSERT_EQ(group.Write("cgroup.procs", Pid(one.pid())), 0);
  ASSERT_EQ(Store(group / "a/cgroup.procs", Pid(two.pid())), 0);
  EXPECT_EQ(group.Write("cgroup.kill", "0"), ERANGE);
  EXPECT_EQ(group.Write("cgroup.kill", "x"), EINVAL);
  EXPECT_EQ(group.Write("cgroup.kill", "1"), 0);
  EXPECT_EQ(one.Wait(), Killed(SIGKILL));
  EXPECT_EQ(two.Wait(), Killed(SIGKILL));
  EXPECT_EQ(ValueOf(group.Read("cgroup.events"), "populated"), 0);
}

TEST_F(CgroupTest, FrozenProcessesStandStill) {
  Group group(v2_.path());
  Shared* shared = Shared::Make();
  ASSERT_NE(shared, nullptr);
  Child child([&] { Count(shared); });
  ASSERT_EQ(group.Write("cgroup.procs", Pid(child.pid())), 0);
  ASSERT_TRUE(Eventually([&] { return shared->counter > 0; }));
  Fd events(open((group / "cgroup.events").c_str(), O_RDONLY | O_CLOEXEC));
  EXPECT_EQ(group.Write("cgroup.freeze", "2"), ERANGE);
  ASSERT_EQ(group.Write("cgroup.freeze", "1"), 0);
  ASSERT_TRUE(Eventually([&] { return ValueOf(group.Read("cgroup.events"), "frozen") == 1; }));
  const uint64_t before = shared->counter;
  for (int i = 0; i < 100; ++i) sched_yield();
  EXPECT_EQ(shared->counter, before);
  EXPECT_EQ(group.Read("cgroup.freeze"), "1\n");
  ASSERT_EQ(group.Write("cgroup.freeze", "0"), 0);
  EXPECT_TRUE(Eventually([&] { return shared->counter != before; }));
  EXPECT_EQ(ValueOf(group.Read("cgroup.events"), "frozen"), 0);
}

TEST_F(CgroupTest, AFrozenSleeperGoesOnAfterwards) {
  Group group(v2_.path());
  Pipe data, answer;
  Child child([&] {
    char c;
    CHILD_CHECK(write(answer.w.get(), "r", 1) == 1);
    CHILD_CHECK(read(data.r.get(), &c, 1) == 1);
    CHILD_CHECK(write(answer.w.get(), &c, 1) == 1);
    pause();
  });
  char c;
  ASSERT_EQ(read(answer.r.get(), &c, 1), 1);
  ASSERT_OK(mkdir((group / "a").c_str(), 0755));
  ASSERT_EQ(Store(group / "a/cgroup.procs", Pid(child.pid())), 0);
  ASSERT_EQ(group.Write("cgroup.freeze", "1"), 0);
  ASSERT_TRUE(Eventually([&] { return ValueOf(ReadFile(group / "a/cgroup.events"), "frozen") == 1; }));
  EXPECT_EQ(ReadFile(group / "a/cgroup.freeze"), "0\n") << "asked for above";
  ASSERT_EQ(write(data.w.get(), "x", 1), 1);
  for (int i = 0; i < 100; ++i) sched_yield();
  EXPECT_FALSE(PollFor(answer.r.get(), POLLIN, 0));
  ASSERT_EQ(group.Write("cgroup.freeze", "0"), 0);
  ASSERT_EQ(read(answer.r.get(), &c, 1), 1);
  EXPECT_EQ(c, 'x');
}

TEST_F(CgroupTest, AFrozenProcessDiesButHandlesNothing) {
  Group group(v2_.path());
  ASSERT_EQ(group.Write("cgroup.freeze", "1"), 0);
  Pipe ready;
  Child child([&] {
    signal(SIGTERM, [](int) { _exit(7); });
    CHILD_CHECK(write(ready.w.get(), "x", 1) == 1);
    for (;;) pause();
  });
  ASSERT_TRUE(PollFor(ready.r.get(), POLLIN, 20000));
  ASSERT_EQ(group.Write("cgroup.procs", Pid(child.pid())), 0);
  ASSERT_TRUE(Eventually([&] { return ValueOf(group.Read("cgroup.events"), "frozen") == 1; }));
  ASSERT_OK(child.Kill(SIGTERM));
  for (int i = 0; i < 100; ++i) sched_yield();
  siginfo_t info = {};
  ASSERT_OK(waitid(P_PID, static_cast<id_t>(child.pid()), &info, WEXITED | WNOHANG | WNOWAIT));
  EXPECT_EQ(info.si_pid, 0);
  // Fatal by default: at once, like SIGKILL.
  ASSERT_OK(child.Kill(SIGUSR1));
  EXPECT_EQ(child.Wait(), Killed(SIGUSR1));
}

TEST_F(CgroupTest, ForkIntoAFrozenGroupAndOut) {
  Group group(v2_.path());
  ASSERT_EQ(group.Write("cgroup.freeze", "1"), 0);
  Fd directory(open(group.path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  Pipe answer;
  const pid_t pid = CloneInto(directory.get(), [&] { (void)!write(answer.w.get(), "x", 1); });
  ASSERT_OK(pid);
  ASSERT_TRUE(Eventually([&] { return ValueOf(group.Read("cgroup.events"), "frozen") == 1; }));
  EXPECT_FALSE(PollFor(answer.r.get(), POLLIN, 0));
  EXPECT_EQ(Store(v2_ / "cgroup.procs", Pid(pid)), 0);
  EXPECT_TRUE(PollFor(answer.r.get(), POLLIN, 20000)) << "it thaws as it leaves";
  EXPECT_EQ(WaitStatus(pid), Exited(0));
}

TEST_F(CgroupTest, LimitsOfTheTree) {
  Group group(v2_.path());
  EXPECT_EQ(group.Write("cgroup.max.depth", "-1"), ERANGE);
  EXPECT_EQ(group.Write("cgroup.max.depth", "many"), EINVAL);
  ASSERT_EQ(group.Write("cgroup.max.depth", "1"), 0);
  EXPECT_EQ(group.Read("cgroup.max.depth"), "1\n");
  ASSERT_OK(mkdir((group / "a").c_str(), 0755));
  EXPECT_FAILS(EAGAIN, mkdir((group / "a/b").c_str(), 0755));
  ASSERT_EQ(group.Write("cgroup.max.depth", "max"), 0);
  ASSERT_EQ(group.Write("cgroup.max.descendants", "2"), 0);
  ASSERT_OK(mkdir((group / "a/b").c_str(), 0755));
  EXPECT_FAILS(EAGAIN, mkdir((group / "c").c_str(), 0755));
  ASSERT_OK(rmdir((group / "a/b").c_str()));
  EXPECT_OK(mkdir((group / "c").c_str(), 0755));
}

TEST_F(CgroupTest, ThreadedGroups) {
  Group group(v2_.path());
  ASSERT_OK(mkdir((group / "a").c_str(), 0755));
  ASSERT_OK(mkdir((group / "b").c_str(), 0755));
  EXPECT_EQ(Store(group / "a/cgroup.type", "domain"), EINVAL);
  ASSERT_EQ(Store(group / "a/cgroup.type", "threaded"), 0);
  EXPECT_EQ(ReadFile(group / "a/cgroup.type"), "threaded\n");
  EXPECT_EQ(group.Read("cgroup.type"), "domain threaded\n");
  EXPECT_EQ(ReadFile(group / "b/cgroup.type"), "domain invalid\n");
  Fd procs(open((group / "a/cgroup.procs").c_str(), O_RDONLY | O_CLOEXEC));
  char c;
  EXPECT_FAILS(EOPNOTSUPP, read(procs.get(), &c, 1));
  EXPECT_EQ(RunInChild([&] {
              CHILD_CHECK(Store(group / "b/cgroup.procs", "0") == EOPNOTSUPP);
              CHILD_CHECK(Store(group / "a/cgroup.threads", "0") == EOPNOTSUPP);  // from another domain
              CHILD_CHECK(group.Write("cgroup.procs", "0") == 0);
              CHILD_CHECK(Store(group / "a/cgroup.threads", "0") == 0);
              CHILD_CHECK(PathIn("self", "") == group.name() + "/a");
              CHILD_CHECK(group.Read("cgroup.procs") == Pid(getpid()) + "\n");
              CHILD_CHECK(group.Read("cgroup.threads").empty());
            }),
            Exited(0));
  EXPECT_EQ(Store(group / "a/cgroup.kill", "1"), EOPNOTSUPP);
}

TEST_F(CgroupTest, SubtreeControlTakesOnlyWhatThereIs) {
  Group group(v2_.path());
  EXPECT_EQ(group.Write("cgroup.subtree_control", "+nothing"), EINVAL);
  EXPECT_EQ(group.Write("cgroup.subtree_control", "pids"), EINVAL);
  EXPECT_EQ(group.Read("cgroup.controllers"), "");
  // Known, but not handed down to this group: ENOENT; where a v1 hierarchy has it the same.
  EXPECT_EQ(group.Write("cgroup.subtree_control", "+pids"), ENOENT);
  EXPECT_EQ(group.Write("cgroup.subtree_control", "-pids"), 0);
}

TEST_F(CgroupTest, CpuTimeIsCounted) {
  Group group(v2_.path());
  const long before = ValueOf(group.Read("cpu.stat"), "usage_usec");
  EXPECT_EQ(before, 0);
  Shared* shared = Shared::Make();
  {
    Child child([&] { Count(shared); });
    ASSERT_EQ(group.Write("cgroup.procs", Pid(child.pid())), 0);
    EXPECT_TRUE(Eventually([&] { return ValueOf(group.Read("cpu.stat"), "user_usec") > 20000; }));
  }
  const std::string stat = group.Read("cpu.stat");
  EXPECT_GT(ValueOf(stat, "usage_usec"), 20000) << "it stays after the end of the process";
  EXPECT_NEAR(static_cast<double>(ValueOf(stat, "usage_usec")),
              static_cast<double>(ValueOf(stat, "user_usec") + ValueOf(stat, "system_usec")), 1);
}

TEST_F(CgroupTest, CloneIntoAGroup) {
  Group group(v2_.path());
  Fd directory(open(group.path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  pid_t pid = CloneInto(directory.get(), [&] { CHILD_CHECK(PathIn("self", "") == group.name()); });
  ASSERT_OK(pid);
  EXPECT_EQ(WaitStatus(pid), Exited(0));
  Fd as_path(open(group.path().c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  pid = CloneInto(as_path.get(), [&] { CHILD_CHECK(PathIn("self", "") == group.name()); });
  EXPECT_EQ(WaitStatus(pid), Exited(0));
  Fd file(open((group / "cgroup.procs").c_str(), O_RDONLY | O_CLOEXEC));
  EXPECT_FAILS(EBADF, CloneInto(file.get(), [] {}));
  Fd elsewhere(open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  EXPECT_FAILS(EBADF, CloneInto(elsewhere.get(), [] {}));
  EXPECT_FAILS(EBADF, CloneInto(INT_MAX, [] {}));
  clone_args args = {};
  args.flags = CLONE_INTO_CGROUP;
  args.exit_signal = SIGCHLD;
  args.cgroup = static_cast<uint64_t>(directory.get());
  EXPECT_FAILS(EINVAL, Clone3(args, 80)) << "without the field";
  args.cgroup = uint64_t{INT_MAX} + 1;
  EXPECT_FAILS(EINVAL, Clone3(args));
}

TEST_F(CgroupTest, OthersMayNotMoveProcesses) {
  Group group(v2_.path());
  ASSERT_OK(mkdir((group / "mine").c_str(), 0755));
  for (const char* name : {"mine", "mine/cgroup.procs", "mine/cgroup.threads"})
    ASSERT_OK(chown((group / name).c_str(), 1000, 1000));
  EXPECT_EQ(RunInChild([&] {
              CHILD_CHECK(group.Write("cgroup.procs", "0") == 0);
              CHILD_CHECK(setresgid(1000, 1000, 1000) == 0 && setresuid(1000, 1000, 1000) == 0);
              CHILD_CHECK(group.Write("cgroup.procs", "0") == EACCES);
              CHILD_CHECK(mkdir((group / "b").c_str(), 0755) == -1 && errno == EACCES);
              // Its own group, but it may not take a process out of the one above.
              CHILD_CHECK(Store(group / "mine/cgroup.procs", "0") == EACCES);
              CHILD_CHECK(mkdir((group / "mine/a").c_str(), 0755) == 0);
              struct stat st;
              CHILD_CHECK(stat((group / "mine/a/cgroup.procs").c_str(), &st) == 0 && st.st_uid == 1000);
            }),
            Exited(0));
  EXPECT_EQ(RunInChild([&] {
              CHILD_CHECK(Store(group / "mine/cgroup.procs", "0") == 0);
              CHILD_CHECK(setresgid(1000, 1000, 1000) == 0 && setresuid(1000, 1000, 1000) == 0);
              CHILD_CHECK(Store(group / "mine/a/cgroup.procs", "0") == 0);
              CHILD_CHECK(Store(group / "mine/cgroup.procs", "0") == 0);
              CHILD_CHECK(rmdir((group / "mine/a").c_str()) == 0);
            }),
            Exited(0));
}

// The fourth and the fifth field of the mount at `at`.
std::pair<std::string, std::string> RootOfMount(const std::string& at) {
  std::istringstream lines(ReadFile("/proc/self/mountinfo"));
  for (std::string line; std::getline(lines, line);) {
    std::istringstream fields(line);
    std::string id, parent, device, root, where, options, dash, type;
    fields >> id >> parent >> device >> root >> where >> options;
    if (where != at) continue;
    while (fields >> dash && dash != "-") {
    }
    fields >> type;
    return {root, type};
  }
  return {};
}

TEST_F(CgroupTest, NamespaceShowsItsOwnPart) {
  Group group(v2_.path());
  ASSERT_OK(mkdir((group / "a").c_str(), 0755));
  Event ready, done;
  Child outside([] { pause(); });
  Child child([&] {
    CHILD_CHECK(group.Write("cgroup.procs", "0") == 0);
    char before[64], after[64];
    ssize_t length = readlink("/proc/self/ns/cgroup", before, sizeof before);
    CHILD_CHECK(unshare(CLONE_NEWCGROUP) == 0);
    CHILD_CHECK(readlink("/proc/self/ns/cgroup", after, sizeof after) > 0 &&
                memcmp(before, after, static_cast<size_t>(length)) != 0);
    CHILD_CHECK(PathIn("self", "") == "/");
    CHILD_CHECK(PathIn(Pid(outside.pid()), "") == "/..");
    CHILD_CHECK(RootOfMount(v2_.path()).first == "/..");
    Hierarchy inside("");
    CHILD_CHECK(inside.ok());
    CHILD_CHECK(RootOfMount(inside.path()) == std::make_pair(std::string("/"), std::string("cgroup2")));
    CHILD_CHECK(ReadFile(inside / "cgroup.type") == "domain\n");
    CHILD_CHECK(access((inside / "a").c_str(), F_OK) == 0);
    CHILD_CHECK(Store(inside / "a/cgroup.procs", "0") == 0);
    CHILD_CHECK(PathIn("self", "") == "/a");
    // A child of the namespace is in it.
    CHILD_CHECK(RunInChild([] { CHILD_CHECK(PathIn("self", "") == "/a"); }) == Exited(0));
    ready.Set();
    CHILD_CHECK(done.Wait());
  });
  ASSERT_TRUE(ready.Wait());
  EXPECT_EQ(PathIn(Pid(child.pid()), ""), group.name() + "/a") << "from outside";
  EXPECT_EQ(RunInChild([&] {
              Fd ns(open(("/proc/" + Pid(child.pid()) + "/ns/cgroup").c_str(), O_RDONLY | O_CLOEXEC));
              CHILD_CHECK(setns(ns.get(), CLONE_NEWUTS) == -1 && errno == EINVAL);
              CHILD_CHECK(setns(ns.get(), CLONE_NEWCGROUP) == 0);
              CHILD_CHECK(PathIn(Pid(child.pid()), "") == "/a");
              CHILD_CHECK(PathIn("self", "") == "/..");
            }),
            Exited(0));
  done.Set();
  EXPECT_EQ(child.Wait(), Exited(0));
}

TEST_F(CgroupTest, NamespaceNeedsPrivilege) {
  EXPECT_EQ(RunInChild([] {
              CHILD_CHECK(setresuid(1000, 1000, 1000) == 0);
              CHILD_CHECK(unshare(CLONE_NEWCGROUP) == -1 && errno == EPERM);
            }),
            Exited(0));
}

}  // namespace
