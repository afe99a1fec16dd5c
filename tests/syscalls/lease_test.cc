// SPDX-License-Identifier: Apache-2.0
// Leases (F_SETLEASE), directory notification (F_NOTIFY) and file handles (name_to_handle_at(2)).
#include <dirent.h>
#include <fcntl.h>
#include <sys/vfs.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include <thread>

#include "tests/syscalls/util.h"

namespace {

bool Take(int signal, siginfo_t* info) {
  sigset_t set = SetOf({signal});
  timespec timeout = {20, 0};
  int got;
  while ((got = sigtimedwait(&set, info, &timeout)) < 0 && errno == EINTR) {
  }
  return got == signal;
}
bool Pending(int signal) {
  sigset_t set;
  sigpending(&set);
  return sigismember(&set, signal) == 1;
}

class Lease : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(WriteFile(path_, "content"));
    fd_.reset(open(path_.c_str(), O_RDONLY));
    ASSERT_OK(fcntl(fd_.get(), F_SETSIG, rt_));
  }
  void TearDown() override {
    fd_.reset();
    sigset_t set = SetOf({SIGIO, rt_});
    timespec zero = {};
    while (sigtimedwait(&set, nullptr, &zero) > 0) {
    }
  }
  const int rt_ = SIGRTMIN + 4;
  ScopedBlock block_{SIGIO, SIGRTMIN + 4};
  TempDir dir_;
  std::string path_ = dir_ / "f";
  Fd fd_;
};

TEST_F(Lease, SetGetAndRemove) {
  EXPECT_EQ(fcntl(fd_.get(), F_GETLEASE), F_UNLCK);
  ASSERT_OK(fcntl(fd_.get(), F_SETLEASE, F_RDLCK));
  EXPECT_EQ(fcntl(fd_.get(), F_GETLEASE), F_RDLCK);
  ASSERT_OK(fcntl(fd_.get(), F_SETLEASE, F_WRLCK));
  EXPECT_EQ(fcntl(fd_.get(), F_GETLEASE), F_WRLCK);
  ASSERT_OK(fcntl(fd_.get(), F_SETLEASE, F_UNLCK));
  EXPECT_EQ(fcntl(fd_.get(), F_GETLEASE), F_UNLCK);
  EXPECT_FAILS(EAGAIN, fcntl(fd_.get(), F_SETLEASE, F_UNLCK));
}

TEST_F(Lease, ReadersDontBreakAReadLease) {
  ASSERT_OK(fcntl(fd_.get(), F_SETLEASE, F_RDLCK));
  Fd reader(open(path_.c_str(), O_RDONLY | O_NONBLOCK));
  EXPECT_TRUE(reader.ok());
  ASSERT_OK(fcntl(reader.get(), F_SETLEASE, F_RDLCK));
  EXPECT_FALSE(Pending(rt_));
}

TEST_F(Lease, AWriterBreaksIt) {
  ASSERT_OK(fcntl(fd_.get(), F_SETLEASE, F_RDLCK));
  EXPECT_FAILS(EWOULDBLOCK, open(path_.c_str(), O_WRONLY | O_NONBLOCK));
  siginfo_t info = {};
  ASSERT_TRUE(Take(rt_, &info));
  EXPECT_EQ(info.si_fd, fd_.get());
  EXPECT_EQ(fcntl(fd_.get(), F_GETLEASE), F_UNLCK);
  // Told once.
  EXPECT_FAILS(EWOULDBLOCK, open(path_.c_str(), O_RDWR | O_NONBLOCK));
  EXPECT_FALSE(Pending(rt_));
  ASSERT_OK(fcntl(fd_.get(), F_SETLEASE, F_UNLCK));
  Fd writer(open(path_.c_str(), O_WRONLY | O_NONBLOCK));
  EXPECT_TRUE(writer.ok());
}

