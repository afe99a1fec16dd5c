// SPDX-License-Identifier: Apache-2.0
// fork, vfork, clone, clone3: what a child shares with its parent, and how processes are reparented.
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>

#include <vector>

#include "tests/syscalls/util.h"

namespace {

constexpr size_t kStack = 256 << 10;

// clone(2) with a fresh stack; the child runs fn(arg) and is bounded only by what it does.
class Stack {
 public:
  Stack() : base_(mmap(nullptr, kStack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)) {}
  ~Stack() { munmap(base_, kStack); }
  void* top() { return static_cast<char*>(base_) + kStack; }

 private:
  void* base_;
};

pid_t Clone3(clone_args* args) { return syscall(SYS_clone3, args, sizeof *args); }

TEST(Fork, ReturnsChildPidAndZero) {
  Pipe p;
  Child child([&] {
    pid_t me = getpid();
    CHILD_CHECK(write(p.w.get(), &me, sizeof me) == sizeof me);
  });
  pid_t got = 0;
  ASSERT_EQ(ssize_t{sizeof got}, read(p.r.get(), &got, sizeof got));
  EXPECT_EQ(child.pid(), got);
  EXPECT_EQ(Exited(0), child.Wait());
}

TEST(Fork, ChildSeesParentAsGetppid) {
  pid_t parent = getpid();
  EXPECT_EQ(Exited(0), RunInChild([&] { CHILD_CHECK(getppid() == parent); }));
}

TEST(Fork, MemoryIsCopiedOnWrite) {
  volatile int value = 1;
  EXPECT_EQ(Exited(0), RunInChild([&] {
              CHILD_CHECK(value == 1);
              value = 2;
              CHILD_CHECK(value == 2);
            }));
  EXPECT_EQ(1, value);
}

TEST(Fork, ParentWriteIsInvisibleToChild) {
  volatile int value = 1;
  Event written;
  Child child([&] {
    CHILD_CHECK(written.Wait());
    CHILD_CHECK(value == 1);
  });
  value = 2;
  written.Set();
  EXPECT_EQ(Exited(0), child.Wait());
}

TEST(Fork, FileOffsetIsShared) {
  TempDir dir;
  Fd fd(open((dir / "f").c_str(), O_RDWR | O_CREAT, 0600));
  ASSERT_EQ(6, write(fd.get(), "abcdef", 6));
  ASSERT_OK(lseek(fd.get(), 0, SEEK_SET));
  EXPECT_EQ(Exited(0), RunInChild([&] {
              char c[2];
              CHILD_CHECK(read(fd.get(), c, 2) == 2);
            }));
  EXPECT_EQ(2, lseek(fd.get(), 0, SEEK_CUR));
}

TEST(Fork, DescriptorTableIsCopied) {
  Pipe p;
  EXPECT_EQ(Exited(0), RunInChild([&] { CHILD_CHECK(close(p.w.get()) == 0); }));
  EXPECT_OK(fcntl(p.w.get(), F_GETFD));
}

TEST(Fork, PendingSignalsAreNotInherited) {
  ScopedBlock block({SIGUSR1});
  raise(SIGUSR1);
  EXPECT_EQ(Exited(0), RunInChild([] {
              sigset_t pending, mask;
              CHILD_CHECK(sigpending(&pending) == 0);
              CHILD_CHECK(!sigismember(&pending, SIGUSR1));
              CHILD_CHECK(sigprocmask(SIG_BLOCK, nullptr, &mask) == 0);
              CHILD_CHECK(sigismember(&mask, SIGUSR1));
            }));
  timespec zero = {};
  sigset_t set = SetOf({SIGUSR1});
  EXPECT_EQ(SIGUSR1, sigtimedwait(&set, nullptr, &zero));
}

TEST(Fork, IntervalTimersAreNotInherited) {
  itimerval t = {{0, 0}, {1000, 0}}, off = {};
  ASSERT_OK(setitimer(ITIMER_VIRTUAL, &t, nullptr));
  EXPECT_EQ(Exited(0), RunInChild([] {
              itimerval got;
              CHILD_CHECK(getitimer(ITIMER_VIRTUAL, &got) == 0);
              CHILD_CHECK(got.it_value.tv_sec == 0 && got.it_value.tv_usec == 0);
            }));
  ASSERT_OK(setitimer(ITIMER_VIRTUAL, &off, nullptr));
}

TEST(Fork, InheritsCwdUmaskAndLimits) {
  TempDir dir;
  EXPECT_EQ(
      Exited(0), RunInChild([&] {
        CHILD_CHECK(chdir(dir.path().c_str()) == 0);
        umask(0137);
        rlimit rl = {100, 200};
        CHILD_CHECK(setrlimit(RLIMIT_NOFILE, &rl) == 0);
        CHILD_CHECK(RunInChild([&] {
                      char cwd[4096];
                      CHILD_CHECK(getcwd(cwd, sizeof cwd) && dir.path() == cwd);
                      CHILD_CHECK(umask(0) == 0137);
                      rlimit got;
                      CHILD_CHECK(getrlimit(RLIMIT_NOFILE, &got) == 0 && got.rlim_cur == 100 && got.rlim_max == 200);
                    }) == Exited(0));
      }));
}

TEST(Fork, EagainAtNprocLimitForUnprivileged) {
  EXPECT_EQ(Exited(0), RunInChild([] {
              // A uid nobody else uses, so that its process count is known.
              CHILD_CHECK(setresuid(54321, 54321, 54321) == 0);
              rlimit rl = {1, 1};
              CHILD_CHECK(setrlimit(RLIMIT_NPROC, &rl) == 0);
              pid_t pid = fork();
              if (pid == 0) _exit(0);
              CHILD_CHECK(pid == -1 && errno == EAGAIN);
            }));
}

TEST(Fork, HundredForkAndExec) {
  for (int i = 0; i < 100; ++i) {
    pid_t pid = fork();
    if (pid == 0) {
      BoundChild();
      execl("/bin/true", "true", nullptr);
      _exit(127);
    }
    ASSERT_GT(pid, 0);
    ASSERT_EQ(Exited(0), WaitStatus(pid)) << "iteration " << i;
  }
}

TEST(Fork, ManyChildrenAtOnce) {
  constexpr int kCount = 50;
  Pipe gate;
  std::vector<pid_t> pids;
  for (int i = 0; i < kCount; ++i) {
    pid_t pid = fork();
    if (pid == 0) {
      BoundChild();
      gate.w.reset();
      char c;
      _exit(read(gate.r.get(), &c, 1) == 0 ? i : 101);
    }
    ASSERT_GT(pid, 0);
    pids.push_back(pid);
  }
  gate.w.reset();
  for (int i = 0; i < kCount; ++i) EXPECT_EQ(Exited(i), WaitStatus(pids[i]));
}

TEST(Vfork, SharesMemoryAndSuspendsParentUntilExit) {
  volatile int value = 1;
  // By the raw call: a child that only stores and exits keeps within what vfork allows.
  pid_t pid = vfork();
  if (pid == 0) {
    value = 2;
    _exit(7);
  }
  ASSERT_GT(pid, 0);
  EXPECT_EQ(2, value);
  EXPECT_EQ(Exited(7), WaitStatus(pid));
}

TEST(Vfork, ParentResumesAtExec) {
  Pipe p;
  pid_t pid = vfork();
  if (pid == 0) {
    dup2(p.r.get(), 0);
    close(p.w.get());
    execl("/bin/cat", "cat", nullptr);
    _exit(127);
  }
  ASSERT_GT(pid, 0);
  // cat only ends once the parent, which therefore runs, closes the pipe.
  p.w.reset();
  EXPECT_EQ(Exited(0), WaitStatus(pid));
}

TEST(Clone, VmSharesMemory) {
  Stack stack;
  volatile int value = 1;
  auto fn = [](void* arg) {
    *static_cast<volatile int*>(arg) = 42;
    return 3;
  };
  pid_t pid = clone(fn, stack.top(), CLONE_VM | SIGCHLD, const_cast<int*>(&value));
  ASSERT_GT(pid, 0);
  EXPECT_EQ(Exited(3), WaitStatus(pid));
  EXPECT_EQ(42, value);
}

TEST(Clone, FilesSharesDescriptorTable) {
  Stack stack;
  Fd fd(open("/dev/null", O_RDONLY));
  int n = fd.get();
  auto fn = [](void* arg) { return close(*static_cast<int*>(arg)) == 0 ? 0 : 1; };
  pid_t pid = clone(fn, stack.top(), CLONE_FILES | SIGCHLD, &n);
  ASSERT_GT(pid, 0);
  EXPECT_EQ(Exited(0), WaitStatus(pid));
  EXPECT_FAILS(EBADF, fcntl(n, F_GETFD));
  fd.release();
}

TEST(Clone, FsSharesCwdAndUmask) {
  Stack stack;
  char before[4096];
  ASSERT_NE(nullptr, getcwd(before, sizeof before));
  mode_t mask = umask(022);
  auto fn = [](void*) {
    umask(0111);
    return chdir("/proc") == 0 ? 0 : 1;
  };
  pid_t pid = clone(fn, stack.top(), CLONE_FS | SIGCHLD, nullptr);
  ASSERT_GT(pid, 0);
  EXPECT_EQ(Exited(0), WaitStatus(pid));
  char cwd[4096];
  ASSERT_NE(nullptr, getcwd(cwd, sizeof cwd));
  EXPECT_STREQ("/proc", cwd);
  EXPECT_EQ(0111u, umask(mask));
  ASSERT_OK(chdir(before));
}

TEST(Clone, ParentFlagMakesASibling) {
  EXPECT_EQ(Exited(0), RunInChild([] {
              pid_t me = getpid();
              CHILD_CHECK(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0);
              Child middle([&] {
                Stack stack;
                auto fn = [](void* arg) { return getppid() == *static_cast<pid_t*>(arg) ? 0 : 1; };
                pid_t pid = clone(fn, stack.top(), CLONE_PARENT | SIGCHLD, &me);
                CHILD_CHECK(pid > 0);
                CHILD_CHECK(waitpid(pid, nullptr, 0) == -1 && errno == ECHILD);
              });
              CHILD_CHECK(middle.Wait() == Exited(0));
              int status;
              CHILD_CHECK(wait(&status) > 0 && status == 0);
            }));
}

TEST(Clone, InvalidFlagCombinations) {
  auto raw = [](unsigned long flags) { return syscall(SYS_clone, flags, 0, 0, 0, 0); };
  EXPECT_FAILS(EINVAL, raw(CLONE_THREAD | SIGCHLD));
  EXPECT_FAILS(EINVAL, raw(CLONE_SIGHAND | SIGCHLD));
  EXPECT_FAILS(EINVAL, raw(CLONE_NEWNS | CLONE_FS | SIGCHLD));
}

TEST(Clone, ParentAndChildSetTid) {
  pid_t parent_tid = 0;
  pid_t child_tid = 0;
  long pid = syscall(SYS_clone, CLONE_PARENT_SETTID | CLONE_CHILD_SETTID | SIGCHLD, 0, &parent_tid, &child_tid, 0);
  if (pid == 0) _exit(child_tid == syscall(SYS_getpid) ? 0 : 1);
  ASSERT_GT(pid, 0);
  EXPECT_EQ(pid, parent_tid);
  EXPECT_EQ(0, child_tid);
  EXPECT_EQ(Exited(0), WaitStatus(pid));
}

TEST(Clone, ExitSignalZeroNeedsWclone) {
  long pid = syscall(SYS_clone, 0, 0, 0, 0, 0);
  if (pid == 0) _exit(5);
  ASSERT_GT(pid, 0);
  EXPECT_FAILS(ECHILD, waitpid(pid, nullptr, 0));
  EXPECT_EQ(Exited(5), WaitStatus(pid, __WCLONE));
}

TEST(Clone3, CreatesAProcessWithExitSignal) {
  clone_args args = {};
  args.exit_signal = SIGCHLD;
  pid_t pid = Clone3(&args);
  if (pid == 0) _exit(9);
  ASSERT_OK(pid);
  EXPECT_EQ(Exited(9), WaitStatus(pid));
}

TEST(Clone3, PidfdIsReturned) {
  int pidfd = -1;
  clone_args args = {};
  args.flags = CLONE_PIDFD;
  args.pidfd = reinterpret_cast<uintptr_t>(&pidfd);
  args.exit_signal = SIGCHLD;
  pid_t pid = Clone3(&args);
  if (pid == 0) _exit(4);
  ASSERT_OK(pid);
  Fd fd(pidfd);
  EXPECT_EQ(FD_CLOEXEC, fcntl(pidfd, F_GETFD));
  siginfo_t info = {};
  ASSERT_OK(waitid(P_PIDFD, pidfd, &info, WEXITED));
  EXPECT_EQ(pid, info.si_pid);
  EXPECT_EQ(4, info.si_status);
}

TEST(Clone3, RejectsBadArguments) {
  clone_args args = {};
  args.exit_signal = SIGCHLD;
  EXPECT_FAILS(EINVAL, syscall(SYS_clone3, &args, CLONE_ARGS_SIZE_VER0 - 1));
  EXPECT_FAILS(E2BIG, syscall(SYS_clone3, &args, 1 << 20));
  EXPECT_FAILS(EFAULT, syscall(SYS_clone3, 8, sizeof args));
  args.exit_signal = 1000;
  EXPECT_FAILS(EINVAL, Clone3(&args));
  args.exit_signal = SIGCHLD;
  args.stack_size = 4096;
  EXPECT_FAILS(EINVAL, Clone3(&args));
}

TEST(Clone3, ClearSighandResetsHandlers) {
  ScopedHandler handler(SIGUSR1, [](int) {});
  clone_args args = {};
  args.flags = CLONE_CLEAR_SIGHAND;
  args.exit_signal = SIGCHLD;
  pid_t pid = Clone3(&args);
  if (pid == 0) {
    struct sigaction sa;
    sigaction(SIGUSR1, nullptr, &sa);
    _exit(sa.sa_handler == SIG_DFL ? 0 : 1);
  }
  ASSERT_OK(pid);
  EXPECT_EQ(Exited(0), WaitStatus(pid));
}

TEST(Reparent, OrphanGoesToSubreaper) {
  EXPECT_EQ(Exited(0), RunInChild([] {
              CHILD_CHECK(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0);
              pid_t me = getpid();
              Pipe pids;
              Event orphaned;
              Child middle([&] {
                pid_t grandchild = fork();
                if (grandchild == 0) {
                  alarm(30);
                  _exit(orphaned.Wait() && getppid() == me ? 6 : 1);
                }
                CHILD_CHECK(write(pids.w.get(), &grandchild, sizeof grandchild) == sizeof grandchild);
              });
              CHILD_CHECK(middle.Wait() == Exited(0));
              orphaned.Set();
              pid_t grandchild;
              CHILD_CHECK(read(pids.r.get(), &grandchild, sizeof grandchild) == sizeof grandchild);
              CHILD_CHECK(WaitStatus(grandchild) == Exited(6));
            }));
}

TEST(Reparent, OrphanWithoutSubreaperLeavesTheParent) {
  Pipe result;
  Event orphaned;
  Child middle([&] {
    pid_t me = getpid();
    pid_t grandchild = fork();
    if (grandchild == 0) {
      alarm(30);
      int changed = orphaned.Wait() && getppid() != me;
      _exit(write(result.w.get(), &changed, sizeof changed) != sizeof changed);
    }
  });
  ASSERT_EQ(Exited(0), middle.Wait());
  orphaned.Set();
  int changed = 0;
  ASSERT_TRUE(PollFor(result.r.get(), 1, 20000));
  ASSERT_EQ(ssize_t{sizeof changed}, read(result.r.get(), &changed, sizeof changed));
  EXPECT_EQ(1, changed);
}

TEST(Reparent, ParentDeathSignalArrives) {
  Pipe alive;
  Event armed;
  Child middle([&] {
    pid_t grandchild = fork();
    if (grandchild == 0) {
      alarm(30);
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      armed.Set();
      for (;;) pause();
    }
    alive.w.reset();
    CHILD_CHECK(armed.Wait());
  });
  alive.w.reset();
  ASSERT_EQ(Exited(0), middle.Wait());
  // The grandchild held the last write end: end of file means that it died.
  char c;
  EXPECT_EQ(0, read(alive.r.get(), &c, 1));
}

}  // namespace
