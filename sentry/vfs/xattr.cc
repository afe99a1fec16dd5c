// SPDX-License-Identifier: Apache-2.0
// xattr(7): who may see and change which namespace of extended attributes.
#include <linux/limits.h>
#include <sys/inotify.h>

#include "sentry/vfs/inotify_watches.h"
#include "sentry/vfs/operations.h"

namespace sentry::vfs {
namespace {

bool IsAclName(std::string_view name) {
  return name == "system.posix_acl_access" || name == "system.posix_acl_default";
}

Result<void> CheckName(std::string_view name) {
  // A bare prefix is no name.
  if (name.empty() || name.size() > XATTR_NAME_MAX) return Errno(ERANGE);
  for (std::string_view prefix : {"user.", "trusted.", "security."}) {
    if (name == prefix) return Errno(EINVAL);
    if (name.starts_with(prefix)) return OkResult();
  }
  return IsAclName(name) ? OkResult() : Result<void>(Errno(EOPNOTSUPP));
}

Result<void> CheckAccess(const WalkContext& context, const Path& path, std::string_view name, bool write) {
  TRY(CheckName(name));
  Inode& inode = *path.inode();
  const Credentials& creds = context.creds;
  if (write && path.mount->IsReadOnly()) return Errno(EROFS);
  if (name.starts_with("trusted.")) {
    if (creds.HasCapability(CAP_SYS_ADMIN)) return OkResult();
    return write ? Errno(EPERM) : Errno(ENODATA);
  }
  if (name.starts_with("security.")) {
    if (!write) return OkResult();
    InodeStat stat = TRY(inode.GetStat());
    const int capability = name == "security.capability" ? CAP_SETFCAP : CAP_SYS_ADMIN;
    return CapableOver(creds, stat, capability) ? OkResult() : Result<void>(Errno(EPERM));
  }
  if (IsAclName(name)) {
    if (inode.IsSymlink()) return Errno(EOPNOTSUPP);
    if (!write) return OkResult();
    InodeStat stat = TRY(inode.GetStat());
    return IsOwnerOrCapable(creds, stat) ? OkResult() : Result<void>(Errno(EPERM));
  }
  if (!inode.IsRegular() && !inode.IsDirectory()) return write ? Errno(EPERM) : Errno(ENODATA);
  if (write && inode.IsDirectory()) {
    InodeStat stat = TRY(inode.GetStat());
    if ((stat.mode & S_ISVTX) && !IsOwnerOrCapable(creds, stat)) return Errno(EPERM);
  }
  return inode.CheckPermission(creds, write ? kMayWrite : kMayRead);
}

}  // namespace

Result<std::string> GetXattr(const WalkContext& context, const Path& path, std::string_view name) {
  TRY(CheckAccess(context, path, name, false));
  return path.inode()->GetXattr(name);
}

Result<void> SetXattr(const WalkContext& context, const Path& path, std::string_view name, std::string_view value,
                      int flags) {
  if (flags & ~3) return Errno(EINVAL);  // XATTR_CREATE, XATTR_REPLACE
  if (value.size() > XATTR_SIZE_MAX) return Errno(E2BIG);
  TRY(CheckAccess(context, path, name, true));
  TRY(path.inode()->SetXattr(name, value, flags));
  NotifyInotify(*path.dentry, IN_ATTRIB);
  return OkResult();
}

Result<std::vector<std::string>> ListXattr(const WalkContext& context, const Path& path) {
  std::vector<std::string> names = TRY(path.inode()->ListXattr());
  if (!context.creds.HasCapability(CAP_SYS_ADMIN)) {
    std::erase_if(names, [](const std::string& name) { return name.starts_with("trusted."); });
  }
  return names;
}

Result<void> RemoveXattr(const WalkContext& context, const Path& path, std::string_view name) {
  TRY(CheckAccess(context, path, name, true));
  TRY(path.inode()->RemoveXattr(name));
  NotifyInotify(*path.dentry, IN_ATTRIB);
  return OkResult();
}

}  // namespace sentry::vfs
