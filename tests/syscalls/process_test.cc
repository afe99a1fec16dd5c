// SPDX-License-Identifier: Apache-2.0
// Process groups and sessions, limits, scheduling read-back, usage, identity of the system, personality, randomness.
#include <asm/prctl.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/times.h>
#include <sys/utsname.h>

#include <thread>

#include "tests/syscalls/util.h"

namespace {

TEST(Pgrp, SetpgidRules) {
  EXPECT_EQ(Exited(0), RunInChild([] {
              CHILD_CHECK(setpgid(0, 0) == 0 && getpgrp() == getpid());
              CHILD_CHECK(setpgid(0, -1) == -1 && errno == EINVAL);
              CHILD_CHECK(setpgid(getppid(), 0) == -1 && errno == ESRCH);
              CHILD_CHECK(setpgid(0, 0x3ffffff0) == -1 && errno == EPERM);
              CHILD_CHECK(getpgid(0x3ffffff0) == -1 && errno == ESRCH);
              CHILD_CHECK(setsid() == -1 && errno == EPERM);
            }));
}

TEST(Pgrp, SetpgidAfterTheChildsExecIsEACCES) {
  Pipe out(O_CLOEXEC), in(O_CLOEXEC);
  Child child([&] {
    dup2(in.r.get(), 0);
    dup2(out.w.get(), 1);
    execl("/bin/cat", "cat", nullptr);
  });
  ASSERT_EQ(1, write(in.w.get(), "x", 1));
  char c;
  ASSERT_EQ(1, read(out.r.get(), &c, 1));
  EXPECT_FAILS(EACCES, setpgid(child.pid(), child.pid()));
}

TEST(Session, SetsidMakesLeader) {
  EXPECT_EQ(Exited(0), RunInChild([] {
              pid_t before = getsid(0);
              CHILD_CHECK(setsid() == getpid());
              CHILD_CHECK(getsid(0) == getpid() && getpgrp() == getpid() && before != getpid());
              CHILD_CHECK(setpgid(0, 0) == -1 && errno == EPERM);
              Child other([] {
                for (;;) pause();
              });
              CHILD_CHECK(getsid(other.pid()) == getpid());
            }));
}

TEST(Session, OrphanedStoppedGroupGetsHupAndCont) {
  Pipe alive;
  Child leader([&] {
    setsid();
    Child* job = new Child([&] {
      setpgid(0, 0);
      prctl(PR_SET_PDEATHSIG, 0);  // SIGHUP shall end it
      raise(SIGSTOP);
      for (;;) pause();
    });
    CHILD_CHECK(job->Wait(WUNTRACED) == Stopped(SIGSTOP));
    _exit(0);
  });
  alive.w.reset();
  EXPECT_EQ(Exited(0), leader.Wait());
  char c;
  ASSERT_TRUE(PollFor(alive.r.get(), 1, 20000));
  EXPECT_EQ(0, read(alive.r.get(), &c, 1));
}

TEST(Rlimit, GetSetAndRaise) {
  EXPECT_EQ(Exited(0), RunInChild([] {
              rlimit rl = {30, 40}, got;
              CHILD_CHECK(setrlimit(RLIMIT_NOFILE, &rl) == 0);
              CHILD_CHECK(getrlimit(RLIMIT_NOFILE, &got) == 0 && got.rlim_cur == 30 && got.rlim_max == 40);
              rl = {50, 40};
              CHILD_CHECK(setrlimit(RLIMIT_NOFILE, &rl) == -1 && errno == EINVAL);
              CHILD_CHECK(setresuid(1000, 1000, 1000) == 0);
              rl = {40, 40};
              CHILD_CHECK(setrlimit(RLIMIT_NOFILE, &rl) == 0);
              rl = {40, 41};
              CHILD_CHECK(setrlimit(RLIMIT_NOFILE, &rl) == -1 && errno == EPERM);
              CHILD_CHECK(syscall(SYS_setrlimit, 99, &rl) == -1 && errno == EINVAL);
            }));
}

TEST(Rlimit, PrlimitOnAnotherProcess) {
  Child child([] {
    for (;;) pause();
  });
  rlimit rl = {11, 22}, old;
  ASSERT_OK(prlimit(child.pid(), RLIMIT_NOFILE, &rl, &old));
  ASSERT_OK(prlimit(child.pid(), RLIMIT_NOFILE, nullptr, &old));
  EXPECT_EQ(11u, old.rlim_cur);
  EXPECT_EQ(22u, old.rlim_max);
  EXPECT_FAILS(ESRCH, prlimit(0x3ffffff0, RLIMIT_NOFILE, nullptr, &old));
}

TEST(Rlimit, CpuRaisesSIGXCPU) {
  EXPECT_EQ(Killed(SIGXCPU), RunInChild([] {
              rlimit rl = {1, 10};
              CHILD_CHECK(setrlimit(RLIMIT_CPU, &rl) == 0);
              for (;;) asm volatile("pause");
            }));
}

TEST(Sched, AffinityIsReadBack) {
  EXPECT_EQ(Exited(0), RunInChild([] {
              cpu_set_t all, one, got;
              CHILD_CHECK(sched_getaffinity(0, sizeof all, &all) == 0);
              int cpu = 0;
              while (!CPU_ISSET(cpu, &all)) ++cpu;
              CPU_ZERO(&one);
              CPU_SET(cpu, &one);
              CHILD_CHECK(sched_setaffinity(0, sizeof one, &one) == 0);
              CHILD_CHECK(sched_getaffinity(0, sizeof got, &got) == 0 && CPU_EQUAL(&one, &got));
              CHILD_CHECK(sched_getcpu() == cpu);
              CPU_ZERO(&one);
              CHILD_CHECK(sched_setaffinity(0, sizeof one, &one) == -1 && errno == EINVAL);
              CHILD_CHECK(sched_getaffinity(0, 1, &got) == -1 && errno == EINVAL);
              // An id that names nobody is none, also a negative one; the size is looked at first.
              CHILD_CHECK(sched_getaffinity(-1, sizeof got, &got) == -1 && errno == ESRCH);
              CHILD_CHECK(sched_setaffinity(-1, sizeof got, &all) == -1 && errno == ESRCH);
              CHILD_CHECK(sched_getaffinity(-1, 1, &got) == -1 && errno == EINVAL);
            }));
}

TEST(Sched, PolicyAndPriorityRanges) {
  EXPECT_EQ(SCHED_OTHER, sched_getscheduler(0));
  EXPECT_EQ(0, sched_get_priority_min(SCHED_OTHER));
  EXPECT_EQ(1, sched_get_priority_min(SCHED_FIFO));
  EXPECT_EQ(99, sched_get_priority_max(SCHED_RR));
  EXPECT_FAILS(EINVAL, sched_get_priority_max(99));
  sched_param p;
  ASSERT_OK(sched_getparam(0, &p));
  EXPECT_EQ(0, p.sched_priority);
  EXPECT_FAILS(ESRCH, sched_getscheduler(0x3ffffff0));
  EXPECT_OK(sched_yield());
}

TEST(Sched, Nice) {
  EXPECT_EQ(Exited(0), RunInChild([] {
              errno = 0;
              int base = getpriority(PRIO_PROCESS, 0);
              CHILD_CHECK(setpriority(PRIO_PROCESS, 0, base + 3) == 0);
              CHILD_CHECK(getpriority(PRIO_PROCESS, 0) == base + 3);
              CHILD_CHECK(syscall(SYS_getpriority, PRIO_PROCESS, 0) == 20 - (base + 3));
              CHILD_CHECK(setpriority(PRIO_PROCESS, 0, 100) == 0 && getpriority(PRIO_PROCESS, 0) == 19);
              CHILD_CHECK(setresuid(1000, 1000, 1000) == 0);
              CHILD_CHECK(setpriority(PRIO_PROCESS, 0, 0) == -1 && errno == EACCES);
              CHILD_CHECK(getpriority(99, 0) == -1 && errno == EINVAL);
            }));
}

TEST(Usage, CpuTimeGrows) {
  rusage ru;
  volatile unsigned long x = 0;
  timespec start, now;
  clock_gettime(CLOCK_MONOTONIC, &start);
  do {
    for (int i = 0; i < 100000; ++i) x = x + i;
    ASSERT_OK(getrusage(RUSAGE_SELF, &ru));
    clock_gettime(CLOCK_MONOTONIC, &now);
  } while (ru.ru_utime.tv_sec == 0 && ru.ru_utime.tv_usec == 0 && now.tv_sec - start.tv_sec < 20);
  EXPECT_GT(ru.ru_utime.tv_sec + ru.ru_utime.tv_usec, 0);
  EXPECT_GT(ru.ru_maxrss, 0);
  EXPECT_OK(getrusage(RUSAGE_CHILDREN, &ru));
  EXPECT_OK(getrusage(RUSAGE_THREAD, &ru));
  EXPECT_FAILS(EINVAL, syscall(SYS_getrusage, 99, &ru));
  tms t;
  EXPECT_NE(static_cast<clock_t>(-1), times(&t));
}

TEST(System, UnameAndSysinfo) {
  utsname u;
  ASSERT_OK(uname(&u));
  EXPECT_STREQ("Linux", u.sysname);
  EXPECT_STREQ("x86_64", u.machine);
  int major = 0, minor = 0;
  ASSERT_EQ(2, sscanf(u.release, "%d.%d", &major, &minor));
  EXPECT_GE(major * 100 + minor, 601);
  struct sysinfo si;
  ASSERT_OK(sysinfo(&si));
  EXPECT_GT(si.totalram, 0u);
  EXPECT_GE(si.totalram, si.freeram);
  EXPECT_GT(si.procs, 0);
  EXPECT_EQ(1u, si.mem_unit);
}

TEST(System, Getrandom) {
  unsigned char a[64] = {}, b[64] = {};
  EXPECT_EQ(64, getrandom(a, sizeof a, 0));
  EXPECT_EQ(64, getrandom(b, sizeof b, GRND_NONBLOCK));
  EXPECT_NE(0, memcmp(a, b, sizeof a));
  EXPECT_FAILS(EINVAL, getrandom(a, 1, 0x100));
  EXPECT_FAILS(EFAULT, syscall(SYS_getrandom, 8, 8, 0));
}

TEST(System, Personality) {
  EXPECT_EQ(Exited(0), RunInChild([] {
              int before = personality(0xffffffff);
              CHILD_CHECK(before != -1);
              CHILD_CHECK(personality(before | ADDR_NO_RANDOMIZE) == before);
              CHILD_CHECK(personality(0xffffffff) == (before | ADDR_NO_RANDOMIZE));
            }));
}

TEST(ArchPrctl, FsAndGsBase) {
  EXPECT_EQ(Exited(0), RunInChild([] {
              static uint64_t slot = 0xabcdef;
              CHILD_CHECK(syscall(SYS_arch_prctl, ARCH_SET_GS, &slot) == 0);
              uint64_t base = 0, value;
              CHILD_CHECK(syscall(SYS_arch_prctl, ARCH_GET_GS, &base) == 0);
              CHILD_CHECK(base == reinterpret_cast<uintptr_t>(&slot));
              asm volatile("mov %%gs:0, %0" : "=r"(value));
              CHILD_CHECK(value == 0xabcdef);
              // The base is kept over a fork and a system call.
              CHILD_CHECK(RunInChild([] {
                            uint64_t v;
                            asm volatile("mov %%gs:0, %0" : "=r"(v));
                            CHILD_CHECK(v == 0xabcdef);
                          }) == Exited(0));
              CHILD_CHECK(syscall(SYS_arch_prctl, ARCH_SET_GS, 0x800000000000ul) == -1 && errno == EPERM);
              CHILD_CHECK(syscall(SYS_arch_prctl, 0x9999, 0) == -1 && errno == EINVAL);
            }));
}

TEST(Clock, EveryClockAnswers) {
  for (clockid_t id : {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_PROCESS_CPUTIME_ID, CLOCK_THREAD_CPUTIME_ID,
                       CLOCK_MONOTONIC_RAW, CLOCK_REALTIME_COARSE, CLOCK_MONOTONIC_COARSE, CLOCK_BOOTTIME, CLOCK_TAI}) {
    timespec t = {-1, -1}, res = {-1, -1}, raw = {-1, -1};
    EXPECT_OK(clock_gettime(id, &t)) << id;
    EXPECT_OK(syscall(SYS_clock_gettime, id, &raw)) << id;
    EXPECT_OK(clock_getres(id, &res)) << id;
    EXPECT_TRUE(t.tv_sec >= 0 && t.tv_nsec >= 0 && t.tv_nsec < 1000000000) << id;
    EXPECT_TRUE(res.tv_sec == 0 && res.tv_nsec > 0) << id;
    EXPECT_TRUE(raw.tv_sec > t.tv_sec || (raw.tv_sec == t.tv_sec && raw.tv_nsec >= t.tv_nsec)) << id;
  }
  timespec t;
  EXPECT_FAILS(EINVAL, clock_gettime(99, &t));
}

TEST(Clock, MonotonicNeverGoesBack) {
  timespec last = {}, now;
  for (int i = 0; i < 100000; ++i) {
    clock_gettime(CLOCK_MONOTONIC, &now);
    ASSERT_TRUE(now.tv_sec > last.tv_sec || (now.tv_sec == last.tv_sec && now.tv_nsec >= last.tv_nsec));
    last = now;
  }
}

TEST(Clock, VdsoAndSystemCallAgree) {
  for (int i = 0; i < 1000; ++i) {
    timespec a, b, c;
    syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &a);
    clock_gettime(CLOCK_MONOTONIC, &b);
    syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &c);
    auto ns = [](const timespec& t) { return t.tv_sec * 1000000000l + t.tv_nsec; };
    ASSERT_LE(ns(a), ns(b));
    ASSERT_LE(ns(b), ns(c));
  }
}

