// SPDX-License-Identifier: Apache-2.0
// Calls and features that no other program here covers: kcmp, fchmodat2, mlock2, adjtimex's reading side, syslog,
// restart_syscall, acct, TIOCSTI, vmsplice, whiteouts, huge directories, 40-deep links.
#include <dirent.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/timex.h>
#include <sys/uio.h>
#include <unistd.h>

#include <set>
#include <string>

#include "tests/syscalls/util.h"

namespace {

long Kcmp(pid_t a, pid_t b, int type, unsigned long x = 0, unsigned long y = 0) {
  return syscall(SYS_kcmp, a, b, type, x, y);
}

TEST(Kcmp, SharedThingsAreEqual) {
  const pid_t self = getpid();
  int fd = open("/dev/null", O_RDONLY), again = dup(fd), other = open("/dev/null", O_RDONLY);
  ASSERT_GE(other, 0);
  EXPECT_EQ(0, Kcmp(self, self, KCMP_FILE, fd, again));
  const long order = Kcmp(self, self, KCMP_FILE, fd, other);
  EXPECT_TRUE(order == 1 || order == 2) << order;
  EXPECT_EQ(3 - order, Kcmp(self, self, KCMP_FILE, other, fd));
  for (int type : {KCMP_VM, KCMP_FILES, KCMP_FS, KCMP_SIGHAND}) EXPECT_EQ(0, Kcmp(self, self, type)) << type;
  EXPECT_FAILS(EBADF, Kcmp(self, self, KCMP_FILE, fd, 9999));
  EXPECT_FAILS(EINVAL, Kcmp(self, self, 100));
  EXPECT_FAILS(ESRCH, Kcmp(self, 0x3fffffff, KCMP_VM));
  Event done;
  Child child([&] { done.Wait(); });
  EXPECT_NE(0, Kcmp(self, child.pid(), KCMP_VM));
  EXPECT_NE(0, Kcmp(self, child.pid(), KCMP_FILES));
  done.Set();
  EXPECT_EQ(Exited(0), child.Wait());
  for (int f : {fd, again, other}) close(f);
}

TEST(Restart, ByHandIsAnInterruptedCall) { EXPECT_FAILS(EINTR, syscall(SYS_restart_syscall)); }

TEST(Adjtimex, ReadsWithoutPrivilegeAndChecksModes) {
  timex t = {};
  EXPECT_GE(adjtimex(&t), 0);
  EXPECT_GT(t.tick, 0);
  EXPECT_GT(t.time.tv_sec, 1'000'000'000);
  timex clock = {};
  EXPECT_GE(clock_adjtime(CLOCK_REALTIME, &clock), 0);
  EXPECT_FAILS(EFAULT, syscall(SYS_adjtimex, nullptr));
  Child child([] {
    CHILD_CHECK(syscall(SYS_setresuid, 1234, 1234, 1234) == 0);
    timex set = {};
    set.modes = ADJ_FREQUENCY;
    CHILD_CHECK(adjtimex(&set) == -1 && errno == EPERM);
  });
  EXPECT_EQ(Exited(0), child.Wait());
}

TEST(Syslog, SizesAndArguments) {
  EXPECT_GT(syscall(SYS_syslog, 10, nullptr, 0), 0);
  EXPECT_FAILS(EINVAL, syscall(SYS_syslog, 3, nullptr, 10));
  EXPECT_FAILS(EINVAL, syscall(SYS_syslog, 99, nullptr, 0));
  Child child([] {
    CHILD_CHECK(syscall(SYS_setresuid, 1234, 1234, 1234) == 0);
    CHILD_CHECK(syscall(SYS_syslog, 5, nullptr, 0) == -1 && errno == EPERM);
    CHILD_CHECK(syscall(SYS_acct, nullptr) == -1 && errno == EPERM);
  });
  EXPECT_EQ(Exited(0), child.Wait());
}

TEST(Mlock2, OnFaultAndItsFlags) {
  void* page = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(MAP_FAILED, page);
  EXPECT_OK(syscall(SYS_mlock2, page, 4096, 1 /* MLOCK_ONFAULT */));
  EXPECT_OK(munlock(page, 4096));
  EXPECT_FAILS(EINVAL, syscall(SYS_mlock2, page, 4096, 2));
  EXPECT_OK(munmap(page, 4096));
  EXPECT_FAILS(ENOMEM, syscall(SYS_mlock2, page, 4096, 0));
}

std::string ScratchDirectory() {
  std::string name = ::testing::TempDir() + "/surface.XXXXXX";
  EXPECT_NE(nullptr, mkdtemp(name.data()));
  return name;
}

TEST(Fchmodat2, LinksAndEmptyPaths) {
  const std::string directory = ScratchDirectory(), file = directory + "/file", link = directory + "/link";
  int fd = open(file.c_str(), O_CREAT | O_RDWR, 0600);
  ASSERT_GE(fd, 0);
  ASSERT_OK(symlink("file", link.c_str()));
  auto mode = [&] {
    struct stat st = {};
    EXPECT_OK(fstat(fd, &st));
    return st.st_mode & 07777;
  };
  auto change = [](int at, const char* path, mode_t m, int flags) { return syscall(452, at, path, m, flags); };
  if (change(AT_FDCWD, file.c_str(), 0640, 0) != 0 && errno == ENOSYS) GTEST_SKIP() << "a kernel before 6.6";
  EXPECT_EQ(0640u, mode());
  EXPECT_OK(change(AT_FDCWD, link.c_str(), 0604, 0));
  EXPECT_EQ(0604u, mode());
  EXPECT_FAILS(EOPNOTSUPP, change(AT_FDCWD, link.c_str(), 0600, AT_SYMLINK_NOFOLLOW));
  int path = open(file.c_str(), O_PATH);
  EXPECT_OK(change(path, "", 0611, AT_EMPTY_PATH));
  EXPECT_EQ(0611u, mode());
  EXPECT_FAILS(ENOENT, change(path, "", 0600, 0));
  EXPECT_FAILS(EINVAL, change(AT_FDCWD, file.c_str(), 0600, 0x10));
  close(path);
  close(fd);
  unlink(link.c_str());
  unlink(file.c_str());
  rmdir(directory.c_str());
}

TEST(Vmsplice, BothWays) {
  int ends[2];
  ASSERT_EQ(0, pipe(ends));
  char out[] = "from memory", in[20] = {};
  iovec source[] = {{out, 5}, {out + 5, sizeof out - 5}};
  ASSERT_EQ(static_cast<ssize_t>(sizeof out), vmsplice(ends[1], source, 2, 0));
  iovec target = {in, sizeof in};
  ASSERT_EQ(static_cast<ssize_t>(sizeof out), vmsplice(ends[0], &target, 1, 0));
  EXPECT_STREQ(out, in);
  EXPECT_FAILS(EAGAIN, vmsplice(ends[0], &target, 1, SPLICE_F_NONBLOCK));
  EXPECT_FAILS(EINVAL, vmsplice(ends[1], source, 2, 0x100));
  const int null = open("/dev/null", O_RDWR);
  EXPECT_FAILS(EBADF, vmsplice(null, source, 2, 0));
  iovec bad = {reinterpret_cast<void*>(8), 10};
  EXPECT_FAILS(EFAULT, vmsplice(ends[1], &bad, 1, 0));
  for (int fd : {null, ends[0], ends[1]}) close(fd);
}

TEST(Whiteouts, RenameLeavesOne) {
  char path[] = "/tmp/surface.XXXXXX";
  ASSERT_NE(mkdtemp(path), nullptr);
  ASSERT_EQ(0, mount("none", path, "tmpfs", 0, nullptr)) << strerror(errno);
  const std::string from = std::string(path) + "/a", to = std::string(path) + "/b";
  close(open(from.c_str(), O_CREAT | O_WRONLY, 0644));
  EXPECT_EQ(0, renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_WHITEOUT)) << strerror(errno);
  struct stat st = {};
  EXPECT_EQ(0, stat(from.c_str(), &st));
  EXPECT_TRUE(S_ISCHR(st.st_mode));
  EXPECT_EQ(makedev(0, 0), st.st_rdev);
  EXPECT_FAILS(EINVAL, renameat2(AT_FDCWD, to.c_str(), AT_FDCWD, from.c_str(), RENAME_WHITEOUT | RENAME_EXCHANGE));
  EXPECT_EQ(0, umount2(path, MNT_DETACH));
  EXPECT_EQ(0, rmdir(path));
}

TEST(Directories, OfAHundredThousandEntriesAreReadWhole) {
  constexpr int kEntries = 100'000;
  const std::string directory = ScratchDirectory();
  int at = open(directory.c_str(), O_RDONLY | O_DIRECTORY);
  ASSERT_GE(at, 0);
  for (int i = 0; i < kEntries; ++i) ASSERT_OK(mknodat(at, ("e" + std::to_string(i)).c_str(), S_IFREG | 0600, 0));
  DIR* dir = fdopendir(dup(at));
  ASSERT_NE(nullptr, dir);
  std::set<std::string> seen;
  while (dirent* entry = readdir(dir)) seen.insert(entry->d_name);
  closedir(dir);
  EXPECT_EQ(kEntries + 2u, seen.size());
  for (int i = 0; i < kEntries; ++i) ASSERT_OK(unlinkat(at, ("e" + std::to_string(i)).c_str(), 0));
  close(at);
  EXPECT_OK(rmdir(directory.c_str()));
}

TEST(Links, FortyAreFollowedAndOneMoreIsNot) {
  const std::string directory = ScratchDirectory();
  int at = open(directory.c_str(), O_RDONLY | O_DIRECTORY);
  ASSERT_GE(at, 0);
  close(openat(at, "l0", O_CREAT | O_RDWR, 0600));
  for (int i = 1; i <= 41; ++i)
    ASSERT_OK(symlinkat(("l" + std::to_string(i - 1)).c_str(), at, ("l" + std::to_string(i)).c_str()));
  struct stat st;
  EXPECT_OK(fstatat(at, "l40", &st, 0));
  EXPECT_FAILS(ELOOP, fstatat(at, "l41", &st, 0));
  for (int i = 0; i <= 41; ++i) unlinkat(at, ("l" + std::to_string(i)).c_str(), 0);
  close(at);
  rmdir(directory.c_str());
}

TEST(Tiocsti, IsRefusedToTheUnprivilegedAndOnOthersTerminals) {
  int master = posix_openpt(O_RDWR | O_NOCTTY);
  ASSERT_GE(master, 0);
  ASSERT_OK(grantpt(master));
  ASSERT_OK(unlockpt(master));
  const std::string name = ptsname(master);
  int terminal = open(name.c_str(), O_RDWR | O_NOCTTY);
  ASSERT_GE(terminal, 0);
  Child child([&] {
    CHILD_CHECK(syscall(SYS_setresuid, 1234, 1234, 1234) == 0);
    CHILD_CHECK(ioctl(terminal, TIOCSTI, "x") == -1 && (errno == EPERM || errno == EIO));
  });
  EXPECT_EQ(Exited(0), child.Wait());
  close(terminal);
  close(master);
}

}  // namespace
