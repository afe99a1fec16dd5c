// SPDX-License-Identifier: Apache-2.0
// unlink(2), rmdir(2).
#include <sys/inotify.h>

#include "sentry/vfs/fanotify.h"
#include "sentry/vfs/file_handles.h"
#include "sentry/vfs/inotify_watches.h"
#include "sentry/vfs/landlock.h"
#include "sentry/vfs/operations.h"

namespace sentry::vfs {

void NotifyDirectory(const Dentry& directory, uint32_t mask, const Dentry& child, std::string_view name,
                     uint32_t cookie) {
  Inode& inode = *directory.inode();
  const bool is_directory = child.inode() && child.inode()->IsDirectory();
  if (Fanotify::Get().Any()) {
    Fanotify::Get().Notify({.mask = uint64_t{mask} | (is_directory ? FAN_ONDIR : 0),
                            .object = child.inode().get(),
                            .object_dentry = &child,
                            .directory = &directory,
                            .name = name,
                            .changes_names = true});
  }
  if (!inode.HasInotifyWatches()) return;
  inode.inotify_watches().Notify(mask | (is_directory ? IN_ISDIR : 0), cookie, name);
}

void NotifySelf(Inode& inode, uint32_t mask, const Dentry* dentry) {
  if (Fanotify::Get().Any()) {
    Fanotify::Get().Notify(
        {.mask = uint64_t{mask} | (inode.IsDirectory() ? FAN_ONDIR : 0), .object = &inode, .object_dentry = dentry});
  }
  if (inode.HasInotifyWatches()) inode.inotify_watches().Notify(mask, 0, "");
}

void NotifyNameRemoved(Inode& inode) {
  FileHandles::Get().OnNameRemoved(inode);
  if (!inode.HasInotifyWatches() && !Fanotify::Get().Any()) return;
  auto stat = inode.GetStat();
  if (!inode.IsDirectory()) NotifySelf(inode, IN_ATTRIB);
  if (stat.ok() && (stat->nlink == 0 || inode.IsDirectory())) inode.MarkDeleted();
}

Result<void> CheckMountWritable(const Path& path) {
  const mode_t type = path.inode()->type();
  const bool covered = type == S_IFREG || type == S_IFDIR || type == S_IFLNK;
  return covered && path.mount->IsReadOnly() ? Result<void>(Errno(EROFS)) : OkResult();
}

Result<void> Unlink(const WalkContext& context, std::string_view path) {
  Walker walker(context, 0);
  TRY(walker.Start(path));
  TRY(walker.WalkToLast());
  if (walker.last_kind() != Walker::Last::kNormal) return Errno(EISDIR);
  const Path& parent = walker.current();
  RefPtr<Dentry> child;
  {
    Dentry& directory = *parent.dentry;
    const LandlockPlace place(parent);
    MutexLock lock(directory.mu());
    if (parent.mount->IsReadOnly()) return Errno(EROFS);
    child = TRY(DentryCache::Get().LookupLocked(directory, walker.last_name()));
    if (!child->inode()) return Errno(ENOENT);
    if (walker.trailing_slash()) return child->inode()->IsDirectory() ? Errno(EISDIR) : Errno(ENOTDIR);
    TRY(LandlockCheckRemove(place, false));
    TRY(MayDelete(context, directory, *child->inode(), false));
    if (DentryCache::IsMountpoint(*child)) return Errno(EBUSY);
    TRY(parent.inode()->Unlink(walker.last_name(), *child->inode()));
    DentryCache::Get().RemoveLocked(directory, *child);
  }
  DentryCache::Get().Shrink();
  NotifyNameRemoved(*child->inode());
  NotifyDirectory(*parent.dentry, IN_DELETE, *child, walker.last_name());
  return OkResult();
}

Result<void> Rmdir(const WalkContext& context, std::string_view path) ABSL_NO_THREAD_SAFETY_ANALYSIS {
  Walker walker(context, 0);
  TRY(walker.Start(path));
  TRY(walker.WalkToLast());
  switch (walker.last_kind()) {
    case Walker::Last::kDot:
      return Errno(EINVAL);
    case Walker::Last::kDotDot:
      return Errno(ENOTEMPTY);
    case Walker::Last::kRoot:
      return Errno(EBUSY);
    case Walker::Last::kNormal:
      break;
  }
  const Path& parent = walker.current();
  RefPtr<Dentry> child;
  {
    Dentry& directory = *parent.dentry;
    const LandlockPlace place(parent);
    MutexLock lock(directory.mu());
    if (parent.mount->IsReadOnly()) return Errno(EROFS);
    child = TRY(DentryCache::Get().LookupLocked(directory, walker.last_name()));
    if (!child->inode()) return Errno(ENOENT);
    TRY(LandlockCheckRemove(place, true));
    TRY(MayDelete(context, directory, *child->inode(), true));
    if (DentryCache::IsMountpoint(*child)) return Errno(EBUSY);
    // The victim's own lock keeps names from being made in it meanwhile; a child is locked after its parent.
    child->mu().LockNested();
    auto removed = parent.inode()->Rmdir(walker.last_name(), *child->inode());
    if (removed.ok()) {
      DentryCache::Get().ForgetChildrenLocked(*child);
      DentryCache::Get().RemoveLocked(directory, *child);
    }
    child->mu().Unlock();
    TRY(removed);
  }
  DentryCache::Get().Shrink();
  NotifyNameRemoved(*child->inode());
  NotifyDirectory(*parent.dentry, IN_DELETE, *child, walker.last_name());
  return OkResult();
}

}  // namespace sentry::vfs
