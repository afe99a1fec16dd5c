// SPDX-License-Identifier: Apache-2.0
// Restartable sequences: the host keeps the area, a kick restarts the section, and a section around the stub's code or
// an area that is gone harms nobody else.
#include <errno.h>
#include <linux/rseq.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>

#include <thread>

#include "gtest/gtest.h"
#include "platform/systrap/stub_memory.h"
#include "platform/testing/test_guest.h"

namespace platform::testing {
namespace {

using Kind = Event::Kind;

constexpr uint32_t kSignature = 0x53053053;
constexpr uint64_t kAreaOffset = 1024;
constexpr uint64_t kSectionOffset = 2048;
constexpr RseqArea kArea = {.address = kDataAddress + kAreaOffset, .length = 32, .signature = kSignature};

// Enters the section %rsi describes, says so, and spins in it; the abort handler makes a call of its own.
GUEST_PROGRAM(section,
              "mov %rsi, 0x800408; 1: incq (%rdi); jmp 1b; 2: .long 0x53053053; mov $186, %eax; syscall; "
              "mov $39, %eax; syscall");
constexpr uint64_t kSpin = 8;  // offsets in it
constexpr uint64_t kSpinEnd = 13;
constexpr uint64_t kAbort = 17;

GUEST_PROGRAM(call_loop, "1: mov $39, %eax; syscall; jmp 1b");

class SystrapRseqTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!TestPlatform().SupportsRseq()) GTEST_SKIP() << "the host lacks rseq(2), or numbers its CPUs with gaps";
  }
  static volatile struct rseq& Area(TestGuest& guest) {
    return *reinterpret_cast<volatile struct rseq*>(guest.Data(kAreaOffset));
  }
};

TEST_F(SystrapRseqTest, HostKeepsTheCpuNumber) {
  TestGuest guest(call_loop());
  Area(guest).cpu_id = 9999;
  ASSERT_TRUE(guest.context().SetRseq(kArea).ok());
  Registers r = TestGuest::Start();
  ASSERT_EQ(guest.context().Switch(r).kind, Kind::kSyscall);
  EXPECT_LT(Area(guest).cpu_id, 8192u);
  EXPECT_TRUE(guest.context().SetRseq({}).ok());
  EXPECT_EQ(Area(guest).cpu_id, static_cast<uint32_t>(RSEQ_CPU_ID_UNINITIALIZED));
  RseqArea bad = kArea;
  bad.address += 4;
  EXPECT_EQ(guest.context().SetRseq(bad).error_number(), EINVAL);
  EXPECT_EQ(guest.context().Switch(r).kind, Kind::kSyscall);
}

TEST_F(SystrapRseqTest, KickRestartsTheSection) {
  TestGuest guest(section());
  ASSERT_EQ(section()[kAbort - 4], 0x53);
  auto* descriptor = reinterpret_cast<rseq_cs*>(guest.Data(kSectionOffset));
  *descriptor = {};
  descriptor->start_ip = kCodeAddress + kSpin;
  descriptor->post_commit_offset = kSpinEnd - kSpin;
  descriptor->abort_ip = kCodeAddress + kAbort;
  ASSERT_TRUE(guest.context().SetRseq(kArea).ok());
  Registers r = TestGuest::Start();
  r.rdi = kDataAddress;
  r.rsi = kDataAddress + kSectionOffset;
  std::thread kicker([&] {
    while (guest.Word(0) < 1000) std::this_thread::yield();
    guest.context().Interrupt();
  });
  Event event = guest.context().Switch(r);
  kicker.join();
  // The host may have restarted it before, by a preemption.
  if (event.kind == Kind::kInterrupted) {
    EXPECT_EQ(r.rip, kCodeAddress + kAbort);
    event = guest.context().Switch(r);
  }
  ASSERT_EQ(event.kind, Kind::kSyscall);
  EXPECT_EQ(r.orig_rax, uint64_t{SYS_gettid});
}

TEST_F(SystrapRseqTest, SectionAroundTheStubHarmsNobodyElse) {
  TestGuest bystander(call_loop());
  for (int i = 0; i < 20; ++i) {
    TestGuest guest(call_loop());
    ASSERT_TRUE(guest.context().SetRseq(kArea).ok());
    auto* descriptor = reinterpret_cast<rseq_cs*>(guest.Data(kSectionOffset));
    *descriptor = {};
    descriptor->start_ip = kGuestAddressLimit;
    descriptor->post_commit_offset = 64 << 20;
    descriptor->abort_ip = kCodeAddress;
    memcpy(TestMemory().Pointer(guest.code_range().start) + 64, &kSignature, 4);
    descriptor->abort_ip = kCodeAddress + 68;
    Area(guest).rseq_cs = kDataAddress + kSectionOffset;
    Registers r = TestGuest::Start();
    for (int n = 0; n < 20; ++n) {
      guest.context().Interrupt();
      if (guest.context().Switch(r).kind == Kind::kDead) break;
    }
    r = TestGuest::Start();
    ASSERT_EQ(bystander.context().Switch(r).kind, Kind::kSyscall);
  }
}

TEST_F(SystrapRseqTest, AreaThatIsGoneKillsTheGuestOnly) {
  TestGuest bystander(call_loop());
  {
    TestGuest guest(call_loop());
    ASSERT_TRUE(guest.context().SetRseq(kArea).ok());
    guest.space().Unmap(kDataAddress, kDataLength);
    Registers r = TestGuest::Start();
    EXPECT_EQ(guest.context().Switch(r).kind, Kind::kDead);
  }
  {
    TestGuest guest(call_loop());
    ASSERT_TRUE(guest.context().SetRseq(kArea).ok());
    guest.space().Unmap(kDataAddress, kDataLength);
  }
  Registers r = TestGuest::Start();
  EXPECT_EQ(bystander.context().Switch(r).kind, Kind::kSyscall);
}

}  // namespace
}  // namespace platform::testing
