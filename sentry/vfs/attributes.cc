// SPDX-License-Identifier: Apache-2.0
// stat(2), access(2), readlink(2), and the rules of chmod(2), chown(2), truncate(2) and utimensat(2).
#include <sys/inotify.h>

#include "base/cleanup.h"
#include "sentry/vfs/inotify_watches.h"
#include "sentry/vfs/leases.h"
#include "sentry/vfs/operations.h"

namespace sentry::vfs {
namespace {

bool MayChangeOwner(const Credentials& creds, const InodeStat& stat, uid_t uid) {
  if (creds.fsuid == stat.uid && uid == stat.uid) return true;
  return CapableOver(creds, stat, CAP_CHOWN);
}

bool MayChangeGroup(const Credentials& creds, const InodeStat& stat, gid_t gid) {
  if (creds.fsuid == stat.uid && (gid == stat.gid || creds.InGroup(gid))) return true;
  return CapableOver(creds, stat, CAP_CHOWN);
}

}  // namespace

Result<InodeStat> Stat(const WalkContext& context, std::string_view path, uint32_t flags, Path* where) {
  Path place = TRY(Resolve(context, path, flags));
  InodeStat stat = TRY(place.inode()->GetStat());
  if (where) *where = std::move(place);
  return stat;
}

Result<void> Access(const WalkContext& context, std::string_view path, int mask, uint32_t flags) {
  Path place = TRY(Resolve(context, path, flags));
  mask &= kMayRead | kMayWrite | kMayExec;
  if ((mask & kMayExec) && place.inode()->IsRegular() && (place.mount->flags() & kMountNoExec)) return Errno(EACCES);
  if (mask) TRY(place.inode()->CheckPermission(context.creds, mask));
  if (mask & kMayWrite) TRY(CheckMountWritable(place));
  return OkResult();
}

Result<std::string> ReadLink(const WalkContext& context, std::string_view path) {
  Path place = TRY(Resolve(context, path, kEmptyPath));
  if (!place.inode()->IsSymlink()) return path.empty() ? Errno(ENOENT) : Errno(EINVAL);
  return place.inode()->ReadLink();
}

Result<void> TruncateInode(const Credentials* creds, Inode& inode, uint64_t size) {
  TRY(inode.GetWriteAccess());
  base::Cleanup put([&] { inode.PutWriteAccess(); });
  InodeStat stat = TRY(inode.GetStat());
  SetStatRequest request;
  request.size = size;
  request.mode = ModeAfterWrite(stat, creds);
  return inode.SetStat(request);
}

Result<void> SetStat(const WalkContext& context, const Path& path, SetStatRequest request, bool times_now) {
  Inode& inode = *path.inode();
  const Credentials& creds = context.creds;
  // Every type, not only those that hold data: attributes are the filesystem's.
  if (path.mount->IsReadOnly()) return Errno(EROFS);
  if (request.size) {
    if (inode.IsDirectory()) return Errno(EISDIR);
    if (!inode.IsRegular()) return Errno(EINVAL);
    if (*request.size > INT64_MAX) return Errno(EINVAL);
    TRY(inode.CheckPermission(creds, kMayWrite));
    if (Leases::Get().Any()) TRY(Leases::Get().Break(inode, /*write=*/true, /*nonblocking=*/false));
    TRY(TruncateInode(&creds, inode, *request.size));
    request.size.reset();
    NotifyInotify(*path.dentry, IN_MODIFY);
  }
  if (!request.mode && !request.uid && !request.gid && !request.atime && !request.mtime) return OkResult();
  InodeStat stat = TRY(inode.GetStat());
  if (const UserNamespace* ns = inode.filesystem().user_ns()) {
    if (request.uid && ns->FromKernel(IdKind::kUser, *request.uid) == kInvalidId) return Errno(EOVERFLOW);
    if (request.gid && ns->FromKernel(IdKind::kGroup, *request.gid) == kInvalidId) return Errno(EOVERFLOW);
  }
  if (request.uid && !MayChangeOwner(creds, stat, *request.uid)) return Errno(EPERM);
  if (request.gid && !MayChangeGroup(creds, stat, *request.gid)) return Errno(EPERM);
  if (request.mode) {
    if (inode.IsSymlink()) return Errno(EOPNOTSUPP);
    if (!IsOwnerOrCapable(creds, stat)) return Errno(EPERM);
    request.mode = *request.mode & 07777;
    const gid_t gid = request.gid.value_or(stat.gid);
    if (!creds.InGroup(gid) && !CapableOver(creds, stat, CAP_FSETID)) request.mode = *request.mode & ~S_ISGID;
  } else if (request.uid || request.gid) {
    const mode_t cleared = ModeAfterChown(stat);
    if (cleared != (stat.mode & 07777)) request.mode = cleared;
  }
  if ((request.atime || request.mtime) && !IsOwnerOrCapable(creds, stat)) {
    if (!times_now) return Errno(EPERM);
    TRY(inode.CheckPermission(creds, kMayWrite));
  }
  TRY(inode.SetStat(request));
  NotifyInotify(*path.dentry, IN_ATTRIB);
  return OkResult();
}

}  // namespace sentry::vfs
