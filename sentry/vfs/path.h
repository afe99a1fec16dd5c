// SPDX-License-Identifier: Apache-2.0
// Dentry (a name in the cache), Mount, MountNamespace and Path (a place: mount + dentry).
#ifndef SENTRY_VFS_PATH_H_
#define SENTRY_VFS_PATH_H_

#include <atomic>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "sentry/common.h"
#include "sentry/kernel/core/wait_queue.h"
#include "sentry/vfs/inode.h"

namespace sentry::vfs {

class MountNamespace;

// A name and what it stands for: an inode, or nothing (a cached miss). Children are kept by reference from the parent's
// map (bounded by the cache's shrinker); a child holds its parent. A dentry of a removed name is "unhashed": it lives
// on while it is open.
class Dentry : public RefCounted<Dentry> {
 public:
  // A root, or a detached dentry (pipes, sockets, memfds: `name` is what /proc/PID/fd shows). All mounts of one
  // filesystem share one root dentry: with the default name, a live root dentry of the same inode is returned again.
  static RefPtr<Dentry> NewRoot(RefPtr<Inode> inode, std::string name = "/");
  ~Dentry();

  // Null for a cached miss.
  const RefPtr<Inode>& inode() const { return inode_; }
  RefPtr<Dentry> parent() const;  // null for roots and detached dentries
  std::string name() const;
  // In the place of a removed name, or never had one (O_TMPFILE).
  bool IsUnhashed() const { return unhashed_.load(std::memory_order_acquire); }
  // Its mutex serialises the directory's operations (LockRank::kDirectory, lower for a stacked filesystem); see
  // inode.h.
  Mutex& mu() const ABSL_LOCK_RETURNED(mu_) { return mu_; }

 private:
  friend class DentryCache;  // vfs/dentry_cache.h: all changes to names
  friend class MountNamespace;
  friend class Filesystem;
  Dentry(RefPtr<Inode> inode, RefPtr<Dentry> parent, std::string name);

  mutable Mutex mu_;  // of the filesystem's directory_rank()
  std::map<std::string, RefPtr<Dentry>, std::less<>> children_ ABSL_GUARDED_BY(mu_);
  mutable Mutex name_mu_{LockRank::kLeaf};
  RefPtr<Dentry> parent_ ABSL_GUARDED_BY(name_mu_);
  std::string name_ ABSL_GUARDED_BY(name_mu_);
  RefPtr<Inode> inode_;
  std::atomic<bool> unhashed_{false};
  std::atomic<int> mounted_{0};  // how many mounts sit on this dentry, in any namespace
  // The cache's clock list, guarded by the cache's own lock; linked exactly while in the parent's map.
  Dentry* lru_previous_ = nullptr;
  Dentry* lru_next_ = nullptr;
  std::atomic<bool> referenced_{false};
  bool is_fs_root_ = false;
};

enum MountFlags : uint32_t {
  kMountReadOnly = 1,
  kMountNoSuid = 2,
  kMountNoDev = 4,
  kMountNoExec = 8,
  kMountNoAtime = 16,
  kMountNoDirAtime = 32,
  kMountRelAtime = 64,
  kMountNoSymFollow = 128,
  // Set where a mount was copied into a user namespace with fewer rights: what these bits say may not be undone there
  // (mount_namespaces(7), "Restrictions on mount namespaces").
  kMountLockReadOnly = 256,
  kMountLockNoSuid = 512,
  kMountLockNoDev = 1024,
  kMountLockNoExec = 2048,
  kMountLockAtime = 4096,
};
inline constexpr uint32_t kMountAtimeFlags = kMountNoAtime | kMountNoDirAtime | kMountRelAtime;
inline constexpr uint32_t kMountLockFlags =
    kMountLockReadOnly | kMountLockNoSuid | kMountLockNoDev | kMountLockNoExec | kMountLockAtime;

struct PeerGroup;  // mount_table.h

class Mount : public RefCounted<Mount> {
 public:
  Mount(RefPtr<Filesystem> filesystem, RefPtr<Dentry> root, uint32_t flags, std::string source);
  ~Mount();
  const RefPtr<Filesystem>& filesystem() const { return filesystem_; }
  const RefPtr<Dentry>& root() const { return root_; }
  uint32_t flags() const { return flags_.load(std::memory_order_relaxed); }
  void set_flags(uint32_t flags) { flags_.store(flags, std::memory_order_relaxed); }
  bool IsReadOnly() const { return (flags() & kMountReadOnly) || filesystem_->IsReadOnly(); }
  // EPERM: new `flags` would take back what is locked.
  Result<void> CheckLockedFlags(uint32_t flags) const;
  // mount(2) MS_REMOUNT: EPERM (locked), EBUSY when it would become read-only with files open for writing.
  Result<void> Remount(uint32_t flags);
  // Held by files open for writing. EROFS.
  Result<void> GetWrite();
  void PutWrite() { writers_.fetch_sub(1, std::memory_order_release); }
  int id() const { return id_; }
  // Never used again (statmount(2), STATX_MNT_ID_UNIQUE).
  uint64_t unique_id() const { return uint64_t{1} << 31 | static_cast<uint64_t>(id_); }
  const std::string& source() const { return source_; }

