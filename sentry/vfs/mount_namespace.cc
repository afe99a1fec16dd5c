// SPDX-License-Identifier: Apache-2.0
// mount(2), umount2(2) and pivot_root(2) on the table.
#include <sys/mount.h>

#include "sentry/vfs/dentry_cache.h"
#include "sentry/vfs/mount_table.h"
#include "sentry/vfs/path.h"
#include "sentry/vfs/special_files.h"

namespace sentry::vfs {
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
    if (!root_) return;  // an anonymous one, moved away
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
  Table::Dropped dropped;
  MutexLock lock(Table::mu);
  Path target = TRY(Table::CheckTarget(*this, on, mount->root_->inode()->IsDirectory()));
  // mount(2): the same filesystem is not stacked on itself.
  if (target.dentry == target.mount->root_ && target.mount->filesystem_ == mount->filesystem_ &&
      target.mount->root_ == mount->root_) {
    return Errno(EBUSY);
  }
  return Table::AttachTree(std::move(mount), target, this, &dropped);
}

Result<void> MountNamespace::Detach(const Path& mounted, int flags) {
  Table::Dropped dropped;
  {
    MutexLock lock(Table::mu);
    // Also what was put over "." meanwhile: pivot_root(2), NOTES.
    Path path = Table::Topmost(mounted);
    Mount& mount = *path.mount;
    if (!(path.dentry == mount.root_) || mount.namespace_ != this || mount.locked_) return Errno(EINVAL);
    if (!mount.parent_) return (flags & MNT_DETACH) ? Errno(EINVAL) : Errno(EBUSY);
    if ((flags & MNT_EXPIRE) && (flags & (MNT_FORCE | MNT_DETACH))) return Errno(EINVAL);
    if (!(flags & MNT_DETACH)) {
      // References of a mount at rest: the parent's, `path`, and the caller's path if it is the same mount.
      const int at_rest = 2 + (mounted.mount == path.mount ? 1 : 0);
      if (!mount.children_.empty() || mount.RefCountForDebug() > at_rest || Table::PropagatedBusy(mount))
        return Errno(EBUSY);
    }
    if ((flags & MNT_EXPIRE) && !std::exchange(mount.expired_, true)) return Errno(EAGAIN);
    // Lazily detached trees come apart: each mount lives as long as its users do.
    Table::DetachTree(mount, &dropped);
  }
  dropped = {};
  DentryCache::Get().Shrink();
  return OkResult();
}

Result<void> MountNamespace::Bind(const Path& source, const Path& on, bool recursive) {
  DentryCache::Get().Pin(CrossMounts(on).dentry);
  Table::Dropped dropped;
  MutexLock lock(Table::mu);
  if (source.mount->unbindable_) return Errno(EINVAL);
  // A detached tree may be bound as well.
  const MountNamespace* from = source.mount->namespace_;
  const bool is_namespace = IsNamespaceFile(source);
  if (from != this && !(from && from->anonymous_) && !is_namespace) return Errno(EINVAL);
  if (!recursive && Table::HasLockedChildren(*source.mount, *source.dentry)) return Errno(EINVAL);
  Path target = TRY(Table::CheckTarget(*this, on, source.inode()->IsDirectory()));
  if (source.dentry->IsUnhashed()) return Errno(ENOENT);
  if (Table::Index().size() + (recursive ? Table::Subtree(*source.mount).size() : 1) >=
      static_cast<size_t>(Table::kMaxMounts)) {
    return Errno(ENOSPC);
  }
  RefPtr<Mount> copy;
  if (is_namespace)
    copy = MakeRef<Mount>(RefPtr<Filesystem>(&source.inode()->filesystem()), source.dentry, 0, "nsfs");
  else if (recursive)
    copy = Table::CopyTree(*source.mount, source.dentry, true, Table::CopyAs::kPeer, nullptr);
  else
    copy = Table::Copy(*source.mount, source.dentry, Table::CopyAs::kPeer);
  copy->locked_ = false;
  auto attached = Table::AttachTree(copy, target, this, &dropped);
  if (!attached.ok()) Table::Discard(*copy, &dropped);
  dropped.mounts.push_back(std::move(copy));
  return attached;
}

