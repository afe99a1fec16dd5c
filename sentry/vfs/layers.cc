// SPDX-License-Identifier: Apache-2.0
#include "sentry/vfs/layers.h"

#include <linux/fs.h>
#include <sys/inotify.h>

#include "sentry/vfs/operations.h"

namespace sentry::vfs {

Result<RefPtr<Dentry>> LayerLookup(Dentry& directory, std::string_view name) {
  MutexLock lock(directory.mu());
  return DentryCache::Get().LookupLocked(directory, name);
}

bool LayerIsAncestor(const Dentry& ancestor, const Dentry& dentry) { return DentryCache::IsAncestor(ancestor, dentry); }

Result<RefPtr<Dentry>> LayerCreate(Dentry& directory, std::string_view name, const LayerNode& node) {
  RefPtr<Dentry> made;
  {
    MutexLock lock(directory.mu());
    if (TRY(DentryCache::Get().LookupLocked(directory, name))->inode()) return Errno(EEXIST);
    Inode& parent = *directory.inode();
    RefPtr<Inode> inode = TRY(node.type == S_IFREG   ? parent.Create(name, node.attributes)
                              : node.type == S_IFDIR ? parent.Mkdir(name, node.attributes)
                              : node.type == S_IFLNK ? parent.Symlink(name, node.target, node.attributes)
                                                     : parent.Mknod(name, node.type, node.device, node.attributes));
    made = DentryCache::Get().AddLocked(directory, name, std::move(inode));
  }
  NotifyDirectory(directory, IN_CREATE, *made, name);
  return made;
}

Result<RefPtr<Inode>> LayerCreateUnnamed(Dentry& directory, const CreateAttributes& attributes) {
  MutexLock lock(directory.mu());
  if (directory.IsUnhashed()) return Errno(ENOENT);
  return directory.inode()->CreateUnnamed(attributes);
}

Result<RefPtr<Dentry>> LayerLink(Dentry& directory, std::string_view name, Inode& inode) {
  RefPtr<Dentry> made;
  {
    MutexLock lock(directory.mu());
    if (TRY(DentryCache::Get().LookupLocked(directory, name))->inode()) return Errno(EEXIST);
    if (&inode.filesystem() != &directory.inode()->filesystem()) return Errno(EXDEV);
    TRY(directory.inode()->Link(name, inode));
    made = DentryCache::Get().AddLocked(directory, name, RefPtr<Inode>(&inode));
  }
  NotifyDirectory(directory, IN_CREATE, *made, name);
  return made;
}

Result<void> LayerRemove(Dentry& directory, std::string_view name) ABSL_NO_THREAD_SAFETY_ANALYSIS {
  DentryCache& cache = DentryCache::Get();
  RefPtr<Dentry> child;
  {
    MutexLock lock(directory.mu());
    child = TRY(cache.LookupLocked(directory, name));
    if (!child->inode()) return Errno(ENOENT);
    if (DentryCache::IsMountpoint(*child)) return Errno(EBUSY);
    if (child->inode()->IsDirectory()) {
      child->mu().LockNested();
      auto removed = directory.inode()->Rmdir(name, *child->inode());
      if (removed.ok()) {
        cache.ForgetChildrenLocked(*child);
        cache.RemoveLocked(directory, *child);
      }
      child->mu().Unlock();
      TRY(removed);
    } else {
      TRY(directory.inode()->Unlink(name, *child->inode()));
      cache.RemoveLocked(directory, *child);
    }
  }
  NotifyNameRemoved(*child->inode());
  NotifyDirectory(directory, IN_DELETE, *child, name);
  return OkResult();
}

Result<void> LayerRename(Dentry& from, std::string_view old_name, Dentry& to, std::string_view new_name,
                         unsigned flags) ABSL_NO_THREAD_SAFETY_ANALYSIS {
  DentryCache& cache = DentryCache::Get();
  // In the order of rename(2).
  Dentry *first = &from, *second = &to;
  if (first == second) {
    second = nullptr;
  } else if (DentryCache::IsAncestor(to, from) || (!DentryCache::IsAncestor(from, to) && &to < &from)) {
    std::swap(first, second);
  }
  first->mu().Lock();
  if (second) second->mu().LockNested();
  auto rename = [&]() ABSL_NO_THREAD_SAFETY_ANALYSIS -> Result<void> {
    RefPtr<Dentry> source = TRY(cache.LookupLocked(from, old_name));
    RefPtr<Dentry> target = TRY(cache.LookupLocked(to, new_name));
    const bool exchange = flags & RENAME_EXCHANGE;
    if (!source->inode() || (exchange && !target->inode())) return Errno(ENOENT);
    if (source->inode() == target->inode()) return OkResult();
    if (DentryCache::IsMountpoint(*source) || DentryCache::IsMountpoint(*target)) return Errno(EBUSY);
    if (DentryCache::IsAncestor(*source, to) || (target->inode() && DentryCache::IsAncestor(*target, from)))
      return Errno(EINVAL);
    Inode* replaced = target->inode().get();
    const bool removes_directory = replaced && replaced->IsDirectory() && !exchange;
    if (removes_directory) target->mu().LockNested();
    auto renamed = from.inode()->Rename(old_name, *source->inode(), *to.inode(), new_name, replaced, flags);
    if (renamed.ok()) {
      if (removes_directory) cache.ForgetChildrenLocked(*target);
      if (exchange) {
        cache.ExchangeLocked(from, *source, to, *target);
      } else {
        cache.MoveLocked(from, *source, to, new_name, target.get());
      }
    }
    if (removes_directory) target->mu().Unlock();
    return renamed;
  };
  auto result = rename();
  if (second) second->mu().Unlock();
  first->mu().Unlock();
  return result;
}

}  // namespace sentry::vfs
