// SPDX-License-Identifier: Apache-2.0
// User and group ids, capabilities, prctl, namespaces. Each change happens in a child.
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <sched.h>
#include <sys/fsuid.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>

#include "tests/syscalls/util.h"

namespace {

struct Caps {
  __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2] = {};
  int Get() { return syscall(SYS_capget, &head, data); }
  int Set() { return syscall(SYS_capset, &head, data); }
  bool Effective(int cap) const { return data[cap / 32].effective >> (cap % 32) & 1; }
  bool Permitted(int cap) const { return data[cap / 32].permitted >> (cap % 32) & 1; }
};

bool Ids(uid_t r, uid_t e, uid_t s) {
  uid_t a, b, c;
  return getresuid(&a, &b, &c) == 0 && a == r && b == e && c == s;
}

// What must hold, in a child; the last argument is the code.
#define IN_CHILD(...) EXPECT_EQ(Exited(0), RunInChild([&] { __VA_ARGS__ }))

TEST(Ids, SetuidByRootChangesAllThree) {
  IN_CHILD(CHILD_CHECK(setuid(1000) == 0); CHILD_CHECK(Ids(1000, 1000, 1000));
           CHILD_CHECK(setuid(0) == -1 && errno == EPERM););
}

TEST(Ids, SeteuidKeepsTheSavedId) {
  IN_CHILD(CHILD_CHECK(seteuid(1000) == 0); CHILD_CHECK(Ids(0, 1000, 0)); CHILD_CHECK(seteuid(0) == 0);
           CHILD_CHECK(Ids(0, 0, 0)););
}

TEST(Ids, SetreuidUpdatesTheSavedId) {
  IN_CHILD(CHILD_CHECK(setreuid(-1, 1000) == 0); CHILD_CHECK(Ids(0, 1000, 1000)); CHILD_CHECK(setreuid(1000, 0) == 0);
           CHILD_CHECK(Ids(1000, 0, 0)););
}

TEST(Ids, SetresuidUnprivilegedPicksFromItsOwn) {
  IN_CHILD(CHILD_CHECK(setresuid(1, 2, 3) == 0); CHILD_CHECK(setresuid(3, 1, 2) == 0); CHILD_CHECK(Ids(3, 1, 2));
           CHILD_CHECK(setresuid(-1, 4, -1) == -1 && errno == EPERM); CHILD_CHECK(Ids(3, 1, 2)););
}

TEST(Ids, GroupsLikewise) {
  IN_CHILD(CHILD_CHECK(setresgid(5, 6, 7) == 0); CHILD_CHECK(setuid(1000) == 0); gid_t r, e, s;
           CHILD_CHECK(getresgid(&r, &e, &s) == 0 && r == 5 && e == 6 && s == 7);
           CHILD_CHECK(setgid(7) == 0 && getegid() == 7); CHILD_CHECK(setgid(8) == -1 && errno == EPERM););
}

TEST(Ids, SupplementaryGroups) {
  EXPECT_EQ(Exited(0), RunInChild([] {
              gid_t want[] = {30, 10, 20}, got[8];
              CHILD_CHECK(setgroups(3, want) == 0);
              CHILD_CHECK(getgroups(0, nullptr) == 3);
              CHILD_CHECK(getgroups(8, got) == 3);
              CHILD_CHECK(got[0] + got[1] + got[2] == 60);
              CHILD_CHECK(getgroups(2, got) == -1 && errno == EINVAL);
              CHILD_CHECK(syscall(SYS_setgroups, 65537, want) == -1 && errno == EINVAL);
              CHILD_CHECK(setuid(1000) == 0);
              CHILD_CHECK(setgroups(0, nullptr) == -1 && errno == EPERM);
            }));
}

TEST(Ids, FsuidFollowsEuidAndCanDiffer) {
  EXPECT_EQ(Exited(0), RunInChild([] {
              TempDir dir;
              CHILD_CHECK(chmod(dir.path().c_str(), 0777) == 0);
              CHILD_CHECK(setfsuid(1234) == 0);
              CHILD_CHECK(WriteFile(dir / "f", ""));
              struct stat st;
              CHILD_CHECK(stat((dir / "f").c_str(), &st) == 0 && st.st_uid == 1234);
              CHILD_CHECK(setfsuid(-1) == 1234);
              CHILD_CHECK(seteuid(1000) == 0 && setfsuid(-1) == 1000);
              CHILD_CHECK(seteuid(0) == 0);
            }));
}

