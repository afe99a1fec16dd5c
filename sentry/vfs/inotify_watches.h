// SPDX-License-Identifier: Apache-2.0
// The vfs side of inotify(7): the watches of one inode. The file descriptor side is fs/inotify.
#ifndef SENTRY_VFS_INOTIFY_WATCHES_H_
#define SENTRY_VFS_INOTIFY_WATCHES_H_

#include <cstdint>
#include <string_view>
#include <vector>

#include "sentry/common.h"

namespace sentry::vfs {

class Dentry;
class Inode;

class InotifyWatch : public RefCounted<InotifyWatch> {
 public:
  virtual ~InotifyWatch() = default;
  // `name` is the entry's for events seen by its directory, empty for the object's own. Called without inode locks of
  // rank > kInode.
  virtual void OnEvent(uint32_t mask, uint32_t cookie, std::string_view name) = 0;
};

class InotifyWatches {
 public:
  void Add(RefPtr<InotifyWatch> watch);
  void Remove(InotifyWatch* watch);
  void Notify(uint32_t mask, uint32_t cookie, std::string_view name);

 private:
  Mutex mu_{LockRank::kInotify};
  std::vector<RefPtr<InotifyWatch>> watches_ ABSL_GUARDED_BY(mu_);
};

// Tells the watches of `dentry`'s inode (with IN_ISDIR when it is one) and of its parent directory (with the name). A
// few loads when nobody watches.
void NotifyInotify(const Dentry& dentry, uint32_t mask, uint32_t cookie = 0);
uint32_t NextInotifyCookie();

}  // namespace sentry::vfs

#endif  // SENTRY_VFS_INOTIFY_WATCHES_H_
