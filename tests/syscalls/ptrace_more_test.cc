// SPDX-License-Identifier: Apache-2.0
// ptrace(2), what sandboxes and debuggers need beyond ptrace_test: SYSEMU, SEIZE's group stops and LISTEN, masks and
// pending signals, the vector state, vfork, options that are refused.
#include <elf.h>
#include <sched.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>

#include <vector>

#include "tests/syscalls/util.h"

namespace {

constexpr int kSysemu = 31, kSysemuSinglestep = 32;
constexpr int kEventStop = 128;

long Ptrace(int req, pid_t pid, uintptr_t addr = 0, const void* data = nullptr) {
  return ptrace(static_cast<__ptrace_request>(req), pid, addr, data);
}
const void* Bits(uintptr_t n) { return reinterpret_cast<const void*>(n); }
constexpr int EventStop(int signal, int event) { return Stopped(signal) | event << 16; }

class Tracee : public Child {
 public:
  explicit Tracee(const std::function<void()>& body)
      : Child([&] {
          CHILD_CHECK(Ptrace(PTRACE_TRACEME, 0) == 0);
          raise(SIGSTOP);
          body();
        }) {
    EXPECT_EQ(Stopped(SIGSTOP), Wait());
  }
  int Resume(int req, int sig = 0) { return Ptrace(req, pid(), 0, Bits(sig)) == 0 ? Wait(__WALL) : -1; }
  user_regs_struct Regs() {
    user_regs_struct r = {};
    EXPECT_OK(Ptrace(PTRACE_GETREGS, pid(), 0, &r));
    return r;
  }
};

TEST(PtraceSysemu, CallsAreSkippedAndAnsweredByTheTracer) {
  Tracee t([] {
    CHILD_CHECK(syscall(SYS_getppid) == 9001);
    CHILD_CHECK(syscall(SYS_getpgid, 5) == 9002);
    _exit(4);
  });
  for (int answer : {9001, 9002}) {
    user_regs_struct r;
    do {
      ASSERT_EQ(Stopped(SIGTRAP), t.Resume(kSysemu));
      r = t.Regs();
      EXPECT_EQ(-ENOSYS, static_cast<long>(r.rax));
      // Calls of the library between (none expected) fail.
    } while (r.orig_rax != SYS_getppid && r.orig_rax != SYS_getpgid);
    r.rax = answer;
    ASSERT_OK(Ptrace(PTRACE_SETREGS, t.pid(), 0, &r));
  }
  // exit_group is skipped as well, until the tracer lets go.
  ASSERT_EQ(Stopped(SIGTRAP), t.Resume(kSysemu));
  EXPECT_EQ(static_cast<unsigned long long>(SYS_exit_group), t.Regs().orig_rax);
  EXPECT_FAILS(EIO, Ptrace(kSysemu, t.pid(), 0, Bits(1000)));
}

TEST(PtraceSysemu, SinglestepStepsBetweenCalls) {
  Tracee t([] { syscall(SYS_getppid); });
  bool stepped = false;
  for (int i = 0; i < 10000; ++i) {
    ASSERT_EQ(Stopped(SIGTRAP), t.Resume(kSysemuSinglestep));
    user_regs_struct r = t.Regs();
    if (r.orig_rax == SYS_getppid) {
      EXPECT_TRUE(stepped);
      return;
    }
    stepped = true;
  }
  FAIL() << "the call was not seen";
}

TEST(PtraceSyscallInfo, NeedsTheGoodStops) {
  Tracee t([] { syscall(SYS_getppid); });
  ASSERT_EQ(Stopped(SIGTRAP), t.Resume(PTRACE_SYSCALL));
  __ptrace_syscall_info info = {};
  long size = Ptrace(PTRACE_GET_SYSCALL_INFO, t.pid(), sizeof info, &info);
  EXPECT_EQ(PTRACE_SYSCALL_INFO_NONE, info.op);
  EXPECT_EQ(24, size);
  EXPECT_EQ(t.Regs().rip, info.instruction_pointer);
  EXPECT_EQ(t.Regs().rsp, info.stack_pointer);
  EXPECT_EQ(24, Ptrace(PTRACE_GET_SYSCALL_INFO, t.pid(), 0, &info));
  EXPECT_FAILS(EFAULT, Ptrace(PTRACE_GET_SYSCALL_INFO, t.pid(), sizeof info, Bits(8)));
}

TEST(PtraceOptions, AreCheckedWhole) {
  Tracee t([] {});
  for (unsigned bit = 0; bit < 32; ++bit) {
    const bool known = bit <= 7 || bit == 20 || bit == 21;
    if (bit == 21) continue;  // PTRACE_O_SUSPEND_SECCOMP depends on privilege and configuration
    long result = Ptrace(PTRACE_SETOPTIONS, t.pid(), 0, Bits(1ul << bit));
    EXPECT_EQ(known ? 0 : -1, result) << bit;
    if (!known) {
      EXPECT_EQ(EINVAL, errno) << bit;
    }
  }
  EXPECT_FAILS(EINVAL, Ptrace(PTRACE_SETOPTIONS, t.pid(), 0, Bits(~0ul)));
  Event ready, done;
  Child other([&] {
    ready.Set();
    done.Wait();
  });
  ASSERT_TRUE(ready.Wait());
  EXPECT_FAILS(EIO, Ptrace(PTRACE_SEIZE, other.pid(), 1, nullptr));
  EXPECT_FAILS(EIO, Ptrace(PTRACE_SEIZE, other.pid(), 0, Bits(1ul << 30)));
  EXPECT_FAILS(ESRCH, Ptrace(PTRACE_INTERRUPT, other.pid()));
  EXPECT_FAILS(ESRCH, Ptrace(PTRACE_LISTEN, other.pid()));
  EXPECT_FAILS(EIO, Ptrace(PTRACE_INTERRUPT, t.pid())) << "was not seized";
  EXPECT_FAILS(EIO, Ptrace(PTRACE_LISTEN, t.pid()));
  EXPECT_FAILS(EIO, Ptrace(0x7777, t.pid()));
  done.Set();
}

TEST(PtraceSeize, GroupStopsAndListen) {
  Event ready;
  Child child([&] {
    ready.Set();
    for (;;) pause();
  });
  ASSERT_TRUE(ready.Wait());
  ASSERT_OK(Ptrace(PTRACE_SEIZE, child.pid()));
  EXPECT_FAILS(EPERM, Ptrace(PTRACE_SEIZE, child.pid())) << "once only";
  ASSERT_OK(child.Kill(SIGSTOP));
  ASSERT_EQ(Stopped(SIGSTOP), child.Wait(__WALL)) << "the signal";
  siginfo_t info = {};
  EXPECT_OK(Ptrace(PTRACE_GETSIGINFO, child.pid(), 0, &info));
  EXPECT_FAILS(EIO, Ptrace(PTRACE_LISTEN, child.pid())) << "not in a group stop";
  ASSERT_OK(Ptrace(PTRACE_CONT, child.pid(), 0, Bits(SIGSTOP)));
  ASSERT_EQ(EventStop(SIGSTOP, kEventStop), child.Wait(__WALL)) << "the group stop";
  ASSERT_OK(Ptrace(PTRACE_LISTEN, child.pid()));
  EXPECT_FAILS(ESRCH, Ptrace(PTRACE_CONT, child.pid())) << "it listens";
  ASSERT_OK(child.Kill(SIGCONT));
  ASSERT_EQ(EventStop(SIGTRAP, kEventStop), child.Wait(__WALL));
  ASSERT_OK(Ptrace(PTRACE_CONT, child.pid()));
  ASSERT_EQ(Stopped(SIGCONT), child.Wait(__WALL));
  ASSERT_OK(Ptrace(PTRACE_CONT, child.pid(), 0, Bits(SIGCONT)));
  ASSERT_OK(Ptrace(PTRACE_INTERRUPT, child.pid()));
  ASSERT_EQ(EventStop(SIGTRAP, kEventStop), child.Wait(__WALL));
  ASSERT_OK(Ptrace(PTRACE_DETACH, child.pid()));
  ASSERT_OK(child.Kill(SIGTERM));
  EXPECT_EQ(Killed(SIGTERM), child.Wait());
}

TEST(PtraceSignals, MaskIsReadAndSet) {
  Tracee t([] {
    sigset_t mask;
    sigprocmask(SIG_BLOCK, nullptr, &mask);
    CHILD_CHECK(sigismember(&mask, SIGUSR1) == 1 && sigismember(&mask, SIGUSR2) == 0);
  });
  constexpr int kGet = 0x420a, kSet = 0x420b;
  uint64_t mask = ~0ull;
  EXPECT_FAILS(EINVAL, Ptrace(kGet, t.pid(), 4, &mask));
  ASSERT_OK(Ptrace(kGet, t.pid(), 8, &mask));
  EXPECT_EQ(0u, mask & 1ull << (SIGUSR1 - 1));
  mask = 1ull << (SIGUSR1 - 1) | 1ull << (SIGKILL - 1);
  EXPECT_FAILS(EINVAL, Ptrace(kSet, t.pid(), 128, &mask));
  ASSERT_OK(Ptrace(kSet, t.pid(), 8, &mask));
  ASSERT_OK(Ptrace(kGet, t.pid(), 8, &mask));
  EXPECT_EQ(1ull << (SIGUSR1 - 1), mask) << "SIGKILL cannot be blocked";
  EXPECT_EQ(Exited(0), t.Resume(PTRACE_CONT));
}

TEST(PtraceSignals, PendingOnesCanBePeeked) {
  Tracee t([] {
    sigset_t all = SetOf({SIGRTMIN, SIGUSR1});
    sigprocmask(SIG_BLOCK, &all, nullptr);
    for (int i = 0; i < 3; ++i) {
      sigval value = {i};
      CHILD_CHECK(sigqueue(getpid(), SIGRTMIN, value) == 0);
    }
    CHILD_CHECK(syscall(SYS_tgkill, getpid(), gettid(), SIGUSR1) == 0);
    raise(SIGSTOP);
    _exit(0);
  });
  ASSERT_EQ(Stopped(SIGSTOP), t.Resume(PTRACE_CONT));
  constexpr int kPeek = 0x4209;
  struct {
    uint64_t offset = 0;
    uint32_t flags = 0;
    int32_t count = 10;
  } args;
  siginfo_t infos[10];
  ASSERT_EQ(1, Ptrace(kPeek, t.pid(), reinterpret_cast<uintptr_t>(&args), infos));
  EXPECT_EQ(SIGUSR1, infos[0].si_signo);
  args.flags = 1;  // shared
  ASSERT_EQ(3, Ptrace(kPeek, t.pid(), reinterpret_cast<uintptr_t>(&args), infos));
  for (int i = 0; i < 3; ++i) EXPECT_EQ(i, infos[i].si_value.sival_int);
  args.offset = 1, args.count = 1;
  ASSERT_EQ(1, Ptrace(kPeek, t.pid(), reinterpret_cast<uintptr_t>(&args), infos));
  EXPECT_EQ(1, infos[0].si_value.sival_int);
  args.offset = 3;
  EXPECT_EQ(0, Ptrace(kPeek, t.pid(), reinterpret_cast<uintptr_t>(&args), infos));
  args.offset = 0, args.count = -1;
  EXPECT_FAILS(EINVAL, Ptrace(kPeek, t.pid(), reinterpret_cast<uintptr_t>(&args), infos));
  args.count = 1, args.flags = 2;
  EXPECT_FAILS(EINVAL, Ptrace(kPeek, t.pid(), reinterpret_cast<uintptr_t>(&args), infos));
  args.flags = 1;
  EXPECT_FAILS(EFAULT, Ptrace(kPeek, t.pid(), reinterpret_cast<uintptr_t>(&args), Bits(8)));
  EXPECT_FAILS(EFAULT, Ptrace(kPeek, t.pid(), 8, infos));
  EXPECT_EQ(Exited(0), t.Resume(PTRACE_CONT));
}

TEST(PtraceRegisters, VectorStateIsReadAndSet) {
  Tracee t([] {
    uint64_t low;
    asm volatile(
        "movq %1, %%xmm7\n"
        "int3\n"
        "movq %%xmm7, %0"
        : "=r"(low)
        : "r"(0x1111222233334444ull)
        : "xmm7");
    _exit(low == 0x5555666677778888ull ? 0 : 1);
  });
  ASSERT_EQ(Stopped(SIGTRAP), t.Resume(PTRACE_CONT));
  std::vector<uint8_t> image(16384);
  iovec iov = {image.data(), image.size()};
  ASSERT_OK(Ptrace(PTRACE_GETREGSET, t.pid(), NT_X86_XSTATE, &iov));
  ASSERT_GE(iov.iov_len, 576u);
  const size_t length = iov.iov_len;
  uint64_t xcr0, xmm7;
  memcpy(&xcr0, &image[464], 8);
  EXPECT_EQ(3u, xcr0 & 3);
  memcpy(&xmm7, &image[160 + 7 * 16], 8);
  EXPECT_EQ(0x1111222233334444ull, xmm7);
  xmm7 = 0x5555666677778888ull;
  memcpy(&image[160 + 7 * 16], &xmm7, 8);
  iov.iov_len = length;
  ASSERT_OK(Ptrace(PTRACE_SETREGSET, t.pid(), NT_X86_XSTATE, &iov));
  EXPECT_FAILS(EINVAL, Ptrace(PTRACE_GETREGSET, t.pid(), 0x9999, &iov));
  EXPECT_FAILS(EFAULT, Ptrace(PTRACE_GETREGSET, t.pid(), NT_X86_XSTATE, nullptr));
  EXPECT_EQ(Exited(0), t.Resume(PTRACE_CONT));
}

TEST(PtraceEvents, VforkAndItsEnd) {
  Tracee t([] {
    pid_t pid = vfork();
    if (pid == 0) _exit(3);
    CHILD_CHECK(WaitStatus(pid) == Exited(3));
  });
  ASSERT_OK(Ptrace(PTRACE_SETOPTIONS, t.pid(), 0, Bits(PTRACE_O_TRACEVFORK | PTRACE_O_TRACEVFORKDONE)));
  ASSERT_EQ(EventStop(SIGTRAP, PTRACE_EVENT_VFORK), t.Resume(PTRACE_CONT));
  unsigned long child = 0, done = 0;
  ASSERT_OK(Ptrace(PTRACE_GETEVENTMSG, t.pid(), 0, &child));
  EXPECT_EQ(Stopped(SIGSTOP), WaitStatus(static_cast<pid_t>(child), __WALL));
  ASSERT_OK(Ptrace(PTRACE_CONT, static_cast<pid_t>(child)));
  ASSERT_OK(Ptrace(PTRACE_CONT, t.pid()));
  EXPECT_EQ(Exited(3), WaitStatus(static_cast<pid_t>(child), __WALL));
  ASSERT_EQ(EventStop(SIGTRAP, PTRACE_EVENT_VFORK_DONE), t.Wait(__WALL));
  ASSERT_OK(Ptrace(PTRACE_GETEVENTMSG, t.pid(), 0, &done));
  EXPECT_EQ(child, done);
  int status = t.Resume(PTRACE_CONT);
  if (status == Stopped(SIGCHLD)) status = t.Resume(PTRACE_CONT, SIGCHLD);
  EXPECT_EQ(Exited(0), status);
}

}  // namespace
