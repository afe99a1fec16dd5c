// SPDX-License-Identifier: Apache-2.0
// mount(2), umount2(2), pivot_root(2).
#include <fcntl.h>
#include <sys/mount.h>

#include "sentry/syscalls/handlers.h"
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

uint32_t MountFlagsOf(unsigned long ms_flags) {
  uint32_t flags = 0;
  for (const auto& row : kMountFlagTable) {
    if (ms_flags & row.ms) flags |= row.flag;
  }
  if (!(ms_flags & (MS_NOATIME | MS_STRICTATIME))) flags |= vfs::kMountRelAtime;
  return flags;
}

Result<vfs::Path> PathArgument(Task& task, UserAddr address, uint32_t flags = vfs::kFollowFinal) {
  std::string path = TRY(CopyInPath(task, address));
  return vfs::Resolve(TRY(WalkFrom(task, AT_FDCWD, path)), path, flags);
}

Result<void> CheckMayMount(Task& task) {
  if (!task.HasCapability(CAP_SYS_ADMIN)) return Errno(EPERM);
  return vfs::LandlockCheckMount();
}

Value NewMount(Task& task, const Arguments& args, const vfs::Path& on, unsigned long ms_flags) {
  std::string type = TRY(task.CopyInString(args.Addr(2), kPageSize));
  std::string source = args.Addr(0).IsNull() ? "none" : TRY(CopyInPath(task, args.Addr(0)));
  std::string options = args.Addr(4).IsNull() ? "" : TRY(task.CopyInString(args.Addr(4), kPageSize));
  vfs::FilesystemFactory factory = vfs::FindFilesystemType(type);
  if (!factory) return Errno(ENODEV);
  RefPtr<vfs::Filesystem> filesystem = TRY(factory({source, options, *task.creds()}));
  auto root = vfs::Dentry::NewRoot(filesystem->Root());
  TRY(task.namespaces().mounts->Attach(MakeRef<vfs::Mount>(filesystem, root, MountFlagsOf(ms_flags), source), on));
  return 0;
}

}  // namespace

SYSCALL_HANDLER(SysMount) {
  unsigned long ms_flags = args.Ulong(3);
  if ((ms_flags & MS_MGC_MSK) == MS_MGC_VAL) ms_flags &= ~static_cast<unsigned long>(MS_MGC_MSK);
  vfs::Path on = TRY(PathArgument(task, args.Addr(1)));
  TRY(CheckMayMount(task));
  vfs::MountNamespace& mounts = *task.namespaces().mounts;
  constexpr unsigned long kPropagation = MS_SHARED | MS_PRIVATE | MS_SLAVE | MS_UNBINDABLE;
  if (ms_flags & MS_REMOUNT) {
    if (on.dentry != on.mount->root()) return Errno(EINVAL);
    std::string options =
        (ms_flags & MS_BIND) || args.Addr(4).IsNull() ? "" : TRY(task.CopyInString(args.Addr(4), kPageSize));
    const uint32_t old = on.mount->flags();
    uint32_t flags = MountFlagsOf(ms_flags);
    // Without any of the atime flags the existing ones stay (mount(2), MS_REMOUNT).
    constexpr uint32_t kAtime = vfs::kMountNoAtime | vfs::kMountNoDirAtime | vfs::kMountRelAtime;
    if (!(ms_flags & (MS_NOATIME | MS_NODIRATIME | MS_RELATIME | MS_STRICTATIME)))
      flags = (flags & ~kAtime) | (old & kAtime);
    TRY(on.mount->Remount(flags));
    if (ms_flags & MS_BIND) return 0;
    auto remounted = on.mount->filesystem()->Remount(options);
    if (!remounted.ok()) {
      on.mount->set_flags(old);
      return remounted.error();
    }
    return 0;
  }
  if (ms_flags & MS_BIND) {
    TRY(mounts.Bind(TRY(PathArgument(task, args.Addr(0))), on, ms_flags & MS_REC));
    return 0;
  }
  if (ms_flags & kPropagation) {
    unsigned long kind = ms_flags & kPropagation;
    if (kind & (kind - 1)) return Errno(EINVAL);
    TRY(mounts.SetPropagation(on, static_cast<int>(kind), ms_flags & MS_REC));
    return 0;
  }
  if (ms_flags & MS_MOVE) {
    TRY(mounts.Move(TRY(PathArgument(task, args.Addr(0))), on));
    return 0;
  }
  return NewMount(task, args, on, ms_flags);
}

SYSCALL_HANDLER(SysUmount2) {
  int flags = args.Int(1);
  if (flags & ~(MNT_FORCE | MNT_DETACH | MNT_EXPIRE | UMOUNT_NOFOLLOW)) return Errno(EINVAL);
  TRY(CheckMayMount(task));
  vfs::Path where = TRY(PathArgument(task, args.Addr(0), flags & UMOUNT_NOFOLLOW ? 0u : vfs::kFollowFinal));
  if (where.dentry != where.mount->root()) return Errno(EINVAL);
  TRY(task.namespaces().mounts->Detach(where, flags));
  return 0;
}

SYSCALL_HANDLER(SysPivotRoot) {
  TRY(CheckMayMount(task));
  vfs::Path new_root = TRY(PathArgument(task, args.Addr(0), vfs::kFollowFinal | vfs::kDirectory));
  vfs::Path put_old = TRY(PathArgument(task, args.Addr(1), vfs::kFollowFinal | vfs::kDirectory));
  vfs::Path old_root = task.fs().root();
  TRY(task.namespaces().mounts->PivotRoot(new_root, put_old));
  // chroot_fs_refs: who stood at the old root stands at the new one.
  bool cwd_at_root = task.fs().cwd() == old_root;
  task.fs().set_root(new_root);
  if (cwd_at_root) task.fs().set_cwd(new_root);
  return 0;
}

}  // namespace sentry::syscalls
