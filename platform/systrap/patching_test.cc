// SPDX-License-Identifier: Apache-2.0
// Patched call sites: what the guest sees of them, and what it does not.
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <thread>

#include "base/clock.h"
#include "gtest/gtest.h"
#include "platform/systrap/call_sites.h"
#include "platform/systrap/context.h"
#include "platform/systrap/stub_memory.h"
#include "platform/systrap/systrap_platform.h"
#include "platform/testing/test_guest.h"

namespace platform::systrap {
namespace {

using Kind = Event::Kind;
using testing::kCodeAddress;
using testing::kDataAddress;
using testing::TestGuest;
using testing::TestMemory;
using testing::TestPlatform;

// What programs start with: bytes to look back at.
#define NOPS ".fill 16, 1, 0x90;"
constexpr uint64_t kSite = kCodeAddress + 16;
constexpr uint64_t kRoomLength = 32 * kPageSize;
constexpr uint64_t kRoom = kCodeAddress - 64 * kPageSize;
constexpr uint64_t kFlags = 0x8d5;  // the arithmetic ones

uint64_t StubPage() { return static_cast<SystrapPlatform&>(TestPlatform()).zygote().layout().page; }
SystrapAddressSpace& SpaceOf(TestGuest& guest) { return static_cast<SystrapAddressSpace&>(guest.space()); }

// What is at an address of the stub.
std::array<uint8_t, 7> InStub(TestGuest& guest, uint64_t address) {
  std::array<uint8_t, 7> bytes = {};
  iovec local = {bytes.data(), bytes.size()};
  iovec remote = {reinterpret_cast<void*>(address), bytes.size()};
  EXPECT_EQ(process_vm_readv(guest.stub_pid(), &local, 1, &remote, 1, 0), static_cast<ssize_t>(bytes.size()));
  return bytes;
}
bool IsPatched(TestGuest& guest, uint64_t site) { return InStub(guest, site)[0] == 0xe9; }

Registers Start() {
  Registers r = TestGuest::Start();
  r.rip = kSite;
  return r;
}

void Offer(TestGuest& guest) {
  guest.space().MarkText(kCodeAddress, kPageSize);
  guest.space().LendRoom(kRoom, kRoomLength);
}

// Makes the call at the site until it doesn't trap.
void Heat(TestGuest& guest, uint64_t site = kSite) {
  Registers r = Start();
  for (int i = 0; i < 1000 && !IsPatched(guest, site); ++i) {
    r.rip = site;
    Event event = guest.context().Switch(r);
    ASSERT_TRUE(event.kind == Kind::kSyscall);
  }
  ASSERT_TRUE(IsPatched(guest, site));
}

TEST(CallSiteTest, Recognised) {
  uint8_t page[kPageSize];
  auto is_site = [&](std::initializer_list<uint8_t> before, uint64_t end, uint64_t number) {
    memset(page, 0x90, sizeof page);
    const uint8_t code[] = {0xb8, 39, 0, 0, 0, 0x0f, 0x05};
    memcpy(page + end - sizeof code, code, sizeof code);
    std::copy(before.begin(), before.end(), page + end - sizeof code - before.size());
    const std::optional<CallSite> site = FindCallSite(page, kCodeAddress, end, number);
    return site && site->moved;
  };
  EXPECT_TRUE(is_site({}, 100, 39));
  EXPECT_TRUE(is_site({0xf3, 0x0f, 0x1e, 0xfa}, 100, 39)) << "endbr64";
  EXPECT_TRUE(is_site({0x48, 0x89, 0xe5}, 100, 39));
  EXPECT_TRUE(is_site({}, kPageSize, 39));
  EXPECT_TRUE(is_site({}, 11, 39));
  EXPECT_FALSE(is_site({}, 10, 39)) << "what is before is on another page";
  EXPECT_FALSE(is_site({}, 100, 38)) << "rax is another";
  EXPECT_FALSE(is_site({}, 100, 39 | uint64_t{1} << 32));
  EXPECT_FALSE(is_site({0x41}, 100, 39)) << "mov to r8d";
  EXPECT_FALSE(is_site({0x48, 0x8d}, 100, 39)) << "lea 39(%rax), %rdi";
  EXPECT_FALSE(is_site({0xc7, 0x45}, 100, 39)) << "movl $39, -0x48(%rbp)";
  EXPECT_FALSE(is_site({0xc7, 0x44, 0x24}, 100, 39)) << "movl $39, -0x48(%rsp)";
  EXPECT_FALSE(is_site({0x64, 0x8b}, 100, 39)) << "mov %fs:39(%rax), %edi";
  EXPECT_FALSE(is_site({0x64, 0x48, 0x8b}, 100, 39));
  EXPECT_FALSE(is_site({0x0f, 0x1f}, 100, 39)) << "nopl 39(%rax)";
}

// rsi, rdi, rdx, r8: what the call leaves in rax, rcx, r11 and the flags; r9: what was below the stack pointer.
GUEST_PROGRAM(answered_in_red_zone, NOPS
              "mov $39, %eax; syscall; mov -8(%rsp), %r9; mov -128(%rsp), %r10; mov %rax, %rsi; mov %rcx, %rdi;"
              "mov %r11, %rdx; lahf; seto %al; mov %rax, %r8; mov $1000, %eax; syscall; jmp .");

TEST(PatchingTest, AnsweredCallsLeaveRegistersAsSyscallDoes) {
  TestGuest guest(answered_in_red_zone());
  Offer(guest);
  Heat(guest);
  guest.context().SetAnswer(SYS_getpid, 4711);
  for (uint64_t flags : {uint64_t{0}, uint64_t{1}, uint64_t{0x40}, uint64_t{0x800}, uint64_t{0x8d5}, uint64_t{0x400}}) {
    Registers r = Start();
    r.eflags = 0x202 | flags;
    r.rax = 0x1234'5678'9abc;
    guest.Word(testing::kDataLength / 8 - 64) = 0;
    const uint64_t stack = r.rsp;
    const uint64_t top = (stack - kDataAddress) / 8;
    guest.Word(top - 1) = 111;
    guest.Word(top - 16) = 222;
    Event event = guest.context().Switch(r);
    ASSERT_EQ(event.kind, Kind::kSyscall);
    ASSERT_EQ(r.orig_rax, 1000u);
    EXPECT_EQ(r.rsi, 4711u);
    EXPECT_EQ(r.rdi, kSite + 7);
    EXPECT_EQ(r.rdx, 0x202 | flags);
    EXPECT_EQ((r.r8 >> 8 & 0xd5) | (r.r8 & 1) << 11, flags & kFlags);
    EXPECT_EQ(r.r9, 111u);
    EXPECT_EQ(r.r10, 222u);
    EXPECT_EQ(r.rsp, stack);
    EXPECT_EQ(r.gs_base, 0u);
  }
  EXPECT_TRUE(IsPatched(guest, kSite));
}

GUEST_PROGRAM(handed_over, NOPS "mov $110, %eax; syscall; jmp .");

TEST(PatchingTest, OtherCallsAreEventsAsByATrap) {
  TestGuest guest(handed_over());
  Offer(guest);
  auto call = [&] {
    Registers r = Start();
    uint64_t value = 0x1111;
    for (auto* reg : {&r.rbx, &r.rbp, &r.r8, &r.r9, &r.r10, &r.r12, &r.r13, &r.r14, &r.r15, &r.rdi, &r.rsi, &r.rdx})
      *reg = value += 0x1111;
    r.eflags = 0x246;
    std::vector<uint8_t> image(TestPlatform().FpuStateSize());
    EXPECT_EQ(guest.context().GetFpu(image), image.size());
    image[160 + 16 * 7] = 77;  // xmm7
    image[512] |= 2;
    EXPECT_TRUE(guest.context().SetFpu(image).ok());
    EXPECT_EQ(guest.context().Switch(r).kind, Kind::kSyscall);
    std::vector<uint8_t> after(image.size());
    guest.context().GetFpu(after);
    EXPECT_EQ(memcmp(image.data() + 160, after.data() + 160, 256), 0);
    return r;
  };
  const Registers trapped = call();
  Heat(guest);
  const Registers jumped = call();
  EXPECT_EQ(memcmp(&trapped, &jumped, sizeof trapped), 0);
  EXPECT_EQ(jumped.rip, kSite + 7);
  EXPECT_EQ(jumped.orig_rax, 110u);
}

TEST(CallSiteTest, Tails) {
  auto tail = [](std::initializer_list<uint8_t> code, uint64_t end = 100) -> size_t {
    uint8_t page[kPageSize];
    memset(page, 0x90, sizeof page);
    page[end - 2] = 0x0f;
    page[end - 1] = 0x05;
    std::copy_n(code.begin(), std::min<size_t>(code.size(), kPageSize - end), page + end);
    const std::optional<CallSite> site = FindCallSite(page, kCodeAddress, end, 0);
    if (!site) return 0;
    EXPECT_FALSE(site->moved);
    EXPECT_EQ(site->address, kCodeAddress + end - 2);
    EXPECT_TRUE(std::equal(site->tail.begin(), site->tail.begin() + site->tail_length, code.begin()));
    return site->tail_length;
  };
  EXPECT_EQ(tail({0x48, 0x3d, 0x00, 0xf0, 0xff, 0xff, 0x77}), 6u) << "cmp $-4096, %rax: the C library's";
  EXPECT_EQ(tail({0x48, 0x83, 0xeb, 0x01}), 4u) << "sub $1, %rbx";
  EXPECT_EQ(tail({0x48, 0x89, 0xc3}), 3u) << "mov %rax, %rbx";
  EXPECT_EQ(tail({0x49, 0x81, 0xfc, 1, 2, 3, 4}), 7u) << "cmp $0x4030201, %r12";
  EXPECT_EQ(tail({0x83, 0xf8, 0xff}), 3u) << "cmp $-1, %eax";
  EXPECT_EQ(tail({0x3d, 1, 0, 0, 0}), 5u) << "cmp $1, %eax";
  EXPECT_EQ(tail({0xbf, 1, 0, 0, 0}), 5u) << "mov $1, %edi";
  EXPECT_EQ(tail({0x48, 0xff, 0xc3}), 3u) << "inc %rbx";
  EXPECT_EQ(tail({0x89, 0xc3, 0x90}), 0u) << "mov %eax, %ebx: too short";
  EXPECT_EQ(tail({0xc3, 0x90, 0x90}), 0u) << "ret";
  EXPECT_EQ(tail({0x48, 0x89, 0x03}), 3u) << "mov %rax, (%rbx)";
  EXPECT_EQ(tail({0x48, 0x89, 0x44, 0x24, 0x08}), 5u) << "mov %rax, 8(%rsp)";
  EXPECT_EQ(tail({0x48, 0x8b, 0x83, 0x00, 0x01, 0x00, 0x00}), 7u) << "mov 256(%rbx), %rax";
  EXPECT_EQ(tail({0x48, 0x8b, 0x04, 0x25, 0x00, 0x01, 0x00, 0x00}), 8u) << "mov 256, %rax";
  EXPECT_EQ(tail({0x48, 0x8d, 0x44, 0x8b, 0x10}), 5u) << "lea 16(%rbx, %rcx, 4), %rax";
  EXPECT_EQ(tail({0x48, 0x83, 0x7c, 0x24, 0x08, 0x01}), 6u) << "cmpq $1, 8(%rsp)";
  EXPECT_EQ(tail({0x48, 0x81, 0x44, 0x24, 0x08, 0x01, 0x02, 0x03, 0x04}), 0u) << "addq $0x4030201, 8(%rsp): too long";
  EXPECT_EQ(tail({0x48, 0x8b, 0x05, 0, 0, 0, 0}), 0u) << "mov 0(%rip), %rax";
  EXPECT_EQ(tail({0x48, 0x8d, 0x05, 0, 0, 0, 0}), 0u) << "lea 0(%rip), %rax";
  EXPECT_EQ(tail({0x0f, 0x84, 0, 0, 0, 0}), 0u) << "je";
  EXPECT_EQ(tail({0xff, 0xd0, 0x90}), 0u) << "call *%rax";
  EXPECT_EQ(tail({0x48, 0xff, 0xe0}), 0u) << "jmp *%rax";
  EXPECT_EQ(tail({0x48, 0xb8, 1, 2, 3, 4, 5, 6, 7, 8}), 0u) << "movabs";
  EXPECT_EQ(tail({0x48, 0x3d, 0x00, 0xf0, 0xff, 0xff}, kPageSize - 6), 6u);
  EXPECT_EQ(tail({0x48, 0x3d, 0x00, 0xf0, 0xff, 0xff}, kPageSize - 5), 0u) << "on two pages";
}

// rsi, rdi, rdx: rax, rcx, r11 behind the call; r8: what the tail makes of the flags; r9: the red zone.
GUEST_PROGRAM(relocated, NOPS
              "syscall; cmp $0xfffffffffffff000, %rax; mov -8(%rsp), %r9; mov %rax, %rsi; mov %rcx, %rdi; mov %r11, "
              "%rdx; seta %r8b;"
              "mov $1000, %eax; syscall; jmp .");
constexpr uint64_t kRelocatedEnd = kSite + 2;

void HeatRelocated(TestGuest& guest) {
  Registers r = Start();
  for (int i = 0; i < 1000 && !IsPatched(guest, kSite); ++i) {
    r.rip = kSite;
    r.rax = SYS_getppid;
    ASSERT_EQ(guest.context().Switch(r).kind, Kind::kSyscall);
  }
  ASSERT_TRUE(IsPatched(guest, kSite));
}

TEST(RelocatedTest, CallsAsByATrap) {
  TestGuest guest(relocated());
  Offer(guest);
  guest.context().SetAnswer(SYS_getpid, 4711);
  auto calls = [&] {
    std::vector<Registers> seen;
    // Several numbers at one site, large ones too.
    for (uint64_t number : {uint64_t{SYS_read}, uint64_t{SYS_getppid}, uint64_t{511}, uint64_t{512},
                            uint64_t{1} << 32 | SYS_getpid, ~uint64_t{0}, uint64_t{SYS_getpid}}) {
      Registers r = Start();
      r.rax = number;
      r.eflags = 0x202 | kFlags;
      guest.Word((r.rsp - kDataAddress) / 8 - 1) = 111;
      Event event = guest.context().Switch(r);
      if (number != SYS_getpid) {
        EXPECT_EQ(event.kind, Kind::kSyscall);
        EXPECT_EQ(r.orig_rax, number);
        EXPECT_EQ(r.rip, kRelocatedEnd);
        EXPECT_EQ(r.rcx, kRelocatedEnd);
        EXPECT_EQ(r.r11, 0x202 | kFlags);
        seen.push_back(r);
        r.rax = static_cast<uint64_t>(-int64_t{EINVAL});
        event = guest.context().Switch(r);
      }
      EXPECT_EQ(event.kind, Kind::kSyscall);
      EXPECT_EQ(r.orig_rax, 1000u);
      EXPECT_EQ(r.rsi, number == SYS_getpid ? 4711 : static_cast<uint64_t>(-int64_t{EINVAL}));
      EXPECT_EQ(r.rdx, 0x202 | kFlags);
      EXPECT_EQ(r.r8 & 1, number != SYS_getpid ? 1u : 0u);
      EXPECT_EQ(r.r9, 111u);
      r.rdi = 0;  // rcx, which tells the difference
      seen.push_back(r);
    }
    return seen;
  };
  const std::vector<Registers> trapped = calls();
  HeatRelocated(guest);
  const std::vector<Registers> jumped = calls();
  ASSERT_EQ(trapped.size(), jumped.size());
  for (size_t i = 0; i < trapped.size(); ++i) {
    Registers expected = trapped[i], got = jumped[i];
    if (got.orig_rax == 1000) expected.rcx = got.rcx = 0;
    EXPECT_EQ(memcmp(&expected, &got, sizeof got), 0) << i;
  }
  EXPECT_TRUE(IsPatched(guest, kSite));
}

// Whoever was in the call, or comes from a signal's handler, returns to where the jump is now.
TEST(RelocatedTest, ReturnsIntoTheJump) {
  TestGuest guest(relocated());
  Offer(guest);
  HeatRelocated(guest);
  auto returned = [&](Context& context) {
    Registers r = Start();
    r.rip = kRelocatedEnd;
    r.rax = static_cast<uint64_t>(-int64_t{EINTR});
    ASSERT_EQ(context.Switch(r).kind, Kind::kSyscall);
    EXPECT_EQ(r.orig_rax, 1000u);
    EXPECT_EQ(r.r8 & 1, 1u);
  };
  returned(guest.context());
  // A new thread.
  auto cloned = guest.context().CloneInSpace();
  ASSERT_TRUE(cloned.ok());
  std::thread([&] {
    returned(**cloned);
    (*cloned)->Release();
  }).join();
  // One that went in by a patch that is undone meanwhile, and the other way round.
  Registers r = Start();
  r.rax = SYS_getppid;
  ASSERT_EQ(guest.context().Switch(r).kind, Kind::kSyscall);
  guest.space().Protect(kCodeAddress, kPageSize, testing::kReadExec);
  ASSERT_FALSE(IsPatched(guest, kSite));
  r.rax = 0;
  ASSERT_EQ(guest.context().Switch(r).kind, Kind::kSyscall);
  EXPECT_EQ(r.orig_rax, 1000u);
  EXPECT_EQ(r.rdi, kRelocatedEnd) << "the text's own";
  EXPECT_TRUE(IsPatched(guest, kSite) == false);
  // A breakpoint of the guest's own there is the guest's.
  guest.space().MarkText(kCodeAddress, kPageSize);
  TestMemory().Pointer(guest.code_range().start)[16 + 2] = 0xcc;
  r = Start();
  r.rip = kRelocatedEnd;
  Event event = guest.context().Switch(r);
  ASSERT_EQ(event.kind, Kind::kSignal);
  EXPECT_EQ(event.info.si_signo, SIGTRAP);
  EXPECT_EQ(r.rip, kRelocatedEnd + 1);
}

GUEST_PROGRAM(loops_behind,
              NOPS "syscall; 1: cmp $0xfffffffffffff000, %rax; dec %rbx; jg 1b; mov $1000, %eax; syscall; jmp .");

// Code that comes there without the call, over and over, gets its text back.
TEST(RelocatedTest, NotWhereOthersJumpTo) {
  TestGuest guest(loops_behind());
  Offer(guest);
  HeatRelocated(guest);
  auto run = [&](uint64_t loops) {
    Registers r = Start();
    r.rax = SYS_getppid;
    r.rbx = loops;
    ASSERT_EQ(guest.context().Switch(r).kind, Kind::kSyscall);
    ASSERT_EQ(r.orig_rax, uint64_t{SYS_getppid});
    ASSERT_EQ(guest.context().Switch(r).kind, Kind::kSyscall);
    ASSERT_EQ(r.orig_rax, 1000u);
    EXPECT_EQ(r.rbx, 0u);
  };
  run(100);
  EXPECT_TRUE(IsPatched(guest, kSite));
  run(1500);
  EXPECT_FALSE(IsPatched(guest, kSite));
  for (int i = 0; i < 300; ++i) run(1);
  EXPECT_FALSE(IsPatched(guest, kSite));
}

GUEST_PROGRAM(tail_loads, NOPS "syscall; mov (%rbx), %rsi; mov $1000, %eax; syscall; jmp .");

// A tail that faults is the guest's instruction at its own place, which goes on when the page is there.
TEST(RelocatedTest, TailsThatFault) {
  TestGuest guest(tail_loads());
  Offer(guest);
  HeatRelocated(guest);
  constexpr uint64_t kElsewhere = kDataAddress + 64 * kPageSize;
  auto call = [&](uint64_t from) {
    Registers r = Start();
    r.rax = SYS_getppid;
    r.rbx = from;
    EXPECT_EQ(guest.context().Switch(r).kind, Kind::kSyscall);
    return r;
  };
  Registers r = call(kElsewhere);
  Event event = guest.context().Switch(r);
  ASSERT_EQ(event.kind, Kind::kFault);
  EXPECT_EQ(event.address, kElsewhere);
  EXPECT_EQ(event.access, Access::kRead);
  EXPECT_EQ(r.rip, kRelocatedEnd);
  EXPECT_EQ(r.rcx, kRelocatedEnd);
  ASSERT_TRUE(guest.space()
                  .Map(kElsewhere, kPageSize, TestMemory().fd(), guest.data_range().start, testing::kReadWrite, false)
                  .ok());
  guest.Word(0) = 4711;
  ASSERT_EQ(guest.context().Switch(r).kind, Kind::kSyscall);
  EXPECT_EQ(r.orig_rax, 1000u);
  EXPECT_EQ(r.rsi, 4711u);
  r = call(kElsewhere);
  ASSERT_EQ(guest.context().Switch(r).kind, Kind::kSyscall);
  EXPECT_EQ(r.orig_rax, 1000u);
  r = call(uint64_t{1} << 63);
  event = guest.context().Switch(r);
  ASSERT_EQ(event.kind, Kind::kSignal);
  EXPECT_EQ(event.info.si_signo, SIGSEGV);
  EXPECT_EQ(r.rip, kRelocatedEnd);
  EXPECT_TRUE(IsPatched(guest, kSite));
  guest.space().Unmap(kElsewhere, kPageSize);
}

TEST(RelocatedTest, SingleSteps) {
  TestGuest guest(relocated());
  Offer(guest);
  HeatRelocated(guest);
  Registers r = Start();
  r.rax = SYS_getppid;
  r.eflags |= TRAP_FLAG;
  ASSERT_EQ(guest.context().Switch(r).kind, Kind::kSyscall);
  EXPECT_EQ(r.rip, kRelocatedEnd);
  r.rax = 0;
  Event event = guest.context().Switch(r);
  ASSERT_EQ(event.kind, Kind::kSignal);
  EXPECT_EQ(event.info.si_signo, SIGTRAP);
  EXPECT_EQ(r.rip, kRelocatedEnd + 6);
}

TEST(RelocatedTest, GuestsThatUseGs) {
  TestGuest guest(relocated());
  Offer(guest);
  HeatRelocated(guest);
  for (uint64_t base : {uint64_t{kDataAddress}, uint64_t{0x5000}, uint64_t{kRoom}, uint64_t{kSite} + 1}) {
    for (int i = 0; i < 3; ++i) {
      Registers r = Start();
      r.gs_base = base;
      r.rax = SYS_getppid;
      ASSERT_EQ(guest.context().Switch(r).kind, Kind::kSyscall);
      EXPECT_EQ(r.orig_rax, uint64_t{SYS_getppid});
      EXPECT_EQ(r.rip, kRelocatedEnd);
      EXPECT_EQ(r.rcx, kRelocatedEnd);
      EXPECT_EQ(r.gs_base, base);
      r.rax = static_cast<uint64_t>(-int64_t{EINVAL});
      ASSERT_EQ(guest.context().Switch(r).kind, Kind::kSyscall);
      EXPECT_EQ(r.orig_rax, 1000u);
      EXPECT_EQ(r.r8 & 1, 1u);
    }
  }
  EXPECT_TRUE(IsPatched(guest, kSite));
}

// The sentry's view is the original; every change of the mapping ends the patch.
TEST(PatchingTest, EndsWithTheMapping) {
  const std::array<uint8_t, 7> original = {0xb8, 110, 0, 0, 0, 0x0f, 0x05};
  auto is_original = [&](TestGuest& guest) { return InStub(guest, kSite) == original; };
  auto still_calls = [&](TestGuest& guest) {
    Registers r = Start();
    EXPECT_EQ(guest.context().Switch(r).kind, Kind::kSyscall);
    EXPECT_EQ(r.orig_rax, 110u);
  };
  {
    TestGuest guest(handed_over());
    Offer(guest);
    Heat(guest);
    EXPECT_EQ(memcmp(TestMemory().Pointer(guest.code_range().start + 16), original.data(), original.size()), 0);
    guest.space().Protect(kCodeAddress, kPageSize, {.read = true, .write = true, .exec = true});
    EXPECT_TRUE(is_original(guest));
    still_calls(guest);
  }
  {
    TestGuest guest(handed_over());
    Offer(guest);
    Heat(guest);
    guest.space().TakeBackRoom(kRoom, kRoomLength);
    EXPECT_TRUE(is_original(guest));
    still_calls(guest);
  }
  {
    TestGuest guest(handed_over());
    Offer(guest);
    Heat(guest);
    ASSERT_TRUE(guest.space()
                    .Map(kRoom, kPageSize, TestMemory().fd(), guest.data_range().start, testing::kReadWrite, false)
                    .ok());
    EXPECT_TRUE(is_original(guest));
    still_calls(guest);
    guest.space().Unmap(kRoom, kPageSize);
  }
  {
    TestGuest guest(handed_over());
    Offer(guest);
    Heat(guest);
    ASSERT_TRUE(
        guest.space()
            .Map(kCodeAddress, kPageSize, TestMemory().fd(), guest.code_range().start, testing::kReadExec, false)
            .ok());
    EXPECT_TRUE(is_original(guest));
    still_calls(guest);
  }
  {
    TestGuest guest(handed_over());
    Offer(guest);
    Heat(guest);
    const uint64_t values[8] = {kDataAddress, 0, 0, 0, 0, 0, kDebugStatusInitial, 1 | 1 << 16};
    if (guest.context().SetDebugRegisters(values).ok()) {
      EXPECT_TRUE(is_original(guest));
    }
    still_calls(guest);
  }
}

TEST(PatchingTest, OnlyTextInReachOfARoom) {
  {
    TestGuest guest(handed_over());
    guest.space().LendRoom(kRoom, kRoomLength);
    Registers r = Start();
    for (int i = 0; i < 300; ++i) {
      r.rip = kSite;
      ASSERT_EQ(guest.context().Switch(r).kind, Kind::kSyscall);
    }
    EXPECT_FALSE(IsPatched(guest, kSite)) << "not marked as text";
  }
  {
    TestGuest guest(handed_over());
    guest.space().MarkText(kCodeAddress, kPageSize);
    guest.space().LendRoom(uint64_t{1} << 40, kRoomLength);
    Registers r = Start();
    for (int i = 0; i < 300; ++i) {
      r.rip = kSite;
      ASSERT_EQ(guest.context().Switch(r).kind, Kind::kSyscall);
    }
    EXPECT_FALSE(IsPatched(guest, kSite)) << "too far";
  }
}

// A debugger that steps sees each instruction of the guest's, and none of ours.
TEST(PatchingTest, SingleSteps) {
  TestGuest guest(handed_over());
  Offer(guest);
  Heat(guest);
  Registers r = Start();
  r.eflags |= TRAP_FLAG;
  Event event = guest.context().Switch(r);
  ASSERT_EQ(event.kind, Kind::kSignal);
  EXPECT_EQ(event.info.si_signo, SIGTRAP);
  EXPECT_EQ(event.info.si_code, TRAP_TRACE);
  EXPECT_EQ(r.rip, kSite + 5);
  EXPECT_EQ(r.rax, 110u);
  event = guest.context().Switch(r);
  ASSERT_EQ(event.kind, Kind::kSyscall);
  EXPECT_EQ(r.rip, kSite + 7);
  EXPECT_EQ(r.orig_rax, 110u);
}

// The instruction itself is where it was: a restarted call, or a jump there.
TEST(PatchingTest, TheSecondInstructionWorksAlone) {
  TestGuest guest(handed_over());
  Offer(guest);
  Heat(guest);
  Registers r = Start();
  r.rip = kSite + 5;
  r.rax = SYS_getppid;
  ASSERT_EQ(guest.context().Switch(r).kind, Kind::kSyscall);
  EXPECT_EQ(r.orig_rax, uint64_t{SYS_getppid});
  EXPECT_EQ(r.rip, kSite + 7);
}

GUEST_PROGRAM(own_gs, NOPS "mov $110, %eax; syscall; rdgsbase %rsi; mov $1000, %eax; syscall; jmp .");

// A guest with something of its own in %gs, readable or not, makes its calls by traps.
TEST(PatchingTest, GuestsThatUseGs) {
  TestGuest guest(own_gs());
  Offer(guest);
  Heat(guest);
  for (uint64_t base : {uint64_t{kDataAddress}, uint64_t{0x5000}, uint64_t{kRoom}, uint64_t{kSite} + 1}) {
    Registers r = Start();
    r.gs_base = base;
    r.rbx = 5;
    for (int i = 0; i < 3; ++i) {
      r.rip = kSite;
      ASSERT_EQ(guest.context().Switch(r).kind, Kind::kSyscall);
      EXPECT_EQ(r.orig_rax, 110u);
      EXPECT_EQ(r.rip, kSite + 7);
      EXPECT_EQ(r.gs_base, base);
      ASSERT_EQ(guest.context().Switch(r).kind, Kind::kSyscall);
      EXPECT_EQ(r.orig_rax, 1000u);
      EXPECT_EQ(r.rsi, base);
      EXPECT_EQ(r.rbx, 5u);
    }
  }
  EXPECT_TRUE(IsPatched(guest, kSite));
}

// Counts calls in rdi; every register that a call must keep is checked by the guest, which stops if one differs.
GUEST_PROGRAM(
    storm, NOPS
    "mov $39, %eax; syscall; jmp 2f; .balign 16;"
    "mov $186, %eax; syscall; jmp 3f; .balign 16;"
    "1: mov $0x1234567, %rdx; mov %rdx, %r8; mov %rdx, %r12; mov %rdx, %r14; movq %rdx, %xmm3; movq %rdx, %xmm15;"
    "mov %rdx, -8(%rsp); mov %rdx, -64(%rsp);"
    "4: mov $39, %eax; syscall; 2: cmp $4711, %rax; jne 9f;"
    "inc %rdi; cmp %rdx, %r8; jne 9f; cmp %rdx, %r12; jne 9f; cmp %rdx, %r14; jne 9f;"
    "movq %xmm3, %rax; cmp %rdx, %rax; jne 9f; movq %xmm15, %rax; cmp %rdx, %rax; jne 9f;"
    "cmp %rdx, -8(%rsp); jne 9f; cmp %rdx, -64(%rsp); jne 9f;"
    "stc; mov $110, %eax; syscall; jnc 9f;"
    "3: cmp $4712, %rax; jne 9f; mov %rdi, (%rsi); jmp 4b; 9: ud2");

// The same by calls whose numbers come from elsewhere, with something behind them that a jump can take the place of.
GUEST_PROGRAM(
    relocated_storm, NOPS
    ".fill 32, 1, 0x90;"
    "1: mov $0x1234567, %rdx; mov %rdx, %r8; mov %rdx, %r12; mov %rdx, %r14; movq %rdx, %xmm3; movq %rdx, %xmm15;"
    "mov %rdx, -8(%rsp); mov %rdx, -64(%rsp); mov $39, %r13d; mov $110, %ebp;"
    "4: mov %r13, %rax; syscall; cmp $4711, %rax; jne 9f;"
    "inc %rdi; cmp %rdx, %r8; jne 9f; cmp %rdx, %r12; jne 9f; cmp %rdx, %r14; jne 9f;"
    "movq %xmm3, %rax; cmp %rdx, %rax; jne 9f; movq %xmm15, %rax; cmp %rdx, %rax; jne 9f;"
    "cmp %rdx, -8(%rsp); jne 9f; cmp %rdx, -64(%rsp); jne 9f;"
    "stc; mov %rbp, %rax; syscall; mov %rax, %rbx; jnc 9f;"
    "cmp $4712, %rbx; jne 9f; mov %rdi, (%rsi); jmp 4b; 9: ud2");

void Storm(std::span<const uint8_t> program, bool answers, bool other_patches) {
  TestGuest guest(program);
  Offer(guest);
  if (answers) guest.context().SetAnswer(SYS_getpid, 4711);
  std::atomic<int> sent{0}, received{0};
  std::atomic<bool> stop{false};
  std::thread interrupter([&] {
    while (!stop) {
      if (received < sent) {
        std::this_thread::yield();
        continue;
      }
      ++sent;
      guest.context().Interrupt();
    }
  });
  // Puts the text back, and lets it be patched anew.
  std::thread changer([&] {
    while (other_patches && !stop) {
      guest.space().Protect(kCodeAddress, kPageSize, testing::kReadExec);
      guest.space().MarkText(kCodeAddress, kPageSize);
      timespec pause = {.tv_sec = 0, .tv_nsec = 300'000};
      nanosleep(&pause, nullptr);
    }
  });
  Registers r = Start();
  r.rip = kSite + 32;
  r.rsi = kDataAddress;
  int calls = 0;
  std::vector<uint8_t> image(TestPlatform().FpuStateSize());
  while (received < 3000) {
    Event event = guest.context().Switch(r);
    if (event.kind == Kind::kInterrupted) {
      // Always at an instruction of its own.
      EXPECT_GE(r.rip, kCodeAddress);
      EXPECT_LT(r.rip, kCodeAddress + program.size());
      ++received;
      continue;
    }
    if (event.kind != Kind::kSyscall) {
      ADD_FAILURE() << static_cast<int>(event.kind) << " signal " << event.info.si_signo << std::hex << " at " << r.rip
                    << " rax " << r.rax << " rcx " << r.rcx;
      break;
    }
    ++calls;
    EXPECT_TRUE(r.orig_rax == SYS_getpid || r.orig_rax == SYS_getppid) << r.orig_rax;
    r.rax = r.orig_rax == SYS_getpid ? 4711 : 4712;
    // The vector registers are looked at, also given anew, in some calls and left where they are in others.
    if (calls % 3 == 0) {
      EXPECT_EQ(guest.context().GetFpu(image), image.size());
      uint64_t xmm15;
      memcpy(&xmm15, image.data() + 160 + 16 * 15, sizeof xmm15);
      EXPECT_EQ(xmm15, 0x1234567u);
      if (calls % 2 == 0) {
        EXPECT_TRUE(guest.context().SetFpu(image).ok());
      }
    }
  }
  stop = true;
  interrupter.join();
  changer.join();
  printf("%llu rounds, %d calls by the sentry; patched: %d\n", static_cast<unsigned long long>(r.rdi), calls,
         SpaceOf(guest).patched());
  EXPECT_TRUE(SpaceOf(guest).patched());
}

TEST(PatchingTest, InterruptsAnywhere) { Storm(storm(), false, false); }
TEST(PatchingTest, InterruptsAnywhereInAnswers) { Storm(storm(), true, false); }
TEST(PatchingTest, InterruptsWhileTextChanges) { Storm(storm(), true, true); }
TEST(RelocatedTest, InterruptsAnywhere) { Storm(relocated_storm(), false, false); }
TEST(RelocatedTest, InterruptsAnywhereInAnswers) { Storm(relocated_storm(), true, false); }
TEST(RelocatedTest, InterruptsWhileTextChanges) { Storm(relocated_storm(), true, true); }

// Threads in the same text, while it is patched and put back.
void Threads(std::span<const uint8_t> program) {
  TestGuest guest(program);
  Offer(guest);
  auto cloned = guest.context().CloneInSpace();
  ASSERT_TRUE(cloned.ok());
  std::atomic<bool> stop{false};
  auto run = [&](Context& context, uint64_t index) {
    Registers r = Start();
    r.rip = kSite + 32;
    r.rsi = kDataAddress + 8 * index;
    r.rsp -= 4096 * index;
    context.SetAnswer(SYS_getpid, 4711);
    while (!stop) {
      Event event = context.Switch(r);
      if (event.kind == Kind::kInterrupted) continue;
      if (event.kind == Kind::kFault && event.access == Access::kExec) continue;  // between two mappings
      if (event.kind != Kind::kSyscall) {
        ADD_FAILURE() << static_cast<int>(event.kind) << " signal " << event.info.si_signo << std::hex << " at "
                      << r.rip << " address " << event.address;
        break;
      }
      r.rax = r.orig_rax == SYS_getpid ? 4711 : 4712;
    }
    return r.rdi;
  };
  std::thread other([&, context = (*cloned).get()] {
    EXPECT_GT(run(*context, 1), 1000u);
    context->Release();
  });
  std::thread changer([&] {
    for (int i = 0; i < 300; ++i) {
      guest.space().Protect(kCodeAddress, kPageSize, testing::kReadExec);
      guest.space().MarkText(kCodeAddress, kPageSize);
      timespec pause = {.tv_sec = 0, .tv_nsec = 2'000'000};
      nanosleep(&pause, nullptr);
    }
    stop = true;
    guest.context().Interrupt();
    (*cloned)->Interrupt();
  });
  EXPECT_GT(run(guest.context(), 0), 1000u);
  changer.join();
  other.join();
  EXPECT_TRUE(SpaceOf(guest).patched());
}

TEST(PatchingTest, ThreadsWhileTextChanges) { Threads(storm()); }
TEST(RelocatedTest, ThreadsWhileTextChanges) { Threads(relocated_storm()); }

// Every byte of the code of patched calls, with registers that fit and that don't.
TEST(PatchingTest, HostileJumps) {
  auto guest = std::make_unique<TestGuest>(handed_over());
  Offer(*guest);
  Heat(*guest);
  for (uint64_t offset = StubOffset(kSystrapGate); offset < StubOffset(kSystrapHandler); ++offset) {
    for (int variant = 0; variant < 3; ++variant) {
      Registers r = Start();
      r.rip = StubPage() + offset;
      const uint64_t area = static_cast<SystrapContext&>(guest->context()).thread()->address();
      const uint64_t targets[] = {kSite + 7, kDataAddress, 8};
      r.rcx = r.r11 = targets[variant];
      r.rax = variant == 0 ? SYS_getppid : kDataAddress;
      r.rbx = area;
      r.r12 = variant == 1 ? kDataAddress + 1024 : area + 0x5000;
      if (variant == 0) r.rsp = area + GATE_STACK - 8;
      std::atomic<bool> done{false};
      std::thread interrupter([&] {
        timespec pause = {.tv_sec = 0, .tv_nsec = 2'000'000};
        while (!done) {
          nanosleep(&pause, nullptr);
          guest->context().Interrupt();
        }
      });
      int64_t start = base::MonotonicNs();
      Event event = guest->context().Switch(r);
      EXPECT_LT(base::MonotonicNs() - start, 10 * base::kNsPerSecond);
      done = true;
      interrupter.join();
      if (event.kind != Kind::kDead) {
        r = Start();
        for (int i = 0; i < 100; ++i) {
          event = guest->context().Switch(r);
          if (event.kind != Kind::kInterrupted) break;
        }
      }
      if (event.kind == Kind::kDead) {
        guest = std::make_unique<TestGuest>(handed_over());
        Offer(*guest);
        Heat(*guest);
      }
    }
  }
}

TEST(PatchingTest, NotIfItMayNot) {
  TestPlatform().AllowPatching(false);
  {
    TestGuest guest(handed_over());
    Offer(guest);
    Registers r = Start();
    for (int i = 0; i < 300; ++i) {
      r.rip = kSite;
      ASSERT_EQ(guest.context().Switch(r).kind, Kind::kSyscall);
    }
    EXPECT_FALSE(IsPatched(guest, kSite));
  }
  TestPlatform().AllowPatching(true);
}

}  // namespace
}  // namespace platform::systrap
