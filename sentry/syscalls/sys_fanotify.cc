// SPDX-License-Identifier: Apache-2.0
// fanotify_init(2), fanotify_mark(2).
#include <fcntl.h>
#include <sys/fanotify.h>

#include "sentry/fs/fanotify/fanotify.h"
#include "sentry/kernel/core/tunables.h"
#include "sentry/syscalls/handlers.h"

namespace sentry::syscalls {
namespace {

using vfs::Fanotify;

constexpr unsigned kFidFlags = FAN_REPORT_FID | FAN_REPORT_DIR_FID | FAN_REPORT_NAME | FAN_REPORT_TARGET_FID;
constexpr unsigned kUserFlags = FAN_CLOEXEC | FAN_NONBLOCK | kFidFlags;  // without CAP_SYS_ADMIN
constexpr unsigned kLargeFile = 0100000;                                 // the kernel's O_LARGEFILE
constexpr unsigned kClasses = FAN_CLASS_CONTENT | FAN_CLASS_PRE_CONTENT;
constexpr unsigned kInitFlags =
    kUserFlags | kClasses | FAN_UNLIMITED_QUEUE | FAN_UNLIMITED_MARKS | FAN_ENABLE_AUDIT | FAN_REPORT_TID;

constexpr uint64_t kPathEvents = FAN_ACCESS | FAN_MODIFY | FAN_CLOSE | FAN_OPEN | FAN_OPEN_EXEC;
constexpr uint64_t kNameEvents = FAN_CREATE | FAN_DELETE | FAN_MOVED_FROM | FAN_MOVED_TO | FAN_RENAME;
constexpr uint64_t kInodeEvents = kNameEvents | FAN_ATTRIB | FAN_MOVE_SELF | FAN_DELETE_SELF;
constexpr uint64_t kPermissionEvents = FAN_OPEN_PERM | FAN_ACCESS_PERM | FAN_OPEN_EXEC_PERM;
constexpr uint64_t kEventFlags = FAN_ONDIR | FAN_EVENT_ON_CHILD;

constexpr unsigned kCommands = FAN_MARK_ADD | FAN_MARK_REMOVE | FAN_MARK_FLUSH;
constexpr unsigned kTypes = FAN_MARK_MOUNT | FAN_MARK_FILESYSTEM;
constexpr unsigned kMarkFlags = kCommands | kTypes | FAN_MARK_DONT_FOLLOW | FAN_MARK_ONLYDIR | FAN_MARK_IGNORED_MASK |
                                FAN_MARK_IGNORED_SURV_MODIFY | FAN_MARK_EVICTABLE;

Fanotify::Kind KindOf(unsigned flags) {
  if (flags & FAN_MARK_MOUNT) return Fanotify::Kind::kMount;
  return flags & FAN_MARK_FILESYSTEM ? Fanotify::Kind::kFilesystem : Fanotify::Kind::kInode;
}

Result<vfs::Path> MarkedPath(Task& task, int dirfd, UserAddr address, unsigned flags) {
  vfs::Path where;
  if (address.IsNull()) {
    if (dirfd == AT_FDCWD) {
      where = task.fs().cwd();
    } else {
      where = TRY(GetFile(task, dirfd))->path();
    }
    if ((flags & FAN_MARK_ONLYDIR) && !where.inode()->IsDirectory()) return Errno(ENOTDIR);
  } else {
    std::string path = TRY(CopyInPath(task, address));
    const uint32_t resolve =
        (flags & FAN_MARK_DONT_FOLLOW ? 0u : vfs::kFollowFinal) | (flags & FAN_MARK_ONLYDIR ? vfs::kDirectory : 0u);
    where = TRY(vfs::Resolve(TRY(WalkFrom(task, dirfd, path)), path, resolve));
  }
  TRY(where.inode()->CheckPermission(*task.creds(), vfs::kMayRead));
  return where;
}

// What the group may ask for with its flags and class.
Result<void> CheckMask(const fs::FanotifyGroup& group, uint64_t mask, unsigned flags) {
  if (group.unprivileged() && (flags & kTypes)) return Errno(EPERM);
  if ((mask & kPermissionEvents) && group.priority() == FAN_CLASS_NOTIF) return Errno(EINVAL);
  if ((mask & ~(kPathEvents | kPermissionEvents | kEventFlags)) && (!group.fid_mode() || (flags & FAN_MARK_MOUNT)))
    return Errno(EINVAL);
  if ((mask & FAN_RENAME) && !(group.flags() & FAN_REPORT_NAME)) return Errno(EINVAL);
  return OkResult();
}

}  // namespace

SYSCALL_HANDLER(SysFanotifyInit) {
  const unsigned flags = args.Uint(0), event_flags = args.Uint(1), fid_mode = flags & kFidFlags;
  const bool privileged = task.HasCapability(CAP_SYS_ADMIN);
  if (!privileged && ((flags & ~kUserFlags) || !fid_mode)) return Errno(EPERM);
  if (flags & ~kInitFlags) return Errno(EINVAL);
  constexpr unsigned kEventFlagsAllowed =
      O_ACCMODE | O_APPEND | O_NONBLOCK | O_SYNC | O_DSYNC | O_CLOEXEC | kLargeFile | O_NOATIME;
  if ((event_flags & ~kEventFlagsAllowed) || (event_flags & O_ACCMODE) == O_ACCMODE) return Errno(EINVAL);
  if (fid_mode && (flags & kClasses)) return Errno(EINVAL);
  if ((flags & kClasses) == kClasses) return Errno(EINVAL);
  if ((fid_mode & FAN_REPORT_NAME) && !(fid_mode & FAN_REPORT_DIR_FID)) return Errno(EINVAL);
  if ((fid_mode & FAN_REPORT_TARGET_FID) && fid_mode != kFidFlags) return Errno(EINVAL);
  auto file = TRY(fs::FanotifyFile::Create(*task.creds(), flags, event_flags | kLargeFile, !privileged));
  return InstallFile(task, std::move(file), flags & FAN_CLOEXEC);
}

SYSCALL_HANDLER(SysFanotifyMark) {
  const unsigned flags = args.Uint(1), command = flags & kCommands;
  const uint64_t mask = args.Ulong(2);
  if (mask >> 32) return Errno(EINVAL);
  if ((flags & ~kMarkFlags) || (flags & kTypes) == kTypes) return Errno(EINVAL);
  if (command != FAN_MARK_ADD && command != FAN_MARK_REMOVE && command != FAN_MARK_FLUSH) return Errno(EINVAL);
  if (command == FAN_MARK_FLUSH ? (flags & ~(kTypes | FAN_MARK_FLUSH)) != 0 : mask == 0) return Errno(EINVAL);
  if (mask & ~(kPathEvents | kInodeEvents | kPermissionEvents | kEventFlags)) return Errno(EINVAL);
  vfs::FileRef file = TRY(GetFile(task, args.Int(0)));
  fs::FanotifyFile* fanotify = fs::FanotifyFile::From(*file);
  if (!fanotify) return Errno(EINVAL);
  const fs::FanotifyGroup& group = fanotify->group();
  TRY(CheckMask(group, mask, flags));
  if ((flags & FAN_MARK_EVICTABLE) && (flags & kTypes)) return Errno(EINVAL);
  if (command == FAN_MARK_FLUSH) {
    Fanotify::Get().Flush(group, KindOf(flags));
    return 0;
  }
  vfs::Path where = TRY(MarkedPath(task, args.Int(3), args.Addr(4), flags));
  const bool is_directory = where.inode()->IsDirectory();
  if (command == FAN_MARK_ADD && group.fid_mode() && !vfs::FileHandles::Exist(where.inode()->filesystem()))
    return Errno(EOPNOTSUPP);
  // Strict since these came: of a file without names in it (fanotify_events_supported).
  if (!(flags & kTypes) && !is_directory && (mask & kNameEvents) &&
      ((mask & FAN_RENAME) || (group.flags() & FAN_REPORT_TARGET_FID)))
    return Errno(ENOTDIR);
  Fanotify::Change change{.kind = KindOf(flags),
                          .mask = mask,
                          .ignored = (flags & FAN_MARK_IGNORED_MASK) != 0,
                          .survives_modify = (flags & FAN_MARK_IGNORED_SURV_MODIFY) != 0};
  if (!(flags & kTypes) && !is_directory) change.mask &= ~uint64_t{FAN_EVENT_ON_CHILD};
  if (!(group.flags() & FAN_UNLIMITED_MARKS))
    change.limit = static_cast<size_t>(tunables::fanotify_max_user_marks.Get());
  if (command == FAN_MARK_ADD) {
    TRY(Fanotify::Get().Add(fanotify->group_ref(), where, change));
  } else {
    TRY(Fanotify::Get().Remove(fanotify->group_ref(), where, change));
  }
  return 0;
}

}  // namespace sentry::syscalls
