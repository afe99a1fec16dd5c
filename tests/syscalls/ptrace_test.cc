// SPDX-License-Identifier: Apache-2.0
// ptrace(2): attaching, stops, registers, memory, stepping, signals, event options.
#include <sys/ptrace.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <elf.h>

#include <thread>

#include "tests/syscalls/util.h"

namespace {

volatile long g_word = 0x1111;

long Ptrace(int req, pid_t pid, uintptr_t addr = 0, uintptr_t data = 0) {
  return ptrace(static_cast<__ptrace_request>(req), pid, addr, data);
}

constexpr int EventStop(int e) { return Stopped(SIGTRAP) | e << 16; }

// A tracee that stops itself first and then runs `body`.
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
  int Resume(int req, int sig = 0) { return Ptrace(req, pid(), 0, sig) == 0 ? Wait(__WALL) : -1; }
  user_regs_struct Regs() {
    user_regs_struct r = {};
    EXPECT_OK(Ptrace(PTRACE_GETREGS, pid(), 0, reinterpret_cast<uintptr_t>(&r)));
    return r;
  }
  void SetRegs(const user_regs_struct& r) {
    EXPECT_OK(Ptrace(PTRACE_SETREGS, pid(), 0, reinterpret_cast<uintptr_t>(&r)));
  }
};

TEST(Ptrace, PeekAndPoke) {
  Tracee t([] { _exit(g_word == 0x2222 ? 0 : 1); });
  auto addr = reinterpret_cast<uintptr_t>(&g_word);
  errno = 0;
  EXPECT_EQ(0x1111, Ptrace(PTRACE_PEEKDATA, t.pid(), addr));
  ASSERT_OK(Ptrace(PTRACE_POKEDATA, t.pid(), addr, 0x2222));
  EXPECT_EQ(0x1111, g_word);
  EXPECT_FAILS(EIO, Ptrace(PTRACE_PEEKDATA, t.pid(), 8));
  EXPECT_EQ(Exited(0), t.Resume(PTRACE_CONT));
}

TEST(Ptrace, PokeWritesReadOnlyText) {
  Tracee t([] {});
  user_regs_struct r = t.Regs();
  long text = Ptrace(PTRACE_PEEKTEXT, t.pid(), r.rip);
  ASSERT_OK(Ptrace(PTRACE_POKETEXT, t.pid(), r.rip, (text & ~0xffl) | 0xcc));
  EXPECT_EQ(Stopped(SIGTRAP), t.Resume(PTRACE_CONT));
  EXPECT_EQ(r.rip + 1, t.Regs().rip);
  ASSERT_OK(Ptrace(PTRACE_POKETEXT, t.pid(), r.rip, text));
  t.SetRegs(r);
  EXPECT_EQ(Exited(0), t.Resume(PTRACE_CONT));
}

TEST(Ptrace, SyscallStopsAlternate) {
  Tracee t([] { syscall(SYS_getppid); });
  ASSERT_OK(Ptrace(PTRACE_SETOPTIONS, t.pid(), 0, PTRACE_O_TRACESYSGOOD));
  constexpr int kStop = Stopped(SIGTRAP | 0x80);
  bool seen = false;
  while (!seen) {
    ASSERT_EQ(kStop, t.Resume(PTRACE_SYSCALL));
    user_regs_struct enter = t.Regs();
    if (enter.orig_rax == SYS_exit_group) break;
    EXPECT_EQ(-ENOSYS, static_cast<long>(enter.rax));
    ASSERT_EQ(kStop, t.Resume(PTRACE_SYSCALL));
    if (enter.orig_rax == SYS_getppid) {
      seen = true;
      EXPECT_EQ(static_cast<unsigned long long>(getpid()), t.Regs().rax);
    }
  }
  EXPECT_TRUE(seen);
  EXPECT_EQ(Exited(0), t.Resume(PTRACE_CONT));
}

