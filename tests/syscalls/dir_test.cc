// SPDX-License-Identifier: Apache-2.0
// Names: mkdir, link, symlink, rename, unlink, directory listing, path limits, mounts.
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>

#include <set>

#include "tests/syscalls/util.h"

namespace {

class DirTest : public testing::Test {
 protected:
  std::string P(const std::string& name) { return dir_ / name; }
  const char* C(const std::string& name) { return (last_ = P(name)).c_str(); }
  void Touch(const std::string& name, const std::string& content = "") { ASSERT_TRUE(WriteFile(P(name), content)); }
  void Mkdir(const std::string& name) { ASSERT_OK(mkdir(C(name), 0755)); }
  int Rename(const std::string& a, const std::string& b, unsigned flags = 0) {
    return syscall(SYS_renameat2, AT_FDCWD, P(a).c_str(), AT_FDCWD, P(b).c_str(), flags);
  }
  bool Exists(const std::string& name) {
    struct stat st;
    return lstat(C(name), &st) == 0;
  }
  unsigned Links(const std::string& name) {
    struct stat st = {};
    lstat(C(name), &st);
    return st.st_nlink;
  }
  TempDir dir_;
  std::string last_;
};

TEST_F(DirTest, Mkdir) {
  mode_t old = umask(022);
  EXPECT_OK(mkdir(C("d"), 0777));
  umask(old);
  struct stat st;
  ASSERT_OK(stat(C("d"), &st));
  EXPECT_EQ(S_IFDIR | 0755u, st.st_mode);
  EXPECT_FAILS(EEXIST, mkdir(C("d"), 0777));
  EXPECT_FAILS(ENOENT, mkdir(C("x/y"), 0777));
  EXPECT_OK(mkdir(C("slash/"), 0777));
  Touch("f");
  EXPECT_FAILS(ENOTDIR, mkdir(C("f/d"), 0777));
}

TEST_F(DirTest, Rmdir) {
  Mkdir("d");
  Touch("d/f");
  EXPECT_FAILS(ENOTEMPTY, rmdir(C("d")));
  ASSERT_OK(unlink(C("d/f")));
  EXPECT_FAILS(EINVAL, rmdir(C("d/.")));
  EXPECT_OK(rmdir(C("d")));
  Touch("f");
  EXPECT_FAILS(ENOTDIR, rmdir(C("f")));
  EXPECT_FAILS(ENOENT, rmdir(C("d")));
}

TEST_F(DirTest, RemovedWorkingDirectory) {
  Mkdir("d");
  EXPECT_EQ(Exited(0), RunInChild([&] {
              CHILD_CHECK(chdir(C("d")) == 0);
              CHILD_CHECK(rmdir(C("d")) == 0);
              char buf[PATH_MAX];
              CHILD_CHECK(getcwd(buf, sizeof buf) == nullptr && errno == ENOENT);
              CHILD_CHECK(open("f", O_CREAT | O_RDWR, 0600) == -1 && errno == ENOENT);
            }));
}

TEST_F(DirTest, Unlink) {
  Mkdir("d");
  EXPECT_FAILS(EISDIR, unlink(C("d")));
  EXPECT_FAILS(ENOENT, unlink(C("x")));
  Fd d(open(dir_.path().c_str(), O_PATH));
  EXPECT_FAILS(EINVAL, unlinkat(d.get(), "d", 1));
  EXPECT_OK(unlinkat(d.get(), "d", AT_REMOVEDIR));
}

TEST_F(DirTest, HardLinks) {
  Touch("a", "x");
  ASSERT_OK(link(P("a").c_str(), P("b").c_str()));
  EXPECT_EQ(2u, Links("a"));
  EXPECT_FAILS(EEXIST, link(P("a").c_str(), P("b").c_str()));
  ASSERT_OK(unlink(C("a")));
  EXPECT_EQ("x", ReadFile(P("b")));
  EXPECT_EQ(1u, Links("b"));
  Mkdir("d");
  EXPECT_FAILS(EPERM, link(P("d").c_str(), P("e").c_str()));
  ASSERT_OK(symlink("b", C("s")));
  ASSERT_OK(link(P("s").c_str(), P("s2").c_str()));
  EXPECT_EQ(2u, Links("s")) << "link(2) does not follow";
}

TEST_F(DirTest, Symlinks) {
  ASSERT_OK(symlink("target", C("l")));
  char buf[PATH_MAX];
  EXPECT_EQ(6, readlink(C("l"), buf, sizeof buf));
  EXPECT_EQ(3, readlink(C("l"), buf, 3)) << "truncated without a word";
  EXPECT_FAILS(EINVAL, readlink(C("l"), buf, 0));
  EXPECT_FAILS(EEXIST, symlink("x", C("l")));
  EXPECT_FAILS(ENOENT, symlink("", C("e")));
  Touch("f");
  EXPECT_FAILS(EINVAL, readlink(C("f"), buf, sizeof buf));
  struct stat st;
  ASSERT_OK(lstat(C("l"), &st));
  EXPECT_EQ(6, st.st_size);
  EXPECT_EQ(S_IFLNK | 0777u, st.st_mode);
  EXPECT_FAILS(ENOENT, stat(C("l"), &st));
}

TEST_F(DirTest, SymlinkDepthLimitIsForty) {
  Touch("l0", "end");
  for (int i = 1; i <= 41; ++i) ASSERT_OK(symlink(("l" + std::to_string(i - 1)).c_str(), C("l" + std::to_string(i))));
  EXPECT_EQ("end", ReadFile(P("l40")));
  EXPECT_FAILS(ELOOP, open(C("l41"), O_RDONLY));
}

TEST_F(DirTest, NameLimits) {
  std::string name(NAME_MAX, 'n');
  Touch(name);
  EXPECT_FAILS(ENAMETOOLONG, open(C(name + "n"), O_RDONLY | O_CREAT, 0600));
  std::string path = "/";
  while (path.size() < PATH_MAX - 1) path += "/";
  EXPECT_OK(access(path.c_str(), F_OK));
  EXPECT_FAILS(ENAMETOOLONG, access((path + "/").c_str(), F_OK));
  EXPECT_FAILS(ENOENT, access("", F_OK));
}

TEST_F(DirTest, RenameReplaces) {
  Touch("a", "A");
  Touch("b", "B");
  ASSERT_OK(Rename("a", "b"));
  EXPECT_FALSE(Exists("a"));
  EXPECT_EQ("A", ReadFile(P("b")));
  EXPECT_FAILS(ENOENT, Rename("a", "b"));
}

TEST_F(DirTest, RenameOfTwoLinksToOneFileDoesNothing) {
  Touch("a");
  ASSERT_OK(link(P("a").c_str(), P("b").c_str()));
  ASSERT_OK(Rename("a", "b"));
  EXPECT_TRUE(Exists("a") && Exists("b"));
}

TEST_F(DirTest, RenameDirectories) {
  Mkdir("a");
  Touch("a/f");
  Mkdir("b");
  ASSERT_OK(Rename("a", "b")) << "an empty directory is replaced";
  EXPECT_TRUE(Exists("b/f"));
  Mkdir("c");
  EXPECT_FAILS(ENOTEMPTY, Rename("c", "b"));
  EXPECT_FAILS(EINVAL, Rename("b", "b/sub"));
  Touch("f");
  EXPECT_FAILS(ENOTDIR, Rename("c", "f"));
  EXPECT_FAILS(EISDIR, Rename("f", "c"));
}

TEST_F(DirTest, RenameFlags) {
  Touch("a", "A");
  Touch("b", "B");
  EXPECT_FAILS(EEXIST, Rename("a", "b", RENAME_NOREPLACE));
  ASSERT_OK(Rename("a", "b", RENAME_EXCHANGE));
  EXPECT_EQ("B", ReadFile(P("a")));
  EXPECT_EQ("A", ReadFile(P("b")));
  EXPECT_FAILS(ENOENT, Rename("a", "c", RENAME_EXCHANGE));
  EXPECT_FAILS(EINVAL, Rename("a", "b", RENAME_EXCHANGE | RENAME_NOREPLACE));
  ASSERT_OK(Rename("a", "c", RENAME_NOREPLACE));
  EXPECT_FALSE(Exists("a"));
}

TEST_F(DirTest, GetdentsListsEachNameOnce) {
  std::set<std::string> want{".", ".."};
  for (int i = 0; i < 300; ++i) {
    std::string name = "entry-with-a-longish-name-" + std::to_string(i);
    Touch(name);
    want.insert(name);
  }
  Fd d(open(dir_.path().c_str(), O_RDONLY | O_DIRECTORY));
  std::set<std::string> got;
  char buf[1024];
  long n;
  while ((n = syscall(SYS_getdents64, d.get(), buf, sizeof buf)) > 0) {
    for (long off = 0; off < n;) {
      auto* e = reinterpret_cast<dirent64*>(buf + off);
      EXPECT_TRUE(got.insert(e->d_name).second) << e->d_name;
      off += e->d_reclen;
    }
  }
  EXPECT_EQ(0, n);
  EXPECT_EQ(want, got);
  EXPECT_FAILS(EINVAL, (lseek(d.get(), 0, SEEK_SET), syscall(SYS_getdents64, d.get(), buf, 10)));
}

TEST_F(DirTest, GetdentsGivesTypes) {
  Touch("file");
  Mkdir("dir");
  ASSERT_OK(symlink("x", C("link")));
  ASSERT_OK(mkfifo(C("fifo"), 0600));
  DIR* d = opendir(dir_.path().c_str());
  ASSERT_NE(nullptr, d);
  int seen = 0;
  while (dirent* e = readdir(d)) {
    std::string name = e->d_name;
    int want = name == "file" ? DT_REG : name == "link" ? DT_LNK : name == "fifo" ? DT_FIFO : DT_DIR;
    EXPECT_EQ(want, e->d_type) << name;
    ++seen;
    struct stat st;
    if (name != "..") {
      ASSERT_OK(lstat(C(name), &st));
      EXPECT_EQ(st.st_ino, e->d_ino);
    }
  }
  EXPECT_EQ(6, seen);
  closedir(d);
}

TEST_F(DirTest, RewindShowsNewEntries) {
  Fd d(open(dir_.path().c_str(), O_RDONLY | O_DIRECTORY));
  char buf[1024];
  while (syscall(SYS_getdents64, d.get(), buf, sizeof buf) > 0) {
  }
  Touch("late");
  ASSERT_OK(lseek(d.get(), 0, SEEK_SET));
  std::string all;
  long n;
  while ((n = syscall(SYS_getdents64, d.get(), buf, sizeof buf)) > 0) all.append(buf, n);
  EXPECT_NE(std::string::npos, all.find("late"));
}

TEST_F(DirTest, DeletingWhileListingEndsEmpty) {
  for (int i = 0; i < 100; ++i) Touch("f" + std::to_string(i));
  DIR* d = opendir(dir_.path().c_str());
  while (dirent* e = readdir(d)) {
    if (e->d_name[0] != 'f') continue;
    EXPECT_OK(unlinkat(dirfd(d), e->d_name, 0));
  }
  closedir(d);
  EXPECT_OK(rmdir(dir_.path().c_str()));
}

TEST_F(DirTest, ChdirAndFchdir) {
  Mkdir("d");
  Touch("f");
  EXPECT_EQ(Exited(0), RunInChild([&] {
              Fd start(open(".", O_RDONLY));
              char buf[PATH_MAX], again[PATH_MAX];
              CHILD_CHECK(getcwd(buf, sizeof buf));
              CHILD_CHECK(chdir(C("d")) == 0 && getcwd(again, sizeof again) && P("d") == again);
              CHILD_CHECK(chdir("..") == 0 && getcwd(again, sizeof again) && dir_.path() == again);
              CHILD_CHECK(fchdir(start.get()) == 0 && getcwd(again, sizeof again) && !strcmp(buf, again));
              CHILD_CHECK(chdir(C("f")) == -1 && errno == ENOTDIR);
              CHILD_CHECK(syscall(SYS_getcwd, again, 1) == -1 && errno == ERANGE);
            }));
}

TEST_F(DirTest, ChrootConfines) {
  Mkdir("root");
  Mkdir("root/in");
  EXPECT_EQ(Exited(0), RunInChild([&] {
              CHILD_CHECK(chroot(C("root")) == 0 && chdir("/") == 0);
              CHILD_CHECK(access("/in", F_OK) == 0 && access("/../../in", F_OK) == 0);
              CHILD_CHECK(access("/tmp", F_OK) == -1 && errno == ENOENT);
            }));
}

TEST_F(DirTest, MknodFifoAndDevice) {
  EXPECT_OK(mknod(C("p"), S_IFIFO | 0600, 0));
  EXPECT_OK(mknod(C("r"), S_IFREG | 0600, 0));
  EXPECT_FAILS(EEXIST, mknod(C("r"), S_IFREG | 0600, 0));
  EXPECT_FAILS(EPERM, mknod(C("d"), S_IFDIR | 0600, 0));
}

class TmpfsTest : public DirTest {
 protected:
  void SetUp() override {
    ASSERT_OK(mkdir(C("m"), 0755));
    ASSERT_OK(mount("tmpfs", C("m"), "tmpfs", 0, "size=1m,mode=0711"));
  }
  void TearDown() override { umount2(C("m"), MNT_DETACH); }
};

TEST_F(TmpfsTest, MountCoversAndUmountUncovers) {
  struct stat st;
  ASSERT_OK(stat(C("m"), &st));
  EXPECT_EQ(S_IFDIR | 0711u, st.st_mode);
  Touch("m/f");
  ASSERT_OK(umount(C("m")));
  EXPECT_FALSE(Exists("m/f"));
  EXPECT_FAILS(EINVAL, umount(C("m")));
}

TEST_F(TmpfsTest, SizeLimitIsENOSPC) {
  Fd fd(open(C("m/f"), O_WRONLY | O_CREAT, 0600));
  std::string block(64 << 10, 'x');
  ssize_t n, total = 0;
  while ((n = write(fd.get(), block.data(), block.size())) > 0) total += n;
  EXPECT_FAILS(ENOSPC, n);
  EXPECT_EQ(1 << 20, total);
  struct statfs sf;
  ASSERT_OK(statfs(C("m"), &sf));
  EXPECT_EQ(0x01021994, sf.f_type);
  EXPECT_EQ(0u, sf.f_bavail);
}

TEST_F(TmpfsTest, BusyMountNeedsDetach) {
  Fd fd(open(C("m/f"), O_RDWR | O_CREAT, 0600));
  EXPECT_FAILS(EBUSY, umount(C("m")));
  EXPECT_FAILS(EBUSY, rmdir(C("m")));
  ASSERT_OK(umount2(C("m"), MNT_DETACH));
  EXPECT_EQ(1, write(fd.get(), "x", 1));
  EXPECT_FALSE(Exists("m/f"));
}

TEST_F(TmpfsTest, ReadOnlyRemount) {
  Touch("m/f");
  ASSERT_OK(mount(nullptr, C("m"), nullptr, MS_REMOUNT | MS_RDONLY, nullptr));
  EXPECT_FAILS(EROFS, open(C("m/g"), O_RDWR | O_CREAT, 0600));
  EXPECT_FAILS(EROFS, open(C("m/f"), O_RDWR));
  EXPECT_FAILS(EROFS, unlink(C("m/f")));
}

TEST_F(TmpfsTest, ReadOnlyRemountWaitsForWriters) {
  for (unsigned long kind : {0ul, static_cast<unsigned long>(MS_BIND)}) {
    auto remount = [&](unsigned long flags) {
      return mount(nullptr, C("m"), nullptr, MS_REMOUNT | kind | flags, nullptr);
    };
    Fd reader(open(C("m/f"), O_RDONLY | O_CREAT, 0600));
    Fd writer(open(C("m/f"), O_WRONLY));
    ASSERT_OK(ftruncate(writer.get(), 4096));
    EXPECT_FAILS(EBUSY, remount(MS_RDONLY));
    EXPECT_EQ(1, write(writer.get(), "x", 1));
    EXPECT_OK(close(open(C("m/g"), O_WRONLY | O_CREAT, 0600))) << "the refused remount changed nothing";
    // What is mapped is still open.
    Fd both(open(C("m/f"), O_RDWR));
    void* mapping = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, both.get(), 0);
    ASSERT_NE(MAP_FAILED, mapping);
    both.reset();
    writer.reset();
    EXPECT_FAILS(EBUSY, remount(MS_RDONLY));
    ASSERT_OK(munmap(mapping, 4096));
    EXPECT_OK(remount(MS_RDONLY)) << "readers are no obstacle";
    EXPECT_FAILS(EROFS, open(C("m/f"), O_WRONLY));
    EXPECT_OK(remount(0));
    EXPECT_OK(close(open(C("m/f"), O_WRONLY)));
  }
}

