// SPDX-License-Identifier: Apache-2.0
// The sandbox's one mount table: its mutex and the index from (mount, mountpoint) to the mount on top. Private to vfs/.
#ifndef SENTRY_VFS_MOUNT_TABLE_H_
#define SENTRY_VFS_MOUNT_TABLE_H_

#include <map>
#include <utility>
#include <vector>

#include "sentry/vfs/path.h"

namespace sentry::vfs {

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
  static void Unhash(Mount& mount, Dropped* dropped) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  // The mount and everything below it, parents first.
  static std::vector<Mount*> Subtree(Mount& mount) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  static Path Topmost(Path path) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  static bool IsBelow(const Mount& mount, const Mount& ancestor) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  // Whether `path` is at or below `ancestor`, over mounts.
  static bool IsPathBelow(Path path, const Path& ancestor) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  // A copy of one mount (root and flags), attached nowhere.
  static RefPtr<Mount> Copy(const Mount& mount, RefPtr<Dentry> root);
  // A copy of the tree at `mount` below `root`; children with unbindable mounts left out if `skip_unbindable`.
  static RefPtr<Mount> CopyTree(Mount& mount, const RefPtr<Dentry>& root, bool skip_unbindable,
                                std::vector<std::pair<RefPtr<Mount>, RefPtr<Mount>>>* pairs)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  static void SetNamespace(Mount& tree, MountNamespace* ns) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  // What attaching to `on` needs: in `ns`, of the same kind, not removed.
  static Result<Path> CheckTarget(const MountNamespace& ns, const Path& on, bool is_directory)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
};

}  // namespace sentry::vfs

#endif  // SENTRY_VFS_MOUNT_TABLE_H_
