// SPDX-License-Identifier: Apache-2.0
// Guests that turn against their stub: they die or run on, in bounded time, and nobody else notices.
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <fstream>
#include <string>
#include <thread>

#include "base/clock.h"
#include "gtest/gtest.h"
#include "platform/systrap/address_space.h"
#include "platform/systrap/context.h"
#include "platform/systrap/stub_memory.h"
#include "platform/systrap/systrap_platform.h"
#include "platform/testing/test_guest.h"

namespace platform::systrap {
namespace {

using Kind = Event::Kind;
using testing::kCodeAddress;
using testing::kDataAddress;
using testing::kDataLength;
using testing::TestGuest;
using testing::TestPlatform;

uint64_t StubPage() { return static_cast<SystrapPlatform&>(TestPlatform()).zygote().layout().page; }
uint64_t AreaOf(Context& context) { return static_cast<SystrapContext&>(context).thread()->address(); }

GUEST_PROGRAM(call, "mov $39, %eax; syscall; jmp .");
GUEST_PROGRAM(count, "1: lock incq (%rdi); mov $39, %eax; syscall; jmp 1b");

// A guest beside the hostile one, and its thread that keeps running.
class Bystander {
 public:
  Bystander() : guest_(call()) {}
  void ExpectWell() {
    Registers r = TestGuest::Start();
    ASSERT_EQ(guest_.context().Switch(r).kind, Kind::kSyscall);
    EXPECT_EQ(r.orig_rax, uint64_t{SYS_getpid});
  }

