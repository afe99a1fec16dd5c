// SPDX-License-Identifier: Apache-2.0
// Calls that always give the same, made as real system calls in a row: a platform may answer them by itself, and must
// not when the answer changes or somebody is to see the call.
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "gtest/gtest.h"
#include "tests/syscalls/util.h"

namespace {

// No library in between, which could know the answer.
long Raw(long number, long a = 0, long b = 0, long c = 0) {
  long result;
  asm volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
  return result;
}
// Often enough that whoever wants to answer by itself does.
void ExpectOften(long number, long expected) {
  for (int i = 0; i < 20; ++i) ASSERT_EQ(Raw(number), expected) << number << " in round " << i;
}

int WaitFor(pid_t pid) {
  int status = 0;
  EXPECT_EQ(waitpid(pid, &status, 0), pid);
  return status;
}
// In a child, where gtest's assertions reach nobody.
void Check(bool ok, int code) {
  if (!ok) _exit(code);
}
bool Often(long number, long expected) {
  for (int i = 0; i < 20; ++i) {
    if (Raw(number) != expected) return false;
  }
  return true;
}

TEST(AnswersTest, ForkAndThread) {
  const long self = getpid();
  ExpectOften(SYS_getpid, self);
  ExpectOften(SYS_gettid, self);
  int pipes[2];
  ASSERT_EQ(pipe(pipes), 0);
  pid_t child = fork();
  if (child == 0) {
    long pid = Raw(SYS_getpid);
    Check(pid != self && Often(SYS_getpid, pid) && Often(SYS_gettid, pid) && Often(SYS_getppid, self), 2);
    Check(write(pipes[1], &pid, sizeof pid) == sizeof pid, 3);
    _exit(0);
  }
  long told = 0;
  ASSERT_EQ(read(pipes[0], &told, sizeof told), static_cast<ssize_t>(sizeof told));
  EXPECT_EQ(told, child);
  EXPECT_EQ(WaitFor(child), 0);
  ExpectOften(SYS_getpid, self);
  std::thread([&] {
    long tid = Raw(SYS_gettid);
    EXPECT_NE(tid, self);
    ExpectOften(SYS_gettid, tid);
    ExpectOften(SYS_getpid, self);
  }).join();
  close(pipes[0]);
  close(pipes[1]);
}

// By vfork, the child runs in the parent's memory.
TEST(AnswersTest, Vfork) {
  const long self = getpid();
  volatile long pid = 0, parent = 0;
  pid_t child = vfork();
  if (child == 0) {
    pid = Raw(SYS_getpid);
    parent = Raw(SYS_getppid);
    _exit(Often(SYS_getpid, pid) ? 0 : 1);
  }
  EXPECT_EQ(WaitFor(child), 0);
  EXPECT_EQ(pid, child);
  EXPECT_EQ(parent, self);
  ExpectOften(SYS_getpid, self);
}

TEST(AnswersTest, Credentials) {
  if (geteuid() != 0) GTEST_SKIP() << "not root";
  pid_t child = fork();
  if (child == 0) {
    Check(Often(SYS_getuid, 0) && Often(SYS_geteuid, 0) && Often(SYS_getgid, 0) && Often(SYS_getegid, 0), 2);
    Check(Raw(SYS_setresgid, 11, 12, 13) == 0, 3);
    Check(Often(SYS_getgid, 11) && Often(SYS_getegid, 12), 4);
    Check(Raw(SYS_setresuid, 21, 22, 23) == 0, 5);
    Check(Often(SYS_getuid, 21) && Often(SYS_geteuid, 22), 6);
    // Of one thread only, as the system call has it.
    bool other = false;
    std::thread([&] {
      other = Often(SYS_geteuid, 22) && Raw(SYS_setresuid, -1, 23, -1) == 0 && Often(SYS_geteuid, 23);
    }).join();
    Check(other && Often(SYS_geteuid, 22), 7);
    _exit(0);
  }
  EXPECT_EQ(WaitFor(child), 0);
}

// The new parent is seen by the first call after anybody could know of the old one's end.
TEST(AnswersTest, Reparented) {
  ASSERT_EQ(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
  for (int round = 0; round < 5; ++round) {
    int go[2], told[2];
    ASSERT_EQ(pipe(go), 0);
    ASSERT_EQ(pipe(told), 0);
    pid_t middle = fork();
    if (middle == 0) {
      const pid_t self = getpid();
      if (fork() == 0) {
        Check(Often(SYS_getppid, self), 2);
        char byte = 0;
        Check(write(told[1], &byte, 1) == 1, 3);
        // Without a call in between, so that nothing of ours passes through the kernel.
        std::thread caller([] {
          for (int i = 0; i < 300; ++i) Raw(SYS_getppid);
        });
        Check(read(go[0], &byte, 1) == 1, 4);
        long now = Raw(SYS_getppid);
        caller.join();
        Check(write(told[1], &now, sizeof now) == sizeof now, 5);
        _exit(0);
      }
      char byte;
      Check(read(told[0], &byte, 1) == 1, 6);
      _exit(0);
    }
    EXPECT_EQ(WaitFor(middle), 0);
    ASSERT_EQ(write(go[1], "", 1), 1);
    long parent = 0;
    ASSERT_EQ(read(told[0], &parent, sizeof parent), static_cast<ssize_t>(sizeof parent));
    EXPECT_EQ(parent, getpid());
    EXPECT_EQ(wait(nullptr) > 0, true);
    for (int fd : {go[0], go[1], told[0], told[1]}) close(fd);
  }
  ASSERT_EQ(prctl(PR_SET_CHILD_SUBREAPER, 0), 0);
}

// A loop that makes no other call sees its parent die.
TEST(AnswersTest, WaitsForItsParentsEnd) {
  ASSERT_EQ(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
  const long self = getpid();
  pid_t middle = fork();
  if (middle == 0) {
    const long parent = getpid();
    if (fork() == 0) {
      while (Raw(SYS_getppid) == parent) {
      }
      _exit(Raw(SYS_getppid) == self ? 7 : 8);
    }
    _exit(0);
  }
  EXPECT_EQ(WaitFor(middle), 0);
  int status = 0;
  ASSERT_GT(wait(&status), 0);
  EXPECT_EQ(WEXITSTATUS(status), 7);
  ASSERT_EQ(prctl(PR_SET_CHILD_SUBREAPER, 0), 0);
}

TEST(AnswersTest, PidNamespace) {
  if (geteuid() != 0) GTEST_SKIP() << "not root";
  pid_t middle = fork();
  if (middle == 0) {
    Check(unshare(CLONE_NEWPID) == 0, errno == EPERM ? 77 : 2);
    const long self = getpid();
    Check(Often(SYS_getpid, self), 3);
    pid_t child = fork();
    if (child == 0) _exit(Often(SYS_getpid, 1) && Often(SYS_gettid, 1) && Often(SYS_getppid, 0) ? 0 : 4);
    int status;
    Check(waitpid(child, &status, 0) == child && status == 0, 5);
    _exit(0);
  }
  int status = WaitFor(middle);
  if (WEXITSTATUS(status) == 77) GTEST_SKIP() << "no new pid namespace";
  EXPECT_EQ(status, 0);
}

bool WriteFile(const char* path, const char* text) {
  FILE* file = fopen(path, "w");
  if (!file) return false;
  bool ok = fputs(text, file) >= 0;
  return fclose(file) == 0 && ok;
}

// The ids that a task has change when somebody writes its namespace's maps.
TEST(AnswersTest, UserNamespaceMaps) {
  if (geteuid() != 0) GTEST_SKIP() << "not root";
  int ready[2], go[2];
  ASSERT_EQ(pipe(ready), 0);
  ASSERT_EQ(pipe(go), 0);
  pid_t child = fork();
  if (child == 0) {
    Check(unshare(CLONE_NEWUSER) == 0, 77);
    Check(Often(SYS_getuid, 65534) && Often(SYS_getegid, 65534), 2);
    Check(write(ready[1], "", 1) == 1, 3);
    // No other call: only the id can tell.
    while (Raw(SYS_getuid) != 5 || Raw(SYS_getgid) != 6) {
    }
    _exit(Often(SYS_geteuid, 5) && Often(SYS_getegid, 6) ? 0 : 4);
  }
  close(ready[1]);
  char byte;
  if (read(ready[0], &byte, 1) == 1) {
    std::string proc = "/proc/" + std::to_string(child);
    EXPECT_TRUE(WriteFile((proc + "/uid_map").c_str(), "5 0 1\n"));
    EXPECT_TRUE(WriteFile((proc + "/gid_map").c_str(), "6 0 1\n"));
  }
  int status = WaitFor(child);
  for (int fd : {ready[0], go[0], go[1]}) close(fd);
  if (WEXITSTATUS(status) == 77) GTEST_SKIP() << "no new user namespace";
  EXPECT_EQ(status, 0);
}

bool FilterCall(int number, uint32_t verdict, unsigned flags = 0) {
  sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<uint32_t>(number), 0, 1),
      BPF_STMT(BPF_RET | BPF_K, verdict),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  sock_fprog program = {.len = 4, .filter = code};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program) == 0;
}

TEST(AnswersTest, SeccompSeesThem) {
  pid_t child = fork();
  if (child == 0) {
    const long pid = Raw(SYS_getpid);
    Check(Often(SYS_getpid, pid), 2);
    Check(FilterCall(SYS_getpid, SECCOMP_RET_ERRNO | 77), 3);
    Check(Often(SYS_getpid, -77) && Often(SYS_gettid, pid), 4);
    pid_t grandchild = fork();
    if (grandchild == 0) _exit(Often(SYS_getpid, -77) ? 0 : 5);
    int status;
    Check(waitpid(grandchild, &status, 0) == grandchild && status == 0, 6);
    Check(FilterCall(SYS_gettid, SECCOMP_RET_KILL_PROCESS), 7);
    Raw(SYS_gettid);
    _exit(8);
  }
  int status = WaitFor(child);
  EXPECT_TRUE(WIFSIGNALED(status)) << WEXITSTATUS(status);
  EXPECT_EQ(WTERMSIG(status), SIGSYS);
}

// A thread that does nothing but such calls gets the filter of another one.
TEST(AnswersTest, SeccompOfAnotherThread) {
  pid_t child = fork();
  if (child == 0) {
    std::atomic<bool> running{false};
    std::thread other([&] {
      const long pid = getpid();
      while (Raw(SYS_getpid) == pid) running = true;
      Check(Often(SYS_getpid, -55), 2);
    });
    while (!running) {
    }
    Check(FilterCall(SYS_getpid, SECCOMP_RET_ERRNO | 55, SECCOMP_FILTER_FLAG_TSYNC), 3);
    other.join();
    _exit(0);
  }
  EXPECT_EQ(WaitFor(child), 0);
}

TEST(AnswersTest, StrictMode) {
  pid_t child = fork();
  if (child == 0) {
    Check(Often(SYS_getpid, getpid()), 2);
    Check(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) == 0, 3);
    Raw(SYS_getpid);
    Raw(SYS_exit, 4);
  }
  int status = WaitFor(child);
  EXPECT_TRUE(WIFSIGNALED(status)) << WEXITSTATUS(status);
  EXPECT_EQ(WTERMSIG(status), SIGKILL);
}

