// SPDX-License-Identifier: Apache-2.0
// The sandbox's one mount table: its mutex and the index from (mount, mountpoint) to the mount on top. Private to vfs/.
#ifndef SENTRY_VFS_MOUNT_TABLE_H_
#define SENTRY_VFS_MOUNT_TABLE_H_

#include <map>
#include <utility>
#include <vector>

#include "sentry/vfs/path.h"

namespace sentry::vfs {

// Mounts that share their events (mount_namespaces(7), "SHARED SUBTREES"), and the slaves that get them. Lives as long
// as it has peers. Guarded by the table's mutex.
struct PeerGroup {
  int id;
  std::vector<Mount*> peers, slaves;
};

struct MountNamespace::Table {
  static Mutex mu;
  static std::map<std::pair<const Mount*, const Dentry*>, Mount*>& Index() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  static constexpr int kMaxMounts = 100'000;

  // Puts `mount` (and keeps it alive) under `parent` at `mountpoint`.
  static void Hash(RefPtr<Mount> mount, Mount& parent, RefPtr<Dentry> mountpoint) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  // Takes it out; the reference and the mountpoint go to `dropped`, to be released without the lock.
  struct Dropped {
    std::vector<RefPtr<Mount>> mounts;
    std::vector<RefPtr<Dentry>> dentries;
  };
  static RefPtr<Mount> Remove(Mount& mount, Dropped* dropped) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  // The same for good: it also leaves its peers and masters.
  static void Unhash(Mount& mount, Dropped* dropped) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  // Takes a tree apart that was never attached.
  static void Discard(Mount& tree, Dropped* dropped) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  static Mount* Find(const Mount* parent, const Dentry* dentry) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);

  // mount_propagation.cc
  static void MakeShared(Mount& mount) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  static void MakeSlave(Mount& mount) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  static void MakePrivate(Mount& mount) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  static void ChangeType(Mount& mount, int ms_type) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  static void JoinPeers(Mount& mount, PeerGroup* group) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  static void SetMaster(Mount& mount, PeerGroup* group) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  // Puts a tree that is nowhere (its mounts hashed among themselves) on `target`, the top there, in `ns`; and copies of
  // it wherever the target's mount propagates to. ENOSPC.
  static Result<void> AttachTree(RefPtr<Mount> tree, const Path& target, MountNamespace* ns, Dropped* dropped)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  // All mounts that get what happens on `mount`, without itself.
  static std::vector<Mount*> Receivers(const Mount& mount) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  // The tree at `mount` and what its end takes along elsewhere, children first.
  static std::vector<Mount*> WithPropagated(Mount& mount) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  static void DetachTree(Mount& mount, Dropped* dropped) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  static bool PropagatedBusy(const Mount& mount) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  static int DominatingGroup(const Mount& mount, const MountNamespace& ns) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  static void LockTree(Mount& tree) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  static bool HasLockedChildren(const Mount& mount, const Dentry& below) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  // The mount and everything below it, parents first.
  static std::vector<Mount*> Subtree(Mount& mount) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  static Path Topmost(Path path) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  static bool IsBelow(const Mount& mount, const Mount& ancestor) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  // Whether `path` is at or below `ancestor`, over mounts.
  static bool IsPathBelow(Path path, const Path& ancestor) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  // How a copy stands to its original: a peer if that is shared and a slave of the same; or a slave of it, private
  // otherwise or (kSharedToSlave) as it was.
  enum class CopyAs : uint8_t { kPeer, kSlave, kSharedToSlave };
  // A copy of one mount (root and flags), attached nowhere.
  static RefPtr<Mount> Copy(const Mount& mount, RefPtr<Dentry> root, CopyAs as) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  // A copy of the tree at `mount` below `root`; children with unbindable mounts left out if `skip_unbindable`.
  static RefPtr<Mount> CopyTree(Mount& mount, const RefPtr<Dentry>& root, bool skip_unbindable, CopyAs as,
                                std::vector<std::pair<RefPtr<Mount>, RefPtr<Mount>>>* pairs)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  static void SetNamespace(Mount& tree, MountNamespace* ns) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  // What attaching to `on` needs: in `ns`, of the same kind, not removed.
  static Result<Path> CheckTarget(const MountNamespace& ns, const Path& on, bool is_directory)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
};

}  // namespace sentry::vfs

#endif  // SENTRY_VFS_MOUNT_TABLE_H_