Result<void> MountNamespace::Move(const Path& source, const Path& on) {
  DentryCache::Get().Pin(CrossMounts(on).dentry);
  Table::Dropped dropped;
  MutexLock lock(Table::mu);
  Mount& mount = *source.mount;
  MountNamespace* from = mount.namespace_;
  if (!(source.dentry == mount.root_) || !from) return Errno(EINVAL);
  if (mount.parent_) {
    if (from != this || mount.locked_ || mount.parent_->shared_) return Errno(EINVAL);
  } else if (!from->anonymous_) {
    return Errno(EINVAL);
  }
  Path target = Table::Topmost(on);
  if (target.mount->namespace_ != this) return Errno(EINVAL);
  if (target.dentry->IsUnhashed()) return Errno(ENOENT);
  if (target.inode()->IsDirectory() != mount.root_->inode()->IsDirectory()) return Errno(EINVAL);
  if (target.mount->shared_) {
    for (const Mount* each : Table::Subtree(mount)) {
      if (each->unbindable_) return Errno(EINVAL);
    }
  }
  if (Table::IsBelow(*target.mount, mount)) return Errno(ELOOP);
  const Path back{RefPtr<Mount>(mount.parent_), mount.mountpoint_};
  RefPtr<Mount> tree = Table::Remove(mount, &dropped);
  mount.expired_ = false;
  auto attached = Table::AttachTree(tree, target, this, &dropped);
  if (!attached.ok()) {
    if (back.mount) Table::Hash(std::move(tree), *back.mount, back.dentry);
    return attached;
  }
  if (!back.mount) dropped.mounts.push_back(std::exchange(from->root_, nullptr));
  return OkResult();
}

Result<void> MountNamespace::PivotRoot(const Path& root, const Path& new_root, const Path& put_old) {
  DentryCache::Get().Pin(CrossMounts(put_old).dentry);
  Table::Dropped dropped;
  MutexLock lock(Table::mu);
  if (!new_root.inode()->IsDirectory() || !put_old.inode()->IsDirectory()) return Errno(ENOTDIR);
  Path old_at = Table::Topmost(put_old);
  Mount& fresh = *new_root.mount;
  Mount& top = *root.mount;
  const auto shared = [](const Mount* mount) { return mount && mount->shared_; };
  if (shared(old_at.mount.get()) || shared(fresh.parent_) || shared(top.parent_)) return Errno(EINVAL);
  if (fresh.namespace_ != this || top.namespace_ != this || old_at.mount->namespace_ != this) return Errno(EINVAL);
  if (fresh.locked_) return Errno(EINVAL);
  if (new_root.dentry->IsUnhashed() || old_at.dentry->IsUnhashed()) return Errno(ENOENT);
  if (&fresh == &top || old_at.mount == root.mount) return Errno(EBUSY);
  if (!(root.dentry == top.root_) || !(new_root.dentry == fresh.root_) || !fresh.parent_) return Errno(EINVAL);
  if (!Table::IsPathBelow(old_at, new_root) || !Table::IsPathBelow(new_root, root)) return Errno(EINVAL);
  RefPtr<Mount> fresh_ref = Table::Remove(fresh, &dropped);
  std::swap(fresh.locked_, top.locked_);
  const Path above{RefPtr<Mount>(top.parent_), top.mountpoint_};
  RefPtr<Mount> old_root = Table::Remove(top, &dropped);
  if (above.mount) {
    Table::Hash(std::move(fresh_ref), *above.mount, above.dentry);
  } else {
    dropped.mounts.push_back(std::exchange(root_, std::move(fresh_ref)));
  }
  Table::Hash(std::move(old_root), *old_at.mount, old_at.dentry);
  Touch();
  DentryCache::Get().BumpTopology();
  return OkResult();
}

Result<RefPtr<MountNamespace>> MountNamespace::Clone(
    RefPtr<UserNamespace> owner, UserCharge charge,
    std::vector<std::pair<RefPtr<Mount>, RefPtr<Mount>>>* translate) const {
  const bool less_privileged = !owner->IsSame(*owner_);
  RefPtr<MountNamespace> clone(new MountNamespace(CloneTag(), std::move(owner)));
  clone->charge_ = std::move(charge);
  MutexLock lock(Table::mu);
  if (Table::Index().size() + Table::Subtree(*root_).size() >= static_cast<size_t>(Table::kMaxMounts))
    return Errno(ENOSPC);
  clone->root_ = Table::CopyTree(*root_, root_->root_, false,
                                 less_privileged ? Table::CopyAs::kSharedToSlave : Table::CopyAs::kPeer, translate);
  if (less_privileged) Table::LockTree(*clone->root_);
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
                    RefPtr<Mount>(mount->parent_), mount->shared_ ? mount->shared_->id : 0,
                    mount->master_ ? mount->master_->id : 0, Table::DominatingGroup(*mount, *this),
                    mount->unbindable_});
    if (list.back().propagate_from == list.back().master) list.back().propagate_from = 0;
    for (auto it = mount->children_.rbegin(); it != mount->children_.rend(); ++it) todo.push_back(it->get());
  }
  return list;
}

}  // namespace sentry::vfs
