// SPDX-License-Identifier: Apache-2.0
// The vfs side of inotify(7): the watches of one inode. The file descriptor side is fs/inotify.
#ifndef SENTRY_VFS_INOTIFY_WATCHES_H_
#define SENTRY_VFS_INOTIFY_WATCHES_H_

#include <atomic>
#include <cstdint>
#include <string_view>
#include <vector>

#include "sentry/common.h"

namespace sentry::vfs {

class Dentry;
class FileDescription;
class Filesystem;
class Inode;
struct Path;

class InotifyWatch : public RefCounted<InotifyWatch> {
 public:
  virtual ~InotifyWatch() = default;
  // `name` is the entry's for events seen by its directory, empty for the object's own. IN_EXCL_UNLINK in `mask` says
  // that the name it came by is gone. Called without inode locks of rank > kInode.
  virtual void OnEvent(uint32_t mask, uint32_t cookie, std::string_view name) = 0;
};

class InotifyWatches {
 public:
  InotifyWatches() = default;
  ~InotifyWatches();
  void Add(RefPtr<InotifyWatch> watch);
  void Remove(InotifyWatch* watch);
  void Notify(uint32_t mask, uint32_t cookie, std::string_view name);
  // Whose these are; by Inode::inotify_watches().
  void set_inode(Inode* inode) { inode_.store(inode, std::memory_order_relaxed); }
  // The filesystem is gone: IN_UNMOUNT to all that watch files of it. Without locks.
  static void NotifyUnmount(const Filesystem& filesystem);

 private:
  std::atomic<Inode*> inode_{nullptr};
  Mutex mu_{LockRank::kInotify};
  std::vector<RefPtr<InotifyWatch>> watches_ ABSL_GUARDED_BY(mu_);
};

// Tells the watches (and fanotify's marks) of `dentry`'s inode (with IN_ISDIR when it is one) and of its parent
// directory (with the name). A few loads when nobody watches.
void NotifyInotify(const Dentry& dentry, uint32_t mask, uint32_t cookie = 0);
// The same for what happens to an open file, or one that is being opened: marks of its mount see that, too.
void NotifyFile(const Path& path, uint32_t mask);
// Nothing for a description with kNoNotify: fanotify's own (FMODE_NONOTIFY of the kernel).
void NotifyFile(const FileDescription& file, uint32_t mask);
inline constexpr int kNoNotify = 0x4000000;
// fanotify's permission events, before a file is read or opened to be executed. EPERM, kErestartsys (death).
Result<void> AskToRead(const FileDescription& file);
Result<void> AskToExecute(const Path& path);
// It was opened for that: IN_OPEN, FAN_OPEN_EXEC.
void NotifyExecuted(const Path& path);
// After an unmount, when its caller has no reference to the mount any more: frees filesystems that are mounted no more
// and tells who watched files of theirs (IN_UNMOUNT). Without locks.
void FinishUnmount();
uint32_t NextInotifyCookie();

}  // namespace sentry::vfs

#endif  // SENTRY_VFS_INOTIFY_WATCHES_H_
