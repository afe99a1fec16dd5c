// SPDX-License-Identifier: Apache-2.0
// open(2) and its kin, and directory reading.
#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>

#include <algorithm>

#include "sentry/syscalls/handlers.h"
#include "sentry/vfs/inotify_watches.h"

namespace sentry::syscalls {
namespace {

Value OpenAt(Task& task, int dirfd, UserAddr address, int flags, mode_t mode, uint32_t resolve = 0) {
  std::string path = TRY(CopyInPath(task, address));
  // In a root of its own an absolute path begins at the descriptor, too.
  vfs::WalkContext context = TRY(WalkFrom(task, dirfd, resolve & vfs::kInRoot ? "." : path));
  vfs::FileRef file = TRY(vfs::Open(context, path, flags, mode, resolve));
  return InstallFile(task, std::move(file), flags & O_CLOEXEC);
}

// The classic calls ignore unknown flags and, with O_PATH, all but these.
int ClassicFlags(int flags) {
  constexpr int kValid = O_ACCMODE | O_CREAT | O_EXCL | O_NOCTTY | O_TRUNC | O_APPEND | O_NONBLOCK | O_SYNC | O_DSYNC |
                         O_ASYNC | O_DIRECT | 0100000 | O_DIRECTORY | O_NOFOLLOW | O_NOATIME | O_CLOEXEC | O_PATH |
                         O_TMPFILE;
  flags &= kValid;
  if (flags & O_PATH) flags &= O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
  return flags;
}

struct Directory64 {
  uint64_t ino;
  int64_t offset;
  uint16_t record_length;
  uint8_t type;
} __attribute__((packed));

struct DirectoryOld {
  uint64_t ino;
  uint64_t offset;
  uint16_t record_length;
} __attribute__((packed));

Value GetDents(Task& task, int fd, UserAddr buffer, size_t size, bool old_format) {
  vfs::FileRef file = TRY(GetFile(task, fd));
  if (!file->inode()->IsDirectory()) return Errno(ENOTDIR);
  std::vector<uint8_t> out;
  bool too_small = false;
  const int64_t before = file->position();
  TRY(file->IterateDirectory([&](const vfs::DirEntry& entry) {
    size_t head = old_format ? sizeof(DirectoryOld) : sizeof(Directory64);
    // The old format keeps the type in the record's last byte.
    size_t length = (head + entry.name.size() + 1 + (old_format ? 1 : 0) + 7) & ~size_t{7};
    if (out.size() + length > size) {
      too_small = out.empty();
      return false;
    }
    size_t at = out.size();
    out.resize(at + length);
    if (old_format) {
      DirectoryOld record{entry.ino, static_cast<uint64_t>(entry.next_offset), static_cast<uint16_t>(length)};
      memcpy(&out[at], &record, sizeof record);
      out[at + length - 1] = entry.type;
    } else {
      Directory64 record{entry.ino, entry.next_offset, static_cast<uint16_t>(length), entry.type};
      memcpy(&out[at], &record, sizeof record);
    }
    memcpy(&out[at + head], entry.name.data(), entry.name.size());
    return true;
  }));
  if (too_small) return Errno(EINVAL);
  if (!out.empty()) {
    Result<void> copied = task.CopyOutBytes(buffer, out.data(), out.size());
    if (!copied.ok()) {
      // Nothing was given: the next call gives it.
      (void)file->Seek(before, SEEK_SET);
      return copied.error();
    }
  }
  vfs::NotifyFile(*file, IN_ACCESS);
  return static_cast<int64_t>(out.size());
}

}  // namespace

SYSCALL_HANDLER(SysOpen) { return OpenAt(task, AT_FDCWD, args.Addr(0), ClassicFlags(args.Int(1)), args.Mode(2)); }
SYSCALL_HANDLER(SysOpenat) { return OpenAt(task, args.Int(0), args.Addr(1), ClassicFlags(args.Int(2)), args.Mode(3)); }
SYSCALL_HANDLER(SysCreat) { return OpenAt(task, AT_FDCWD, args.Addr(0), O_CREAT | O_WRONLY | O_TRUNC, args.Mode(1)); }

SYSCALL_HANDLER(SysOpenat2) {
  size_t size = args.Size(3);
  if (size < sizeof(open_how)) return Errno(EINVAL);
  if (size > kPageSize) return Errno(E2BIG);
  std::vector<uint8_t> raw(size);
  TRY(task.CopyInBytes(args.Addr(2), raw.data(), size));
  if (std::any_of(raw.begin() + sizeof(open_how), raw.end(), [](uint8_t b) { return b != 0; })) return Errno(E2BIG);
  open_how how;
  memcpy(&how, raw.data(), sizeof how);
  int flags = static_cast<int>(how.flags);
  if (how.flags != static_cast<uint64_t>(ClassicFlags(flags) & 0xffffffffu)) return Errno(EINVAL);
  bool creates = (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE;
  if ((!creates && how.mode) || (how.mode & ~uint64_t{07777})) return Errno(EINVAL);
  static constexpr struct {
    uint64_t linux_flag;
    uint32_t vfs_flag;
  } kResolve[] = {{RESOLVE_NO_XDEV, vfs::kNoXdev},         {RESOLVE_NO_MAGICLINKS, vfs::kNoMagicLinks},
                  {RESOLVE_NO_SYMLINKS, vfs::kNoSymlinks}, {RESOLVE_BENEATH, vfs::kBeneath},
                  {RESOLVE_IN_ROOT, vfs::kInRoot},         {RESOLVE_CACHED, vfs::kCached}};
  uint32_t resolve = 0;
  uint64_t unknown = how.resolve;
  for (const auto& row : kResolve) {
    if (how.resolve & row.linux_flag) resolve |= row.vfs_flag;
    unknown &= ~row.linux_flag;
  }
  if (unknown || ((resolve & vfs::kBeneath) && (resolve & vfs::kInRoot))) return Errno(EINVAL);
  return OpenAt(task, args.Int(0), args.Addr(1), flags, static_cast<mode_t>(how.mode), resolve);
}

SYSCALL_HANDLER(SysGetdents64) { return GetDents(task, args.Int(0), args.Addr(1), args.Uint(2), false); }
SYSCALL_HANDLER(SysGetdents) { return GetDents(task, args.Int(0), args.Addr(1), args.Uint(2), true); }

SYSCALL_HANDLER(SysChdir) {
  std::string path = TRY(CopyInPath(task, args.Addr(0)));
  vfs::WalkContext context = TRY(WalkFrom(task, AT_FDCWD, path));
  vfs::Path where = TRY(vfs::Resolve(context, path, vfs::kFollowFinal | vfs::kDirectory));
  TRY(where.inode()->CheckPermission(*task.creds(), vfs::kMayExec));
  task.fs().set_cwd(std::move(where));
  return 0;
}

SYSCALL_HANDLER(SysFchdir) {
  vfs::FileRef file = TRY(GetAnyFile(task, args.Int(0)));
  if (!file->inode()->IsDirectory()) return Errno(ENOTDIR);
  TRY(file->inode()->CheckPermission(*task.creds(), vfs::kMayExec));
  task.fs().set_cwd(file->path());
  return 0;
}

SYSCALL_HANDLER(SysChroot) {
  std::string path = TRY(CopyInPath(task, args.Addr(0)));
  vfs::WalkContext context = TRY(WalkFrom(task, AT_FDCWD, path));
  vfs::Path where = TRY(vfs::Resolve(context, path, vfs::kFollowFinal | vfs::kDirectory));
  TRY(where.inode()->CheckPermission(*task.creds(), vfs::kMayExec));
  if (!task.HasOwnCapability(CAP_SYS_CHROOT)) return Errno(EPERM);
  task.fs().set_root(std::move(where));
  return 0;
}

SYSCALL_HANDLER(SysGetcwd) {
  vfs::Path cwd = task.fs().cwd();
  if (cwd.dentry->IsUnhashed()) return Errno(ENOENT);
  std::string name = vfs::PathName(*task.namespaces().mounts, cwd, task.fs().root());
  if (name.size() + 1 > args.Size(1)) return Errno(ERANGE);
  TRY(task.CopyOutBytes(args.Addr(0), name.c_str(), name.size() + 1));
  return static_cast<int64_t>(name.size() + 1);
}

SYSCALL_HANDLER(SysUmask) { return task.fs().SwapUmask(args.Uint(0) & 0777); }

}  // namespace sentry::syscalls