TEST(AnswersTest, TracerSeesThem) {
  pid_t child = fork();
  if (child == 0) {
    Check(Often(SYS_getpid, Raw(SYS_gettid)), 2);
    Check(ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) == 0, 3);
    Raw(SYS_kill, Raw(SYS_getpid), SIGSTOP);
    for (int i = 0; i < 5; ++i) Raw(SYS_getpid);
    long changed = Raw(SYS_getppid);
    // Detached now.
    Check(changed == 4242, 4);
    Check(Often(SYS_getpid, Raw(SYS_gettid)), 5);
    _exit(0);
  }
  int status;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFSTOPPED(status));
  int seen = 0;
  for (bool entry = true;; entry = !entry) {
    ASSERT_EQ(ptrace(PTRACE_SYSCALL, child, nullptr, nullptr), 0);
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSTOPPED(status)) << status;
    user_regs_struct regs;
    ASSERT_EQ(ptrace(PTRACE_GETREGS, child, nullptr, &regs), 0);
    if (entry) {
      seen += regs.orig_rax == SYS_getpid;
    } else if (regs.orig_rax == SYS_getppid) {
      regs.rax = 4242;
      ASSERT_EQ(ptrace(PTRACE_SETREGS, child, nullptr, &regs), 0);
      break;
    }
  }
  EXPECT_EQ(seen, 5);
  ASSERT_EQ(ptrace(PTRACE_DETACH, child, nullptr, nullptr), 0);
  EXPECT_EQ(WaitFor(child), 0);
}

