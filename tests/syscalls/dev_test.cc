// SPDX-License-Identifier: Apache-2.0
// The devices every program expects in /dev.
#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <termios.h>

#include "tests/syscalls/util.h"

namespace {

Fd Dev(const char* name, int flags = O_RDWR) { return Fd(open((std::string("/dev/") + name).c_str(), flags)); }

TEST(Dev, NumbersAndModes) {
  struct {
    const char* path;
    unsigned major, minor;
  } const kDevices[] = {{"/dev/null", 1, 3},   {"/dev/zero", 1, 5},    {"/dev/full", 1, 7},
                        {"/dev/random", 1, 8}, {"/dev/urandom", 1, 9}, {"/dev/tty", 5, 0}};
  for (auto& d : kDevices) {
    struct stat st;
    ASSERT_OK(stat(d.path, &st)) << d.path;
    EXPECT_EQ(S_IFCHR | 0666u, st.st_mode) << d.path;
    EXPECT_EQ(makedev(d.major, d.minor), st.st_rdev) << d.path;
  }
}

TEST(Dev, Null) {
  Fd fd = Dev("null");
  char buf[4] = "abc";
  EXPECT_EQ(0, read(fd.get(), buf, 4));
  EXPECT_EQ(4, write(fd.get(), buf, 4));
  EXPECT_EQ(0, lseek(fd.get(), 100, SEEK_SET));
  pollfd p = {fd.get(), POLLIN | POLLOUT, 0};
  EXPECT_EQ(1, poll(&p, 1, 0));
  EXPECT_EQ(POLLIN | POLLOUT, p.revents);
  EXPECT_TRUE(Dev("null", O_WRONLY | O_TRUNC | O_CREAT).ok());
}

TEST(Dev, Zero) {
  Fd fd = Dev("zero");
  std::string buf(100000, 'x');
  EXPECT_EQ(100000, read(fd.get(), buf.data(), buf.size()));
  EXPECT_EQ(std::string(100000, '\0'), buf);
  EXPECT_EQ(5, write(fd.get(), "abcde", 5));
}

TEST(Dev, Full) {
  Fd fd = Dev("full");
  char c = 'x';
  EXPECT_EQ(1, read(fd.get(), &c, 1));
  EXPECT_EQ(0, c);
  EXPECT_FAILS(ENOSPC, write(fd.get(), "x", 1));
}

TEST(Dev, RandomDiffersEachTime) {
  for (const char* name : {"random", "urandom"}) {
    Fd fd = Dev(name);
    char a[32] = {}, b[32] = {};
    EXPECT_EQ(32, read(fd.get(), a, 32));
    EXPECT_EQ(32, read(fd.get(), b, 32));
    EXPECT_NE(0, memcmp(a, b, 32)) << name;
    EXPECT_EQ(4, write(fd.get(), "seed", 4)) << name;
  }
}

TEST(Dev, TtyWithoutControllingTerminal) {
  EXPECT_EQ(Exited(0), RunInChild([] {
              CHILD_CHECK(setsid() > 0);
              CHILD_CHECK(open("/dev/tty", O_RDWR) == -1 && errno == ENXIO);
            }));
}

TEST(Dev, PtmxGivesFreshTerminals) {
  Fd a = Dev("ptmx", O_RDWR | O_NOCTTY), b = Dev("ptmx", O_RDWR | O_NOCTTY);
  unsigned na = 0, nb = 0;
  ASSERT_OK(ioctl(a.get(), TIOCGPTN, &na));
  ASSERT_OK(ioctl(b.get(), TIOCGPTN, &nb));
  EXPECT_NE(na, nb);
  EXPECT_OK(access(("/dev/pts/" + std::to_string(na)).c_str(), F_OK));
  a.reset();
  EXPECT_FAILS(ENOENT, access(("/dev/pts/" + std::to_string(na)).c_str(), F_OK));
}

TEST(Dev, ShmHoldsPosixSharedMemory) {
  std::string name = "/systest-" + std::to_string(getpid());
  Fd fd(shm_open(name.c_str(), O_RDWR | O_CREAT | O_EXCL, 0600));
  ASSERT_OK(fd.get());
  ASSERT_OK(ftruncate(fd.get(), 4096));
  auto* p = static_cast<char*>(mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0));
  ASSERT_NE(MAP_FAILED, p);
  EXPECT_EQ(Exited(0), RunInChild([&] {
              Fd again(shm_open(name.c_str(), O_RDWR, 0));
              CHILD_CHECK(again.ok() && pwrite(again.get(), "shm", 3, 0) == 3);
            }));
  EXPECT_EQ(0, memcmp(p, "shm", 3));
  munmap(p, 4096);
  EXPECT_OK(shm_unlink(name.c_str()));
  EXPECT_FAILS(ENOENT, shm_open(name.c_str(), O_RDWR, 0));
}

TEST(Dev, FdAndStdLinks) {
  Fd fd = Dev("null");
  struct stat st;
  ASSERT_OK(stat(("/dev/fd/" + std::to_string(fd.get())).c_str(), &st));
  EXPECT_EQ(makedev(1, 3), st.st_rdev);
  EXPECT_OK(lstat("/dev/stdin", &st));
  EXPECT_TRUE(S_ISLNK(st.st_mode));
}

}  // namespace
