// SPDX-License-Identifier: Apache-2.0
#include "gofer/sandbox.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <linux/mount.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "absl/strings/str_cat.h"

#ifndef AT_RECURSIVE
#define AT_RECURSIVE 0x8000  // <linux/fcntl.h> clashes with <fcntl.h>
#endif

namespace gofer {
namespace {

using base::UniqueFd;

absl::Status Failed(const std::string& what) { return absl::ErrnoToStatus(errno, absl::StrCat("gofer: ", what)); }

#define RETURN_IF_FAILED(status)       \
  do {                                 \
    absl::Status status_ = (status);   \
    if (!status_.ok()) return status_; \
  } while (false)

// A directory to mount the new root on; what it hides is gone after the pivot anyway.
absl::StatusOr<std::string> MountNewRoot() {
  for (const char* place : {"/tmp", "/run", "/mnt", "/var", "/etc", "/usr"}) {
    struct stat s;
    if (stat(place, &s) < 0 || !S_ISDIR(s.st_mode)) continue;
    if (mount("gofer", place, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0755,size=1m") < 0) {
      return Failed(absl::StrCat("mount of a tmpfs on ", place));
    }
    return std::string(place);
  }
  return absl::NotFoundError("gofer: the host has none of /tmp /run /mnt /var /etc /usr to build a root on");
}

// The whole tree at once (Linux 5.12); on older kernels the topmost mount only, keeping the flags it has.
absl::Status Restrict(const std::string& target, const SandboxRoot& root) {
  mount_attr attr{};
  attr.attr_set = MOUNT_ATTR_NOSUID;
  if (root.read_only) attr.attr_set |= MOUNT_ATTR_RDONLY;
  if (!root.devices) attr.attr_set |= MOUNT_ATTR_NODEV;
  if (syscall(SYS_mount_setattr, AT_FDCWD, target.c_str(), AT_RECURSIVE, &attr, sizeof attr) == 0) {
    return absl::OkStatus();
  }
  if (errno != ENOSYS) return Failed(absl::StrCat("mount_setattr of the served tree ", root.path));
  struct statvfs s;
  if (statvfs(target.c_str(), &s) < 0) return Failed(absl::StrCat("statvfs of the served tree ", root.path));
  unsigned long flags = MS_REMOUNT | MS_BIND | MS_NOSUID;
  if (root.read_only || (s.f_flag & ST_RDONLY)) flags |= MS_RDONLY;
  if (!root.devices || (s.f_flag & ST_NODEV)) flags |= MS_NODEV;
  if (s.f_flag & ST_NOEXEC) flags |= MS_NOEXEC;
  if (s.f_flag & ST_NOATIME) flags |= MS_NOATIME;
  if (s.f_flag & ST_NODIRATIME) flags |= MS_NODIRATIME;
  if (s.f_flag & ST_RELATIME) flags |= MS_RELATIME;
  if (mount("none", target.c_str(), nullptr, flags, nullptr) < 0) {
    return Failed(absl::StrCat("remount of the served tree ", root.path));
  }
  return absl::OkStatus();
}

// What a root is served from: the place itself, and a copy of its mount tree taken before the new root is mounted
// somewhere below it (or -1 where the host's kernel has no open_tree(2): then the place of the new root is hidden in a
// served "/").
struct Source {
  UniqueFd place, tree;
};

absl::Status AttachTree(const SandboxRoot& root, const Source& source, const std::string& target) {
  if (source.tree.ok()) {
    if (syscall(SYS_move_mount, source.tree.get(), "", AT_FDCWD, target.c_str(), MOVE_MOUNT_F_EMPTY_PATH) < 0) {
      return Failed(absl::StrCat("mount of the served tree ", root.path));
    }
    return absl::OkStatus();
  }
  std::string from = absl::StrCat("/proc/self/fd/", source.place.get());
  int result = mount(from.c_str(), target.c_str(), nullptr, MS_BIND | (root.submounts ? MS_REC : 0), nullptr);
  // In a user namespace inherited submounts are locked to their parent: they come along, and the server hides them.
  if (result < 0 && errno == EINVAL && !root.submounts) {
    result = mount(from.c_str(), target.c_str(), nullptr, MS_BIND | MS_REC, nullptr);
  }
  if (result < 0) return Failed(absl::StrCat("bind mount of the served tree ", root.path));
  return absl::OkStatus();
}

absl::Status BindRoot(const SandboxRoot& root, const Source& source, const std::string& target) {
  struct stat s;
  if (fstat(source.place.get(), &s) < 0) return Failed(absl::StrCat("stat of the served tree ", root.path));
  if (S_ISDIR(s.st_mode)) {
    if (mkdir(target.c_str(), 0755) < 0) return Failed("mkdir in the new root");
  } else {
    UniqueFd file(open(target.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644));
    if (!file.ok()) return Failed("file in the new root");
  }
  RETURN_IF_FAILED(AttachTree(root, source, target));
  return Restrict(target, root);
}

absl::StatusOr<std::vector<UniqueFd>> Pivot(const std::vector<SandboxRoot>& roots) {
  // Opened after unshare, so that they belong to the new mount namespace, and before the tmpfs may hide them.
  std::vector<Source> sources;
  for (const SandboxRoot& root : roots) {
    Source source{UniqueFd(open(root.path.c_str(), O_PATH | O_CLOEXEC)), UniqueFd()};
    if (!source.place.ok()) return Failed(absl::StrCat("open of the served tree ", root.path));
    unsigned flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH | (root.submounts ? AT_RECURSIVE : 0);
    source.tree.Reset(static_cast<int>(syscall(SYS_open_tree, source.place.get(), "", flags)));
    sources.push_back(std::move(source));
  }
  absl::StatusOr<std::string> place = MountNewRoot();
  if (!place.ok()) return place.status();
  for (size_t i = 0; i < roots.size(); ++i) {
    RETURN_IF_FAILED(BindRoot(roots[i], sources[i], absl::StrCat(*place, "/", i)));
  }
  if (mount("none", place->c_str(), nullptr, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC,
            nullptr) < 0) {
    return Failed("read-only remount of the new root");
  }
  // pivot_root(2): with both arguments "." the old root ends up mounted over the new one, to be detached at once.
  if (chdir(place->c_str()) < 0) return Failed("chdir to the new root");
  if (syscall(SYS_pivot_root, ".", ".") < 0) {
    return Failed("pivot_root (is the host's root an initramfs? then start from a mounted root)");
  }
  if (umount2(".", MNT_DETACH) < 0) return Failed("umount of the old root");
  if (chdir("/") < 0) return Failed("chdir to /");
  std::vector<UniqueFd> opened;
  for (size_t i = 0; i < roots.size(); ++i) {
    UniqueFd root(open(absl::StrCat("/", i).c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
    if (!root.ok()) return Failed(absl::StrCat("open of ", roots[i].path, " in the new root"));
    opened.push_back(std::move(root));
  }
  return opened;
}

absl::Status DropCapabilities() {
  __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  __user_cap_data_struct data[2] = {};
  if (syscall(SYS_capget, &header, data) < 0) return Failed("capget");
  for (int cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; ++cap) {
    // EPERM without CAP_SETPCAP: harmless, nothing is executed after no_new_privs and the filter.
    prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
  }
  prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
  uint32_t keep[2] = {};
  for (int cap : GoferCapabilities()) keep[cap / 32] |= 1u << (cap % 32);
  for (int i = 0; i < 2; ++i) {
    data[i].permitted &= keep[i];
    data[i].effective = data[i].permitted;
    data[i].inheritable = 0;
  }
  if (syscall(SYS_capset, &header, data) < 0) return Failed("capset");
  return absl::OkStatus();
}

}  // namespace

const std::vector<int>& GoferCapabilities() {
  static const auto* kept = new std::vector<int>{
      CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER, CAP_FSETID, CAP_MKNOD, CAP_SETFCAP,
  };
  return *kept;
}

absl::StatusOr<std::vector<UniqueFd>> ConfineGofer(const std::vector<SandboxRoot>& roots,
                                                   const std::function<absl::Status()>& in_namespace) {
  if (unshare(CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWNET | CLONE_NEWUTS) < 0) {
    return Failed("unshare of namespaces (needs CAP_SYS_ADMIN, or --rootless with a user namespace)");
  }
  if (mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) < 0) return Failed("making all mounts private");
  if (in_namespace) RETURN_IF_FAILED(in_namespace());
  absl::StatusOr<std::vector<UniqueFd>> opened = Pivot(roots);
  if (!opened.ok()) return opened.status();
  rlimit no_core{.rlim_cur = 0, .rlim_max = 0};
  if (setrlimit(RLIMIT_CORE, &no_core) < 0) return Failed("setrlimit(RLIMIT_CORE)");
  umask(0);
  RETURN_IF_FAILED(DropCapabilities());
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) return Failed("prctl(PR_SET_NO_NEW_PRIVS)");
  if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0) return Failed("prctl(PR_SET_DUMPABLE)");
  return opened;
}

}  // namespace gofer
