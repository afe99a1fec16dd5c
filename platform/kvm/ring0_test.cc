// SPDX-License-Identifier: Apache-2.0
// Ring 0: calls that it answers, interrupts at any of its instructions, and guests that reach for it.
#include <string.h>
#include <sys/syscall.h>

#include <atomic>
#include <thread>

#include "gtest/gtest.h"
#include "platform/kvm/kvm_platform.h"
#include "platform/testing/test_guest.h"

namespace platform::kvm {
namespace {

using Kind = Event::Kind;
using testing::kCodeAddress;
using testing::kDataAddress;
using testing::TestGuest;

KvmPlatform& Kvm() { return static_cast<KvmPlatform&>(testing::TestPlatform()); }

#define NEEDS(ability) \
  if (!Kvm().abilities().ability) GTEST_SKIP() << "the self-test found that ring 0 can't: " #ability

// The call in rax, then one that nobody answers.
GUEST_PROGRAM(one_call, "syscall; mov %rax, %r15; mov $1000, %eax; syscall; jmp .");

Registers Call(uint64_t number) {
  Registers r = TestGuest::Start();
  r.rax = number;
  r.rdx = 0x1111'2222'3333'4444;
  return r;
}

TEST(AnswersTest, ValuesUntilWithdrawn) {
  NEEDS(answers);
  TestGuest guest(one_call());
  for (uint32_t value : {0u, 1u, 4711u, 0xffff'ffffu}) {
    for (uint32_t number : kAnswerable) {
      guest.context().SetAnswer(number, value);
      Registers r = Call(number);
      ASSERT_EQ(guest.context().Switch(r).kind, Kind::kSyscall);
      ASSERT_EQ(r.orig_rax, 1000u) << number;
      EXPECT_EQ(r.r15, value);
      EXPECT_EQ(r.rip, r.rcx);
      EXPECT_EQ(r.rdx, 0x1111'2222'3333'4444u);
      guest.context().SetAnswer(number, std::nullopt);
      r = Call(number);
      ASSERT_EQ(guest.context().Switch(r).kind, Kind::kSyscall);
      ASSERT_EQ(r.orig_rax, number);
    }
  }
}

// Also where nothing is answered: the calls must arrive.
TEST(AnswersTest, WhatNobodyAnswers) {
  TestGuest guest(one_call());
  guest.context().SetAnswer(SYS_getpid, 1);
  guest.context().SetAnswer(SYS_read, 1);
  for (uint64_t number :
       {uint64_t{SYS_read}, uint64_t{SYS_getpid} | uint64_t{1} << 32, uint64_t{SYS_getpid} | 0x4000'0000, uint64_t{511},
        uint64_t{512}, uint64_t{1024} + SYS_getpid, ~uint64_t{0}, uint64_t{1} << 63, uint64_t{1} << 61 | SYS_getpid}) {
    Registers r = Call(number);
    ASSERT_EQ(guest.context().Switch(r).kind, Kind::kSyscall);
    EXPECT_EQ(r.orig_rax, number);
    EXPECT_EQ(r.rdx, 0x1111'2222'3333'4444u);
  }
}

TEST(AnswersTest, OfAContextNotOfItsCpu) {
  TestGuest guest(one_call());
  guest.context().SetAnswer(SYS_getpid, 5);
  Registers r = Call(SYS_getpid);
  ASSERT_EQ(guest.context().Switch(r).kind, Kind::kSyscall);
  auto other = guest.context().CloneInSpace();
  ASSERT_TRUE(other.ok());
  guest.context().Release();
  r = Call(SYS_getpid);
  ASSERT_EQ((*other)->Switch(r).kind, Kind::kSyscall);
  EXPECT_EQ(r.orig_rax, uint64_t{SYS_getpid});
  (*other)->Release();
  if (!Kvm().abilities().answers) return;
  // Answers outlive a change of the space.
  TestGuest second(one_call());
  ASSERT_TRUE(guest.context().Bind(second.space()).ok());
  r = Call(SYS_getpid);
  ASSERT_EQ(guest.context().Switch(r).kind, Kind::kSyscall);
  EXPECT_EQ(r.orig_rax, 1000u);
  EXPECT_EQ(r.r15, 5u);
}

// Single steps see the call.
TEST(AnswersTest, NotWhileStepping) {
  TestGuest guest(one_call());
  guest.context().SetAnswer(SYS_getpid, 5);
  Registers r = Call(SYS_getpid);
  r.eflags |= 0x100;
  ASSERT_EQ(guest.context().Switch(r).kind, Kind::kSyscall);
  EXPECT_EQ(r.orig_rax, uint64_t{SYS_getpid});
  EXPECT_EQ(r.rip, kCodeAddress + 2);
}

// Counts calls in rdi; every register that a call must keep is checked by the guest, which faults if one differs.
GUEST_PROGRAM(
    storm,
    "mov $0x1234567, %rdx; mov %rdx, %r8; mov %rdx, %r12; mov %rdx, %r14; movq %rdx, %xmm3; movq %rdx, %xmm15;"
    "1: mov $39, %eax; syscall; cmp $4711, %rax; jne 9f;"
    "inc %rdi; cmp %rdx, %r8; jne 9f; cmp %rdx, %r12; jne 9f; cmp %rdx, %r14; jne 9f;"
    "movq %xmm3, %rax; cmp %rdx, %rax; jne 9f; movq %xmm15, %rax; cmp %rdx, %rax; jne 9f;"
    "mov $186, %eax; syscall; cmp $4712, %rax; jne 9f;"
    "mov %rdi, (%rsi); jmp 1b; 9: ud2");

// At any instruction of ring 0 that a kick meets: no interrupt is lost, no call made twice, none forgotten.
TEST(Ring0Test, InterruptsAnywhere) {
  TestGuest guest(storm());
  guest.context().SetAnswer(SYS_getpid, 4711);
  guest.context().SetAnswer(SYS_gettid, 4712);
  std::atomic<int> sent{0}, received{0};
  std::atomic<bool> stop{false};
  std::thread other([&] {
    while (!stop) {
      if (received < sent) {
        std::this_thread::yield();
        continue;
      }
      ++sent;
      guest.context().Interrupt();
    }
  });
  Registers r = TestGuest::Start();
  r.rsi = kDataAddress;
  uint64_t calls = 0;
  while (received < 2000) {
    const Event event = guest.context().Switch(r);
    if (event.kind == Kind::kInterrupted) {
      ++received;
      continue;
    }
    EXPECT_EQ(event.kind, Kind::kSyscall) << event.info.si_signo << std::hex << " at " << r.rip;
    if (event.kind != Kind::kSyscall || (r.orig_rax != SYS_getpid && r.orig_rax != SYS_gettid)) break;
    ++calls;
    r.rax = r.orig_rax == SYS_getpid ? 4711 : 4712;
  }
  EXPECT_EQ(received, 2000);
  received = 1 << 30;
  stop = true;
  other.join();
  printf("%llu rounds, %llu calls left to the sentry\n", r.rdi, static_cast<unsigned long long>(calls));
  if (Kvm().abilities().answers) {
    EXPECT_GT(r.rdi, calls);
  }
}

GUEST_PROGRAM(read_rdi, "mov (%rdi), %rax; ud2");
GUEST_PROGRAM(write_rdi, "movq $0, (%rdi); ud2");
GUEST_PROGRAM(jump_rdi, "jmp *%rdi");

TEST(Ring0Test, IsOutOfReach) {
  const uint64_t own = kVcpuPages;
  const struct {
    std::span<const uint8_t> program;
    Access access;
  } kWays[] = {{read_rdi(), Access::kRead}, {write_rdi(), Access::kWrite}, {jump_rdi(), Access::kExec}};
  for (const auto& way : kWays) {
    TestGuest guest(way.program);
    for (uint64_t at : {kEntryText + 8, kGdt, kIdt, own, own + kVcpuData, own + kVcpuAnswers, own + 8 * 40}) {
      Registers r = TestGuest::Start();
      r.rdi = at;
      const Event event = guest.context().Switch(r);
      ASSERT_EQ(event.kind, Kind::kFault) << std::hex << at;
      EXPECT_EQ(event.address, at);
      EXPECT_EQ(event.access, way.access);
    }
  }
}

GUEST_PROGRAM(stack_elsewhere, "mov %rdi, %rsp; mov $39, %eax; syscall; mov $1000, %eax; syscall");
GUEST_PROGRAM(fault_elsewhere, "mov %rdi, %rsp; ud2");

// Ring 0 never uses the guest's stack.
TEST(Ring0Test, StackPointersAreTheGuestsOwn) {
  TestGuest calls(stack_elsewhere()), faults(fault_elsewhere());
  for (uint64_t rsp : {uint64_t{0}, uint64_t{8}, kVcpuPages + kVcpuData + 0x800, kGdt + 0x100, kEntryText,
                       uint64_t{1} << 63, ~uint64_t{0}}) {
    Registers r = TestGuest::Start();
    r.rdi = rsp;
    ASSERT_EQ(calls.context().Switch(r).kind, Kind::kSyscall);
    r.rax = 1;
    ASSERT_EQ(calls.context().Switch(r).kind, Kind::kSyscall);
    EXPECT_EQ(r.rsp, rsp);
    EXPECT_EQ(r.orig_rax, 1000u);
    r = TestGuest::Start();
    r.rdi = rsp;
    const Event event = faults.context().Switch(r);
    ASSERT_EQ(event.kind, Kind::kSignal);
    EXPECT_EQ(event.info.si_signo, SIGILL);
    EXPECT_EQ(r.rsp, rsp);
  }
}

GUEST_PROGRAM(held_back, "mov $39, %eax; mov (%rdi), %ss; syscall; mov $1000, %eax; syscall");

// The classic: a breakpoint on the load of %ss fires on the first instruction of ring 0.
TEST(Ring0Test, ABreakpointHeldBackOverSyscall) {
  TestGuest guest(held_back());
  guest.Word(0) = kUserData;
  const uint64_t values[8] = {kDataAddress, 0, 0, 0, 0, 0, kDebugStatusInitial, 1 | 3 << 16 | 1 << 18};
  if (!guest.context().SetDebugRegisters(values).ok()) GTEST_SKIP() << "a host without debug registers";
  for (uint64_t rsp : {kDataAddress + 0x8000, uint64_t{0}, kVcpuPages + kVcpuData + 0x800}) {
    Registers r = TestGuest::Start();
    r.rdi = kDataAddress;
    r.rsp = rsp;
    Event event = guest.context().Switch(r);
    // Some emulations trap before `syscall`.
    if (event.kind == Kind::kSignal) event = guest.context().Switch(r);
    ASSERT_EQ(event.kind, Kind::kSyscall);
    EXPECT_EQ(r.orig_rax, uint64_t{SYS_getpid});
    EXPECT_EQ(r.rsp, rsp);
    EXPECT_EQ(r.rip, kCodeAddress + 9);
  }
}

}  // namespace
}  // namespace platform::kvm
