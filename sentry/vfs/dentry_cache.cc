// SPDX-License-Identifier: Apache-2.0
#include "sentry/vfs/dentry_cache.h"

#include <algorithm>

#include "sentry/vfs/file_handles.h"
#include "sentry/vfs/inotify_watches.h"

namespace sentry::vfs {
namespace {
constexpr size_t kNameMax = 255;
constexpr size_t kEvictBatch = 1024;
constexpr int kPressureRounds = 16;
}  // namespace

DentryCache& DentryCache::Get() {
  static DentryCache& cache = *new DentryCache();
  return cache;
}

Result<RefPtr<Dentry>> DentryCache::Lookup(Dentry& parent, std::string_view name, bool cached_only) {
  Result<RefPtr<Dentry>> result = Errno(ENFILE);
  for (int round = 0;; ++round) {
    {
      MutexLock lock(parent.mu());
      result = LookupLocked(parent, name, cached_only);
    }
    // The gofer has one host descriptor for each directory that is known here: what nobody uses gives them back. Each
    // round reaches one level further up from the leaves.
    if (result.error_number() != ENFILE || round == kPressureRounds || size() == 0) break;
    EvictSome(size());
  }
  if (!result.ok()) return result;
  if (have_dead_.load(std::memory_order_relaxed) || size() > limit_.load(std::memory_order_relaxed)) Shrink();
  return result;
}

Result<RefPtr<Dentry>> DentryCache::LookupLocked(Dentry& parent, std::string_view name, bool cached_only) {
  if (name.size() > kNameMax) return Errno(ENAMETOOLONG);
  if (parent.IsUnhashed()) return Errno(ENOENT);
  Inode& directory = *parent.inode();
  const bool cacheable = MayInsert(parent);
  RefPtr<Dentry> stale;
  if (auto it = parent.children_.find(name); it != parent.children_.end()) {
    Dentry& child = *it->second;
    // In directories that don't cache, only names pinned by mounts (or in use) are in the map.
    bool usable =
        IsMountpoint(child) || ((cacheable || !child.HasOneRef()) && directory.Revalidate(name, child.inode_.get()));
    if (usable) {
      if (!child.referenced_.load(std::memory_order_relaxed)) child.referenced_.store(true, std::memory_order_relaxed);
      return it->second;
    }
    stale = it->second;
  }
  if (cached_only) return Errno(EAGAIN);
  auto found = directory.Lookup(name);
  if (!found.ok() && found.error() != Errno(ENOENT)) return found.error();
  RefPtr<Inode> inode = found.ok() ? std::move(*found) : RefPtr<Inode>();
  if (stale) {
    if (stale->inode_ == inode && cacheable) return stale;
    Extract(parent, name);
    if (!(stale->inode_ == inode)) stale->unhashed_.store(true, std::memory_order_release);
  }
  RefPtr<Dentry> child(new Dentry(std::move(inode), RefPtr<Dentry>(&parent), std::string(name)));
  if (cacheable) Insert(parent, child);
  return child;
}

RefPtr<Dentry> DentryCache::AddLocked(Dentry& parent, std::string_view name, RefPtr<Inode> inode) {
  Extract(parent, name);
  RefPtr<Dentry> child(new Dentry(std::move(inode), RefPtr<Dentry>(&parent), std::string(name)));
  if (MayInsert(parent)) Insert(parent, child);
  return child;
}

void DentryCache::RemoveLocked(Dentry& parent, Dentry& child) {
  std::string name = child.name();
  auto it = parent.children_.find(name);
  RefPtr<Dentry> removed;
  if (it != parent.children_.end() && it->second == &child) removed = Extract(parent, name);
  child.unhashed_.store(true, std::memory_order_release);
  if (MayInsert(parent) && !parent.IsUnhashed()) {
    Insert(parent, RefPtr<Dentry>(new Dentry(nullptr, RefPtr<Dentry>(&parent), std::move(name))));
  }
}

void DentryCache::MoveLocked(Dentry& old_parent, Dentry& child, Dentry& new_parent, std::string_view new_name,
                             Dentry* replaced) ABSL_NO_THREAD_SAFETY_ANALYSIS {
  RefPtr<Dentry> keep(&child);
  RefPtr<Dentry> dropped_parent;
  const std::string old_name = child.name();
  if (auto it = old_parent.children_.find(old_name); it != old_parent.children_.end() && it->second == &child) {
    Extract(old_parent, old_name);
  }
  RefPtr<Dentry> old_target = Extract(new_parent, new_name);
  if (replaced && replaced->inode_) replaced->unhashed_.store(true, std::memory_order_release);
  {
    MutexLock lock(child.name_mu_);
    dropped_parent = std::move(child.parent_);
    child.parent_ = RefPtr<Dentry>(&new_parent);
    child.name_ = std::string(new_name);
  }
  if (new_parent.inode()->MayCacheNames()) Insert(new_parent, keep);
  BumpTopology();
}

void DentryCache::ExchangeLocked(Dentry& parent_a, Dentry& a, Dentry& parent_b,
                                 Dentry& b) ABSL_NO_THREAD_SAFETY_ANALYSIS {
  RefPtr<Dentry> keep_a(&a), keep_b(&b), old_a, old_b;
  const std::string name_a = a.name(), name_b = b.name();
  Extract(parent_a, name_a);
  Extract(parent_b, name_b);
  {
    MutexLock lock(a.name_mu_);
    old_a = std::exchange(a.parent_, RefPtr<Dentry>(&parent_b));
    a.name_ = name_b;
  }
  {
    MutexLock lock(b.name_mu_);
    old_b = std::exchange(b.parent_, RefPtr<Dentry>(&parent_a));
    b.name_ = name_a;
  }
  if (parent_b.inode()->MayCacheNames()) Insert(parent_b, keep_a);
  if (parent_a.inode()->MayCacheNames()) Insert(parent_a, keep_b);
  BumpTopology();
}

void DentryCache::ForgetChildrenLocked(Dentry& directory) {
  auto children = std::move(directory.children_);
  directory.children_.clear();
  for (auto& [name, child] : children) UnlinkLru(*child);
  count_.fetch_sub(children.size(), std::memory_order_relaxed);
}

RefPtr<Dentry> DentryCache::NewUnnamed(RefPtr<Dentry> parent, std::string name, RefPtr<Inode> inode) {
  RefPtr<Dentry> dentry(new Dentry(std::move(inode), std::move(parent), std::move(name)));
  dentry->unhashed_.store(true, std::memory_order_release);
  return dentry;
}

void DentryCache::Pin(const RefPtr<Dentry>& dentry) {
  for (RefPtr<Dentry> child = dentry, parent; (parent = child->parent()); child = parent) {
    if (child->IsUnhashed()) return;
    MutexLock lock(parent->mu());
    std::string name = child->name();
    auto it = parent->children_.find(name);
    if (it != parent->children_.end() && it->second == child) continue;
    Extract(*parent, name);
    Insert(*parent, child);
  }
}

bool DentryCache::IsAncestor(const Dentry& ancestor, const Dentry& dentry) {
  if (&ancestor == &dentry) return true;
  for (RefPtr<Dentry> up = dentry.parent(); up; up = up->parent()) {
    if (up == &ancestor) return true;
  }
  return false;
}

bool DentryCache::MayInsert(const Dentry& parent) {
  if (!parent.inode()->MayCacheNames()) return false;
  if (!parent.parent()) return true;
  MutexLock lock(lru_mu_);
  return parent.lru_previous_ || parent.lru_next_ || lru_head_ == &parent;
}

void DentryCache::Insert(Dentry& parent, const RefPtr<Dentry>& child) {
  std::string name = child->name();
  parent.children_.insert_or_assign(std::move(name), child);
  count_.fetch_add(1, std::memory_order_relaxed);
  LinkLru(*child);
}

RefPtr<Dentry> DentryCache::Extract(Dentry& parent, std::string_view name) {
  auto it = parent.children_.find(name);
  if (it == parent.children_.end()) return nullptr;
  RefPtr<Dentry> child = std::move(it->second);
  parent.children_.erase(it);
  UnlinkLru(*child);
  count_.fetch_sub(1, std::memory_order_relaxed);
  return child;
}

void DentryCache::LinkLru(Dentry& dentry) {
  MutexLock lock(lru_mu_);
  dentry.lru_previous_ = lru_tail_;
  dentry.lru_next_ = nullptr;
  (lru_tail_ ? lru_tail_->lru_next_ : lru_head_) = &dentry;
  lru_tail_ = &dentry;
}

void DentryCache::UnlinkLru(Dentry& dentry) {
  MutexLock lock(lru_mu_);
  UnlinkLruLocked(dentry);
}

void DentryCache::UnlinkLruLocked(Dentry& dentry) {
  (dentry.lru_previous_ ? dentry.lru_previous_->lru_next_ : lru_head_) = dentry.lru_next_;
  (dentry.lru_next_ ? dentry.lru_next_->lru_previous_ : lru_tail_) = dentry.lru_previous_;
  dentry.lru_previous_ = dentry.lru_next_ = nullptr;
}

void DentryCache::Shrink() {
  if (have_dead_.load(std::memory_order_acquire)) FreeDeadTrees();
  const size_t limit = limit_.load(std::memory_order_relaxed), now = size();
  if (now > limit) EvictSome(std::min(now - limit + limit / 64, kEvictBatch));
}

void DentryCache::EvictSome(size_t wanted) {
  std::vector<RefPtr<Dentry>> victims;
  victims.reserve(wanted);
  {
    MutexLock lock(lru_mu_);
    // Two turns at most: the first may only clear the second chances.
    for (size_t scanned = 0; lru_head_ && scanned < 4 * wanted && victims.size() < wanted; ++scanned) {
      Dentry& dentry = *lru_head_;
      UnlinkLruLocked(dentry);
      dentry.lru_previous_ = lru_tail_;
      (lru_tail_ ? lru_tail_->lru_next_ : lru_head_) = &dentry;
      lru_tail_ = &dentry;
      if (dentry.referenced_.exchange(false, std::memory_order_relaxed)) continue;
      // Linked means that its parent's map holds a reference, so it lives.
      if (dentry.HasOneRef()) victims.push_back(RefPtr<Dentry>(&dentry));
    }
  }
  for (RefPtr<Dentry>& victim : victims) {
    RefPtr<Dentry> parent = victim->parent();
    if (!parent) continue;
    RefPtr<Dentry> extracted;
    MutexLock lock(parent->mu());
    auto it = parent->children_.find(victim->name());
    // Only the map and `victims` refer to it, and new references come through the map, whose lock is held.
    if (it == parent->children_.end() || !(it->second == victim) || victim->RefCountForDebug() != 2) continue;
    extracted = Extract(*parent, it->first);
  }
}

void DentryCache::QueueDeadTree(RefPtr<Dentry> root) {
  MutexLock lock(dead_mu_);
  dead_.push_back(std::move(root));
  have_dead_.store(true, std::memory_order_release);
}

void DentryCache::FreeDeadTrees() {
  std::vector<RefPtr<Dentry>> dead;
  {
    MutexLock lock(dead_mu_);
    dead.swap(dead_);
    have_dead_.store(false, std::memory_order_release);
  }
  for (RefPtr<Dentry>& root : dead) {
    Filesystem& filesystem = root->inode()->filesystem();
    RefPtr<Filesystem> keep(&filesystem);
    if (filesystem.IsMounted()) continue;
    FileHandles::Get().OnLastUnmount(filesystem);
    InotifyWatches::NotifyUnmount(filesystem);
    FreeTree(std::move(root));
    filesystem.OnLastUnmount();
  }
}

void DentryCache::FreeTree(RefPtr<Dentry> root) {
  std::vector<RefPtr<Dentry>> todo;
  todo.push_back(std::move(root));
  while (!todo.empty()) {
    RefPtr<Dentry> dentry = std::move(todo.back());
    todo.pop_back();
    MutexLock lock(dentry->mu());
    for (auto& [name, child] : dentry->children_) todo.push_back(child);
    ForgetChildrenLocked(*dentry);
  }
}

}  // namespace sentry::vfs
