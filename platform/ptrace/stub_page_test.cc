// SPDX-License-Identifier: Apache-2.0
// A guest in the stub page.
#include <sys/syscall.h>

#include "gtest/gtest.h"
#include "platform/ptrace/ptrace_platform.h"
#include "platform/testing/test_guest.h"

namespace platform::testing {
namespace {

using Kind = Event::Kind;

GUEST_PROGRAM(call, "mov $39, %eax; syscall");

// The host calls in the stub page are of no use to a guest that finds them.
TEST(StubPageTest, CallsAreIntercepted) {
  TestGuest guest(call());
  const stub::StubLayout& layout = static_cast<ptrace::PtracePlatform&>(TestPlatform()).layout();
  for (uint64_t at : {layout.call(), layout.clone(), layout.pause(), layout.zygote()}) {
    Registers r = TestGuest::Start();
    r.rip = at;
    r.rax = SYS_munmap;
    r.rdi = kDataAddress;
    r.rsi = kDataLength;
    r.r12 = layout.page;
    ASSERT_EQ(guest.context().Switch(r).kind, Kind::kSyscall);
    EXPECT_EQ(r.rip & ~uint64_t{4095}, layout.page);
  }
  Registers r = TestGuest::Start();
  EXPECT_EQ(guest.context().Switch(r).kind, Kind::kSyscall);
  guest.Word(0) = 1;
}

}  // namespace
}  // namespace platform::testing