// Traced by steps, a call is made and gives what it gives.
TEST(AnswersTest, SingleSteps) {
  pid_t child = fork();
  if (child == 0) {
    Check(Often(SYS_getpid, Raw(SYS_gettid)), 2);
    Check(ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) == 0, 3);
    long result;
    asm volatile(
        "mov $62, %%eax; mov %1, %%edi; mov $19, %%esi; syscall;"  // kill(self, SIGSTOP)
        "mov $39, %%eax; syscall; mov %%rax, %0"
        : "=r"(result)
        : "r"(static_cast<int>(Raw(SYS_getpid)))
        : "rax", "rdi", "rsi", "rcx", "r11");
    _exit(result == Raw(SYS_gettid) ? 0 : 4);
  }
  int status;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  user_regs_struct regs;
  ASSERT_EQ(ptrace(PTRACE_GETREGS, child, nullptr, &regs), 0);
  uint64_t at = regs.rip;
  for (uint64_t length : {5u, 2u}) {
    ASSERT_EQ(ptrace(PTRACE_SINGLESTEP, child, nullptr, nullptr), 0);
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSTOPPED(status) && WSTOPSIG(status) == SIGTRAP) << status;
    ASSERT_EQ(ptrace(PTRACE_GETREGS, child, nullptr, &regs), 0);
    at += length;
    EXPECT_GE(regs.rip, at);
  }
  EXPECT_EQ(static_cast<pid_t>(regs.rax), child);
  ASSERT_EQ(ptrace(PTRACE_DETACH, child, nullptr, nullptr), 0);
  EXPECT_EQ(WaitFor(child), 0);
}

