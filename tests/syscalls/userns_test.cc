// SPDX-License-Identifier: Apache-2.0
// user_namespaces(7): id maps and who may write them, ids at the edges, capabilities and who has them over what,
// limits, setns(2) and the ioctls of ioctl_ns(2).
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <sys/fsuid.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/un.h>

#include "tests/syscalls/util.h"

namespace {

constexpr int kNewTime = 0x80;

// write(2) of a whole map; 0 or the errno.
int Put(const std::string& path, const std::string& text) {
  int fd = open(path.c_str(), O_WRONLY | O_CLOEXEC);
  if (fd < 0) return errno;
  const ssize_t n = write(fd, text.data(), text.size());
  const int error = n == static_cast<ssize_t>(text.size()) ? 0 : errno;
  close(fd);
  return error;
}

std::string Of(pid_t pid, const char* file) { return "/proc/" + std::to_string(pid) + "/" + file; }

// A child in a new user namespace, waiting; `body` runs in it after Go().
class Nested {
 public:
  explicit Nested(std::function<void()> body, int flags = CLONE_NEWUSER)
      : child_([this, body, flags] {
          CHILD_CHECK(unshare(flags) == 0);
          ready_.Set();
          CHILD_CHECK(go_.Wait());
          body();
        }) {
    EXPECT_TRUE(ready_.Wait());
  }
  pid_t pid() const { return child_.pid(); }
  // The exit status.
  int Go() {
    go_.Set();
    return child_.Wait();
  }

 private:
  Event ready_, go_;
  Child child_;
};

void BecomeUser(uid_t id) {
  CHILD_CHECK(setgroups(0, nullptr) == 0);
  CHILD_CHECK(setresgid(id, id, id) == 0);
  CHILD_CHECK(setresuid(id, id, id) == 0);
  CHILD_CHECK(prctl(PR_SET_DUMPABLE, 1) == 0);
}

bool HasEffective(int capability) {
  __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2] = {};
  CHILD_CHECK(syscall(SYS_capget, &header, data) == 0);
  return data[capability / 32].effective >> (capability % 32) & 1;
}

TEST(UserNs, WithoutMapsEveryIdOverflows) {
  EXPECT_EQ(
      RunInChild([] {
        CHILD_CHECK(unshare(CLONE_NEWUSER) == 0);
        CHILD_CHECK(getuid() == 65534 && geteuid() == 65534 && getgid() == 65534 && getegid() == 65534);
        CHILD_CHECK(ReadFile("/proc/self/uid_map").empty());
        CHILD_CHECK(ReadFile("/proc/self/setgroups") == "allow\n");
        struct stat s;
        CHILD_CHECK(stat("/", &s) == 0 && s.st_uid == 65534 && s.st_gid == 65534);
        CHILD_CHECK(ReadFile("/proc/self/status").find("Uid:\t65534\t65534\t65534\t65534\n") != std::string::npos);
        CHILD_CHECK(HasEffective(CAP_SYS_ADMIN) && HasEffective(CAP_LAST_CAP));
        CHILD_CHECK(setuid(0) == -1 && errno == EINVAL);
        CHILD_CHECK(setresgid(0, -1, -1) == -1 && errno == EINVAL);
        gid_t group = 0;
        CHILD_CHECK(setgroups(1, &group) == -1 && errno == EPERM);
        CHILD_CHECK(setfsuid(0) == 65534);
      }),
      Exited(0));
}