TEST(Ptrace, SyscallNumberAndResultCanBeChanged) {
  Tracee t([] { _exit(syscall(SYS_getppid) == 4242 ? 7 : 1); });
  ASSERT_OK(Ptrace(PTRACE_SETOPTIONS, t.pid(), 0, PTRACE_O_TRACESYSGOOD));
  for (;;) {
    ASSERT_EQ(Stopped(SIGTRAP | 0x80), t.Resume(PTRACE_SYSCALL));
    user_regs_struct r = t.Regs();
    if (r.orig_rax == SYS_getppid) {
      r.orig_rax = -1;
      t.SetRegs(r);
      ASSERT_EQ(Stopped(SIGTRAP | 0x80), t.Resume(PTRACE_SYSCALL));
      r = t.Regs();
      EXPECT_EQ(-ENOSYS, static_cast<long>(r.rax)) << "number -1 runs nothing";
      r.rax = 4242;
      t.SetRegs(r);
      break;
    }
    ASSERT_NE(static_cast<unsigned long long>(SYS_exit_group), r.orig_rax);
    ASSERT_EQ(Stopped(SIGTRAP | 0x80), t.Resume(PTRACE_SYSCALL));
  }
  EXPECT_EQ(Exited(7), t.Resume(PTRACE_CONT));
}

TEST(Ptrace, GetSyscallInfo) {
  Tracee t([] { syscall(SYS_getpgid, 12345); });
  ASSERT_OK(Ptrace(PTRACE_SETOPTIONS, t.pid(), 0, PTRACE_O_TRACESYSGOOD));
  __ptrace_syscall_info info = {};
  do {
    ASSERT_EQ(Stopped(SIGTRAP | 0x80), t.Resume(PTRACE_SYSCALL));
    ASSERT_GT(Ptrace(PTRACE_GET_SYSCALL_INFO, t.pid(), sizeof info, reinterpret_cast<uintptr_t>(&info)), 0);
    ASSERT_FALSE(info.op == PTRACE_SYSCALL_INFO_ENTRY && info.entry.nr == SYS_exit_group);
  } while (info.op != PTRACE_SYSCALL_INFO_ENTRY || info.entry.nr != SYS_getpgid);
  EXPECT_EQ(12345u, info.entry.args[0]);
  ASSERT_EQ(Stopped(SIGTRAP | 0x80), t.Resume(PTRACE_SYSCALL));
  ASSERT_GT(Ptrace(PTRACE_GET_SYSCALL_INFO, t.pid(), sizeof info, reinterpret_cast<uintptr_t>(&info)), 0);
  EXPECT_EQ(PTRACE_SYSCALL_INFO_EXIT, info.op);
  EXPECT_EQ(-ESRCH, info.exit.rval);
  EXPECT_EQ(1, info.exit.is_error);
}

TEST(Ptrace, SingleStepAdvances) {
  Tracee t([] {});
  unsigned long long before = t.Regs().rip;
  for (int i = 0; i < 20; ++i) {
    ASSERT_EQ(Stopped(SIGTRAP), t.Resume(PTRACE_SINGLESTEP));
    unsigned long long now = t.Regs().rip;
    EXPECT_NE(before, now);
    before = now;
  }
  siginfo_t info = {};
  ASSERT_OK(Ptrace(PTRACE_GETSIGINFO, t.pid(), 0, reinterpret_cast<uintptr_t>(&info)));
  EXPECT_EQ(SIGTRAP, info.si_signo);
  EXPECT_EQ(Exited(0), t.Resume(PTRACE_CONT));
}

