// SPDX-License-Identifier: Apache-2.0
// mount(2), umount2(2), pivot_root(2), mount_namespaces(7) and the mount API in steps. Every test works in a mount
// namespace of its own child.
#include <fcntl.h>
#include <linux/mount.h>
#include <poll.h>
#include <sched.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>

#include <algorithm>
#include <vector>

#include "tests/syscalls/util.h"

// <sys/mount.h> and <linux/mount.h> don't go together.
extern "C" int mount(const char*, const char*, const char*, unsigned long, const void*) noexcept;
extern "C" int umount2(const char*, int) noexcept;

namespace {

constexpr unsigned long kRdOnly = 1, kNoSuid = 2, kNoDev = 4, kNoExec = 8, kRemount = 32, kNoAtime = 1024, kBind = 4096,
                        kMove = 8192, kRec = 16384, kUnbindable = 1 << 17, kPrivate = 1 << 18, kSlave = 1 << 19,
                        kShared = 1 << 20;
constexpr int kDetach = 2, kExpire = 4, kNoFollow = 8, kForce = 1;

int OpenTree(int dirfd, const char* path, unsigned flags) {
  return static_cast<int>(syscall(SYS_open_tree, dirfd, path, flags));
}
int MoveMount(int from, const char* from_path, int to, const char* to_path, unsigned flags) {
  return static_cast<int>(syscall(SYS_move_mount, from, from_path, to, to_path, flags));
}
int Fsopen(const char* type, unsigned flags) { return static_cast<int>(syscall(SYS_fsopen, type, flags)); }
int Fsconfig(int fd, unsigned command, const char* key, const void* value, int aux) {
  return static_cast<int>(syscall(SYS_fsconfig, fd, command, key, value, aux));
}
int Fsmount(int fd, unsigned flags, unsigned attributes) {
  return static_cast<int>(syscall(SYS_fsmount, fd, flags, attributes));
}
int Setattr(int dirfd, const char* path, unsigned flags, const void* attr, size_t size) {
  return static_cast<int>(syscall(SYS_mount_setattr, dirfd, path, flags, attr, size));
}

bool Exists(const std::string& path) { return access(path.c_str(), F_OK) == 0; }
void Tmpfs(const std::string& at, const char* options = nullptr) {
  CHILD_CHECK(mount("t", at.c_str(), "tmpfs", 0, options) == 0);
}
void Dir(const std::string& path) { CHILD_CHECK(mkdir(path.c_str(), 0755) == 0); }
void Touch(const std::string& path) { CHILD_CHECK(WriteFile(path, "x")); }
void Type(const std::string& path, unsigned long type) {
  CHILD_CHECK(mount(nullptr, path.c_str(), nullptr, type, nullptr) == 0);
}
void Bind(const std::string& from, const std::string& to, unsigned long more = 0) {
  CHILD_CHECK(mount(from.c_str(), to.c_str(), nullptr, kBind | more, nullptr) == 0);
}
int Umount(const std::string& path, int flags = 0) { return umount2(path.c_str(), flags); }

// The optional fields of the mount at `path`.
std::string Optional(const std::string& path) {
  std::string info = ReadFile("/proc/self/mountinfo"), found;
  for (size_t at = 0; at < info.size();) {
    const size_t end = info.find('\n', at);
    const std::string line = info.substr(at, end - at);
    at = end + 1;
    if (line.find(" " + path + " ") == std::string::npos) continue;
    const size_t dash = line.find(" - ");
    size_t field = 0;
    for (int i = 0; i < 6; ++i) field = line.find(' ', field) + 1;
    found = dash + 1 > field ? line.substr(field, dash - field) : "";
  }
  return found;
}
std::string After(const std::string& text, const std::string& tag) {
  const size_t at = text.find(tag);
  return at == std::string::npos ? "" : text.substr(at + tag.size(), text.find(' ', at) - at - tag.size());
}

// `body` runs in a private mount namespace with a tmpfs of its own at `dir`.
int InNamespace(const std::function<void(const std::string& dir)>& body) {
  TempDir dir;
  return RunInChild([&] {
    CHILD_CHECK(unshare(CLONE_NEWNS) == 0);
    CHILD_CHECK(mount(nullptr, "/", nullptr, kRec | kPrivate, nullptr) == 0);
    Tmpfs(dir.path());
    body(dir.path());
  });
}

TEST(Mount, BadArguments) {
  EXPECT_EQ(InNamespace([](const std::string& d) {
              CHILD_CHECK(mount("t", (d + "/no").c_str(), "tmpfs", 0, nullptr) == -1 && errno == ENOENT);
              CHILD_CHECK(mount("t", d.c_str(), "nosuchfs", 0, nullptr) == -1 && errno == ENODEV);
              CHILD_CHECK(mount("t", nullptr, "tmpfs", 0, nullptr) == -1 && errno == EFAULT);
              CHILD_CHECK(mount("t", d.c_str(), reinterpret_cast<char*>(8), 0, nullptr) == -1 && errno == EFAULT);
              CHILD_CHECK(mount("t", d.c_str(), "tmpfs", 0, "size=x") == -1 && errno == EINVAL);
              Touch(d + "/f");
              CHILD_CHECK(mount("t", (d + "/f").c_str(), "tmpfs", 0, nullptr) == -1 && errno == ENOTDIR);
              CHILD_CHECK(mount(nullptr, d.c_str(), nullptr, kShared | kPrivate, nullptr) == -1 && errno == EINVAL);
              CHILD_CHECK(mount(nullptr, (d + "/f").c_str(), nullptr, kShared, nullptr) == -1 && errno == EINVAL);
              CHILD_CHECK(mount(nullptr, (d + "/f").c_str(), nullptr, kRemount, nullptr) == -1 && errno == EINVAL);
              CHILD_CHECK(Umount(d, ~0) == -1 && errno == EINVAL);
              CHILD_CHECK(Umount(d + "/f") == -1 && errno == EINVAL);
              CHILD_CHECK(Umount(d + "/no") == -1 && errno == ENOENT);
              CHILD_CHECK(umount2(nullptr, 0) == -1 && errno == EFAULT);
              CHILD_CHECK(symlink(d.c_str(), (d + "/link").c_str()) == 0);
              CHILD_CHECK(Umount(d + "/link", kNoFollow) == -1 && errno == EINVAL);
              CHILD_CHECK(Umount(d + "/link", kForce | kDetach) == 0);
              CHILD_CHECK(setresuid(1, 1, 1) == 0);
              CHILD_CHECK(mount("t", d.c_str(), "tmpfs", 0, nullptr) == -1 && errno == EPERM);
              CHILD_CHECK(Umount("/") == -1 && errno == EPERM);
              CHILD_CHECK(syscall(SYS_pivot_root, "/", "/") == -1 && errno == EPERM);
            }),
            Exited(0));
}

TEST(Mount, FlagsAndRemount) {
  EXPECT_EQ(InNamespace([](const std::string& d) {
              Dir(d + "/a");
              CHILD_CHECK(mount("t", (d + "/a").c_str(), "tmpfs", kNoSuid | kNoDev | kNoExec, "mode=700") == 0);
              struct statvfs s;
              CHILD_CHECK(statvfs((d + "/a").c_str(), &s) == 0);
              CHILD_CHECK((s.f_flag & (ST_NOSUID | ST_NODEV | ST_NOEXEC)) == (ST_NOSUID | ST_NODEV | ST_NOEXEC));
              Touch(d + "/a/f");
              // A bind mount has flags of its own.
              Dir(d + "/b");
              Bind(d + "/a", d + "/b");
              CHILD_CHECK(mount(nullptr, (d + "/b").c_str(), nullptr, kRemount | kBind | kRdOnly, nullptr) == 0);
              CHILD_CHECK(!WriteFile(d + "/b/g", "x") && errno == EROFS);
              CHILD_CHECK(WriteFile(d + "/a/g", "x"));
              CHILD_CHECK(statvfs((d + "/b").c_str(), &s) == 0 && (s.f_flag & ST_RDONLY) && !(s.f_flag & ST_NOSUID));
              // The whole filesystem.
              CHILD_CHECK(mount(nullptr, (d + "/a").c_str(), nullptr, kRemount | kRdOnly, nullptr) == 0);
              CHILD_CHECK(!WriteFile(d + "/a/h", "x") && errno == EROFS);
              CHILD_CHECK(mount(nullptr, (d + "/a").c_str(), nullptr, kRemount, nullptr) == 0);
              CHILD_CHECK(WriteFile(d + "/a/h", "x"));
              int fd = open((d + "/a/h").c_str(), O_WRONLY);
              CHILD_CHECK(mount(nullptr, (d + "/a").c_str(), nullptr, kRemount | kBind | kRdOnly, nullptr) == -1 &&
                          errno == EBUSY);
              close(fd);
              CHILD_CHECK(mount(nullptr, (d + "/a").c_str(), nullptr, kRemount | kBind | kNoAtime, nullptr) == 0);
              CHILD_CHECK(ReadFile("/proc/self/mountinfo").find(d + "/a rw,noatime ") != std::string::npos);
            }),
            Exited(0));
}

TEST(Mount, BindMoveAndTrees) {
  EXPECT_EQ(
      InNamespace([](const std::string& d) {
        for (const char* name : {"/a", "/b", "/c", "/m"}) Dir(d + name);
        Tmpfs(d + "/a");
        Dir(d + "/a/sub");
        Tmpfs(d + "/a/sub");
        Touch(d + "/a/sub/deep");
        Bind(d + "/a", d + "/b");
        CHILD_CHECK(Exists(d + "/b/sub") && !Exists(d + "/b/sub/deep"));
        Bind(d + "/a", d + "/c", kRec);
        CHILD_CHECK(Exists(d + "/c/sub/deep"));
        CHILD_CHECK(mount((d + "/c").c_str(), (d + "/m").c_str(), nullptr, kMove, nullptr) == 0);
        CHILD_CHECK(!Exists(d + "/c/sub") && Exists(d + "/m/sub/deep"));
        CHILD_CHECK(mount((d + "/m").c_str(), (d + "/m/sub").c_str(), nullptr, kMove, nullptr) == -1 && errno == ELOOP);
        CHILD_CHECK(mount((d + "/m/sub/deep").c_str(), (d + "/c").c_str(), nullptr, kMove, nullptr) == -1 &&
                    errno == EINVAL);
        // A file on a file.
        Touch(d + "/f1");
        Touch(d + "/f2");
        CHILD_CHECK(WriteFile(d + "/f1", "one"));
        Bind(d + "/f1", d + "/f2");
        CHILD_CHECK(ReadFile(d + "/f2") == "one");
        CHILD_CHECK(mount((d + "/f1").c_str(), (d + "/c").c_str(), nullptr, kBind, nullptr) == -1 && errno == ENOTDIR);
        CHILD_CHECK(Umount(d + "/m") == -1 && errno == EBUSY);  // a child
        CHILD_CHECK(Umount(d + "/m", kDetach) == 0);
        CHILD_CHECK(Umount(d + "/b", kExpire | kDetach) == -1 && errno == EINVAL);
        CHILD_CHECK(Umount(d + "/b", kExpire) == -1 && errno == EAGAIN);
        CHILD_CHECK(Umount(d + "/b", kExpire) == 0);
        // An open file keeps a mount, unless it is detached.
        int fd = open((d + "/a/sub/deep").c_str(), O_RDONLY);
        CHILD_CHECK(Umount(d + "/a/sub") == -1 && errno == EBUSY);
        CHILD_CHECK(Umount(d + "/a/sub", kDetach) == 0);
        char byte;
        CHILD_CHECK(read(fd, &byte, 1) == 1 && byte == 'x');
      }),
      Exited(0));
}

TEST(Mount, SharedMountsPropagate) {
  EXPECT_EQ(InNamespace([](const std::string& d) {
              for (const char* name : {"/a", "/peer", "/slave", "/private"}) Dir(d + name);
              Tmpfs(d + "/a");
              Type(d + "/a", kShared);
              Dir(d + "/a/sub");
              Bind(d + "/a", d + "/peer");
              Bind(d + "/a", d + "/slave");
              Bind(d + "/a", d + "/private");
              Type(d + "/slave", kSlave);
              Type(d + "/private", kPrivate);
              const std::string group = After(Optional(d + "/a"), "shared:");
              CHILD_CHECK(!group.empty() && After(Optional(d + "/peer"), "shared:") == group);
              CHILD_CHECK(After(Optional(d + "/slave"), "master:") == group);
              CHILD_CHECK(Optional(d + "/private").empty());
              Tmpfs(d + "/a/sub");
              Touch(d + "/a/sub/f");
              CHILD_CHECK(Exists(d + "/peer/sub/f") && Exists(d + "/slave/sub/f") && !Exists(d + "/private/sub/f"));
              CHILD_CHECK(!After(Optional(d + "/a/sub"), "shared:").empty());
              CHILD_CHECK(After(Optional(d + "/a/sub"), "shared:") == After(Optional(d + "/peer/sub"), "shared:"));
              CHILD_CHECK(After(Optional(d + "/slave/sub"), "master:") == After(Optional(d + "/a/sub"), "shared:"));
              // Up from the peer, not up from the slave.
              CHILD_CHECK(Umount(d + "/peer/sub") == 0);
              CHILD_CHECK(!Exists(d + "/a/sub/f") && !Exists(d + "/slave/sub/f"));
              Tmpfs(d + "/slave/sub");
              Touch(d + "/slave/sub/own");
              CHILD_CHECK(!Exists(d + "/a/sub/own"));
              // What the master mounts now goes below what the slave has there.
              Tmpfs(d + "/a/sub");
              Touch(d + "/a/sub/f");
              CHILD_CHECK(Exists(d + "/slave/sub/own") && !Exists(d + "/slave/sub/f"));
              CHILD_CHECK(Umount(d + "/slave/sub") == 0);
              CHILD_CHECK(Exists(d + "/slave/sub/f"));
            }),
            Exited(0));
}

TEST(Mount, SlaveAndShared) {
  EXPECT_EQ(InNamespace([](const std::string& d) {
              for (const char* name : {"/a", "/s1", "/s2", "/s3"}) Dir(d + name);
              Tmpfs(d + "/a");
              Dir(d + "/a/sub");
              Type(d + "/a", kShared);
              Bind(d + "/a", d + "/s1");
              Type(d + "/s1", kSlave);
              Type(d + "/s1", kShared);
              const std::string fields = Optional(d + "/s1");
              CHILD_CHECK(!After(fields, "shared:").empty() && !After(fields, "master:").empty());
              Bind(d + "/s1", d + "/s2");
              Bind(d + "/s1", d + "/s3");
              Type(d + "/s3", kSlave);
              Tmpfs(d + "/a/sub");
              Touch(d + "/a/sub/f");
              for (const char* name : {"/s1", "/s2", "/s3"}) CHILD_CHECK(Exists(d + name + "/sub/f"));
              CHILD_CHECK(After(Optional(d + "/s1/sub"), "shared:") == After(Optional(d + "/s2/sub"), "shared:"));
              CHILD_CHECK(After(Optional(d + "/s3/sub"), "master:") == After(Optional(d + "/s1/sub"), "shared:"));
              CHILD_CHECK(Umount(d + "/s2/sub") == 0);
              CHILD_CHECK(!Exists(d + "/s1/sub/f") && !Exists(d + "/s3/sub/f") && Exists(d + "/a/sub/f"));
              // The end of the group in the middle joins its slaves to the group above.
              CHILD_CHECK(Umount(d + "/s1") == 0 && Umount(d + "/s2") == 0);
              CHILD_CHECK(After(Optional(d + "/s3"), "master:") == After(Optional(d + "/a"), "shared:"));
            }),
            Exited(0));
}

TEST(Mount, SharedRestrictsMoveAndUnbindable) {
  EXPECT_EQ(
      InNamespace([](const std::string& d) {
        for (const char* name : {"/a", "/b", "/u"}) Dir(d + name);
        Tmpfs(d + "/a");
        Type(d + "/a", kShared);
        Dir(d + "/a/sub");
        Tmpfs(d + "/a/sub");
        CHILD_CHECK(mount((d + "/a/sub").c_str(), (d + "/b").c_str(), nullptr, kMove, nullptr) == -1 &&
                    errno == EINVAL);
        Tmpfs(d + "/u");
        Type(d + "/u", kUnbindable);
        CHILD_CHECK(Optional(d + "/u").find("unbindable") == 0);
        CHILD_CHECK(mount((d + "/u").c_str(), (d + "/b").c_str(), nullptr, kBind, nullptr) == -1 && errno == EINVAL);
        CHILD_CHECK(mount((d + "/u").c_str(), (d + "/a/sub").c_str(), nullptr, kMove, nullptr) == -1 &&
                    errno == EINVAL);
        // Left out of recursive copies.
        Bind(d, d + "/b", kRec);
        Touch(d + "/u/f");
        CHILD_CHECK(Exists(d + "/b/u") && !Exists(d + "/b/u/f"));
      }),
      Exited(0));
}

TEST(Mount, PropagationBetweenNamespaces) {
  EXPECT_EQ(InNamespace([](const std::string& d) {
              Dir(d + "/sub");
              Type(d, kShared);
              Event mounted, seen;
              Child child([&] {
                CHILD_CHECK(unshare(CLONE_NEWNS) == 0);
                seen.Set();
                CHILD_CHECK(mounted.Wait());
                CHILD_CHECK(Exists(d + "/sub/f"));
                CHILD_CHECK(Umount(d + "/sub") == 0);
              });
              CHILD_CHECK(seen.Wait());
              Tmpfs(d + "/sub");
              Touch(d + "/sub/f");
              mounted.Set();
              CHILD_CHECK(child.Wait() == 0);
              CHILD_CHECK(!Exists(d + "/sub/f"));
            }),
            Exited(0));
}

TEST(Mount, InfoIsPollable) {
  EXPECT_EQ(InNamespace([](const std::string& d) {
              for (const char* file : {"/proc/self/mountinfo", "/proc/self/mounts"}) {
                Fd fd(open(file, O_RDONLY));
                pollfd p = {fd.get(), POLLPRI, 0};
                CHILD_CHECK(poll(&p, 1, 0) == 0);
                Tmpfs(d);
                CHILD_CHECK(poll(&p, 1, 20000) == 1 && (p.revents & POLLPRI) && (p.revents & POLLERR));
                CHILD_CHECK(poll(&p, 1, 0) == 0);
                CHILD_CHECK(Umount(d) == 0);
                CHILD_CHECK(poll(&p, 1, 20000) == 1);
              }
            }),
            Exited(0));
}

TEST(Mount, PivotRoot) {
  EXPECT_EQ(InNamespace([](const std::string& d) {
              auto pivot = [](const std::string& fresh, const std::string& old) {
                return syscall(SYS_pivot_root, fresh.c_str(), old.c_str());
              };
              Dir(d + "/plain");
              Touch(d + "/f");
              CHILD_CHECK(pivot(d + "/plain", d + "/plain") == -1 && errno == EINVAL);  // not a mount
              CHILD_CHECK(pivot(d, d + "/f") == -1 && errno == ENOTDIR);
              CHILD_CHECK(pivot(d, d + "/no") == -1 && errno == ENOENT);
              CHILD_CHECK(pivot("/", d) == -1 && errno == EBUSY);
              CHILD_CHECK(pivot(d, "/tmp") == -1 && (errno == EINVAL || errno == EBUSY));  // not below the new root
              Tmpfs(d + "/plain");
              Type(d, kShared);
              CHILD_CHECK(pivot(d + "/plain", d + "/plain") == -1 && errno == EINVAL);  // its parent is shared
              Type(d, kPrivate);
              CHILD_CHECK(chdir(d.c_str()) == 0);
              Dir(d + "/old");
              Child other([&] {  // stands at the old root and is moved along
                char text[64] = {};
                while (access("/f", F_OK) != 0 || access("/old", F_OK) != 0) sched_yield();
                CHILD_CHECK(getcwd(text, sizeof text) && strcmp(text, "/") == 0);
              });
              CHILD_CHECK(pivot(".", "old") == 0);
              CHILD_CHECK(Exists("/f") && Exists("/old/proc"));
              CHILD_CHECK(Umount("/old", kDetach) == 0);
              CHILD_CHECK(!Exists("/old/proc"));
            }),
            Exited(0));
}

TEST(Mount, PivotRootOnItself) {
  EXPECT_EQ(InNamespace([](const std::string& d) {
              Touch(d + "/f");
              CHILD_CHECK(chdir(d.c_str()) == 0);
              CHILD_CHECK(syscall(SYS_pivot_root, ".", ".") == 0);
              CHILD_CHECK(Umount(".", kDetach) == 0);
              CHILD_CHECK(Exists("/f") && !Exists("/proc"));
            }),
            Exited(0));
}

TEST(Mount, LessPrivilegedNamespaceKeepsWhatIsLocked) {
  EXPECT_EQ(
      InNamespace([](const std::string& d) {
        Dir(d + "/a");
        CHILD_CHECK(mount("t", (d + "/a").c_str(), "tmpfs", kRdOnly | kNoSuid, nullptr) == 0);
        Dir(d + "/b");
        Type(d, kShared);
        Fd before(open("/proc/self/ns/mnt", O_RDONLY));  // its mounts stay masters
        CHILD_CHECK(before.ok() && unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0);
        CHILD_CHECK(Optional(d).find("master:") == 0);  // a slave now
        CHILD_CHECK(Umount(d + "/a") == -1 && errno == EINVAL);
        CHILD_CHECK(mount((d + "/a").c_str(), (d + "/b").c_str(), nullptr, kMove, nullptr) == -1 && errno == EINVAL);
        CHILD_CHECK(mount(nullptr, (d + "/a").c_str(), nullptr, kRemount | kBind | kNoSuid, nullptr) == -1 &&
                    errno == EPERM);
        CHILD_CHECK(mount(nullptr, (d + "/a").c_str(), nullptr, kRemount | kBind | kRdOnly, nullptr) == -1 &&
                    errno == EPERM);
        CHILD_CHECK(mount(nullptr, (d + "/a").c_str(), nullptr, kRemount | kRdOnly | kNoSuid, nullptr) == -1 &&
                    errno == EPERM);  // the filesystem is another user namespace's
        CHILD_CHECK(mount(d.c_str(), (d + "/b").c_str(), nullptr, kBind, nullptr) == -1 &&
                    errno == EINVAL);  // would show what /a covers
        CHILD_CHECK(mount(d.c_str(), (d + "/b").c_str(), nullptr, kBind | kRec, nullptr) == 0);
        CHILD_CHECK(Umount(d + "/b", kDetach) == 0);
        CHILD_CHECK(mount("t", (d + "/b").c_str(), "tmpfs", 0, nullptr) == 0);
        CHILD_CHECK(Umount(d + "/b") == 0);
      }),
      Exited(0));
}

TEST(Mount, OpenTreeAndMove) {
  EXPECT_EQ(InNamespace([](const std::string& d) {
              for (const char* name : {"/a", "/b"}) Dir(d + name);
              Tmpfs(d + "/a");
              Dir(d + "/a/sub");
              Tmpfs(d + "/a/sub");
              Touch(d + "/a/sub/f");
              CHILD_CHECK(OpenTree(AT_FDCWD, (d + "/a").c_str(), AT_RECURSIVE) == -1 && errno == EINVAL);
              CHILD_CHECK(OpenTree(AT_FDCWD, (d + "/a").c_str(), ~0u) == -1 && errno == EINVAL);
              CHILD_CHECK(OpenTree(AT_FDCWD, (d + "/no").c_str(), OPEN_TREE_CLONE) == -1 && errno == ENOENT);
              Fd plain(OpenTree(AT_FDCWD, (d + "/a").c_str(), 0));
              CHILD_CHECK(plain.ok());
              CHILD_CHECK(fcntl(plain.get(), F_GETFL) & O_PATH);
              Fd tree(OpenTree(AT_FDCWD, (d + "/a").c_str(), OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE));
              CHILD_CHECK(tree.ok() && (fcntl(tree.get(), F_GETFD) & FD_CLOEXEC));
              CHILD_CHECK(faccessat(tree.get(), "sub/f", F_OK, 0) == 0);
              CHILD_CHECK(MoveMount(tree.get(), "", AT_FDCWD, (d + "/b").c_str(), 0) == -1 && errno == ENOENT);
              CHILD_CHECK(MoveMount(tree.get(), "", AT_FDCWD, (d + "/b").c_str(), ~0u) == -1 && errno == EINVAL);
              CHILD_CHECK(MoveMount(tree.get(), "", AT_FDCWD, (d + "/b").c_str(), MOVE_MOUNT_F_EMPTY_PATH) == 0);
              CHILD_CHECK(Exists(d + "/b/sub/f"));
              tree.reset();
              CHILD_CHECK(Exists(d + "/b/sub/f"));  // attached, it stays
              Fd lost(OpenTree(AT_FDCWD, (d + "/a").c_str(), OPEN_TREE_CLONE));
              CHILD_CHECK(lost.ok());
              lost.reset();
            }),
            Exited(0));
}

TEST(Mount, FsopenFsconfigFsmount) {
  EXPECT_EQ(InNamespace([](const std::string& d) {
              Dir(d + "/a");
              CHILD_CHECK(Fsopen("nosuchfs", 0) == -1 && errno == ENODEV);
              CHILD_CHECK(Fsopen("tmpfs", ~0u) == -1 && errno == EINVAL);
              CHILD_CHECK(Fsopen(nullptr, 0) == -1 && errno == EFAULT);
              Fd fs(Fsopen("tmpfs", FSOPEN_CLOEXEC));
              CHILD_CHECK(fs.ok());
              CHILD_CHECK(Fsmount(fs.get(), 0, 0) == -1 && errno == EINVAL);  // nothing made yet
              CHILD_CHECK(Fsconfig(fs.get(), FSCONFIG_SET_STRING, "size", "64k", 0) == 0);
              CHILD_CHECK(Fsconfig(fs.get(), FSCONFIG_SET_STRING, "source", "mine", 0) == 0);
              CHILD_CHECK(Fsconfig(fs.get(), FSCONFIG_SET_STRING, "source", "twice", 0) == -1 && errno == EINVAL);
              CHILD_CHECK(Fsconfig(fs.get(), FSCONFIG_SET_STRING, nullptr, "x", 0) == -1 && errno == EINVAL);
              CHILD_CHECK(Fsconfig(fs.get(), FSCONFIG_SET_FLAG, "ro", "x", 0) == -1 && errno == EINVAL);
              CHILD_CHECK(Fsconfig(fs.get(), 999, nullptr, nullptr, 0) == -1 && errno == EOPNOTSUPP);
              CHILD_CHECK(Fsconfig(-1, FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) == -1 && errno == EINVAL);
              CHILD_CHECK(Fsconfig(0x7fffffff, FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) == -1 && errno == EBADF);
              Pipe pipe;
              CHILD_CHECK(Fsconfig(pipe.r.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) == -1 && errno == EINVAL);
              CHILD_CHECK(Fsconfig(fs.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) == 0);
              CHILD_CHECK(Fsconfig(fs.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) == -1 && errno == EBUSY);
              CHILD_CHECK(Fsmount(fs.get(), 0, 0x10000000) == -1 && errno == EINVAL);
              CHILD_CHECK(Fsmount(pipe.r.get(), 0, 0) == -1 && errno == EINVAL);
              Fd mnt(Fsmount(fs.get(), FSMOUNT_CLOEXEC, MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC));
              CHILD_CHECK(mnt.ok());
              CHILD_CHECK(MoveMount(mnt.get(), "", AT_FDCWD, (d + "/a").c_str(), MOVE_MOUNT_F_EMPTY_PATH) == 0);
              struct statvfs s;
              CHILD_CHECK(statvfs((d + "/a").c_str(), &s) == 0);
              CHILD_CHECK((s.f_flag & (ST_NODEV | ST_NOEXEC)) == (ST_NODEV | ST_NOEXEC));
              CHILD_CHECK(s.f_blocks * s.f_frsize == 65536);
              CHILD_CHECK(ReadFile("/proc/self/mountinfo").find(d + "/a rw,nodev,noexec,relatime - tmpfs mine ") !=
                          std::string::npos);
              Fd pick(static_cast<int>(syscall(SYS_fspick, AT_FDCWD, (d + "/a").c_str(), FSPICK_CLOEXEC)));
              CHILD_CHECK(pick.ok());
              CHILD_CHECK(Fsconfig(pick.get(), FSCONFIG_SET_STRING, "size", "128k", 0) == 0);
              CHILD_CHECK(Fsconfig(pick.get(), FSCONFIG_CMD_RECONFIGURE, nullptr, nullptr, 0) == 0);
              CHILD_CHECK(statvfs((d + "/a").c_str(), &s) == 0 && s.f_blocks * s.f_frsize == 131072);
              CHILD_CHECK(syscall(SYS_fspick, AT_FDCWD, d.c_str(), ~0u) == -1 && errno == EINVAL);
              Dir(d + "/a/x");
              CHILD_CHECK(syscall(SYS_fspick, AT_FDCWD, (d + "/a/x").c_str(), 0) == -1 && errno == EINVAL);
            }),
            Exited(0));
}

TEST(Mount, Setattr) {
  EXPECT_EQ(InNamespace([](const std::string& d) {
              Dir(d + "/a");
              Tmpfs(d + "/a");
              Dir(d + "/a/sub");
              Tmpfs(d + "/a/sub");
              mount_attr attr = {};
              auto set = [&](unsigned flags = 0) {
                return Setattr(AT_FDCWD, (d + "/a").c_str(), flags, &attr, sizeof attr);
              };
              attr.attr_set = MOUNT_ATTR_RDONLY;
              CHILD_CHECK(Setattr(AT_FDCWD, d.c_str(), 0, &attr, 8) == -1 && errno == EINVAL);
              CHILD_CHECK(Setattr(AT_FDCWD, d.c_str(), 0, &attr, 1 << 20) == -1 && errno == E2BIG);
              CHILD_CHECK(Setattr(AT_FDCWD, d.c_str(), 0, nullptr, sizeof attr) == -1 && errno == EFAULT);
              CHILD_CHECK(set(~0u) == -1 && errno == EINVAL);
              CHILD_CHECK(set(AT_RECURSIVE) == 0);
              CHILD_CHECK(!WriteFile(d + "/a/sub/f", "x") && errno == EROFS);
              attr = {};
              attr.attr_clr = MOUNT_ATTR_RDONLY;
              CHILD_CHECK(set() == 0);
              CHILD_CHECK(WriteFile(d + "/a/f", "x") && !WriteFile(d + "/a/sub/f", "x"));
              attr = {};
              attr.attr_set = MOUNT_ATTR_NOATIME;
              CHILD_CHECK(set() == -1 && errno == EINVAL);  // only with the whole field cleared
              attr.attr_clr = MOUNT_ATTR__ATIME;
              CHILD_CHECK(set() == 0);
              attr = {};
              attr.propagation = kShared | kPrivate;
              CHILD_CHECK(set() == -1 && errno == EINVAL);
              attr.propagation = kShared;
              CHILD_CHECK(set(AT_RECURSIVE) == 0);
              CHILD_CHECK(!Optional(d + "/a/sub").empty());
              attr = {};
              attr.attr_set = uint64_t{1} << 40;
              CHILD_CHECK(set() == -1 && errno == EINVAL);
              CHILD_CHECK(Setattr(AT_FDCWD, (d + "/a/f").c_str(), 0, &attr, sizeof attr) == -1 && errno == EINVAL);
            }),
            Exited(0));
}

// linux/mount.h of Linux 6.8, which older headers lack.
struct IdRequest {
  uint32_t size = 24, spare = 0;
  uint64_t id = 0, param = 0;
};
struct StatMountHead {
  uint32_t size, options;
  uint64_t mask;
  uint32_t device_major, device_minor;
  uint64_t magic;
  uint32_t sb_flags, type;
  uint64_t id, parent_id;
  uint32_t old_id, old_parent_id;
  uint64_t attributes, propagation, peer_group, master, propagate_from;
  uint32_t root, point;
  uint64_t spare[50];
};
static_assert(sizeof(StatMountHead) == 512);
constexpr int kStatmount = 457, kListmount = 458;
constexpr unsigned kMountIdUnique = 0x4000;  // STATX_MNT_ID_UNIQUE

long ListMounts(const IdRequest* request, uint64_t* ids, size_t count, unsigned flags = 0) {
  return syscall(kListmount, request, ids, count, flags);
}
uint64_t UniqueId(const std::string& path) {
  struct statx x = {};
  CHILD_CHECK(statx(AT_FDCWD, path.c_str(), 0, kMountIdUnique, &x) == 0 && (x.stx_mask & kMountIdUnique));
  return x.stx_mnt_id;
}

TEST(Mount, ListAndStatByUniqueId) {
  if (syscall(kListmount, nullptr, nullptr, 0, 0) == -1 && errno == ENOSYS) GTEST_SKIP() << "listmount: Linux 6.8";
  EXPECT_EQ(InNamespace([](const std::string& d) {
              Dir(d + "/a");
              CHILD_CHECK(mount("src", (d + "/a").c_str(), "tmpfs", kNoDev | kNoExec, nullptr) == 0);
              Type(d + "/a", kShared);
              Dir(d + "/a/b");
              Tmpfs(d + "/a/b");
              const uint64_t top = UniqueId(d), a = UniqueId(d + "/a"), b = UniqueId(d + "/a/b");
              CHILD_CHECK(top > uint64_t{1} << 31 && a > top && b > a);
              uint64_t ids[8] = {};
              IdRequest request{.id = top};
              CHILD_CHECK(ListMounts(&request, ids, 8) == 2 && ids[0] == a && ids[1] == b);
              CHILD_CHECK(ListMounts(&request, ids, 1) == 1 && ids[0] == a);
              CHILD_CHECK(ListMounts(&request, ids, 8, 1) == 2 && ids[0] == b && ids[1] == a);
              request.param = a;
              CHILD_CHECK(ListMounts(&request, ids, 8) == 1 && ids[0] == b);
              std::vector<uint64_t> all(1000);
              IdRequest root{.id = ~uint64_t{0}};
              const long n = ListMounts(&root, all.data(), all.size());
              CHILD_CHECK(n > 3);
              CHILD_CHECK(std::count(all.begin(), all.begin() + n, UniqueId("/")) == 1);
              CHILD_CHECK(ListMounts(&root, all.data(), all.size(), ~0u) == -1 && errno == EINVAL);
              CHILD_CHECK(ListMounts(&root, all.data(), size_t{1} << 40) == -1 && errno == EOVERFLOW);
              CHILD_CHECK(ListMounts(nullptr, all.data(), 8) == -1 && errno == EFAULT);
              CHILD_CHECK(ListMounts(&root, reinterpret_cast<uint64_t*>(8), 8) == -1 && errno == EFAULT);
              IdRequest bad{.size = 8, .id = top};
              CHILD_CHECK(ListMounts(&bad, ids, 8) == -1 && errno == EINVAL);
              bad = {.size = 1 << 20, .id = top};
              CHILD_CHECK(ListMounts(&bad, ids, 8) == -1 && errno == E2BIG);
              bad = {.id = uint64_t{1} << 60};
              CHILD_CHECK(ListMounts(&bad, ids, 8) == -1 && errno == ENOENT);

              struct {
                StatMountHead head;
                char strings[4096];
              } s = {};
              IdRequest about{.id = a, .param = 0x3f};
              CHILD_CHECK(syscall(kStatmount, &about, &s, sizeof s, 0) == 0);
              CHILD_CHECK((s.head.mask & 0x3f) == 0x3f && s.head.id == a && s.head.parent_id == top);
              CHILD_CHECK(s.head.magic == 0x01021994 && s.head.attributes == (4 | 8));
              CHILD_CHECK(s.head.propagation == kShared && s.head.peer_group != 0 && s.head.master == 0);
              CHILD_CHECK(strcmp(s.strings + s.head.type, "tmpfs") == 0);
              CHILD_CHECK(strcmp(s.strings + s.head.root, "/") == 0);
              CHILD_CHECK(d + "/a" == s.strings + s.head.point);
              CHILD_CHECK(syscall(kStatmount, &about, &s, 512, 0) == -1 && errno == EOVERFLOW);
              CHILD_CHECK(syscall(kStatmount, &about, &s, sizeof s, 1) == -1 && errno == EINVAL);
              CHILD_CHECK(syscall(kStatmount, &about, 8, sizeof s, 0) == -1 && errno == EFAULT);
              about.id = uint64_t{1} << 60;
              CHILD_CHECK(syscall(kStatmount, &about, &s, sizeof s, 0) == -1 && errno == ENOENT);
              about.id = 1;
              CHILD_CHECK(syscall(kStatmount, &about, &s, sizeof s, 0) == -1 && errno == EINVAL);
            }),
            Exited(0));
}

}  // namespace