TEST(UserNs, ParentWritesMapsAndIdsAreTranslated) {
  TempDir dir;
  const std::string file = dir / "f";
  ASSERT_TRUE(WriteFile(file, "x"));
  ASSERT_OK(chown(file.c_str(), 100005, 100007));
  Nested child([&] {
    CHILD_CHECK(getuid() == 65534);  // 0 outside is not mapped
    CHILD_CHECK(setresgid(0, 0, 0) == 0 && setresuid(0, 0, 0) == 0);
    CHILD_CHECK(getuid() == 0 && getgid() == 0);
    struct stat s;
    CHILD_CHECK(stat(file.c_str(), &s) == 0 && s.st_uid == 5 && s.st_gid == 7);
    struct statx x;
    CHILD_CHECK(statx(AT_FDCWD, file.c_str(), 0, STATX_BASIC_STATS, &x) == 0 && x.stx_uid == 5 && x.stx_gid == 7);
    CHILD_CHECK(chown(file.c_str(), 10, 11) == 0);
    CHILD_CHECK(chown(file.c_str(), 1000, -1) == -1 && errno == EINVAL);
    CHILD_CHECK(chmod(file.c_str(), 04755) == 0);
    CHILD_CHECK(stat("/", &s) == 0 && s.st_uid == 65534);
    CHILD_CHECK(chmod("/", 0755) == -1 && errno == EPERM);
    CHILD_CHECK(chown("/", 0, 0) == -1 && errno == EPERM);
    CHILD_CHECK(ReadFile("/proc/self/uid_map") == "         0     100000       1000\n");
    CHILD_CHECK(setresuid(3, 3, 3) == 0);
    CHILD_CHECK(ReadFile("/proc/self/status").find("Uid:\t3\t3\t3\t3\n") != std::string::npos);
  });
  ASSERT_EQ(Put(Of(child.pid(), "uid_map"), "0 100000 1000\n"), 0);
  ASSERT_EQ(Put(Of(child.pid(), "gid_map"), "0 100000 1000\n"), 0);
  EXPECT_EQ(Put(Of(child.pid(), "uid_map"), "0 100000 1000\n"), EPERM);  // once
  EXPECT_EQ(ReadFile(Of(child.pid(), "uid_map")), "         0     100000       1000\n");
  EXPECT_EQ(child.Go(), Exited(0));
  struct stat s;
  ASSERT_OK(stat(file.c_str(), &s));
  EXPECT_EQ(s.st_uid, 100010u);
  EXPECT_EQ(s.st_gid, 100011u);
}

TEST(UserNs, BadMaps) {
  static const char* const kBad[] = {
      "",
      "\n",
      "0",
      "0 0",
      "0 0 0",
      "0 0 1 1",
      "a 0 1",
      "0 0 1x",
      "-1 0 1",
      "4294967295 0 1",
      "0 4294967295 1",
      "4294967294 0 2",
      "0 4294967290 10",
      "0 0 4294967296",
      "0 0 10\n5 100 10",
      "0 0 10\n100 5 10",
      "0 0 1\n\n1 1 1",
  };
  Nested child([] {});
  for (const char* text : kBad) {
    if (!*text) continue;  // a write of nothing never arrives
    EXPECT_EQ(Put(Of(child.pid(), "uid_map"), text), EINVAL) << text;
  }
  EXPECT_EQ(Put(Of(child.pid(), "uid_map"), std::string(4096, ' ')), EINVAL);
  std::string many;
  for (int i = 0; i < 341; ++i) many += std::to_string(i) + " " + std::to_string(i) + " 1\n";
  EXPECT_EQ(Put(Of(child.pid(), "uid_map"), many), EINVAL);
  Fd fd(open(Of(child.pid(), "uid_map").c_str(), O_WRONLY));
  ASSERT_TRUE(fd.ok());
  EXPECT_EQ(write(fd.get(), "  0\t0  1  ", 10), 10);
  EXPECT_EQ(child.Go(), Exited(0));
  EXPECT_EQ(Put("/proc/self/setgroups", "maybe"), EINVAL);
  EXPECT_EQ(Put("/proc/self/uid_map", "0 0 1"), EPERM);
}

TEST(UserNs, UnprivilegedMapsItself) {
  EXPECT_EQ(RunInChild([] {
              BecomeUser(1234);
              CHILD_CHECK(unshare(CLONE_NEWUSER) == 0);
              CHILD_CHECK(Put("/proc/self/uid_map", "0 0 1") == EPERM);
              CHILD_CHECK(Put("/proc/self/uid_map", "0 1234 2") == EPERM);
              CHILD_CHECK(Put("/proc/self/uid_map", "0 1235 1") == EPERM);
              CHILD_CHECK(Put("/proc/self/uid_map", "0 1234 1") == 0);
              CHILD_CHECK(Put("/proc/self/gid_map", "0 1234 1") == EPERM);  // setgroups is still allowed
              CHILD_CHECK(Put("/proc/self/setgroups", "deny") == 0);
              CHILD_CHECK(ReadFile("/proc/self/setgroups") == "deny\n");
              CHILD_CHECK(Put("/proc/self/setgroups", "allow") == EPERM);
              CHILD_CHECK(Put("/proc/self/gid_map", "0 1234 1") == 0);
              CHILD_CHECK(getuid() == 0 && getgid() == 0);
              CHILD_CHECK(setgroups(0, nullptr) == -1 && errno == EPERM);
              CHILD_CHECK(HasEffective(CAP_SYS_ADMIN));
              // Capabilities over what is not the namespace's: none.
              CHILD_CHECK(chown("/", 0, 0) == -1 && errno == EPERM);
              CHILD_CHECK(sethostname("x", 1) == -1 && errno == EPERM);
              CHILD_CHECK(unshare(CLONE_NEWUTS) == 0);
              CHILD_CHECK(sethostname("inner", 5) == 0);
              rlimit limit;
              CHILD_CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
              if (limit.rlim_max != RLIM_INFINITY) {
                ++limit.rlim_max;
                CHILD_CHECK(setrlimit(RLIMIT_NOFILE, &limit) == -1 && errno == EPERM);
              }
              CHILD_CHECK(kill(getppid(), 0) == -1 && errno == EPERM);
              CHILD_CHECK(mknod("/tmp/userns_node", S_IFCHR | 0600, makedev(1, 3)) == -1 && errno == EPERM);
            }),
            Exited(0));
}

