// SPDX-License-Identifier: Apache-2.0
// mount(2) of the type "overlay": merging, copy-up, whiteouts, opaque directories, what upperdir holds afterwards.
#include <dirent.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include <algorithm>
#include <atomic>
#include <thread>
#include <vector>

#include "tests/syscalls/util.h"

// <sys/mount.h> and <linux/mount.h> don't go together.
extern "C" int mount(const char*, const char*, const char*, unsigned long, const void*) noexcept;
extern "C" int umount2(const char*, int) noexcept;

namespace {

constexpr unsigned long kRec = 16384, kPrivate = 1 << 18;

bool Exists(const std::string& path) {
  struct stat st;
  return lstat(path.c_str(), &st) == 0;
}
void Dir(const std::string& path) { CHILD_CHECK(mkdir(path.c_str(), 0755) == 0); }
void Put(const std::string& path, const std::string& text) { CHILD_CHECK(WriteFile(path, text)); }
struct stat StatOf(const std::string& path) {
  struct stat st = {};
  CHILD_CHECK(lstat(path.c_str(), &st) == 0);
  return st;
}
bool IsWhiteout(const std::string& path) {
  struct stat st;
  return lstat(path.c_str(), &st) == 0 && S_ISCHR(st.st_mode) && st.st_rdev == 0;
}
std::string Xattr(const std::string& path, const char* name) {
  char value[64];
  ssize_t n = lgetxattr(path.c_str(), name, value, sizeof value);
  return n < 0 ? "errno " + std::to_string(errno) : std::string(value, n);
}
std::vector<std::string> List(const std::string& path) {
  std::vector<std::string> names;
  DIR* dir = opendir(path.c_str());
  CHILD_CHECK(dir);
  while (dirent* entry = readdir(dir)) {
    if (std::string(entry->d_name) != "." && std::string(entry->d_name) != "..") names.push_back(entry->d_name);
  }
  closedir(dir);
  std::sort(names.begin(), names.end());
  return names;
}
using Names = std::vector<std::string>;

struct Layers {
  std::string d, l1, l2, u, w, m;
  std::string Options() const {
    return "lowerdir=" + l1 + ":" + l2 + ",upperdir=" + u + ",workdir=" + w + ",redirect_dir=off";
  }
  int Mount(unsigned long flags = 0) const { return mount("overlay", m.c_str(), "overlay", flags, Options().c_str()); }
};

// `body` runs in a mount namespace of its own, with five directories in a tmpfs.
int WithLayers(const std::function<void(const Layers&)>& body) {
  TempDir dir;
  return RunInChild([&] {
    CHILD_CHECK(unshare(CLONE_NEWNS) == 0);
    CHILD_CHECK(mount(nullptr, "/", nullptr, kRec | kPrivate, nullptr) == 0);
    CHILD_CHECK(mount("t", dir.path().c_str(), "tmpfs", 0, nullptr) == 0);
    CHILD_CHECK(chdir(dir.path().c_str()) == 0);
    Layers layers{dir.path(), dir / "l1", dir / "l2", dir / "u", dir / "w", dir / "m"};
    for (const std::string* path : {&layers.l1, &layers.l2, &layers.u, &layers.w, &layers.m}) Dir(*path);
    body(layers);
  });
}

TEST(Overlay, MergesLayersTopFirst) {
  EXPECT_EQ(
      Exited(0), WithLayers([](const Layers& at) {
        Put(at.l1 + "/both", "top");
        Put(at.l2 + "/both", "bottom");
        Put(at.l2 + "/below", "b");
        Put(at.u + "/above", "a");
        Dir(at.l1 + "/d");
        Put(at.l1 + "/d/one", "1");
        Dir(at.l2 + "/d");
        Put(at.l2 + "/d/two", "2");
        Dir(at.l1 + "/type");
        Put(at.l2 + "/type", "a file below a directory is hidden");
        CHILD_CHECK(at.Mount() == 0);
        CHILD_CHECK(ReadFile(at.m + "/both") == "top");
        CHILD_CHECK(List(at.m) == (Names{"above", "below", "both", "d", "type"}));
        CHILD_CHECK(List(at.m + "/d") == (Names{"one", "two"}));
        CHILD_CHECK(S_ISDIR(StatOf(at.m + "/type").st_mode));
        struct statfs fs;
        CHILD_CHECK(statfs(at.m.c_str(), &fs) == 0 && fs.f_type == 0x794c7630);
        CHILD_CHECK(ReadFile("/proc/self/mountinfo").find("lowerdir=" + at.l1 + ":" + at.l2) != std::string::npos);
        CHILD_CHECK(StatOf(at.m + "/d").st_nlink == 1);
        CHILD_CHECK(StatOf(at.m + "/both").st_dev != StatOf(at.l1 + "/both").st_dev ||
                    StatOf(at.m + "/both").st_ino == StatOf(at.l1 + "/both").st_ino);
      }));
}

TEST(Overlay, WritesGoUp) {
  EXPECT_EQ(Exited(0), WithLayers([](const Layers& at) {
              Dir(at.l2 + "/d");
              Dir(at.l2 + "/d/e");
              CHILD_CHECK(chmod((at.l2 + "/d/e").c_str(), 0751) == 0);
              Put(at.l2 + "/d/e/f", "lower");
              CHILD_CHECK(chown((at.l2 + "/d/e/f").c_str(), 12, 34) == 0);
              CHILD_CHECK(at.Mount() == 0);
              const std::string f = at.m + "/d/e/f";
              Fd reader(open(f.c_str(), O_RDONLY));
              CHILD_CHECK(!Exists(at.u + "/d"));
              const ino_t before = StatOf(f).st_ino;
              Fd fd(open(f.c_str(), O_WRONLY | O_APPEND));
              CHILD_CHECK(fd.ok() && write(fd.get(), "+", 1) == 1);
              CHILD_CHECK(ReadFile(f) == "lower+" && ReadFile(at.u + "/d/e/f") == "lower+");
              CHILD_CHECK(ReadFile(at.l2 + "/d/e/f") == "lower");
              CHILD_CHECK(StatOf(f).st_ino == before);
              struct stat up = StatOf(at.u + "/d/e/f");
              CHILD_CHECK(up.st_uid == 12 && up.st_gid == 34);
              CHILD_CHECK((StatOf(at.u + "/d/e").st_mode & 07777) == 0751);
              // Attributes alone, of a directory that is merged.
              CHILD_CHECK(chmod((at.m + "/d").c_str(), 0700) == 0);
              CHILD_CHECK((StatOf(at.u + "/d").st_mode & 07777) == 0700);
              CHILD_CHECK((StatOf(at.l2 + "/d").st_mode & 07777) == 0755);
              // New files are in the upper layer only.
              Put(at.m + "/d/new", "n");
              CHILD_CHECK(symlink("target", (at.m + "/d/link").c_str()) == 0);
              CHILD_CHECK(ReadFile(at.u + "/d/new") == "n" && !Exists(at.l2 + "/d/new"));
              CHILD_CHECK(List(at.m + "/d") == (Names{"e", "link", "new"}));
            }));
}

TEST(Overlay, Whiteouts) {
  EXPECT_EQ(Exited(0), WithLayers([](const Layers& at) {
              Put(at.l1 + "/f", "1");
              Put(at.l2 + "/f", "2");
              Put(at.l2 + "/hidden", "h");
              CHILD_CHECK(mknod((at.l1 + "/hidden").c_str(), S_IFCHR, 0) == 0);
              Dir(at.l2 + "/d");
              Put(at.l2 + "/d/x", "x");
              CHILD_CHECK(at.Mount() == 0);
              CHILD_CHECK(!Exists(at.m + "/hidden") && List(at.m) == (Names{"d", "f"}));
              CHILD_CHECK(unlink((at.m + "/f").c_str()) == 0);
              CHILD_CHECK(!Exists(at.m + "/f") && IsWhiteout(at.u + "/f"));
              CHILD_CHECK(unlink((at.m + "/f").c_str()) == -1 && errno == ENOENT);
              // A name comes back without what was below.
              Put(at.m + "/f", "new");
              CHILD_CHECK(ReadFile(at.m + "/f") == "new" && S_ISREG(StatOf(at.u + "/f").st_mode));
              CHILD_CHECK(unlink((at.m + "/f").c_str()) == 0 && IsWhiteout(at.u + "/f"));
              // Directories.
              CHILD_CHECK(rmdir((at.m + "/d").c_str()) == -1 && errno == ENOTEMPTY);
              CHILD_CHECK(unlink((at.m + "/d/x").c_str()) == 0 && IsWhiteout(at.u + "/d/x"));
              CHILD_CHECK(rmdir((at.m + "/d").c_str()) == 0 && IsWhiteout(at.u + "/d"));
              Dir(at.m + "/d");
              CHILD_CHECK(List(at.m + "/d").empty());
              CHILD_CHECK(Xattr(at.u + "/d", "trusted.overlay.opaque") == "y");
              CHILD_CHECK(Xattr(at.m + "/d", "trusted.overlay.opaque").starts_with("errno"));
              char names[256];
              CHILD_CHECK(llistxattr((at.m + "/d").c_str(), names, sizeof names) == 0);
              // A new name with nothing below leaves nothing behind.
              Put(at.m + "/fresh", "");
              CHILD_CHECK(unlink((at.m + "/fresh").c_str()) == 0 && !Exists(at.u + "/fresh"));
              CHILD_CHECK(mknod((at.m + "/wh").c_str(), S_IFCHR, 0) == -1 && errno == EPERM);
            }));
}

TEST(Overlay, OpaqueDirectories) {
  EXPECT_EQ(Exited(0), WithLayers([](const Layers& at) {
              Dir(at.l2 + "/d");
              Put(at.l2 + "/d/below", "b");
              Dir(at.l1 + "/d");
              Put(at.l1 + "/d/middle", "m");
              CHILD_CHECK(setxattr((at.l1 + "/d").c_str(), "trusted.overlay.opaque", "y", 1, 0) == 0);
              Dir(at.u + "/d");
              CHILD_CHECK(at.Mount() == 0);
              CHILD_CHECK(List(at.m + "/d") == (Names{"middle"}));
              CHILD_CHECK(!Exists(at.m + "/d/below"));
            }));
}

TEST(Overlay, Rename) {
  EXPECT_EQ(Exited(0), WithLayers([](const Layers& at) {
              Put(at.l1 + "/f", "f");
              Put(at.l1 + "/g", "g");
              Dir(at.l1 + "/d");
              Put(at.l1 + "/d/x", "x");
              Dir(at.l1 + "/empty");
              CHILD_CHECK(at.Mount() == 0);
              const std::string m = at.m;
              CHILD_CHECK(rename((m + "/f").c_str(), (m + "/d/f").c_str()) == 0);
              CHILD_CHECK(ReadFile(m + "/d/f") == "f" && !Exists(m + "/f") && IsWhiteout(at.u + "/f"));
              // Lower and merged directories do not move without redirect_dir.
              CHILD_CHECK(rename((m + "/d").c_str(), (m + "/e").c_str()) == -1 && errno == EXDEV);
              // One that is all above does; over an empty one with things below it becomes opaque.
              Dir(m + "/new");
              Put(m + "/new/n", "n");
              CHILD_CHECK(rename((m + "/new").c_str(), (m + "/empty").c_str()) == 0);
              CHILD_CHECK(List(m + "/empty") == (Names{"n"}));
              CHILD_CHECK(Xattr(at.u + "/empty", "trusted.overlay.opaque") == "y");
              CHILD_CHECK(rename((m + "/empty").c_str(), (m + "/moved").c_str()) == 0);
              CHILD_CHECK(IsWhiteout(at.u + "/empty") && ReadFile(m + "/moved/n") == "n");
              // Onto a whiteout, over a lower file, and the exchange of two.
              CHILD_CHECK(rename((m + "/d/f").c_str(), (m + "/f").c_str()) == 0 && ReadFile(m + "/f") == "f");
              CHILD_CHECK(!Exists(at.u + "/d/f"));
              CHILD_CHECK(renameat2(AT_FDCWD, (m + "/f").c_str(), AT_FDCWD, (m + "/g").c_str(), RENAME_EXCHANGE) == 0);
              CHILD_CHECK(ReadFile(m + "/f") == "g" && ReadFile(m + "/g") == "f");
              CHILD_CHECK(rename((m + "/f").c_str(), (m + "/g").c_str()) == 0 && ReadFile(m + "/g") == "g");
              CHILD_CHECK(List(m) == (Names{"d", "g", "moved"}));
              CHILD_CHECK(List(at.u) == (Names{"d", "empty", "f", "g", "moved"}));
            }));
}

TEST(Overlay, HardLinksAndUnnamedFiles) {
  EXPECT_EQ(Exited(0), WithLayers([](const Layers& at) {
              Put(at.l1 + "/f", "f");
              Put(at.l1 + "/gone", "g");
              CHILD_CHECK(at.Mount() == 0);
              CHILD_CHECK(link((at.m + "/f").c_str(), (at.m + "/h").c_str()) == 0);
              CHILD_CHECK(StatOf(at.m + "/f").st_ino == StatOf(at.m + "/h").st_ino);
              CHILD_CHECK(StatOf(at.m + "/h").st_nlink == 2);
              Fd f(open((at.m + "/f").c_str(), O_WRONLY | O_TRUNC));
              CHILD_CHECK(write(f.get(), "new", 3) == 3 && ReadFile(at.m + "/h") == "new");
              CHILD_CHECK(ReadFile(at.u + "/h") == "new" && ReadFile(at.l1 + "/f") == "f");
              Fd unnamed(open(at.m.c_str(), O_TMPFILE | O_RDWR, 0600));
              CHILD_CHECK(unnamed.ok() && write(unnamed.get(), "u", 1) == 1);
              const std::string self = "/proc/self/fd/" + std::to_string(unnamed.get());
              CHILD_CHECK(linkat(AT_FDCWD, self.c_str(), AT_FDCWD, (at.m + "/named").c_str(), AT_SYMLINK_FOLLOW) == 0);
              CHILD_CHECK(ReadFile(at.u + "/named") == "u");
              // A lower file that lost its name stays what its descriptors say.
              Fd gone(open((at.m + "/gone").c_str(), O_RDONLY));
              CHILD_CHECK(unlink((at.m + "/gone").c_str()) == 0);
              CHILD_CHECK(IsWhiteout(at.u + "/gone"));
              char c;
              CHILD_CHECK(read(gone.get(), &c, 1) == 1 && c == 'g');
            }));
}

TEST(Overlay, Mappings) {
  EXPECT_EQ(Exited(0), WithLayers([](const Layers& at) {
              Put(at.l1 + "/f", "lower");
              CHILD_CHECK(at.Mount() == 0);
              Fd fd(open((at.m + "/f").c_str(), O_RDWR));
              void* p = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
              CHILD_CHECK(p != MAP_FAILED);
              memcpy(p, "UPPER", 5);
              CHILD_CHECK(ReadFile(at.m + "/f") == "UPPER" && ReadFile(at.u + "/f") == "UPPER");
              CHILD_CHECK(ReadFile(at.l1 + "/f") == "lower");
            }));
}

TEST(Overlay, WithoutAnUpperLayer) {
  EXPECT_EQ(Exited(0), WithLayers([](const Layers& at) {
              Put(at.l1 + "/f", "f");
              const std::string one = "lowerdir=" + at.l1, two = one + ":" + at.l2;
              CHILD_CHECK(mount("o", at.m.c_str(), "overlay", 0, two.c_str()) == 0);
              CHILD_CHECK(ReadFile(at.m + "/f") == "f");
              CHILD_CHECK(open((at.m + "/f").c_str(), O_WRONLY) == -1 && errno == EROFS);
              CHILD_CHECK(mkdir((at.m + "/d").c_str(), 0755) == -1 && errno == EROFS);
              CHILD_CHECK(unlink((at.m + "/f").c_str()) == -1 && errno == EROFS);
            }));
}

TEST(Overlay, RefusesWhatMakesNoSense) {
  EXPECT_EQ(Exited(0), WithLayers([](const Layers& at) {
              auto fails = [&](int error, const std::string& options) {
                int got = mount("o", at.m.c_str(), "overlay", 0, options.c_str());
                return got == -1 && errno == error;
              };
              const std::string upper = ",upperdir=" + at.u, work = ",workdir=" + at.w, lower = "lowerdir=" + at.l1;
              CHILD_CHECK(fails(EINVAL, "upperdir=" + at.u + work));
              CHILD_CHECK(fails(EINVAL, lower + upper));
              CHILD_CHECK(fails(EINVAL, lower + upper + work + ",nonsense"));
              CHILD_CHECK(fails(ENOENT, "lowerdir=" + at.d + "/none" + upper + work));
              CHILD_CHECK(fails(EINVAL, lower + upper + ",workdir=" + at.u));
              Dir(at.u + "/in");
              CHILD_CHECK(fails(EINVAL, lower + upper + ",workdir=" + at.u + "/in"));
              Dir(at.d + "/other");
              CHILD_CHECK(mount("t", (at.d + "/other").c_str(), "tmpfs", 0, nullptr) == 0);
              CHILD_CHECK(fails(EINVAL, lower + upper + ",workdir=" + at.d + "/other"));
              // An overlay is no upper layer, and is stacked twice at most.
              CHILD_CHECK(at.Mount() == 0);
              Dir(at.m + "/u");
              Dir(at.m + "/w");
              Dir(at.m + "/m");
              const std::string m2 = at.d + "/m2", m3 = at.d + "/m3";
              Dir(m2);
              Dir(m3);
              CHILD_CHECK(fails(EINVAL, lower + ",upperdir=" + at.m + "/u,workdir=" + at.m + "/w"));
              CHILD_CHECK(mount("o", m2.c_str(), "overlay", 0, ("lowerdir=" + at.m + ":" + at.l2).c_str()) == 0);
              CHILD_CHECK(Exists(m2 + "/u"));
              CHILD_CHECK(mount("o", m3.c_str(), "overlay", 0, ("lowerdir=" + m2 + ":" + at.l2).c_str()) == -1);
              CHILD_CHECK(errno == EINVAL);
            }));
}

TEST(Overlay, OverAnotherOverlayWithAnUpperLayer) {
  EXPECT_EQ(Exited(0), WithLayers([](const Layers& at) {
              Dir(at.l1 + "/d");
              Put(at.l1 + "/d/f", "deep");
              CHILD_CHECK(at.Mount() == 0);
              Put(at.m + "/d/g", "middle");
              for (const char* name : {"/u2", "/w2", "/m2"}) Dir(at.d + name);
              const std::string options = "lowerdir=" + at.m + ",upperdir=" + at.d + "/u2,workdir=" + at.d + "/w2";
              CHILD_CHECK(mount("o", (at.d + "/m2").c_str(), "overlay", 0, options.c_str()) == 0);
              CHILD_CHECK(List(at.d + "/m2/d") == (Names{"f", "g"}));
              Fd f(open((at.d + "/m2/d/f").c_str(), O_WRONLY | O_APPEND));
              CHILD_CHECK(write(f.get(), "er", 2) == 2);
              CHILD_CHECK(ReadFile(at.d + "/u2/d/f") == "deeper" && ReadFile(at.m + "/d/f") == "deep");
              CHILD_CHECK(unlink((at.d + "/m2/d/g").c_str()) == 0 && IsWhiteout(at.d + "/u2/d/g"));
            }));
}

TEST(Overlay, OutlivesItsLayersMounts) {
  EXPECT_EQ(Exited(0), WithLayers([](const Layers& at) {
              const std::string l = at.d + "/tl";
              Dir(l);
              CHILD_CHECK(mount("t", l.c_str(), "tmpfs", 0, nullptr) == 0);
              Put(l + "/f", "kept");
              const std::string options = "lowerdir=" + l + ",upperdir=" + at.u + ",workdir=" + at.w;
              CHILD_CHECK(mount("o", at.m.c_str(), "overlay", 0, options.c_str()) == 0);
              CHILD_CHECK(umount2(l.c_str(), 0) == 0);
              CHILD_CHECK(ReadFile(at.m + "/f") == "kept");
              Put(at.m + "/g", "g");
              CHILD_CHECK(umount2(at.m.c_str(), 0) == 0 && List(at.m).empty());
              CHILD_CHECK(ReadFile(at.u + "/g") == "g");
              // And again over the same upper layer.
              Put(at.l1 + "/base", "b");
              CHILD_CHECK(at.Mount() == 0 && List(at.m) == (Names{"base", "g"}));
            }));
}

TEST(Overlay, ByTheNewMountApi) {
  EXPECT_EQ(Exited(0), WithLayers([](const Layers& at) {
              Put(at.l1 + "/f", "f");
              int fs = static_cast<int>(syscall(SYS_fsopen, "overlay", 0));
              CHILD_CHECK(fs >= 0);
              auto set = [&](const char* key, const std::string& value) {
                CHILD_CHECK(syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, key, value.c_str(), 0) == 0);
              };
              set("lowerdir", at.l1 + ":" + at.l2);
              set("upperdir", at.u);
              set("workdir", at.w);
              CHILD_CHECK(syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) == 0);
              int mounted = static_cast<int>(syscall(SYS_fsmount, fs, 0, 0));
              CHILD_CHECK(mounted >= 0);
              CHILD_CHECK(syscall(SYS_move_mount, mounted, "", AT_FDCWD, at.m.c_str(), MOVE_MOUNT_F_EMPTY_PATH) == 0);
              CHILD_CHECK(ReadFile(at.m + "/f") == "f");
              Put(at.m + "/g", "g");
              CHILD_CHECK(ReadFile(at.u + "/g") == "g");
            }));
}