TEST_F(Lease, AReaderBreaksAWriteLease) {
  ASSERT_OK(fcntl(fd_.get(), F_SETLEASE, F_WRLCK));
  EXPECT_FAILS(EWOULDBLOCK, open(path_.c_str(), O_RDONLY | O_NONBLOCK));
  siginfo_t info = {};
  ASSERT_TRUE(Take(rt_, &info));
  EXPECT_EQ(fcntl(fd_.get(), F_GETLEASE), F_RDLCK);
  // It becomes a read lease.
  ASSERT_OK(fcntl(fd_.get(), F_SETLEASE, F_RDLCK));
  Fd reader(open(path_.c_str(), O_RDONLY | O_NONBLOCK));
  EXPECT_TRUE(reader.ok());
  EXPECT_EQ(fcntl(fd_.get(), F_GETLEASE), F_RDLCK);
}

TEST_F(Lease, TheOpenerWaits) {
  ASSERT_OK(fcntl(fd_.get(), F_SETLEASE, F_RDLCK));
  std::thread opener([&] {
    Fd writer(open(path_.c_str(), O_WRONLY));
    EXPECT_TRUE(writer.ok());
    EXPECT_EQ(write(writer.get(), "CON", 3), 3);
  });
  siginfo_t info = {};
  EXPECT_TRUE(Take(rt_, &info));
  EXPECT_EQ(ReadFile(path_), "content");
  EXPECT_OK(fcntl(fd_.get(), F_SETLEASE, F_UNLCK));
  opener.join();
  EXPECT_EQ(ReadFile(path_), "CONtent");
}

TEST_F(Lease, ClosingGivesItUp) {
  ASSERT_OK(fcntl(fd_.get(), F_SETLEASE, F_WRLCK));
  fd_.reset();
  Fd writer(open(path_.c_str(), O_RDWR | O_NONBLOCK));
  EXPECT_TRUE(writer.ok());
}

TEST_F(Lease, TruncationBreaksIt) {
  ASSERT_OK(fcntl(fd_.get(), F_SETLEASE, F_RDLCK));
  std::thread other([&] { EXPECT_OK(truncate(path_.c_str(), 1)); });
  siginfo_t info = {};
  EXPECT_TRUE(Take(rt_, &info));
  EXPECT_OK(fcntl(fd_.get(), F_SETLEASE, F_UNLCK));
  other.join();
}

// fs.lease-break-time, put back at the end of the scope.
struct ScopedBreakTime {
  explicit ScopedBreakTime(const char* seconds) : before(ReadFile(kPath)) {
    set = access(kPath, W_OK) == 0 && WriteFile(kPath, seconds);
  }
  ~ScopedBreakTime() {
    if (set) WriteFile(kPath, before);
  }
  static constexpr const char* kPath = "/proc/sys/fs/lease-break-time";
  const std::string before;
  bool set;
};

TEST_F(Lease, AHolderThatDoesNothingLosesIt) {
  ScopedBreakTime one_second("1");
  if (!one_second.set) GTEST_SKIP() << one_second.kPath << " is read-only";
  ASSERT_OK(fcntl(fd_.get(), F_SETLEASE, F_RDLCK));
  {
    Fd writer(open(path_.c_str(), O_WRONLY));
    EXPECT_TRUE(writer.ok());
  }
  EXPECT_TRUE(Pending(rt_));
  EXPECT_EQ(fcntl(fd_.get(), F_GETLEASE), F_UNLCK);
  Fd other(open(path_.c_str(), O_RDONLY));
  EXPECT_OK(fcntl(other.get(), F_SETLEASE, F_RDLCK));
  EXPECT_FAILS(EAGAIN, fcntl(fd_.get(), F_SETLEASE, F_UNLCK));
  EXPECT_OK(fcntl(fd_.get(), F_SETLEASE, F_RDLCK));
  EXPECT_EQ(fcntl(fd_.get(), F_GETLEASE), F_RDLCK);
}

void OnAlarm(int) {}