TEST_F(TmpfsTest, LinkAndRenameAcrossMountsIsEXDEV) {
  Touch("f");
  EXPECT_FAILS(EXDEV, link(P("f").c_str(), P("m/f").c_str()));
  EXPECT_FAILS(EXDEV, Rename("f", "m/f"));
}

TEST_F(TmpfsTest, BindMountShowsTheSameFiles) {
  Touch("m/f", "bound");
  Mkdir("b");
  ASSERT_OK(mount(P("m").c_str(), P("b").c_str(), nullptr, MS_BIND, nullptr));
  EXPECT_EQ("bound", ReadFile(P("b/f")));
  EXPECT_NE(std::string::npos, ReadFile("/proc/self/mountinfo").find(" " + P("b") + " "));
  EXPECT_OK(umount(C("b")));
}

TEST_F(TmpfsTest, MountErrors) {
  EXPECT_FAILS(ENODEV, mount("x", C("m"), "no-such-fs", 0, nullptr));
  EXPECT_FAILS(ENOENT, mount("tmpfs", C("none"), "tmpfs", 0, nullptr));
  EXPECT_FAILS(EINVAL, mount("tmpfs", C("m"), "tmpfs", 0, "nonsense=1"));
  EXPECT_EQ(Exited(0), RunInChild([&] {
              CHILD_CHECK(setresuid(65534, 65534, 65534) == 0);
              CHILD_CHECK(mount("tmpfs", "/tmp", "tmpfs", 0, nullptr) == -1 && errno == EPERM);
              CHILD_CHECK(umount("/tmp") == -1 && errno == EPERM);
            }));
}

}  // namespace
