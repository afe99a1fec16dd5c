// SPDX-License-Identifier: Apache-2.0
// mkdir(2), mknod(2), symlink(2), link(2).
#include <sys/inotify.h>

#include "sentry/vfs/inotify_watches.h"
#include "sentry/vfs/landlock.h"
#include "sentry/vfs/operations.h"

namespace sentry::vfs {
namespace {

// Looks the new name up and, when it is free and may be made, calls `make(directory inode, name)` with the directory
// locked.
template <typename Make>
Result<Path> CreateName(const WalkContext& context, std::string_view path, mode_t type, Make make) {
  const bool is_directory = type == S_IFDIR;
  Walker walker(context, 0);
  TRY(walker.Start(path));
  TRY(walker.WalkToLast());
  if (walker.last_kind() != Walker::Last::kNormal) return Errno(EEXIST);
  const Path& parent = walker.current();
  const std::string& name = walker.last_name();
  Path created{parent.mount, nullptr};
  {
    Dentry& directory = *parent.dentry;
    const LandlockPlace place(parent);
    MutexLock lock(directory.mu());
    RefPtr<Dentry> child = TRY(DentryCache::Get().LookupLocked(directory, name));
    if (child->inode()) return Errno(EEXIST);
    if (walker.trailing_slash() && !is_directory) return Errno(ENOENT);
    if (parent.mount->IsReadOnly()) return Errno(EROFS);
    TRY(LandlockCheckCreate(place, type));
    TRY(MayCreate(context, directory));
    RefPtr<Inode> inode = TRY(make(*parent.inode(), name));
    created.dentry = DentryCache::Get().AddLocked(directory, name, std::move(inode));
  }
  DentryCache::Get().Shrink();
  NotifyDirectory(*parent.dentry, IN_CREATE, *created.dentry, name);
  return created;
}

bool MayMakeDevices(const WalkContext& context) { return context.creds.HasCapability(CAP_MKNOD); }

Result<Path> MakeNode(const WalkContext& context, std::string_view path, mode_t mode, dev_t device) {
  mode_t type = mode & S_IFMT;
  if (type == 0) type = S_IFREG;
  if (type == S_IFDIR) return Errno(EPERM);
  if (type != S_IFREG && type != S_IFCHR && type != S_IFBLK && type != S_IFIFO && type != S_IFSOCK)
    return Errno(EINVAL);
  return CreateName(context, path, type, [&](Inode& directory, const std::string& name) -> Result<RefPtr<Inode>> {
    // An overlay's whiteout (0:0) is free for all (mknod(2) of Linux 5.8).
    const bool is_whiteout = type == S_IFCHR && device == 0;
    if ((type == S_IFCHR || type == S_IFBLK) && !is_whiteout && !MayMakeDevices(context)) return Errno(EPERM);
    CreateAttributes attributes = TRY(NewFileAttributes(context, directory, mode & 07777, false));
    if (type == S_IFREG) return directory.Create(name, attributes);
    return directory.Mknod(name, type, type == S_IFCHR || type == S_IFBLK ? device : 0, attributes);
  });
}

}  // namespace

Result<void> Mkdir(const WalkContext& context, std::string_view path, mode_t mode) {
  TRY(CreateName(context, path, S_IFDIR, [&](Inode& directory, const std::string& name) -> Result<RefPtr<Inode>> {
    CreateAttributes attributes = TRY(NewFileAttributes(context, directory, mode, true));
    return directory.Mkdir(name, attributes);
  }));
  return OkResult();
}

Result<void> Mknod(const WalkContext& context, std::string_view path, mode_t mode, dev_t device) {
  TRY(MakeNode(context, path, mode, device));
  return OkResult();
}

Result<Path> MknodSocket(const WalkContext& context, std::string_view path, mode_t mode) {
  auto made = MakeNode(context, path, S_IFSOCK | (mode & 07777), 0);
  if (!made.ok() && made.error() == Errno(EEXIST)) return Errno(EADDRINUSE);
  return made;
}

Result<void> Symlink(const WalkContext& context, std::string_view target, std::string_view path) {
  if (target.empty()) return Errno(ENOENT);
  if (target.size() >= 4096) return Errno(ENAMETOOLONG);
  TRY(CreateName(context, path, S_IFLNK, [&](Inode& directory, const std::string& name) -> Result<RefPtr<Inode>> {
    CreateAttributes attributes = TRY(NewFileAttributes(context, directory, 0777, false));
    attributes.mode = 0777;
    return directory.Symlink(name, target, attributes);
  }));
  return OkResult();
}

Result<void> Link(const WalkContext& from, std::string_view old_path, const WalkContext& to, std::string_view new_path,
                  uint32_t flags) {
  // linkat(2): AT_EMPTY_PATH needs CAP_DAC_READ_SEARCH.
  if ((flags & kEmptyPath) && old_path.empty() && !from.creds.HasCapability(CAP_DAC_READ_SEARCH)) return Errno(ENOENT);
  Path source = TRY(Resolve(from, old_path, flags & (kFollowFinal | kEmptyPath)));
  RefPtr<Inode> target = source.inode();
  Walker walker(to, 0);
  TRY(walker.Start(new_path));
  TRY(walker.WalkToLast());
  if (walker.last_kind() != Walker::Last::kNormal) return Errno(EEXIST);
  const Path& parent = walker.current();
  const RefPtr<Dentry> source_directory = source.dentry->parent();
  RefPtr<Dentry> made;
  const LandlockPlace place(parent), source_place({source.mount, source_directory ? source_directory : source.dentry});
  {
    Dentry& directory = *parent.dentry;
    MutexLock lock(directory.mu());
    RefPtr<Dentry> child = TRY(DentryCache::Get().LookupLocked(directory, walker.last_name()));
    if (child->inode()) return Errno(EEXIST);
    if (walker.trailing_slash()) return Errno(ENOENT);
    if (parent.mount->IsReadOnly()) return Errno(EROFS);
    if (!(source.mount == parent.mount)) return Errno(EXDEV);
    TRY(LandlockCheckMove({.source_directory = source_place,
                           .target_directory = place,
                           .same_directory = source_directory == parent.dentry,
                           .moved = *target}));
    TRY(MayCreate(to, directory));
    if (&target->filesystem() != &parent.inode()->filesystem()) return Errno(EXDEV);
    if (target->IsDirectory()) return Errno(EPERM);
    InodeStat stat = TRY(target->GetStat());
    if (stat.nlink == 0 && !target->IsLinkable()) return Errno(ENOENT);
    TRY(parent.inode()->Link(walker.last_name(), *target));
    target->set_linkable(false);
    made = DentryCache::Get().AddLocked(directory, walker.last_name(), target);
  }
  NotifySelf(*target, IN_ATTRIB, source.dentry.get());
  NotifyDirectory(*parent.dentry, IN_CREATE, *made, walker.last_name());
  return OkResult();
}

}  // namespace sentry::vfs
