// SPDX-License-Identifier: Apache-2.0
// Shared subtrees (mount_namespaces(7)): peer groups, and what mounting and unmounting does elsewhere. Nothing here
// recurses: guests choose how long chains of slaves are.
#include <sys/mount.h>

#include <algorithm>
#include <set>

#include "sentry/vfs/dentry_cache.h"
#include "sentry/vfs/mount_table.h"

namespace sentry::vfs {
namespace {

int NextPeerGroup() {
  static std::atomic<int> next{1};
  return next.fetch_add(1, std::memory_order_relaxed);
}

}  // namespace

void MountNamespace::Table::JoinPeers(Mount& mount, PeerGroup* group) {
  if (!group) return;
  mount.shared_ = group;
  group->peers.push_back(&mount);
}

void MountNamespace::Table::SetMaster(Mount& mount, PeerGroup* group) {
  if (mount.master_) std::erase(mount.master_->slaves, &mount);
  mount.master_ = group;
  if (group) group->slaves.push_back(&mount);
}

void MountNamespace::Table::MakeShared(Mount& mount) {
  if (!mount.shared_) JoinPeers(mount, new PeerGroup{NextPeerGroup(), {}, {}});
  mount.unbindable_ = false;
}

void MountNamespace::Table::MakeSlave(Mount& mount) {
  PeerGroup* group = std::exchange(mount.shared_, nullptr);
  if (!group) return;
  std::erase(group->peers, &mount);
  if (!group->peers.empty()) {
    SetMaster(mount, group);
    return;
  }
  // The last one: its slaves go to its own master, or become private.
  for (Mount* slave : std::vector<Mount*>(group->slaves)) SetMaster(*slave, mount.master_);
  delete group;
}

void MountNamespace::Table::MakePrivate(Mount& mount) {
  MakeSlave(mount);
  SetMaster(mount, nullptr);
}

void MountNamespace::Table::ChangeType(Mount& mount, int ms_type) {
  if (ms_type == MS_SHARED) return MakeShared(mount);
  if (ms_type == MS_SLAVE) return MakeSlave(mount);
  MakePrivate(mount);
  mount.unbindable_ = ms_type == MS_UNBINDABLE;
}

Result<void> MountNamespace::Table::AttachTree(RefPtr<Mount> tree, const Path& target, MountNamespace* ns,
                                               Dropped* dropped) {
  Mount& dest = *target.mount;
  const Dentry& at = *target.dentry;
  struct Placed {
    RefPtr<Mount> copy;
    Mount* parent;
  };
  std::vector<Placed> placed;
  bool full = Index().size() >= static_cast<size_t>(kMaxMounts);
  if (dest.shared_ && !full) {
    for (Mount* mount : Subtree(*tree)) MakeShared(*mount);
    auto receives = [&](const Mount* m) { return m->namespace_ && DentryCache::IsAncestor(*m->root_, at); };
    auto place = [&](Mount& source, CopyAs as, Mount* parent) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu) -> Mount& {
      placed.push_back({CopyTree(source, source.root_, false, as, nullptr), parent});
      full |= Index().size() + placed.size() >= static_cast<size_t>(kMaxMounts);
      return *placed.back().copy;
    };
    for (Mount* peer : dest.shared_->peers) {
      if (peer != &dest && !full && receives(peer)) place(*tree, CopyAs::kPeer, peer);
    }
    std::set<PeerGroup*> visited{dest.shared_};
    std::vector<std::pair<PeerGroup*, Mount*>> todo{{dest.shared_, tree.get()}};
    for (size_t i = 0; i < todo.size() && !full; ++i) {
      const auto [group, source] = todo[i];
      for (Mount* slave : group->slaves) {
        if (full) break;
        if (!slave->shared_) {
          if (receives(slave)) place(*source, CopyAs::kSlave, slave);
          continue;
        }
        if (!visited.insert(slave->shared_).second) continue;
        // Slave and shared: the first of its group gets a slave that is shared, the others peers of that.
        Mount* origin = nullptr;
        for (Mount* peer : slave->shared_->peers) {
          if (full || !receives(peer)) continue;
          Mount& copy = place(origin ? *origin : *source, origin ? CopyAs::kPeer : CopyAs::kSlave, peer);
          if (origin) continue;
          origin = &copy;
          for (Mount* mount : Subtree(copy)) MakeShared(*mount);
        }
        todo.emplace_back(slave->shared_, origin ? origin : source);
      }
    }
  }
  if (full) {
    for (Placed& each : placed) {
      Discard(*each.copy, dropped);
      dropped->mounts.push_back(std::move(each.copy));
    }
    return Errno(ENOSPC);
  }
  Mount& top = *tree;
  Hash(std::move(tree), dest, target.dentry);
  SetNamespace(top, ns);
  ns->Touch();
  for (Placed& each : placed) {
    // What is there already comes on top.
    Mount* above = Find(each.parent, &at);
    RefPtr<Mount> moved = above ? Remove(*above, dropped) : nullptr;
    Mount& copy = *each.copy;
    Hash(std::move(each.copy), *each.parent, target.dentry);
    SetNamespace(copy, each.parent->namespace_);
    if (!each.parent->namespace_->owner_->IsSame(*ns->owner_)) LockTree(copy);
    each.parent->namespace_->Touch();
    if (moved) Hash(std::move(moved), copy, copy.root_);
  }
  DentryCache::Get().BumpTopology();
  return OkResult();
}

