// SPDX-License-Identifier: Apache-2.0
// sched_setattr(2) and its kin, ioprio_set(2), setpriority(2) of groups and users, and the limits that bound them.
#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include <atomic>

#include "tests/syscalls/util.h"

#ifndef SCHED_DEADLINE
#define SCHED_DEADLINE 6
#endif
#ifndef SCHED_RESET_ON_FORK
#define SCHED_RESET_ON_FORK 0x40000000
#endif

namespace {

struct Attr {
  uint32_t size = 56, policy = 0;
  uint64_t flags = 0;
  int32_t nice = 0;
  uint32_t priority = 0;
  uint64_t runtime = 0, deadline = 0, period = 0;
  uint32_t util_min = 0, util_max = 0;
};
long SetAttr(Attr* attr, unsigned flags = 0, pid_t pid = 0) { return syscall(SYS_sched_setattr, pid, attr, flags); }
long GetAttr(Attr* attr, unsigned size = sizeof(Attr), unsigned flags = 0, pid_t pid = 0) {
  return syscall(SYS_sched_getattr, pid, attr, size, flags);
}
void SetLimit(int resource, rlim_t value) {
  rlimit limit = {value, value};
  CHILD_CHECK(setrlimit(static_cast<__rlimit_resource>(resource), &limit) == 0);
}
long SetScheduler(int policy, int priority, pid_t pid = 0) {
  sched_param p = {priority};
  return sched_setscheduler(pid, policy, &p);
}
void DropPrivilege() { CHILD_CHECK(setresuid(65533, 65533, 65533) == 0); }

TEST(SchedAttr, BadArguments) {
  Attr attr;
  EXPECT_FAILS(EINVAL, SetAttr(nullptr));
  EXPECT_FAILS(EFAULT, SetAttr(reinterpret_cast<Attr*>(8)));
  EXPECT_FAILS(EINVAL, SetAttr(&attr, 1));
  EXPECT_FAILS(EINVAL, SetAttr(&attr, 0, -1));
  EXPECT_FAILS(ESRCH, SetAttr(&attr, 0, 0x3ffffff0));
  attr.size = 47;
  EXPECT_FAILS(E2BIG, SetAttr(&attr));
  EXPECT_EQ(56u, attr.size) << "the kernel's size";
  attr.size = 4097;
  EXPECT_FAILS(E2BIG, SetAttr(&attr));
  struct {
    Attr attr;
    uint64_t more = 1;
  } longer;
  longer.attr.size = sizeof longer;
  EXPECT_FAILS(E2BIG, SetAttr(&longer.attr));
  attr = {};
  attr.flags = 1 << 30;
  EXPECT_FAILS(EINVAL, SetAttr(&attr));
  attr = {};
  attr.policy = 99;
  EXPECT_FAILS(EINVAL, SetAttr(&attr));
  attr.policy = ~0u;
  EXPECT_FAILS(EINVAL, SetAttr(&attr));
  attr = {};
  attr.priority = 1;
  EXPECT_FAILS(EINVAL, SetAttr(&attr)) << "of a fair policy";
  attr.policy = SCHED_FIFO;
  attr.priority = 100;
  EXPECT_FAILS(EINVAL, SetAttr(&attr));
  attr.priority = ~0u;
  EXPECT_FAILS(EINVAL, SetAttr(&attr));
  EXPECT_FAILS(EINVAL, GetAttr(nullptr));
  EXPECT_FAILS(EINVAL, GetAttr(&attr, 47));
  EXPECT_FAILS(EINVAL, GetAttr(&attr, 4097));
  EXPECT_FAILS(EINVAL, GetAttr(&attr, sizeof attr, 1));
  EXPECT_FAILS(EINVAL, GetAttr(&attr, sizeof attr, 0, -1));
  EXPECT_FAILS(ESRCH, GetAttr(&attr, sizeof attr, 0, 0x3ffffff0));
  EXPECT_FAILS(EFAULT, GetAttr(reinterpret_cast<Attr*>(8)));
}

TEST(SchedAttr, ReadBack) {
  EXPECT_EQ(Exited(0), RunInChild([] {
              Attr attr, got;
              attr.policy = SCHED_BATCH;
              attr.nice = 7;
              CHILD_CHECK(SetAttr(&attr) == 0);
              CHILD_CHECK(GetAttr(&got) == 0);
              CHILD_CHECK(got.size == 56 && got.policy == SCHED_BATCH && got.nice == 7 && got.flags == 0);
              CHILD_CHECK(getpriority(PRIO_PROCESS, 0) == 7);
              CHILD_CHECK(GetAttr(&got, 48) == 0 && got.size == 48);
              attr.nice = 1000;
              CHILD_CHECK(SetAttr(&attr) == 0 && getpriority(PRIO_PROCESS, 0) == 19);
              // KEEP_PARAMS with another policy.
              attr = {};
              attr.flags = 0x10;
              CHILD_CHECK(SetAttr(&attr) == 0 && getpriority(PRIO_PROCESS, 0) == 19);
              CHILD_CHECK(sched_getscheduler(0) == SCHED_BATCH);  // the policy is a parameter, too
            }));
  EXPECT_EQ(Exited(0), RunInChild([] {
              if (SetScheduler(SCHED_RR, 5) == -1 && errno == EPERM) return;  // no CAP_SYS_NICE
              Attr got;
              CHILD_CHECK(GetAttr(&got) == 0 && got.policy == SCHED_RR && got.priority == 5);
              sched_param p = {};
              CHILD_CHECK(sched_getparam(0, &p) == 0 && p.sched_priority == 5);
              p.sched_priority = 8;
              CHILD_CHECK(sched_setparam(0, &p) == 0);
              CHILD_CHECK(GetAttr(&got) == 0 && got.policy == SCHED_RR && got.priority == 8);
            }));
}

TEST(SchedAttr, DeadlineParameters) {
  EXPECT_EQ(Exited(0), RunInChild([] {
              auto set = [](uint64_t runtime, uint64_t deadline, uint64_t period) {
                Attr attr;
                attr.policy = SCHED_DEADLINE;
                attr.runtime = runtime, attr.deadline = deadline, attr.period = period;
                return SetAttr(&attr) == 0 ? 0 : errno;
              };
              CHILD_CHECK(set(0, 0, 0) == EINVAL);
              CHILD_CHECK(set(1000, 10000000, 10000000) == EINVAL);
              CHILD_CHECK(set(20000000, 10000000, 10000000) == EINVAL);
              CHILD_CHECK(set(1000000, 10000000, 5000000) == EINVAL);
              CHILD_CHECK(set(1000000, 1ull << 63, 0) == EINVAL);
              int error = set(1000000, 10000000, 10000000);
              // Admitted, or no bandwidth to be had.
              CHILD_CHECK(error == 0 || error == EBUSY || error == EPERM);
              CHILD_CHECK(SetScheduler(SCHED_OTHER, 0) == 0);
              DropPrivilege();
              CHILD_CHECK(set(1000000, 10000000, 10000000) == EPERM);
            }));
}

TEST(Sched, ResetOnFork) {
  EXPECT_EQ(Exited(0), RunInChild([] {
              CHILD_CHECK(SetScheduler(SCHED_BATCH | SCHED_RESET_ON_FORK, 0) == 0);
              CHILD_CHECK(sched_getscheduler(0) == (SCHED_BATCH | SCHED_RESET_ON_FORK));
              Attr attr;
              CHILD_CHECK(GetAttr(&attr) == 0 && attr.flags == 1 && attr.policy == SCHED_BATCH);
              CHILD_CHECK(RunInChild([] { CHILD_CHECK(sched_getscheduler(0) == SCHED_BATCH); }) == Exited(0));
              // Without privilege it stays.
              DropPrivilege();
              CHILD_CHECK(SetScheduler(SCHED_BATCH, 0) == -1 && errno == EPERM);
            }));
  EXPECT_EQ(Exited(0), RunInChild([] {
              if (SetScheduler(SCHED_FIFO | SCHED_RESET_ON_FORK, 3) == -1 && errno == EPERM) return;
              CHILD_CHECK(RunInChild([] { CHILD_CHECK(sched_getscheduler(0) == SCHED_OTHER); }) == Exited(0));
            }));
}

TEST(Sched, WithoutPrivilegeLimitsCount) {
  EXPECT_EQ(Exited(0), RunInChild([] {
              SetLimit(RLIMIT_RTPRIO, 0);
              DropPrivilege();
              CHILD_CHECK(SetScheduler(SCHED_FIFO, 1) == -1 && errno == EPERM);
              CHILD_CHECK(SetScheduler(SCHED_FIFO, 0) == -1 && errno == EINVAL);
              CHILD_CHECK(SetScheduler(SCHED_BATCH, 0) == 0);
              CHILD_CHECK(SetScheduler(SCHED_IDLE, 0) == 0);
              SetLimit(RLIMIT_NICE, 0);
              CHILD_CHECK(SetScheduler(SCHED_OTHER, 0) == -1 && errno == EPERM);
            }));
  EXPECT_EQ(Exited(0), RunInChild([] {
              rlimit limit = {5, 5};
              if (setrlimit(RLIMIT_RTPRIO, &limit) == -1) return;  // no CAP_SYS_RESOURCE
              DropPrivilege();
              CHILD_CHECK(SetScheduler(SCHED_FIFO, 6) == -1 && errno == EPERM);
              CHILD_CHECK(SetScheduler(SCHED_FIFO, 5) == 0 || errno == EPERM);
            }));
}

TEST(Sched, OthersProcesses) {
  Event ready, done;
  Child child([&] {
    ready.Set();
    done.Wait();
  });
  ASSERT_TRUE(ready.Wait());
  EXPECT_EQ(Exited(0), RunInChild([&] {
              DropPrivilege();
              CHILD_CHECK(SetScheduler(SCHED_BATCH, 0, child.pid()) == -1 && errno == EPERM);
              CHILD_CHECK(setpriority(PRIO_PROCESS, child.pid(), 10) == -1 && errno == EPERM);
              cpu_set_t set;
              CHILD_CHECK(sched_getaffinity(child.pid(), sizeof set, &set) == 0);
              CHILD_CHECK(sched_setaffinity(child.pid(), sizeof set, &set) == -1 && errno == EPERM);
              CHILD_CHECK(sched_getscheduler(child.pid()) == SCHED_OTHER);
            }));
  EXPECT_FAILS(EINVAL, sched_getscheduler(-1));
  EXPECT_FAILS(ESRCH, SetScheduler(SCHED_BATCH, 0, 0x3ffffff0));
  EXPECT_FAILS(EINVAL, SetScheduler(-1, 0));
  EXPECT_FAILS(EINVAL, sched_setscheduler(0, SCHED_OTHER, nullptr));
  done.Set();
  EXPECT_EQ(Exited(0), child.Wait());
}

TEST(Priority, OfGroupsAndUsers) {
  EXPECT_EQ(Exited(0), RunInChild([] {
              CHILD_CHECK(setpgid(0, 0) == 0);
              DropPrivilege();
              const int base = getpriority(PRIO_PROCESS, 0);
              Event go, done;
              Child child([&] {
                go.Wait();
                CHILD_CHECK(getpriority(PRIO_PROCESS, 0) == base + 4);
                done.Wait();
              });
              CHILD_CHECK(setpriority(PRIO_PGRP, 0, base + 2) == 0);
              CHILD_CHECK(getpriority(PRIO_PROCESS, child.pid()) == base + 2);
              CHILD_CHECK(setpriority(PRIO_USER, 0, base + 4) == 0);
              CHILD_CHECK(getpriority(PRIO_USER, 65533) == base + 4 && getpriority(PRIO_PGRP, 0) == base + 4);
              CHILD_CHECK(setpriority(PRIO_USER, 0, base + 3) == -1 && errno == EACCES);
              CHILD_CHECK(setpriority(PRIO_PGRP, 0x3ffffff0, 5) == -1 && errno == ESRCH);
              CHILD_CHECK(setpriority(PRIO_USER, 0x3ffffff0, 5) == -1 && errno == ESRCH);
              CHILD_CHECK(setpriority(3, 0, 5) == -1 && errno == EINVAL);
              go.Set();
              done.Set();
              CHILD_CHECK(child.Wait() == Exited(0));
            }));
}

long IoprioSet(int which, int who, int value) { return syscall(SYS_ioprio_set, which, who, value); }
long IoprioGet(int which, int who) { return syscall(SYS_ioprio_get, which, who); }
constexpr int IoClass(int io_class, int level) { return io_class << 13 | level; }

TEST(Ioprio, SetAndRead) {
  EXPECT_EQ(Exited(0), RunInChild([] {
              CHILD_CHECK(IoprioSet(1, 0, IoClass(2, 3)) == 0);
              CHILD_CHECK(IoprioGet(1, 0) == IoClass(2, 3));
              CHILD_CHECK(RunInChild([] { CHILD_CHECK(IoprioGet(1, 0) == IoClass(2, 3)); }) == Exited(0));
              CHILD_CHECK(IoprioSet(1, 0, IoClass(3, 0)) == 0 && IoprioGet(1, 0) == IoClass(3, 0));
              CHILD_CHECK(IoprioSet(1, 0, IoClass(0, 1)) == -1 && errno == EINVAL);
              CHILD_CHECK(IoprioSet(1, 0, IoClass(4, 0)) == -1 && errno == EINVAL);
              CHILD_CHECK(IoprioSet(0, 0, IoClass(2, 0)) == -1 && errno == EINVAL);
              CHILD_CHECK(IoprioSet(4, 0, IoClass(2, 0)) == -1 && errno == EINVAL);
              CHILD_CHECK(IoprioSet(1, 0x3ffffff0, IoClass(2, 0)) == -1 && errno == ESRCH);
              CHILD_CHECK(IoprioGet(9, 0) == -1 && errno == EINVAL);
              CHILD_CHECK(IoprioGet(1, 0x3ffffff0) == -1 && errno == ESRCH);
              DropPrivilege();
              CHILD_CHECK(IoprioSet(1, 0, IoClass(1, 4)) == -1 && errno == EPERM);
              CHILD_CHECK(IoprioSet(1, 0, IoClass(2, 0)) == 0);
            }));
}

// Limits with their effect.

TEST(RlimitEffect, FileSize) {
  TempDir dir;
  EXPECT_EQ(Exited(0), RunInChild([&] {
              SetLimit(RLIMIT_FSIZE, 10);
              signal(SIGXFSZ, SIG_IGN);
              Fd fd(open((dir / "f").c_str(), O_CREAT | O_RDWR, 0600));
              CHILD_CHECK(write(fd.get(), "0123456789abc", 13) == 10);
              CHILD_CHECK(write(fd.get(), "x", 1) == -1 && errno == EFBIG);
              CHILD_CHECK(pwrite(fd.get(), "x", 1, 20) == -1 && errno == EFBIG);
              CHILD_CHECK(ftruncate(fd.get(), 11) == -1 && errno == EFBIG);
              CHILD_CHECK(truncate((dir / "f").c_str(), 11) == -1 && errno == EFBIG);
              CHILD_CHECK(fallocate(fd.get(), 0, 0, 11) == -1 && errno == EFBIG);
              CHILD_CHECK(pwrite(fd.get(), "x", 1, 3) == 1);
            }));
  EXPECT_EQ(Killed(SIGXFSZ), RunInChild([&] {
              SetLimit(RLIMIT_FSIZE, 0);
              Fd fd(open((dir / "g").c_str(), O_CREAT | O_RDWR, 0600));
              (void)!write(fd.get(), "x", 1);
            }));
}

TEST(RlimitEffect, Processes) {
  EXPECT_EQ(Exited(0), RunInChild([] {
              SetLimit(RLIMIT_NPROC, 2);
              CHILD_CHECK(setresuid(65532, 65532, 65532) == 0);
              Event go;
              pid_t pid = fork();
              CHILD_CHECK(pid >= 0);
              if (pid == 0) {
                BoundChild();
                go.Wait();
                _exit(0);
              }
              CHILD_CHECK(fork() == -1 && errno == EAGAIN);
              go.Set();
              CHILD_CHECK(WaitStatus(pid) == Exited(0));
              CHILD_CHECK(RunInChild([] {}) == Exited(0));
            }));
}

TEST(RlimitEffect, Descriptors) {
  EXPECT_EQ(Exited(0), RunInChild([] {
              int last = dup(0);
              SetLimit(RLIMIT_NOFILE, static_cast<rlim_t>(last) + 1);
              CHILD_CHECK(dup(0) == -1 && errno == EMFILE);
              CHILD_CHECK(dup2(0, last + 1) == -1 && errno == EBADF);
              CHILD_CHECK(fcntl(0, F_DUPFD, last + 1) == -1 && errno == EINVAL);
              CHILD_CHECK(open("/", O_RDONLY) == -1 && errno == EMFILE);
            }));
}

TEST(RlimitEffect, AddressSpaceDataAndLockedMemory) {
  EXPECT_EQ(Exited(0), RunInChild([] {
              SetLimit(RLIMIT_AS, 1 << 20);
              void* m = mmap(nullptr, 64 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
              CHILD_CHECK(m == MAP_FAILED && errno == ENOMEM);
            }));
  EXPECT_EQ(Exited(0), RunInChild([] {
              SetLimit(RLIMIT_DATA, 0);
              void* m = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
              CHILD_CHECK(m == MAP_FAILED && errno == ENOMEM);
              void* now = sbrk(0);
              CHILD_CHECK(syscall(SYS_brk, static_cast<char*>(now) + (1 << 20)) == reinterpret_cast<long>(now));
            }));
  EXPECT_EQ(Exited(0), RunInChild([] {
              void* m = mmap(nullptr, 1 << 16, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
              SetLimit(RLIMIT_MEMLOCK, 4096);
              DropPrivilege();
              CHILD_CHECK(mlock(m, 4096) == 0);
              CHILD_CHECK(mlock(m, 8192) == -1 && errno == ENOMEM);
              SetLimit(RLIMIT_MEMLOCK, 0);
              CHILD_CHECK(munlock(m, 4096) == 0);
              CHILD_CHECK(mlock(m, 4096) == -1 && errno == EPERM);
            }));
}

TEST(RlimitEffect, QueuedSignals) {
  EXPECT_EQ(Exited(0), RunInChild([] {
              ScopedBlock block({SIGRTMIN, SIGUSR1});
              SetLimit(RLIMIT_SIGPENDING, 2);
              CHILD_CHECK(setresuid(65531, 65531, 65531) == 0);
              sigval value = {};
              CHILD_CHECK(sigqueue(getpid(), SIGRTMIN, value) == 0);
              CHILD_CHECK(sigqueue(getpid(), SIGRTMIN, value) == 0);
              CHILD_CHECK(sigqueue(getpid(), SIGRTMIN, value) == -1 && errno == EAGAIN);
              CHILD_CHECK(kill(getpid(), SIGUSR1) == 0);
              _exit(0);  // before they are unblocked
            }));
}

TEST(RlimitEffect, CpuTime) {
  auto spin = [](rlim_t soft, rlim_t hard) {
    rlimit limit = {soft, hard};
    CHILD_CHECK(setrlimit(RLIMIT_CPU, &limit) == 0);
    for (std::atomic<int> i = 0;;) ++i;
  };
  EXPECT_EQ(Killed(SIGXCPU), RunInChild([&] { spin(1, RLIM_INFINITY); }));
  EXPECT_EQ(Killed(SIGKILL), RunInChild([&] {
              signal(SIGXCPU, SIG_IGN);
              spin(1, 2);
            }));
}

TEST(RlimitEffect, StackBoundsGrowth) {
  EXPECT_EQ(Killed(SIGSEGV), RunInChild([] {
              SetLimit(RLIMIT_STACK, 256 << 10);
              // One page after the other, as the stack grows.
              volatile char* sp = static_cast<volatile char*>(__builtin_frame_address(0));
              for (size_t i = 0; i < (1 << 20); i += 4096) *(sp - i) = 1;
            }));
}

}  // namespace
