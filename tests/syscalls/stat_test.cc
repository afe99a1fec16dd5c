// SPDX-License-Identifier: Apache-2.0
// Metadata and permissions: stat, statx, chmod, chown, access, sticky directories, times, extended attributes.
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/xattr.h>

#include "tests/syscalls/util.h"

namespace {

constexpr uid_t kNobody = 65534;

class StatTest : public testing::Test {
 protected:
  void SetUp() override {
    umask(022);
    ASSERT_TRUE(WriteFile(F(), "12345"));
  }
  std::string F() { return dir_ / "f"; }
  struct stat Stat() {
    struct stat st = {};
    EXPECT_OK(stat(F().c_str(), &st));
    return st;
  }
  // Runs `body` as an ordinary user without capabilities.
  int AsNobody(const std::function<void()>& body) {
    return RunInChild([&] {
      CHILD_CHECK(syscall(SYS_setgroups, 0, nullptr) == 0);
      CHILD_CHECK(setresgid(kNobody, kNobody, kNobody) == 0);
      CHILD_CHECK(setresuid(kNobody, kNobody, kNobody) == 0);
      body();
    });
  }
  TempDir dir_;
};

TEST_F(StatTest, Fields) {
  struct stat st = Stat();
  EXPECT_EQ(S_IFREG | 0644u, st.st_mode);
  EXPECT_EQ(5, st.st_size);
  EXPECT_EQ(1u, st.st_nlink);
  EXPECT_EQ(getuid(), st.st_uid);
  EXPECT_EQ(getgid(), st.st_gid);
  EXPECT_GT(st.st_blksize, 0);
  struct stat other;
  Fd fd(open(F().c_str(), O_RDONLY));
  ASSERT_OK(fstat(fd.get(), &other));
  EXPECT_EQ(st.st_ino, other.st_ino);
  EXPECT_EQ(st.st_dev, other.st_dev);
}

TEST_F(StatTest, DeviceNumbers) {
  struct stat st;
  ASSERT_OK(stat("/dev/null", &st));
  EXPECT_TRUE(S_ISCHR(st.st_mode));
  EXPECT_EQ(makedev(1, 3), st.st_rdev);
}

TEST_F(StatTest, StatxMatchesStat) {
  struct stat st = Stat();
  struct statx sx = {};
  ASSERT_OK(statx(AT_FDCWD, F().c_str(), 0, STATX_BASIC_STATS, &sx));
  EXPECT_EQ(STATX_BASIC_STATS, static_cast<int>(sx.stx_mask & STATX_BASIC_STATS));
  EXPECT_EQ(st.st_ino, sx.stx_ino);
  EXPECT_EQ(st.st_mode, sx.stx_mode);
  EXPECT_EQ(st.st_size, static_cast<off_t>(sx.stx_size));
  EXPECT_EQ(st.st_mtim.tv_nsec, sx.stx_mtime.tv_nsec);
  EXPECT_EQ(major(st.st_dev), sx.stx_dev_major);
  EXPECT_FAILS(EINVAL, statx(AT_FDCWD, F().c_str(), 0, 0x80000000u, &sx));
  EXPECT_FAILS(EINVAL, statx(AT_FDCWD, F().c_str(), 0x1, STATX_ALL, &sx));
  EXPECT_FAILS(ENOENT, statx(AT_FDCWD, "", 0, STATX_ALL, &sx));
  EXPECT_OK(statx(AT_FDCWD, "", AT_EMPTY_PATH, STATX_ALL, &sx));
}

TEST_F(StatTest, WriteUpdatesTimes) {
  timespec old[2] = {{1000, 0}, {1000, 0}};
  ASSERT_OK(utimensat(AT_FDCWD, F().c_str(), old, 0));
  Fd fd(open(F().c_str(), O_RDWR));
  ASSERT_EQ(1, write(fd.get(), "x", 1));
  struct stat st = Stat();
  EXPECT_GT(st.st_mtim.tv_sec, 1000);
  EXPECT_EQ(1000, st.st_atim.tv_sec);
}

TEST_F(StatTest, Utimensat) {
  timespec t[2] = {{5, 6}, {7, 999999999}};
  ASSERT_OK(utimensat(AT_FDCWD, F().c_str(), t, 0));
  struct stat st = Stat();
  EXPECT_EQ(5, st.st_atim.tv_sec);
  EXPECT_EQ(6, st.st_atim.tv_nsec);
  EXPECT_EQ(7, st.st_mtim.tv_sec);
  EXPECT_EQ(999999999, st.st_mtim.tv_nsec);
  t[0].tv_nsec = UTIME_OMIT;
  t[1].tv_nsec = UTIME_NOW;
  ASSERT_OK(utimensat(AT_FDCWD, F().c_str(), t, 0));
  st = Stat();
  EXPECT_EQ(5, st.st_atim.tv_sec);
  EXPECT_GT(st.st_mtim.tv_sec, 1000);
  t[1].tv_nsec = 1000000000;
  EXPECT_FAILS(EINVAL, utimensat(AT_FDCWD, F().c_str(), t, 0));
}

TEST_F(StatTest, UtimensOfASymlinkItself) {
  ASSERT_OK(symlink("f", (dir_ / "l").c_str()));
  timespec t[2] = {{5, 0}, {5, 0}};
  ASSERT_OK(utimensat(AT_FDCWD, (dir_ / "l").c_str(), t, AT_SYMLINK_NOFOLLOW));
  EXPECT_NE(5, Stat().st_mtim.tv_sec);
  struct stat st;
  ASSERT_OK(lstat((dir_ / "l").c_str(), &st));
  EXPECT_EQ(5, st.st_mtim.tv_sec);
}

TEST_F(StatTest, Chmod) {
  ASSERT_OK(chmod(F().c_str(), 07751));
  EXPECT_EQ(S_IFREG | 07751u, Stat().st_mode);
  Fd fd(open(F().c_str(), O_RDONLY));
  ASSERT_OK(fchmod(fd.get(), 0600));
  EXPECT_EQ(S_IFREG | 0600u, Stat().st_mode);
  EXPECT_EQ(Exited(0), AsNobody([&] { CHILD_CHECK(chmod(F().c_str(), 0777) == -1 && errno == EPERM); }));
}

TEST_F(StatTest, Chown) {
  ASSERT_OK(chown(F().c_str(), 123, -1));
  EXPECT_EQ(123u, Stat().st_uid);
  EXPECT_EQ(getgid(), Stat().st_gid);
  ASSERT_OK(chown(F().c_str(), -1, 456));
  EXPECT_EQ(456u, Stat().st_gid);
  EXPECT_EQ(Exited(0), AsNobody([&] { CHILD_CHECK(chown(F().c_str(), kNobody, -1) == -1 && errno == EPERM); }));
}

TEST_F(StatTest, ChownClearsSetIdBits) {
  ASSERT_OK(chmod(F().c_str(), 06755));
  ASSERT_OK(chown(F().c_str(), 1, 1));
  EXPECT_EQ(0755u, Stat().st_mode & 07777);
}

TEST_F(StatTest, WriteByOthersClearsSetuid) {
  ASSERT_OK(chmod(F().c_str(), 04777));
  EXPECT_EQ(Exited(0), AsNobody([&] {
              Fd fd(open(F().c_str(), O_WRONLY));
              CHILD_CHECK(write(fd.get(), "x", 1) == 1);
            }));
  EXPECT_EQ(0777u, Stat().st_mode & 07777);
}

TEST_F(StatTest, OwnerGroupOtherBitsAreExclusive) {
  ASSERT_OK(chown(F().c_str(), kNobody, 0));
  ASSERT_OK(chmod(F().c_str(), 0077));
  // The owner's bits decide for the owner, even when others may do more.
  EXPECT_EQ(Exited(0), AsNobody([&] { CHILD_CHECK(open(F().c_str(), O_RDONLY) == -1 && errno == EACCES); }));
  ASSERT_OK(chown(F().c_str(), 0, kNobody));
  ASSERT_OK(chmod(F().c_str(), 0707));
  EXPECT_EQ(Exited(0), AsNobody([&] { CHILD_CHECK(open(F().c_str(), O_RDONLY) == -1 && errno == EACCES); }));
  ASSERT_OK(chmod(F().c_str(), 0040));
  EXPECT_EQ(Exited(0), AsNobody([&] { CHILD_CHECK(open(F().c_str(), O_RDONLY) >= 0); }));
}

TEST_F(StatTest, SupplementaryGroupsCount) {
  ASSERT_OK(chown(F().c_str(), 0, 777));
  ASSERT_OK(chmod(F().c_str(), 0040));
  EXPECT_EQ(Exited(0), RunInChild([&] {
              gid_t g = 777;
              CHILD_CHECK(syscall(SYS_setgroups, 1, &g) == 0);
              CHILD_CHECK(setresgid(kNobody, kNobody, kNobody) == 0 && setresuid(kNobody, kNobody, kNobody) == 0);
              CHILD_CHECK(open(F().c_str(), O_RDONLY) >= 0);
            }));
}

TEST_F(StatTest, DirectorySearchAndWritePermission) {
  ASSERT_OK(mkdir((dir_ / "d").c_str(), 0755));
  ASSERT_TRUE(WriteFile(dir_ / "d/f", "x"));
  EXPECT_EQ(Exited(0), AsNobody([&] {
              CHILD_CHECK(open((dir_ / "d/new").c_str(), O_CREAT | O_RDWR, 0600) == -1 && errno == EACCES);
              CHILD_CHECK(unlink((dir_ / "d/f").c_str()) == -1 && errno == EACCES);
              CHILD_CHECK(access((dir_ / "d/f").c_str(), R_OK) == 0);
            }));
  ASSERT_OK(chmod((dir_ / "d").c_str(), 0744));
  EXPECT_EQ(Exited(0), AsNobody([&] {
              struct stat st;
              CHILD_CHECK(stat((dir_ / "d/f").c_str(), &st) == -1 && errno == EACCES);
              CHILD_CHECK(open((dir_ / "d").c_str(), O_RDONLY | O_DIRECTORY) >= 0);
            }));
}

TEST_F(StatTest, StickyDirectory) {
  ASSERT_OK(mkdir((dir_ / "s").c_str(), 0777));
  ASSERT_OK(chmod((dir_ / "s").c_str(), 01777));
  ASSERT_TRUE(WriteFile(dir_ / "s/root", "x", 0666));
  EXPECT_EQ(Exited(0), AsNobody([&] {
              CHILD_CHECK(unlink((dir_ / "s/root").c_str()) == -1 && errno == EPERM);
              CHILD_CHECK(rename((dir_ / "s/root").c_str(), (dir_ / "s/x").c_str()) == -1 && errno == EPERM);
              CHILD_CHECK(WriteFile(dir_ / "s/mine", "x"));
              CHILD_CHECK(unlink((dir_ / "s/mine").c_str()) == 0);
            }));
}

TEST_F(StatTest, SetgidDirectoryPassesOnItsGroup) {
  ASSERT_OK(mkdir((dir_ / "g").c_str(), 0755));
  ASSERT_OK(chown((dir_ / "g").c_str(), 0, 321));
  ASSERT_OK(chmod((dir_ / "g").c_str(), 02755));
  ASSERT_TRUE(WriteFile(dir_ / "g/f", ""));
  ASSERT_OK(mkdir((dir_ / "g/d").c_str(), 0755));
  struct stat st;
  ASSERT_OK(stat((dir_ / "g/f").c_str(), &st));
  EXPECT_EQ(321u, st.st_gid);
  ASSERT_OK(stat((dir_ / "g/d").c_str(), &st));
  EXPECT_EQ(321u, st.st_gid);
  EXPECT_TRUE(st.st_mode & S_ISGID);
}

TEST_F(StatTest, AccessUsesRealIds) {
  ASSERT_OK(chmod(F().c_str(), 0600));
  EXPECT_EQ(Exited(0), RunInChild([&] {
              CHILD_CHECK(setresuid(kNobody, 0, 0) == 0);
              CHILD_CHECK(access(F().c_str(), R_OK) == -1 && errno == EACCES);
              CHILD_CHECK(syscall(SYS_faccessat2, AT_FDCWD, F().c_str(), R_OK, AT_EACCESS) == 0);
              CHILD_CHECK(access(F().c_str(), F_OK) == 0);
            }));
  EXPECT_FAILS(EACCES, access(F().c_str(), X_OK));
  EXPECT_FAILS(EINVAL, access(F().c_str(), 8));
  EXPECT_FAILS(ENOENT, access((dir_ / "none").c_str(), F_OK));
}

TEST_F(StatTest, RootReadsAnything) {
  ASSERT_OK(chmod(F().c_str(), 0));
  EXPECT_OK(access(F().c_str(), R_OK | W_OK));
  EXPECT_EQ("12345", ReadFile(F()));
}

TEST_F(StatTest, UserXattrs) {
  if (setxattr(F().c_str(), "user.a", "value", 5, 0) != 0 && errno == EOPNOTSUPP) GTEST_SKIP() << "no user xattrs";
  char buf[64];
  EXPECT_EQ(5, getxattr(F().c_str(), "user.a", buf, sizeof buf));
  EXPECT_EQ("value", std::string(buf, 5));
  EXPECT_EQ(5, getxattr(F().c_str(), "user.a", nullptr, 0));
  EXPECT_FAILS(ERANGE, getxattr(F().c_str(), "user.a", buf, 2));
  EXPECT_FAILS(ENODATA, getxattr(F().c_str(), "user.none", buf, sizeof buf));
  EXPECT_FAILS(EEXIST, setxattr(F().c_str(), "user.a", "v", 1, XATTR_CREATE));
  EXPECT_FAILS(ENODATA, setxattr(F().c_str(), "user.b", "v", 1, XATTR_REPLACE));
  ssize_t n = listxattr(F().c_str(), buf, sizeof buf);
  EXPECT_NE(std::string::npos, std::string(buf, n < 0 ? 0 : n).find(std::string("user.a\0", 7)));
  EXPECT_OK(removexattr(F().c_str(), "user.a"));
  EXPECT_FAILS(ENODATA, removexattr(F().c_str(), "user.a"));
  EXPECT_FAILS(EOPNOTSUPP, setxattr(F().c_str(), "nonsense.a", "v", 1, 0));
}

TEST_F(StatTest, UserXattrsOnlyOnFilesAndDirectories) {
  ASSERT_OK(symlink("f", (dir_ / "l").c_str()));
  EXPECT_FAILS(EPERM, lsetxattr((dir_ / "l").c_str(), "user.a", "v", 1, 0));
}

TEST_F(StatTest, Statvfs) {
  struct statvfs v;
  ASSERT_OK(statvfs(dir_.path().c_str(), &v));
  EXPECT_GT(v.f_bsize, 0u);
  EXPECT_EQ(255u, v.f_namemax);
  EXPECT_GE(v.f_blocks, v.f_bfree);
}

TEST_F(StatTest, FsizeLimitRaisesSIGXFSZ) {
  EXPECT_EQ(Exited(0), RunInChild([&] {
              rlimit rl = {100, 100};
              CHILD_CHECK(setrlimit(RLIMIT_FSIZE, &rl) == 0);
              signal(SIGXFSZ, SIG_IGN);
              Fd fd(open(F().c_str(), O_RDWR));
              char buf[200] = {};
              CHILD_CHECK(write(fd.get(), buf, 200) == 100);
              CHILD_CHECK(write(fd.get(), buf, 1) == -1 && errno == EFBIG);
              CHILD_CHECK(ftruncate(fd.get(), 101) == -1 && errno == EFBIG);
            }));
  EXPECT_EQ(Killed(SIGXFSZ), RunInChild([&] {
              rlimit rl = {0, 0};
              CHILD_CHECK(setrlimit(RLIMIT_FSIZE, &rl) == 0);
              Fd fd(open(F().c_str(), O_RDWR));
              ssize_t n = write(fd.get(), "x", 1);
              (void)n;
            }));
}

// df(1), and installers that look whether there is room.
TEST(StatFs, TheRootHasASize) {
  struct statfs fs;
  ASSERT_OK(statfs("/", &fs));
  EXPECT_GT(fs.f_blocks, 0u);
  EXPECT_GT(fs.f_bavail, 0u);
  EXPECT_LE(fs.f_bavail, fs.f_blocks);
  EXPECT_GE(fs.f_bsize, 512);
}

}  // namespace