 private:
  TestGuest guest_;
};

// Switch, but with an interrupt every few milliseconds: what it returns then.
Event SwitchBriefly(Context& context, Registers& registers) {
  std::atomic<bool> done{false};
  std::thread interrupter([&] {
    timespec pause = {.tv_sec = 0, .tv_nsec = 3'000'000};
    while (!done) {
      nanosleep(&pause, nullptr);
      context.Interrupt();
    }
  });
  int64_t start = base::MonotonicNs();
  Event event = context.Switch(registers);
  EXPECT_LT(base::MonotonicNs() - start, 10 * base::kNsPerSecond);
  done = true;
  interrupter.join();
  return event;
}

GUEST_PROGRAM(fill, "rep stosb; mov $39, %eax; syscall; jmp .");

TEST(HostileTest, ScribblesOverItsMailbox) {
  Bystander bystander;
  for (int value : {0x00, 0x01, 0x02, 0x80, 0x81, 0x82, 0xff}) {
    for (uint64_t length : {uint64_t{1}, uint64_t{64}, kAreaSize}) {
      TestGuest guest(fill());
      Registers r = TestGuest::Start();
      r.rdi = AreaOf(guest.context());
      r.rcx = length;
      r.rax = static_cast<uint64_t>(value);
      Event event = SwitchBriefly(guest.context(), r);
      for (int i = 0; i < 3 && event.kind != Kind::kDead; ++i) event = SwitchBriefly(guest.context(), r);
      bystander.ExpectWell();
    }
  }
}

TEST(HostileTest, WritesToTheControlPageAndTheCode) {
  TestGuest guest(fill());
  for (uint64_t at : {kControlAddress, StubPage(), StubPage() + STUB_DATA}) {
    Registers r = TestGuest::Start();
    r.rdi = at;
    r.rcx = 8;
    Event event = guest.context().Switch(r);
    ASSERT_EQ(event.kind, Kind::kFault);
    EXPECT_EQ(event.address, at);
    EXPECT_EQ(event.access, Access::kWrite);
  }
}

// Every byte of the stub's code, with registers that aim at calls and at the guest's memory.
TEST(HostileTest, JumpsIntoTheStub) {
  Bystander bystander;
  const uint64_t length = static_cast<uint64_t>(kSystrapEnd - kSystrapBegin);
  auto guest = std::make_unique<TestGuest>(call());
  for (uint64_t offset = 0; offset < length; ++offset) {
    const uint64_t area = AreaOf(guest->context());
    Registers r = TestGuest::Start();
    r.rip = StubPage() + offset;
    r.rax = SYS_munmap;
    r.rdi = kDataAddress;
    r.rsi = kDataLength;
    r.r10 = 0;
    // In turns: its own mailbox, memory that looks like one, nothing.
    const uint64_t bases[] = {area, kDataAddress, 0};
    r.rbx = bases[offset % 3];
    r.rbp = kControlAddress;
    r.r12 = offset % 2 == 0 ? StubPage() : kDataAddress + 512;
    if (offset % 5 == 0) r.rsp = area + kAreaSize - 1024;
    guest->Word(0) = STATE_EVENT | STATE_SLEEP;
    Event event = SwitchBriefly(guest->context(), r);
    guest->Word(0) = 1;
    if (event.kind == Kind::kDead) guest = std::make_unique<TestGuest>(call());
    // Its memory is as it was.
    r = TestGuest::Start();
    event = SwitchBriefly(guest->context(), r);
    if (event.kind == Kind::kDead) guest = std::make_unique<TestGuest>(call());
  }
  bystander.ExpectWell();
}

// The service thread's calls are of no use to a guest.
TEST(HostileTest, MakesTheServiceThreadsCalls) {
  for (int number : {SYS_munmap, SYS_mmap, SYS_mprotect, SYS_clone, SYS_NOTIFY, SYS_exit_group, SYS_seccomp}) {
    TestGuest guest(call());
    guest.Word(0) = 4711;
    std::span<const uint8_t> code = {kSystrapBegin, kSystrapEnd};
    for (size_t at = 0; at + 1 < code.size(); ++at) {
      if (code[at] != 0x0f || code[at + 1] != 0x05) continue;
      TestGuest victim(call());
      victim.Word(0) = 1;
      Registers r = TestGuest::Start();
      r.rip = StubPage() + at;
      r.rax = static_cast<uint64_t>(number);
      r.rdi = kDataAddress;
      r.rsi = kDataLength;
      if (number == SYS_NOTIFY && at + 2 == StubOffset(kSystrapGuestPark)) {
        // Nobody has asked it to: it stays there until it is interrupted.
        EXPECT_EQ(SwitchBriefly(victim.context(), r).kind, Kind::kInterrupted);
        continue;
      }
      // On a loaded machine the interrupt may be first.
      Registers start = r;
      Event event = {.kind = Kind::kInterrupted};
      for (int i = 0; i < 100 && event.kind == Kind::kInterrupted; ++i) {
        r = start;
        event = SwitchBriefly(victim.context(), r);
      }
      EXPECT_EQ(event.kind, Kind::kDead) << number << " at " << at;
    }
    Registers r = TestGuest::Start();
    EXPECT_EQ(guest.context().Switch(r).kind, Kind::kSyscall);
  }
}

GUEST_PROGRAM(move_stack, "mov %rdi, %rsp; ud2");

TEST(HostileTest, PutsItsStackIntoTheSignalStack) {
  Bystander bystander;
  for (uint64_t offset = 0; offset <= kAreaSize; offset += 512) {
    TestGuest guest(move_stack());
    Registers r = TestGuest::Start();
    r.rdi = AreaOf(guest.context()) + offset;
    Event event = SwitchBriefly(guest.context(), r);
    // On a loaded machine the interrupt may be first.
    for (int i = 0; i < 100 && event.kind == Kind::kInterrupted; ++i) event = SwitchBriefly(guest.context(), r);
    EXPECT_TRUE(event.kind == Kind::kDead || event.kind == Kind::kSignal) << offset;
    bystander.ExpectWell();
  }
}

// A sibling writes into the frame and the mailbox of a thread in every state.
TEST(HostileTest, ScribblesOverASibling) {
  Bystander bystander;
  for (int round = 0; round < 5; ++round) {
    TestGuest guest(count());
    auto cloned = guest.context().CloneInSpace();
    ASSERT_TRUE(cloned.ok());
    uint64_t victim = AreaOf(guest.context());
    // Its own code, in the data's place: fills the victim's area, again and again.
    const uint8_t scribbler[] = {
        0x48, 0x89, 0xf7,                    // 1: mov %rsi, %rdi
        0x48, 0x89, 0xd1,                    // mov %rdx, %rcx
        0xf3, 0x48, 0xab,                    // rep stosq
        0x48, 0x05, 0x11, 0x01, 0x00, 0x00,  // add $0x111, %rax
        0xeb, 0xef,                          // jmp 1b
    };
    memcpy(guest.Data(2 * kPageSize), scribbler, sizeof scribbler);
    guest.space().Protect(kDataAddress + 2 * kPageSize, kPageSize, testing::kReadExec);
    std::thread other([&, context = (*cloned).get()] {
      Registers r = TestGuest::Start();
      r.rip = kDataAddress + 2 * kPageSize;
      const uint64_t starts[] = {0, 8, kPageSize, kAreaSize - 3072, kAreaSize - 3584};
      r.rsi = victim + starts[round];
      r.rdx = round < 2 ? 1 : 64;
      r.rax = victim + kPageSize + 64;
      for (;;) {
        Event event = context->Switch(r);
        if (event.kind == Kind::kDead || event.kind == Kind::kInterrupted) break;
      }
      context->Release();
    });
    Registers r = TestGuest::Start();
    r.rdi = kDataAddress;
    for (int i = 0; i < 30; ++i) {
      if (SwitchBriefly(guest.context(), r).kind == Kind::kDead) break;
      r = TestGuest::Start();
      r.rdi = kDataAddress;
    }
    (*cloned)->Interrupt();
    other.join();
    bystander.ExpectWell();
  }
}

TEST(HostileTest, RunsOutOfMailboxes) {
  auto& platform = static_cast<SystrapPlatform&>(TestPlatform());
  TestGuest guest(count());
  platform.set_max_threads_for_test(4);
  std::vector<std::unique_ptr<Context>> contexts;
  for (;;) {
    auto context = guest.context().CloneInSpace();
    if (!context.ok()) {
      EXPECT_EQ(context.error_number(), EAGAIN);
      break;
    }
    contexts.push_back(*std::move(context));
    ASSERT_LT(contexts.size(), 10u);
  }
  EXPECT_EQ(contexts.size(), 3u);
  contexts.pop_back();
  EXPECT_TRUE(guest.context().CloneInSpace().ok());
  platform.set_max_threads_for_test(kMaxAreas);
  Registers r = TestGuest::Start();
  r.rdi = kDataAddress;
  EXPECT_EQ(guest.context().Switch(r).kind, Kind::kSyscall);
}

GUEST_PROGRAM(segments,
              "mov $0x123456789, %rax; wrgsbase %rax; mov $0x7777000, %rax; wrfsbase %rax; mov $39, %eax; syscall;"
              "rdgsbase %rsi; rdfsbase %rdi; mov $39, %eax; syscall;"
              "rdgsbase %rsi; rdfsbase %rdi; mov $39, %eax; syscall;"
              "mov $0x2b, %eax; mov %eax, %gs; mov %eax, %fs; mov $39, %eax; syscall;"
              "mov %gs, %esi; rdfsbase %rdi; mov $39, %eax; syscall");

TEST(HostileTest, SegmentBases) {
  TestGuest guest(segments());
  Registers r = TestGuest::Start();
  ASSERT_EQ(guest.context().Switch(r).kind, Kind::kSyscall);
  EXPECT_EQ(r.gs_base, 0x1'2345'6789u);
  EXPECT_EQ(r.fs_base, 0x777'7000u);
  ASSERT_EQ(guest.context().Switch(r).kind, Kind::kSyscall);
  EXPECT_EQ(r.rsi, 0x1'2345'6789u);
  EXPECT_EQ(r.rdi, 0x777'7000u);
  r.gs_base = 0x5000;
  r.fs_base = 0x6000;
  ASSERT_EQ(guest.context().Switch(r).kind, Kind::kSyscall);
  EXPECT_EQ(r.rsi, 0x5000u);
  EXPECT_EQ(r.rdi, 0x6000u);
  ASSERT_EQ(guest.context().Switch(r).kind, Kind::kSyscall);
  ASSERT_EQ(guest.context().Switch(r).kind, Kind::kSyscall);
  EXPECT_EQ(r.rsi, 0x2bu);
}

GUEST_PROGRAM(flags, "push %rdi; popf; mov $39, %eax; syscall; pushf; pop %rsi; mov $39, %eax; syscall");

// NT makes iretq fault, AC and DF could upset the handler, ID does nothing.
TEST(HostileTest, Flags) {
  for (uint64_t flag : {uint64_t{1} << 14, uint64_t{1} << 18, uint64_t{1} << 10, uint64_t{1} << 21}) {
    TestGuest guest(flags());
    Registers r = TestGuest::Start();
    r.rdi = 0x202 | flag;
    ASSERT_EQ(guest.context().Switch(r).kind, Kind::kSyscall);
    EXPECT_EQ(r.eflags, 0x202 | flag);
    ASSERT_EQ(guest.context().Switch(r).kind, Kind::kSyscall);
    EXPECT_EQ(r.rsi, 0x202 | flag);
    r = TestGuest::Start();
    r.eflags |= flag;
    ASSERT_EQ(guest.context().Switch(r).kind, Kind::kSyscall) << std::hex << flag;
  }
}

GUEST_PROGRAM(restart_codes, "syscall; mov %rax, %rsi; mov $39, %eax; syscall");

// Call numbers that the kernel takes for its own restart codes on the way to the handler.
TEST(HostileTest, NumbersLikeRestartCodes) {
  for (int number : {-512, -513, -514, -516, -1, -2}) {
    TestGuest guest(restart_codes());
    Registers r = TestGuest::Start();
    r.rax = static_cast<uint64_t>(int64_t{number});
    ASSERT_EQ(guest.context().Switch(r).kind, Kind::kSyscall);
    EXPECT_EQ(r.rip, kCodeAddress + 2) << number;
    r.rax = 5;
    ASSERT_EQ(guest.context().Switch(r).kind, Kind::kSyscall);
    EXPECT_EQ(r.rsi, 5u);
    EXPECT_EQ(r.orig_rax, uint64_t{SYS_getpid});
  }
}

GUEST_PROGRAM(leave_traces,
              "mov $0x2b, %eax; mov %eax, %gs; mov %eax, %es; mov $0x4711, %rax; movq %rax, %xmm5; mov %rdi, %rbx;"
              "mov %rax, 0x1100(%rdi); mov $39, %eax; syscall; jmp .");
GUEST_PROGRAM(find_traces,
              "mov %gs, %esi; mov %es, %edx; movq %xmm5, %r8; mov 0x1100(%rdi), %r9; mov %rsp, %r10;"
              "mov $39, %eax; syscall; jmp .");

// The process gets another guest, which finds nothing of the one before.
TEST(PoolTest, NothingIsLeft) {
  pid_t former;
  {
    TestGuest guest(leave_traces());
    former = guest.stub_pid();
    Registers r = TestGuest::Start();
    r.rdi = AreaOf(guest.context());
    ASSERT_EQ(guest.context().Switch(r).kind, Kind::kSyscall);
    guest.context().SetAnswer(SYS_getpid, 4711);
  }
  TestGuest guest(find_traces());
  EXPECT_EQ(guest.stub_pid(), former);
  Registers r = TestGuest::Start();
  r.rdi = AreaOf(guest.context());
  ASSERT_EQ(guest.context().Switch(r).kind, Kind::kSyscall);
  EXPECT_EQ(r.orig_rax, uint64_t{SYS_getpid});
  EXPECT_EQ(r.rsi, 0u);
  EXPECT_EQ(r.rdx, 0u);
  EXPECT_EQ(r.r8, 0u);
  EXPECT_EQ(r.r9, 0u);
  EXPECT_EQ(r.rbx, 0u);
  // Nor any mapping.
  std::ifstream maps("/proc/" + std::to_string(guest.stub_pid()) + "/maps");
  int guest_mappings = 0;
  for (std::string line; std::getline(maps, line);) {
    if (line.find("[vsyscall]") == std::string::npos)
      guest_mappings += std::stoull(line, nullptr, 16) < kGuestAddressLimit;
  }
  EXPECT_EQ(guest_mappings, 2);
}

GUEST_PROGRAM(store_word, "movq $1, (%rdi); mov $39, %eax; syscall; jmp .");

// Its breakpoints go with it.
TEST(PoolTest, DebugRegistersAreCleared) {
  pid_t former;
  {
    TestGuest guest(store_word());
    former = guest.stub_pid();
    const uint64_t values[8] = {kDataAddress, 0, 0, 0, 0, 0, kDebugStatusInitial, 1 | 1 << 16};
    if (!guest.context().SetDebugRegisters(values).ok()) GTEST_SKIP() << "a host without debug registers";
    Registers r = TestGuest::Start();
    r.rdi = kDataAddress;
    Event event = guest.context().Switch(r);
    ASSERT_EQ(event.kind, Kind::kSignal);
    EXPECT_EQ(event.info.si_signo, SIGTRAP);
  }
  TestGuest guest(store_word());
  EXPECT_EQ(guest.stub_pid(), former);
  Registers r = TestGuest::Start();
  r.rdi = kDataAddress;
  EXPECT_EQ(guest.context().Switch(r).kind, Kind::kSyscall);
}

// Runs `program` for so many events of a kind, and gives it up. The next guest must have another process.
void ExpectNotReused(std::span<const uint8_t> program, Kind kind, int events, void (*prepare)(Registers&)) {
  Bystander bystander;
  pid_t former;
  {
    TestGuest guest(program);
    former = guest.stub_pid();
    Registers r = TestGuest::Start();
    r.rdi = AreaOf(guest.context());
    prepare(r);
    for (int i = 0; i < 100 && events > 0; ++i) events -= SwitchBriefly(guest.context(), r).kind == kind;
    EXPECT_EQ(events, 0);
  }
  int64_t deadline = base::MonotonicNs() + 10 * base::kNsPerSecond;
  while (kill(former, 0) == 0 && base::MonotonicNs() < deadline) std::this_thread::yield();
  EXPECT_NE(kill(former, 0), 0);
  TestGuest next(call());
  Registers r = TestGuest::Start();
  EXPECT_EQ(next.context().Switch(r).kind, Kind::kSyscall);
  bystander.ExpectWell();
}

GUEST_PROGRAM(feign,
              "mov $39, %eax; syscall; lea 0x400(%rdi), %rbx; movl $2, (%rbx); movl $0, 32(%rbx); movl $2, (%rdi);"
              "jmp *%rsi");

// It says that it has stopped, and waits in the stub's code for something else than the sentry.
TEST(PoolTest, AThreadThatFeignsToBeParked) {
  ExpectNotReused(feign(), Kind::kSyscall, 2, [](Registers& r) { r.rsi = StubPage() + StubOffset(kSystrapGuestWait); });
}

// It has the kernel write to an address that the next guest will have something at.
TEST(PoolTest, AnRseqAreaThatTheSentryDoesNotKnow) {
  if (!TestPlatform().SupportsRseq()) GTEST_SKIP() << "a host without rseq";
  ExpectNotReused(feign(), Kind::kInterrupted, 3, [](Registers& r) {
    r.rip = StubPage() + StubOffset(kSystrapGuestRseq) - 2;
    r.rax = SYS_rseq;
    r.rbx = kDataAddress;
    r.rdi = kDataAddress + kPageSize;
    r.rsi = 32;
    r.rdx = 0;
    r.r10 = RSEQ_PROBE_SIGNATURE;
  });
}

GUEST_PROGRAM(spin, "1: lock incq (%rdi); jmp 1b");

// By somebody outside; the sentry goes on.
TEST(StubTest, StoppedStubAnswers) {
  TestGuest guest(spin());
  Registers r = TestGuest::Start();
  r.rdi = kDataAddress;
  std::thread other([&] {
    while (guest.Word(0) == 0) std::this_thread::yield();
    kill(guest.stub_pid(), SIGSTOP);
    guest.context().Interrupt();
  });
  EXPECT_EQ(guest.context().Switch(r).kind, Kind::kInterrupted);
  other.join();
  kill(guest.stub_pid(), SIGSTOP);
  guest.space().Unmap(kDataAddress, kDataLength);
  EXPECT_EQ(guest.context().Switch(r).kind, Kind::kFault);
}

TEST(StubTest, HoldsNothingOfTheHost) {
  TestGuest guest(call());
  std::ifstream maps("/proc/" + std::to_string(guest.stub_pid()) + "/maps");
  for (std::string line; std::getline(maps, line);) {
    EXPECT_EQ(line.find("[vdso]"), std::string::npos);
    EXPECT_EQ(line.find("[vvar"), std::string::npos);
    EXPECT_EQ(line.find("[stack]"), std::string::npos);
    if (line.find("[vsyscall]") != std::string::npos) continue;
    uint64_t start = std::stoull(line, nullptr, 16);
    bool writable = line.find(" rw") != std::string::npos;
    if (start < kGuestAddressLimit) continue;
    EXPECT_EQ(writable, start >= kAreaAddress && (start - kAreaAddress) % kAreaSize == 0) << line;
    EXPECT_EQ(line.find("xp ") != std::string::npos, start == StubPage()) << line;
  }
}

}  // namespace
}  // namespace platform::systrap
