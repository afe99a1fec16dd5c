// SPDX-License-Identifier: Apache-2.0
// inotify: which events a watch sees, cookies, removal. All events are queued before the call that causes them
// returns, so each test reads them without waiting.
#include <fcntl.h>
#include <sys/inotify.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include <vector>

#include "tests/syscalls/util.h"

namespace {

struct Ev {
  int wd;
  uint32_t mask, cookie;
  std::string name;
};

class InotifyTest : public testing::Test {
 protected:
  void SetUp() override { ASSERT_OK(fd_.get()); }
  int Watch(const std::string& path, uint32_t mask) { return inotify_add_watch(fd_.get(), path.c_str(), mask); }
  std::vector<Ev> Events() {
    std::vector<Ev> out;
    alignas(inotify_event) char buf[4096];
    ssize_t n;
    while ((n = read(fd_.get(), buf, sizeof buf)) > 0) {
      for (ssize_t off = 0; off < n;) {
        auto* e = reinterpret_cast<inotify_event*>(buf + off);
        out.push_back({e->wd, e->mask, e->cookie, e->len ? e->name : ""});
        off += sizeof *e + e->len;
      }
    }
    return out;
  }
  // Masks and names as "mask:name mask:name", for one comparison.
  std::string Masks() {
    std::string out;
    for (const Ev& e : Events()) {
      char buf[64];
      snprintf(buf, sizeof buf, "%x:%s ", e.mask, e.name.c_str());
      out += buf;
    }
    return out;
  }
  static std::string Want(std::initializer_list<std::pair<uint32_t, const char*>> list) {
    std::string out;
    for (auto& [mask, name] : list) {
      char buf[64];
      snprintf(buf, sizeof buf, "%x:%s ", mask, name);
      out += buf;
    }
    return out;
  }
  TempDir dir_;
  Fd fd_{inotify_init1(IN_NONBLOCK | IN_CLOEXEC)};
};

TEST_F(InotifyTest, CreateWriteClose) {
  int wd = Watch(dir_.path(), IN_ALL_EVENTS);
  ASSERT_GT(wd, 0);
  ASSERT_TRUE(WriteFile(dir_ / "f", "x"));
  EXPECT_EQ(Want({{IN_CREATE, "f"}, {IN_OPEN, "f"}, {IN_MODIFY, "f"}, {IN_CLOSE_WRITE, "f"}}), Masks());
}

TEST_F(InotifyTest, ReadAndCloseNowrite) {
  ASSERT_TRUE(WriteFile(dir_ / "f", "x"));
  ASSERT_GT(Watch(dir_ / "f", IN_ALL_EVENTS), 0);
  Fd f(open((dir_ / "f").c_str(), O_RDONLY));
  char c;
  ASSERT_EQ(1, read(f.get(), &c, 1));
  f.reset();
  EXPECT_EQ(Want({{IN_OPEN, ""}, {IN_ACCESS, ""}, {IN_CLOSE_NOWRITE, ""}}), Masks());
}

TEST_F(InotifyTest, MaskSelects) {
  ASSERT_GT(Watch(dir_.path(), IN_DELETE), 0);
  ASSERT_TRUE(WriteFile(dir_ / "f", "x"));
  EXPECT_EQ("", Masks());
  ASSERT_OK(unlink((dir_ / "f").c_str()));
  EXPECT_EQ(Want({{IN_DELETE, "f"}}), Masks());
}

TEST_F(InotifyTest, DirectoriesAreMarked) {
  ASSERT_GT(Watch(dir_.path(), IN_CREATE | IN_DELETE), 0);
  ASSERT_OK(mkdir((dir_ / "d").c_str(), 0700));
  ASSERT_OK(rmdir((dir_ / "d").c_str()));
  EXPECT_EQ(Want({{IN_CREATE | IN_ISDIR, "d"}, {IN_DELETE | IN_ISDIR, "d"}}), Masks());
}

TEST_F(InotifyTest, MovePairsShareACookie) {
  ASSERT_TRUE(WriteFile(dir_ / "a", ""));
  ASSERT_GT(Watch(dir_.path(), IN_MOVE), 0);
  ASSERT_OK(rename((dir_ / "a").c_str(), (dir_ / "b").c_str()));
  std::vector<Ev> events = Events();
  ASSERT_EQ(2u, events.size());
  EXPECT_EQ(static_cast<uint32_t>(IN_MOVED_FROM), events[0].mask);
  EXPECT_EQ("a", events[0].name);
  EXPECT_EQ(static_cast<uint32_t>(IN_MOVED_TO), events[1].mask);
  EXPECT_EQ("b", events[1].name);
  EXPECT_NE(0u, events[0].cookie);
  EXPECT_EQ(events[0].cookie, events[1].cookie);
}

TEST_F(InotifyTest, MoveSelf) {
  ASSERT_TRUE(WriteFile(dir_ / "a", ""));
  ASSERT_GT(Watch(dir_ / "a", IN_MOVE_SELF), 0);
  ASSERT_OK(rename((dir_ / "a").c_str(), (dir_ / "b").c_str()));
  EXPECT_EQ(Want({{IN_MOVE_SELF, ""}}), Masks());
}

TEST_F(InotifyTest, Attrib) {
  ASSERT_TRUE(WriteFile(dir_ / "f", ""));
  ASSERT_GT(Watch(dir_.path(), IN_ATTRIB), 0);
  ASSERT_OK(chmod((dir_ / "f").c_str(), 0600));
  EXPECT_EQ(Want({{IN_ATTRIB, "f"}}), Masks());
}

TEST_F(InotifyTest, DeleteSelfRemovesTheWatch) {
  ASSERT_TRUE(WriteFile(dir_ / "f", ""));
  int wd = Watch(dir_ / "f", IN_DELETE_SELF);
  ASSERT_OK(unlink((dir_ / "f").c_str()));
  EXPECT_EQ(Want({{IN_DELETE_SELF, ""}, {IN_IGNORED, ""}}), Masks());
  EXPECT_FAILS(EINVAL, inotify_rm_watch(fd_.get(), wd));
}

TEST_F(InotifyTest, RemoveWatchQueuesIgnored) {
  int wd = Watch(dir_.path(), IN_CREATE);
  ASSERT_OK(inotify_rm_watch(fd_.get(), wd));
  EXPECT_EQ(Want({{IN_IGNORED, ""}}), Masks());
  ASSERT_TRUE(WriteFile(dir_ / "f", ""));
  EXPECT_EQ("", Masks());
}

TEST_F(InotifyTest, SameInodeSameWatch) {
  int wd = Watch(dir_.path(), IN_CREATE);
  EXPECT_EQ(wd, Watch(dir_.path() + "/.", IN_DELETE));
  ASSERT_TRUE(WriteFile(dir_ / "f", ""));
  EXPECT_EQ("", Masks()) << "the mask was replaced";
  EXPECT_EQ(wd, Watch(dir_.path(), IN_CREATE | IN_MASK_ADD));
  ASSERT_OK(unlink((dir_ / "f").c_str()));
  ASSERT_TRUE(WriteFile(dir_ / "f", ""));
  EXPECT_EQ(Want({{IN_DELETE, "f"}, {IN_CREATE, "f"}}), Masks());
  EXPECT_FAILS(EEXIST, Watch(dir_.path(), IN_CREATE | IN_MASK_CREATE));
}

TEST_F(InotifyTest, OneshotEndsAfterOneEvent) {
  ASSERT_GT(Watch(dir_.path(), IN_CREATE | IN_ONESHOT), 0);
  ASSERT_TRUE(WriteFile(dir_ / "a", ""));
  ASSERT_TRUE(WriteFile(dir_ / "b", ""));
  EXPECT_EQ(Want({{IN_CREATE, "a"}, {IN_IGNORED, ""}}), Masks());
}

TEST_F(InotifyTest, IdenticalEventsCoalesce) {
  ASSERT_TRUE(WriteFile(dir_ / "f", ""));
  Fd f(open((dir_ / "f").c_str(), O_WRONLY));
  ASSERT_GT(Watch(dir_ / "f", IN_MODIFY), 0);
  for (int i = 0; i < 5; ++i) ASSERT_EQ(1, write(f.get(), "x", 1));
  EXPECT_EQ(Want({{IN_MODIFY, ""}}), Masks());
}

TEST_F(InotifyTest, FionreadAndPoll) {
  ASSERT_GT(Watch(dir_.path(), IN_CREATE), 0);
  EXPECT_FALSE(PollFor(fd_.get(), 1, 0));
  ASSERT_TRUE(WriteFile(dir_ / "f", ""));
  EXPECT_TRUE(PollFor(fd_.get(), 1, 0));
  int n = 0;
  ASSERT_OK(ioctl(fd_.get(), FIONREAD, &n));
  EXPECT_EQ(static_cast<int>(sizeof(inotify_event)) + 16, n) << "the name is padded to 16 bytes";
  char small[8];
  EXPECT_FAILS(EINVAL, read(fd_.get(), small, sizeof small));
}

TEST_F(InotifyTest, Errors) {
  EXPECT_FAILS(ENOENT, Watch(dir_ / "none", IN_CREATE));
  EXPECT_FAILS(EINVAL, Watch(dir_.path(), 0));
  ASSERT_TRUE(WriteFile(dir_ / "f", ""));
  EXPECT_FAILS(ENOTDIR, Watch(dir_ / "f", IN_CREATE | IN_ONLYDIR));
  EXPECT_FAILS(EINVAL, inotify_rm_watch(fd_.get(), 12345));
  char c;
  EXPECT_FAILS(EAGAIN, read(fd_.get(), &c, 1));
}

TEST_F(InotifyTest, AFullQueueOverflows) {
  const long limit = atol(ReadFile("/proc/sys/fs/inotify/max_queued_events").c_str());
  ASSERT_GT(limit, 0);
  if (limit > 100000) GTEST_SKIP() << "a queue of " << limit;
  Fd f[2];
  for (int i = 0; i < 2; ++i) f[i].reset(open((dir_ / std::to_string(i)).c_str(), O_RDWR | O_CREAT, 0600));
  ASSERT_GE(Watch(dir_.path(), IN_MODIFY), 0);
  for (long i = 0; i < limit + 10; ++i) ASSERT_EQ(pwrite(f[i % 2].get(), "x", 1, 0), 1);
  std::vector<Ev> events = Events();
  ASSERT_EQ(events.size(), static_cast<size_t>(limit) + 1);
  EXPECT_EQ(events.back().mask, static_cast<uint32_t>(IN_Q_OVERFLOW));
  EXPECT_EQ(events.back().wd, -1);
}

TEST_F(InotifyTest, InstancesAreLimited) {
  const long limit = atol(ReadFile("/proc/sys/fs/inotify/max_user_instances").c_str());
  ASSERT_GT(limit, 0);
  if (limit > 900) GTEST_SKIP() << "more instances than descriptors";
  std::vector<Fd> instances;
  int error = 0;
  while (instances.size() < 1000) {
    Fd one(inotify_init1(IN_CLOEXEC));
    error = errno;
    if (!one.ok()) break;
    instances.push_back(std::move(one));
  }
  EXPECT_EQ(error, EMFILE);
  EXPECT_LE(instances.size(), static_cast<size_t>(limit));
}

TEST_F(InotifyTest, ExclUnlinkIsDeafToWhatLostItsName) {
  ASSERT_TRUE(WriteFile(dir_ / "f", "x"));
  Fd f(open((dir_ / "f").c_str(), O_RDWR));
  ASSERT_GT(Watch(dir_.path(), IN_ALL_EVENTS | IN_EXCL_UNLINK), 0);
  ASSERT_EQ(1, pwrite(f.get(), "y", 1, 0));
  ASSERT_OK(unlink((dir_ / "f").c_str()));
  ASSERT_EQ(1, pwrite(f.get(), "z", 1, 0));
  f.reset();
  EXPECT_EQ(Want({{IN_MODIFY, "f"}, {IN_DELETE, "f"}}), Masks());
}

TEST_F(InotifyTest, WithoutExclUnlinkItIsNot) {
  ASSERT_TRUE(WriteFile(dir_ / "f", "x"));
  Fd f(open((dir_ / "f").c_str(), O_RDWR));
  ASSERT_OK(unlink((dir_ / "f").c_str()));
  ASSERT_GT(Watch(dir_.path(), IN_ALL_EVENTS), 0);
  ASSERT_EQ(1, pwrite(f.get(), "z", 1, 0));
  f.reset();
  EXPECT_EQ(Want({{IN_MODIFY, "f"}, {IN_CLOSE_WRITE, "f"}}), Masks());
}

TEST_F(InotifyTest, Unmount) {
  EXPECT_EQ(Exited(0), RunInChild([&] {
              CHILD_CHECK(unshare(CLONE_NEWNS) == 0);
              CHILD_CHECK(mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0);
              CHILD_CHECK(mount("t", dir_.path().c_str(), "tmpfs", 0, nullptr) == 0);
              CHILD_CHECK(mkdir((dir_ / "d").c_str(), 0755) == 0 && WriteFile(dir_ / "d/f", ""));
              int directory = Watch(dir_ / "d", IN_CREATE), file = Watch(dir_ / "d/f", IN_MODIFY);
              CHILD_CHECK(directory > 0 && file > 0);
              CHILD_CHECK(umount(dir_.path().c_str()) == 0);
              std::vector<Ev> events = Events();
              CHILD_CHECK(events.size() == 4);
              for (int wd : {directory, file}) {
                std::vector<uint32_t> masks;
                for (const Ev& e : events) {
                  if (e.wd == wd) masks.push_back(e.mask);
                }
                const uint32_t kind = wd == directory ? IN_ISDIR : 0;
                CHILD_CHECK((masks == std::vector<uint32_t>{IN_UNMOUNT | kind, IN_IGNORED}));
              }
              CHILD_CHECK(inotify_rm_watch(fd_.get(), directory) == -1 && errno == EINVAL);
            }));
}

}  // namespace