TEST_F(Lease, TheWaitIsInterrupted) {
  ASSERT_OK(fcntl(fd_.get(), F_SETLEASE, F_RDLCK));
  ScopedHandler handler(SIGALRM, OnAlarm);
  ScopedTicks ticks;
  EXPECT_FAILS(EINTR, open(path_.c_str(), O_WRONLY));
}

TEST_F(Lease, Refusals) {
  Fd writer(open(path_.c_str(), O_RDWR));
  EXPECT_FAILS(EAGAIN, fcntl(fd_.get(), F_SETLEASE, F_RDLCK));
  EXPECT_FAILS(EAGAIN, fcntl(fd_.get(), F_SETLEASE, F_WRLCK));
  EXPECT_FAILS(EAGAIN, fcntl(writer.get(), F_SETLEASE, F_RDLCK));
  writer.reset();
  Fd reader(open(path_.c_str(), O_RDONLY));
  EXPECT_FAILS(EAGAIN, fcntl(fd_.get(), F_SETLEASE, F_WRLCK));
  EXPECT_FAILS(EINVAL, fcntl(fd_.get(), F_SETLEASE, 77));
  Pipe p;
  EXPECT_FAILS(EINVAL, fcntl(p.r.get(), F_SETLEASE, F_RDLCK));
  Fd d(open(dir_.path().c_str(), O_RDONLY | O_DIRECTORY));
  EXPECT_FAILS(EBADF, fcntl(9999, F_SETLEASE, F_RDLCK));
  EXPECT_EQ(RunInChild([&] {
              CHILD_CHECK(setresuid(12345, 12345, 12345) == 0);
              CHILD_CHECK(fcntl(fd_.get(), F_SETLEASE, F_RDLCK) == -1 && errno == EACCES);
            }),
            Exited(0));
}

class Dnotify : public Lease {
 protected:
  void SetUp() override {
    fd_.reset(open(dir_.path().c_str(), O_RDONLY | O_DIRECTORY));
    ASSERT_OK(fcntl(fd_.get(), F_SETSIG, rt_));
  }
};

TEST_F(Dnotify, TellsOnce) {
  if (fcntl(fd_.get(), F_NOTIFY, DN_CREATE) != 0) GTEST_SKIP() << "a kernel without CONFIG_DNOTIFY";
  ASSERT_TRUE(WriteFile(dir_ / "a", ""));
  siginfo_t info = {};
  ASSERT_TRUE(Take(rt_, &info));
  EXPECT_EQ(info.si_fd, fd_.get());
  ASSERT_TRUE(WriteFile(dir_ / "b", ""));
  // A watch that is still there shows that the first has gone.
  ASSERT_OK(fcntl(fd_.get(), F_NOTIFY, DN_DELETE | DN_MULTISHOT));
  EXPECT_FALSE(Pending(rt_));
  ASSERT_OK(unlink((dir_ / "a").c_str()));
  ASSERT_TRUE(Take(rt_, &info));
  ASSERT_OK(unlink((dir_ / "b").c_str()));
  ASSERT_TRUE(Take(rt_, &info));
}

TEST_F(Dnotify, KindsOfEvents) {
  if (fcntl(fd_.get(), F_NOTIFY, DN_RENAME) != 0) GTEST_SKIP() << "a kernel without CONFIG_DNOTIFY";
  ASSERT_TRUE(WriteFile(dir_ / "a", "x"));
  EXPECT_FALSE(Pending(rt_));
  ASSERT_OK(rename((dir_ / "a").c_str(), (dir_ / "b").c_str()));
  siginfo_t info = {};
  ASSERT_TRUE(Take(rt_, &info));
  ASSERT_OK(fcntl(fd_.get(), F_NOTIFY, DN_ATTRIB));
  ASSERT_OK(chmod((dir_ / "b").c_str(), 0600));
  ASSERT_TRUE(Take(rt_, &info));
  ASSERT_OK(fcntl(fd_.get(), F_NOTIFY, DN_MODIFY | DN_MULTISHOT));
  ASSERT_OK(fcntl(fd_.get(), F_NOTIFY, 0));
  ASSERT_TRUE(WriteFile(dir_ / "b", "y"));
  EXPECT_FALSE(Pending(rt_));
  Fd f(open((dir_ / "b").c_str(), O_RDONLY));
  EXPECT_FAILS(ENOTDIR, fcntl(f.get(), F_NOTIFY, DN_CREATE));
}