TEST(Clock, NanosleepWaitsAtLeastThatLong) {
  timespec start, end, t = {0, 2000000};
  clock_gettime(CLOCK_MONOTONIC, &start);
  ASSERT_OK(nanosleep(&t, nullptr));
  clock_gettime(CLOCK_MONOTONIC, &end);
  EXPECT_GE((end.tv_sec - start.tv_sec) * 1000000000l + end.tv_nsec - start.tv_nsec, 2000000);
  t.tv_nsec = 1000000000;
  EXPECT_FAILS(EINVAL, nanosleep(&t, nullptr));
  t = {1, 0};
  EXPECT_EQ(0, clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, nullptr)) << "in the past";
  EXPECT_EQ(EINVAL, clock_nanosleep(CLOCK_THREAD_CPUTIME_ID, 0, &t, nullptr));
}

TEST(Clock, SettingNeedsPrivilege) {
  EXPECT_EQ(Exited(0), RunInChild([] {
              CHILD_CHECK(setresuid(1000, 1000, 1000) == 0);
              timespec t;
              clock_gettime(CLOCK_REALTIME, &t);
              CHILD_CHECK(clock_settime(CLOCK_REALTIME, &t) == -1 && errno == EPERM);
              CHILD_CHECK(clock_settime(CLOCK_MONOTONIC, &t) == -1 && errno == EINVAL);
            }));
}

