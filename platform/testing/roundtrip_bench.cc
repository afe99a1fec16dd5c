// SPDX-License-Identifier: Apache-2.0
// Prints the cost of the platform's basic operations in µs.
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>

#include "base/clock.h"
#include "base/log.h"
#include "platform/testing/test_guest.h"

namespace platform::testing {
namespace {

GUEST_PROGRAM(call_loop, "1: mov $39, %eax; syscall; jmp 1b");
GUEST_PROGRAM(touch, "mov $0x900000, %rdi; 1: movb $1, (%rdi); jmp 1b");

// The best of many short batches: what the operation costs while nothing else has the CPU.
template <typename F>
void Measure(const char* what, int rounds, F body) {
  constexpr int kBatches = 100;
  rounds = std::max(1, rounds / kBatches);
  double best = 1e9;
  for (int batch = 0; batch < kBatches; ++batch) {
    int64_t start = base::MonotonicNs();
    for (int i = 0; i < rounds; ++i) body();
    best = std::min(best, static_cast<double>(base::MonotonicNs() - start) / rounds / 1000);
  }
  printf("%-48s %8.2f us\n", what, best);
}

int Main() {
  Measure("host getppid", 100'000, [] { syscall(SYS_getppid); });
  {
    TestGuest guest(call_loop());
    Registers registers = TestGuest::Start();
    Measure("syscall round trip", 20'000, [&] {
      Event event = guest.context().Switch(registers);
      CHECK_THAT(event.kind == Event::Kind::kSyscall);
      registers.rax = 1;
    });
    Measure("interrupt before Switch", 20'000, [&] {
      guest.context().Interrupt();
      guest.context().Switch(registers);
    });
    Measure("map + unmap a page, own thread", 5'000, [&] {
      CHECK_THAT(guest.space().Map(0x900000, kPageSize, TestMemory().fd(), 0, kReadWrite, false).ok());
      guest.space().Unmap(0x900000, kPageSize);
    });
    Measure("clone a thread, adopt, release", 500, [&] {
      auto context = guest.context().CloneInSpace();
      CHECK_THAT(context.ok());
      CHECK_THAT((*context)->Bind(guest.space()).ok());
      (*context)->Release();
    });
  }
  {
    TestGuest guest(touch());
    Registers registers = TestGuest::Start();
    Measure("fault, map, touch, unmap", 5'000, [&] {
      CHECK_THAT(guest.context().Switch(registers).kind == Event::Kind::kFault);
      CHECK_THAT(guest.space().Map(0x900000, kPageSize, TestMemory().fd(), 0, kReadWrite, true).ok());
      guest.space().Unmap(0x900000, kPageSize);
    });
  }
  TestGuest parent(call_loop());
  Measure("new space", 500, [] { CHECK_THAT(TestPlatform().NewAddressSpace().ok()); });
  Measure("new space, bind, first call, release", 500, [] {
    TestGuest guest(call_loop());
    Registers registers = TestGuest::Start();
    CHECK_THAT(guest.context().Switch(registers).kind == Event::Kind::kSyscall);
  });
  return 0;
}

}  // namespace
}  // namespace platform::testing

int main() { return platform::testing::Main(); }
