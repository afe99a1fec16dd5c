// SPDX-License-Identifier: Apache-2.0
// mount(2), umount2(2) and pivot_root(2) on the table.
#include <sys/mount.h>

#include "sentry/vfs/dentry_cache.h"
#include "sentry/vfs/mount_table.h"
#include "sentry/vfs/path.h"

namespace sentry::vfs {
namespace {

uint64_t NextNamespaceInode() {
  static std::atomic<uint64_t> next{0xf0000001};
  return next.fetch_add(1, std::memory_order_relaxed);
}

}  // namespace

MountNamespace::MountNamespace(CloneTag, RefPtr<UserNamespace> owner)
    : owner_(std::move(owner)), inode_number_(NextNamespaceInode()) {}

MountNamespace::MountNamespace(RefPtr<Mount> root, RefPtr<UserNamespace> owner)
    : root_(std::move(root)), owner_(std::move(owner)), inode_number_(NextNamespaceInode()) {
  MutexLock lock(Table::mu);
  Table::SetNamespace(*root_, this);
}

MountNamespace::~MountNamespace() {
  Table::Dropped dropped;
  {
    MutexLock lock(Table::mu);
    std::vector<Mount*> all = Table::Subtree(*root_);
    for (auto it = all.rbegin(); it != all.rend(); ++it) {
      (*it)->namespace_ = nullptr;
      Table::Unhash(**it, &dropped);
    }
  }
  root_.Reset();
}

RefPtr<Mount> MountNamespace::root() const {
  MutexLock lock(Table::mu);
  return root_;
}

Path MountNamespace::CrossMounts(Path path) const {
  if (path.dentry->mounted_.load(std::memory_order_acquire) == 0) return path;
  MutexLock lock(Table::mu);
  return Table::Topmost(std::move(path));
}

bool MountNamespace::CoveredBy(const Mount& mount, Path* covered) {
  MutexLock lock(Table::mu);
  if (!mount.parent_) return false;
  *covered = {RefPtr<Mount>(mount.parent_), mount.mountpoint_};
  return true;
}

bool MountNamespace::Contains(const Mount& mount) const {
  MutexLock lock(Table::mu);
  return mount.namespace_ == this;
}

Result<void> MountNamespace::Attach(RefPtr<Mount> mount, const Path& on) {
  DentryCache::Get().Pin(CrossMounts(on).dentry);
  MutexLock lock(Table::mu);
  Path target = TRY(Table::CheckTarget(*this, on, mount->root_->inode()->IsDirectory()));
  // mount(2): the same filesystem is not stacked on itself.
  if (target.dentry == target.mount->root_ && target.mount->filesystem_ == mount->filesystem_ &&
      target.mount->root_ == mount->root_) {
    return Errno(EBUSY);
  }
  if (Table::Index().size() >= static_cast<size_t>(Table::kMaxMounts)) return Errno(ENOSPC);
  Mount& tree = *mount;
  Table::Hash(std::move(mount), *target.mount, target.dentry);
  Table::SetNamespace(tree, this);
  DentryCache::Get().BumpTopology();
  return OkResult();
}

Result<void> MountNamespace::Detach(const Path& mounted, int flags) {
  Table::Dropped dropped;
  {
    MutexLock lock(Table::mu);
    Path path = Table::Topmost(mounted);
    Mount& mount = *path.mount;
    if (!(path.dentry == mount.root_) || mount.namespace_ != this) return Errno(EINVAL);
    if (!mount.parent_) return (flags & MNT_DETACH) ? Errno(EINVAL) : Errno(EBUSY);
    if (flags & MNT_EXPIRE) {
      if (flags & (MNT_FORCE | MNT_DETACH)) return Errno(EINVAL);
    }
    if (!(flags & MNT_DETACH)) {
      // References of a mount at rest: the parent's, `path`, and the caller's path if it is the same mount.
      const int at_rest = 2 + (mounted.mount == path.mount ? 1 : 0);
      if (!mount.children_.empty() || mount.RefCountForDebug() > at_rest) return Errno(EBUSY);
    }
    if ((flags & MNT_EXPIRE) && !std::exchange(mount.expired_, true)) return Errno(EAGAIN);
    // Lazily detached trees come apart: each mount lives as long as its users do.
    std::vector<Mount*> all = Table::Subtree(mount);
    for (auto it = all.rbegin(); it != all.rend(); ++it) {
      (*it)->namespace_ = nullptr;
      Table::Unhash(**it, &dropped);
    }
    DentryCache::Get().BumpTopology();
  }
  dropped = {};
  DentryCache::Get().Shrink();
  return OkResult();
}

Result<void> MountNamespace::Bind(const Path& source, const Path& on, bool recursive) {
  DentryCache::Get().Pin(CrossMounts(on).dentry);
  RefPtr<Mount> copy;  // released after the lock if the binding fails
  Table::Dropped dropped;
  MutexLock lock(Table::mu);
  if (source.mount->namespace_ != this || source.mount->unbindable_) return Errno(EINVAL);
  Path target = TRY(Table::CheckTarget(*this, on, source.inode()->IsDirectory()));
  if (source.dentry->IsUnhashed()) return Errno(ENOENT);
  if (Table::Index().size() + (recursive ? Table::Subtree(*source.mount).size() : 1) >=
      static_cast<size_t>(Table::kMaxMounts)) {
    return Errno(ENOSPC);
  }
  copy = recursive ? Table::CopyTree(*source.mount, source.dentry, true, nullptr)
                   : Table::Copy(*source.mount, source.dentry);
  Table::Hash(copy, *target.mount, target.dentry);
  Table::SetNamespace(*copy, this);
  DentryCache::Get().BumpTopology();
  return OkResult();
}

Result<void> MountNamespace::Move(const Path& source, const Path& on) {
  DentryCache::Get().Pin(CrossMounts(on).dentry);
  Table::Dropped dropped;
  MutexLock lock(Table::mu);
  Mount& mount = *source.mount;
  if (!(source.dentry == mount.root_) || mount.namespace_ != this || !mount.parent_) return Errno(EINVAL);
  if (mount.parent_->peer_group_ != 0) return Errno(EINVAL);
  Path target = Table::Topmost(on);
  if (target.mount->namespace_ != this) return Errno(EINVAL);
  if (target.dentry->IsUnhashed()) return Errno(ENOENT);
  if (target.inode()->IsDirectory() != mount.root_->inode()->IsDirectory()) return Errno(EINVAL);
  if (Table::IsBelow(*target.mount, mount)) return Errno(ELOOP);
  Table::Unhash(mount, &dropped);
  Table::Hash(source.mount, *target.mount, target.dentry);
  DentryCache::Get().BumpTopology();
  return OkResult();
}

Result<void> MountNamespace::PivotRoot(const Path& new_root, const Path& put_old) {
  DentryCache::Get().Pin(CrossMounts(put_old).dentry);
  Table::Dropped dropped;
  MutexLock lock(Table::mu);
  if (!new_root.inode()->IsDirectory() || !put_old.inode()->IsDirectory()) return Errno(ENOTDIR);
  Path old_at = Table::Topmost(put_old);
  Mount& fresh = *new_root.mount;
  if (fresh.namespace_ != this || old_at.mount->namespace_ != this) return Errno(EINVAL);
  if (new_root.dentry->IsUnhashed() || old_at.dentry->IsUnhashed()) return Errno(ENOENT);
  if (new_root.mount == root_ || old_at.mount == root_) return Errno(EBUSY);
  if (!(new_root.dentry == fresh.root_) || !fresh.parent_) return Errno(EINVAL);
  if (fresh.parent_->peer_group_ != 0 || root_->peer_group_ != 0) return Errno(EINVAL);
  if (!Table::IsPathBelow(old_at, new_root)) return Errno(EINVAL);
  RefPtr<Mount> old_root = root_;
  RefPtr<Mount> fresh_ref = new_root.mount;
  Table::Unhash(fresh, &dropped);
  root_ = fresh_ref;
  Table::Hash(old_root, *old_at.mount, old_at.dentry);
  dropped.mounts.push_back(std::move(old_root));
  DentryCache::Get().BumpTopology();
  return OkResult();
}

Result<RefPtr<MountNamespace>> MountNamespace::Clone(
    RefPtr<UserNamespace> owner, std::vector<std::pair<RefPtr<Mount>, RefPtr<Mount>>>* translate) const {
  RefPtr<MountNamespace> clone(new MountNamespace(CloneTag(), std::move(owner)));
  MutexLock lock(Table::mu);
  clone->root_ = Table::CopyTree(*root_, root_->root_, false, translate);
  Table::SetNamespace(*clone->root_, clone.get());
  return clone;
}

std::vector<MountNamespace::Info> MountNamespace::List() const {
  MutexLock lock(Table::mu);
  std::vector<Info> list;
  // Depth first, as mountinfo shows a tree.
  std::vector<Mount*> todo{root_.get()};
  while (!todo.empty()) {
    Mount* mount = todo.back();
    todo.pop_back();
    list.push_back({RefPtr<Mount>(mount), mount->parent_ ? mount->parent_->id_ : mount->id_, mount->mountpoint_,
                    RefPtr<Mount>(mount->parent_), mount->peer_group_});
    for (auto it = mount->children_.rbegin(); it != mount->children_.rend(); ++it) todo.push_back(it->get());
  }
  return list;
}

}  // namespace sentry::vfs