TEST(UserNs, SetgroupsRules) {
  Nested child([] {
    gid_t groups[2] = {1, 0};
    CHILD_CHECK(setgroups(2, groups) == 0);
    gid_t got[2];
    CHILD_CHECK(getgroups(2, got) == 2 && got[0] + got[1] == 1);
    groups[0] = 2;
    CHILD_CHECK(setgroups(1, groups) == -1 && errno == EINVAL);
    CHILD_CHECK(Put("/proc/self/setgroups", "deny") == EPERM);  // after the map
    CHILD_CHECK(Put("/proc/self/setgroups", "allow\n") == 0);
  });
  ASSERT_EQ(Put(Of(child.pid(), "uid_map"), "0 0 1"), 0);
  ASSERT_EQ(Put(Of(child.pid(), "gid_map"), "0 50 2"), 0);
  EXPECT_EQ(child.Go(), Exited(0));
}

TEST(UserNs, OwnerOutsideHasAllCapabilitiesOverIt) {
  // The owner's other processes may kill and trace what runs in it under another id.
  Nested child([] {
    CHILD_CHECK(setresuid(7, 7, 7) == 0);
    for (;;) pause();
  });
  ASSERT_EQ(Put(Of(child.pid(), "uid_map"), "0 100000 1000\n"), 0);
  EXPECT_EQ(RunInChild([&] {
              BecomeUser(4321);
              CHILD_CHECK(kill(child.pid(), 0) == -1 && errno == EPERM);
            }),
            Exited(0));
  EXPECT_OK(kill(child.pid(), SIGKILL));
  EXPECT_EQ(child.Go(), Killed(SIGKILL));
}

TEST(UserNs, NestedTo33Levels) {
  EXPECT_EQ(RunInChild([] {
              int depth = 0;
              while (unshare(CLONE_NEWUSER) == 0) {
                CHILD_CHECK(Put("/proc/self/uid_map", "0 0 1") == 0);
                CHILD_CHECK(Put("/proc/self/setgroups", "deny") == 0);
                CHILD_CHECK(Put("/proc/self/gid_map", "0 0 1") == 0);
                CHILD_CHECK(getuid() == 0);
                ++depth;
                CHILD_CHECK(depth < 40);
              }
              CHILD_CHECK(errno == ENOSPC || errno == EUSERS);
              CHILD_CHECK(depth >= 31 && depth <= 33);
            }),
            Exited(0));
}

TEST(UserNs, UnmappedCreatorMayNot) {
  EXPECT_EQ(RunInChild([] {
              CHILD_CHECK(unshare(CLONE_NEWUSER) == 0);
              CHILD_CHECK(unshare(CLONE_NEWUSER) == -1 && errno == EPERM);
            }),
            Exited(0));
}

TEST(UserNs, ChrootedMayNot) {
  TempDir dir;
  EXPECT_EQ(RunInChild([&] {
              CHILD_CHECK(chroot(dir.path().c_str()) == 0);
              CHILD_CHECK(unshare(CLONE_NEWUSER) == -1 && errno == EPERM);
            }),
            Exited(0));
}

