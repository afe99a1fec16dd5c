// SPDX-License-Identifier: Apache-2.0
// PTRACE_SINGLESTEP where the kernel has a hand in the step: over system calls, into and out of signal handlers, over
// fork and exec; and the trap flag that a program sets for itself.
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/ucontext.h>
#include <sys/user.h>

#include <vector>

#include "tests/syscalls/util.h"

extern "C" {
// rax = step_call(number, first argument): the call between step_at_call and step_behind.
long step_call(long number, long argument);
extern const char step_at_call[], step_behind[];
void step_flagged();
extern const char flagged_first[], flagged_call[], flagged_behind[], flagged_last[];
}
asm(R"(
    .text
step_call:
    mov %rdi, %rax
    mov %rsi, %rdi
    xor %esi, %esi
    xor %edx, %edx
step_at_call:
    syscall
step_behind:
    nop
    nop
    ret
step_flagged:
    pushfq
    orq $0x100, (%rsp)
    popfq
    mov $39, %eax
flagged_first:
    nop
flagged_call:
    syscall
flagged_behind:
    nop
    pushfq
    andq $~0x100, (%rsp)
    popfq
flagged_last:
    ret
)");

namespace {

constexpr unsigned long long kTrapFlag = 0x100;

uintptr_t At(const void* code) { return reinterpret_cast<uintptr_t>(code); }

class Tracee : public Child {
 public:
  explicit Tracee(const std::function<void()>& body)
      : Child([&] {
          CHILD_CHECK(ptrace(PTRACE_TRACEME, 0, 0, 0) == 0);
          raise(SIGSTOP);
          body();
        }) {
    EXPECT_EQ(Stopped(SIGSTOP), Wait());
  }
  int Resume(__ptrace_request request, long signal = 0) {
    return ptrace(request, pid(), 0, signal) == 0 ? Wait(__WALL) : -1;
  }
  int Step(long signal = 0) { return Resume(PTRACE_SINGLESTEP, signal); }
  user_regs_struct Regs() {
    user_regs_struct r = {};
    EXPECT_OK(ptrace(PTRACE_GETREGS, pid(), 0, &r));
    return r;
  }
  siginfo_t Info() {
    siginfo_t info = {};
    EXPECT_OK(ptrace(PTRACE_GETSIGINFO, pid(), 0, &info));
    return info;
  }
  // Runs up to `code` by a breakpoint, and takes that away.
  void RunTo(const void* code) {
    errno = 0;
    const long text = ptrace(PTRACE_PEEKTEXT, pid(), code, 0);
    ASSERT_EQ(0, errno);
    ASSERT_OK(ptrace(PTRACE_POKETEXT, pid(), code, (text & ~0xffl) | 0xcc));
    ASSERT_EQ(Stopped(SIGTRAP), Resume(PTRACE_CONT));
    ASSERT_OK(ptrace(PTRACE_POKETEXT, pid(), code, text));
    user_regs_struct r = Regs();
    ASSERT_EQ(At(code) + 1, r.rip);
    r.rip = At(code);
    ASSERT_OK(ptrace(PTRACE_SETREGS, pid(), 0, &r));
  }
};

TEST(PtraceStep, StopsDirectlyBehindASystemCall) {
  Tracee t([] { _exit(step_call(SYS_getppid, 0) == getppid() ? 3 : 1); });
  ASSERT_NO_FATAL_FAILURE(t.RunTo(step_at_call));
  ASSERT_EQ(Stopped(SIGTRAP), t.Step());
  user_regs_struct r = t.Regs();
  EXPECT_EQ(At(step_behind), r.rip);
  EXPECT_EQ(static_cast<unsigned long long>(getpid()), r.rax);
  EXPECT_EQ(static_cast<unsigned long long>(SYS_getppid), r.orig_rax);
  EXPECT_EQ(0u, r.eflags & kTrapFlag);
  siginfo_t info = t.Info();
  EXPECT_EQ(SIGTRAP, info.si_signo);
  EXPECT_EQ(TRAP_BRKPT, info.si_code);
  EXPECT_EQ(reinterpret_cast<void*>(At(step_behind)), info.si_addr);
  for (int i = 1; i <= 2; ++i) {
    ASSERT_EQ(Stopped(SIGTRAP), t.Step());
    EXPECT_EQ(At(step_behind) + i, t.Regs().rip);
    EXPECT_EQ(TRAP_TRACE, t.Info().si_code);
  }
  EXPECT_EQ(Exited(3), t.Resume(PTRACE_CONT));
}

TEST(PtraceStep, FromTheEntryStopToTheExit) {
  Tracee t([] { step_call(SYS_getpgid, -5); });
  ASSERT_NO_FATAL_FAILURE(t.RunTo(step_at_call));
  ASSERT_EQ(Stopped(SIGTRAP), t.Resume(PTRACE_SYSCALL));
  EXPECT_EQ(-ENOSYS, static_cast<long>(t.Regs().rax));
  ASSERT_EQ(Stopped(SIGTRAP), t.Step());
  user_regs_struct r = t.Regs();
  EXPECT_EQ(At(step_behind), r.rip);
  EXPECT_EQ(-ESRCH, static_cast<long>(r.rax));
  // One report for the call: the next is of the next instruction.
  ASSERT_EQ(Stopped(SIGTRAP), t.Step());
  EXPECT_EQ(At(step_behind) + 1, t.Regs().rip);
  EXPECT_EQ(Exited(0), t.Resume(PTRACE_CONT));
}

TEST(PtraceStep, ASkippedCallIsNoStep) {
  constexpr auto kSysemu = static_cast<__ptrace_request>(31), kSysemuStep = static_cast<__ptrace_request>(32);
  Tracee t([] { step_call(SYS_getppid, 0); });
  ASSERT_NO_FATAL_FAILURE(t.RunTo(step_at_call));
  ASSERT_EQ(Stopped(SIGTRAP), t.Resume(kSysemu));
  EXPECT_EQ(At(step_behind), t.Regs().rip);
  ASSERT_EQ(Stopped(SIGTRAP), t.Resume(kSysemuStep));
  EXPECT_EQ(At(step_behind) + 1, t.Regs().rip);
  EXPECT_EQ(Exited(0), t.Resume(PTRACE_CONT));
}

TEST(PtraceStep, ForkedChildRunsOnByItself) {
  Tracee t([] {
    long pid = step_call(SYS_fork, 0);
    if (pid == 0) _exit(step_call(SYS_getpid, 0) > 0 ? 9 : 1);
    int status = 0;
    CHILD_CHECK(waitpid(static_cast<pid_t>(pid), &status, 0) == pid);
    CHILD_CHECK(status == Exited(9));
  });
  ASSERT_NO_FATAL_FAILURE(t.RunTo(step_at_call));
  ASSERT_EQ(Stopped(SIGTRAP), t.Step());
  EXPECT_EQ(At(step_behind), t.Regs().rip);
  EXPECT_EQ(Stopped(SIGCHLD), t.Resume(PTRACE_CONT));
  EXPECT_EQ(Exited(0), t.Resume(PTRACE_CONT));
}

TEST(PtraceStep, ExecStopsAtTheNewProgramsFirstInstruction) {
  Tracee t([] { step_call(SYS_execve, At("/bin/true")); });
  ASSERT_NO_FATAL_FAILURE(t.RunTo(step_at_call));
  ASSERT_EQ(Stopped(SIGTRAP), t.Step());
  user_regs_struct first = t.Regs();
  EXPECT_NE(At(step_behind), first.rip);
  EXPECT_EQ(0u, first.rax);
  EXPECT_EQ(0u, first.eflags & kTrapFlag);
  ASSERT_EQ(Stopped(SIGTRAP), t.Step());
  user_regs_struct second = t.Regs();
  EXPECT_LT(second.rip - first.rip, 15u);
  EXPECT_NE(first.rip, second.rip);
  EXPECT_EQ(Exited(0), t.Resume(PTRACE_CONT));
}

volatile unsigned long long g_frame_flags = ~0ull;

void OnUser(int, siginfo_t*, void* context) {
  g_frame_flags = static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_EFL];
}

