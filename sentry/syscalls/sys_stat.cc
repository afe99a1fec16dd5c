// SPDX-License-Identifier: Apache-2.0
// The stat family, statfs, and access.
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>

#include "sentry/syscalls/handlers.h"

namespace sentry::syscalls {
namespace {

struct stat ToStat(const Credentials& creds, const vfs::InodeStat& s) {
  struct stat out = {};
  out.st_dev = s.dev;
  out.st_ino = s.ino;
  out.st_nlink = s.nlink;
  out.st_mode = s.mode;
  out.st_uid = creds.ShownUid(s.uid);
  out.st_gid = creds.ShownGid(s.gid);
  out.st_rdev = s.rdev;
  out.st_size = static_cast<off_t>(s.size);
  out.st_blksize = s.block_size;
  out.st_blocks = static_cast<blkcnt_t>(s.blocks);
  out.st_atim = {s.atime.seconds, s.atime.nanoseconds};
  out.st_mtim = {s.mtime.seconds, s.mtime.nanoseconds};
  out.st_ctim = {s.ctime.seconds, s.ctime.nanoseconds};
  return out;
}

statx_timestamp ToStatx(const vfs::Timestamp& t) { return {t.seconds, t.nanoseconds, 0}; }

constexpr int kStatFlags = AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH | AT_NO_AUTOMOUNT;

Result<vfs::InodeStat> StatAt(Task& task, int dirfd, UserAddr address, int flags, vfs::Path* where) {
  bool empty_allowed = flags & AT_EMPTY_PATH;
  std::string path = TRY(CopyInPath(task, address));
  if (path.empty() && empty_allowed && dirfd != AT_FDCWD) {
    vfs::FileRef file = TRY(GetAnyFile(task, dirfd));
    if (where) *where = file->path();
    return file->GetStat();
  }
  vfs::WalkContext context = TRY(WalkFrom(task, dirfd, path, empty_allowed));
  uint32_t resolve = (flags & AT_SYMLINK_NOFOLLOW ? 0u : vfs::kFollowFinal) | (empty_allowed ? vfs::kEmptyPath : 0u);
  return vfs::Stat(context, path, resolve, where);
}

Value StatInto(Task& task, int dirfd, UserAddr path, UserAddr buffer, int flags) {
  if (flags & ~kStatFlags) return Errno(EINVAL);
  TRY(task.CopyOut(buffer, ToStat(*task.creds(), TRY(StatAt(task, dirfd, path, flags, nullptr)))));
  return 0;
}

Value AccessAt(Task& task, int dirfd, UserAddr address, int mode, int flags) {
  if ((mode & ~7) || (flags & ~(AT_EACCESS | AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH))) return Errno(EINVAL);
  std::string path = TRY(CopyInPath(task, address));
  vfs::WalkContext context = TRY(WalkFrom(task, dirfd, path, flags & AT_EMPTY_PATH));
  uint32_t resolve =
      (flags & AT_SYMLINK_NOFOLLOW ? 0u : vfs::kFollowFinal) | (flags & AT_EMPTY_PATH ? vfs::kEmptyPath : 0u);
  if (flags & AT_EACCESS) {
    TRY(vfs::Access(context, path, mode, resolve));
    return 0;
  }
  // The real ids decide; capabilities count only for a real root (access_override_creds).
  RefPtr<Credentials> real = task.creds()->Clone();
  real->fsuid = real->ruid;
  real->fsgid = real->rgid;
  real->effective = real->ruid == real->RootUid() ? real->permitted : 0;
  vfs::WalkContext as_real{
      .root = context.root, .start = context.start, .creds = *real, .mounts = context.mounts, .umask = context.umask};
  TRY(vfs::Access(as_real, path, mode, resolve));
  return 0;
}

Value StatFsInto(Task& task, const vfs::Path& where, UserAddr buffer) {
  vfs::StatFs s = where.mount->filesystem()->GetStatFs();
  struct statfs out = {};
  out.f_type = static_cast<decltype(out.f_type)>(s.magic);
  out.f_bsize = static_cast<decltype(out.f_bsize)>(s.block_size);
  out.f_frsize = out.f_bsize;
  out.f_blocks = s.blocks;
  out.f_bfree = s.blocks_free;
  out.f_bavail = s.blocks_available;
  out.f_files = s.files;
  out.f_ffree = s.files_free;
  dev_t device = where.mount->filesystem()->device();
  memcpy(&out.f_fsid, &device, sizeof out.f_fsid);
  out.f_namelen = static_cast<decltype(out.f_namelen)>(s.name_max);
  // ST_VALID | the mount's flags, whose ST_ values equal MS_ for these.
  uint32_t flags = where.mount->flags();
  out.f_flags = 0x20 | (flags & vfs::kMountReadOnly ? 1 : 0) | (flags & vfs::kMountNoSuid ? 2 : 0) |
                (flags & vfs::kMountNoDev ? 4 : 0) | (flags & vfs::kMountNoExec ? 8 : 0) |
                (flags & vfs::kMountNoAtime ? 1024 : 0) | (flags & vfs::kMountRelAtime ? 4096 : 0);
  TRY(task.CopyOut(buffer, out));
  return 0;
}

}  // namespace

SYSCALL_HANDLER(SysStat) { return StatInto(task, AT_FDCWD, args.Addr(0), args.Addr(1), 0); }
SYSCALL_HANDLER(SysLstat) { return StatInto(task, AT_FDCWD, args.Addr(0), args.Addr(1), AT_SYMLINK_NOFOLLOW); }
SYSCALL_HANDLER(SysNewfstatat) { return StatInto(task, args.Int(0), args.Addr(1), args.Addr(2), args.Int(3)); }

SYSCALL_HANDLER(SysFstat) {
  vfs::FileRef file = TRY(GetAnyFile(task, args.Int(0)));
  TRY(task.CopyOut(args.Addr(1), ToStat(*task.creds(), TRY(file->GetStat()))));
  return 0;
}

SYSCALL_HANDLER(SysStatx) {
  int flags = args.Int(2);
  unsigned mask = args.Uint(3);
  constexpr int kSyncTypes = AT_STATX_FORCE_SYNC | AT_STATX_DONT_SYNC;
  if (flags & ~(kStatFlags | kSyncTypes) || (flags & kSyncTypes) == kSyncTypes || (mask & STATX__RESERVED))
    return Errno(EINVAL);
  vfs::Path where;
  vfs::InodeStat s = TRY(StatAt(task, args.Int(0), args.Addr(1), flags & kStatFlags, &where));
  struct statx out = {};
  out.stx_mask = STATX_BASIC_STATS | (s.has_btime ? STATX_BTIME : 0) | 0x1000;  // STATX_MNT_ID
  out.stx_blksize = s.block_size;
  out.stx_nlink = s.nlink;
  out.stx_uid = task.creds()->ShownUid(s.uid);
  out.stx_gid = task.creds()->ShownGid(s.gid);
  out.stx_mode = static_cast<uint16_t>(s.mode);
  out.stx_ino = s.ino;
  out.stx_size = s.size;
  out.stx_blocks = s.blocks;
  out.stx_atime = ToStatx(s.atime);
  out.stx_mtime = ToStatx(s.mtime);
  out.stx_ctime = ToStatx(s.ctime);
  if (s.has_btime) out.stx_btime = ToStatx(s.btime);
  out.stx_rdev_major = major(s.rdev);
  out.stx_rdev_minor = minor(s.rdev);
  out.stx_dev_major = major(s.dev);
  out.stx_dev_minor = minor(s.dev);
  constexpr uint64_t kAttributeMountRoot = 0x2000;
  out.stx_attributes_mask = kAttributeMountRoot;
  if (where && where.dentry == where.mount->root()) out.stx_attributes |= kAttributeMountRoot;
  out.stx_mnt_id = where ? where.mount->id() : 0;
  constexpr unsigned kMountIdUnique = 0x4000;  // STATX_MNT_ID_UNIQUE
  if ((mask & kMountIdUnique) && where) {
    out.stx_mask = (out.stx_mask & ~0x1000u) | kMountIdUnique;
    out.stx_mnt_id = where.mount->unique_id();
  }
  TRY(task.CopyOut(args.Addr(4), out));
  return 0;
}

SYSCALL_HANDLER(SysAccess) { return AccessAt(task, AT_FDCWD, args.Addr(0), args.Int(1), 0); }
SYSCALL_HANDLER(SysFaccessat) { return AccessAt(task, args.Int(0), args.Addr(1), args.Int(2), 0); }
SYSCALL_HANDLER(SysFaccessat2) { return AccessAt(task, args.Int(0), args.Addr(1), args.Int(2), args.Int(3)); }

SYSCALL_HANDLER(SysStatfs) {
  std::string path = TRY(CopyInPath(task, args.Addr(0)));
  vfs::WalkContext context = TRY(WalkFrom(task, AT_FDCWD, path));
  return StatFsInto(task, TRY(vfs::Resolve(context, path, vfs::kFollowFinal)), args.Addr(1));
}

SYSCALL_HANDLER(SysFstatfs) { return StatFsInto(task, TRY(GetAnyFile(task, args.Int(0)))->path(), args.Addr(1)); }

}  // namespace sentry::syscalls