TEST(UserNs, Limit) {
  EXPECT_EQ(RunInChild([] {
              CHILD_CHECK(unshare(CLONE_NEWUSER) == 0);
              CHILD_CHECK(Put("/proc/self/uid_map", "0 0 1") == 0);
              CHILD_CHECK(Put("/proc/self/setgroups", "deny") == 0);
              CHILD_CHECK(Put("/proc/self/gid_map", "0 0 1") == 0);
              CHILD_CHECK(Put("/proc/sys/user/max_uts_namespaces", "1") == 0);
              CHILD_CHECK(ReadFile("/proc/sys/user/max_uts_namespaces") == "1\n");
              CHILD_CHECK(unshare(CLONE_NEWUTS) == 0);
              CHILD_CHECK(unshare(CLONE_NEWUTS) == -1 && errno == ENOSPC);
              CHILD_CHECK(Put("/proc/sys/user/max_uts_namespaces", "2") == 0);
              CHILD_CHECK(unshare(CLONE_NEWUTS) == 0);  // the one before is gone or counts
              CHILD_CHECK(Put("/proc/sys/user/max_uts_namespaces", "-1") == EINVAL);
              CHILD_CHECK(Put("/proc/sys/user/max_user_namespaces", "0") == 0);
              CHILD_CHECK(unshare(CLONE_NEWUSER) == -1 && errno == ENOSPC);
            }),
            Exited(0));
}

TEST(UserNs, CloneFlagCombinations) {
  EXPECT_FAILS(EINVAL, syscall(SYS_clone, CLONE_NEWUSER | CLONE_FS | SIGCHLD, 0, 0, 0, 0));
  EXPECT_FAILS(EINVAL, syscall(SYS_clone, CLONE_NEWUSER | CLONE_THREAD | CLONE_SIGHAND | CLONE_VM, 0, 0, 0, 0));
  EXPECT_FAILS(EINVAL, unshare(CLONE_NEWUSER | 1));
}

TEST(UserNs, SetnsJoinsAndGivesCapabilities) {
  Nested child([] {});
  ASSERT_EQ(Put(Of(child.pid(), "uid_map"), "0 0 1"), 0);
  ASSERT_EQ(Put(Of(child.pid(), "gid_map"), "0 0 1"), 0);
  Fd ns(open(Of(child.pid(), "ns/user").c_str(), O_RDONLY));
  Fd own(open("/proc/self/ns/user", O_RDONLY));
  ASSERT_TRUE(ns.ok() && own.ok());
  EXPECT_FAILS(EINVAL, setns(own.get(), CLONE_NEWUSER));  // where one is already
  EXPECT_FAILS(EINVAL, setns(ns.get(), CLONE_NEWUTS));
  EXPECT_EQ(RunInChild([&] {
              CHILD_CHECK(setns(ns.get(), 0) == 0);
              CHILD_CHECK(HasEffective(CAP_SYS_ADMIN));
              CHILD_CHECK(sethostname("x", 1) == -1 && errno == EPERM);
              CHILD_CHECK(setns(own.get(), 0) == -1 && errno == EPERM);  // no way up
            }),
            Exited(0));
  EXPECT_EQ(RunInChild([&] {
              BecomeUser(4321);
              CHILD_CHECK(setns(ns.get(), 0) == -1 && errno == EPERM);
            }),
            Exited(0));
  EXPECT_EQ(child.Go(), Exited(0));
}

TEST(UserNs, Ioctls) {
  Fd user(open("/proc/self/ns/user", O_RDONLY));
  ASSERT_TRUE(user.ok());
  EXPECT_EQ(ioctl(user.get(), NS_GET_NSTYPE), CLONE_NEWUSER);
  EXPECT_FAILS(ENOTTY, ioctl(user.get(), _IO(NSIO, 0x7f)));
  Nested child([] {}, CLONE_NEWUSER | CLONE_NEWUTS | CLONE_NEWPID);
  Fd nested(open(Of(child.pid(), "ns/user").c_str(), O_RDONLY));
  Fd uts(open(Of(child.pid(), "ns/uts").c_str(), O_RDONLY));
  Fd mnt(open("/proc/self/ns/mnt", O_RDONLY));
  ASSERT_TRUE(nested.ok() && uts.ok() && mnt.ok());
  Fd parent(ioctl(nested.get(), NS_GET_PARENT));
  ASSERT_TRUE(parent.ok());
  struct stat a, b;
  ASSERT_OK(fstat(parent.get(), &a));
  ASSERT_OK(fstat(user.get(), &b));
  EXPECT_EQ(a.st_ino, b.st_ino);
  Fd owner(ioctl(uts.get(), NS_GET_USERNS));
  ASSERT_TRUE(owner.ok());
  ASSERT_OK(fstat(owner.get(), &a));
  ASSERT_OK(fstat(nested.get(), &b));
  EXPECT_EQ(a.st_ino, b.st_ino);
  EXPECT_FAILS(EINVAL, ioctl(uts.get(), NS_GET_PARENT));
  uid_t uid = 99;
  ASSERT_OK(ioctl(nested.get(), NS_GET_OWNER_UID, &uid));
  EXPECT_EQ(uid, getuid());
  EXPECT_FAILS(EINVAL, ioctl(uts.get(), NS_GET_OWNER_UID, &uid));
  EXPECT_FAILS(EFAULT, ioctl(nested.get(), NS_GET_OWNER_UID, 1));
  EXPECT_EQ(RunInChild([&] {
              CHILD_CHECK(setns(nested.get(), 0) == 0);
              CHILD_CHECK(ioctl(nested.get(), NS_GET_PARENT) == -1 && errno == EPERM);
            }),
            Exited(0));
  EXPECT_EQ(child.Go(), Exited(0));
}

