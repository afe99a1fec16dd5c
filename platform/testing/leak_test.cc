// SPDX-License-Identifier: Apache-2.0
// Thousands of spaces and threads leave nothing behind: fds, processes, threads, file pages.
#include <dirent.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <fstream>
#include <string>
#include <thread>

#include "base/clock.h"
#include "gtest/gtest.h"
#include "platform/testing/test_guest.h"

namespace platform::testing {
namespace {

using Kind = Event::Kind;

GUEST_PROGRAM(call, "mov $39, %eax; syscall");

int Entries(const char* directory) {
  DIR* dir = opendir(directory);
  if (dir == nullptr) return -1;
  int n = 0;
  while (readdir(dir) != nullptr) ++n;
  closedir(dir);
  return n;
}

int ChildrenOf(pid_t pid) {
  std::string id = std::to_string(pid);
  std::ifstream file("/proc/" + id + "/task/" + id + "/children");
  int n = 0;
  for (std::string child; file >> child;) ++n;
  return n;
}

// Killed processes vanish a moment later.
void ExpectSettles(const char* what, int wanted, int (*count)()) {
  int64_t deadline = base::MonotonicNs() + 10 * base::kNsPerSecond;
  while (count() != wanted && base::MonotonicNs() < deadline) std::this_thread::yield();
  EXPECT_EQ(count(), wanted) << what;
}

TEST(LeakTest, TenThousandSpaces) {
  { TestGuest warm_up(call()); }
  int fds = Entries("/proc/self/fd");
  int threads = Entries("/proc/self/task");
  uint64_t memory = TestMemory().UsedBytes();
  for (int i = 0; i < 10'000; ++i) {
    if (i % 4 != 0) {
      ASSERT_TRUE(TestPlatform().NewAddressSpace().ok());
      continue;
    }
    TestGuest guest(call());
    Registers r = TestGuest::Start();
    ASSERT_EQ(guest.context().Switch(r).kind, Kind::kSyscall);
  }
  // One may wait for the next space.
  const bool pools = std::string(TestPlatform().Name()) == "systrap";
  if (HasStubs()) {
    ExpectSettles("stubs", pools ? 1 : 0, [] { return ChildrenOf(ZygotePid()); });
    EXPECT_EQ(ChildrenOf(getpid()), 1) << "the zygote only";
  }
  EXPECT_EQ(Entries("/proc/self/fd"), fds);
  EXPECT_EQ(Entries("/proc/self/task"), threads);
  EXPECT_EQ(TestMemory().UsedBytes(), memory);
}

TEST(LeakTest, ThousandsOfThreadsInOneSpace) {
  TestGuest guest(call());
  for (int i = 0; i < 3'000; ++i) {
    auto context = guest.context().CloneInSpace();
    ASSERT_TRUE(context.ok());
    Registers r = TestGuest::Start();
    ASSERT_EQ((*context)->Switch(r).kind, Kind::kSyscall);
    (*context)->Release();
  }
  if (HasStubs()) ExpectSettles("stubs", 1, [] { return ChildrenOf(ZygotePid()); });
}

TEST(LeakTest, StubsKilledFromOutside) {
  if (!HasStubs()) GTEST_SKIP() << "a platform without stub processes";
  for (int i = 0; i < 300; ++i) {
    TestGuest guest(call());
    Registers r = TestGuest::Start();
    kill(guest.stub_pid(), SIGKILL);
    while (guest.context().Switch(r).kind != Kind::kDead) r = TestGuest::Start();
  }
  ExpectSettles("stubs", 0, [] { return ChildrenOf(ZygotePid()); });
}

}  // namespace
}  // namespace platform::testing
