// SPDX-License-Identifier: Apache-2.0
// File leases (fcntl(2), F_SETLEASE): who holds one is told before another opens or truncates the file in a way that
// conflicts, and has fs.lease-break-time seconds to give it up. One table for the sandbox, empty nearly always.
// Thread-safe.
#ifndef SENTRY_VFS_LEASES_H_
#define SENTRY_VFS_LEASES_H_

#include <atomic>
#include <memory>
#include <vector>

#include "sentry/common.h"
#include "sentry/kernel/core/wait_queue.h"
#include "sentry/vfs/file_description.h"

namespace sentry::vfs {

class Leases {
 public:
  static Leases& Get();

  // Any in the sandbox: a load, for the paths that every open takes.
  bool Any() const { return count_.load(std::memory_order_acquire) != 0; }

  // F_SETLEASE of the description: `type` is F_RDLCK, F_WRLCK or F_UNLCK. `on_break` is called, without locks, when
  // another wants in. EAGAIN: the file is open in a way that conflicts, or there is no lease to remove.
  using Notice = std::function<void(FileDescription& file)>;
  Result<void> Set(FileDescription& file, int type, Notice on_break);
  // F_GETLEASE: F_RDLCK, F_WRLCK or F_UNLCK; while it is being broken, what it has to become.
  int TypeOf(const FileDescription& file) const;
  struct Info {
    RefPtr<Inode> inode;
    int type, target;  // target: what it has to become; -1: it is not being broken
    pid_t pid;         // as who set it saw itself
  };
  std::vector<Info> List() const;
  // Before an open (`write`: for writing) or a truncation: tells the holders and waits. EAGAIN when `nonblocking`,
  // kErestartsys.
  Result<void> Break(Inode& inode, bool write, bool nonblocking);

 private:
  struct Lease;
  // Takes `lease` unless the description has one, which then changes.
  Result<void> AddLocked(std::unique_ptr<Lease>& lease) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  using Notices = std::vector<std::pair<FileRef, Notice>>;
  bool ConflictsLocked(const Inode& inode, bool write, Notices* notices, int64_t* deadline_ns)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  std::unique_ptr<Lease> Take(const FileDescription& file);

  std::atomic<int> count_{0};
  mutable Mutex mu_{LockRank::kLeaf};
  std::vector<std::unique_ptr<Lease>> leases_ ABSL_GUARDED_BY(mu_);
  WaitQueue queue_;  // a lease went, or became weaker
};

}  // namespace sentry::vfs

#endif  // SENTRY_VFS_LEASES_H_