TEST(UserNs, SocketCredentials) {
  int pair[2];
  ASSERT_OK(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair));
  Fd a(pair[0]), b(pair[1]);
  int on = 1;
  ASSERT_OK(setsockopt(a.get(), SOL_SOCKET, SO_PASSCRED, &on, sizeof on));
  Nested child([&] {
    CHILD_CHECK(setresgid(5, 5, 5) == 0 && setresuid(5, 5, 5) == 0);
    CHILD_CHECK(send(b.get(), "x", 1, 0) == 1);
  });
  ASSERT_EQ(Put(Of(child.pid(), "uid_map"), "0 100000 1000\n"), 0);
  ASSERT_EQ(Put(Of(child.pid(), "gid_map"), "0 100000 1000\n"), 0);
  EXPECT_EQ(child.Go(), Exited(0));
  char byte, control[CMSG_SPACE(sizeof(ucred))];
  iovec iov = {&byte, 1};
  msghdr header = {};
  header.msg_iov = &iov;
  header.msg_iovlen = 1;
  header.msg_control = control;
  header.msg_controllen = sizeof control;
  ASSERT_EQ(recvmsg(a.get(), &header, 0), 1);
  cmsghdr* message = CMSG_FIRSTHDR(&header);
  ASSERT_NE(message, nullptr);
  ucred seen;
  memcpy(&seen, CMSG_DATA(message), sizeof seen);
  EXPECT_EQ(seen.uid, 100005u);
  EXPECT_EQ(seen.gid, 100005u);
}

TEST(UserNs, SetUserIdProgramsOfUnmappedOwnersAreOrdinary) {
  TempDir dir;
  const std::string tool = dir / "id";
  ASSERT_EQ(system(("cp /usr/bin/id " + tool + " && chmod 4755 " + tool + " && mkdir -m 777 " + dir / "out").c_str()),
            0);
  const std::string out = dir / "out/who";
  Nested child([&] {
    CHILD_CHECK(setresgid(5, 5, 5) == 0 && setresuid(5, 5, 5) == 0);
    int fd = open(out.c_str(), O_CREAT | O_WRONLY, 0666);
    CHILD_CHECK(fd >= 0);
    dup2(fd, 1);
    execl(tool.c_str(), "id", "-u", nullptr);
    CHILD_CHECK(false);
  });
  ASSERT_EQ(Put(Of(child.pid(), "uid_map"), "0 100000 1000\n"), 0);
  ASSERT_EQ(Put(Of(child.pid(), "gid_map"), "0 100000 1000\n"), 0);
  EXPECT_EQ(child.Go(), Exited(0));
  EXPECT_EQ(ReadFile(out), "5\n");
}

TEST(UserNs, NamespaceLinksHaveEveryKind) {
  for (const char* kind :
       {"cgroup", "ipc", "mnt", "net", "pid", "pid_for_children", "time", "time_for_children", "user", "uts"}) {
    char text[64] = {};
    EXPECT_GT(readlink((std::string("/proc/self/ns/") + kind).c_str(), text, sizeof text - 1), 0) << kind;
    Fd fd(open((std::string("/proc/self/ns/") + kind).c_str(), O_RDONLY));
    ASSERT_TRUE(fd.ok());
    const int type = ioctl(fd.get(), NS_GET_NSTYPE);
    EXPECT_TRUE(type == CLONE_NEWCGROUP || type == CLONE_NEWIPC || type == CLONE_NEWNS || type == CLONE_NEWNET ||
                type == CLONE_NEWPID || type == kNewTime || type == CLONE_NEWUSER || type == CLONE_NEWUTS)
        << kind;
  }
}

}  // namespace
