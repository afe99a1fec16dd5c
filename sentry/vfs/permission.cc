// SPDX-License-Identifier: Apache-2.0
#include "sentry/vfs/permission.h"

namespace sentry::vfs {

bool CapableOver(const Credentials& creds, const InodeStat& stat, int capability) {
  if (!creds.HasOwnCapability(capability)) return false;
  return creds.FromKernel(IdKind::kUser, stat.uid) != kInvalidId &&
         creds.FromKernel(IdKind::kGroup, stat.gid) != kInvalidId;
}

bool IsOwnerOrCapable(const Credentials& creds, const InodeStat& stat) {
  return creds.fsuid == stat.uid || CapableOver(creds, stat, CAP_FOWNER);
}

Result<void> GenericPermission(const Credentials& creds, const InodeStat& stat, int mask) {
  mode_t bits = stat.mode;
  if (creds.fsuid == stat.uid) {
    bits >>= 6;
  } else if (creds.InGroup(stat.gid)) {
    bits >>= 3;
  }
  mask &= kMayRead | kMayWrite | kMayExec;
  if ((mask & ~bits & 7) == 0) return OkResult();
  if (S_ISDIR(stat.mode)) {
    if (!(mask & kMayWrite) && CapableOver(creds, stat, CAP_DAC_READ_SEARCH)) return OkResult();
    if (CapableOver(creds, stat, CAP_DAC_OVERRIDE)) return OkResult();
    return Errno(EACCES);
  }
  if (mask == kMayRead && CapableOver(creds, stat, CAP_DAC_READ_SEARCH)) return OkResult();
  // Execution needs at least one x bit, whoever asks.
  if ((!(mask & kMayExec) || (stat.mode & 0111)) && CapableOver(creds, stat, CAP_DAC_OVERRIDE)) return OkResult();
  return Errno(EACCES);
}

Result<void> MayCreate(const WalkContext& context, const Dentry& directory) {
  if (directory.IsUnhashed()) return Errno(ENOENT);
  return directory.inode()->CheckPermission(context.creds, kMayWrite | kMayExec);
}

Result<void> MayDelete(const WalkContext& context, const Dentry& directory, Inode& victim, bool want_directory) {
  TRY(directory.inode()->CheckPermission(context.creds, kMayWrite | kMayExec));
  InodeStat parent = TRY(directory.inode()->GetStat());
  if (parent.mode & S_ISVTX) {
    InodeStat stat = TRY(victim.GetStat());
    const uid_t uid = context.creds.fsuid;
    if (uid != stat.uid && uid != parent.uid && !CapableOver(context.creds, stat, CAP_FOWNER)) return Errno(EPERM);
  }
  if (want_directory && !victim.IsDirectory()) return Errno(ENOTDIR);
  if (!want_directory && victim.IsDirectory()) return Errno(EISDIR);
  if (directory.IsUnhashed()) return Errno(ENOENT);
  return OkResult();
}

Result<CreateAttributes> NewFileAttributes(const WalkContext& context, Inode& directory, mode_t mode,
                                           bool is_directory) {
  InodeStat parent = TRY(directory.GetStat());
  if (const UserNamespace* ns = directory.filesystem().user_ns();
      ns && (ns->FromKernel(IdKind::kUser, context.creds.fsuid) == kInvalidId ||
             ns->FromKernel(IdKind::kGroup, context.creds.fsgid) == kInvalidId)) {
    return Errno(EOVERFLOW);
  }
  CreateAttributes attributes;
  attributes.mode = mode & (is_directory ? 01777 : 07777) & ~context.umask;
  attributes.uid = context.creds.fsuid;
  attributes.gid = context.creds.fsgid;
  if (parent.mode & S_ISGID) {
    attributes.gid = parent.gid;
    if (is_directory) attributes.mode |= S_ISGID;
  }
  // A set-id executable for a group that its creator is not in.
  if (!is_directory && (attributes.mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP) && (parent.mode & S_ISGID) &&
      !context.creds.InGroup(attributes.gid) && !CapableOver(context.creds, parent, CAP_FSETID)) {
    attributes.mode &= ~S_ISGID;
  }
  return attributes;
}

std::optional<mode_t> ModeAfterWrite(const InodeStat& stat, const Credentials* creds) {
  if (!S_ISREG(stat.mode) || !(stat.mode & (S_ISUID | S_ISGID))) return std::nullopt;
  if (!creds || CapableOver(*creds, stat, CAP_FSETID)) return std::nullopt;
  mode_t mode = stat.mode & 07777 & ~S_ISUID;
  if ((mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP) || !creds->InGroup(stat.gid)) mode &= ~S_ISGID;
  if (mode == (stat.mode & 07777)) return std::nullopt;
  return mode;
}

mode_t ModeAfterChown(const InodeStat& stat) {
  mode_t mode = stat.mode & 07777;
  if (S_ISDIR(stat.mode)) return mode;
  mode &= ~S_ISUID;
  if (mode & S_IXGRP) mode &= ~S_ISGID;
  return mode;
}

bool WantsAtime(const Path& path, int flags, const InodeStat& stat, const Timestamp& now) {
  if (flags & O_NOATIME) return false;
  const uint32_t mount = path.mount ? path.mount->flags() : 0;
  if (mount & (kMountNoAtime | kMountReadOnly)) return false;
  if ((mount & kMountNoDirAtime) && S_ISDIR(stat.mode)) return false;
  if (!(mount & kMountRelAtime)) return true;
  return stat.atime <= stat.mtime || stat.atime <= stat.ctime || now.seconds - stat.atime.seconds >= 24 * 60 * 60;
}

}  // namespace sentry::vfs