TEST(Caps, RootHasThemUntilItLeaves) {
  EXPECT_EQ(Exited(0), RunInChild([] {
              Caps c;
              CHILD_CHECK(c.Get() == 0 && c.Effective(CAP_CHOWN) && c.Permitted(CAP_SETUID));
              CHILD_CHECK(setresuid(-1, 1000, -1) == 0);
              CHILD_CHECK(c.Get() == 0 && !c.Effective(CAP_CHOWN) && c.Permitted(CAP_CHOWN));
              CHILD_CHECK(seteuid(0) == 0 && c.Get() == 0 && c.Effective(CAP_CHOWN));
              CHILD_CHECK(setuid(1000) == 0 && c.Get() == 0 && !c.Permitted(CAP_CHOWN));
            }));
}

TEST(Caps, KeepcapsPreservesThePermittedSet) {
  EXPECT_EQ(Exited(0), RunInChild([] {
              CHILD_CHECK(prctl(PR_SET_KEEPCAPS, 1) == 0 && prctl(PR_GET_KEEPCAPS) == 1);
              CHILD_CHECK(setresuid(1000, 1000, 1000) == 0);
              Caps c;
              CHILD_CHECK(c.Get() == 0 && c.Permitted(CAP_CHOWN) && !c.Effective(CAP_CHOWN));
              c.data[0].effective = 1 << CAP_CHOWN;
              CHILD_CHECK(c.Set() == 0 && c.Get() == 0 && c.Effective(CAP_CHOWN));
            }));
}

TEST(Caps, DroppedPermittedIsGone) {
  EXPECT_EQ(Exited(0), RunInChild([] {
              Caps c;
              CHILD_CHECK(c.Get() == 0);
              c.data[0].effective &= ~(1 << CAP_CHOWN);
              c.data[0].permitted &= ~(1 << CAP_CHOWN);
              CHILD_CHECK(c.Set() == 0);
              TempDir dir;
              CHILD_CHECK(chown(dir.path().c_str(), 1, 1) == -1 && errno == EPERM);
              c.data[0].permitted |= 1 << CAP_CHOWN;
              CHILD_CHECK(c.Set() == -1 && errno == EPERM);
            }));
}

TEST(Caps, BoundingSetDrop) {
  EXPECT_EQ(Exited(0), RunInChild([] {
              CHILD_CHECK(prctl(PR_CAPBSET_READ, CAP_CHOWN) == 1);
              CHILD_CHECK(prctl(PR_CAPBSET_DROP, CAP_CHOWN) == 0);
              CHILD_CHECK(prctl(PR_CAPBSET_READ, CAP_CHOWN) == 0);
              CHILD_CHECK(prctl(PR_CAPBSET_READ, 1000) == -1 && errno == EINVAL);
            }));
}

TEST(Caps, AmbientNeedsPermittedAndInheritable) {
  EXPECT_EQ(Exited(0), RunInChild([] {
              CHILD_CHECK(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_CHOWN, 0, 0) == -1 && errno == EPERM);
              Caps c;
              CHILD_CHECK(c.Get() == 0);
              c.data[0].inheritable |= 1 << CAP_CHOWN;
              CHILD_CHECK(c.Set() == 0);
              CHILD_CHECK(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_CHOWN, 0, 0) == 0);
              CHILD_CHECK(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, CAP_CHOWN, 0, 0) == 1);
            }));
}

TEST(Caps, VersionProbe) {
  __user_cap_header_struct head = {0, 0};
  EXPECT_FAILS(EINVAL, syscall(SYS_capget, &head, (Caps{}).data));
  EXPECT_EQ(static_cast<uint32_t>(_LINUX_CAPABILITY_VERSION_3), head.version);
}

TEST(Prctl, Name) {
  EXPECT_EQ(Exited(0), RunInChild([] {
              char buf[16] = {};
              CHILD_CHECK(prctl(PR_SET_NAME, "a-name-longer-than-15") == 0);
              CHILD_CHECK(prctl(PR_GET_NAME, buf) == 0 && !strcmp(buf, "a-name-longer-t"));
              CHILD_CHECK(ReadFile("/proc/self/comm") == "a-name-longer-t\n");
            }));
}

TEST(Prctl, NoNewPrivsIsOneWayAndInherited) {
  EXPECT_EQ(Exited(0), RunInChild([] {
              CHILD_CHECK(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 0);
              CHILD_CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
              CHILD_CHECK(prctl(PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0) == -1 && errno == EINVAL);
              CHILD_CHECK(RunInChild([] { CHILD_CHECK(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1); }) == Exited(0));
            }));
}

