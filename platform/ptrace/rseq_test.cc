// SPDX-License-Identifier: Apache-2.0
// Restartable sequences against the platform: a guest that aims them at the stub, or takes its own area away.
#include <errno.h>
#include <linux/rseq.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>

#include <thread>

#include "gtest/gtest.h"
#include "platform/ptrace/context.h"
#include "platform/testing/test_guest.h"

namespace platform::testing {
namespace {

using Kind = Event::Kind;
constexpr uint32_t kSignature = 0x1234'5678;
constexpr uint64_t kAreaOffset = 0x1000, kSectionOffset = 0x2000;  // in the guest's data
constexpr RseqArea kArea = {.address = kDataAddress + kAreaOffset, .length = 32, .signature = kSignature};

GUEST_PROGRAM(call_loop, "1: mov $39, %eax; syscall; jmp 1b; .balign 64; .long 0x12345678; 2: mov $186, %eax; syscall");
constexpr uint64_t kAbortAddress = kCodeAddress + 64 + 4;

class RseqTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!TestPlatform().SupportsRseq()) GTEST_SKIP() << "the host lacks rseq(2), or numbers its CPUs with gaps";
  }
  // Makes the guest's current section [start, start+length).
  static void EnterSection(TestGuest& guest, uint64_t start, uint64_t length) {
    auto* section = reinterpret_cast<rseq_cs*>(guest.Data(kSectionOffset));
    *section = {};
    section->start_ip = start;
    section->post_commit_offset = length;
    section->abort_ip = kAbortAddress;
    auto* area = reinterpret_cast<struct rseq*>(guest.Data(kAreaOffset));
    *reinterpret_cast<volatile uint64_t*>(&area->rseq_cs) = kDataAddress + kSectionOffset;
  }
};

TEST_F(RseqTest, HostKeepsTheCpuAndRestarts) {
  TestGuest guest(call_loop());
  ASSERT_TRUE(guest.context().SetRseq(kArea).ok());
  Registers r = TestGuest::Start();
  ASSERT_EQ(guest.context().Switch(r).kind, Kind::kSyscall);
  auto* area = reinterpret_cast<struct rseq*>(guest.Data(kAreaOffset));
  EXPECT_LT(area->cpu_id, 8192u);
  // The stop of the thread is a preemption: its next step is the abort handler.
  EnterSection(guest, kCodeAddress, 32);
  ASSERT_EQ(guest.context().Switch(r).kind, Kind::kSyscall);
  EXPECT_EQ(r.orig_rax, 186u);
  EXPECT_TRUE(guest.context().SetRseq({}).ok());
  EXPECT_EQ(area->cpu_id, static_cast<uint32_t>(RSEQ_CPU_ID_UNINITIALIZED));
}

TEST_F(RseqTest, MemoryCallsWorkWithAnArea) {
  TestGuest guest(call_loop());
  ASSERT_TRUE(guest.context().SetRseq(kArea).ok());
  for (int i = 0; i < 100; ++i) {
    ASSERT_TRUE(guest.space().Map(0x900000, kPageSize, TestMemory().fd(), 0, kReadOnly, true).ok());
    guest.space().Unmap(0x900000, kPageSize);
  }
  Registers r = TestGuest::Start();
  EXPECT_EQ(guest.context().Switch(r).kind, Kind::kSyscall);
}

// The host would go on in guest code in the middle of an injected call.
TEST_F(RseqTest, SectionAroundTheStubPageKillsTheGuestOnly) {
  TestGuest bystander(call_loop());
  {
    TestGuest guest(call_loop());
    ASSERT_TRUE(guest.context().SetRseq(kArea).ok());
    EnterSection(guest, kGuestAddressLimit - kPageSize, 1 << 20);
    EXPECT_FALSE(guest.space().Map(0x900000, kPageSize, TestMemory().fd(), 0, kReadOnly, true).ok());
    Registers r = TestGuest::Start();
    EXPECT_EQ(guest.context().Switch(r).kind, Kind::kDead);
  }
  Registers r = TestGuest::Start();
  EXPECT_EQ(bystander.context().Switch(r).kind, Kind::kSyscall);
}

