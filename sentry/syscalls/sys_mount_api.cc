// SPDX-License-Identifier: Apache-2.0
// The mount API in steps: open_tree(2), move_mount(2), fsopen(2), fsconfig(2), fsmount(2), fspick(2), mount_setattr(2).
#include <fcntl.h>
#include <linux/mount.h>
#include <sys/stat.h>

#include <algorithm>
#include <optional>

#include "sentry/syscalls/handlers.h"
#include "sentry/syscalls/mount_util.h"
#include "sentry/vfs/landlock.h"
#include "sentry/vfs/special_files.h"

// <sys/mount.h> conflicts with the kernel's header; these are mount(2)'s.
#ifndef MS_SHARED
#define MS_UNBINDABLE (1 << 17)
#define MS_PRIVATE (1 << 18)
#define MS_SLAVE (1 << 19)
#define MS_SHARED (1 << 20)
#endif

namespace sentry::syscalls {
namespace {

constexpr int kRecursive = 0x8000;  // AT_RECURSIVE
constexpr size_t kMaxParameters = 4096;

// An O_PATH descriptor of a detached tree, whose end it is unless it was attached meanwhile.
class DetachedTree final : public vfs::FileDescription {
 public:
  DetachedTree(vfs::Path path, RefPtr<vfs::MountNamespace> tree)
      : FileDescription(std::move(path), O_PATH), tree_(std::move(tree)) {}

 private:
  const RefPtr<vfs::MountNamespace> tree_;
};

Value InstallTree(Task& task, RefPtr<vfs::MountNamespace> tree, bool close_on_exec) {
  RefPtr<vfs::Mount> root = tree->root();
  vfs::Path path{root, root->root()};
  return InstallFile(task, MakeRef<DetachedTree>(std::move(path), std::move(tree)), close_on_exec);
}

// An fsopen(2) or fspick(2) descriptor: parameters, then a superblock, then one mount of it.
class FsContextFile final : public vfs::FileDescription {
 public:
  enum class Phase : uint8_t { kCreateParameters, kAwaitingMount, kReconfigure, kFailed, kDone };
  FsContextFile(vfs::Path path, std::string type, RefPtr<vfs::Filesystem> picked)
      : FileDescription(std::move(path), O_RDWR),
        type_(std::move(type)),
        filesystem_(std::move(picked)),
        phase_(filesystem_ ? Phase::kReconfigure : Phase::kCreateParameters) {}
  std::string LinkName() const override { return "anon_inode:[fscontext]"; }
  // The log of messages: there never is one.
  Result<size_t> Read(IoTarget&) override { return Errno(ENODATA); }

  Result<void> SetParameter(const std::string& key, const std::optional<std::string>& value) {
    MutexLock lock(mu_);
    if (phase_ != Phase::kCreateParameters && phase_ != Phase::kReconfigure) return Errno(EBUSY);
    if (key == "source") {
      if (!value) return Errno(EINVAL);
      if (!source_.empty()) return Errno(EINVAL);
      source_ = *value;
      return OkResult();
    }
    if (!value && (key == "ro" || key == "rw")) {
      read_only_ = key == "ro";
      return OkResult();
    }
    static constexpr std::string_view kIgnored[] = {"dirsync", "lazytime", "nolazytime", "sync",
                                                    "async",   "mand",     "nomand"};
    if (!value && std::find(std::begin(kIgnored), std::end(kIgnored), key) != std::end(kIgnored)) return OkResult();
    if (key.find(',') != key.npos || (value && type_ != "overlay" && value->find(',') != value->npos))
      return Errno(EINVAL);
    const std::string option = value ? key + "=" + *value : key;
    if (options_.size() + option.size() + 1 > kMaxParameters) return Errno(EINVAL);
    if (!options_.empty()) options_ += ',';
    options_ += option;
    return OkResult();
  }

  Result<void> Create(Task& task) {
    std::string options, source;
    bool read_only;
    {
      MutexLock lock(mu_);
      if (phase_ != Phase::kCreateParameters) return Errno(EBUSY);
      phase_ = Phase::kFailed;  // until it is there
      options = options_;
      source = source_;
      read_only = read_only_;
    }
    RefPtr<vfs::Filesystem> made = TRY(NewFilesystem(task, type_, source.empty() ? "none" : source, options));
    if (read_only && !made->IsMounted()) made->set_read_only(true);
    MutexLock lock(mu_);
    filesystem_ = std::move(made);
    phase_ = Phase::kAwaitingMount;
    return OkResult();
  }

