// SPDX-License-Identifier: Apache-2.0
// Calls that change attributes: chmod, chown, truncate, utimes, extended attributes.
#include <fcntl.h>
#include <limits.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/xattr.h>
#include <utime.h>

#include "sentry/syscalls/handlers.h"

namespace sentry::syscalls {
namespace {

// A place named by dirfd + path, with AT_SYMLINK_NOFOLLOW and AT_EMPTY_PATH, and the context for its permission checks.
struct Target {
  vfs::WalkContext context;
  vfs::Path path;
};

Result<Target> TargetOf(Task& task, int dirfd, UserAddr address, int flags) {
  std::string path = TRY(CopyInPath(task, address));
  vfs::WalkContext context = TRY(WalkFrom(task, dirfd, path, flags & AT_EMPTY_PATH));
  uint32_t resolve =
      (flags & AT_SYMLINK_NOFOLLOW ? 0u : vfs::kFollowFinal) | (flags & AT_EMPTY_PATH ? vfs::kEmptyPath : 0u);
  vfs::Path where = TRY(vfs::Resolve(context, path, resolve));
  return Target{std::move(context), std::move(where)};
}

Result<Target> TargetOfFd(Task& task, int fd, bool path_allowed = false) {
  vfs::FileRef file = TRY(path_allowed ? GetAnyFile(task, fd) : GetFile(task, fd));
  return Target{TRY(WalkFrom(task, AT_FDCWD, "")), file->path()};
}

Value Chmod(const Target& target, mode_t mode) {
  if (target.path.inode()->IsSymlink()) return Errno(EOPNOTSUPP);
  vfs::SetStatRequest request;
  request.mode = mode & 07777;
  TRY(vfs::SetStat(target.context, target.path, request));
  return 0;
}

Value Chown(const Target& target, uid_t uid, gid_t gid) {
  vfs::SetStatRequest request;
  if (uid != kInvalidId) request.uid = target.context.creds.ToKernel(IdKind::kUser, uid);
  if (gid != kInvalidId) request.gid = target.context.creds.ToKernel(IdKind::kGroup, gid);
  if (request.uid == kInvalidId || request.gid == kInvalidId) return Errno(EINVAL);
  TRY(vfs::SetStat(target.context, target.path, request));
  return 0;
}

Value SetTimes(const Target& target, const timespec* times) {
  vfs::SetStatRequest request;
  vfs::Timestamp now = vfs::Timestamp::Now();
  bool all_now = true;
  std::optional<vfs::Timestamp>* fields[2] = {&request.atime, &request.mtime};
  for (int i = 0; i < 2; ++i) {
    if (!times || times[i].tv_nsec == UTIME_NOW) {
      *fields[i] = now;
    } else if (times[i].tv_nsec == UTIME_OMIT) {
      all_now = false;
    } else {
      if (times[i].tv_nsec < 0 || times[i].tv_nsec >= base::kNsPerSecond) return Errno(EINVAL);
      *fields[i] = vfs::Timestamp{times[i].tv_sec, static_cast<uint32_t>(times[i].tv_nsec)};
      all_now = false;
    }
  }
  if (!request.atime && !request.mtime) return 0;
  TRY(vfs::SetStat(target.context, target.path, request, all_now));
  return 0;
}

Value TimevalTimes(Task& task, const Target& target, UserAddr address) {
  if (address.IsNull()) return SetTimes(target, nullptr);
  struct Pair {
    timeval tv[2];
  };
  Pair pair = TRY(task.CopyIn<Pair>(address));
  timespec times[2];
  for (int i = 0; i < 2; ++i) {
    if (pair.tv[i].tv_usec < 0 || pair.tv[i].tv_usec >= 1'000'000) return Errno(EINVAL);
    times[i] = {pair.tv[i].tv_sec, pair.tv[i].tv_usec * 1000};
  }
  return SetTimes(target, times);
}

Result<std::string> XattrName(Task& task, UserAddr address) {
  auto name = task.CopyInString(address, XATTR_NAME_MAX + 1);
  if (!name.ok()) return name.error() == Errno(ENAMETOOLONG) ? Errno(ERANGE) : name.error();
  if (name->empty()) return Errno(ERANGE);
  return name;
}

Value SetXattr(Task& task, const Target& target, const Arguments& args) {
  int flags = args.Int(4);
  if (flags & ~(XATTR_CREATE | XATTR_REPLACE) || flags == (XATTR_CREATE | XATTR_REPLACE)) return Errno(EINVAL);
  std::string name = TRY(XattrName(task, args.Addr(1)));
  if (args.Size(3) > XATTR_SIZE_MAX) return Errno(E2BIG);
  std::string value(args.Size(3), '\0');
  if (!value.empty()) TRY(task.CopyInBytes(args.Addr(2), value.data(), value.size()));
  TRY(vfs::SetXattr(target.context, target.path, name, value, flags));
  return 0;
}

Value CopyOutSized(Task& task, const std::string& bytes, UserAddr buffer, size_t size) {
  if (size == 0) return static_cast<int64_t>(bytes.size());
  if (bytes.size() > size) return Errno(ERANGE);
  TRY(task.CopyOutBytes(buffer, bytes.data(), bytes.size()));
  return static_cast<int64_t>(bytes.size());
}

Value GetXattr(Task& task, const Target& target, const Arguments& args) {
  std::string name = TRY(XattrName(task, args.Addr(1)));
  return CopyOutSized(task, TRY(vfs::GetXattr(target.context, target.path, name)), args.Addr(2), args.Size(3));
}

Value ListXattr(Task& task, const Target& target, const Arguments& args) {
  std::string all;
  for (const std::string& name : TRY(vfs::ListXattr(target.context, target.path))) all.append(name).push_back('\0');
  return CopyOutSized(task, all, args.Addr(1), args.Size(2));
}

Value RemoveXattr(Task& task, const Target& target, const Arguments& args) {
  TRY(vfs::RemoveXattr(target.context, target.path, TRY(XattrName(task, args.Addr(1)))));
  return 0;
}

constexpr int kNoFollow = AT_SYMLINK_NOFOLLOW;

}  // namespace

SYSCALL_HANDLER(SysChmod) { return Chmod(TRY(TargetOf(task, AT_FDCWD, args.Addr(0), 0)), args.Uint(1)); }
SYSCALL_HANDLER(SysFchmod) { return Chmod(TRY(TargetOfFd(task, args.Int(0))), args.Uint(1)); }
SYSCALL_HANDLER(SysFchmodat) { return Chmod(TRY(TargetOf(task, args.Int(0), args.Addr(1), 0)), args.Uint(2)); }
SYSCALL_HANDLER(SysFchmodat2) {
  if (args.Int(3) & ~(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)) return Errno(EINVAL);
  return Chmod(TRY(TargetOf(task, args.Int(0), args.Addr(1), args.Int(3))), args.Uint(2));
}

SYSCALL_HANDLER(SysChown) { return Chown(TRY(TargetOf(task, AT_FDCWD, args.Addr(0), 0)), args.Uint(1), args.Uint(2)); }
SYSCALL_HANDLER(SysLchown) {
  return Chown(TRY(TargetOf(task, AT_FDCWD, args.Addr(0), kNoFollow)), args.Uint(1), args.Uint(2));
}
SYSCALL_HANDLER(SysFchown) { return Chown(TRY(TargetOfFd(task, args.Int(0))), args.Uint(1), args.Uint(2)); }
SYSCALL_HANDLER(SysFchownat) {
  if (args.Int(4) & ~(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)) return Errno(EINVAL);
  return Chown(TRY(TargetOf(task, args.Int(0), args.Addr(1), args.Int(4))), args.Uint(2), args.Uint(3));
}

SYSCALL_HANDLER(SysTruncate) {
  if (args.Long(1) < 0) return Errno(EINVAL);
  Target target = TRY(TargetOf(task, AT_FDCWD, args.Addr(0), 0));
  if (target.path.inode()->IsDirectory()) return Errno(EISDIR);
  if (!target.path.inode()->IsRegular()) return Errno(EINVAL);
  TRY(target.path.inode()->CheckPermission(*task.creds(), vfs::kMayWrite));
  if (target.path.mount->IsReadOnly()) return Errno(EROFS);
  if (args.Ulong(1) > task.SoftLimit(RLIMIT_FSIZE)) {
    task.RaiseSelf(SIGXFSZ);
    return Errno(EFBIG);
  }
  TRY(target.path.inode()->GetWriteAccess());
  vfs::SetStatRequest request;
  request.size = args.Ulong(1);
  auto result = vfs::SetStat(target.context, target.path, request);
  target.path.inode()->PutWriteAccess();
  TRY(result);
  return 0;
}

SYSCALL_HANDLER(SysUtimensat) {
  struct Pair {
    timespec ts[2];
  };
  Pair pair;
  bool given = !args.Addr(2).IsNull();
  if (given) {
    pair = TRY(task.CopyIn<Pair>(args.Addr(2)));
    if (pair.ts[0].tv_nsec == UTIME_OMIT && pair.ts[1].tv_nsec == UTIME_OMIT) return 0;
  }
  if (args.Int(3) & ~(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)) return Errno(EINVAL);
  if (args.Addr(1).IsNull()) {
    if (args.Int(0) == AT_FDCWD) return Errno(EFAULT);
    if (args.Int(3)) return Errno(EINVAL);
    return SetTimes(TRY(TargetOfFd(task, args.Int(0))), given ? pair.ts : nullptr);
  }
  return SetTimes(TRY(TargetOf(task, args.Int(0), args.Addr(1), args.Int(3))), given ? pair.ts : nullptr);
}

SYSCALL_HANDLER(SysUtimes) { return TimevalTimes(task, TRY(TargetOf(task, AT_FDCWD, args.Addr(0), 0)), args.Addr(1)); }
SYSCALL_HANDLER(SysFutimesat) {
  if (args.Addr(1).IsNull() && args.Int(0) != AT_FDCWD)
    return TimevalTimes(task, TRY(TargetOfFd(task, args.Int(0))), args.Addr(2));
  return TimevalTimes(task, TRY(TargetOf(task, args.Int(0), args.Addr(1), 0)), args.Addr(2));
}
SYSCALL_HANDLER(SysUtime) {
  Target target = TRY(TargetOf(task, AT_FDCWD, args.Addr(0), 0));
  if (args.Addr(1).IsNull()) return SetTimes(target, nullptr);
  utimbuf buffer = TRY(task.CopyIn<utimbuf>(args.Addr(1)));
  timespec times[2] = {{buffer.actime, 0}, {buffer.modtime, 0}};
  return SetTimes(target, times);
}

SYSCALL_HANDLER(SysSetxattr) { return SetXattr(task, TRY(TargetOf(task, AT_FDCWD, args.Addr(0), 0)), args); }
SYSCALL_HANDLER(SysLsetxattr) { return SetXattr(task, TRY(TargetOf(task, AT_FDCWD, args.Addr(0), kNoFollow)), args); }
SYSCALL_HANDLER(SysFsetxattr) { return SetXattr(task, TRY(TargetOfFd(task, args.Int(0))), args); }
SYSCALL_HANDLER(SysGetxattr) { return GetXattr(task, TRY(TargetOf(task, AT_FDCWD, args.Addr(0), 0)), args); }
SYSCALL_HANDLER(SysLgetxattr) { return GetXattr(task, TRY(TargetOf(task, AT_FDCWD, args.Addr(0), kNoFollow)), args); }
SYSCALL_HANDLER(SysFgetxattr) { return GetXattr(task, TRY(TargetOfFd(task, args.Int(0))), args); }
SYSCALL_HANDLER(SysListxattr) { return ListXattr(task, TRY(TargetOf(task, AT_FDCWD, args.Addr(0), 0)), args); }
SYSCALL_HANDLER(SysLlistxattr) { return ListXattr(task, TRY(TargetOf(task, AT_FDCWD, args.Addr(0), kNoFollow)), args); }
SYSCALL_HANDLER(SysFlistxattr) { return ListXattr(task, TRY(TargetOfFd(task, args.Int(0))), args); }
SYSCALL_HANDLER(SysRemovexattr) { return RemoveXattr(task, TRY(TargetOf(task, AT_FDCWD, args.Addr(0), 0)), args); }
SYSCALL_HANDLER(SysLremovexattr) {
  return RemoveXattr(task, TRY(TargetOf(task, AT_FDCWD, args.Addr(0), kNoFollow)), args);
}
SYSCALL_HANDLER(SysFremovexattr) { return RemoveXattr(task, TRY(TargetOfFd(task, args.Int(0))), args); }

}  // namespace sentry::syscalls