 private:
  friend class MountNamespace;
  RefPtr<Filesystem> filesystem_;
  RefPtr<Dentry> root_;
  std::atomic<uint32_t> flags_;
  std::string source_;
  const int id_;
  // Guarded by the mount table's mutex (mount_namespace.h).
  Mount* parent_ = nullptr;
  RefPtr<Dentry> mountpoint_;
  std::vector<RefPtr<Mount>> children_;
  PeerGroup* shared_ = nullptr;  // whose member it is: mounting and unmounting on one happens on all
  PeerGroup* master_ = nullptr;  // whose events it gets, without sending any back
  bool unbindable_ = false;
  bool locked_ = false;   // may not be unmounted or moved by itself (MNT_LOCKED)
  bool expired_ = false;  // umount2(MNT_EXPIRE) was here once
  std::atomic<int> writers_{0};
  MountNamespace* namespace_ = nullptr;
};

struct Path {
  RefPtr<Mount> mount;
  RefPtr<Dentry> dentry;
  explicit operator bool() const { return static_cast<bool>(dentry); }
  const RefPtr<Inode>& inode() const { return dentry->inode(); }
  friend bool operator==(const Path&, const Path&) = default;
};

// A detached tree (open_tree(2), fsmount(2)) lives in an anonymous namespace, which its file owns.
// mount_namespaces(7). One table mutex for all namespaces of the sandbox (rank kMountTable): mounting is rare, crossing
// is a check of Dentry::mounted_ first. Thread-safe.
class MountNamespace : public RefCounted<MountNamespace> {
 public:
  MountNamespace(RefPtr<Mount> root, RefPtr<UserNamespace> owner);
  const RefPtr<UserNamespace>& owner() const { return owner_; }
  ~MountNamespace();
  RefPtr<Mount> root() const;
  uint64_t inode_number() const { return inode_number_; }
  // The mount on top of `path`, followed to the topmost; `path` itself when there is none.
  Path CrossMounts(Path path) const;
  // The place that the root of `mount` covers; false at the namespace's root, and for mounts that are attached nowhere.
  bool Parent(const Mount& mount, Path* covered) const { return CoveredBy(mount, covered); }
  static bool CoveredBy(const Mount& mount, Path* covered);
  // Whether the mount is attached in this namespace.
  bool Contains(const Mount& mount) const;
  Result<void> Attach(RefPtr<Mount> mount, const Path& on);
  // umount2(2): flags MNT_DETACH, MNT_FORCE, UMOUNT_NOFOLLOW (handled by the caller). EBUSY, EINVAL.
  Result<void> Detach(const Path& mounted, int flags);
  Result<void> Bind(const Path& source, const Path& on, bool recursive);
  // `source` may also be the top of an anonymous namespace.
  Result<void> Move(const Path& source, const Path& on);
  // `root` is the caller's (chroot(2)).
  Result<void> PivotRoot(const Path& root, const Path& new_root, const Path& put_old);
  Result<void> SetPropagation(const Path& mounted, int ms_flags, bool recursive);
  // open_tree(2) with OPEN_TREE_CLONE: a copy of the mount (and those below it) in an anonymous namespace. EINVAL.
  Result<RefPtr<MountNamespace>> CopyDetached(const Path& source, bool recursive) const;
  // An anonymous namespace around a mount that is nowhere yet.
  static RefPtr<MountNamespace> NewAnonymous(RefPtr<Mount> mount, RefPtr<UserNamespace> owner);
  bool IsAnonymous() const { return anonymous_; }
  // mount_setattr(2): `set` and `clear` are MountFlags; `ms_propagation` 0 or one of MS_SHARED…. All mounts change or
  // none. `mounted` is in this namespace or in an anonymous one. EINVAL, EPERM (locked), EBUSY.
  Result<void> SetAttributes(const Path& mounted, uint32_t set, uint32_t clear, int ms_propagation, bool recursive);
  // Whether an instance of `type` is mounted whole and uncovered here, so that another shows nothing new
  // (mount_too_revealing).
  bool ShowsWhole(std::string_view type) const;