  Result<void> Reconfigure(Task& task) {
    RefPtr<vfs::Filesystem> filesystem;
    std::string options;
    bool read_only;
    {
      MutexLock lock(mu_);
      if (phase_ != Phase::kReconfigure) return Errno(EBUSY);
      filesystem = filesystem_;
      options = std::exchange(options_, "");
      read_only = read_only_;
    }
    if (!task.creds()->HasCapabilityIn(filesystem->user_ns(), CAP_SYS_ADMIN)) return Errno(EPERM);
    TRY(filesystem->Remount(options));
    filesystem->set_read_only(read_only);
    return OkResult();
  }

  Result<RefPtr<vfs::Mount>> MakeMount(uint32_t flags) {
    RefPtr<vfs::Filesystem> filesystem;
    std::string source;
    {
      MutexLock lock(mu_);
      if (phase_ != Phase::kAwaitingMount) return phase_ == Phase::kDone ? Errno(EBUSY) : Errno(EINVAL);
      phase_ = Phase::kDone;
      filesystem = filesystem_;
      source = source_.empty() ? "none" : source_;
    }
    return NewMountOf(filesystem, flags, source);
  }

 private:
  const std::string type_;
  Mutex mu_{LockRank::kInode};
  RefPtr<vfs::Filesystem> filesystem_ ABSL_GUARDED_BY(mu_);
  Phase phase_ ABSL_GUARDED_BY(mu_);
  std::string source_ ABSL_GUARDED_BY(mu_), options_ ABSL_GUARDED_BY(mu_);
  bool read_only_ ABSL_GUARDED_BY(mu_) = false;
};

Result<RefPtr<FsContextFile>> ContextOf(Task& task, int fd) {
  vfs::FileRef file = TRY(GetFile(task, fd));
  if (file->LinkName() != "anon_inode:[fscontext]") return Errno(EINVAL);
  return RefPtr<FsContextFile>(static_cast<FsContextFile*>(file.get()));
}

Value InstallContext(Task& task, std::string type, RefPtr<vfs::Filesystem> picked, bool close_on_exec) {
  vfs::Path path = vfs::NewAnonymousPath("anon_inode:[fscontext]", S_IFREG | 0600, *task.creds());
  return InstallFile(task, MakeRef<FsContextFile>(std::move(path), std::move(type), std::move(picked)), close_on_exec);
}

// MOUNT_ATTR_* as MountFlags to set; EINVAL.
constexpr struct {
  uint64_t attribute;
  uint32_t flag;
} kAttributes[] = {{MOUNT_ATTR_RDONLY, vfs::kMountReadOnly},       {MOUNT_ATTR_NOSUID, vfs::kMountNoSuid},
                   {MOUNT_ATTR_NODEV, vfs::kMountNoDev},           {MOUNT_ATTR_NOEXEC, vfs::kMountNoExec},
                   {MOUNT_ATTR_NODIRATIME, vfs::kMountNoDirAtime}, {MOUNT_ATTR_NOSYMFOLLOW, vfs::kMountNoSymFollow}};
constexpr uint64_t kSimpleAttributes = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC |
                                       MOUNT_ATTR_NODIRATIME | MOUNT_ATTR_NOSYMFOLLOW;

uint32_t SimpleFlags(uint64_t attributes) {
  uint32_t flags = 0;
  for (const auto& row : kAttributes) {
    if (attributes & row.attribute) flags |= row.flag;
  }
  return flags;
}

Result<uint32_t> AtimeFlags(uint64_t attributes) {
  switch (attributes & MOUNT_ATTR__ATIME) {
    case MOUNT_ATTR_RELATIME:
      return vfs::kMountRelAtime;
    case MOUNT_ATTR_NOATIME:
      return vfs::kMountNoAtime;
    case MOUNT_ATTR_STRICTATIME:
      return 0;
    default:
      return Errno(EINVAL);
  }
}

}  // namespace

SYSCALL_HANDLER(SysOpenTree) {
  const unsigned flags = args.Uint(2);
  constexpr unsigned kKnown =
      OPEN_TREE_CLONE | O_CLOEXEC | AT_EMPTY_PATH | AT_NO_AUTOMOUNT | kRecursive | AT_SYMLINK_NOFOLLOW;
  if (flags & ~kKnown) return Errno(EINVAL);
  if ((flags & (kRecursive | OPEN_TREE_CLONE)) == kRecursive) return Errno(EINVAL);
  if ((flags & OPEN_TREE_CLONE) && !MayMount(task)) return Errno(EPERM);
  vfs::Path where = TRY(PathAt(task, args.Int(0), args.Addr(1), static_cast<int>(flags)));
  if (!(flags & OPEN_TREE_CLONE)) {
    vfs::WalkContext context = TRY(WalkFrom(task, AT_FDCWD, ""));
    return InstallFile(task, TRY(vfs::OpenPath(context, where, O_PATH)), flags & O_CLOEXEC);
  }
  return InstallTree(task, TRY(task.namespaces().mounts->CopyDetached(where, flags & kRecursive)), flags & O_CLOEXEC);
}

SYSCALL_HANDLER(SysMoveMount) {
  const unsigned flags = args.Uint(4);
  constexpr unsigned kKnown = MOVE_MOUNT_F_SYMLINKS | MOVE_MOUNT_F_AUTOMOUNTS | MOVE_MOUNT_F_EMPTY_PATH |
                              MOVE_MOUNT_T_SYMLINKS | MOVE_MOUNT_T_AUTOMOUNTS | MOVE_MOUNT_T_EMPTY_PATH;
  if (!MayMount(task)) return Errno(EPERM);
  if (flags & ~kKnown) return Errno(EINVAL);
  TRY(vfs::LandlockCheckMount());
  auto at_flags = [&](unsigned symlinks, unsigned empty) {
    return (flags & symlinks ? 0 : AT_SYMLINK_NOFOLLOW) | (flags & empty ? AT_EMPTY_PATH : 0);
  };
  vfs::Path from =
      TRY(PathAt(task, args.Int(0), args.Addr(1), at_flags(MOVE_MOUNT_F_SYMLINKS, MOVE_MOUNT_F_EMPTY_PATH)));
  vfs::Path to = TRY(PathAt(task, args.Int(2), args.Addr(3), at_flags(MOVE_MOUNT_T_SYMLINKS, MOVE_MOUNT_T_EMPTY_PATH)));
  TRY(task.namespaces().mounts->Move(from, to));
  return 0;
}

SYSCALL_HANDLER(SysFsopen) {
  if (!MayMount(task)) return Errno(EPERM);
  if (args.Uint(1) & ~unsigned{FSOPEN_CLOEXEC}) return Errno(EINVAL);
  auto copied = task.CopyInString(args.Addr(0), kPageSize);
  if (!copied.ok()) return copied.error() == Errno(ENAMETOOLONG) ? Errno(EINVAL) : copied.error();
  if (!vfs::FindFilesystemType(*copied)) return Errno(ENODEV);
  return InstallContext(task, *copied, nullptr, args.Uint(1) & FSOPEN_CLOEXEC);
}

SYSCALL_HANDLER(SysFspick) {
  if (!MayMount(task)) return Errno(EPERM);
  const unsigned flags = args.Uint(2);
  if (flags & ~unsigned{FSPICK_CLOEXEC | FSPICK_SYMLINK_NOFOLLOW | FSPICK_NO_AUTOMOUNT | FSPICK_EMPTY_PATH})
    return Errno(EINVAL);
  vfs::Path where = TRY(PathAt(
      task, args.Int(0), args.Addr(1),
      (flags & FSPICK_SYMLINK_NOFOLLOW ? AT_SYMLINK_NOFOLLOW : 0) | (flags & FSPICK_EMPTY_PATH ? AT_EMPTY_PATH : 0)));
  if (!(where.dentry == where.mount->root())) return Errno(EINVAL);
  const RefPtr<vfs::Filesystem>& filesystem = where.mount->filesystem();
  return InstallContext(task, std::string(filesystem->TypeName()), filesystem, flags & FSPICK_CLOEXEC);
}

SYSCALL_HANDLER(SysFsconfig) {
  const unsigned command = args.Uint(1);
  const UserAddr key = args.Addr(2), value = args.Addr(3);
  const int aux = args.Int(4);
  if (args.Int(0) < 0) return Errno(EINVAL);
  const bool has_key = !key.IsNull(), has_value = !value.IsNull();
  switch (command) {
    case FSCONFIG_SET_FLAG:
      if (!has_key || has_value || aux) return Errno(EINVAL);
      break;
    case FSCONFIG_SET_STRING:
      if (!has_key || !has_value || aux) return Errno(EINVAL);
      break;
    case FSCONFIG_SET_BINARY:
      if (!has_key || !has_value || aux <= 0 || aux > 1024 * 1024) return Errno(EINVAL);
      break;
    case FSCONFIG_SET_PATH:
    case FSCONFIG_SET_PATH_EMPTY:
      if (!has_key || !has_value || (aux != AT_FDCWD && aux < 0)) return Errno(EINVAL);
      break;
    case FSCONFIG_SET_FD:
      if (!has_key || has_value || aux < 0) return Errno(EINVAL);
      break;
    case FSCONFIG_CMD_CREATE:
    case FSCONFIG_CMD_RECONFIGURE:
      if (has_key || has_value || aux) return Errno(EINVAL);
      break;
    default:
      return Errno(EOPNOTSUPP);
  }
  RefPtr<FsContextFile> context = TRY(ContextOf(task, args.Int(0)));
  if (command == FSCONFIG_CMD_CREATE) {
    TRY(context->Create(task));
    return 0;
  }
  if (command == FSCONFIG_CMD_RECONFIGURE) {
    TRY(vfs::LandlockCheckMount());
    TRY(context->Reconfigure(task));
    return 0;
  }
  auto name = task.CopyInString(key, 256);
  if (!name.ok()) return name.error() == Errno(ENAMETOOLONG) ? Errno(EINVAL) : name.error();
  if (command == FSCONFIG_SET_FLAG) {
    TRY(context->SetParameter(*name, std::nullopt));
    return 0;
  }
  // No filesystem here takes a blob, a path or a descriptor.
  if (command != FSCONFIG_SET_STRING) return Errno(EINVAL);
  auto text = task.CopyInString(value, 256);
  if (!text.ok()) return text.error() == Errno(ENAMETOOLONG) ? Errno(EINVAL) : text.error();
  TRY(context->SetParameter(*name, *text));
  return 0;
}

SYSCALL_HANDLER(SysFsmount) {
  if (!MayMount(task)) return Errno(EPERM);
  const unsigned flags = args.Uint(1), attributes = args.Uint(2);
  if (flags & ~unsigned{FSMOUNT_CLOEXEC}) return Errno(EINVAL);
  if (attributes & ~(kSimpleAttributes | MOUNT_ATTR__ATIME)) return Errno(EINVAL);
  const uint32_t mount_flags = SimpleFlags(attributes) | TRY(AtimeFlags(attributes));
  RefPtr<FsContextFile> context = TRY(ContextOf(task, args.Int(0)));
  RefPtr<vfs::Mount> mount = TRY(context->MakeMount(mount_flags));
  return InstallTree(task, vfs::MountNamespace::NewAnonymous(std::move(mount), task.namespaces().mounts->owner()),
                     flags & FSMOUNT_CLOEXEC);
}

SYSCALL_HANDLER(SysMountSetattr) {
  const unsigned flags = args.Uint(2);
  const size_t size = args.Size(4);
  if (flags & ~unsigned{AT_EMPTY_PATH | kRecursive | AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT}) return Errno(EINVAL);
  if (size > kPageSize) return Errno(E2BIG);
  if (size < sizeof(mount_attr)) return Errno(EINVAL);
  if (!MayMount(task)) return Errno(EPERM);
  auto attr = TRY(task.CopyIn<mount_attr>(args.Addr(3)));
  for (size_t at = sizeof attr; at < size; ++at) {
    if (TRY(task.CopyIn<uint8_t>(args.Addr(3) + at))) return Errno(E2BIG);
  }
  if (attr.attr_set == 0 && attr.attr_clr == 0 && attr.propagation == 0) return 0;
  constexpr uint64_t kTypes = MS_SHARED | MS_PRIVATE | MS_SLAVE | MS_UNBINDABLE;
  if ((attr.propagation & ~kTypes) || (attr.propagation & (attr.propagation - 1))) return Errno(EINVAL);
  // Id-mapped mounts (MOUNT_ATTR_IDMAP): no filesystem here has them, and Linux says so in the same way.
  if ((attr.attr_set | attr.attr_clr) & ~(kSimpleAttributes | MOUNT_ATTR__ATIME)) return Errno(EINVAL);
  uint32_t set = SimpleFlags(attr.attr_set), clear = SimpleFlags(attr.attr_clr);
  if (attr.attr_clr & MOUNT_ATTR__ATIME) {
    if ((attr.attr_clr & MOUNT_ATTR__ATIME) != MOUNT_ATTR__ATIME) return Errno(EINVAL);
    clear |= vfs::kMountNoAtime | vfs::kMountRelAtime;
    set |= TRY(AtimeFlags(attr.attr_set));
  } else if (attr.attr_set & MOUNT_ATTR__ATIME) {
    return Errno(EINVAL);
  }
  vfs::Path where = TRY(PathAt(task, args.Int(0), args.Addr(1), static_cast<int>(flags)));
  TRY(task.namespaces().mounts->SetAttributes(where, set, clear, static_cast<int>(attr.propagation),
                                              flags & kRecursive));
  return 0;
}

}  // namespace sentry::syscalls
