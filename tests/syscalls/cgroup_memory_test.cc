// SPDX-License-Identifier: Apache-2.0
// The memory controller of cgroups(7), both versions.
#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <memory>
#include <vector>

#include "tests/syscalls/cgroup_util.h"

namespace {

constexpr size_t kMiB = 1 << 20;

class MemoryTest : public ControllerTest {
 protected:
  std::string Max() const { return v2() ? "memory.max" : "memory.limit_in_bytes"; }
  std::string Current() const { return v2() ? "memory.current" : "memory.usage_in_bytes"; }
  size_t Used(const Group& group) const { return std::stoul(group.Read(Current())); }
  long Kills(const Group& group) const {
    return v2() ? ValueOf(group.Read("memory.events"), "oom_kill")
                : ValueOf(group.Read("memory.oom_control"), "oom_kill");
  }
};

void Touch(size_t bytes, int flags = MAP_PRIVATE) {
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | flags, -1, 0);
  CHILD_CHECK(memory != MAP_FAILED);
  for (size_t at = 0; at < bytes; at += 4096) static_cast<char*>(memory)[at] = 1;
}

// In a child of the group: does `body`, says so, and stays.
class Holder {
 public:
  Holder(const Group& group, const std::function<void()>& body)
      : child_([&] {
          CHILD_CHECK(group.Write("cgroup.procs", "0") == 0);
          body();
          done_.Set();
          for (;;) pause();
        }) {}
  bool Ready() { return done_.Wait(); }
  Child& child() { return child_; }

 private:
  Event done_;
  Child child_;
};

TEST_P(MemoryTest, PrivateMemoryIsCounted) {
  USE("memory");
  Group group(path());
  {
    Holder holder(group, [] { Touch(16 * kMiB); });
    ASSERT_TRUE(holder.Ready());
    EXPECT_GE(Used(group), 16 * kMiB);
    EXPECT_LT(Used(group), 40 * kMiB);
    EXPECT_GE(ValueOf(group.Read("memory.stat"), v2() ? "anon" : "rss"), static_cast<long>(16 * kMiB));
  }
  EXPECT_TRUE(Eventually([&] { return Used(group) < 8 * kMiB; })) << group.Read(Current());
}

TEST_P(MemoryTest, WhatForkSharesIsCountedOnce) {
  USE("memory");
  Group group(path());
  std::vector<std::unique_ptr<Child>> children;
  Holder holder(group, [&] {
    Touch(32 * kMiB);
    for (int i = 0; i < 4; ++i) children.push_back(std::make_unique<Child>([] { pause(); }));
  });
  ASSERT_TRUE(holder.Ready());
  EXPECT_GE(Used(group), 32 * kMiB);
  EXPECT_LT(Used(group), 64 * kMiB);
}

TEST_P(MemoryTest, SharedMemoryIsCounted) {
  USE("memory");
  Group group(path());
  Holder holder(group, [] {
    Touch(16 * kMiB, MAP_SHARED);
    const std::vector<char> data(kMiB, 'x');
    const int fd = memfd_create("x", 0);
    for (int i = 0; i < 16; ++i) CHILD_CHECK(write(fd, data.data(), data.size()) == static_cast<ssize_t>(data.size()));
  });
  ASSERT_TRUE(holder.Ready());
  EXPECT_GE(Used(group), 32 * kMiB);
  EXPECT_LT(Used(group), 64 * kMiB);
  EXPECT_GE(ValueOf(group.Read("memory.stat"), "shmem"), static_cast<long>(32 * kMiB));
}

TEST_P(MemoryTest, WhoTakesTooMuchIsKilled) {
  USE("memory");
  Group group(path()), other(path());
  ASSERT_EQ(group.Write(Max(), "32M"), 0);
  EXPECT_EQ(group.Read(Max()), std::to_string(32 * kMiB) + "\n");
  Holder bystander(other, [] { Touch(kMiB); });
  ASSERT_TRUE(bystander.Ready());
  Holder holder(group, [] { Touch(256 * kMiB); });
  EXPECT_EQ(holder.child().Wait(), Killed(SIGKILL));
  EXPECT_GE(Kills(group), 1);
  EXPECT_EQ(Kills(other), 0);
  EXPECT_EQ(kill(bystander.child().pid(), 0), 0);
  if (!v2()) {
    EXPECT_GT(std::stol(group.Read("memory.failcnt")), 0);
  }
}