TEST(PtraceStep, IntoAHandlerAndOutOfIt) {
  Tracee t([] {
    ScopedHandler handler(SIGUSR1, OnUser);
    step_call(SYS_getppid, 0);
    CHILD_CHECK((g_frame_flags & kTrapFlag) == 0);
  });
  ASSERT_NO_FATAL_FAILURE(t.RunTo(step_behind));
  ASSERT_OK(t.Kill(SIGUSR1));
  ASSERT_EQ(Stopped(SIGUSR1), t.Resume(PTRACE_CONT));
  ASSERT_EQ(At(step_behind), t.Regs().rip);
  // Nothing of the handler has run.
  ASSERT_EQ(Stopped(SIGTRAP), t.Step(SIGUSR1));
  EXPECT_EQ(At(reinterpret_cast<void*>(OnUser)), t.Regs().rip);
  EXPECT_EQ(SIGTRAP, t.Info().si_code);
  // rt_sigreturn is a call as well: nothing of what it returns to has run.
  bool returned = false;
  for (int i = 0; i < 10000 && !returned; ++i) {
    user_regs_struct r = t.Regs();
    errno = 0;
    const long text = ptrace(PTRACE_PEEKTEXT, t.pid(), r.rip, 0);
    ASSERT_EQ(0, errno);
    returned = (text & 0xffff) == 0x050f && r.rax == SYS_rt_sigreturn;
    ASSERT_EQ(Stopped(SIGTRAP), t.Step());
  }
  ASSERT_TRUE(returned);
  EXPECT_EQ(At(step_behind), t.Regs().rip);
  EXPECT_EQ(0u, t.Regs().eflags & kTrapFlag);
  EXPECT_EQ(Exited(0), t.Resume(PTRACE_CONT));
}

