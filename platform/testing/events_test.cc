// SPDX-License-Identifier: Apache-2.0
// What a guest does and which event the sentry gets.
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <string>

#include "gtest/gtest.h"
#include "platform/testing/test_guest.h"

namespace platform::testing {
namespace {

using Kind = Event::Kind;

GUEST_PROGRAM(two_calls, "mov $39, %eax; syscall; mov %rax, %rdi; mov $60, %eax; syscall");

TEST(EventsTest, SyscallsInAndOut) {
  TestGuest guest(two_calls());
  Registers r = TestGuest::Start();
  r.rbx = 0x1234'5678'9abc'def0;
  ASSERT_EQ(guest.context().Switch(r).kind, Kind::kSyscall);
  EXPECT_EQ(r.orig_rax, uint64_t{SYS_getpid});
  EXPECT_EQ(r.rip, kCodeAddress + 7);
  EXPECT_EQ(static_cast<int64_t>(r.rax), -ENOSYS);
  EXPECT_EQ(r.rbx, 0x1234'5678'9abc'def0u);
  r.rax = 4711;
  ASSERT_EQ(guest.context().Switch(r).kind, Kind::kSyscall);
  EXPECT_EQ(r.orig_rax, uint64_t{SYS_exit});
  EXPECT_EQ(r.rdi, 4711u);
}

// A result that looks like an internal restart code must reach the guest as it is.
TEST(EventsTest, HostNeverRestartsCalls) {
  TestGuest guest(two_calls());
  Registers r = TestGuest::Start();
  for (int code : {512, 513, 514, 516}) {
    r = TestGuest::Start();
    ASSERT_EQ(guest.context().Switch(r).kind, Kind::kSyscall);
    r.rax = static_cast<uint64_t>(-code);
    guest.context().Interrupt();
    ASSERT_EQ(guest.context().Switch(r).kind, Kind::kInterrupted);
    ASSERT_EQ(guest.context().Switch(r).kind, Kind::kSyscall);
    EXPECT_EQ(r.orig_rax, uint64_t{SYS_exit});
    EXPECT_EQ(static_cast<int64_t>(r.rdi), -code);
  }
}

GUEST_PROGRAM(odd_numbers, "mov $-1, %rax; syscall; mov $0x40000027, %eax; syscall; mov $0x1ffffffff, %rax; syscall");

TEST(EventsTest, OddNumbersAndX32) {
  TestGuest guest(odd_numbers());
  Registers r = TestGuest::Start();
  for (uint64_t number : {~uint64_t{0}, uint64_t{0x4000'0027}, uint64_t{0x1'ffff'ffff}}) {
    ASSERT_EQ(guest.context().Switch(r).kind, Kind::kSyscall);
    EXPECT_EQ(r.orig_rax, number);
    r.rax = 0;
  }
}

GUEST_PROGRAM(int80, "mov $20, %eax; int $0x80; mov $39, %eax; syscall");

TEST(EventsTest, Int80IsCompat) {
  TestGuest guest(int80());
  Registers r = TestGuest::Start();
  Event event = guest.context().Switch(r);
  if (event.kind == Kind::kSignal) GTEST_SKIP() << "the host has no i386 calls";
  ASSERT_EQ(event.kind, Kind::kCompatSyscall);
  EXPECT_EQ(r.rip, kCodeAddress + 7);
  r.rax = static_cast<uint64_t>(-ENOSYS);
  ASSERT_EQ(guest.context().Switch(r).kind, Kind::kSyscall);
}

GUEST_PROGRAM(sysenter, "mov $20, %eax; mov %rsp, %rbp; sub $64, %rbp; sysenter; hlt");

TEST(EventsTest, SysenterNeverReachesTheHost) {
  TestGuest guest(sysenter());
  for (bool good_stack : {true, false}) {
    Registers r = TestGuest::Start();
    r.rsp = good_stack ? kDataAddress + kDataLength : 0xffff'0000;
    Event event = guest.context().Switch(r);
    // With an unreadable stack the kernel refuses by itself and returns to the (unmapped) vDSO; AMD CPUs raise SIGILL.
    EXPECT_TRUE(event.kind == Kind::kCompatSyscall || event.kind == Kind::kFault || event.kind == Kind::kSignal)
        << static_cast<int>(event.kind);
    EXPECT_TRUE(!good_stack || event.kind != Kind::kFault);
    EXPECT_NE(static_cast<int64_t>(r.rax), 1);
  }
  // The thread is still good for 64-bit code.
  memcpy(TestMemory().Pointer(guest.code_range().start), two_calls().data(), two_calls().size());
  Registers r = TestGuest::Start();
  ASSERT_EQ(guest.context().Switch(r).kind, Kind::kSyscall);
  EXPECT_EQ(r.orig_rax, uint64_t{SYS_getpid});
}

GUEST_PROGRAM(vsyscall, "lea 0x800000, %rdi; mov %rbx, %rax; call *%rax; mov $39, %eax; syscall");

TEST(EventsTest, VsyscallIsAnOrdinaryCall) {
  TestGuest guest(vsyscall());
  const int numbers[] = {SYS_gettimeofday, SYS_time, SYS_getcpu};
  for (uint64_t i = 0; i < 3; ++i) {
    Registers r = TestGuest::Start();
    r.rbx = 0xffff'ffff'ff60'0000 + i * 0x400;
    ASSERT_EQ(guest.context().Switch(r).kind, Kind::kSyscall);
    EXPECT_EQ(r.orig_rax, static_cast<uint64_t>(numbers[i]));
    EXPECT_EQ(r.rdi, kDataAddress);
    EXPECT_EQ(r.rsp, kDataAddress + kDataLength);
    EXPECT_EQ(guest.Word(0), 0u) << "the host answered the call";
    r.rax = 0;
    ASSERT_EQ(guest.context().Switch(r).kind, Kind::kSyscall);
    EXPECT_EQ(r.orig_rax, uint64_t{SYS_getpid});
  }
  Registers r = TestGuest::Start();
  r.rbx = 0xffff'ffff'ff60'0010;
  Event event = guest.context().Switch(r);
  EXPECT_TRUE(event.kind == Kind::kFault || event.kind == Kind::kSignal);
}

TEST(EventsTest, VsyscallWithoutStackFaults) {
  TestGuest guest(vsyscall());
  Registers r = TestGuest::Start();
  r.rip = 0xffff'ffff'ff60'0400;
  r.rsp = 0x10'0000;
  Event event = guest.context().Switch(r);
  EXPECT_TRUE(event.kind == Kind::kFault || event.kind == Kind::kSignal);
}

GUEST_PROGRAM(read_rdi, "mov (%rdi), %rax; mov $39, %eax; syscall");
GUEST_PROGRAM(write_rdi, "mov %rax, (%rdi); mov $39, %eax; syscall");
GUEST_PROGRAM(jump_rdi, "jmp *%rdi");

TEST(EventsTest, ReadAndWriteFaults) {
  for (bool write : {false, true}) {
    TestGuest guest(write ? write_rdi() : read_rdi());
    Registers r = TestGuest::Start();
    r.rdi = 0x1234'5678;
    Event event = guest.context().Switch(r);
    ASSERT_EQ(event.kind, Kind::kFault);
    EXPECT_EQ(event.address, 0x1234'5678u);
    // Not every platform knows.
    EXPECT_TRUE(event.access == Access::kUnknown || event.access == (write ? Access::kWrite : Access::kRead));
    EXPECT_EQ(event.info.si_signo, SIGSEGV);
    EXPECT_EQ(event.info.si_code, SEGV_MAPERR);
    EXPECT_EQ(r.rip, kCodeAddress);
  }
}

TEST(EventsTest, WriteToReadOnly) {
  TestGuest guest(write_rdi());
  guest.space().Protect(kDataAddress, kPageSize, kReadOnly);
  Registers r = TestGuest::Start();
  r.rdi = kDataAddress + 8;
  r.rax = 99;
  Event event = guest.context().Switch(r);
  ASSERT_EQ(event.kind, Kind::kFault);
  EXPECT_EQ(event.info.si_code, SEGV_ACCERR);
  EXPECT_EQ(guest.Word(1), 0u);
  guest.space().Protect(kDataAddress, kPageSize, kReadWrite);
  ASSERT_EQ(guest.context().Switch(r).kind, Kind::kSyscall);
  EXPECT_EQ(guest.Word(1), 99u);
}

TEST(EventsTest, ExecFaults) {
  TestGuest guest(jump_rdi());
  for (uint64_t target : {uint64_t{0x1234'5678}, kDataAddress}) {
    Registers r = TestGuest::Start();
    r.rdi = target;
    Event event = guest.context().Switch(r);
    ASSERT_EQ(event.kind, Kind::kFault);
    EXPECT_EQ(event.access, Access::kExec);
    EXPECT_EQ(event.address, target);
    EXPECT_EQ(r.rip, target);
  }
}

// An instruction whose tail is on the next, unmapped page.
TEST(EventsTest, ExecFaultOnTheSecondPage) {
  TestGuest guest(two_calls());
  memcpy(TestMemory().Pointer(guest.code_range().end - 2), "\x48\xb8", 2);  // movabs, 8 more bytes
  Registers r = TestGuest::Start();
  r.rip = kCodeAddress + kPageSize - 2;
  Event event = guest.context().Switch(r);
  ASSERT_EQ(event.kind, Kind::kFault);
  EXPECT_EQ(event.access, Access::kExec);
  EXPECT_EQ(event.address, kCodeAddress + kPageSize);
  EXPECT_EQ(r.rip, kCodeAddress + kPageSize - 2);
}

TEST(EventsTest, BusErrorBehindTheEndOfAFile) {
  TestGuest guest(read_rdi());
  int fd = memfd_create("short", MFD_CLOEXEC);
  ASSERT_TRUE(guest.space().Map(0xa0'0000, kPageSize, fd, 0, kReadWrite, false).ok());
  close(fd);
  Registers r = TestGuest::Start();
  r.rdi = 0xa0'0000;
  Event event = guest.context().Switch(r);
  ASSERT_EQ(event.kind, Kind::kFault);
  EXPECT_EQ(event.info.si_signo, SIGBUS);
  EXPECT_EQ(event.address, 0xa0'0000u);
}

GUEST_PROGRAM(ud, "ud2");
GUEST_PROGRAM(breakpoint, "int3");
GUEST_PROGRAM(division, "xor %ecx, %ecx; div %ecx");
GUEST_PROGRAM(privileged, "hlt");
GUEST_PROGRAM(non_canonical, "mov $0x8000000000000000, %rax; mov (%rax), %rax");

TEST(EventsTest, SynchronousSignals) {
  struct {
    std::span<const uint8_t> program;
    int signal;
    int code;
  } cases[] = {
      {ud(), SIGILL, ILL_ILLOPN},         {breakpoint(), SIGTRAP, SI_KERNEL},    {division(), SIGFPE, FPE_INTDIV},
      {privileged(), SIGSEGV, SI_KERNEL}, {non_canonical(), SIGSEGV, SI_KERNEL},
  };
  for (auto& c : cases) {
    TestGuest guest(c.program);
    Registers r = TestGuest::Start();
    Event event = guest.context().Switch(r);
    ASSERT_EQ(event.kind, Kind::kSignal) << c.signal;
    EXPECT_EQ(event.info.si_signo, c.signal);
    EXPECT_EQ(event.info.si_code, c.code);
  }
}

// Registers no CPU can hold are the guest's fault, not the sentry's.
TEST(EventsTest, BadRegistersAreASegmentationFault) {
  TestGuest guest(two_calls());
  Registers r = TestGuest::Start();
  r.cs = 0x10;
  Event event = guest.context().Switch(r);
  ASSERT_EQ(event.kind, Kind::kSignal);
  EXPECT_EQ(event.info.si_signo, SIGSEGV);
  r = TestGuest::Start();
  r.fs_base = 0xffff'8000'0000'0000;
  ASSERT_EQ(guest.context().Switch(r).kind, Kind::kSignal);
  r = TestGuest::Start();
  r.rip = 0x8000'0000'0000;
  event = guest.context().Switch(r);
  EXPECT_TRUE(event.kind == Kind::kSignal || event.kind == Kind::kFault);
  r = TestGuest::Start();
  EXPECT_EQ(guest.context().Switch(r).kind, Kind::kSyscall);
}

GUEST_PROGRAM(steps, "nop; nop; mov $39, %eax; syscall; nop; nop; nop; ud2");

TEST(EventsTest, SingleStep) {
  TestGuest guest(steps());
  Registers r = TestGuest::Start();
  r.eflags |= 0x100;
  uint64_t stops[] = {1, 2, 7};
  for (uint64_t at : stops) {
    Event event = guest.context().Switch(r);
    ASSERT_EQ(event.kind, Kind::kSignal);
    EXPECT_EQ(event.info.si_signo, SIGTRAP);
    EXPECT_EQ(event.info.si_code, TRAP_TRACE);
    EXPECT_EQ(r.rip, kCodeAddress + at);
    EXPECT_NE(r.eflags & 0x100, 0u);
  }
  ASSERT_EQ(guest.context().Switch(r).kind, Kind::kSyscall);
  EXPECT_EQ(r.rip, kCodeAddress + 9);
  EXPECT_NE(r.eflags & 0x100, 0u);
  r.rax = 0;
  // As on the bare machine: the trap comes after the instruction behind `syscall`.
  Event event = guest.context().Switch(r);
  ASSERT_EQ(event.kind, Kind::kSignal);
  EXPECT_EQ(event.info.si_signo, SIGTRAP);
  EXPECT_EQ(r.rip, kCodeAddress + 10);
  r.eflags &= ~uint64_t{0x100};
  event = guest.context().Switch(r);
  ASSERT_EQ(event.kind, Kind::kSignal);
  EXPECT_EQ(event.info.si_signo, SIGILL);
  EXPECT_EQ(r.eflags & 0x100, 0u);
}

}  // namespace
}  // namespace platform::testing