TEST_P(MemoryTest, FilesInMemoryCountForTheLimit) {
  USE("memory");
  Group group(path());
  ASSERT_EQ(group.Write(Max(), "32M"), 0);
  Holder holder(group, [] {
    const std::vector<char> data(kMiB, 'x');
    const int fd = memfd_create("x", 0);
    for (int i = 0; i < 128; ++i) (void)!write(fd, data.data(), data.size());
  });
  EXPECT_EQ(holder.child().Wait(), Killed(SIGKILL));
  EXPECT_GE(Kills(group), 1);
}

TEST_P(MemoryTest, TheLimitAboveKills) {
  USE("memory");
  Group group(path());
  ASSERT_OK(mkdir((group / "a").c_str(), 0755));
  if (v2()) {
    ASSERT_EQ(group.Write("cgroup.subtree_control", "+memory"), 0);
  }
  ASSERT_EQ(group.Write(Max(), "32M"), 0);
  Child child([&] {
    CHILD_CHECK(Store(group / "a/cgroup.procs", "0") == 0);
    Touch(256 * kMiB);
    for (;;) pause();
  });
  EXPECT_EQ(child.Wait(), Killed(SIGKILL));
}

TEST_P(MemoryTest, ALimitBelowWhatIsUsed) {
  USE("memory");
  Group group(path());
  Holder holder(group, [] { Touch(32 * kMiB); });
  ASSERT_TRUE(holder.Ready());
  if (v2()) {
    ASSERT_EQ(group.Write(Max(), "8M"), 0);
    EXPECT_EQ(holder.child().Wait(), Killed(SIGKILL));
  } else {
    EXPECT_EQ(group.Write(Max(), "8M"), EBUSY);
    EXPECT_EQ(kill(holder.child().pid(), 0), 0);
  }
}

TEST_P(MemoryTest, EventsAreTold) {
  USE("memory");
  if (!v2()) GTEST_SKIP() << "v1 tells by eventfd";
  Group group(path());
  ASSERT_EQ(group.Write("memory.max", "16M"), 0);
  Fd events(open((group / "memory.events").c_str(), O_RDONLY | O_CLOEXEC));
  char text[256];
  ASSERT_GT(pread(events.get(), text, sizeof text, 0), 0);
  Holder holder(group, [] { Touch(256 * kMiB); });
  EXPECT_TRUE(PollFor(events.get(), POLLPRI, 20000));
  EXPECT_EQ(holder.child().Wait(), Killed(SIGKILL));
  EXPECT_GE(ValueOf(group.Read("memory.events"), "max"), 1);
  EXPECT_GE(ValueOf(group.Read("memory.events"), "oom"), 1);
}

TEST_P(MemoryTest, AGroupDiesAsOne) {
  USE("memory");
  if (!v2()) GTEST_SKIP() << "v1 has no memory.oom.group";
  Group group(path());
  ASSERT_EQ(group.Write("memory.oom.group", "1"), 0);
  Holder small(group, [] { Touch(kMiB); });
  ASSERT_TRUE(small.Ready());
  ASSERT_EQ(group.Write("memory.max", "32M"), 0);
  Holder large(group, [] { Touch(256 * kMiB); });
  EXPECT_EQ(large.child().Wait(), Killed(SIGKILL));
  EXPECT_EQ(small.child().Wait(), Killed(SIGKILL));
}

TEST_P(MemoryTest, Values) {
  USE("memory");
  Group group(path());
  const std::string none = v2() ? "max" : "-1", shown = v2() ? "max\n" : "9223372036854771712\n";
  EXPECT_EQ(group.Read(Max()), shown);
  EXPECT_EQ(group.Write(Max(), "x"), EINVAL);
  EXPECT_EQ(group.Write(Max(), v2() ? "-1" : "-2"), EINVAL);
  EXPECT_EQ(group.Write(Max(), "5000"), 0);
  EXPECT_EQ(group.Read(Max()), "4096\n") << "whole pages";
  EXPECT_EQ(group.Write(Max(), "3G"), 0);
  EXPECT_EQ(group.Read(Max()), "3221225472\n");
  EXPECT_EQ(group.Write(Max(), none), 0);
  EXPECT_EQ(group.Read(Max()), shown);
}

INSTANTIATE_TEST_SUITE_P(V1, MemoryTest, testing::Values(1));
INSTANTIATE_TEST_SUITE_P(V2, MemoryTest, testing::Values(2));

}  // namespace