// What the first process of a new pid namespace, whose child calls reboot(2) so, ends with.
int StatusOfInitAfterReboot(unsigned magic1, unsigned magic2, unsigned command, int wanted_errno) {
  int status = -1;
  Child child([&] {
    CHILD_CHECK(unshare(CLONE_NEWPID) == 0);
    pid_t init = fork();
    if (init == 0) {
      BoundChild();
      pid_t caller = fork();
      if (caller == 0) {
        long done = syscall(SYS_reboot, magic1, magic2, command, nullptr);
        _exit(done == -1 && errno == wanted_errno ? 0 : 1);
      }
      int inner;
      CHILD_CHECK(waitpid(caller, &inner, 0) == caller && inner == 0);
      _exit(7);
    }
    int got = WaitStatus(init);
    _exit(WIFSIGNALED(got) ? 100 + WTERMSIG(got) : WEXITSTATUS(got));
  });
  status = child.Wait();
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST(Reboot, EndsTheInitOfThePidNamespace) {
  if (RunInChild([] { _exit(unshare(CLONE_NEWPID) == 0 ? 0 : 1); }) != Exited(0)) GTEST_SKIP() << "needs CAP_SYS_ADMIN";
  EXPECT_EQ(100 + SIGHUP, StatusOfInitAfterReboot(0xfee1dead, 0x28121969, 0x1234567, 0));
  EXPECT_EQ(100 + SIGINT, StatusOfInitAfterReboot(0xfee1dead, 0x5121996, 0x4321fedc, 0));
  EXPECT_EQ(100 + SIGINT, StatusOfInitAfterReboot(0xfee1dead, 0x16041998, 0xcdef0123, 0));
  // Wrong magic, ^C on and off, nonsense: nothing happens.
  EXPECT_EQ(7, StatusOfInitAfterReboot(0xfee1deae, 0x28121969, 0x1234567, EINVAL));
  EXPECT_EQ(7, StatusOfInitAfterReboot(0xfee1dead, 0, 0x1234567, EINVAL));
  EXPECT_EQ(7, StatusOfInitAfterReboot(0xfee1dead, 0x28121969, 0, EINVAL));
  EXPECT_EQ(7, StatusOfInitAfterReboot(0xfee1dead, 0x28121969, 0x89abcdef, EINVAL));
}

TEST(Reboot, NeedsACapability) {
  EXPECT_EQ(Exited(0), RunInChild([] {
              CHILD_CHECK(setresuid(65534, 65534, 65534) == 0);
              CHILD_CHECK(syscall(SYS_reboot, 0xfee1dead, 0x28121969, 0, nullptr) == -1 && errno == EPERM);
            }));
}

}  // namespace