TEST(Prctl, ReadBackSettings) {
  EXPECT_EQ(Exited(0), RunInChild([] {
              int v = -1;
              CHILD_CHECK(prctl(PR_SET_PDEATHSIG, SIGUSR1) == 0 && prctl(PR_GET_PDEATHSIG, &v) == 0 && v == SIGUSR1);
              CHILD_CHECK(prctl(PR_SET_PDEATHSIG, 65) == -1 && errno == EINVAL);
              CHILD_CHECK(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0 && prctl(PR_GET_CHILD_SUBREAPER, &v) == 0 && v == 1);
              CHILD_CHECK(prctl(PR_SET_DUMPABLE, 0) == 0 && prctl(PR_GET_DUMPABLE) == 0);
              CHILD_CHECK(prctl(PR_SET_DUMPABLE, 7) == -1 && errno == EINVAL);
              CHILD_CHECK(prctl(123456) == -1 && errno == EINVAL);
            }));
}

TEST(Namespaces, UtsHostname) {
  utsname before, after;
  uname(&before);
  EXPECT_EQ(Exited(0), RunInChild([] {
              CHILD_CHECK(unshare(CLONE_NEWUTS) == 0);
              CHILD_CHECK(sethostname("inside", 6) == 0);
              utsname u;
              CHILD_CHECK(uname(&u) == 0 && !strcmp(u.nodename, "inside"));
              CHILD_CHECK(syscall(SYS_sethostname, "x", 65) == -1 && errno == EINVAL);
            }));
  uname(&after);
  EXPECT_STREQ(before.nodename, after.nodename);
}

TEST(Namespaces, PidStartsAtOne) {
  EXPECT_EQ(Exited(0), RunInChild([] {
              CHILD_CHECK(unshare(CLONE_NEWPID) == 0);
              CHILD_CHECK(getpid() != 1);
              Child init([] {
                CHILD_CHECK(getpid() == 1 && getppid() == 0);
                CHILD_CHECK(RunInChild([] { CHILD_CHECK(getpid() == 2 && getppid() == 1); }) == Exited(0));
                // Without a handler, init is immune to its own namespace's signals.
                CHILD_CHECK(kill(1, SIGKILL) == 0 && kill(1, SIGTERM) == 0);
              });
              CHILD_CHECK(init.pid() > 1);
              CHILD_CHECK(init.Wait() == Exited(0));
              CHILD_CHECK(fork() == -1 && errno == ENOMEM);
            }));
}

TEST(Namespaces, DeathOfInitKillsTheRest) {
  Pipe alive;
  Child outer([&] {
    CHILD_CHECK(unshare(CLONE_NEWPID) == 0);
    pid_t init = fork();
    if (init == 0) {
      if (fork() == 0) {
        alarm(30);
        for (;;) pause();
      }
      _exit(0);
    }
    CHILD_CHECK(WaitStatus(init) == Exited(0));
  });
  alive.w.reset();
  EXPECT_EQ(Exited(0), outer.Wait());
  char c;
  EXPECT_EQ(0, read(alive.r.get(), &c, 1));
}

TEST(Namespaces, MountsArePrivateAfterUnshare) {
  TempDir dir;
  EXPECT_EQ(Exited(0), RunInChild([&] {
              CHILD_CHECK(unshare(CLONE_NEWNS) == 0);
              CHILD_CHECK(mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0);
              CHILD_CHECK(mount("tmpfs", dir.path().c_str(), "tmpfs", 0, nullptr) == 0);
              CHILD_CHECK(WriteFile(dir / "f", "x"));
            }));
  EXPECT_FAILS(ENOENT, access((dir / "f").c_str(), F_OK));
}

TEST(Namespaces, LinksIdentifyThem) {
  char a[64] = {}, b[64] = {};
  ASSERT_OK(readlink("/proc/self/ns/uts", a, sizeof a - 1));
  EXPECT_EQ(0, strncmp(a, "uts:[", 5));
  EXPECT_EQ(Exited(0), RunInChild([&] {
              Fd old(open("/proc/self/ns/uts", O_RDONLY));
              CHILD_CHECK(unshare(CLONE_NEWUTS) == 0);
              CHILD_CHECK(readlink("/proc/self/ns/uts", b, sizeof b - 1) > 0 && strcmp(a, b) != 0);
              CHILD_CHECK(setns(old.get(), CLONE_NEWNET) == -1 && errno == EINVAL);
              CHILD_CHECK(setns(old.get(), CLONE_NEWUTS) == 0);
              memset(b, 0, sizeof b);
              CHILD_CHECK(readlink("/proc/self/ns/uts", b, sizeof b - 1) > 0 && strcmp(a, b) == 0);
            }));
}

TEST(Namespaces, UnprivilegedUnshareIsEPERM) {
  EXPECT_EQ(Exited(0), RunInChild([] {
              CHILD_CHECK(setresuid(65534, 65534, 65534) == 0);
              CHILD_CHECK(unshare(CLONE_NEWUTS) == -1 && errno == EPERM);
            }));
  EXPECT_FAILS(EINVAL, unshare(0x1));
}

}  // namespace