struct Handle {
  explicit Handle(unsigned bytes = MAX_HANDLE_SZ) { h()->handle_bytes = bytes; }
  file_handle* h() { return reinterpret_cast<file_handle*>(memory); }
  bool operator==(Handle& o) {
    return h()->handle_bytes == o.h()->handle_bytes && h()->handle_type == o.h()->handle_type &&
           memcmp(h()->f_handle, o.h()->f_handle, h()->handle_bytes) == 0;
  }
  alignas(file_handle) char memory[sizeof(file_handle) + MAX_HANDLE_SZ] = {};
};

class HandleTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(WriteFile(dir_ / "f", "content"));
    mount_.reset(open(dir_.path().c_str(), O_RDONLY | O_DIRECTORY));
    Handle h;
    int id;
    if (name_to_handle_at(AT_FDCWD, (dir_ / "f").c_str(), h.h(), &id, 0) != 0 && errno == EOPNOTSUPP)
      GTEST_SKIP() << "/tmp has no file handles";
  }
  TempDir dir_;
  Fd mount_;
};

TEST_F(HandleTest, NamesAndOpens) {
  Handle h, again, other;
  int id = -1, id2 = -2;
  ASSERT_OK(name_to_handle_at(AT_FDCWD, (dir_ / "f").c_str(), h.h(), &id, 0));
  EXPECT_LE(h.h()->handle_bytes, unsigned{MAX_HANDLE_SZ});
  ASSERT_OK(rename((dir_ / "f").c_str(), (dir_ / "g").c_str()));
  Fd g(open((dir_ / "g").c_str(), O_PATH));
  ASSERT_OK(name_to_handle_at(g.get(), "", again.h(), &id2, AT_EMPTY_PATH));
  EXPECT_TRUE(h == again);
  EXPECT_EQ(id, id2);
  ASSERT_OK(name_to_handle_at(mount_.get(), ".", other.h(), &id2, 0));
  EXPECT_FALSE(h == other);
  EXPECT_NE(ReadFile("/proc/self/mountinfo").find(std::to_string(id) + " "), std::string::npos);

  Fd f(open_by_handle_at(mount_.get(), h.h(), O_RDWR));
  ASSERT_TRUE(f.ok()) << strerror(errno);
  char buffer[16] = {};
  EXPECT_EQ(read(f.get(), buffer, 15), 7);
  EXPECT_STREQ(buffer, "content");
  Fd d(open_by_handle_at(mount_.get(), other.h(), O_RDONLY | O_DIRECTORY));
  ASSERT_TRUE(d.ok()) << strerror(errno);
  EXPECT_OK(faccessat(d.get(), "g", F_OK, 0));
}

TEST_F(HandleTest, DeletedFilesAreStale) {
  Handle h;
  int id;
  ASSERT_OK(name_to_handle_at(AT_FDCWD, (dir_ / "f").c_str(), h.h(), &id, 0));
  ASSERT_OK(unlink((dir_ / "f").c_str()));
  EXPECT_FAILS(ESTALE, open_by_handle_at(mount_.get(), h.h(), O_RDONLY));
}

