// SPDX-License-Identifier: Apache-2.0
// mount(2), umount2(2), pivot_root(2).
#include <fcntl.h>
#include <sys/mount.h>

#include "sentry/kernel/kernel.h"
#include "sentry/syscalls/handlers.h"
#include "sentry/syscalls/mount_util.h"
#include "sentry/vfs/inotify_watches.h"
#include "sentry/vfs/landlock.h"

namespace sentry::syscalls {
namespace {

constexpr struct {
  unsigned long ms;
  uint32_t flag;
} kMountFlagTable[] = {{MS_RDONLY, vfs::kMountReadOnly},   {MS_NOSUID, vfs::kMountNoSuid},
                       {MS_NODEV, vfs::kMountNoDev},       {MS_NOEXEC, vfs::kMountNoExec},
                       {MS_NOATIME, vfs::kMountNoAtime},   {MS_NODIRATIME, vfs::kMountNoDirAtime},
                       {MS_RELATIME, vfs::kMountRelAtime}, {256 /* MS_NOSYMFOLLOW */, vfs::kMountNoSymFollow}};

// EINVAL for one of a page or more (strndup_user).
Result<std::string> MountString(Task& task, UserAddr address) {
  auto text = task.CopyInString(address, kPageSize);
  if (!text.ok() && text.error() == Errno(ENAMETOOLONG)) return Errno(EINVAL);
  return text;
}

// What fits into a page; the rest is cut off (copy_mount_options).
Result<std::string> MountOptions(Task& task, UserAddr address) {
  if (address.IsNull()) return std::string();
  auto text = task.CopyInString(address, kPageSize);
  if (text.ok() || text.error() != Errno(ENAMETOOLONG)) return text;
  std::string cut(kPageSize - 1, '\0');
  TRY(task.CopyInBytes(address, cut.data(), cut.size()));
  return cut;
}

Value NewMount(Task& task, const Arguments& args, const vfs::Path& on, unsigned long ms_flags) {
  if (args.Addr(2).IsNull()) return Errno(EINVAL);
  std::string type = TRY(MountString(task, args.Addr(2)));
  std::string source = args.Addr(0).IsNull() ? "none" : TRY(MountString(task, args.Addr(0)));
  std::string options = TRY(MountOptions(task, args.Addr(4)));
  RefPtr<vfs::Filesystem> filesystem = TRY(NewFilesystem(task, type, source, options));
  if ((ms_flags & MS_RDONLY) && !filesystem->IsMounted()) filesystem->set_read_only(true);
  TRY(task.namespaces().mounts->Attach(NewMountOf(filesystem, MountFlagsOf(ms_flags), source), on));
  return 0;
}

Value Remount(Task& task, const Arguments& args, const vfs::Path& on, unsigned long ms_flags) {
  if (on.dentry != on.mount->root() || !task.namespaces().mounts->Contains(*on.mount)) return Errno(EINVAL);
  std::string options = ms_flags & MS_BIND ? "" : TRY(MountOptions(task, args.Addr(4)));
  const uint32_t old = on.mount->flags();
  uint32_t flags = MountFlagsOf(ms_flags);
  // Without any of the atime flags the existing ones stay (mount(2), MS_REMOUNT).
  if (!(ms_flags & (MS_NOATIME | MS_NODIRATIME | MS_RELATIME | MS_STRICTATIME)))
    flags = (flags & ~vfs::kMountAtimeFlags) | (old & vfs::kMountAtimeFlags);
  TRY(on.mount->CheckLockedFlags(flags));
  vfs::Filesystem& filesystem = *on.mount->filesystem();
  if (!(ms_flags & MS_BIND) && !task.creds()->HasCapabilityIn(filesystem.user_ns(), CAP_SYS_ADMIN)) return Errno(EPERM);
  TRY(on.mount->Remount(flags));
  if (ms_flags & MS_BIND) return 0;
  auto remounted = filesystem.Remount(options);
  if (!remounted.ok()) {
    on.mount->set_flags(old);
    return remounted.error();
  }
  filesystem.set_read_only(ms_flags & MS_RDONLY);
  return 0;
}

}  // namespace

bool MayMount(const Task& task) { return task.HasCapabilityIn(task.namespaces().mounts->owner(), CAP_SYS_ADMIN); }

uint32_t MountFlagsOf(unsigned long ms_flags) {
  uint32_t flags = 0;
  for (const auto& row : kMountFlagTable) {
    if (ms_flags & row.ms) flags |= row.flag;
  }
  if (!(ms_flags & (MS_NOATIME | MS_STRICTATIME))) flags |= vfs::kMountRelAtime;
  if (ms_flags & MS_NOATIME) flags &= ~vfs::kMountRelAtime;
  return flags;
}

Result<RefPtr<vfs::Filesystem>> NewFilesystem(Task& task, const std::string& type, const std::string& source,
                                              const std::string& options) {
  vfs::FilesystemFactory factory = vfs::FindFilesystemType(type);
  if (!factory) return Errno(ENODEV);
  // Whose it is: what shows a namespace belongs to that one's owner.
  RefPtr<UserNamespace> owner = task.creds()->user_ns;
  if (type == "proc") owner = task.pid_ns().owner();
  if (type == "sysfs") owner = task.namespaces().net->owner();
  if (type == "mqueue") owner = task.namespaces().ipc->owner();
  if (type == "cgroup" || type == "cgroup2") owner = task.namespaces().cgroup->owner();
  if (!task.HasCapabilityIn(owner, CAP_SYS_ADMIN)) return Errno(EPERM);
  const vfs::MountNamespace& mounts = *task.namespaces().mounts;
  if ((type == "proc" || type == "sysfs") && !mounts.owner()->IsRoot() && !mounts.ShowsWhole(type)) return Errno(EPERM);
  const vfs::WalkContext walk = TRY(WalkFrom(task, AT_FDCWD, "", true));
  RefPtr<vfs::Filesystem> filesystem = TRY(factory({source, options, *task.creds(), &walk}));
  if (!filesystem->IsMounted()) filesystem->set_user_ns(owner);
  return filesystem;
}

RefPtr<vfs::Mount> NewMountOf(const RefPtr<vfs::Filesystem>& filesystem, uint32_t flags, const std::string& source) {
  return MakeRef<vfs::Mount>(filesystem, vfs::Dentry::NewRoot(filesystem->Root()), flags, source);
}

Result<vfs::Path> PathAt(Task& task, int dirfd, UserAddr address, int at_flags) {
  std::string path = TRY(CopyInPath(task, address));
  vfs::WalkContext context = TRY(WalkFrom(task, dirfd, path, at_flags & AT_EMPTY_PATH));
  return vfs::Resolve(
      context, path,
      (at_flags & AT_SYMLINK_NOFOLLOW ? 0u : vfs::kFollowFinal) | (at_flags & AT_EMPTY_PATH ? vfs::kEmptyPath : 0u));
}

SYSCALL_HANDLER(SysMount) {
  unsigned long ms_flags = args.Ulong(3);
  if ((ms_flags & MS_MGC_MSK) == MS_MGC_VAL) ms_flags &= ~static_cast<unsigned long>(MS_MGC_MSK);
  vfs::Path on = TRY(PathAt(task, AT_FDCWD, args.Addr(1), 0));
  if (ms_flags & static_cast<unsigned long>(MS_NOUSER)) return Errno(EINVAL);  // with all bits above it
  if (!MayMount(task)) return Errno(EPERM);
  TRY(vfs::LandlockCheckMount());
  vfs::MountNamespace& mounts = *task.namespaces().mounts;
  constexpr unsigned long kPropagation = MS_SHARED | MS_PRIVATE | MS_SLAVE | MS_UNBINDABLE;
  if (ms_flags & MS_REMOUNT) return Remount(task, args, on, ms_flags);
  if (ms_flags & MS_BIND) {
    TRY(mounts.Bind(TRY(PathAt(task, AT_FDCWD, args.Addr(0), 0)), on, ms_flags & MS_REC));
    return 0;
  }
  if (ms_flags & kPropagation) {
    unsigned long kind = ms_flags & kPropagation;
    if ((kind & (kind - 1)) || (ms_flags & ~(kPropagation | MS_REC | MS_SILENT))) return Errno(EINVAL);
    TRY(mounts.SetPropagation(on, static_cast<int>(kind), ms_flags & MS_REC));
    return 0;
  }
  if (ms_flags & MS_MOVE) {
    TRY(mounts.Move(TRY(PathAt(task, AT_FDCWD, args.Addr(0), 0)), on));
    return 0;
  }
  return NewMount(task, args, on, ms_flags);
}

SYSCALL_HANDLER(SysUmount2) {
  int flags = args.Int(1);
  if (flags & ~(MNT_FORCE | MNT_DETACH | MNT_EXPIRE | UMOUNT_NOFOLLOW)) return Errno(EINVAL);
  vfs::Path where = TRY(PathAt(task, AT_FDCWD, args.Addr(0), flags & UMOUNT_NOFOLLOW ? AT_SYMLINK_NOFOLLOW : 0));
  if (!MayMount(task)) return Errno(EPERM);
  TRY(vfs::LandlockCheckMount());
  if (where.dentry != where.mount->root()) return Errno(EINVAL);
  if ((flags & MNT_FORCE) && !task.HasCapability(CAP_SYS_ADMIN)) return Errno(EPERM);
  TRY(task.namespaces().mounts->Detach(where, flags));
  where = {};
  vfs::FinishUnmount();
  return 0;
}

SYSCALL_HANDLER(SysPivotRoot) {
  if (!MayMount(task)) return Errno(EPERM);
  TRY(vfs::LandlockCheckMount());
  vfs::Path new_root = TRY(PathAt(task, AT_FDCWD, args.Addr(0), 0));
  if (!new_root.inode()->IsDirectory()) return Errno(ENOTDIR);
  vfs::Path put_old = TRY(PathAt(task, AT_FDCWD, args.Addr(1), 0));
  if (!put_old.inode()->IsDirectory()) return Errno(ENOTDIR);
  const vfs::Path old_root = task.fs().root();
  TRY(task.namespaces().mounts->PivotRoot(old_root, new_root, put_old));
  // Everybody who stood at the old root stands at the new one (chroot_fs_refs).
  for (const auto& [pid, group] : task.kernel().tasks().ThreadGroups(*task.kernel().root_pid_ns())) {
    for (const RefPtr<Task>& thread : group->Threads()) {
      RefPtr<vfs::FsContext> fs = thread->fs_ref();
      if (!fs) continue;
      if (fs->root() == old_root) fs->set_root(new_root);
      if (fs->cwd() == old_root) fs->set_cwd(new_root);
    }
  }
  return 0;
}

}  // namespace sentry::syscalls