std::vector<Mount*> MountNamespace::Table::Receivers(const Mount& mount) {
  std::vector<Mount*> all;
  if (!mount.shared_) return all;
  std::set<const PeerGroup*> visited{mount.shared_};
  std::vector<const PeerGroup*> todo{mount.shared_};
  for (size_t i = 0; i < todo.size(); ++i) {
    for (Mount* peer : todo[i]->peers) {
      if (peer != &mount) all.push_back(peer);
    }
    for (Mount* slave : todo[i]->slaves) {
      if (!slave->shared_) {
        all.push_back(slave);
      } else if (visited.insert(slave->shared_).second) {
        todo.push_back(slave->shared_);
      }
    }
  }
  return all;
}

std::vector<Mount*> MountNamespace::Table::WithPropagated(Mount& mount) {
  std::vector<Mount*> tree = Subtree(mount), order;
  std::set<const Mount*> ending(tree.begin(), tree.end());
  for (auto it = tree.rbegin(); it != tree.rend(); ++it) {
    Mount* each = *it;
    order.push_back(each);
    if (!each->parent_) continue;
    for (Mount* receiver : Receivers(*each->parent_)) {
      Mount* child = Find(receiver, each->mountpoint_.get());
      if (!child || child->locked_ || ending.contains(child)) continue;
      const bool free = std::all_of(child->children_.begin(), child->children_.end(), [&](const RefPtr<Mount>& c) {
        return ending.contains(c.get()) || c->mountpoint_ == child->root_;
      });
      if (!free) continue;
      ending.insert(child);
      order.push_back(child);
    }
  }
  return order;
}

void MountNamespace::Table::DetachTree(Mount& mount, Dropped* dropped) {
  for (Mount* each : WithPropagated(mount)) {
    if (each->namespace_) each->namespace_->Touch();
    Mount* parent = each->parent_;
    RefPtr<Dentry> at = each->mountpoint_;
    // What sits on its very root was put over it elsewhere, and stays.
    RefPtr<Mount> above;
    if (Mount* top = Find(each, each->root_.get()); top && parent) above = Remove(*top, dropped);
    each->namespace_ = nullptr;
    Unhash(*each, dropped);
    if (above) Hash(std::move(above), *parent, std::move(at));
  }
  DentryCache::Get().BumpTopology();
}

bool MountNamespace::Table::PropagatedBusy(const Mount& mount) {
  if (!mount.parent_) return false;
  for (Mount* receiver : Receivers(*mount.parent_)) {
    const Mount* child = Find(receiver, mount.mountpoint_.get());
    if (child && child->children_.empty() && child->RefCountForDebug() > 1) return true;
  }
  return false;
}

int MountNamespace::Table::DominatingGroup(const Mount& mount, const MountNamespace& ns) {
  size_t steps = 0;
  for (const PeerGroup* group = mount.master_; group && steps < 1000; ++steps) {
    for (const Mount* peer : group->peers) {
      if (peer->namespace_ == &ns) return group->id;
    }
    group = group->peers.empty() ? nullptr : group->peers.front()->master_;
  }
  return 0;
}

void MountNamespace::Table::LockTree(Mount& tree) {
  constexpr std::pair<uint32_t, uint32_t> kLocks[] = {{kMountReadOnly, kMountLockReadOnly},
                                                      {kMountNoSuid, kMountLockNoSuid},
                                                      {kMountNoDev, kMountLockNoDev},
                                                      {kMountNoExec, kMountLockNoExec}};
  for (Mount* mount : Subtree(tree)) {
    uint32_t flags = mount->flags() | kMountLockAtime;
    for (const auto& [flag, lock] : kLocks) {
      if (flags & flag) flags |= lock;
    }
    mount->set_flags(flags);
    if (mount != &tree) mount->locked_ = true;
  }
}

bool MountNamespace::Table::HasLockedChildren(const Mount& mount, const Dentry& below) {
  return std::any_of(mount.children_.begin(), mount.children_.end(), [&](const RefPtr<Mount>& child) {
    return child->locked_ && DentryCache::IsAncestor(below, *child->mountpoint_);
  });
}

void MountNamespace::Touch() {
  changes_.fetch_add(1, std::memory_order_acq_rel);
  change_queue_.Notify(EPOLLPRI | EPOLLERR);
}

}  // namespace sentry::vfs
