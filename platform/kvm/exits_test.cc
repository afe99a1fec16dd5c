// SPDX-License-Identifier: Apache-2.0
// What operations cost in exits (KVM_RUN returns), which is the same on every machine: docs/performance.md has the
// table.
#include <sys/syscall.h>

#include "gtest/gtest.h"
#include "platform/kvm/address_space.h"
#include "platform/kvm/kvm_platform.h"
#include "platform/testing/test_guest.h"

namespace platform::kvm {
namespace {

using Kind = Event::Kind;
using testing::kCodeAddress;
using testing::kDataAddress;
using testing::kReadOnly;
using testing::kReadWrite;
using testing::TestGuest;
using testing::TestMemory;

constexpr uint64_t kFar = 0x7000'0000'0000;

KvmPlatform& Kvm() { return static_cast<KvmPlatform&>(testing::TestPlatform()); }

// rcx calls of number rbx would clobber rcx, so r12 counts.
GUEST_PROGRAM(calls, "1: mov %rbx, %rax; syscall; dec %r12; jnz 1b; ud2");
GUEST_PROGRAM(touch, "1: movq $1, (%rdi); add $4096, %rdi; cmp %rsi, %rdi; jb 1b; ud2");

TEST(ExitsTest, OnePerCallOfTheSentry) {
  TestGuest guest(calls());
  Registers r = TestGuest::Start();
  r.rbx = SYS_read;
  r.r12 = 1000;
  const uint64_t before = Kvm().Exits(), before_ring0 = Kvm().Ring0Entries();
  for (int i = 0; i < 1000; ++i) {
    ASSERT_EQ(guest.context().Switch(r).kind, Kind::kSyscall);
    r.rax = 0;
  }
  EXPECT_EQ(Kvm().Exits() - before, 1000u);
  // All but the first, which sets the page tables.
  if (Kvm().abilities().iret) {
    EXPECT_EQ(Kvm().Ring0Entries() - before_ring0, 999u);
  }
  printf("exits per system call of the sentry: 1; entered without a segment register set by the host: %llu of 1000\n",
         static_cast<unsigned long long>(Kvm().Ring0Entries() - before_ring0));
}

TEST(ExitsTest, NonePerCallAnsweredInside) {
  if (!Kvm().abilities().answers) GTEST_SKIP() << "the self-test found that ring 0 can't answer here";
  TestGuest guest(calls());
  guest.context().SetAnswer(SYS_getpid, 1);
  Registers r = TestGuest::Start();
  r.rbx = SYS_getpid;
  r.r12 = 100'000;
  const uint64_t before = Kvm().Exits();
  ASSERT_EQ(guest.context().Switch(r).kind, Kind::kSignal);  // ud2
  EXPECT_EQ(r.r12, 0u);
  // The time slices of a busy host may interrupt; the calls don't.
  EXPECT_LT(Kvm().Exits() - before, 1000u);
}

TEST(ExitsTest, FirstTouch) {
  for (uint64_t length : {uint64_t{1} << 20, uint64_t{64} << 20}) {
    TestGuest guest(touch());
    FileRange memory = *TestMemory().Allocate(length);
    ASSERT_TRUE(guest.space().Map(kFar, length, TestMemory().fd(), memory.start, kReadWrite, false).ok());
    Registers r = TestGuest::Start();
    r.rdi = kFar;
    r.rsi = kFar + length;
    const uint64_t before = Kvm().Exits();
    ASSERT_EQ(guest.context().Switch(r).kind, Kind::kSignal);
    ASSERT_EQ(r.rdi, kFar + length);
    const uint64_t exits = Kvm().Exits() - before;
    printf("exits for the first touch of %llu KiB: %llu\n", static_cast<unsigned long long>(length >> 10),
           static_cast<unsigned long long>(exits));
    EXPECT_LE(exits, length >> 16);
    TestMemory().DecRef(memory);
  }
}

// Aligned blocks are one entry of the page tables, and come apart where a part of one changes.
TEST(ExitsTest, HugePages) {
  if (Kvm().shadow()) GTEST_SKIP() << "the host's KVM shadows page tables: no huge pages then";
  TestGuest guest(touch());
  auto& space = static_cast<KvmAddressSpace&>(guest.space());
  constexpr uint64_t kLength = 8 * kBlock;
  FileRange memory = *TestMemory().Allocate(kLength + kBlock);
  const uint64_t start = (memory.start + kBlock - 1) & ~(kBlock - 1);
  ASSERT_TRUE(space.Map(kFar, kLength, TestMemory().fd(), start, kReadWrite, true).ok());
  EXPECT_EQ(space.HugeBlocks(), 8u);
  auto run = [&](uint64_t from, uint64_t to) {
    Registers r = TestGuest::Start();
    r.rdi = from;
    r.rsi = to;
    Event event = guest.context().Switch(r);
    EXPECT_EQ(event.kind == Kind::kSignal, r.rdi == to);
    return event.kind == Kind::kFault ? event.address : r.rdi;
  };
  uint64_t before = Kvm().Exits();
  EXPECT_EQ(run(kFar, kFar + kLength), kFar + kLength);
  EXPECT_EQ(Kvm().Exits() - before, 1u);
  for (uint64_t page = 0; page < kLength; page += kPageSize) {
    ASSERT_EQ(*reinterpret_cast<uint64_t*>(TestMemory().Pointer(start + page)), 1u) << page;
  }
  // A page out of the middle of the second, a read-only one in the third.
  space.Unmap(kFar + kBlock + 0x10'0000, kPageSize);
  space.Protect(kFar + 2 * kBlock + 0x10'0000, kPageSize, kReadOnly);
  EXPECT_LE(space.HugeBlocks(), 6u);
  EXPECT_EQ(run(kFar, kFar + kLength), kFar + kBlock + 0x10'0000);
  EXPECT_EQ(run(kFar + kBlock + 0x10'1000, kFar + kLength), kFar + 2 * kBlock + 0x10'0000);
  EXPECT_EQ(run(kFar + 2 * kBlock + 0x10'1000, kFar + kLength), kFar + kLength);
  // Whole ones, at once.
  space.Unmap(kFar + 4 * kBlock, 2 * kBlock);
  EXPECT_EQ(run(kFar + 3 * kBlock, kFar + kLength), kFar + 4 * kBlock);
  EXPECT_EQ(run(kFar + 6 * kBlock, kFar + kLength), kFar + kLength);
  // Not aligned to each other.
  const size_t blocks = space.HugeBlocks();
  ASSERT_TRUE(space.Map(kFar + 64 * kBlock, kBlock, TestMemory().fd(), start + kPageSize, kReadWrite, true).ok());
  EXPECT_EQ(space.HugeBlocks(), blocks);
  EXPECT_EQ(run(kFar + 64 * kBlock, kFar + 65 * kBlock), kFar + 65 * kBlock);
  TestMemory().DecRef(memory);
}

}  // namespace
}  // namespace platform::kvm
