// SPDX-License-Identifier: Apache-2.0
// Calls that make, remove and rename names.
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/stat.h>

#include <algorithm>

#include "sentry/syscalls/handlers.h"

namespace sentry::syscalls {
namespace {

struct Place {
  std::string path;
  vfs::WalkContext context;
};

Result<Place> PlaceOf(Task& task, int dirfd, UserAddr address, bool empty_allowed = false) {
  std::string path = TRY(CopyInPath(task, address));
  vfs::WalkContext context = TRY(WalkFrom(task, dirfd, path, empty_allowed));
  return Place{std::move(path), std::move(context)};
}

Value MkdirAt(Task& task, int dirfd, UserAddr address, mode_t mode) {
  Place place = TRY(PlaceOf(task, dirfd, address));
  TRY(vfs::Mkdir(place.context, place.path, mode & 01777));
  return 0;
}

Value MknodAt(Task& task, int dirfd, UserAddr address, mode_t mode, uint64_t device) {
  Place place = TRY(PlaceOf(task, dirfd, address));
  if ((mode & S_IFMT) == 0) mode |= S_IFREG;
  // The kernel's 32-bit encoding of dev_t (new_decode_dev).
  dev_t decoded = makedev((device & 0xfff00) >> 8, (device & 0xff) | ((device >> 12) & 0xfff00));
  TRY(vfs::Mknod(place.context, place.path, mode, decoded));
  return 0;
}

Value UnlinkAt(Task& task, int dirfd, UserAddr address, int flags) {
  if (flags & ~AT_REMOVEDIR) return Errno(EINVAL);
  Place place = TRY(PlaceOf(task, dirfd, address));
  TRY(flags & AT_REMOVEDIR ? vfs::Rmdir(place.context, place.path) : vfs::Unlink(place.context, place.path));
  return 0;
}

Value RenameAt(Task& task, int old_dirfd, UserAddr old_address, int new_dirfd, UserAddr new_address, unsigned flags) {
  if (flags & ~(RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT)) return Errno(EINVAL);
  if ((flags & RENAME_EXCHANGE) && (flags & (RENAME_NOREPLACE | RENAME_WHITEOUT))) return Errno(EINVAL);
  Place from = TRY(PlaceOf(task, old_dirfd, old_address));
  Place to = TRY(PlaceOf(task, new_dirfd, new_address));
  TRY(vfs::Rename(from.context, from.path, to.context, to.path, flags));
  return 0;
}

Value LinkAt(Task& task, int old_dirfd, UserAddr old_address, int new_dirfd, UserAddr new_address, int flags) {
  if (flags & ~(AT_SYMLINK_FOLLOW | AT_EMPTY_PATH)) return Errno(EINVAL);
  bool empty = flags & AT_EMPTY_PATH;
  Place from = TRY(PlaceOf(task, old_dirfd, old_address, empty));
  if (empty && from.path.empty() && !task.HasCapability(CAP_DAC_READ_SEARCH)) return Errno(ENOENT);
  Place to = TRY(PlaceOf(task, new_dirfd, new_address));
  uint32_t resolve = (flags & AT_SYMLINK_FOLLOW ? vfs::kFollowFinal : 0u) | (empty ? vfs::kEmptyPath : 0u);
  TRY(vfs::Link(from.context, from.path, to.context, to.path, resolve));
  return 0;
}

Value SymlinkAt(Task& task, UserAddr target_address, int dirfd, UserAddr address) {
  std::string target = TRY(CopyInPath(task, target_address));
  if (target.empty()) return Errno(ENOENT);
  Place place = TRY(PlaceOf(task, dirfd, address));
  TRY(vfs::Symlink(place.context, target, place.path));
  return 0;
}

Value ReadLinkAt(Task& task, int dirfd, UserAddr address, UserAddr buffer, int size) {
  if (size <= 0) return Errno(EINVAL);
  Place place = TRY(PlaceOf(task, dirfd, address, true));
  if (place.path.empty() && dirfd == AT_FDCWD) return Errno(ENOENT);
  auto target = vfs::ReadLink(place.context, place.path);
  // An empty path names the descriptor itself, which has to be a symlink: ENOENT, as the name would not be found.
  if (!target.ok()) return target.error() == Errno(EINVAL) && place.path.empty() ? Errno(ENOENT) : target.error();
  size_t length = std::min(target->size(), static_cast<size_t>(size));
  TRY(task.CopyOutBytes(buffer, target->data(), length));
  return static_cast<int64_t>(length);
}

}  // namespace

SYSCALL_HANDLER(SysMkdir) { return MkdirAt(task, AT_FDCWD, args.Addr(0), args.Mode(1)); }
SYSCALL_HANDLER(SysMkdirat) { return MkdirAt(task, args.Int(0), args.Addr(1), args.Mode(2)); }
SYSCALL_HANDLER(SysMknod) { return MknodAt(task, AT_FDCWD, args.Addr(0), args.Uint(1), args.Uint(2)); }
SYSCALL_HANDLER(SysMknodat) { return MknodAt(task, args.Int(0), args.Addr(1), args.Uint(2), args.Uint(3)); }
SYSCALL_HANDLER(SysUnlink) { return UnlinkAt(task, AT_FDCWD, args.Addr(0), 0); }
SYSCALL_HANDLER(SysRmdir) { return UnlinkAt(task, AT_FDCWD, args.Addr(0), AT_REMOVEDIR); }
SYSCALL_HANDLER(SysUnlinkat) { return UnlinkAt(task, args.Int(0), args.Addr(1), args.Int(2)); }
SYSCALL_HANDLER(SysRename) { return RenameAt(task, AT_FDCWD, args.Addr(0), AT_FDCWD, args.Addr(1), 0); }
SYSCALL_HANDLER(SysRenameat) { return RenameAt(task, args.Int(0), args.Addr(1), args.Int(2), args.Addr(3), 0); }
SYSCALL_HANDLER(SysRenameat2) {
  return RenameAt(task, args.Int(0), args.Addr(1), args.Int(2), args.Addr(3), args.Uint(4));
}
SYSCALL_HANDLER(SysLink) { return LinkAt(task, AT_FDCWD, args.Addr(0), AT_FDCWD, args.Addr(1), 0); }
SYSCALL_HANDLER(SysLinkat) { return LinkAt(task, args.Int(0), args.Addr(1), args.Int(2), args.Addr(3), args.Int(4)); }
SYSCALL_HANDLER(SysSymlink) { return SymlinkAt(task, args.Addr(0), AT_FDCWD, args.Addr(1)); }
SYSCALL_HANDLER(SysSymlinkat) { return SymlinkAt(task, args.Addr(0), args.Int(1), args.Addr(2)); }
SYSCALL_HANDLER(SysReadlink) { return ReadLinkAt(task, AT_FDCWD, args.Addr(0), args.Addr(1), args.Int(2)); }
SYSCALL_HANDLER(SysReadlinkat) { return ReadLinkAt(task, args.Int(0), args.Addr(1), args.Addr(2), args.Int(3)); }

}  // namespace sentry::syscalls