  // Counts changes of the list; poll(2) of /proc/PID/mounts. The queue is notified of each.
  uint64_t changes() const { return changes_.load(std::memory_order_acquire); }
  WaitQueue& change_queue() { return change_queue_; }
  // CLONE_NEWNS. `translate` receives each (old, new) pair so that the caller can move cwd and root.
  Result<RefPtr<MountNamespace>> Clone(RefPtr<UserNamespace> owner, UserCharge charge,
                                       std::vector<std::pair<RefPtr<Mount>, RefPtr<Mount>>>* translate) const;
  struct Info {
    RefPtr<Mount> mount;
    int parent_id;
    RefPtr<Dentry> mountpoint;
    RefPtr<Mount> parent;
    int peer_group;      // shared:N; 0: none
    int master;          // master:N
    int propagate_from;  // the nearest dominating group with a mount in this namespace; 0: none or the master itself
    bool unbindable;
  };
  // In mount order, parents first (/proc/PID/mounts, mountinfo).
  std::vector<Info> List() const;

 private:
  struct Table;  // mount_table.h: the table's mutex and the (mount, dentry) -> child index
  friend struct Table;
  struct CloneTag {};
  void Touch() ABSL_NO_THREAD_SAFETY_ANALYSIS;
  MountNamespace(CloneTag, RefPtr<UserNamespace> owner);
  RefPtr<Mount> root_;
  RefPtr<UserNamespace> owner_;
  UserCharge charge_;
  uint64_t inode_number_;
  bool anonymous_ = false;
  std::atomic<uint64_t> changes_{0};
  WaitQueue change_queue_;
};

// Root, working directory and umask of a process (Linux's fs_struct); shared by CLONE_FS.
class FsContext : public RefCounted<FsContext> {
 public:
  FsContext(Path root, Path cwd, mode_t umask) : root_(std::move(root)), cwd_(std::move(cwd)), umask_(umask) {}
  RefPtr<FsContext> Clone() const;
  Path root() const;
  Path cwd() const;
  void set_root(Path path);
  void set_cwd(Path path);
  mode_t umask() const { return umask_.load(std::memory_order_relaxed); }
  mode_t SwapUmask(mode_t mask) { return umask_.exchange(mask & 0777); }

 private:
  mutable Mutex mu_{LockRank::kFsContext};
  Path root_ ABSL_GUARDED_BY(mu_);
  Path cwd_ ABSL_GUARDED_BY(mu_);
  std::atomic<mode_t> umask_;
};

}  // namespace sentry::vfs

#endif  // SENTRY_VFS_PATH_H_
