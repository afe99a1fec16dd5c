// SPDX-License-Identifier: Apache-2.0
// The flags of preadv2(2) and pwritev2(2), openat2(2) and close_range(2), one by one.
#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/openat2.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include <string>
#include <thread>
#include <vector>

#include "tests/syscalls/util.h"

namespace {

constexpr int kUnknownRwf = 1 << 30;

ssize_t Read2(int fd, size_t length, off_t offset, int flags, std::string* out = nullptr) {
  std::string buffer(length, '\0');
  iovec v = {buffer.data(), buffer.size()};
  const ssize_t n = preadv2(fd, &v, 1, offset, flags);
  if (out && n >= 0) *out = buffer.substr(0, n);
  return n;
}
ssize_t Write2(int fd, std::string text, off_t offset, int flags) {
  iovec v = {text.data(), text.size()};
  return pwritev2(fd, &v, 1, offset, flags);
}
off_t Position(int fd) { return lseek(fd, 0, SEEK_CUR); }

class Rwf : public testing::Test {
 protected:
  TempDir dir_;
  std::string path_ = dir_ / "f";
  Fd fd_{open(path_.c_str(), O_RDWR | O_CREAT, 0600)};
};

TEST_F(Rwf, WithoutFlagsAnOffsetLeavesThePositionAndMinusOneMovesIt) {
  ASSERT_EQ(6, Write2(fd_.get(), "abcdef", -1, 0));
  EXPECT_EQ(6, Position(fd_.get()));
  EXPECT_EQ(2, Write2(fd_.get(), "XY", 1, 0));
  EXPECT_EQ(6, Position(fd_.get()));
  std::string got;
  EXPECT_EQ(3, Read2(fd_.get(), 3, 0, 0, &got));
  EXPECT_EQ("aXY", got);
  EXPECT_EQ(6, Position(fd_.get()));
  ASSERT_OK(lseek(fd_.get(), 4, SEEK_SET));
  EXPECT_EQ(2, Read2(fd_.get(), 9, -1, 0, &got));
  EXPECT_EQ("ef", got);
  EXPECT_EQ(6, Position(fd_.get()));
  EXPECT_FAILS(EINVAL, Read2(fd_.get(), 1, -2, 0));
  EXPECT_FAILS(EINVAL, Write2(fd_.get(), "x", -2, 0));
}

TEST_F(Rwf, AppendGoesToTheEndWhateverTheOffset) {
  ASSERT_EQ(3, Write2(fd_.get(), "abc", 0, 0));
  ASSERT_EQ(0, Position(fd_.get()));
  EXPECT_EQ(1, Write2(fd_.get(), "d", 0, RWF_APPEND));
  EXPECT_EQ(0, Position(fd_.get()));
  EXPECT_EQ(1, Write2(fd_.get(), "e", -1, RWF_APPEND));
  EXPECT_EQ(5, Position(fd_.get())) << "behind what was written";
  EXPECT_EQ("abcde", ReadFile(path_));
  EXPECT_EQ(0, fcntl(fd_.get(), F_GETFL) & O_APPEND) << "of the one call";
  Pipe pipe;
  EXPECT_EQ(1, Write2(pipe.w.get(), "p", -1, RWF_APPEND)) << "every place of a stream is its end";
}

TEST_F(Rwf, SyncFlagsWrite) {
  for (int flags : {RWF_DSYNC, RWF_SYNC, RWF_DSYNC | RWF_SYNC, RWF_HIPRI}) {
    ASSERT_OK(ftruncate(fd_.get(), 0));
    EXPECT_EQ(4, Write2(fd_.get(), "data", 0, flags)) << flags;
    std::string got;
    EXPECT_EQ(4, Read2(fd_.get(), 10, 0, flags, &got)) << flags;
    EXPECT_EQ("data", got);
  }
}

TEST_F(Rwf, NowaitDoesNotWaitForPipesAndSockets) {
  Pipe pipe;
  EXPECT_FAILS(EAGAIN, Read2(pipe.r.get(), 1, -1, RWF_NOWAIT));
  const std::string chunk(65536, 'x');
  ssize_t n;
  while ((n = Write2(pipe.w.get(), chunk, -1, RWF_NOWAIT)) > 0) {
  }
  EXPECT_FAILS(EAGAIN, n);
  std::string got;
  EXPECT_EQ(5, Read2(pipe.r.get(), 5, -1, RWF_NOWAIT, &got));
  EXPECT_EQ("xxxxx", got);
  int pair[2];
  ASSERT_OK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
  Fd a(pair[0]), b(pair[1]);
  EXPECT_FAILS(EAGAIN, Read2(a.get(), 1, -1, RWF_NOWAIT));
  EXPECT_EQ(1, Write2(b.get(), "y", -1, RWF_NOWAIT));
  EXPECT_EQ(1, Read2(a.get(), 9, -1, RWF_NOWAIT));
}

TEST_F(Rwf, NowaitReadsWhatIsThere) {
  ASSERT_EQ(4, Write2(fd_.get(), "data", 0, 0));
  ASSERT_EQ("data", ReadFile(path_));
  std::string got;
  EXPECT_EQ(4, Read2(fd_.get(), 10, 0, RWF_NOWAIT, &got));
  EXPECT_EQ("data", got);
}

TEST_F(Rwf, UnknownFlagsAreNotSupported) {
  EXPECT_FAILS(EOPNOTSUPP, Read2(fd_.get(), 1, 0, kUnknownRwf));
  EXPECT_FAILS(EOPNOTSUPP, Write2(fd_.get(), "x", 0, kUnknownRwf));
  EXPECT_EQ("", ReadFile(path_));
}

TEST_F(Rwf, StreamsHaveNoOffsets) {
  Pipe pipe;
  EXPECT_FAILS(ESPIPE, Read2(pipe.r.get(), 1, 0, 0));
  EXPECT_FAILS(ESPIPE, Write2(pipe.w.get(), "x", 0, 0));
}

class Openat2 : public testing::Test {
 protected:
  Openat2() {
    EXPECT_OK(mkdir(P("d").c_str(), 0755));
    EXPECT_OK(mkdir(P("d/sub").c_str(), 0755));
    EXPECT_TRUE(WriteFile(P("d/f"), "inside") && WriteFile(P("out"), "outside"));
    EXPECT_OK(symlink("f", P("d/link").c_str()));
    EXPECT_OK(symlink("../out", P("d/up").c_str()));
    EXPECT_OK(symlink("/f", P("d/absolute").c_str()));
    EXPECT_OK(symlink("sub", P("d/to_sub").c_str()));
    EXPECT_OK(symlink("../f", P("d/sub/back").c_str()));
    d_ = Fd(open(P("d").c_str(), O_PATH | O_DIRECTORY));
  }
  std::string P(const std::string& name) { return dir_ / name; }
  static long Call(int at, const std::string& path, uint64_t flags, uint64_t mode, uint64_t resolve) {
    open_how how = {};
    how.flags = flags;
    how.mode = mode;
    how.resolve = resolve;
    return syscall(SYS_openat2, at, path.c_str(), &how, sizeof how);
  }
  // The content of what is opened for reading, or the errno's text.
  std::string Opened(const std::string& path, uint64_t resolve, int at = -1) {
    Fd fd(static_cast<int>(Call(at < 0 ? d_.get() : at, path, O_RDONLY, 0, resolve)));
    if (!fd.ok()) return strerrorname_np(errno);
    std::string text(100, '\0');
    const ssize_t n = read(fd.get(), text.data(), text.size());
    return n < 0 ? strerrorname_np(errno) : text.substr(0, n);
  }
  TempDir dir_;
  Fd d_;
};

TEST_F(Openat2, Beneath) {
  for (const char* name : {"f", "./f", "link", "sub/../f", "sub/back", "to_sub/back", "to_sub/../f"})
    EXPECT_EQ("inside", Opened(name, RESOLVE_BENEATH)) << name;
  for (const char* name : {"..", "../out", "sub/../../out", "up", "absolute", "/", "../d/f"})
    EXPECT_EQ("EXDEV", Opened(name, RESOLVE_BENEATH)) << name;
  EXPECT_EQ("EXDEV", Opened("/proc/self/exe", RESOLVE_BENEATH));
  EXPECT_EQ("ENOENT", Opened("none", RESOLVE_BENEATH));
  EXPECT_EQ("outside", Opened("up", 0));
}

TEST_F(Openat2, InRoot) {
  for (const char* name : {"f", "/f", "link", "absolute", "../f", "../../../f", "sub/../../../f", "/sub/back"})
    EXPECT_EQ("inside", Opened(name, RESOLVE_IN_ROOT)) << name;
  for (const char* name : {"out", "../out", "up", "/etc/passwd"})
    EXPECT_EQ("ENOENT", Opened(name, RESOLVE_IN_ROOT)) << name;
  EXPECT_FAILS(EBADF, Call(9999, "/f", O_RDONLY, 0, RESOLVE_IN_ROOT)) << "the descriptor is asked for";
  // A link that leaves by itself, not by a name.
  Fd proc(open("/proc/self", O_PATH | O_DIRECTORY));
  EXPECT_EQ("EXDEV", Opened("exe", RESOLVE_IN_ROOT, proc.get()));
  EXPECT_EQ("EXDEV", Opened("exe", RESOLVE_BENEATH, proc.get()));
  EXPECT_FAILS(EINVAL, Call(d_.get(), "f", O_RDONLY, 0, RESOLVE_BENEATH | RESOLVE_IN_ROOT));
}

TEST_F(Openat2, NoSymlinks) {
  EXPECT_EQ("inside", Opened("f", RESOLVE_NO_SYMLINKS));
  EXPECT_EQ("inside", Opened("sub/../f", RESOLVE_NO_SYMLINKS));
  for (const char* name : {"link", "to_sub/back", "absolute", "up"})
    EXPECT_EQ("ELOOP", Opened(name, RESOLVE_NO_SYMLINKS)) << name;
  EXPECT_EQ("ELOOP", Opened("/proc/self/exe", RESOLVE_NO_SYMLINKS));
  // The link itself is not followed.
  Fd link(static_cast<int>(Call(d_.get(), "link", O_PATH | O_NOFOLLOW, 0, RESOLVE_NO_SYMLINKS)));
  ASSERT_TRUE(link.ok());
  struct stat st;
  ASSERT_OK(fstat(link.get(), &st));
  EXPECT_TRUE(S_ISLNK(st.st_mode));
}

TEST_F(Openat2, NoMagiclinks) {
  EXPECT_EQ("inside", Opened("link", RESOLVE_NO_MAGICLINKS));
  EXPECT_EQ("outside", Opened("up", RESOLVE_NO_MAGICLINKS));
  const std::string fd = "/proc/thread-self/fd/" + std::to_string(d_.get());
  EXPECT_EQ("inside", Opened(fd + "/f", 0));
  EXPECT_EQ("ELOOP", Opened(fd + "/f", RESOLVE_NO_MAGICLINKS));
  EXPECT_EQ("ELOOP", Opened("/proc/self/exe", RESOLVE_NO_MAGICLINKS));
  EXPECT_EQ("ELOOP", Opened("/proc/self/cwd", RESOLVE_NO_MAGICLINKS));
  // /proc/self is an ordinary link.
  EXPECT_NE("ELOOP", Opened("/proc/self/comm", RESOLVE_NO_MAGICLINKS));
}

TEST_F(Openat2, NoXdev) {
  EXPECT_EQ("inside", Opened("link", RESOLVE_NO_XDEV));
  EXPECT_EQ("outside", Opened("../out", RESOLVE_NO_XDEV));
  EXPECT_EQ("EXDEV", Opened("/proc/version", RESOLVE_NO_XDEV));
  Fd proc(open("/proc", O_PATH | O_DIRECTORY));
  EXPECT_EQ("EXDEV", Opened("..", RESOLVE_NO_XDEV, proc.get())) << "out of the mount";
  EXPECT_NE("EXDEV", Opened("version", RESOLVE_NO_XDEV, proc.get()));
}

TEST_F(Openat2, CachedNeverWaitsForTheDisk) {
  ASSERT_EQ("inside", Opened("f", 0));
  EXPECT_EQ("inside", Opened("f", RESOLVE_CACHED));
  for (uint64_t flags : {O_CREAT, O_TRUNC, O_TMPFILE})
    EXPECT_FAILS(EAGAIN, Call(d_.get(), flags == uint64_t{O_TMPFILE} ? "." : "f", O_RDWR | flags,
                              flags == uint64_t{O_TRUNC} ? 0 : 0600, RESOLVE_CACHED));
  EXPECT_EQ("inside", ReadFile(P("d/f")));
}

TEST_F(Openat2, UnknownBitsAndModesAreRefused) {
  EXPECT_FAILS(EINVAL, Call(d_.get(), "f", O_RDONLY, 0, 0x40));
  EXPECT_FAILS(EINVAL, Call(d_.get(), "f", O_RDONLY, 0, uint64_t{1} << 63));
  EXPECT_FAILS(EINVAL, Call(d_.get(), "f", uint64_t{1} << 40, 0, 0));
  EXPECT_FAILS(EINVAL, Call(d_.get(), "f", uint64_t{1} << 30, 0, 0));
  EXPECT_FAILS(EINVAL, Call(d_.get(), "f", O_RDONLY, 0644, 0)) << "a mode, and nothing is made";
  EXPECT_FAILS(EINVAL, Call(d_.get(), "new", O_CREAT | O_RDWR, 0200000, 0));
  EXPECT_FAILS(EINVAL, Call(d_.get(), "f", O_PATH | O_RDWR, 0, 0)) << "open(2) would ignore O_RDWR";
  EXPECT_FAILS(EINVAL, Call(d_.get(), "f", O_PATH | O_CREAT, 0644, 0));
  EXPECT_FAILS(ENOENT, open(P("d/new").c_str(), O_RDONLY));
  umask(022);
  Fd made(static_cast<int>(Call(d_.get(), "new", O_CREAT | O_EXCL | O_RDWR, 0666, RESOLVE_BENEATH)));
  ASSERT_TRUE(made.ok());
  struct stat st;
  ASSERT_OK(fstat(made.get(), &st));
  EXPECT_EQ(0644u, st.st_mode & 07777);
  EXPECT_EQ(0, fcntl(made.get(), F_GETFD));
  Fd closing(static_cast<int>(Call(d_.get(), "f", O_RDONLY | O_CLOEXEC, 0, 0)));
  EXPECT_EQ(FD_CLOEXEC, fcntl(closing.get(), F_GETFD));
}

TEST_F(Openat2, SizesOfLaterKernels) {
  struct {
    open_how how = {};
    uint64_t later[600] = {};
  } big;
  auto call = [&](size_t size) { return syscall(SYS_openat2, d_.get(), "f", &big, size); };
  EXPECT_FAILS(EINVAL, call(sizeof(open_how) - 1));
  EXPECT_FAILS(EINVAL, call(0));
  EXPECT_TRUE(Fd(static_cast<int>(call(sizeof(open_how) + 8))).ok()) << "zeroes are nothing";
  big.later[0] = 1;
  EXPECT_FAILS(E2BIG, call(sizeof(open_how) + 8));
  EXPECT_TRUE(Fd(static_cast<int>(call(sizeof(open_how)))).ok());
  big.later[0] = 0;
  EXPECT_TRUE(Fd(static_cast<int>(call(4096))).ok());
  EXPECT_FAILS(E2BIG, call(4097));
  EXPECT_FAILS(EFAULT, syscall(SYS_openat2, d_.get(), "f", nullptr, sizeof(open_how)));
}

long CloseRange(unsigned first, unsigned last, unsigned flags) { return syscall(SYS_close_range, first, last, flags); }
bool IsOpen(int fd) { return fcntl(fd, F_GETFD) >= 0; }
void Fill() {
  for (int fd = 100; fd < 110; ++fd) CHILD_CHECK(dup2(2, fd) == fd);
}

TEST(CloseRangeFlags, None) {
  EXPECT_EQ(Exited(0), RunInChild([] {
              Fill();
              CHILD_CHECK(CloseRange(102, 105, 0) == 0);
              for (int fd = 100; fd < 110; ++fd) CHILD_CHECK(IsOpen(fd) == (fd < 102 || fd > 105));
              CHILD_CHECK(CloseRange(105, 105, 0) == 0);  // nothing is there
              CHILD_CHECK(CloseRange(107, ~0u, 0) == 0);
              for (int fd = 100; fd < 110; ++fd) CHILD_CHECK(IsOpen(fd) == (fd < 102 || fd == 106));
              CHILD_CHECK(CloseRange(~0u, ~0u, 0) == 0);
            }));
}

TEST(CloseRangeFlags, CloexecOnlyMarks) {
  EXPECT_EQ(Exited(0), RunInChild([] {
              Fill();
              CHILD_CHECK(CloseRange(103, 104, CLOSE_RANGE_CLOEXEC) == 0);
              for (int fd = 100; fd < 110; ++fd)
                CHILD_CHECK(fcntl(fd, F_GETFD) == (fd == 103 || fd == 104 ? FD_CLOEXEC : 0));
            }));
}

// A thread that unshares closes its own descriptors; with CLONE_FILES shared again nothing of it is seen by others.
TEST(CloseRangeFlags, UnshareLeavesTheOthersAlone) {
  for (unsigned flags : {unsigned{CLOSE_RANGE_UNSHARE}, unsigned{CLOSE_RANGE_UNSHARE | CLOSE_RANGE_CLOEXEC}}) {
    EXPECT_EQ(Exited(0), RunInChild([flags] {
                Fill();
                std::thread([flags] {
                  CHILD_CHECK(CloseRange(102, ~0u, flags) == 0);
                  if (flags & CLOSE_RANGE_CLOEXEC)
                    CHILD_CHECK(fcntl(105, F_GETFD) == FD_CLOEXEC);
                  else
                    CHILD_CHECK(!IsOpen(105));
                  CHILD_CHECK(IsOpen(101));
                  CHILD_CHECK(close(101) == 0);
                }).join();
                for (int fd = 100; fd < 110; ++fd) CHILD_CHECK(fcntl(fd, F_GETFD) == 0);
              }))
        << flags;
  }
}

TEST(CloseRangeFlags, WithoutUnshareTheTableIsShared) {
  EXPECT_EQ(Exited(0), RunInChild([] {
              Fill();
              std::thread([] { CHILD_CHECK(CloseRange(102, ~0u, 0) == 0); }).join();
              for (int fd = 100; fd < 110; ++fd) CHILD_CHECK(IsOpen(fd) == (fd < 102));
            }));
}

TEST(CloseRangeFlags, UnknownFlagsAndBackwardRanges) {
  EXPECT_EQ(Exited(0), RunInChild([] {
              Fill();
              for (unsigned flag : {1u, 8u, 1u << 31}) CHILD_CHECK(CloseRange(100, 109, flag) == -1 && errno == EINVAL);
              CHILD_CHECK(CloseRange(105, 104, 0) == -1 && errno == EINVAL);
              for (int fd = 100; fd < 110; ++fd) CHILD_CHECK(IsOpen(fd));
            }));
}

}  // namespace