TEST(Ptrace, RegisterSets) {
  Tracee t([] {});
  user_regs_struct r = t.Regs(), viaset = {};
  iovec iov = {&viaset, sizeof viaset};
  ASSERT_OK(Ptrace(PTRACE_GETREGSET, t.pid(), NT_PRSTATUS, reinterpret_cast<uintptr_t>(&iov)));
  EXPECT_EQ(sizeof viaset, iov.iov_len);
  EXPECT_EQ(0, memcmp(&r, &viaset, sizeof r));
  EXPECT_EQ(r.rip, static_cast<unsigned long long>(Ptrace(PTRACE_PEEKUSER, t.pid(), offsetof(struct user, regs.rip))));
  user_fpregs_struct fp = {};
  ASSERT_OK(Ptrace(PTRACE_GETFPREGS, t.pid(), 0, reinterpret_cast<uintptr_t>(&fp)));
  EXPECT_EQ(0x1f80u, fp.mxcsr);
  fp.xmm_space[0] = 0x12345678;
  ASSERT_OK(Ptrace(PTRACE_SETFPREGS, t.pid(), 0, reinterpret_cast<uintptr_t>(&fp)));
  user_fpregs_struct again = {};
  ASSERT_OK(Ptrace(PTRACE_GETFPREGS, t.pid(), 0, reinterpret_cast<uintptr_t>(&again)));
  EXPECT_EQ(0x12345678u, again.xmm_space[0]);
  EXPECT_EQ(Exited(0), t.Resume(PTRACE_CONT));
}

constexpr uintptr_t DebugRegister(size_t n) { return offsetof(struct user, u_debugreg) + n * sizeof(long); }
// Of DR7: the first breakpoint on, for writes to 8 bytes.
constexpr unsigned long kWatchWrites = 1 | 1ul << 16 | 2ul << 18;

// Not every kernel under a sandbox has any to give: EIO when DR7 is set.
bool HasDebugRegisters(Tracee& t) {
  EXPECT_OK(Ptrace(PTRACE_POKEUSER, t.pid(), DebugRegister(0), reinterpret_cast<uintptr_t>(&g_word)));
  if (Ptrace(PTRACE_POKEUSER, t.pid(), DebugRegister(7), kWatchWrites) != 0 && errno == EIO) return false;
  EXPECT_OK(Ptrace(PTRACE_POKEUSER, t.pid(), DebugRegister(7), 0));
  EXPECT_OK(Ptrace(PTRACE_POKEUSER, t.pid(), DebugRegister(0), 0));
  return true;
}
#define SKIP_WITHOUT_DEBUG_REGISTERS(t) \
  if (!HasDebugRegisters(t)) GTEST_SKIP() << "no debug registers here"

TEST(Ptrace, WatchpointStopsAfterTheWrite) {
  Tracee t([] {
    g_word = 0x4444;
    CHILD_CHECK(g_word == 0x4444);
    g_word = 0x5555;
    g_word = 0x6666;
  });
  SKIP_WITHOUT_DEBUG_REGISTERS(t);
  auto addr = reinterpret_cast<uintptr_t>(&g_word);
  ASSERT_OK(Ptrace(PTRACE_POKEUSER, t.pid(), DebugRegister(0), addr));
  ASSERT_OK(Ptrace(PTRACE_POKEUSER, t.pid(), DebugRegister(7), kWatchWrites));
  EXPECT_EQ(addr, static_cast<uintptr_t>(Ptrace(PTRACE_PEEKUSER, t.pid(), DebugRegister(0))));
  EXPECT_EQ(kWatchWrites, static_cast<unsigned long>(Ptrace(PTRACE_PEEKUSER, t.pid(), DebugRegister(7))));
  for (long want : {0x4444, 0x5555}) {
    ASSERT_EQ(Stopped(SIGTRAP), t.Resume(PTRACE_CONT));
    siginfo_t info = {};
    ASSERT_OK(Ptrace(PTRACE_GETSIGINFO, t.pid(), 0, reinterpret_cast<uintptr_t>(&info)));
    EXPECT_EQ(TRAP_HWBKPT, info.si_code);
    EXPECT_EQ(1, Ptrace(PTRACE_PEEKUSER, t.pid(), DebugRegister(6)) & 0xf);
    EXPECT_EQ(want, Ptrace(PTRACE_PEEKDATA, t.pid(), addr));
    ASSERT_OK(Ptrace(PTRACE_POKEUSER, t.pid(), DebugRegister(6), 0));
    EXPECT_EQ(0, Ptrace(PTRACE_PEEKUSER, t.pid(), DebugRegister(6)) & 0xf);
  }
  ASSERT_OK(Ptrace(PTRACE_POKEUSER, t.pid(), DebugRegister(7), 0));
  EXPECT_EQ(Exited(0), t.Resume(PTRACE_CONT));
}

