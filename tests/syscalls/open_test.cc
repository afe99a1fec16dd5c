// SPDX-License-Identifier: Apache-2.0
// open and friends, descriptors and their flags, positioned and vectored I/O, seeking, sizes, copying between files.
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "tests/syscalls/util.h"

namespace {

class OpenTest : public testing::Test {
 protected:
  std::string P(const std::string& name) { return dir_ / name; }
  int Open(const std::string& name, int flags, int mode = 0644) { return open(P(name).c_str(), flags, mode); }
  Fd New(const std::string& name, const std::string& content = "") {
    Fd fd(Open(name, O_RDWR | O_CREAT));
    EXPECT_EQ(static_cast<ssize_t>(content.size()), pwrite(fd.get(), content.data(), content.size(), 0));
    return fd;
  }
  long Openat2(int at, const std::string& path, uint64_t flags, uint64_t resolve) {
    open_how how = {};
    how.flags = flags;
    how.resolve = resolve;
    return syscall(SYS_openat2, at, path.c_str(), &how, sizeof how);
  }
  TempDir dir_;
};

TEST_F(OpenTest, CreateAndExclusive) {
  EXPECT_FAILS(ENOENT, Open("f", O_RDWR));
  Fd fd(Open("f", O_RDWR | O_CREAT | O_EXCL));
  ASSERT_TRUE(fd.ok());
  EXPECT_FAILS(EEXIST, Open("f", O_RDWR | O_CREAT | O_EXCL));
  ASSERT_OK(symlink("nowhere", P("dangling").c_str()));
  EXPECT_FAILS(EEXIST, Open("dangling", O_RDWR | O_CREAT | O_EXCL));
}

TEST_F(OpenTest, CreateThroughADanglingSymlink) {
  ASSERT_OK(symlink("target", P("l").c_str()));
  Fd fd(Open("l", O_WRONLY | O_CREAT));
  EXPECT_TRUE(fd.ok());
  EXPECT_OK(access(P("target").c_str(), F_OK));
}

TEST_F(OpenTest, UmaskApplies) {
  mode_t old = umask(027);
  Fd fd(Open("f", O_RDWR | O_CREAT, 0666));
  umask(old);
  struct stat st;
  ASSERT_OK(fstat(fd.get(), &st));
  EXPECT_EQ(S_IFREG | 0640u, st.st_mode);
}

TEST_F(OpenTest, Truncate) {
  New("f", "content");
  Fd fd(Open("f", O_WRONLY | O_TRUNC));
  struct stat st;
  ASSERT_OK(fstat(fd.get(), &st));
  EXPECT_EQ(0, st.st_size);
}

TEST_F(OpenTest, AccessModeIsEnforced) {
  New("f", "x");
  Fd ro(Open("f", O_RDONLY)), wo(Open("f", O_WRONLY));
  char c;
  EXPECT_FAILS(EBADF, write(ro.get(), "x", 1));
  EXPECT_FAILS(EBADF, read(wo.get(), &c, 1));
  EXPECT_FAILS(EINVAL, ftruncate(ro.get(), 0));
}

TEST_F(OpenTest, Directories) {
  EXPECT_FAILS(EISDIR, open(dir_.path().c_str(), O_RDWR));
  EXPECT_FAILS(EISDIR, open(dir_.path().c_str(), O_RDONLY | O_CREAT, 0600));
  New("f");
  EXPECT_FAILS(ENOTDIR, Open("f", O_RDONLY | O_DIRECTORY));
  EXPECT_FAILS(ENOTDIR, Open("f/", O_RDONLY));
  EXPECT_FAILS(ENOTDIR, Open("f/x", O_RDONLY));
  Fd d(open(dir_.path().c_str(), O_RDONLY));
  char c;
  EXPECT_FAILS(EISDIR, read(d.get(), &c, 1));
}

TEST_F(OpenTest, Nofollow) {
  New("f");
  ASSERT_OK(symlink("f", P("l").c_str()));
  EXPECT_FAILS(ELOOP, Open("l", O_RDONLY | O_NOFOLLOW));
  Fd path(Open("l", O_PATH | O_NOFOLLOW));
  struct stat st;
  ASSERT_OK(fstat(path.get(), &st));
  EXPECT_TRUE(S_ISLNK(st.st_mode));
  char buf[8];
  EXPECT_EQ(1, readlinkat(path.get(), "", buf, sizeof buf));
}

// open(2) and memfd_create(2) add O_LARGEFILE on x86-64; what else makes descriptors does not.
TEST_F(OpenTest, FlagsAreThoseOfTheOpen) {
  constexpr int kLargeFile = 0100000;
  New("f");
  Fd file(Open("f", O_RDWR | O_APPEND | O_CLOEXEC | O_CREAT | O_TRUNC | O_NOCTTY));
  EXPECT_EQ(O_RDWR | O_APPEND | kLargeFile, fcntl(file.get(), F_GETFL));
  Fd directory(open("/", O_RDONLY | O_DIRECTORY | O_NONBLOCK));
  EXPECT_EQ(O_DIRECTORY | O_NONBLOCK | kLargeFile, fcntl(directory.get(), F_GETFL));
  Fd path(Open("f", O_PATH));
  EXPECT_EQ(O_PATH, fcntl(path.get(), F_GETFL));
  Fd memory(memfd_create("m", 0));
  EXPECT_EQ(O_RDWR | kLargeFile, fcntl(memory.get(), F_GETFL));
  Pipe pipe(O_NONBLOCK | O_CLOEXEC);
  EXPECT_EQ(O_NONBLOCK, fcntl(pipe.r.get(), F_GETFL));
  EXPECT_EQ(O_WRONLY | O_NONBLOCK, fcntl(pipe.w.get(), F_GETFL));
  Fd event(eventfd(0, EFD_NONBLOCK));
  EXPECT_EQ(O_RDWR | O_NONBLOCK, fcntl(event.get(), F_GETFL));
  Fd socket_fd(socket(AF_UNIX, SOCK_STREAM, 0));
  EXPECT_EQ(O_RDWR, fcntl(socket_fd.get(), F_GETFL));
  Fd epoll(epoll_create1(EPOLL_CLOEXEC));
  EXPECT_EQ(O_RDWR, fcntl(epoll.get(), F_GETFL));
}

TEST_F(OpenTest, PathDescriptorOnlyNames) {
  New("f", "abc");
  Fd fd(Open("f", O_PATH));
  char c;
  EXPECT_FAILS(EBADF, read(fd.get(), &c, 1));
  EXPECT_FAILS(EBADF, fchmod(fd.get(), 0600));
  EXPECT_FAILS(EBADF, lseek(fd.get(), 0, SEEK_SET));
  struct stat st;
  EXPECT_OK(fstat(fd.get(), &st));
  EXPECT_TRUE(fcntl(fd.get(), F_GETFL) & O_PATH);
  Fd again(open(("/proc/self/fd/" + std::to_string(fd.get())).c_str(), O_RDONLY));
  EXPECT_EQ(1, read(again.get(), &c, 1));
}

TEST_F(OpenTest, OpenatIsRelativeToTheDirectory) {
  ASSERT_OK(mkdir(P("d").c_str(), 0755));
  New("d/f", "x");
  Fd d(Open("d", O_RDONLY | O_DIRECTORY));
  EXPECT_TRUE(Fd(openat(d.get(), "f", O_RDONLY)).ok());
  EXPECT_FAILS(EBADF, openat(9999, "f", O_RDONLY));
  EXPECT_TRUE(Fd(openat(9999, "/tmp", O_RDONLY)).ok()) << "absolute paths ignore the descriptor";
  Fd f(Open("d/f", O_RDONLY));
  EXPECT_FAILS(ENOTDIR, openat(f.get(), "x", O_RDONLY));
  ASSERT_OK(rename(P("d").c_str(), P("e").c_str()));
  EXPECT_TRUE(Fd(openat(d.get(), "f", O_RDONLY)).ok());
}

TEST_F(OpenTest, AppendWritesAtTheEnd) {
  New("f", "abc");
  Fd fd(Open("f", O_RDWR | O_APPEND));
  ASSERT_OK(lseek(fd.get(), 0, SEEK_SET));
  ASSERT_EQ(1, write(fd.get(), "d", 1));
  EXPECT_EQ(4, lseek(fd.get(), 0, SEEK_CUR));
  // Linux appends even at a given offset (pwrite(2), BUGS).
  ASSERT_EQ(1, pwrite(fd.get(), "e", 1, 0));
  EXPECT_EQ("abcde", ReadFile(P("f")));
}

TEST_F(OpenTest, TmpfileCanBeLinkedIn) {
  Fd fd(open(dir_.path().c_str(), O_RDWR | O_TMPFILE, 0600));
  if (!fd.ok() && errno == EOPNOTSUPP) GTEST_SKIP() << "no O_TMPFILE here";
  ASSERT_OK(fd.get());
  ASSERT_EQ(3, write(fd.get(), "tmp", 3));
  struct stat st;
  ASSERT_OK(fstat(fd.get(), &st));
  EXPECT_EQ(0u, st.st_nlink);
  ASSERT_OK(linkat(AT_FDCWD, ("/proc/self/fd/" + std::to_string(fd.get())).c_str(), AT_FDCWD, P("f").c_str(),
                   AT_SYMLINK_FOLLOW));
  EXPECT_EQ("tmp", ReadFile(P("f")));
}

TEST_F(OpenTest, Openat2Resolve) {
  ASSERT_OK(mkdir(P("d").c_str(), 0755));
  New("d/f");
  New("out");
  ASSERT_OK(symlink("f", P("d/link").c_str()));
  ASSERT_OK(symlink("/out", P("d/abs").c_str()));
  Fd d(Open("d", O_PATH));
  EXPECT_TRUE(Fd(Openat2(d.get(), "link", O_RDONLY, RESOLVE_BENEATH)).ok());
  EXPECT_FAILS(EXDEV, Openat2(d.get(), "../out", O_RDONLY, RESOLVE_BENEATH));
  EXPECT_FAILS(EXDEV, Openat2(d.get(), "/tmp", O_RDONLY, RESOLVE_BENEATH));
  EXPECT_FAILS(ELOOP, Openat2(d.get(), "link", O_RDONLY, RESOLVE_NO_SYMLINKS));
  EXPECT_TRUE(Fd(Openat2(d.get(), "../../../f", O_RDONLY, RESOLVE_IN_ROOT)).ok());
  EXPECT_FAILS(ENOENT, Openat2(d.get(), "abs", O_RDONLY, RESOLVE_IN_ROOT));
  EXPECT_FAILS(ELOOP, Openat2(AT_FDCWD, "/proc/self/exe", O_RDONLY, RESOLVE_NO_MAGICLINKS));
  EXPECT_FAILS(EXDEV, Openat2(AT_FDCWD, "/proc/self", O_RDONLY | O_DIRECTORY, RESOLVE_NO_XDEV));
  EXPECT_FAILS(EINVAL, Openat2(d.get(), "f", O_RDONLY, 1 << 20));
  EXPECT_FAILS(EINVAL, Openat2(d.get(), "f", 1ul << 40, 0));
}

TEST_F(OpenTest, LowestFreeDescriptor) {
  Fd a(open("/dev/null", O_RDONLY)), b(open("/dev/null", O_RDONLY));
  int low = a.get();
  a.reset();
  Fd c(open("/dev/null", O_RDONLY));
  EXPECT_EQ(low, c.get());
}

TEST_F(OpenTest, DupSharesTheDescription) {
  Fd a = New("f", "abcdef");
  Fd b(dup(a.get()));
  ASSERT_OK(lseek(a.get(), 3, SEEK_SET));
  EXPECT_EQ(3, lseek(b.get(), 0, SEEK_CUR));
  ASSERT_OK(fcntl(a.get(), F_SETFL, O_APPEND));
  EXPECT_TRUE(fcntl(b.get(), F_GETFL) & O_APPEND);
  ASSERT_OK(fcntl(a.get(), F_SETFD, FD_CLOEXEC));
  EXPECT_EQ(0, fcntl(b.get(), F_GETFD)) << "descriptor flags are not shared";
}

TEST_F(OpenTest, Dup2AndDup3) {
  Fd a = New("f");
  EXPECT_EQ(a.get(), dup2(a.get(), a.get()));
  EXPECT_FAILS(EINVAL, dup3(a.get(), a.get(), 0));
  EXPECT_FAILS(EINVAL, dup3(a.get(), 500, 1));
  EXPECT_FAILS(EBADF, dup2(a.get(), -1));
  EXPECT_FAILS(EBADF, dup2(9999, 5));
  Fd b(dup3(a.get(), 200, O_CLOEXEC));
  EXPECT_EQ(200, b.get());
  EXPECT_EQ(FD_CLOEXEC, fcntl(200, F_GETFD));
  Fd c(fcntl(a.get(), F_DUPFD, 200));
  EXPECT_EQ(201, c.get());
  Fd d(fcntl(a.get(), F_DUPFD_CLOEXEC, 100));
  EXPECT_EQ(FD_CLOEXEC, fcntl(d.get(), F_GETFD));
}

TEST_F(OpenTest, NofileLimit) {
  EXPECT_EQ(Exited(0), RunInChild([] {
              rlimit rl = {20, 20};
              CHILD_CHECK(setrlimit(RLIMIT_NOFILE, &rl) == 0);
              int fd, last = -1;
              while ((fd = open("/dev/null", O_RDONLY)) >= 0) last = fd;
              CHILD_CHECK(errno == EMFILE && last == 19);
              CHILD_CHECK(dup2(0, 20) == -1 && errno == EBADF);
              CHILD_CHECK(fcntl(0, F_DUPFD, 20) == -1 && errno == EINVAL);
              int p[2];
              CHILD_CHECK(pipe(p) == -1 && errno == EMFILE);
            }));
}

TEST_F(OpenTest, CloseRange) {
  EXPECT_EQ(Exited(0), RunInChild([] {
              for (int fd = 100; fd < 110; ++fd) CHILD_CHECK(dup2(0, fd) == fd);
              CHILD_CHECK(syscall(SYS_close_range, 102, 105, 0) == 0);
              CHILD_CHECK(fcntl(101, F_GETFD) == 0 && fcntl(106, F_GETFD) == 0);
              CHILD_CHECK(fcntl(102, F_GETFD) == -1 && fcntl(105, F_GETFD) == -1);
              CHILD_CHECK(syscall(SYS_close_range, 106, ~0u, 4 /* CLOSE_RANGE_CLOEXEC */) == 0);
              CHILD_CHECK(fcntl(108, F_GETFD) == FD_CLOEXEC);
              CHILD_CHECK(syscall(SYS_close_range, 5, 4, 0) == -1 && errno == EINVAL);
            }));
}

TEST_F(OpenTest, CloseTwiceIsEBADF) {
  int fd = open("/dev/null", O_RDONLY);
  EXPECT_OK(close(fd));
  EXPECT_FAILS(EBADF, close(fd));
  EXPECT_FAILS(EBADF, close(-1));
}

TEST_F(OpenTest, PositionedIoLeavesTheOffset) {
  Fd fd = New("f", "abcdef");
  char buf[3] = {};
  EXPECT_EQ(2, pread(fd.get(), buf, 2, 2));
  EXPECT_STREQ("cd", buf);
  EXPECT_EQ(0, lseek(fd.get(), 0, SEEK_CUR));
  EXPECT_EQ(0, pread(fd.get(), buf, 2, 100));
  EXPECT_FAILS(EINVAL, pread(fd.get(), buf, 2, -1));
  Pipe p;
  EXPECT_FAILS(ESPIPE, pread(p.r.get(), buf, 1, 0));
  EXPECT_FAILS(ESPIPE, lseek(p.r.get(), 0, SEEK_CUR));
}

TEST_F(OpenTest, VectoredIo) {
  Fd fd = New("f");
  char a[] = "one", b[] = "three", out[8] = {}, out2[8] = {};
  iovec w[] = {{a, 3}, {nullptr, 0}, {b, 5}};
  EXPECT_EQ(8, writev(fd.get(), w, 3));
  iovec r[] = {{out, 4}, {out2, 7}};
  EXPECT_EQ(8, preadv(fd.get(), r, 2, 0));
  EXPECT_STREQ("onet", out);
  EXPECT_STREQ("hree", out2);
  EXPECT_EQ(0, readv(fd.get(), r, 2));
  EXPECT_EQ(3, pwritev(fd.get(), w, 1, 8));
  EXPECT_EQ("onethreeone", ReadFile(P("f")));
  EXPECT_FAILS(EINVAL, syscall(SYS_readv, fd.get(), r, -1));
  EXPECT_FAILS(EINVAL, syscall(SYS_readv, fd.get(), r, 1025));
  r[0].iov_len = -1;
  EXPECT_FAILS(EINVAL, readv(fd.get(), r, 1));
}

TEST_F(OpenTest, Preadv2UsesTheFileOffsetForMinusOne) {
  Fd fd = New("f", "abcdef");
  char c;
  iovec v = {&c, 1};
  ASSERT_OK(lseek(fd.get(), 4, SEEK_SET));
  EXPECT_EQ(1, preadv2(fd.get(), &v, 1, -1, 0));
  EXPECT_EQ('e', c);
  EXPECT_EQ(5, lseek(fd.get(), 0, SEEK_CUR));
  EXPECT_EQ(1, pwritev2(fd.get(), &v, 1, 0, RWF_APPEND));
  EXPECT_EQ("abcdefe", ReadFile(P("f")));
}

TEST_F(OpenTest, SeekBeyondTheEndMakesAHole) {
  Fd fd = New("f", "abc");
  EXPECT_EQ(100000, lseek(fd.get(), 100000, SEEK_SET));
  EXPECT_EQ(1, write(fd.get(), "z", 1));
  char buf[10];
  EXPECT_EQ(10, pread(fd.get(), buf, 10, 50000));
  EXPECT_EQ(std::string(10, '\0'), std::string(buf, 10));
  EXPECT_EQ(100001, lseek(fd.get(), 0, SEEK_END));
  EXPECT_FAILS(EINVAL, lseek(fd.get(), -1, SEEK_SET));
  EXPECT_FAILS(EINVAL, lseek(fd.get(), 0, 99));
}

TEST_F(OpenTest, SeekDataAndHole) {
  Fd fd = New("f", "data");
  ASSERT_OK(ftruncate(fd.get(), 1 << 20));
  EXPECT_EQ(0, lseek(fd.get(), 0, SEEK_DATA));
  off_t hole = lseek(fd.get(), 0, SEEK_HOLE);
  EXPECT_TRUE(hole >= 4 && hole <= 1 << 20) << hole;
  EXPECT_FAILS(ENXIO, lseek(fd.get(), 2 << 20, SEEK_DATA));
  EXPECT_FAILS(ENXIO, lseek(fd.get(), 2 << 20, SEEK_HOLE));
}

TEST_F(OpenTest, TruncateGrowsWithZeroes) {
  Fd fd = New("f", "abcdef");
  ASSERT_OK(ftruncate(fd.get(), 2));
  ASSERT_OK(ftruncate(fd.get(), 4));
  EXPECT_EQ(std::string("ab\0\0", 4), ReadFile(P("f")));
  ASSERT_OK(truncate(P("f").c_str(), 1));
  EXPECT_EQ("a", ReadFile(P("f")));
  EXPECT_FAILS(EINVAL, ftruncate(fd.get(), -1));
  EXPECT_FAILS(EISDIR, truncate(dir_.path().c_str(), 0));
}

TEST_F(OpenTest, Fallocate) {
  Fd fd = New("f", "abcdefgh");
  ASSERT_OK(fallocate(fd.get(), 0, 0, 8192));
  struct stat st;
  ASSERT_OK(fstat(fd.get(), &st));
  EXPECT_EQ(8192, st.st_size);
  ASSERT_OK(fallocate(fd.get(), FALLOC_FL_KEEP_SIZE, 0, 100000));
  ASSERT_OK(fstat(fd.get(), &st));
  EXPECT_EQ(8192, st.st_size);
  ASSERT_OK(fallocate(fd.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 2, 3));
  char buf[9] = {};
  EXPECT_EQ(8, pread(fd.get(), buf, 8, 0));
  EXPECT_EQ(std::string("ab\0\0\0fgh", 8), std::string(buf, 8));
  EXPECT_FAILS(EINVAL, fallocate(fd.get(), 0, 0, 0));
}

TEST_F(OpenTest, CopyFileRange) {
  Fd in = New("in", "0123456789"), out = New("out");
  off_t from = 2, to = 1;
  EXPECT_EQ(5, copy_file_range(in.get(), &from, out.get(), &to, 5, 0));
  EXPECT_EQ(7, from);
  EXPECT_EQ(6, to);
  EXPECT_EQ(std::string("\00023456", 6), ReadFile(P("out")));
  EXPECT_EQ(0, copy_file_range(in.get(), nullptr, in.get(), nullptr, 0, 0));
  Pipe p;
  EXPECT_FAILS(EINVAL, copy_file_range(in.get(), nullptr, p.w.get(), nullptr, 1, 0));
}

TEST_F(OpenTest, Sendfile) {
  Fd in = New("in", "0123456789"), out = New("out");
  off_t off = 4;
  EXPECT_EQ(6, sendfile(out.get(), in.get(), &off, 100));
  EXPECT_EQ(10, off);
  EXPECT_EQ(0, lseek(in.get(), 0, SEEK_CUR));
  EXPECT_EQ(3, sendfile(out.get(), in.get(), nullptr, 3));
  EXPECT_EQ(3, lseek(in.get(), 0, SEEK_CUR));
  EXPECT_EQ("456789012", ReadFile(P("out")));
}

TEST_F(OpenTest, SpliceAndTee) {
  Fd in = New("in", "splice"), out = New("out");
  Pipe a, b;
  EXPECT_EQ(6, splice(in.get(), nullptr, a.w.get(), nullptr, 100, 0));
  EXPECT_EQ(6, tee(a.r.get(), b.w.get(), 100, 0));
  off_t off = 2;
  EXPECT_EQ(6, splice(a.r.get(), nullptr, out.get(), &off, 100, 0));
  EXPECT_EQ(std::string("\0\0splice", 8), ReadFile(P("out")));
  char buf[6];
  EXPECT_EQ(6, read(b.r.get(), buf, 6));
  EXPECT_FAILS(EINVAL, splice(in.get(), nullptr, out.get(), nullptr, 1, 0));
  EXPECT_FAILS(EAGAIN, splice(a.r.get(), nullptr, b.w.get(), nullptr, 1, SPLICE_F_NONBLOCK));
}

TEST_F(OpenTest, UnlinkedFileLivesOn) {
  Fd fd = New("f", "alive");
  ASSERT_OK(unlink(P("f").c_str()));
  char buf[6] = {};
  EXPECT_EQ(5, pread(fd.get(), buf, 5, 0));
  EXPECT_STREQ("alive", buf);
  struct stat st;
  ASSERT_OK(fstat(fd.get(), &st));
  EXPECT_EQ(0u, st.st_nlink);
  char link[512] = {};
  ASSERT_OK(readlink(("/proc/self/fd/" + std::to_string(fd.get())).c_str(), link, sizeof link - 1));
  EXPECT_EQ(P("f") + " (deleted)", link);
}

}  // namespace
