// SPDX-License-Identifier: Apache-2.0
// Signals raised by the processor (si_code, si_addr), and register state across signal handlers.
#include <fcntl.h>
#include <immintrin.h>
#include <setjmp.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <ucontext.h>

#include "tests/syscalls/util.h"

namespace {

sigjmp_buf g_jump;
siginfo_t g_info;
uint64_t g_trapno, g_err;
// An address that is never mapped, hidden from the compiler.
volatile char* volatile g_low = reinterpret_cast<volatile char*>(16);

void Catch(int, siginfo_t* info, void* ctx) {
  g_info = *info;
  auto* uc = static_cast<ucontext_t*>(ctx);
  g_trapno = uc->uc_mcontext.gregs[REG_TRAPNO];
  g_err = uc->uc_mcontext.gregs[REG_ERR];
  siglongjmp(g_jump, 1);
}

// Runs `body` and says whether it raised `sig`; g_info is then filled in.
template <typename F>
bool Raises(int sig, F body) {
  ScopedHandler handler(sig, Catch);
  g_info = {};
  if (sigsetjmp(g_jump, 1) != 0) return g_info.si_signo == sig;
  body();
  return false;
}

char* Map(int prot) { return static_cast<char*>(mmap(nullptr, 4096, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)); }

TEST(Segv, UnmappedAddress) {
  char* p = Map(PROT_READ);
  ASSERT_OK(munmap(p, 4096));
  ASSERT_TRUE(Raises(SIGSEGV, [&] { *static_cast<volatile char*>(p + 5) = 1; }));
  EXPECT_EQ(SEGV_MAPERR, g_info.si_code);
  EXPECT_EQ(p + 5, g_info.si_addr);
  EXPECT_EQ(14u, g_trapno);
  EXPECT_EQ(6u, g_err & 7) << "user, write, not present";
}

TEST(Segv, ReadOnlyPage) {
  char* p = Map(PROT_READ);
  ASSERT_TRUE(Raises(SIGSEGV, [&] { *static_cast<volatile char*>(p + 100) = 1; }));
  EXPECT_EQ(SEGV_ACCERR, g_info.si_code);
  EXPECT_EQ(p + 100, g_info.si_addr);
  munmap(p, 4096);
}

TEST(Segv, ProtNonePage) {
  char* p = Map(PROT_NONE);
  ASSERT_TRUE(Raises(SIGSEGV, [&] { (void)*static_cast<volatile char*>(p); }));
  EXPECT_EQ(SEGV_ACCERR, g_info.si_code);
  munmap(p, 4096);
}

TEST(Segv, ExecutingDataPage) {
  char* p = Map(PROT_READ | PROT_WRITE);
  *p = '\xc3';
  ASSERT_TRUE(Raises(SIGSEGV, [&] { reinterpret_cast<void (*)()>(p)(); }));
  EXPECT_EQ(SEGV_ACCERR, g_info.si_code);
  EXPECT_EQ(p, g_info.si_addr);
  munmap(p, 4096);
}

TEST(Segv, NonCanonicalAddress) {
  ASSERT_TRUE(Raises(SIGSEGV, [] { (void)*reinterpret_cast<volatile char*>(0x8000000000000000ul); }));
  EXPECT_EQ(SI_KERNEL, g_info.si_code);
  EXPECT_EQ(nullptr, g_info.si_addr);
}

TEST(Segv, PrivilegedInstruction) {
  ASSERT_TRUE(Raises(SIGSEGV, [] { asm volatile("hlt"); }));
  EXPECT_EQ(SI_KERNEL, g_info.si_code);
}

TEST(Segv, HandlerCanMapThePageAndRetry) {
  static char* p;
  p = Map(PROT_NONE);
  ScopedHandler handler(SIGSEGV, [](int) { mprotect(p, 4096, PROT_READ | PROT_WRITE); });
  *static_cast<volatile char*>(p) = 7;
  EXPECT_EQ(7, *p);
  munmap(p, 4096);
}

TEST(Segv, BlockedMeansDeath) {
  EXPECT_EQ(Killed(SIGSEGV), RunInChild([] {
              signal(SIGSEGV, [](int) { _exit(1); });
              ScopedBlock block({SIGSEGV});
              *g_low = 1;
            }));
}

TEST(Segv, IgnoredMeansDeath) {
  EXPECT_EQ(Killed(SIGSEGV), RunInChild([] {
              signal(SIGSEGV, SIG_IGN);
              *g_low = 1;
            }));
}

TEST(Segv, OnAnUnusableStackMeansDeath) {
  EXPECT_EQ(Killed(SIGSEGV), RunInChild([] {
              signal(SIGSEGV, [](int) { _exit(1); });
              asm volatile("mov $64, %%rsp\n\tpush %%rax" ::: "memory");
            }));
}

TEST(Bus, BeyondEndOfFile) {
  TempDir dir;
  Fd fd(open((dir / "f").c_str(), O_RDWR | O_CREAT, 0600));
  auto* p = static_cast<char*>(mmap(nullptr, 4096, PROT_READ, MAP_SHARED, fd.get(), 0));
  ASSERT_NE(MAP_FAILED, p);
  ASSERT_TRUE(Raises(SIGBUS, [&] { (void)*static_cast<volatile char*>(p + 8); }));
  EXPECT_EQ(BUS_ADRERR, g_info.si_code);
  EXPECT_EQ(p + 8, g_info.si_addr);
  munmap(p, 4096);
}

TEST(Fpe, IntegerDivideByZero) {
  ASSERT_TRUE(Raises(SIGFPE, [] {
    asm volatile("xor %%edx,%%edx; mov $1,%%eax; xor %%ecx,%%ecx; div %%ecx" ::: "eax", "ecx", "edx");
  }));
  EXPECT_EQ(FPE_INTDIV, g_info.si_code);
  EXPECT_NE(nullptr, g_info.si_addr);
  EXPECT_EQ(0u, g_trapno);
}

TEST(Fpe, SseDivideByZeroWhenUnmasked) {
  unsigned saved = _mm_getcsr();
  bool raised = Raises(SIGFPE, [] {
    _mm_setcsr(0x1f80 & ~0x200u);
    volatile float zero = 0, one = 1;
    volatile float r = one / zero;
    (void)r;
  });
  _mm_setcsr(saved);
  ASSERT_TRUE(raised);
  EXPECT_EQ(FPE_FLTDIV, g_info.si_code);
}

TEST(Ill, UndefinedInstruction) {
  static const void* volatile at;
  ASSERT_TRUE(Raises(SIGILL, [] { asm volatile("lea 1f(%%rip), %0\n1: ud2" : "=r"(at)); }));
  EXPECT_EQ(ILL_ILLOPN, g_info.si_code);
  EXPECT_NE(nullptr, g_info.si_addr);
  EXPECT_EQ(6u, g_trapno);
}

TEST(Trap, Breakpoint) {
  ASSERT_TRUE(Raises(SIGTRAP, [] { asm volatile("int3"); }));
  EXPECT_EQ(SI_KERNEL, g_info.si_code);
  EXPECT_EQ(3u, g_trapno);
}

TEST(Trap, SingleStepFlag) {
  ASSERT_TRUE(Raises(SIGTRAP, [] { asm volatile("pushfq; orq $0x100, (%%rsp); popfq; nop; nop" ::: "memory", "cc"); }));
  EXPECT_EQ(TRAP_TRACE, g_info.si_code);
  EXPECT_EQ(1u, g_trapno);
}

void Clobber(int) {
  asm volatile("pcmpeqd %%xmm0,%%xmm0; pcmpeqd %%xmm7,%%xmm7; pcmpeqd %%xmm15,%%xmm15; fninit; fldz" ::
                   : "xmm0", "xmm7", "xmm15", "st");
}

TEST(Sigreturn, KeepsSseRegisters) {
  ScopedHandler handler(SIGUSR1, Clobber);
  uint64_t in[2] = {0x1122334455667788, 0x99aabbccddeeff00}, out[2] = {};
  long pid = getpid(), tid = gettid(), ret = SYS_tgkill;
  asm volatile("movdqu (%[in]), %%xmm7\n\tsyscall\n\tmovdqu %%xmm7, (%[out])"
               : "+a"(ret)
               : [in] "r"(in), [out] "r"(out), "D"(pid), "S"(tid), "d"(SIGUSR1)
               : "rcx", "r11", "xmm7", "memory");
  EXPECT_EQ(0, ret);
  EXPECT_EQ(in[0], out[0]);
  EXPECT_EQ(in[1], out[1]);
}

TEST(Sigreturn, KeepsX87Registers) {
  ScopedHandler handler(SIGUSR1, Clobber);
  double in = 12345.678, out = 0;
  long pid = getpid(), tid = gettid(), ret = SYS_tgkill;
  asm volatile("fldl %[in]\n\tsyscall\n\tfstpl %[out]"
               : "+a"(ret), [out] "=m"(out)
               : [in] "m"(in), "D"(pid), "S"(tid), "d"(SIGUSR1)
               : "rcx", "r11", "memory");
  EXPECT_EQ(0, ret);
  EXPECT_EQ(in, out);
}

TEST(Sigreturn, KeepsMxcsr) {
  static unsigned in_handler;
  ScopedHandler handler(SIGUSR1, [](int) {
    in_handler = _mm_getcsr();
    _mm_setcsr(0x1f80);
  });
  unsigned saved = _mm_getcsr();
  _mm_setcsr(0x1f80 | 0x6000);
  raise(SIGUSR1);
  unsigned after = _mm_getcsr();
  _mm_setcsr(saved);
  EXPECT_EQ(0x1f80u, in_handler);
  EXPECT_EQ(0x7f80u, after & 0xffc0);
}

__attribute__((target("avx"))) void ClobberAvx(int) {
  asm volatile("vxorps %%ymm3,%%ymm3,%%ymm3; vxorps %%ymm12,%%ymm12,%%ymm12" ::: "xmm3", "xmm12");
}

__attribute__((target("avx"))) bool AvxSurvives() {
  uint64_t in[4] = {1, 2, 0xdeadbeefcafebabe, 0x0123456789abcdef}, out[4] = {};
  long pid = getpid(), tid = gettid(), ret = SYS_tgkill;
  asm volatile("vmovdqu (%[in]), %%ymm12\n\tsyscall\n\tvmovdqu %%ymm12, (%[out])\n\tvzeroupper"
               : "+a"(ret)
               : [in] "r"(in), [out] "r"(out), "D"(pid), "S"(tid), "d"(SIGUSR1)
               : "rcx", "r11", "xmm12", "memory");
  return ret == 0 && memcmp(in, out, sizeof in) == 0;
}

TEST(Sigreturn, KeepsUpperHalvesOfAvxRegisters) {
  if (!__builtin_cpu_supports("avx")) GTEST_SKIP() << "no AVX";
  ScopedHandler handler(SIGUSR1, ClobberAvx);
  EXPECT_TRUE(AvxSurvives());
}

TEST(Sigreturn, HandlerStartsWithFreshFpuState) {
  static unsigned short cw;
  static unsigned mxcsr;
  ScopedHandler handler(SIGUSR1, [](int) {
    asm volatile("fnstcw %0" : "=m"(cw));
    mxcsr = _mm_getcsr();
  });
  unsigned saved = _mm_getcsr();
  _mm_setcsr(0x1f80 | 0x8040);
  raise(SIGUSR1);
  _mm_setcsr(saved);
  EXPECT_EQ(0x37f, cw);
  EXPECT_EQ(0x1f80u, mxcsr);
}

TEST(Sigreturn, ChangedRegistersTakeEffect) {
  // The handler steps over the two-byte ud2 and changes rbx.
  ScopedHandler handler(SIGILL, [](int, siginfo_t*, void* ctx) {
    auto* gregs = static_cast<ucontext_t*>(ctx)->uc_mcontext.gregs;
    gregs[REG_RIP] += 2;
    gregs[REG_RBX] = 0x5151;
  });
  long rbx = 1;
  asm volatile("ud2" : "+b"(rbx)::"memory");
  EXPECT_EQ(0x5151, rbx);
}

TEST(Sigreturn, ChangedMaskTakesEffect) {
  ScopedHandler handler(
      SIGUSR1, [](int, siginfo_t*, void* ctx) { sigaddset(&static_cast<ucontext_t*>(ctx)->uc_sigmask, SIGUSR2); });
  raise(SIGUSR1);
  sigset_t now;
  sigprocmask(SIG_BLOCK, nullptr, &now);
  EXPECT_TRUE(sigismember(&now, SIGUSR2));
  sigset_t none = SetOf({});
  sigprocmask(SIG_SETMASK, &none, nullptr);
}

TEST(Sigreturn, RegistersSurviveAsynchronousSignals) {
  static volatile sig_atomic_t ticks;
  ticks = 0;
  ScopedHandler handler(SIGALRM, [](int) { ticks = ticks + 1; });
  ScopedTicks timer;
  uint64_t bad = 0;
  while (ticks < 20 && bad == 0) {
    asm volatile(
        "mov $100000, %%rcx; mov $0x1111, %%r8; mov $0x2222, %%r9; mov $0x3333, %%r10; mov $0x4444, %%r12\n"
        "1: dec %%rcx; jnz 1b\n\t"
        "xor $0x1111, %%r8; xor $0x2222, %%r9; xor $0x3333, %%r10; xor $0x4444, %%r12\n\t"
        "or %%r9, %%r8; or %%r10, %%r8; or %%r12, %%r8; mov %%r8, %0"
        : "=r"(bad)::"rcx", "r8", "r9", "r10", "r12", "cc");
  }
  EXPECT_EQ(0u, bad);
  EXPECT_GE(ticks, 20);
}

}  // namespace