volatile int g_traps = 0;

// Who debugs by another process (as our own systrap platform does) looks at DR6 later.
TEST(Ptrace, WatchpointsOutliveADetachAndAreRecorded) {
  Event hit, go;
  Tracee t([&] {
    ScopedHandler handler(SIGTRAP, [](int) { g_traps = g_traps + 1; });
    g_word = 0x7777;
    CHILD_CHECK(g_traps == 1);
    hit.Set();
    CHILD_CHECK(go.Wait());
  });
  SKIP_WITHOUT_DEBUG_REGISTERS(t);
  ASSERT_OK(Ptrace(PTRACE_POKEUSER, t.pid(), DebugRegister(1), reinterpret_cast<uintptr_t>(&g_word)));
  ASSERT_OK(Ptrace(PTRACE_POKEUSER, t.pid(), DebugRegister(7), 4 | 1ul << 20 | 2ul << 22));
  ASSERT_OK(Ptrace(PTRACE_DETACH, t.pid()));
  ASSERT_TRUE(hit.Wait());
  ASSERT_OK(Ptrace(PTRACE_SEIZE, t.pid()));
  ASSERT_OK(Ptrace(PTRACE_INTERRUPT, t.pid()));
  ASSERT_EQ(EventStop(128), t.Wait(__WALL));
  EXPECT_EQ(2, Ptrace(PTRACE_PEEKUSER, t.pid(), DebugRegister(6)) & 0xf);
  ASSERT_OK(Ptrace(PTRACE_DETACH, t.pid()));
  go.Set();
  EXPECT_EQ(Exited(0), t.Wait());
}

TEST(Ptrace, HardwareBreakpointStopsBeforeTheInstruction) {
  Tracee t([] { _exit(getppid() > 0 ? 3 : 4); });
  SKIP_WITHOUT_DEBUG_REGISTERS(t);
  auto addr = reinterpret_cast<uintptr_t>(&getppid);
  ASSERT_OK(Ptrace(PTRACE_POKEUSER, t.pid(), DebugRegister(2), addr));
  ASSERT_OK(Ptrace(PTRACE_POKEUSER, t.pid(), DebugRegister(7), 1 << 4));
  ASSERT_EQ(Stopped(SIGTRAP), t.Resume(PTRACE_CONT));
  EXPECT_EQ(addr, t.Regs().rip);
  EXPECT_EQ(4, Ptrace(PTRACE_PEEKUSER, t.pid(), DebugRegister(6)) & 0xf);
  EXPECT_EQ(Exited(3), t.Resume(PTRACE_CONT)) << "the instruction isn't met twice";
}

TEST(Ptrace, WatchpointsAreNotInheritedByChildrenAndThreads) {
  Tracee t([] {
    CHILD_CHECK(RunInChild([] { g_word = 1; }) == Exited(0));
    std::thread([] { g_word = 2; }).join();
  });
  SKIP_WITHOUT_DEBUG_REGISTERS(t);
  ASSERT_OK(Ptrace(PTRACE_POKEUSER, t.pid(), DebugRegister(0), reinterpret_cast<uintptr_t>(&g_word)));
  ASSERT_OK(Ptrace(PTRACE_POKEUSER, t.pid(), DebugRegister(7), kWatchWrites));
  int status = t.Resume(PTRACE_CONT);
  if (status == Stopped(SIGCHLD)) status = t.Resume(PTRACE_CONT);
  EXPECT_EQ(Exited(0), status);
}