TEST_F(HandleTest, DeletedFilesLeaveNoDataBehind) {
  const std::string on = dir_ / "m";
  ASSERT_OK(mkdir(on.c_str(), 0755));
  ASSERT_OK(unshare(CLONE_NEWNS));
  ASSERT_OK(mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr));
  ASSERT_OK(mount("handles", on.c_str(), "tmpfs", 0, "size=1m"));
  for (bool replaced : {false, true}) {
    struct statfs before, after;
    ASSERT_OK(statfs(on.c_str(), &before));
    const std::string file = on + "/f", other = on + "/g";
    ASSERT_TRUE(WriteFile(file, std::string(768 << 10, 'x')));
    Handle h;
    int id;
    ASSERT_OK(name_to_handle_at(AT_FDCWD, file.c_str(), h.h(), &id, 0));
    if (replaced) {
      ASSERT_TRUE(WriteFile(other, ""));
      ASSERT_OK(rename(other.c_str(), file.c_str()));
    }
    ASSERT_OK(unlink(file.c_str()));
    ASSERT_OK(statfs(on.c_str(), &after));
    EXPECT_EQ(after.f_bfree, before.f_bfree);
  }
  EXPECT_OK(umount(on.c_str()));
}

TEST_F(HandleTest, Errors) {
  Handle h(0);
  int id;
  const std::string path = dir_ / "f";
  EXPECT_FAILS(EOVERFLOW, name_to_handle_at(AT_FDCWD, path.c_str(), h.h(), &id, 0));
  EXPECT_GT(h.h()->handle_bytes, 0u);
  EXPECT_OK(name_to_handle_at(AT_FDCWD, path.c_str(), h.h(), &id, 0));
  Handle big(MAX_HANDLE_SZ + 1);
  EXPECT_FAILS(EINVAL, name_to_handle_at(AT_FDCWD, path.c_str(), big.h(), &id, 0));
  EXPECT_FAILS(EINVAL, name_to_handle_at(AT_FDCWD, path.c_str(), h.h(), &id, 0x40000000));
  EXPECT_FAILS(ENOENT, name_to_handle_at(AT_FDCWD, "/nonexistent", h.h(), &id, 0));
  EXPECT_FAILS(EFAULT, name_to_handle_at(AT_FDCWD, path.c_str(), h.h(), reinterpret_cast<int*>(8), 0));
  EXPECT_FAILS(EFAULT, name_to_handle_at(AT_FDCWD, path.c_str(), reinterpret_cast<file_handle*>(8), &id, 0));
  EXPECT_FAILS(EBADF, open_by_handle_at(9999, h.h(), O_RDONLY));
  EXPECT_FAILS(EFAULT, open_by_handle_at(mount_.get(), reinterpret_cast<file_handle*>(8), O_RDONLY));
  Handle empty(0);
  EXPECT_FAILS(EINVAL, open_by_handle_at(mount_.get(), empty.h(), O_RDONLY));
  EXPECT_FAILS(EINVAL, open_by_handle_at(mount_.get(), big.h(), O_RDONLY));
  EXPECT_EQ(RunInChild([&] {
              CHILD_CHECK(setresuid(12345, 12345, 12345) == 0);
              CHILD_CHECK(open_by_handle_at(mount_.get(), h.h(), O_RDONLY) == -1 && errno == EPERM);
            }),
            Exited(0));
}

TEST_F(Lease, ExecutingBreaksAWriteLease) {
  const std::string program = dir_ / "program";
  ASSERT_TRUE(WriteFile(program, "#!/bin/sh\nexit 7\n", 0755));
  ASSERT_OK(chmod(program.c_str(), 0755));
  Fd held(open(program.c_str(), O_RDONLY));
  ASSERT_OK(fcntl(held.get(), F_SETSIG, rt_));
  ASSERT_OK(fcntl(held.get(), F_SETLEASE, F_WRLCK));
  Child child([&] {
    execl(program.c_str(), program.c_str(), nullptr);
    _exit(1);
  });
  siginfo_t info;
  ASSERT_TRUE(Take(rt_, &info));
  EXPECT_EQ(fcntl(held.get(), F_GETLEASE), F_RDLCK);
  ASSERT_OK(fcntl(held.get(), F_SETLEASE, F_RDLCK));
  EXPECT_EQ(Exited(7), child.Wait());
  EXPECT_FALSE(Pending(rt_));
}

}  // namespace
