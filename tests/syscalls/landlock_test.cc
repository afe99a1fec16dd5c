// SPDX-License-Identifier: Apache-2.0
// landlock(7): rulesets, rules, layers, and what a domain refuses at each operation of the file system. ABI 2's rights.
#include <fcntl.h>
#include <linux/landlock.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>

#include <thread>

#include "tests/syscalls/util.h"

namespace {

constexpr uint64_t kAll = (1 << 14) - 1;
constexpr uint64_t kRead = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR;
constexpr uint64_t kMake = LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_REMOVE_FILE;

long CreateRuleset(const void* attr, size_t size, unsigned flags) {
  return syscall(SYS_landlock_create_ruleset, attr, size, flags);
}
Fd NewRuleset(uint64_t handled) { return Fd(static_cast<int>(CreateRuleset(&handled, sizeof handled, 0))); }
long AddRule(int ruleset, int parent, uint64_t rights, unsigned flags = 0, int type = LANDLOCK_RULE_PATH_BENEATH) {
  landlock_path_beneath_attr rule = {rights, parent};
  return syscall(SYS_landlock_add_rule, ruleset, type, &rule, flags);
}
long Restrict(int ruleset, unsigned flags = 0) { return syscall(SYS_landlock_restrict_self, ruleset, flags); }

struct Rule {
  std::string path;
  uint64_t rights;
};

// Restricts the calling child.
void Confine(uint64_t handled, std::initializer_list<Rule> rules) {
  Fd ruleset = NewRuleset(handled);
  CHILD_CHECK(ruleset.ok());
  for (const Rule& rule : rules) {
    Fd parent(open(rule.path.c_str(), O_PATH | O_CLOEXEC));
    CHILD_CHECK(parent.ok());
    CHILD_CHECK(AddRule(ruleset.get(), parent.get(), rule.rights) == 0);
  }
  CHILD_CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
  CHILD_CHECK(Restrict(ruleset.get()) == 0);
}

int OpenErrno(const std::string& path, int flags) {
  Fd fd(open(path.c_str(), flags, 0600));
  return fd.ok() ? 0 : errno;
}
int Errno(long result) { return result == -1 ? errno : 0; }

class Landlock : public testing::Test {
 protected:
  void SetUp() override {
    if (CreateRuleset(nullptr, 0, LANDLOCK_CREATE_RULESET_VERSION) == -1)
      GTEST_SKIP() << "this kernel has no landlock: " << strerror(errno);
    for (const char* d : {"a", "a/sub", "b"}) ASSERT_EQ(0, mkdir((dir_ / d).c_str(), 0755));
    for (const char* f : {"a/f", "a/sub/g", "b/h", "top"}) ASSERT_TRUE(WriteFile(dir_ / f, "x"));
  }
  std::string P(const std::string& name) { return dir_ / name; }
  TempDir dir_;
};

TEST_F(Landlock, VersionAndBadRulesets) {
  EXPECT_GE(CreateRuleset(nullptr, 0, LANDLOCK_CREATE_RULESET_VERSION), 2);
  uint64_t attr[3] = {LANDLOCK_ACCESS_FS_READ_FILE, 0, 0};
  EXPECT_FAILS(EINVAL, CreateRuleset(attr, sizeof attr, LANDLOCK_CREATE_RULESET_VERSION));
  EXPECT_FAILS(EINVAL, CreateRuleset(nullptr, 8, LANDLOCK_CREATE_RULESET_VERSION));
  EXPECT_FAILS(EINVAL, CreateRuleset(attr, 8, ~0u));
  EXPECT_FAILS(EINVAL, CreateRuleset(attr, 0, 0));
  EXPECT_FAILS(EINVAL, CreateRuleset(attr, 7, 0));
  EXPECT_FAILS(E2BIG, CreateRuleset(attr, 4097, 0));
  EXPECT_FAILS(EFAULT, CreateRuleset(nullptr, 8, 0));
  Fd longer(static_cast<int>(CreateRuleset(attr, sizeof attr, 0)));
  EXPECT_TRUE(longer.ok()) << "zeroes beyond what is known";
  std::vector<uint64_t> more(16, 0);
  more[0] = LANDLOCK_ACCESS_FS_READ_FILE;
  more[15] = 1;
  EXPECT_FAILS(E2BIG, CreateRuleset(more.data(), 128, 0));
  attr[0] = 1ull << 63;
  EXPECT_FAILS(EINVAL, CreateRuleset(attr, 8, 0));
  attr[0] = 0;
  EXPECT_FAILS(ENOMSG, CreateRuleset(attr, 8, 0));
  Fd ruleset = NewRuleset(kAll);
  ASSERT_TRUE(ruleset.ok());
  EXPECT_EQ(FD_CLOEXEC, fcntl(ruleset.get(), F_GETFD));
  char byte;
  EXPECT_FAILS(EINVAL, read(ruleset.get(), &byte, 1));
  EXPECT_FAILS(EINVAL, write(ruleset.get(), &byte, 1));
}

TEST_F(Landlock, BadRules) {
  Fd ruleset = NewRuleset(kRead), dir(open(P("a").c_str(), O_PATH)), file(open(P("a/f").c_str(), O_PATH));
  Pipe pipe;
  EXPECT_FAILS(EINVAL, AddRule(ruleset.get(), dir.get(), kRead, 1));
  EXPECT_FAILS(EBADF, AddRule(-1, dir.get(), kRead));
  EXPECT_FAILS(EBADFD, AddRule(pipe.r.get(), dir.get(), kRead));
  EXPECT_FAILS(EINVAL, AddRule(ruleset.get(), dir.get(), kRead, 0, 99));
  EXPECT_FAILS(EFAULT, syscall(SYS_landlock_add_rule, ruleset.get(), LANDLOCK_RULE_PATH_BENEATH, nullptr, 0));
  EXPECT_FAILS(ENOMSG, AddRule(ruleset.get(), dir.get(), 0));
  EXPECT_FAILS(EINVAL, AddRule(ruleset.get(), dir.get(), LANDLOCK_ACCESS_FS_WRITE_FILE)) << "not handled";
  EXPECT_FAILS(EINVAL, AddRule(ruleset.get(), file.get(), LANDLOCK_ACCESS_FS_READ_DIR)) << "of directories only";
  EXPECT_FAILS(EBADF, AddRule(ruleset.get(), -1, kRead));
  EXPECT_FAILS(EBADFD, AddRule(ruleset.get(), pipe.r.get(), LANDLOCK_ACCESS_FS_READ_FILE));
  EXPECT_FAILS(EBADFD, AddRule(ruleset.get(), ruleset.get(), LANDLOCK_ACCESS_FS_READ_FILE));
  EXPECT_OK(AddRule(ruleset.get(), file.get(), LANDLOCK_ACCESS_FS_READ_FILE));
}

TEST_F(Landlock, RestrictSelfChecks) {
  Fd ruleset = NewRuleset(kRead);
  Pipe pipe;
  EXPECT_EQ(Exited(0), RunInChild([&] {
              CHILD_CHECK(Errno(Restrict(ruleset.get(), ~0u)) == EINVAL);
              CHILD_CHECK(Errno(Restrict(-1)) == EBADF);
              CHILD_CHECK(Errno(Restrict(pipe.r.get())) == EBADFD);
              CHILD_CHECK(setresuid(65534, 65534, 65534) == 0);
              CHILD_CHECK(Errno(Restrict(ruleset.get())) == EPERM);
              CHILD_CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
              CHILD_CHECK(Restrict(ruleset.get()) == 0);
            }));
}

TEST_F(Landlock, ReadingAndWriting) {
  EXPECT_EQ(
      Exited(0), RunInChild([&] {
        Fd before(open(P("top").c_str(), O_RDWR));
        Confine(kAll, {{P("a"), kRead | LANDLOCK_ACCESS_FS_WRITE_FILE}, {P("b/h"), LANDLOCK_ACCESS_FS_READ_FILE}});
        CHILD_CHECK(OpenErrno(P("a/f"), O_RDWR) == 0);
        CHILD_CHECK(OpenErrno(P("a/sub/g"), O_RDONLY) == 0);
        CHILD_CHECK(OpenErrno(P("a"), O_RDONLY | O_DIRECTORY) == 0);
        CHILD_CHECK(OpenErrno(P("b/h"), O_RDONLY) == 0);
        CHILD_CHECK(OpenErrno(P("b/h"), O_WRONLY) == EACCES);
        CHILD_CHECK(OpenErrno(P("b"), O_RDONLY | O_DIRECTORY) == EACCES);
        CHILD_CHECK(OpenErrno(P("top"), O_RDONLY) == EACCES);
        // Names may be walked, looked at and held; attributes may be changed.
        struct stat st;
        CHILD_CHECK(OpenErrno(P("top"), O_PATH) == 0);
        CHILD_CHECK(stat(P("b/h").c_str(), &st) == 0 && access(P("top").c_str(), R_OK) == 0);
        CHILD_CHECK(chmod(P("top").c_str(), 0640) == 0 && chdir(P("b").c_str()) == 0);
        // What was open stays usable.
        CHILD_CHECK(write(before.get(), "y", 1) == 1);
        // Objects without a name are free.
        int p[2];
        CHILD_CHECK(pipe(p) == 0);
        CHILD_CHECK(OpenErrno("/proc/self/fd/" + std::to_string(p[0]), O_RDONLY | O_NONBLOCK) == 0);
      }));
}

TEST_F(Landlock, MakingAndRemoving) {
  EXPECT_EQ(Exited(0), RunInChild([&] {
              Confine(kAll, {{P("a"), kMake | LANDLOCK_ACCESS_FS_WRITE_FILE}});
              CHILD_CHECK(OpenErrno(P("a/new"), O_CREAT | O_WRONLY) == 0);
              CHILD_CHECK(OpenErrno(P("b/new"), O_CREAT | O_WRONLY) == EACCES);
              CHILD_CHECK(OpenErrno(P("b/h"), O_CREAT | O_EXCL | O_WRONLY) == EEXIST);
              CHILD_CHECK(unlink(P("a/new").c_str()) == 0);
              CHILD_CHECK(Errno(unlink(P("b/h").c_str())) == EACCES);
              CHILD_CHECK(Errno(unlink(P("b/none").c_str())) == ENOENT);
              CHILD_CHECK(Errno(mkdir(P("a/d").c_str(), 0755)) == EACCES);
              CHILD_CHECK(Errno(mkdir(P("a/sub").c_str(), 0755)) == EEXIST);
              CHILD_CHECK(Errno(rmdir(P("a/sub").c_str())) == EACCES);
              CHILD_CHECK(Errno(symlink("x", P("a/l").c_str())) == EACCES);
              CHILD_CHECK(Errno(mknod(P("a/p").c_str(), S_IFIFO | 0600, 0)) == EACCES);
              CHILD_CHECK(mknod(P("a/r").c_str(), S_IFREG | 0600, 0) == 0);
              CHILD_CHECK(Errno(mknod(P("a/c").c_str(), S_IFCHR | 0600, 0x103)) == EACCES);
              CHILD_CHECK(Errno(mknod(P("a/k").c_str(), S_IFBLK | 0600, 0x103)) == EACCES);
              Fd s(socket(AF_UNIX, SOCK_STREAM, 0));
              sockaddr_un address = {.sun_family = AF_UNIX};
              snprintf(address.sun_path, sizeof address.sun_path, "%s", P("a/s").c_str());
              CHILD_CHECK(Errno(bind(s.get(), reinterpret_cast<sockaddr*>(&address), sizeof address)) == EACCES);
            }));
  struct {
    uint64_t right;
    mode_t type;
  } const types[] = {{LANDLOCK_ACCESS_FS_MAKE_FIFO, S_IFIFO}, {LANDLOCK_ACCESS_FS_MAKE_SOCK, S_IFSOCK}};
  for (const auto& each : types) {
    EXPECT_EQ(Exited(0), RunInChild([&] {
                Confine(kAll, {{P("b"), each.right}});
                CHILD_CHECK(mknod((P("b/n") + std::to_string(each.type)).c_str(), each.type | 0600, 0) == 0);
                CHILD_CHECK(Errno(mknod(P("b/r").c_str(), S_IFREG | 0600, 0)) == EACCES);
              }));
  }
  EXPECT_EQ(Exited(0), RunInChild([&] {
              Confine(kAll, {{P("b"), LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_REMOVE_DIR |
                                          LANDLOCK_ACCESS_FS_MAKE_SYM}});
              CHILD_CHECK(mkdir(P("b/d").c_str(), 0755) == 0 && rmdir(P("b/d").c_str()) == 0);
              CHILD_CHECK(symlink("x", P("b/l").c_str()) == 0);
              CHILD_CHECK(Errno(unlink(P("b/l").c_str())) == EACCES);
            }));
}

TEST_F(Landlock, RenameInOneDirectory) {
  EXPECT_EQ(Exited(0), RunInChild([&] {
              Confine(kAll, {{P("a"), kMake}});
              CHILD_CHECK(rename(P("a/f").c_str(), P("a/f2").c_str()) == 0);
              CHILD_CHECK(Errno(rename(P("b/h").c_str(), P("b/h2").c_str())) == EACCES);
              CHILD_CHECK(Errno(rename(P("a/sub").c_str(), P("a/sub2").c_str())) == EACCES);
              CHILD_CHECK(Errno(rename(P("b/none").c_str(), P("b/h2").c_str())) == ENOENT);
            }));
}

TEST_F(Landlock, ReparentingNeedsRefer) {
  // A ruleset that does not know of REFER refuses it.
  EXPECT_EQ(Exited(0), RunInChild([&] {
              Confine(kMake, {{P("a"), kMake}, {P("b"), kMake}});
              CHILD_CHECK(Errno(rename(P("a/f").c_str(), P("b/f").c_str())) == EXDEV);
              CHILD_CHECK(Errno(link(P("a/f").c_str(), P("b/f").c_str())) == EXDEV);
              CHILD_CHECK(link(P("a/f").c_str(), P("a/f3").c_str()) == 0);
              CHILD_CHECK(Errno(rename(P("a/f").c_str(), P("f").c_str())) == EACCES);
            }));
  EXPECT_EQ(Exited(0), RunInChild([&] {
              Confine(kMake | LANDLOCK_ACCESS_FS_REFER,
                      {{P("a"), kMake | LANDLOCK_ACCESS_FS_REFER}, {P("b"), kMake | LANDLOCK_ACCESS_FS_REFER}});
              CHILD_CHECK(rename(P("a/f").c_str(), P("b/f").c_str()) == 0);
              CHILD_CHECK(link(P("b/f").c_str(), P("a/f").c_str()) == 0);
              CHILD_CHECK(Errno(rename(P("top").c_str(), P("b/top").c_str())) == EACCES);
            }));
}

TEST_F(Landlock, ReparentingMustNotGainRights) {
  EXPECT_EQ(Exited(0), RunInChild([&] {
              constexpr uint64_t kMove = kMake | LANDLOCK_ACCESS_FS_REFER;
              Confine(kMove | LANDLOCK_ACCESS_FS_READ_FILE,
                      {{P("a"), kMove | LANDLOCK_ACCESS_FS_READ_FILE}, {P("b"), kMove}});
              CHILD_CHECK(Errno(rename(P("b/h").c_str(), P("a/h").c_str())) == EXDEV);
              CHILD_CHECK(rename(P("a/f").c_str(), P("b/f").c_str()) == 0);
              CHILD_CHECK(Errno(syscall(SYS_renameat2, AT_FDCWD, P("a/sub/g").c_str(), AT_FDCWD, P("b/h").c_str(),
                                        2 /* RENAME_EXCHANGE */)) == EXDEV);
              CHILD_CHECK(syscall(SYS_renameat2, AT_FDCWD, P("b/f").c_str(), AT_FDCWD, P("b/h").c_str(), 2) == 0);
            }));
}

TEST_F(Landlock, LayersAddUp) {
  EXPECT_EQ(Exited(0), RunInChild([&] {
              Confine(LANDLOCK_ACCESS_FS_READ_FILE, {{P("a"), LANDLOCK_ACCESS_FS_READ_FILE}});
              Confine(LANDLOCK_ACCESS_FS_READ_FILE,
                      {{P("a/sub"), LANDLOCK_ACCESS_FS_READ_FILE}, {P("b"), LANDLOCK_ACCESS_FS_READ_FILE}});
              CHILD_CHECK(OpenErrno(P("a/sub/g"), O_RDONLY) == 0);
              CHILD_CHECK(OpenErrno(P("a/f"), O_RDONLY) == EACCES);
              CHILD_CHECK(OpenErrno(P("b/h"), O_RDONLY) == EACCES);
              CHILD_CHECK(OpenErrno(P("b/h"), O_WRONLY) == 0);
              int layers = 2;
              Fd ruleset = NewRuleset(LANDLOCK_ACCESS_FS_MAKE_FIFO);
              while (Restrict(ruleset.get()) == 0) ++layers;
              CHILD_CHECK(errno == E2BIG && layers == 16);
            }));
}

TEST_F(Landlock, InheritedNotShared) {
  EXPECT_EQ(Exited(0), RunInChild([&] {
              std::thread([&] {
                Confine(kRead, {});
                CHILD_CHECK(OpenErrno(P("top"), O_RDONLY) == EACCES);
                std::thread([&] { CHILD_CHECK(OpenErrno(P("top"), O_RDONLY) == EACCES); }).join();
                CHILD_CHECK(RunInChild([&] { CHILD_CHECK(OpenErrno(P("top"), O_RDONLY) == EACCES); }) == Exited(0));
              }).join();
              CHILD_CHECK(OpenErrno(P("top"), O_RDONLY) == 0);
            }));
}

TEST_F(Landlock, Execute) {
  EXPECT_EQ(Exited(0), RunInChild([&] {
              Confine(LANDLOCK_ACCESS_FS_EXECUTE, {});
              CHILD_CHECK(Errno(execl("/proc/self/exe", "x", nullptr)) == EACCES);
            }));
  EXPECT_EQ(Exited(0), RunInChild([&] {
              Confine(LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_READ_FILE,
                      {{"/", LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_READ_FILE}});
              execl("/bin/true", "true", nullptr);
              CHILD_CHECK(errno == ENOENT);
            }));
}

TEST_F(Landlock, ThroughMounts) {
  EXPECT_EQ(Exited(0), RunInChild([&] {
              CHILD_CHECK(unshare(CLONE_NEWNS) == 0);
              CHILD_CHECK(mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0);
              CHILD_CHECK(mount("tmpfs", P("b").c_str(), "tmpfs", 0, nullptr) == 0);
              CHILD_CHECK(WriteFile(P("b/in"), "x"));
              // The rule is on the directory around the mount.
              Confine(kRead, {{dir_.path(), LANDLOCK_ACCESS_FS_READ_FILE}});
              CHILD_CHECK(OpenErrno(P("b/in"), O_RDONLY) == 0);
              // Nothing may be mounted or unmounted.
              CHILD_CHECK(Errno(mount("tmpfs", P("a").c_str(), "tmpfs", 0, nullptr)) == EPERM);
              CHILD_CHECK(Errno(umount(P("b").c_str())) == EPERM);
            }));
}

TEST_F(Landlock, TracingIsScoped) {
  Event ready, done;
  Child child([&] {
    ready.Set();
    done.Wait();
  });
  ASSERT_TRUE(ready.Wait());
  EXPECT_EQ(Exited(0), RunInChild([&] {
              Confine(LANDLOCK_ACCESS_FS_MAKE_FIFO, {});
              CHILD_CHECK(Errno(ptrace(PTRACE_ATTACH, child.pid(), 0, 0)) == EPERM);
              // What is restricted as well may be traced.
              pid_t pid = fork();
              if (pid == 0) {
                CHILD_CHECK(ptrace(PTRACE_TRACEME, 0, 0, 0) == 0);
                _exit(0);
              }
              CHILD_CHECK(WaitStatus(pid) == Exited(0));
            }));
  done.Set();
  EXPECT_EQ(Exited(0), child.Wait());
}

}  // namespace
