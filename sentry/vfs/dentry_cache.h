// SPDX-License-Identifier: Apache-2.0
// DentryCache: the only place that changes names in the tree of dentries. Positive and negative names stay cached in
// their directory's map until the shrinker (second-chance clock, 100,000 names by default) drops the unused ones.
// Private to vfs/. Thread-safe; functions named ...Locked need the directory's mutex.
#ifndef SENTRY_VFS_DENTRY_CACHE_H_
#define SENTRY_VFS_DENTRY_CACHE_H_

#include <string>
#include <string_view>
#include <vector>

#include "sentry/vfs/path.h"

namespace sentry::vfs {

class DentryCache {
 public:
  static constexpr size_t kDefaultLimit = 100'000;
  static DentryCache& Get();

  // The child of that name; its inode is null when there is none. ENAMETOOLONG, or the filesystem's error; ENOENT in a
  // removed directory. With `cached_only`, EAGAIN when the filesystem would have to be asked.
  Result<RefPtr<Dentry>> Lookup(Dentry& parent, std::string_view name, bool cached_only = false);
  Result<RefPtr<Dentry>> LookupLocked(Dentry& parent, std::string_view name, bool cached_only = false)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(parent.mu());

  // A new name, replacing a cached miss.
  RefPtr<Dentry> AddLocked(Dentry& parent, std::string_view name, RefPtr<Inode> inode)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(parent.mu());
  // The name is gone (unlink, rmdir): leaves a cached miss.
  void RemoveLocked(Dentry& parent, Dentry& child) ABSL_EXCLUSIVE_LOCKS_REQUIRED(parent.mu());
  // `child` becomes new_parent/new_name; `replaced`, if positive, is unhashed. Both directories locked.
  void MoveLocked(Dentry& old_parent, Dentry& child, Dentry& new_parent, std::string_view new_name, Dentry* replaced);
  void ExchangeLocked(Dentry& parent_a, Dentry& a, Dentry& parent_b, Dentry& b);
  // Forgets all cached children: they must be misses or unused.
  void ForgetChildrenLocked(Dentry& directory) ABSL_EXCLUSIVE_LOCKS_REQUIRED(directory.mu());
  // A file without a name (O_TMPFILE), shown as "parent/name (deleted)".
  RefPtr<Dentry> NewUnnamed(RefPtr<Dentry> parent, std::string name, RefPtr<Inode> inode);

  // Puts `dentry` and its ancestors into their parents' maps even in directories whose names are not cached, so that
  // walks find what will be mounted there. No directory lock held.
  void Pin(const RefPtr<Dentry>& dentry);

  static bool IsMountpoint(const Dentry& dentry) { return dentry.mounted_.load(std::memory_order_acquire) > 0; }
  // Whether `ancestor` is `dentry` or above it in one filesystem's tree.
  static bool IsAncestor(const Dentry& ancestor, const Dentry& dentry);

  // Evicts until within the limit and frees the trees of dead filesystems. No directory lock held. Cheap when there is
  // nothing to do.
  void Shrink();
  // A filesystem lost its last mount: its tree is freed by the next Shrink. Callable under any lock but leaves.
  void QueueDeadTree(RefPtr<Dentry> root);

  size_t size() const { return count_.load(std::memory_order_relaxed); }
  void set_limit(size_t limit) { limit_.store(limit, std::memory_order_relaxed); }

  // One cross-directory rename at a time: ancestry is stable under it.
  Mutex& rename_mu() ABSL_LOCK_RETURNED(rename_mu_) { return rename_mu_; }
  // Counts renames and mount changes; RESOLVE_BENEATH retries (EAGAIN) when it moved under a "..".
  uint64_t topology_sequence() const { return topology_.load(std::memory_order_acquire); }
  void BumpTopology() { topology_.fetch_add(1, std::memory_order_acq_rel); }

 private:
  // Names are cached only where they can be found from the root: below a directory that is not in its parent's map,
  // each would keep that directory, and nobody would come by to drop it.
  bool MayInsert(const Dentry& parent) ABSL_EXCLUSIVE_LOCKS_REQUIRED(parent.mu());
  void Insert(Dentry& parent, const RefPtr<Dentry>& child) ABSL_EXCLUSIVE_LOCKS_REQUIRED(parent.mu());
  // Takes the child of that name out of the map and the clock list; the map's reference goes to the caller.
  RefPtr<Dentry> Extract(Dentry& parent, std::string_view name) ABSL_EXCLUSIVE_LOCKS_REQUIRED(parent.mu());
  void LinkLru(Dentry& dentry);
  void UnlinkLru(Dentry& dentry);
  void UnlinkLruLocked(Dentry& dentry) ABSL_EXCLUSIVE_LOCKS_REQUIRED(lru_mu_);
  void EvictSome(size_t wanted);
  void FreeDeadTrees();
  void FreeTree(RefPtr<Dentry> root);

  Mutex rename_mu_{LockRank::kRename};
  std::atomic<uint64_t> topology_{0};
  std::atomic<size_t> count_{0};
  std::atomic<size_t> limit_{kDefaultLimit};
  Mutex lru_mu_{LockRank::kLeaf};
  Dentry* lru_head_ ABSL_GUARDED_BY(lru_mu_) = nullptr;  // the clock's hand: oldest first
  Dentry* lru_tail_ ABSL_GUARDED_BY(lru_mu_) = nullptr;
  std::atomic<bool> have_dead_{false};
  Mutex dead_mu_{LockRank::kLeaf};
  std::vector<RefPtr<Dentry>> dead_ ABSL_GUARDED_BY(dead_mu_);
};

}  // namespace sentry::vfs

#endif  // SENTRY_VFS_DENTRY_CACHE_H_