// An abort handler that jumps to where the call would have ended fakes a success.
TEST_F(RseqTest, ForgedReturnIsSeen) {
  TestGuest guest(call_loop());
  ASSERT_TRUE(guest.context().SetRseq(kArea).ok());
  auto* code = TestMemory().Pointer(guest.code_range().start);
  // The instruction after the stub's `syscall`.
  const uint64_t done = static_cast<ptrace::PtracePlatform&>(TestPlatform()).layout().call() + 2;
  const uint8_t jump[] = {0xff, 0x24, 0x25, 0x00, 0x30, 0x80, 0x00};  // jmp *0x803000
  memcpy(code + (kAbortAddress - kCodeAddress), jump, sizeof jump);
  memcpy(guest.Data(0x3000), &done, sizeof done);
  EnterSection(guest, kGuestAddressLimit - kPageSize, 1 << 20);
  EXPECT_FALSE(guest.space().Map(0x900000, kPageSize, TestMemory().fd(), 0, kReadOnly, true).ok());
  Registers r = TestGuest::Start();
  EXPECT_EQ(guest.context().Switch(r).kind, Kind::kDead);
}

TEST_F(RseqTest, UnwritableAreaIsAFaultThatCanBeMended) {
  TestGuest guest(call_loop());
  ASSERT_TRUE(guest.context().SetRseq(kArea).ok());
  Registers r = TestGuest::Start();
  ASSERT_EQ(guest.context().Switch(r).kind, Kind::kSyscall);
  // By another thread, behind the back of this one's stub thread.
  std::thread([&] { guest.space().Protect(kDataAddress, kDataLength, kReadOnly); }).join();
  Event event = guest.context().Switch(r);
  ASSERT_EQ(event.kind, Kind::kFault);
  EXPECT_EQ(event.address, kArea.address);
  EXPECT_EQ(event.access, Access::kWrite);
  guest.space().Protect(kDataAddress, kDataLength, kReadWrite);
  ASSERT_EQ(guest.context().Switch(r).kind, Kind::kSyscall);
  // By itself: it is registered again afterwards.
  guest.space().Protect(kDataAddress, kDataLength, kReadOnly);
  guest.space().Protect(kDataAddress, kDataLength, kReadWrite);
  ASSERT_EQ(guest.context().Switch(r).kind, Kind::kSyscall);
  EnterSection(guest, kCodeAddress, 32);
  ASSERT_EQ(guest.context().Switch(r).kind, Kind::kSyscall);
  EXPECT_EQ(r.orig_rax, 186u);
}

TEST_F(RseqTest, ReleaseWithoutTheAreaKillsNobodyElse) {
  TestGuest bystander(call_loop());
  {
    TestGuest guest(call_loop());
    ASSERT_TRUE(guest.context().SetRseq(kArea).ok());
    std::thread([&] { guest.space().Unmap(kDataAddress, kDataLength); }).join();
  }
  Registers r = TestGuest::Start();
  EXPECT_EQ(bystander.context().Switch(r).kind, Kind::kSyscall);
}

GUEST_PROGRAM(general_protection, "movabs $0x8000000000000000, %rax; mov (%rax), %rax");

TEST_F(RseqTest, GeneralProtectionIsNotTheAreasFault) {
  TestGuest guest(general_protection());
  ASSERT_TRUE(guest.context().SetRseq(kArea).ok());
  Registers r = TestGuest::Start();
  for (int i = 0; i < 20; ++i) {
    Event event = guest.context().Switch(r);
    ASSERT_EQ(event.kind, Kind::kSignal);
    EXPECT_EQ(event.info.si_signo, SIGSEGV);
  }
}

}  // namespace
}  // namespace platform::testing
