// SPDX-License-Identifier: Apache-2.0
// Which file a handle of name_to_handle_at(2) means: the last kRemembered files that were asked about, until they are
// deleted or their filesystem is mounted no more. Thread-safe.
#ifndef SENTRY_VFS_FILE_HANDLES_H_
#define SENTRY_VFS_FILE_HANDLES_H_

#include <atomic>
#include <compare>
#include <list>
#include <map>

#include "sentry/vfs/path.h"

namespace sentry::vfs {

class FileHandles {
 public:
  static constexpr size_t kRemembered = 16384;
  // As stat(2) tells them.
  struct Identity {
    uint64_t device, inode;
    friend auto operator<=>(const Identity&, const Identity&) = default;
  };

  static FileHandles& Get();
  // Filesystems whose files have no lasting numbers have no handles (export_operations of the kernel).
  static bool Exist(const Filesystem& filesystem);

  // What is deleted is not remembered.
  Result<Identity> Remember(const RefPtr<Dentry>& dentry);
  // Null if it is not known, or was deleted.
  RefPtr<Dentry> Find(const Identity& id) const;
  // A name of `inode` was removed.
  void OnNameRemoved(Inode& inode);
  // The last mount is gone.
  void OnLastUnmount(const Filesystem& filesystem);

 private:
  struct Entry {
    RefPtr<Dentry> dentry;
    std::list<Identity>::iterator position;
  };
  RefPtr<Dentry> Forget(const Identity& id);
  RefPtr<Dentry> EraseLocked(std::map<Identity, Entry>::iterator it) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  // Dentries are dropped without it.
  mutable Mutex mu_{LockRank::kLeaf};
  std::map<Identity, Entry> files_ ABSL_GUARDED_BY(mu_);
  std::list<Identity> order_ ABSL_GUARDED_BY(mu_);  // by age
  std::atomic<size_t> count_{0};                    // of files_
};

}  // namespace sentry::vfs

#endif  // SENTRY_VFS_FILE_HANDLES_H_