TEST(PtraceStep, OverACallThatASignalInterrupts) {
  Tracee t([] {
    ScopedHandler handler(SIGUSR1, OnUser);
    step_call(SYS_pause, 0);
  });
  ASSERT_NO_FATAL_FAILURE(t.RunTo(step_at_call));
  ASSERT_EQ(Stopped(SIGTRAP), t.Resume(PTRACE_SYSCALL));
  ASSERT_OK(t.Kill(SIGUSR1));
  // The trap is told first, the signal then; the call has not been restarted or ended by EINTR yet.
  ASSERT_EQ(Stopped(SIGTRAP), t.Step());
  EXPECT_EQ(At(step_behind), t.Regs().rip);
  EXPECT_EQ(-514, static_cast<long>(t.Regs().rax));
  ASSERT_EQ(Stopped(SIGUSR1), t.Step());
  ASSERT_EQ(Stopped(SIGTRAP), t.Step(SIGUSR1));
  EXPECT_EQ(At(reinterpret_cast<void*>(OnUser)), t.Regs().rip);
  EXPECT_EQ(Exited(0), t.Resume(PTRACE_CONT));
}

std::vector<uintptr_t>* g_traps;

void OnTrap(int, siginfo_t*, void* context) {
  g_traps->push_back(static_cast<uintptr_t>(static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_RIP]));
}

// Of a flag of its own the kernel takes no notice: the call hides it, the trap comes after the instruction behind.
TEST(TrapFlag, OfTheProgramItself) {
  std::vector<uintptr_t> traps;
  traps.reserve(100);
  g_traps = &traps;
  {
    ScopedHandler handler(SIGTRAP, OnTrap);
    step_flagged();
  }
  ASSERT_GE(traps.size(), 4u);
  EXPECT_EQ(At(flagged_first), traps[0]);
  EXPECT_EQ(At(flagged_call), traps[1]);
  EXPECT_EQ(At(flagged_behind) + 1, traps[2]);
  EXPECT_EQ(At(flagged_last), traps.back());
}

}  // namespace
