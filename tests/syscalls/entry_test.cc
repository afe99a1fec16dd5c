// SPDX-License-Identifier: Apache-2.0
// Ways into the kernel beside the ordinary 64-bit system call: odd numbers, the x32 bit, int $0x80, sysenter, the
// vsyscall page. Where a kernel may differ (a configuration without 32-bit entry), a test states only what must never
// happen: that the caller's own state is lost or another program's call is run.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>

#include "tests/syscalls/util.h"

namespace {

long Raw(long nr, long a = 0, long b = 0, long c = 0) {
  long ret;
  asm volatile("syscall" : "=a"(ret) : "a"(nr), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
  return ret;
}

TEST(Entry, UnknownNumbersAreENOSYS) {
  for (long nr : {-1l, 360l, 400l, 1000l, 100000l, 0x7fffffffl}) EXPECT_EQ(-ENOSYS, Raw(nr)) << nr;
}

TEST(Entry, X32NumbersAreENOSYS) {
  // Debian's kernel has no x32 unless asked for at boot.
  EXPECT_EQ(-ENOSYS, Raw(0x40000000 | SYS_getpid));
  EXPECT_EQ(-ENOSYS, Raw(0x40000000 | 520));
}

TEST(Entry, OnlyTheLowHalfOfTheNumberCounts) {
  EXPECT_EQ(getpid(), Raw(static_cast<long>(0x1234567800000000ul) | SYS_getpid));
}

TEST(Entry, SyscallClobbersOnlyRcxAndR11) {
  unsigned long rcx, r11, r8 = 1, r9 = 2, r10 = 3, r12, after;
  asm volatile(
      "mov $8, %%r8; mov $9, %%r9; mov $10, %%r10; mov $12, %%r12\n\t"
      "mov %[nr], %%eax\n\tsyscall\n\tlea (%%rip), %%rdx\n1:\n\t"
      "mov %%r8, %[a]; mov %%r9, %[b]; mov %%r10, %[c]; mov %%r12, %[d]; mov %%rcx, %[e]; mov %%r11, %[f]\n\t"
      "mov %%rdx, %[g]"
      : [a] "=m"(r8), [b] "=m"(r9), [c] "=m"(r10), [d] "=m"(r12), [e] "=m"(rcx), [f] "=m"(r11), [g] "=m"(after)
      : [nr] "i"(SYS_getpid)
      : "rax", "rcx", "rdx", "r8", "r9", "r10", "r11", "r12", "memory", "cc");
  EXPECT_EQ(8u, r8);
  EXPECT_EQ(9u, r9);
  EXPECT_EQ(10u, r10);
  EXPECT_EQ(12u, r12);
  // rcx is the return address: the lea that follows is 7 bytes long.
  EXPECT_EQ(after - 7, rcx);
  EXPECT_TRUE(r11 & 0x200) << "r11 is the flags";
}

TEST(Entry, Int80RunsThe32BitTableOrFaults) {
  // 20 is getpid in the 32-bit table and writev in the 64-bit one.
  Child child([] {
    long ret;
    asm volatile("int $0x80" : "=a"(ret) : "a"(20), "b"(0), "c"(0), "d"(0) : "r8", "r9", "r10", "r11", "memory");
    _exit(ret == getpid() || ret == -ENOSYS ? 0 : 1);
  });
  int status = child.Wait();
  EXPECT_TRUE(status == Exited(0) || status == Killed(SIGSEGV)) << std::hex << status;
}

TEST(Entry, Int80CannotExitAnotherWay) {
  // 1 is exit in the 32-bit table and write in the 64-bit one: nothing may be written.
  Pipe p(O_NONBLOCK);
  Child child([&] {
    asm volatile("int $0x80" ::"a"(1), "b"(33), "D"(p.w.get()), "S"("leak"), "d"(4)
                 : "r8", "r9", "r10", "r11", "memory");
    _exit(44);
  });
  int status = child.Wait();
  EXPECT_TRUE(status == Exited(33) || status == Exited(44) || status == Killed(SIGSEGV)) << std::hex << status;
  char c;
  EXPECT_FAILS(EAGAIN, read(p.r.get(), &c, 1));
}

TEST(Entry, SysenterDoesNotReachA64BitCall) {
  // From 64-bit code it either faults or comes back in the vDSO's 32-bit landing pad, which this process lacks.
  Pipe p(O_NONBLOCK);
  Child child([&] {
    asm volatile("mov %%rsp, %%rbp\n\tsysenter" ::"a"(SYS_write), "D"(p.w.get()), "S"("leak"), "d"(4) : "memory");
    _exit(44);
  });
  int status = child.Wait();
  EXPECT_TRUE(WIFSIGNALED(status) || WIFEXITED(status));
  char c;
  EXPECT_FAILS(EAGAIN, read(p.r.get(), &c, 1));
  // The kernel itself still serves the parent.
  EXPECT_EQ(Exited(3), RunInChild([] { _exit(3); }));
}

TEST(Entry, VsyscallPageCallsWorkOrFault) {
  // vsyscall=emulate|xonly serve the three entries, vsyscall=none faults on them.
  Child child([] {
    auto vtime = reinterpret_cast<time_t (*)(time_t*)>(0xffffffffff600400ul);
    timespec before;
    clock_gettime(CLOCK_REALTIME, &before);
    time_t t = vtime(nullptr);
    _exit(t >= before.tv_sec - 1 && t <= before.tv_sec + 60 ? 0 : 1);
  });
  int status = child.Wait();
  EXPECT_TRUE(status == Exited(0) || status == Killed(SIGSEGV)) << std::hex << status;
}

TEST(Entry, JumpIntoTheMiddleOfTheVsyscallPageFaults) {
  EXPECT_EQ(Killed(SIGSEGV), RunInChild([] { reinterpret_cast<void (*)()>(0xffffffffff600404ul)(); }));
}

TEST(Entry, CallFromFreshlyWrittenCode) {
  // mov $SYS_getpid,%eax; syscall; ret: in memory that no one could have patched beforehand.
  auto* p = static_cast<unsigned char*>(
      mmap(nullptr, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  ASSERT_NE(MAP_FAILED, p);
  const unsigned char code[] = {0xb8, SYS_getpid, 0, 0, 0, 0x0f, 0x05, 0xc3};
  memcpy(p, code, sizeof code);
  for (int i = 0; i < 100; ++i) ASSERT_EQ(getpid(), reinterpret_cast<long (*)()>(p)());
  // Two instructions that straddle a page end.
  auto* q = static_cast<unsigned char*>(
      mmap(nullptr, 8192, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  memcpy(q + 4096 - 6, code, sizeof code);
  EXPECT_EQ(getpid(), reinterpret_cast<long (*)()>(q + 4096 - 6)());
  munmap(p, 4096);
  munmap(q, 8192);
}

TEST(Entry, UnlistedStateSurvivesManyCalls) {
  double x = 1.5;
  for (int i = 0; i < 1000; ++i) {
    long ret = SYS_getppid;
    asm volatile("movq %[v], %%xmm9\n\tsyscall\n\tmovq %%xmm9, %[v]"
                 : [v] "+m"(x), "+a"(ret)
                 :
                 : "rcx", "r11", "xmm9", "memory");
  }
  EXPECT_EQ(1.5, x);
}

}  // namespace
