// SPDX-License-Identifier: Apache-2.0
// Contexts: interrupts, threads, vector state, binding, death.
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "gtest/gtest.h"
#include "platform/testing/test_guest.h"

namespace platform::testing {
namespace {

using Kind = Event::Kind;

GUEST_PROGRAM(spin, "1: incq (%rdi); jmp 1b");
GUEST_PROGRAM(calls, "1: mov $39, %eax; syscall; jmp 1b");

TEST(InterruptTest, BeforeSwitchIsStickyAndCountsOnce) {
  TestGuest guest(calls());
  Registers r = TestGuest::Start();
  guest.context().Interrupt();
  guest.context().Interrupt();
  EXPECT_EQ(guest.context().Switch(r).kind, Kind::kInterrupted);
  EXPECT_EQ(r.rip, kCodeAddress);
  EXPECT_EQ(guest.context().Switch(r).kind, Kind::kSyscall);
}

TEST(InterruptTest, DuringSwitch) {
  TestGuest guest(spin());
  for (int i = 0; i < 50; ++i) {
    guest.Word(0) = 0;
    Registers r = TestGuest::Start();
    r.rdi = kDataAddress;
    std::thread other([&] {
      while (guest.Word(0) == 0) std::this_thread::yield();
      guest.context().Interrupt();
    });
    EXPECT_EQ(guest.context().Switch(r).kind, Kind::kInterrupted);
    other.join();
    EXPECT_EQ(r.rdi, kDataAddress);
    EXPECT_GE(r.rip, kCodeAddress);
  }
}

GUEST_PROGRAM(store, "movq $7, (%rdi); movq $8, (%rdi); mov $39, %eax; syscall");

TEST(DebugRegisterTest, WatchesWritesOfOneThread) {
  TestGuest guest(store());
  const uint64_t values[8] = {kDataAddress,         0, 0, 0, 0, 0, kDebugStatusInitial,
                              1 | 1 << 16 | 2 << 18};  // 8 bytes, writes
  base::Result<void> set = guest.context().SetDebugRegisters(values);
  if (!set.ok()) GTEST_SKIP() << "a host without debug registers";
  EXPECT_EQ(guest.context().DebugStatus(), kDebugStatusInitial);
  Registers r = TestGuest::Start();
  r.rdi = kDataAddress;
  Event event = guest.context().Switch(r);
  ASSERT_EQ(event.kind, Kind::kSignal);
  EXPECT_EQ(event.info.si_signo, SIGTRAP);
  EXPECT_EQ(event.info.si_code, TRAP_HWBKPT);
  EXPECT_EQ(guest.Word(0), 7u);
  EXPECT_EQ(guest.context().DebugStatus() & 0xf, 1u);

  base::Result<std::unique_ptr<Context>> other = guest.context().CloneInSpace();
  ASSERT_TRUE(other.ok());
  std::thread([&] {
    Registers its = TestGuest::Start();
    its.rdi = kDataAddress;
    EXPECT_EQ((*other)->Switch(its).kind, Kind::kSyscall);
    (*other)->Release();
  }).join();

  const uint64_t off[8] = {0, 0, 0, 0, 0, 0, kDebugStatusInitial, 0};
  ASSERT_TRUE(guest.context().SetDebugRegisters(off).ok());
  EXPECT_EQ(guest.context().Switch(r).kind, Kind::kSyscall);
  EXPECT_EQ(guest.Word(0), 8u);
}

// Interrupts at random points of a stream of calls: none lost, none invented, no call lost or changed.
TEST(InterruptTest, Storm) {
  TestGuest guest(calls());
  std::atomic<int> sent{0};
  std::atomic<int> received{0};
  std::atomic<bool> stop{false};
  std::thread other([&] {
    while (!stop) {
      ++sent;
      guest.context().Interrupt();
      while (received < sent && !stop) std::this_thread::yield();
    }
  });
  Registers r = TestGuest::Start();
  int syscalls = 0;
  while (received < 2000) {
    uint64_t before = r.rip;
    Event event = guest.context().Switch(r);
    if (event.kind == Kind::kInterrupted) {
      ++received;
      continue;
    }
    ASSERT_EQ(event.kind, Kind::kSyscall) << "rip " << before;
    ASSERT_EQ(r.orig_rax, uint64_t{SYS_getpid});
    ++syscalls;
    r.rax = 1;
    // Memory calls with a kick pending.
    if (syscalls % 16 == 0) {
      ASSERT_TRUE(guest.space().Map(0x900000, kPageSize, TestMemory().fd(), 0, kReadOnly, true).ok());
      guest.space().Unmap(0x900000, kPageSize);
    }
  }
  stop = true;
  other.join();
  EXPECT_LE(received, sent);
}

GUEST_PROGRAM(add_and_call, "1: lock incq (%rdi); mov $39, %eax; syscall; jmp 1b");

TEST(CloneTest, ThreadsShareMemory) {
  TestGuest guest(add_and_call());
  constexpr int kThreads = 6;
  constexpr int kRounds = 500;
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    auto context = guest.context().CloneInSpace();
    ASSERT_TRUE(context.ok());
    threads.emplace_back([&guest, context = *std::move(context)] {
      Registers r = TestGuest::Start();
      r.rdi = kDataAddress;
      for (int n = 0; n < kRounds; ++n) {
        ASSERT_EQ(context->Switch(r).kind, Kind::kSyscall);
        r.rax = 0;
        if (n == kRounds / 2) {
          // Its own memory calls go through its own stub thread.
          ASSERT_TRUE(guest.space().Map(0x900000, kPageSize, TestMemory().fd(), 0, kReadOnly, false).ok());
        }
      }
      context->Release();
      context->Release();
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(guest.Word(0), uint64_t{kThreads * kRounds});
}

TEST(CloneTest, NeverAdoptedContextIsReleased) {
  TestGuest guest(calls());
  {
    auto context = guest.context().CloneInSpace();
    ASSERT_TRUE(context.ok());
  }
  Registers r = TestGuest::Start();
  EXPECT_EQ(guest.context().Switch(r).kind, Kind::kSyscall);
}

GUEST_PROGRAM(load_vectors,
              "movdqu (%rdi), %xmm0; movdqu (%rdi), %xmm15; fld1; mov $39, %eax; syscall;"
              "movdqu %xmm0, 64(%rdi); movdqu %xmm15, 80(%rdi); mov $39, %eax; syscall");
GUEST_PROGRAM(load_ymm,
              "vmovdqu (%rdi), %ymm3; mov $39, %eax; syscall; vmovdqu %ymm3, 64(%rdi);"
              "mov $39, %eax; syscall");
GUEST_PROGRAM(store_ymm, "vmovdqu %ymm3, 128(%rdi); stmxcsr 160(%rdi); mov $39, %eax; syscall");

bool HasAvx() { return __builtin_cpu_supports("avx"); }

TEST(FpuTest, SurvivesCallsAndMemoryChanges) {
  TestGuest guest(load_vectors());
  memset(guest.Data(), 0xab, 64);
  Registers r = TestGuest::Start();
  r.rdi = kDataAddress;
  ASSERT_EQ(guest.context().Switch(r).kind, Kind::kSyscall);
  ASSERT_TRUE(guest.space().Map(0x900000, kPageSize, TestMemory().fd(), 0, kReadOnly, true).ok());
  guest.space().Unmap(0x900000, kPageSize);
  ASSERT_EQ(guest.context().Switch(r).kind, Kind::kSyscall);
  EXPECT_EQ(memcmp(guest.Data(), guest.Data(64), 32), 0);
}

TEST(FpuTest, AvxGetSetResetAndClone) {
  if (!HasAvx()) GTEST_SKIP() << "no AVX";
  TestGuest guest(load_ymm());
  for (int i = 0; i < 32; ++i) guest.Data()[i] = static_cast<uint8_t>(i + 1);
  Registers r = TestGuest::Start();
  r.rdi = kDataAddress;
  ASSERT_EQ(guest.context().Switch(r).kind, Kind::kSyscall);
  std::vector<uint8_t> image(TestPlatform().FpuStateSize());
  ASSERT_EQ(guest.context().GetFpu(image), image.size());

  // A copy for the new thread, also after ours was reset.
  auto copy = guest.context().CloneInSpace();
  ASSERT_TRUE(copy.ok());
  ASSERT_TRUE(guest.context().ResetFpu().ok());
  Registers after_reset = r;
  ASSERT_EQ(guest.context().Switch(after_reset).kind, Kind::kSyscall);
  EXPECT_EQ(std::vector<uint8_t>(guest.Data(64), guest.Data(96)), std::vector<uint8_t>(32, 0));

  std::thread([&] {
    Registers mine = r;
    ASSERT_EQ((*copy)->Switch(mine).kind, Kind::kSyscall);
    (*copy)->Release();
  }).join();
  EXPECT_EQ(memcmp(guest.Data(), guest.Data(64), 32), 0);

  memset(guest.Data(64), 0, 32);
  ASSERT_TRUE(guest.context().SetFpu(image).ok());
  Registers after_set = r;
  ASSERT_EQ(guest.context().Switch(after_set).kind, Kind::kSyscall);
  EXPECT_EQ(memcmp(guest.Data(), guest.Data(64), 32), 0);
}

TEST(FpuTest, NewStubsHaveInitialState) {
  if (!HasAvx()) GTEST_SKIP() << "no AVX";
  TestGuest guest(store_ymm());
  memset(guest.Data(128), 0xff, 64);
  Registers r = TestGuest::Start();
  r.rdi = kDataAddress;
  ASSERT_EQ(guest.context().Switch(r).kind, Kind::kSyscall);
  EXPECT_EQ(std::vector<uint8_t>(guest.Data(128), guest.Data(160)), std::vector<uint8_t>(32, 0));
  uint32_t mxcsr;
  memcpy(&mxcsr, guest.Data(160), 4);
  EXPECT_EQ(mxcsr, 0x1f80u);
}

TEST(FpuTest, ImagesOfSignalFrames) {
  TestGuest guest(store_ymm());
  Context& context = guest.context();
  size_t size = TestPlatform().FpuStateSize();
  std::vector<uint8_t> image(size);
  ASSERT_EQ(context.GetFpu(image), size);
  EXPECT_TRUE(context.SetFpu(image).ok());
  // Legacy part only, as a frame without the XSAVE magic.
  EXPECT_TRUE(context.SetFpu(std::span(image).first(512)).ok());
  EXPECT_EQ(context.SetFpu(std::span(image).first(100)).error_number(), EINVAL);
  EXPECT_EQ(context.SetFpu({}).error_number(), EINVAL);
  EXPECT_EQ(context.SetFpu(std::vector<uint8_t>(size + 1)).error_number(), EINVAL);
  if (size >= 576) {
    std::vector<uint8_t> bad = image;
    bad[512 + 7] = 0x40;  // an unknown component
    EXPECT_EQ(context.SetFpu(bad).error_number(), EINVAL);
    bad = image;
    bad[520 + 7] = 0x80;  // compacted
    EXPECT_EQ(context.SetFpu(bad).error_number(), EINVAL);
    bad = image;
    bad[512] |= 2;
    bad[27] = 0xff;  // reserved MXCSR bits
    EXPECT_EQ(context.SetFpu(bad).error_number(), EINVAL);
  }
  // MXCSR counts even if the image lacks SSE state.
  std::vector<uint8_t> no_sse = image;
  if (size >= 576) no_sse[512] = 0;
  no_sse[24] = 0xc0;
  ASSERT_TRUE(context.SetFpu(no_sse).ok());
  if (!HasAvx()) return;
  Registers r = TestGuest::Start();
  r.rdi = kDataAddress;
  ASSERT_EQ(context.Switch(r).kind, Kind::kSyscall);
  EXPECT_EQ(*guest.Data(160), 0xc0);
}

TEST(BindTest, ToAnotherSpaceAndBack) {
  TestGuest a(calls()), b(spin());
  auto context = TestPlatform().NewContext();
  EXPECT_EQ(context->GetFpu({}), 0u);
  EXPECT_FALSE(context->CloneInSpace().ok());
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(context->Bind(a.space()).ok());
    ASSERT_TRUE(context->Bind(a.space()).ok());
    Registers r = TestGuest::Start();
    EXPECT_EQ(context->Switch(r).kind, Kind::kSyscall);
    ASSERT_TRUE(context->Bind(b.space()).ok());
    r = TestGuest::Start();
    r.rdi = 8;
    EXPECT_EQ(context->Switch(r).kind, Kind::kFault);
  }
  context->Release();
  context->Release();
  Registers r = TestGuest::Start();
  EXPECT_EQ(context->Switch(r).kind, Kind::kDead);
}

TEST(DeathTest, KilledWhileTheGuestRuns) {
  if (!HasStubs()) GTEST_SKIP() << "a platform without stub processes";
  TestGuest guest(spin());
  Registers r = TestGuest::Start();
  r.rdi = kDataAddress;
  std::atomic<int64_t> killed_at{0};
  std::thread other([&] {
    while (guest.Word(0) == 0) std::this_thread::yield();
    killed_at = base::MonotonicNs();
    kill(guest.stub_pid(), SIGKILL);
  });
  EXPECT_EQ(guest.context().Switch(r).kind, Kind::kDead);
  EXPECT_LT(base::MonotonicNs() - killed_at, base::kNsPerSecond);
  other.join();
  EXPECT_EQ(guest.context().Switch(r).kind, Kind::kDead);
  guest.context().Interrupt();
}

// One thread learns of the death though another one's owner is busy elsewhere and hasn't reaped its own.
TEST(DeathTest, IsSeenByEachThreadAlone) {
  if (!HasStubs()) GTEST_SKIP() << "a platform without stub processes";
  TestGuest guest(spin());
  auto context = guest.context().CloneInSpace();
  ASSERT_TRUE(context.ok());
  Registers main_registers = TestGuest::Start();
  guest.context().Interrupt();
  ASSERT_EQ(guest.context().Switch(main_registers).kind, Kind::kInterrupted);
  std::thread other([&] {
    Registers r = TestGuest::Start();
    r.rdi = kDataAddress;
    EXPECT_EQ((*context)->Switch(r).kind, Kind::kDead);
    (*context)->Release();
  });
  while (guest.Word(0) == 0) std::this_thread::yield();
  kill(guest.stub_pid(), SIGKILL);
  other.join();
  EXPECT_EQ(guest.context().Switch(main_registers).kind, Kind::kDead);
}

TEST(DeathTest, BetweenSwitches) {
  if (!HasStubs()) GTEST_SKIP() << "a platform without stub processes";
  TestGuest guest(calls());
  Registers r = TestGuest::Start();
  ASSERT_EQ(guest.context().Switch(r).kind, Kind::kSyscall);
  kill(guest.stub_pid(), SIGKILL);
  int64_t deadline = base::MonotonicNs() + base::kNsPerSecond;
  while (guest.context().Switch(r).kind != Kind::kDead) ASSERT_LT(base::MonotonicNs(), deadline);
}

// Signals and stops from outside are no business of the guest.
TEST(DeathTest, OtherSignalsFromOutsideAreDropped) {
  if (!HasStubs()) GTEST_SKIP() << "a platform without stub processes";
  TestGuest guest(spin());
  Registers r = TestGuest::Start();
  r.rdi = kDataAddress;
  std::thread other([&] {
    pid_t tid = StubTid(guest.context());
    auto ran_on = [&] {
      uint64_t before = guest.Word(0);
      while (guest.Word(0) == before) std::this_thread::yield();
    };
    for (int signal : {SIGSEGV, SIGTRAP, SIGTERM, SIGSYS, SIGUSR1, SIGURG, SIGSTOP, SIGTSTP}) {
      syscall(SYS_tgkill, guest.stub_pid(), tid, signal);
      // Nothing but ptrace keeps a stop away from a process.
      if (signal == SIGSTOP) syscall(SYS_tgkill, guest.stub_pid(), tid, SIGCONT);
      ran_on();
    }
    guest.context().Interrupt();
  });
  EXPECT_EQ(guest.context().Switch(r).kind, Kind::kInterrupted);
  other.join();
}

TEST(PlacementTest, PairIsOnOneCpuAndBlockedPairsDontCount) {
  if (!HasStubs()) GTEST_SKIP() << "a platform without stub processes";
  ptrace::Placement& placement = TestPlacement();
  if (!placement.enabled()) GTEST_SKIP() << "one CPU";
  std::thread([&] {
    TestGuest guest(calls());
    Context& context = guest.context();
    cpu_set_t own, stub;
    ASSERT_EQ(sched_getaffinity(0, sizeof(own), &own), 0);
    ASSERT_EQ(sched_getaffinity(StubTid(context), sizeof(stub), &stub), 0);
    EXPECT_EQ(CPU_COUNT(&own), 1);
    EXPECT_TRUE(CPU_EQUAL(&own, &stub));
    int before = placement.PairsForTest(SlotOf(context).index);
    TestPlatform().OnBlock();
    TestPlatform().OnBlock();
    EXPECT_EQ(placement.PairsForTest(SlotOf(context).index), before - 1);
    TestPlatform().OnUnblock();
    TestPlatform().OnUnblock();
    EXPECT_GE(placement.PairsForTest(SlotOf(context).index), 1);
    Registers r = TestGuest::Start();
    EXPECT_EQ(context.Switch(r).kind, Kind::kSyscall);
  }).join();
}

}  // namespace
}  // namespace platform::testing