// Many threads at one set of names: nothing may hang, and what is left is what the upper layer says.
TEST(Overlay, ConcurrentChanges) {
  EXPECT_EQ(Exited(0), WithLayers([](const Layers& at) {
              for (int i = 0; i < 8; ++i) {
                Dir(at.l1 + "/d" + std::to_string(i));
                for (int j = 0; j < 4; ++j) Put(at.l1 + "/d" + std::to_string(i) + "/f" + std::to_string(j), "x");
              }
              CHILD_CHECK(at.Mount() == 0);
              std::vector<std::thread> threads;
              for (unsigned seed = 1; seed <= 4; ++seed) {
                threads.emplace_back([&, seed]() mutable {
                  for (int i = 0; i < 300; ++i) {
                    auto name = [&] {
                      return at.m + "/d" + std::to_string(rand_r(&seed) % 8) + "/f" + std::to_string(rand_r(&seed) % 6);
                    };
                    const std::string a = name(), b = name();
                    switch (rand_r(&seed) % 6) {
                      case 0: {
                        Fd fd(open(a.c_str(), O_RDWR | O_CREAT | O_APPEND, 0644));
                        if (fd.ok()) CHILD_CHECK(write(fd.get(), "y", 1) == 1);
                        break;
                      }
                      case 1:
                        unlink(a.c_str());
                        break;
                      case 2:
                        rename(a.c_str(), b.c_str());
                        break;
                      case 3:
                        chmod(a.c_str(), 0600);
                        break;
                      case 4:
                        link(a.c_str(), b.c_str());
                        break;
                      default:
                        List(a.substr(0, a.rfind('/')));
                    }
                  }
                });
              }
              for (std::thread& thread : threads) thread.join();
              std::vector<Names> before;
              for (int i = 0; i < 8; ++i) before.push_back(List(at.m + "/d" + std::to_string(i)));
              CHILD_CHECK(umount2(at.m.c_str(), 0) == 0 && at.Mount() == 0);
              for (int i = 0; i < 8; ++i) CHILD_CHECK(before[i] == List(at.m + "/d" + std::to_string(i)));
            }));
}

}  // namespace
