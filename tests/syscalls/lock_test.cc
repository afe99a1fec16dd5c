// SPDX-License-Identifier: Apache-2.0
// flock, POSIX record locks and open file description locks.
#include <fcntl.h>
#include <sched.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "tests/syscalls/util.h"

namespace {

struct flock Range(short type, off_t start, off_t len) {
  struct flock fl = {};
  fl.l_type = type;
  fl.l_whence = SEEK_SET;
  fl.l_start = start;
  fl.l_len = len;
  return fl;
}

class LockTest : public testing::Test {
 protected:
  void SetUp() override { fd_ = Open(); }
  Fd Open() { return Fd(open((dir_ / "f").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600)); }
  static int Set(const Fd& fd, int cmd, short type, off_t start, off_t len) {
    struct flock fl = Range(type, start, len);
    return fcntl(fd.get(), cmd, &fl);
  }
  TempDir dir_;
  Fd fd_;
};

TEST_F(LockTest, FlockExcludesOtherDescriptions) {
  Fd other = Open();
  ASSERT_OK(flock(fd_.get(), LOCK_SH));
  ASSERT_OK(flock(other.get(), LOCK_SH));
  EXPECT_FAILS(EWOULDBLOCK, flock(fd_.get(), LOCK_EX | LOCK_NB));
  ASSERT_OK(flock(other.get(), LOCK_UN));
  ASSERT_OK(flock(fd_.get(), LOCK_EX | LOCK_NB));
  EXPECT_FAILS(EWOULDBLOCK, flock(other.get(), LOCK_SH | LOCK_NB));
}

TEST_F(LockTest, FlockBelongsToTheDescription) {
  ASSERT_OK(flock(fd_.get(), LOCK_EX));
  Fd copy(dup(fd_.get()));
  EXPECT_OK(flock(copy.get(), LOCK_EX | LOCK_NB));
  fd_.reset();
  Fd other = Open();
  EXPECT_FAILS(EWOULDBLOCK, flock(other.get(), LOCK_EX | LOCK_NB));
  copy.reset();
  EXPECT_OK(flock(other.get(), LOCK_EX | LOCK_NB));
}

TEST_F(LockTest, FlockIsInheritedByFork) {
  ASSERT_OK(flock(fd_.get(), LOCK_EX));
  EXPECT_EQ(Exited(0), RunInChild([&] { CHILD_CHECK(flock(fd_.get(), LOCK_UN) == 0); }));
  Fd other = Open();
  EXPECT_OK(flock(other.get(), LOCK_EX | LOCK_NB)) << "the child's unlock counts for both";
}

TEST_F(LockTest, FlockBlocksUntilReleased) {
  ASSERT_OK(flock(fd_.get(), LOCK_EX));
  Pipe order;
  Child child([&] {
    fd_.reset();
    Fd other = Open();
    CHILD_CHECK(flock(other.get(), LOCK_EX) == 0);
    CHILD_CHECK(write(order.w.get(), "c", 1) == 1);
  });
  ASSERT_EQ(1, write(order.w.get(), "p", 1));
  ASSERT_OK(flock(fd_.get(), LOCK_UN));
  EXPECT_EQ(Exited(0), child.Wait());
  char buf[2];
  EXPECT_EQ(2, read(order.r.get(), buf, 2));
  EXPECT_EQ("pc", std::string(buf, 2));
}

TEST_F(LockTest, FlockErrors) {
  EXPECT_FAILS(EINVAL, flock(fd_.get(), 0));
  EXPECT_FAILS(EBADF, flock(-1, LOCK_SH));
}

TEST_F(LockTest, RecordLocksConflictBetweenProcesses) {
  ASSERT_OK(Set(fd_, F_SETLK, F_WRLCK, 10, 10));
  pid_t me = getpid();
  EXPECT_EQ(Exited(0), RunInChild([&] {
              CHILD_CHECK(Set(fd_, F_SETLK, F_RDLCK, 15, 1) == -1 && errno == EAGAIN);
              CHILD_CHECK(Set(fd_, F_SETLK, F_WRLCK, 0, 10) == 0);
              CHILD_CHECK(Set(fd_, F_SETLK, F_WRLCK, 20, 0) == 0);
              struct flock fl = Range(F_RDLCK, 0, 0);
              CHILD_CHECK(fcntl(fd_.get(), F_GETLK, &fl) == 0);
              CHILD_CHECK(fl.l_type == F_WRLCK && fl.l_start == 10 && fl.l_len == 10 && fl.l_pid == me);
            }));
}

TEST_F(LockTest, OwnLocksNeverConflict) {
  ASSERT_OK(Set(fd_, F_SETLK, F_WRLCK, 0, 0));
  Fd other = Open();
  EXPECT_OK(Set(other, F_SETLK, F_RDLCK, 0, 0));
  struct flock fl = Range(F_WRLCK, 0, 0);
  ASSERT_OK(fcntl(fd_.get(), F_GETLK, &fl));
  EXPECT_EQ(F_UNLCK, fl.l_type);
}

TEST_F(LockTest, ReadLocksAreShared) {
  ASSERT_OK(Set(fd_, F_SETLK, F_RDLCK, 0, 100));
  EXPECT_EQ(Exited(0), RunInChild([&] {
              CHILD_CHECK(Set(fd_, F_SETLK, F_RDLCK, 0, 100) == 0);
              CHILD_CHECK(Set(fd_, F_SETLK, F_WRLCK, 0, 100) == -1 && errno == EAGAIN);
            }));
}

TEST_F(LockTest, UnlockSplitsARange) {
  ASSERT_OK(Set(fd_, F_SETLK, F_WRLCK, 0, 30));
  ASSERT_OK(Set(fd_, F_SETLK, F_UNLCK, 10, 10));
  EXPECT_EQ(Exited(0), RunInChild([&] {
              CHILD_CHECK(Set(fd_, F_SETLK, F_WRLCK, 10, 10) == 0);
              CHILD_CHECK(Set(fd_, F_SETLK, F_WRLCK, 9, 1) == -1);
              CHILD_CHECK(Set(fd_, F_SETLK, F_WRLCK, 20, 1) == -1);
            }));
}

TEST_F(LockTest, ClosingAnyDescriptorDropsRecordLocks) {
  ASSERT_OK(Set(fd_, F_SETLK, F_WRLCK, 0, 0));
  Open().reset();
  EXPECT_EQ(Exited(0), RunInChild([&] { CHILD_CHECK(Set(fd_, F_SETLK, F_WRLCK, 0, 0) == 0); }));
}

TEST_F(LockTest, RecordLocksAreNotInherited) {
  ASSERT_OK(Set(fd_, F_SETLK, F_WRLCK, 0, 0));
  EXPECT_EQ(Exited(0), RunInChild([&] {
              CHILD_CHECK(Set(fd_, F_SETLK, F_UNLCK, 0, 0) == 0);
              CHILD_CHECK(Set(fd_, F_SETLK, F_WRLCK, 0, 0) == -1 && errno == EAGAIN);
            }));
}

TEST_F(LockTest, SetlkwWaitsForTheHoldersExit) {
  Event locked, go;
  Child holder([&] {
    CHILD_CHECK(Set(fd_, F_SETLK, F_WRLCK, 0, 0) == 0);
    locked.Set();
    CHILD_CHECK(go.Wait());
  });
  ASSERT_TRUE(locked.Wait());
  EXPECT_FAILS(EAGAIN, Set(fd_, F_SETLK, F_WRLCK, 0, 0));
  go.Set();
  EXPECT_OK(Set(fd_, F_SETLKW, F_WRLCK, 0, 0));
  EXPECT_EQ(Exited(0), holder.Wait());
}

TEST_F(LockTest, DeadlockIsDetected) {
  // Each holds one byte and wants the other's: exactly one of the two calls has to fail.
  Pipe results;
  Event a_locked, b_locked;
  auto run = [&](off_t mine, off_t theirs, Event& me, Event& other) {
    CHILD_CHECK(Set(fd_, F_SETLK, F_WRLCK, mine, 1) == 0);
    me.Set();
    CHILD_CHECK(other.Wait());
    int r = Set(fd_, F_SETLKW, F_WRLCK, theirs, 1);
    CHILD_CHECK(r == 0 || errno == EDEADLK);
    char c = r == 0 ? 'o' : 'd';
    CHILD_CHECK(write(results.w.get(), &c, 1) == 1);
  };
  Child a([&] { run(0, 1, a_locked, b_locked); });
  Child b([&] { run(1, 0, b_locked, a_locked); });
  EXPECT_EQ(Exited(0), a.Wait());
  EXPECT_EQ(Exited(0), b.Wait());
  char buf[2];
  ASSERT_EQ(2, read(results.r.get(), buf, 2));
  EXPECT_EQ("do", std::string(buf, 2));
}

TEST_F(LockTest, SetlkwIsInterruptible) {
  Event locked;
  Child holder([&] {
    CHILD_CHECK(Set(fd_, F_SETLK, F_WRLCK, 0, 0) == 0);
    locked.Set();
    for (;;) pause();
  });
  ASSERT_TRUE(locked.Wait());
  ScopedHandler handler(SIGALRM, [](int) {});
  ScopedTicks ticks;
  EXPECT_FAILS(EINTR, Set(fd_, F_SETLKW, F_WRLCK, 0, 0));
}

TEST_F(LockTest, DescriptionLocksConflictWithinAProcess) {
  Fd other = Open();
  ASSERT_OK(Set(fd_, F_OFD_SETLK, F_WRLCK, 0, 10));
  EXPECT_FAILS(EAGAIN, Set(other, F_OFD_SETLK, F_WRLCK, 5, 1));
  EXPECT_FAILS(EAGAIN, Set(other, F_SETLK, F_WRLCK, 5, 1));
  struct flock fl = Range(F_WRLCK, 0, 0);
  ASSERT_OK(fcntl(other.get(), F_OFD_GETLK, &fl));
  EXPECT_EQ(F_WRLCK, fl.l_type);
  EXPECT_EQ(-1, fl.l_pid);
  fd_.reset();
  EXPECT_OK(Set(other, F_OFD_SETLK, F_WRLCK, 5, 1));
}

TEST_F(LockTest, InvalidRanges) {
  EXPECT_FAILS(EINVAL, Set(fd_, F_SETLK, F_WRLCK, -1, 1));
  EXPECT_FAILS(EINVAL, Set(fd_, F_SETLK, 99, 0, 1));
  Fd ro(open((dir_ / "f").c_str(), O_RDONLY));
  EXPECT_FAILS(EBADF, Set(ro, F_SETLK, F_WRLCK, 0, 1));
  struct flock fl = Range(F_WRLCK, 0, 1);
  fl.l_pid = 1;
  EXPECT_FAILS(EINVAL, fcntl(fd_.get(), F_OFD_SETLK, &fl));
}

TEST_F(LockTest, NegativeLengthReachesBackwards) {
  ASSERT_OK(Set(fd_, F_SETLK, F_WRLCK, 10, -5));
  EXPECT_EQ(Exited(0), RunInChild([&] {
              CHILD_CHECK(Set(fd_, F_SETLK, F_WRLCK, 5, 1) == -1);
              CHILD_CHECK(Set(fd_, F_SETLK, F_WRLCK, 10, 1) == 0);
              CHILD_CHECK(Set(fd_, F_SETLK, F_WRLCK, 4, 1) == 0);
            }));
}

TEST_F(LockTest, ProcLocks) {
  TempDir dir;
  Fd f(open((dir / "f").c_str(), O_RDWR | O_CREAT, 0600));
  struct stat st;
  ASSERT_OK(fstat(f.get(), &st));
  char where[64];
  snprintf(where, sizeof where, "%02x:%02x:%lu", major(st.st_dev), minor(st.st_dev), st.st_ino);
  auto lines = [&] {
    std::string found;
    std::string all = ReadFile("/proc/locks");
    for (size_t at = 0, end; at < all.size(); at = end + 1) {
      end = all.find('\n', at);
      const std::string line = all.substr(at, end - at);
      if (line.find(where) != std::string::npos) found += line.substr(line.find(' ') + 1) + "\n";
    }
    return found;
  };
  const std::string pid = std::to_string(getpid());
  EXPECT_EQ(lines(), "");
  struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 10, .l_len = 5};
  ASSERT_OK(fcntl(f.get(), F_SETLK, &lock));
  EXPECT_EQ(lines(), "POSIX  ADVISORY  WRITE " + pid + " " + where + " 10 14\n");
  lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = 20, .l_len = 0};
  ASSERT_OK(fcntl(f.get(), F_OFD_SETLK, &lock));
  EXPECT_NE(lines().find("OFDLCK ADVISORY  READ -1 " + std::string(where) + " 20 EOF\n"), std::string::npos) << lines();
  lock = {.l_type = F_UNLCK, .l_whence = SEEK_SET};
  ASSERT_OK(fcntl(f.get(), F_OFD_SETLK, &lock));
  ASSERT_OK(fcntl(f.get(), F_SETLK, &lock));
  ASSERT_OK(flock(f.get(), LOCK_SH));
  EXPECT_EQ(lines(), "FLOCK  ADVISORY  READ " + pid + " " + where + " 0 EOF\n");
  ASSERT_OK(flock(f.get(), LOCK_UN));
  ASSERT_OK(fcntl(f.get(), F_SETLEASE, F_WRLCK));
  EXPECT_EQ(lines(), "LEASE  ACTIVE    WRITE " + pid + " " + where + " 0 EOF\n");
  // A waiter stands below the lock that it waits for.
  ASSERT_OK(fcntl(f.get(), F_SETLEASE, F_UNLCK));
  lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
  ASSERT_OK(fcntl(f.get(), F_SETLK, &lock));
  Child child([&] {
    Fd again(open((dir / "f").c_str(), O_RDWR));
    struct flock wanted = {.l_type = F_RDLCK, .l_whence = SEEK_SET};
    CHILD_CHECK(fcntl(again.get(), F_SETLKW, &wanted) == 0);
  });
  const std::string waiting = "-> POSIX  ADVISORY  READ " + std::to_string(child.pid()) + " " + where + " 0 EOF\n";
  while (lines().find(waiting) == std::string::npos) sched_yield();
  lock.l_type = F_UNLCK;
  ASSERT_OK(fcntl(f.get(), F_SETLK, &lock));
  EXPECT_EQ(Exited(0), child.Wait());
}

}  // namespace
