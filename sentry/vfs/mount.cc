// SPDX-License-Identifier: Apache-2.0
// Mount, and the table's primitives.
#include "sentry/vfs/dentry_cache.h"
#include "sentry/vfs/mount_table.h"

namespace sentry::vfs {
namespace {

int NextMountId() {
  static std::atomic<int> next{20};
  return next.fetch_add(1, std::memory_order_relaxed);
}

}  // namespace

Mount::Mount(RefPtr<Filesystem> filesystem, RefPtr<Dentry> root, uint32_t flags, std::string source)
    : filesystem_(std::move(filesystem)),
      root_(std::move(root)),
      flags_(flags),
      source_(std::move(source)),
      id_(NextMountId()) {
  filesystem_->mounts_.fetch_add(1, std::memory_order_relaxed);
}

Mount::~Mount() {
  if (filesystem_->mounts_.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  RefPtr<Dentry> top = root_;
  while (RefPtr<Dentry> up = top->parent()) top = std::move(up);
  DentryCache::Get().QueueDeadTree(std::move(top));
}

Result<void> Mount::GetWrite() {
  writers_.fetch_add(1, std::memory_order_seq_cst);
  if (!IsReadOnly()) return OkResult();
  PutWrite();
  return Errno(EROFS);
}

Result<void> Mount::CheckLockedFlags(uint32_t flags) const {
  const uint32_t old = this->flags();
  constexpr std::pair<uint32_t, uint32_t> kLocks[] = {{kMountLockReadOnly, kMountReadOnly},
                                                      {kMountLockNoSuid, kMountNoSuid},
                                                      {kMountLockNoDev, kMountNoDev},
                                                      {kMountLockNoExec, kMountNoExec}};
  for (const auto& [lock, flag] : kLocks) {
    if ((old & lock) && !(flags & flag)) return Errno(EPERM);
  }
  if ((old & kMountLockAtime) && ((old ^ flags) & kMountAtimeFlags)) return Errno(EPERM);
  return OkResult();
}

Result<void> Mount::Remount(uint32_t flags) {
  TRY(CheckLockedFlags(flags));
  const uint32_t old = this->flags();
  flags |= old & kMountLockFlags;
  if ((flags & kMountReadOnly) && !(old & kMountReadOnly)) {
    flags_.fetch_or(kMountReadOnly, std::memory_order_seq_cst);
    if (writers_.load(std::memory_order_seq_cst) > 0) {
      set_flags(old);
      return Errno(EBUSY);
    }
  }
  set_flags(flags);
  return OkResult();
}

Mutex MountNamespace::Table::mu{LockRank::kMountTable};

std::map<std::pair<const Mount*, const Dentry*>, Mount*>& MountNamespace::Table::Index() {
  static auto& index = *new std::map<std::pair<const Mount*, const Dentry*>, Mount*>();
  return index;
}

void MountNamespace::Table::Hash(RefPtr<Mount> mount, Mount& parent, RefPtr<Dentry> mountpoint) {
  Index()[{&parent, mountpoint.get()}] = mount.get();
  mountpoint->mounted_.fetch_add(1, std::memory_order_acq_rel);
  mount->parent_ = &parent;
  mount->mountpoint_ = std::move(mountpoint);
  parent.children_.push_back(std::move(mount));
}

RefPtr<Mount> MountNamespace::Table::Remove(Mount& mount, Dropped* dropped) {
  RefPtr<Mount> reference(&mount);
  Mount* parent = std::exchange(mount.parent_, nullptr);
  if (!parent) return reference;
  Index().erase({parent, mount.mountpoint_.get()});
  mount.mountpoint_->mounted_.fetch_sub(1, std::memory_order_acq_rel);
  dropped->dentries.push_back(std::move(mount.mountpoint_));
  // From the back: trees are taken down in reverse, so that this is one step for each.
  for (auto it = parent->children_.rbegin(); it != parent->children_.rend(); ++it) {
    if (!(*it == &mount)) continue;
    parent->children_.erase(std::next(it).base());
    break;
  }
  return reference;
}

void MountNamespace::Table::Unhash(Mount& mount, Dropped* dropped) {
  MakePrivate(mount);
  dropped->mounts.push_back(Remove(mount, dropped));
}

void MountNamespace::Table::Discard(Mount& tree, Dropped* dropped) {
  std::vector<Mount*> all = Subtree(tree);
  for (auto it = all.rbegin(); it != all.rend(); ++it) Unhash(**it, dropped);
}

Mount* MountNamespace::Table::Find(const Mount* parent, const Dentry* dentry) {
  auto it = Index().find({parent, dentry});
  return it == Index().end() ? nullptr : it->second;
}

std::vector<Mount*> MountNamespace::Table::Subtree(Mount& mount) {
  std::vector<Mount*> all{&mount};
  for (size_t i = 0; i < all.size(); ++i) {
    for (const RefPtr<Mount>& child : all[i]->children_) all.push_back(child.get());
  }
  return all;
}

Path MountNamespace::Table::Topmost(Path path) {
  while (path.dentry->mounted_.load(std::memory_order_acquire) > 0) {
    auto it = Index().find({path.mount.get(), path.dentry.get()});
    if (it == Index().end()) break;
    path = {RefPtr<Mount>(it->second), it->second->root_};
  }
  return path;
}

bool MountNamespace::Table::IsBelow(const Mount& mount, const Mount& ancestor) {
  for (const Mount* up = &mount; up; up = up->parent_) {
    if (up == &ancestor) return true;
  }
  return false;
}

bool MountNamespace::Table::IsPathBelow(Path path, const Path& ancestor) {
  while (!(path.mount == ancestor.mount)) {
    if (!path.mount->parent_) return false;
    path = {RefPtr<Mount>(path.mount->parent_), path.mount->mountpoint_};
  }
  return DentryCache::IsAncestor(*ancestor.dentry, *path.dentry);
}

RefPtr<Mount> MountNamespace::Table::Copy(const Mount& mount, RefPtr<Dentry> root, CopyAs as) {
  auto copy = MakeRef<Mount>(mount.filesystem_, std::move(root), mount.flags(), mount.source_);
  copy->locked_ = mount.locked_;
  if (mount.shared_ && as != CopyAs::kPeer) {
    SetMaster(*copy, mount.shared_);
    return copy;
  }
  if (as != CopyAs::kSlave) {
    JoinPeers(*copy, mount.shared_);
    copy->unbindable_ = mount.unbindable_;
  }
  SetMaster(*copy, mount.master_);
  return copy;
}

RefPtr<Mount> MountNamespace::Table::CopyTree(Mount& mount, const RefPtr<Dentry>& root, bool skip_unbindable, CopyAs as,
                                              std::vector<std::pair<RefPtr<Mount>, RefPtr<Mount>>>* pairs) {
  RefPtr<Mount> top = Copy(mount, root, as);
  top->locked_ = false;
  // Breadth first: guests choose the depth.
  std::vector<std::pair<Mount*, Mount*>> todo{{&mount, top.get()}};
  if (pairs) pairs->push_back({RefPtr<Mount>(&mount), top});
  for (size_t i = 0; i < todo.size(); ++i) {
    auto [from, to] = todo[i];
    for (const RefPtr<Mount>& child : from->children_) {
      if (skip_unbindable && child->unbindable_) continue;
      if (!DentryCache::IsAncestor(*to->root_, *child->mountpoint_)) continue;
      RefPtr<Mount> copy = Copy(*child, child->root_, as);
      Hash(copy, *to, child->mountpoint_);
      if (pairs) pairs->push_back({child, copy});
      todo.push_back({child.get(), copy.get()});
    }
  }
  return top;
}

void MountNamespace::Table::SetNamespace(Mount& tree, MountNamespace* ns) {
  for (Mount* mount : Subtree(tree)) mount->namespace_ = ns;
}

Result<Path> MountNamespace::Table::CheckTarget(const MountNamespace& ns, const Path& on, bool is_directory) {
  Path target = Topmost(on);
  if (target.mount->namespace_ != &ns) return Errno(EINVAL);
  if (target.dentry->IsUnhashed()) return Errno(ENOENT);
  if (target.inode()->IsDirectory() != is_directory) return Errno(ENOTDIR);
  return target;
}

}  // namespace sentry::vfs
