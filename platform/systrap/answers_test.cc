// SPDX-License-Identifier: Apache-2.0
// Calls that the stub answers: values, clocks, faults in the middle of one, interrupts at any point.
#include <string.h>
#include <sys/syscall.h>
#include <x86intrin.h>

#include <algorithm>
#include <atomic>
#include <thread>

#include "base/clock.h"
#include "gtest/gtest.h"
#include "platform/systrap/stub_memory.h"
#include "platform/systrap/stub_thread.h"
#include "platform/testing/test_guest.h"

namespace platform::systrap {
namespace {

using Kind = Event::Kind;
using testing::kCodeAddress;
using testing::kDataAddress;
using testing::TestGuest;
using testing::TestPlatform;

// The call in rax with its arguments, then one that no stub answers.
GUEST_PROGRAM(one_call, "syscall; mov %rax, %r15; mov $1000, %eax; syscall; jmp .");

Registers Call(uint64_t number, uint64_t a = 0, uint64_t b = 0) {
  Registers r = TestGuest::Start();
  r.rax = number;
  r.rdi = a;
  r.rsi = b;
  return r;
}

TEST(AnswersTest, ValuesUntilWithdrawn) {
  TestGuest guest(one_call());
  for (uint32_t value : {0u, 1u, 4711u, 0xffff'ffffu}) {
    for (uint32_t number : {SYS_getpid, SYS_gettid, SYS_getppid, SYS_getuid, SYS_getegid}) {
      guest.context().SetAnswer(number, value);
      Registers r = Call(number);
      ASSERT_EQ(guest.context().Switch(r).kind, Kind::kSyscall);
      ASSERT_EQ(r.orig_rax, 1000u) << number;
      EXPECT_EQ(r.r15, value);
      EXPECT_EQ(r.rip, r.rcx);
      guest.context().SetAnswer(number, std::nullopt);
      r = Call(number);
      ASSERT_EQ(guest.context().Switch(r).kind, Kind::kSyscall);
      ASSERT_EQ(r.orig_rax, number);
    }
  }
  // Not a call that anybody answers.
  guest.context().SetAnswer(SYS_read, 1);
  Registers r = Call(SYS_read);
  ASSERT_EQ(guest.context().Switch(r).kind, Kind::kSyscall);
  EXPECT_EQ(r.orig_rax, uint64_t{SYS_read});
}

TEST(AnswersTest, NumbersBesideTheTable) {
  TestGuest guest(one_call());
  guest.context().SetAnswer(SYS_getpid, 1);
  for (uint64_t number : {uint64_t{SYS_getpid} | uint64_t{1} << 32, uint64_t{SYS_getpid} | 0x4000'0000, uint64_t{512},
                          ~uint64_t{0}, uint64_t{1} << 63, uint64_t{1} << 61 | SYS_getpid}) {
    Registers r = Call(number);
    ASSERT_EQ(guest.context().Switch(r).kind, Kind::kSyscall);
    EXPECT_EQ(r.orig_rax, number);
  }
}

TEST(AnswersTest, OfAContextNotOfItsThread) {
  TestGuest guest(one_call());
  guest.context().SetAnswer(SYS_getpid, 5);
  auto other = guest.context().CloneInSpace();
  ASSERT_TRUE(other.ok());
  Registers r = Call(SYS_getpid);
  ASSERT_TRUE((*other)->Bind(guest.space()).ok());
  ASSERT_EQ((*other)->Switch(r).kind, Kind::kSyscall);
  EXPECT_EQ(r.orig_rax, uint64_t{SYS_getpid});
  (*other)->SetAnswer(SYS_getpid, 6);
  (*other)->Release();
  // The next one gets the thread that was given up.
  auto third = guest.context().CloneInSpace();
  ASSERT_TRUE(third.ok());
  ASSERT_TRUE((*third)->Bind(guest.space()).ok());
  r = Call(SYS_getpid);
  ASSERT_EQ((*third)->Switch(r).kind, Kind::kSyscall);
  EXPECT_EQ(r.orig_rax, uint64_t{SYS_getpid});
  (*third)->Release();
  // Answers outlive a change of the space.
  TestGuest second(one_call());
  ASSERT_TRUE(guest.context().Bind(second.space()).ok());
  r = Call(SYS_getpid);
  ASSERT_EQ(guest.context().Switch(r).kind, Kind::kSyscall);
  EXPECT_EQ(r.orig_rax, 1000u);
  EXPECT_EQ(r.r15, 5u);
}

// As the sentry keeps them, roughly.
void StartClock() {
  ClockParams& p = *TestPlatform().clock_params();
  uint64_t tsc = __rdtsc();
  int64_t start = base::MonotonicNs();
  while (base::MonotonicNs() - start < 20'000'000) {
  }
  uint64_t now_tsc = __rdtsc();
  int64_t now = base::MonotonicNs();
  p.tsc_base = now_tsc;
  p.monotonic_ns = now;
  p.realtime_offset_ns = base::RealtimeNs() - now;
  p.multiplier =
      static_cast<uint64_t>(static_cast<double>(now - start) / static_cast<double>(now_tsc - tsc) * 4294967296.0);
  p.max_delta = (now_tsc - tsc) * 50'000;
  p.sequence = 2;
  p.usable = 1;
}

constexpr int64_t kClose = 100'000'000;  // of a rate that was measured for 20 ms, on a loaded machine

TEST(AnswersTest, Clocks) {
  TestGuest guest(one_call());
  StartClock();
  for (uint32_t number : {SYS_clock_gettime, SYS_gettimeofday, SYS_time}) guest.context().SetAnswer(number, 0);
  auto run = [&](uint64_t number, uint64_t a, uint64_t b) {
    Registers r = Call(number, a, b);
    EXPECT_EQ(guest.context().Switch(r).kind, Kind::kSyscall);
    return r;
  };
  for (int clock : {CLOCK_REALTIME, CLOCK_MONOTONIC}) {
    timespec before, after;
    clock_gettime(clock, &before);
    Registers r = run(SYS_clock_gettime, static_cast<uint64_t>(clock), kDataAddress);
    clock_gettime(clock, &after);
    ASSERT_EQ(r.orig_rax, 1000u);
    EXPECT_EQ(r.r15, 0u);
    int64_t ns = static_cast<int64_t>(guest.Word(0) * 1'000'000'000 + guest.Word(1));
    EXPECT_LT(guest.Word(1), 1'000'000'000u);
    EXPECT_GT(ns, before.tv_sec * 1'000'000'000 + before.tv_nsec - kClose);
    EXPECT_LT(ns, after.tv_sec * 1'000'000'000 + after.tv_nsec + kClose);
  }
  int64_t real = base::RealtimeNs();
  ASSERT_EQ(run(SYS_gettimeofday, kDataAddress, 0).orig_rax, 1000u);
  EXPECT_LT(guest.Word(1), 1'000'000u);
  EXPECT_NEAR(static_cast<double>(guest.Word(0) * 1'000'000 + guest.Word(1)), static_cast<double>(real / 1000), 1e6);
  guest.Word(0) = 0;
  Registers r = run(SYS_time, kDataAddress, 0);
  ASSERT_EQ(r.orig_rax, 1000u);
  EXPECT_EQ(r.r15, guest.Word(0));
  EXPECT_NEAR(static_cast<double>(r.r15), static_cast<double>(real / 1'000'000'000), 2);
  EXPECT_EQ(run(SYS_time, 0, 0).orig_rax, 1000u);
  // What is not computed here is the sentry's.
  EXPECT_EQ(run(SYS_clock_gettime, 7, kDataAddress).orig_rax, uint64_t{SYS_clock_gettime});
  EXPECT_EQ(run(SYS_clock_gettime, ~uint64_t{0}, kDataAddress).orig_rax, uint64_t{SYS_clock_gettime});
  EXPECT_EQ(run(SYS_gettimeofday, kDataAddress, kDataAddress).orig_rax, uint64_t{SYS_gettimeofday});
  EXPECT_EQ(run(SYS_gettimeofday, 0, 0).orig_rax, uint64_t{SYS_gettimeofday});
  ClockParams& p = *TestPlatform().clock_params();
  p.sequence = 3;
  EXPECT_EQ(run(SYS_time, 0, 0).orig_rax, uint64_t{SYS_time});
  p.sequence = 4;
  p.usable = 0;
  EXPECT_EQ(run(SYS_time, 0, 0).orig_rax, uint64_t{SYS_time});
  p.usable = 1;
  p.max_delta = 1;
  EXPECT_EQ(run(SYS_time, 0, 0).orig_rax, uint64_t{SYS_time});
}

// Where the result can't be stored, the sentry gets the call, as it was made.
TEST(AnswersTest, PointersToNowhere) {
  TestGuest guest(one_call());
  StartClock();
  for (uint32_t number : {SYS_clock_gettime, SYS_gettimeofday, SYS_time}) guest.context().SetAnswer(number, 0);
  const uint64_t page = static_cast<uint64_t>(kDataAddress) + 16 * kPageSize;
  for (uint64_t bad : {uint64_t{8}, page, page - 8, kCodeAddress, ~uint64_t{7}, uint64_t{1} << 62, kControlAddress}) {
    for (uint64_t number : {SYS_clock_gettime, SYS_gettimeofday, SYS_time}) {
      if (number == SYS_time && bad == page - 8) continue;
      bool first = number != SYS_clock_gettime;
      Registers r = Call(number, first ? bad : 1, first ? 0 : bad);
      r.r15 = 77;
      Registers before = r;
      Event event = guest.context().Switch(r);
      ASSERT_EQ(event.kind, Kind::kSyscall) << std::hex << bad;
      EXPECT_EQ(r.orig_rax, number);
      EXPECT_EQ(r.rip, kCodeAddress + 2);
      EXPECT_EQ(r.rdi, before.rdi);
      EXPECT_EQ(r.rsi, before.rsi);
      EXPECT_EQ(r.rsp, before.rsp);
      EXPECT_EQ(r.r15, 77u);
    }
  }
}

// Counts calls in rdi; every register that the call must keep is checked by the guest, which faults if one differs.
GUEST_PROGRAM(
    storm,
    "mov $0x1234567, %rdx; mov %rdx, %r8; mov %rdx, %r12; mov %rdx, %r14; movq %rdx, %xmm3; movq %rdx, %xmm15;"
    "1: mov $39, %eax; syscall; cmp $4711, %rax; jne 9f;"
    "inc %rdi; cmp %rdx, %r8; jne 9f; cmp %rdx, %r12; jne 9f; cmp %rdx, %r14; jne 9f;"
    "movq %xmm3, %rax; cmp %rdx, %rax; jne 9f; movq %xmm15, %rax; cmp %rdx, %rax; jne 9f;"
    "mov $186, %eax; syscall; cmp $4712, %rax; jne 9f;"
    "mov %rdi, (%rsi); jmp 1b; 9: ud2");

// At any instruction of the stub that a kick meets: no interrupt is lost, no call made twice, none forgotten.
TEST(AnswersTest, InterruptsAnywhere) {
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
  int calls = 0;
  int64_t slowest = 0;
  while (received < 2000) {
    int64_t start = base::MonotonicNs();
    Event event = guest.context().Switch(r);
    if (event.kind == Kind::kInterrupted) {
      slowest = std::max(slowest, base::MonotonicNs() - start);
      ++received;
      continue;
    }
    ASSERT_EQ(event.kind, Kind::kSyscall) << event.info.si_signo << std::hex << " at " << r.rip;
    ++calls;
    ASSERT_TRUE(r.orig_rax == SYS_getpid || r.orig_rax == SYS_gettid);
    r.rax = r.orig_rax == SYS_getpid ? 4711 : 4712;
  }
  stop = true;
  other.join();
  printf("%llu calls, %d of them left to the sentry; slowest interrupt %lld us\n",
         static_cast<unsigned long long>(r.rdi), calls, static_cast<long long>(slowest / 1000));
  EXPECT_GT(r.rdi, static_cast<uint64_t>(calls));
}

GUEST_PROGRAM(write_answers, "movq $1, (%rdi); mov $39, %eax; syscall; jmp .");

TEST(AnswersTest, ReadOnlyToTheGuest) {
  TestGuest guest(write_answers());
  guest.context().SetAnswer(SYS_getpid, 3);
  for (uint64_t at : {kAreaAddress + AREA_ANSWERS, kAreaAddress + AREA_ANSWERS + 8 * SYS_getpid, kClockAddress}) {
    Registers r = TestGuest::Start();
    r.rdi = at;
    Event event = guest.context().Switch(r);
    ASSERT_EQ(event.kind, Kind::kFault);
    EXPECT_EQ(event.access, Access::kWrite);
    EXPECT_EQ(event.address, at);
  }
}

// A frame that reaches into the answers is none: the sentry would write there.
TEST(AnswersTest, FramesDontReachThem) {
  for (uint64_t offset = AREA_ANSWERS - 1024; offset < AREA_SIZE; offset += 8) {
    alignas(64) static uint8_t area[AREA_SIZE];
    StubThread real(area, kAreaAddress, 2696);
    real.mailbox().context = kAreaAddress + offset;
    uint64_t fpu = kAreaAddress + 2 * kPageSize;
    if (offset + SC_SIZE <= AREA_SIZE) memcpy(area + offset + SC_FPSTATE, &fpu, sizeof fpu);
    bool reaches = offset + SC_TO_INFO + sizeof(siginfo_t) > AREA_ANSWERS;
    EXPECT_EQ(real.FindFrame(), !reaches) << offset;
  }
  alignas(64) static uint8_t area[AREA_SIZE];
  StubThread thread(area, kAreaAddress, 2696);
  thread.mailbox().context = kAreaAddress + 2 * kPageSize;
  uint64_t fpu = kAreaAddress + AREA_ANSWERS - 2624;
  memcpy(area + 2 * kPageSize + SC_FPSTATE, &fpu, sizeof fpu);
  EXPECT_FALSE(thread.FindFrame());
  fpu -= 128;
  memcpy(area + 2 * kPageSize + SC_FPSTATE, &fpu, sizeof fpu);
  EXPECT_TRUE(thread.FindFrame());
}

}  // namespace
}  // namespace platform::systrap