std::atomic<int> alarms{0};

// Signals reach a loop of such calls, and none of them comes out wrong.
TEST(AnswersTest, Signals) {
  struct sigaction action = {}, old;
  action.sa_handler = [](int) { ++alarms; };
  ASSERT_EQ(sigaction(SIGALRM, &action, &old), 0);
  itimerval timer = {{0, 1000}, {0, 1000}};
  ASSERT_EQ(setitimer(ITIMER_REAL, &timer, nullptr), 0);
  const long self = getpid();
  double x = 1.5;
  while (alarms < 30) {
    ASSERT_EQ(Raw(SYS_getpid), self);
    asm volatile("" : "+x"(x));
    ASSERT_EQ(x, 1.5);
  }
  timer = {};
  ASSERT_EQ(setitimer(ITIMER_REAL, &timer, nullptr), 0);
  ASSERT_EQ(sigaction(SIGALRM, &old, nullptr), 0);
}

TEST(AnswersTest, ClocksGoOn) {
  timespec last = {};
  for (int i = 0; i < 2000; ++i) {
    timespec now;
    ASSERT_EQ(Raw(SYS_clock_gettime, CLOCK_MONOTONIC, reinterpret_cast<long>(&now)), 0);
    ASSERT_TRUE(now.tv_sec > last.tv_sec || (now.tv_sec == last.tv_sec && now.tv_nsec >= last.tv_nsec));
    ASSERT_LT(now.tv_nsec, 1'000'000'000);
    last = now;
  }
  for (int i = 0; i < 100; ++i) {
    timespec a, b;
    timeval middle;
    ASSERT_EQ(Raw(SYS_clock_gettime, CLOCK_REALTIME, reinterpret_cast<long>(&a)), 0);
    ASSERT_EQ(Raw(SYS_gettimeofday, reinterpret_cast<long>(&middle)), 0);
    ASSERT_EQ(Raw(SYS_clock_gettime, CLOCK_REALTIME, reinterpret_cast<long>(&b)), 0);
    int64_t us = int64_t{middle.tv_sec} * 1'000'000 + middle.tv_usec;
    EXPECT_GE(us, int64_t{a.tv_sec} * 1'000'000 + a.tv_nsec / 1000);
    EXPECT_LE(us, int64_t{b.tv_sec} * 1'000'000 + b.tv_nsec / 1000);
    time_t stored = 0;
    long seconds = Raw(SYS_time, reinterpret_cast<long>(&stored));
    EXPECT_EQ(seconds, stored);
    EXPECT_GE(seconds, b.tv_sec - 1);  // the coarse clock
    EXPECT_LE(Raw(SYS_time), seconds + 2);
  }
}

// Results that the kernel stores where a page has to come from somewhere first, or where nothing can be stored.
TEST(AnswersTest, ClocksIntoAnyMemory) {
  const size_t page = 4096;
  auto map = [&](int protection, size_t pages) {
    void* at = mmap(nullptr, pages * page, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    EXPECT_NE(at, MAP_FAILED);
    return static_cast<char*>(at);
  };
  for (int i = 0; i < 50; ++i) {
    char* fresh = map(PROT_READ | PROT_WRITE, 2);
    auto* across = reinterpret_cast<timespec*>(fresh + page - 8);
    ASSERT_EQ(Raw(SYS_clock_gettime, CLOCK_REALTIME, reinterpret_cast<long>(across)), 0);
    EXPECT_GT(across->tv_sec, 1'000'000'000);
    EXPECT_LT(across->tv_nsec, 1'000'000'000);
    ASSERT_EQ(munmap(fresh, 2 * page), 0);
  }
  char* constant = map(PROT_READ, 1);
  EXPECT_EQ(Raw(SYS_clock_gettime, CLOCK_REALTIME, reinterpret_cast<long>(constant)), -EFAULT);
  EXPECT_EQ(Raw(SYS_gettimeofday, reinterpret_cast<long>(constant)), -EFAULT);
  EXPECT_EQ(Raw(SYS_time, reinterpret_cast<long>(constant)), -EFAULT);
  ASSERT_EQ(mprotect(constant, page, PROT_NONE), 0);
  EXPECT_EQ(Raw(SYS_clock_gettime, CLOCK_MONOTONIC, reinterpret_cast<long>(constant)), -EFAULT);
  for (long bad : {8l, static_cast<long>(0xffff'8000'0000'0000), static_cast<long>(uint64_t{1} << 62)}) {
    EXPECT_EQ(Raw(SYS_clock_gettime, CLOCK_MONOTONIC, bad), -EFAULT) << std::hex << bad;
    EXPECT_EQ(Raw(SYS_gettimeofday, bad), -EFAULT);
  }
  EXPECT_EQ(Raw(SYS_clock_gettime, 12345, reinterpret_cast<long>(constant)), -EINVAL);
  // Of a page shared with a child, one gets a copy.
  auto* shared = reinterpret_cast<timespec*>(map(PROT_READ | PROT_WRITE, 1));
  shared->tv_sec = 5;
  int go[2];
  ASSERT_EQ(pipe(go), 0);
  pid_t child = fork();
  if (child == 0) {
    char byte;
    Check(read(go[0], &byte, 1) == 1, 2);
    _exit(shared->tv_sec == 5 ? 0 : 3);
  }
  ASSERT_EQ(Raw(SYS_clock_gettime, CLOCK_REALTIME, reinterpret_cast<long>(shared)), 0);
  EXPECT_GT(shared->tv_sec, 1'000'000'000);
  ASSERT_EQ(write(go[1], "", 1), 1);
  EXPECT_EQ(WaitFor(child), 0);
}

// execve by a thread that is not the leader: it becomes the leader, and has its id.
TEST(AnswersTest, ExecByAnotherThread) {
  pid_t child = fork();
  if (child == 0) {
    std::thread([] {
      Check(!Often(SYS_gettid, getpid()), 2);
      execl("/proc/self/exe", "answers_test", "--gtest_filter=AnswersTest.DISABLED_AfterExec",
            "--gtest_also_run_disabled_tests", nullptr);
      _exit(3);
    }).join();
  }
  EXPECT_EQ(WaitFor(child), 0);
}

TEST(AnswersTest, DISABLED_AfterExec) {
  ExpectOften(SYS_gettid, Raw(SYS_getpid));
  ExpectOften(SYS_getpid, getpid());
}

}  // namespace
