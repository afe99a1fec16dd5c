// SPDX-License-Identifier: Apache-2.0
// Memory of a stub, changed by the owner of a context and by others, while guest code runs.
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "base/clock.h"
#include "gtest/gtest.h"
#include "platform/testing/test_guest.h"

namespace platform::testing {
namespace {

using Kind = Event::Kind;
constexpr uint64_t kFar = 0x7000'0000'0000;

GUEST_PROGRAM(load, "mov (%rdi), %rax; mov %rax, %rsi; mov $39, %eax; syscall");
GUEST_PROGRAM(count, "1: incq (%rdi); incq (%rsi); jmp 1b");

TEST(AddressSpaceTest, MapAndUnmap) {
  TestGuest guest(load());
  FileRange memory = *TestMemory().Allocate(4 * kPageSize);
  memset(TestMemory().Pointer(memory.start), 0x5a, memory.length());
  for (bool populate : {false, true}) {
    ASSERT_TRUE(guest.space().Map(kFar, memory.length(), TestMemory().fd(), memory.start, kReadOnly, populate).ok());
    Registers r = TestGuest::Start();
    r.rdi = kFar + 3 * kPageSize;
    ASSERT_EQ(guest.context().Switch(r).kind, Kind::kSyscall);
    EXPECT_EQ(r.rsi, 0x5a5a'5a5a'5a5a'5a5au);
    // A hole, then all of it.
    guest.space().Unmap(kFar + kPageSize, kPageSize);
    r = TestGuest::Start();
    r.rdi = kFar + kPageSize;
    EXPECT_EQ(guest.context().Switch(r).kind, Kind::kFault);
    // Over the hole: PROT_NONE on what there is.
    guest.space().Protect(kFar, memory.length(), Protection{});
    for (uint64_t page : {0, 2, 3}) {
      r = TestGuest::Start();
      r.rdi = kFar + page * kPageSize;
      Event event = guest.context().Switch(r);
      EXPECT_EQ(event.kind, Kind::kFault);
      EXPECT_EQ(event.info.si_code, SEGV_ACCERR);
    }
    guest.space().Unmap(0, kGuestAddressLimit - kPageSize);
    r = TestGuest::Start();
    Event event = guest.context().Switch(r);
    ASSERT_EQ(event.kind, Kind::kFault);
    EXPECT_EQ(event.address, kCodeAddress);
    ASSERT_TRUE(
        guest.space().Map(kCodeAddress, kPageSize, TestMemory().fd(), guest.code_range().start, kReadExec, false).ok());
  }
  TestMemory().DecRef(memory);
}

TEST(AddressSpaceTest, BadArguments) {
  TestGuest guest(load());
  int fd = TestMemory().fd();
  EXPECT_EQ(guest.space().Map(kFar + 1, kPageSize, fd, 0, kReadOnly, false).error_number(), EINVAL);
  EXPECT_EQ(guest.space().Map(kFar, 0, fd, 0, kReadOnly, false).error_number(), EINVAL);
  EXPECT_EQ(guest.space().Map(kFar, kPageSize, fd, 3, kReadOnly, false).error_number(), EINVAL);
  EXPECT_EQ(guest.space().Map(kGuestAddressLimit, kPageSize, fd, 0, kReadOnly, false).error_number(), EINVAL);
  EXPECT_EQ(guest.space().Map(kGuestAddressLimit - kPageSize, 2 * kPageSize, fd, 0, kReadOnly, false).error_number(),
            EINVAL);
  EXPECT_EQ(guest.space().Map(kFar, ~uint64_t{4095}, fd, 0, kReadOnly, false).error_number(), EINVAL);
  EXPECT_EQ(guest.space().Map(kFar, kPageSize, 9999, 0, kReadOnly, false).error_number(), EBADF);
  Registers r = TestGuest::Start();
  r.rdi = kDataAddress;
  EXPECT_EQ(guest.context().Switch(r).kind, Kind::kSyscall);
}

// A failed replacement must not leave the old page in place.
TEST(AddressSpaceTest, FailedMapUnmaps) {
  TestGuest guest(load());
  EXPECT_FALSE(guest.space().Map(kDataAddress, kPageSize, 9999, 0, kReadOnly, false).ok());
  Registers r = TestGuest::Start();
  r.rdi = kDataAddress;
  EXPECT_EQ(guest.context().Switch(r).kind, Kind::kFault);
}

TEST(AddressSpaceTest, SpacesAreSeparate) {
  TestGuest a(load()), b(load());
  a.Word(0) = 1;
  b.Word(0) = 2;
  for (TestGuest* guest : {&a, &b, &a}) {
    Registers r = TestGuest::Start();
    r.rdi = kDataAddress;
    ASSERT_EQ(guest->context().Switch(r).kind, Kind::kSyscall);
    EXPECT_EQ(r.rsi, guest == &a ? 1u : 2u);
  }
  a.space().Unmap(kDataAddress, kPageSize);
  Registers r = TestGuest::Start();
  r.rdi = kDataAddress;
  EXPECT_EQ(b.context().Switch(r).kind, Kind::kSyscall);
}

// Runs a guest thread that counts in two pages, and reports the event that stopped it.
class Spinner {
 public:
  explicit Spinner(TestGuest& guest) : guest_(guest) {
    auto context = guest.context().CloneInSpace();
    EXPECT_TRUE(context.ok());
    context_ = *std::move(context);
    thread_ = std::thread([this] {
      Registers r = TestGuest::Start();
      r.rdi = kDataAddress;
      r.rsi = kDataAddress + kPageSize;
      event_ = context_->Switch(r);
      done_ = true;
      context_->Release();
    });
    while (guest_.Word(0) < 1000) std::this_thread::yield();
  }
  ~Spinner() {
    if (thread_.joinable()) thread_.join();
  }
  bool done() const { return done_; }
  Event Join() {
    thread_.join();
    return event_;
  }
  Context& context() { return *context_; }

 private:
  TestGuest& guest_;
  std::unique_ptr<Context> context_;
  std::thread thread_;
  Event event_ = {.kind = Kind::kDead};
  std::atomic<bool> done_{false};
};

TEST(AddressSpaceTest, OwnUnmapStopsAnotherThread) {
  TestGuest guest(count());
  Spinner spinner(guest);
  guest.space().Unmap(kDataAddress + kPageSize, kPageSize);
  uint64_t after = guest.Word(kPageSize / 8);
  Event event = spinner.Join();
  EXPECT_EQ(event.kind, Kind::kFault);
  EXPECT_EQ(event.address, kDataAddress + kPageSize);
  EXPECT_EQ(guest.Word(kPageSize / 8), after);
}

TEST(AddressSpaceTest, ForeignUnmapStopsAGuestThread) {
  TestGuest guest(count());
  Spinner spinner(guest);
  std::thread([&] {
    guest.space().Unmap(kDataAddress + kPageSize, kPageSize);
    uint64_t after = guest.Word(kPageSize / 8);
    Event event = spinner.Join();
    EXPECT_EQ(event.kind, Kind::kFault);
    EXPECT_EQ(event.address, kDataAddress + kPageSize);
    EXPECT_EQ(guest.Word(kPageSize / 8), after);
  }).join();
}

TEST(AddressSpaceTest, ForeignProtectIsNoticedAndHarmlessChangesAreNot) {
  TestGuest guest(count());
  Spinner spinner(guest);
  std::thread([&] {
    for (int i = 0; i < 200; ++i) {
      guest.space().Protect(kDataAddress + 8 * kPageSize, kPageSize, i % 2 == 0 ? kReadOnly : kReadWrite);
    }
    EXPECT_FALSE(spinner.done());
    guest.space().Protect(kDataAddress, kPageSize, kReadOnly);
    uint64_t after = guest.Word(0);
    Event event = spinner.Join();
    EXPECT_EQ(event.kind, Kind::kFault);
    EXPECT_EQ(event.address, kDataAddress);
    EXPECT_EQ(event.info.si_code, SEGV_ACCERR);
    EXPECT_EQ(guest.Word(0), after);
  }).join();
}

// Two foreign threads and two owners change memory at once while a third guest thread runs.
TEST(AddressSpaceTest, ConcurrentChanges) {
  TestGuest guest(count());
  Spinner spinner(guest);
  auto churn = [&](uint64_t at) {
    for (int i = 0; i < 300; ++i) {
      ASSERT_TRUE(guest.space().Map(at, 4 * kPageSize, TestMemory().fd(), 0, kReadOnly, false).ok());
      guest.space().Protect(at + kPageSize, kPageSize, kReadWrite);
      guest.space().Unmap(at, 4 * kPageSize);
    }
  };
  std::thread a(churn, kFar), b(churn, kFar + 0x10'0000);
  churn(kFar + 0x20'0000);
  a.join();
  b.join();
  EXPECT_FALSE(spinner.done());
  spinner.context().Interrupt();
  EXPECT_EQ(spinner.Join().kind, Kind::kInterrupted);
}

// The host refuses to split mappings beyond vm.max_map_count: the guest loses its process, never keeps the page.
TEST(AddressSpaceTest, TooManyMappings) {
  TestGuest guest(load());
  const uint64_t pages = 3 << 16;
  FileRange memory = *TestMemory().Allocate(kPageSize);
  // Every second page of a far range, in pieces that can't be joined.
  uint64_t mapped = 0;
  base::Result<void> result = base::OkResult();
  for (; mapped < pages; ++mapped) {
    result = guest.space().Map(kFar + mapped * kPageSize, kPageSize, TestMemory().fd(), memory.start, kReadOnly, false);
    if (!result.ok()) break;
  }
  if (result.ok()) GTEST_SKIP() << "vm.max_map_count is above " << pages;
  EXPECT_EQ(result.error_number(), ENOMEM);
  // Splitting the data in two needs one mapping more than there are.
  guest.space().Unmap(kDataAddress + 4 * kPageSize, kPageSize);
  Registers r = TestGuest::Start();
  r.rdi = kDataAddress + 4 * kPageSize;
  Event event = guest.context().Switch(r);
  EXPECT_TRUE(event.kind == Kind::kDead || event.kind == Kind::kFault) << static_cast<int>(event.kind);
  TestMemory().DecRef(memory);
}

TEST(AddressSpaceTest, DeadStub) {
  if (!HasStubs()) GTEST_SKIP() << "a platform without stub processes";
  TestGuest guest(load());
  kill(guest.stub_pid(), SIGKILL);
  int64_t deadline = base::MonotonicNs() + base::kNsPerSecond;
  while (guest.space().Map(kFar, kPageSize, TestMemory().fd(), 0, kReadOnly, false).ok()) {
    ASSERT_LT(base::MonotonicNs(), deadline);
  }
  EXPECT_EQ(guest.space().Map(kFar, kPageSize, TestMemory().fd(), 0, kReadOnly, false).error_number(), ESRCH);
  guest.space().Unmap(kDataAddress, kPageSize);
  guest.space().Protect(kDataAddress, kDataLength, kReadOnly);
  Registers r = TestGuest::Start();
  EXPECT_EQ(guest.context().Switch(r).kind, Kind::kDead);
  EXPECT_FALSE(guest.context().CloneInSpace().ok());
  EXPECT_FALSE(guest.context().Bind(guest.space()).ok());
}

}  // namespace
}  // namespace platform::testing