TEST(Ptrace, ExecClearsDebugRegisters) {
  Tracee t([] { execl("/bin/true", "true", nullptr); });
  SKIP_WITHOUT_DEBUG_REGISTERS(t);
  ASSERT_OK(Ptrace(PTRACE_POKEUSER, t.pid(), DebugRegister(0), reinterpret_cast<uintptr_t>(&g_word)));
  ASSERT_OK(Ptrace(PTRACE_POKEUSER, t.pid(), DebugRegister(7), kWatchWrites));
  ASSERT_EQ(Stopped(SIGTRAP), t.Resume(PTRACE_CONT));
  EXPECT_EQ(0, Ptrace(PTRACE_PEEKUSER, t.pid(), DebugRegister(0)));
  EXPECT_EQ(0, Ptrace(PTRACE_PEEKUSER, t.pid(), DebugRegister(7)));
  EXPECT_EQ(Exited(0), t.Resume(PTRACE_CONT));
}

TEST(Ptrace, DebugRegistersAreChecked) {
  Tracee t([] {});
  auto addr = reinterpret_cast<uintptr_t>(&g_word);
  EXPECT_FAILS(EINVAL, Ptrace(PTRACE_POKEUSER, t.pid(), DebugRegister(0), 0xffff'8000'0000'0000));
  EXPECT_FAILS(EIO, Ptrace(PTRACE_POKEUSER, t.pid(), DebugRegister(4), 0));
  EXPECT_FAILS(EIO, Ptrace(PTRACE_POKEUSER, t.pid(), DebugRegister(0) - 8, 0));
  EXPECT_FAILS(EIO, Ptrace(PTRACE_POKEUSER, t.pid(), DebugRegister(8), 0));
  EXPECT_EQ(0, Ptrace(PTRACE_PEEKUSER, t.pid(), DebugRegister(0)));
  SKIP_WITHOUT_DEBUG_REGISTERS(t);
  ASSERT_OK(Ptrace(PTRACE_POKEUSER, t.pid(), DebugRegister(0), addr + 1));
  EXPECT_FAILS(EINVAL, Ptrace(PTRACE_POKEUSER, t.pid(), DebugRegister(7), kWatchWrites)) << "misaligned";
  EXPECT_FAILS(EINVAL, Ptrace(PTRACE_POKEUSER, t.pid(), DebugRegister(7), 1 | 2ul << 16)) << "input and output";
  EXPECT_FAILS(EINVAL, Ptrace(PTRACE_POKEUSER, t.pid(), DebugRegister(7), 1 | 3ul << 18))
      << "an instruction of 4 bytes";
  EXPECT_EQ(0, Ptrace(PTRACE_PEEKUSER, t.pid(), DebugRegister(7)));
  EXPECT_EQ(Exited(0), t.Resume(PTRACE_CONT));
}

TEST(Ptrace, KernelSelectorsCannotBeSet) {
  Tracee t([] {});
  user_regs_struct r = t.Regs();
  r.cs = 0x10;
  EXPECT_FAILS(EIO, Ptrace(PTRACE_SETREGS, t.pid(), 0, reinterpret_cast<uintptr_t>(&r)));
  EXPECT_EQ(Exited(0), t.Resume(PTRACE_CONT));
}

TEST(Ptrace, SignalIsSuppressedOrInjected) {
  static volatile sig_atomic_t usr1, usr2;
  auto body = [] {
    usr1 = 0;
    usr2 = 0;
    signal(SIGUSR1, [](int) { usr1 = 1; });
    signal(SIGUSR2, [](int) { usr2 = 1; });
    raise(SIGUSR1);
    _exit(usr1 | usr2 << 1);
  };
  for (auto [inject, want] : {std::pair{0, 0}, {SIGUSR1, 1}, {SIGUSR2, 2}}) {
    Tracee t(body);
    ASSERT_EQ(Stopped(SIGUSR1), t.Resume(PTRACE_CONT));
    siginfo_t info = {};
    ASSERT_OK(Ptrace(PTRACE_GETSIGINFO, t.pid(), 0, reinterpret_cast<uintptr_t>(&info)));
    EXPECT_EQ(SIGUSR1, info.si_signo);
    EXPECT_EQ(t.pid(), info.si_pid);
    EXPECT_EQ(Exited(want), t.Resume(PTRACE_CONT, inject));
  }
}

TEST(Ptrace, AttachStopsAndDetachResumes) {
  Event go;
  Child child([&] { CHILD_CHECK(go.Wait()); });
  ASSERT_OK(Ptrace(PTRACE_ATTACH, child.pid()));
  EXPECT_EQ(Stopped(SIGSTOP), child.Wait(__WALL));
  std::string status = ReadFile("/proc/" + std::to_string(child.pid()) + "/status");
  EXPECT_NE(std::string::npos, status.find("TracerPid:\t" + std::to_string(getpid()) + "\n"));
  ASSERT_OK(Ptrace(PTRACE_DETACH, child.pid()));
  go.Set();
  EXPECT_EQ(Exited(0), child.Wait());
}

TEST(Ptrace, SeizeAndInterrupt) {
  Event go;
  Child child([&] { CHILD_CHECK(go.Wait()); });
  ASSERT_OK(Ptrace(PTRACE_SEIZE, child.pid()));
  EXPECT_EQ(0, waitpid(child.pid(), nullptr, WNOHANG | __WALL));
  ASSERT_OK(Ptrace(PTRACE_INTERRUPT, child.pid()));
  EXPECT_EQ(EventStop(PTRACE_EVENT_STOP), child.Wait(__WALL));
  ASSERT_OK(Ptrace(PTRACE_CONT, child.pid()));
  go.Set();
  EXPECT_EQ(Exited(0), child.Wait());
}

TEST(Ptrace, ForkEventAttachesTheChild) {
  Tracee t([] {
    pid_t pid = fork();
    if (pid == 0) _exit(3);
    CHILD_CHECK(WaitStatus(pid) == Exited(3));
  });
  ASSERT_OK(Ptrace(PTRACE_SETOPTIONS, t.pid(), 0, PTRACE_O_TRACEFORK | PTRACE_O_TRACECLONE | PTRACE_O_EXITKILL));
  int status = t.Resume(PTRACE_CONT);
  EXPECT_TRUE(status == EventStop(PTRACE_EVENT_FORK) || status == EventStop(PTRACE_EVENT_CLONE)) << std::hex << status;
  unsigned long pid = 0;
  ASSERT_OK(Ptrace(PTRACE_GETEVENTMSG, t.pid(), 0, reinterpret_cast<uintptr_t>(&pid)));
  EXPECT_EQ(Stopped(SIGSTOP), WaitStatus(pid, __WALL));
  ASSERT_OK(Ptrace(PTRACE_CONT, pid));
  ASSERT_OK(Ptrace(PTRACE_CONT, t.pid()));
  EXPECT_EQ(Exited(3), WaitStatus(pid, __WALL));
  ASSERT_EQ(Stopped(SIGCHLD), t.Wait(__WALL));
  EXPECT_EQ(Exited(0), t.Resume(PTRACE_CONT));
}

TEST(Ptrace, ExecEvent) {
  Tracee t([] { execl("/bin/true", "true", nullptr); });
  ASSERT_OK(Ptrace(PTRACE_SETOPTIONS, t.pid(), 0, PTRACE_O_TRACEEXEC));
  EXPECT_EQ(EventStop(PTRACE_EVENT_EXEC), t.Resume(PTRACE_CONT));
  EXPECT_EQ(Exited(0), t.Resume(PTRACE_CONT));
}

TEST(Ptrace, ExecWithoutOptionIsASIGTRAP) {
  Tracee t([] { execl("/bin/true", "true", nullptr); });
  EXPECT_EQ(Stopped(SIGTRAP), t.Resume(PTRACE_CONT));
  EXPECT_EQ(Exited(0), t.Resume(PTRACE_CONT));
}

TEST(Ptrace, ExitEventGivesTheStatus) {
  Tracee t([] { _exit(9); });
  ASSERT_OK(Ptrace(PTRACE_SETOPTIONS, t.pid(), 0, PTRACE_O_TRACEEXIT));
  EXPECT_EQ(EventStop(PTRACE_EVENT_EXIT), t.Resume(PTRACE_CONT));
  unsigned long status = 0;
  ASSERT_OK(Ptrace(PTRACE_GETEVENTMSG, t.pid(), 0, reinterpret_cast<uintptr_t>(&status)));
  EXPECT_EQ(static_cast<unsigned long>(Exited(9)), status);
  EXPECT_EQ(Exited(9), t.Resume(PTRACE_CONT));
}

TEST(Ptrace, ExitkillEndsTheTracee) {
  Pipe alive;
  Child tracer([&] {
    pid_t pid = fork();
    if (pid == 0) {
      alarm(30);
      for (;;) pause();
    }
    alive.w.reset();
    CHILD_CHECK(Ptrace(PTRACE_SEIZE, pid, 0, PTRACE_O_EXITKILL) == 0);
  });
  alive.w.reset();
  EXPECT_EQ(Exited(0), tracer.Wait());
  char c;
  ASSERT_TRUE(PollFor(alive.r.get(), 1, 20000));
  EXPECT_EQ(0, read(alive.r.get(), &c, 1));
}

TEST(Ptrace, KillEndsAStoppedTracee) {
  Tracee t([] {});
  t.Kill(SIGKILL);
  EXPECT_EQ(Killed(SIGKILL), t.Wait());
}

TEST(Ptrace, Errors) {
  EXPECT_FAILS(ESRCH, Ptrace(PTRACE_ATTACH, 0x3ffffff0));
  EXPECT_FAILS(EPERM, Ptrace(PTRACE_ATTACH, getpid()));
  EXPECT_FAILS(ESRCH, Ptrace(PTRACE_CONT, getppid())) << "not a tracee";
  Tracee t([] {});
  EXPECT_FAILS(EPERM, Ptrace(PTRACE_ATTACH, t.pid()));
  EXPECT_FAILS(EIO, Ptrace(9999, t.pid()));
  EXPECT_FAILS(EINVAL, Ptrace(PTRACE_SETOPTIONS, t.pid(), 0, 1ul << 30));
  EXPECT_FAILS(EIO, Ptrace(PTRACE_CONT, t.pid(), 0, 1000));
  EXPECT_EQ(Exited(0), t.Resume(PTRACE_CONT));
}

TEST(Ptrace, UnprivilegedCannotAttachToAnotherUser) {
  Child target([] {
    for (;;) pause();
  });
  EXPECT_EQ(Exited(0), RunInChild([&] {
              CHILD_CHECK(setresuid(65534, 65534, 65534) == 0);
              CHILD_CHECK(Ptrace(PTRACE_ATTACH, target.pid()) == -1 && errno == EPERM);
            }));
}

TEST(ProcessVm, ReadsAndWritesAnotherProcess) {
  Event go;
  Child child([&] {
    CHILD_CHECK(go.Wait());
    CHILD_CHECK(g_word == 0x3333);
  });
  long value = 0;
  iovec local = {&value, sizeof value}, remote = {const_cast<long*>(&g_word), sizeof g_word};
  ASSERT_EQ(static_cast<ssize_t>(sizeof value), process_vm_readv(child.pid(), &local, 1, &remote, 1, 0));
  EXPECT_EQ(0x1111, value);
  value = 0x3333;
  ASSERT_EQ(static_cast<ssize_t>(sizeof value), process_vm_writev(child.pid(), &local, 1, &remote, 1, 0));
  go.Set();
  EXPECT_EQ(Exited(0), child.Wait());
  EXPECT_EQ(0x1111, g_word);
}

}  // namespace
