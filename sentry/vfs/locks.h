// SPDX-License-Identifier: Apache-2.0
// File locks of one inode: flock(2), POSIX record locks and open-file-description locks (fcntl(2)). Thread-safe.
#ifndef SENTRY_VFS_LOCKS_H_
#define SENTRY_VFS_LOCKS_H_

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <unordered_set>
#include <vector>

#include "sentry/common.h"
#include "sentry/kernel/core/caller.h"
#include "sentry/kernel/core/wait_queue.h"
#include "sentry/vfs/inode.h"

namespace sentry::vfs {

enum class LockKind : uint8_t { kFlock, kPosix, kOfd };
enum class LockType : uint8_t { kRead, kWrite, kUnlock };

struct LockRange {
  uint64_t start = 0, end = UINT64_MAX;  // [start, end)
};

struct LockRequest {
  LockKind kind;
  LockType type;
  LockRange range;
  const void* owner;  // FileDescription (flock, OFD) or Caller::LockOwner (POSIX)
  pid_t pid = 0;      // tgid in the root pid namespace, for F_GETLK and /proc/locks; -1 for OFD
};

struct LockInfo {
  LockKind kind;
  LockType type;
  LockRange range;
  pid_t pid;
};

class FileLocks {
 public:
  FileLocks() = default;
  ~FileLocks();
  // Takes, changes or drops a lock. With `block`, sleeps in Caller::Current() until it can (kErestartsys on a signal;
  // EDEADLK when a cycle of POSIX waiters would form), else EAGAIN.
  Result<void> Set(const LockRequest& request, bool block);
  // F_GETLK: the first conflicting lock.
  std::optional<LockInfo> Test(const LockRequest& request);
  void ReleaseOwner(LockKind kind, const void* owner);
  std::vector<LockInfo> List();
  // All of the sandbox (/proc/locks), each with those that wait for it.
  struct Listed {
    RefPtr<Inode> inode;
    LockInfo lock;
    std::vector<LockInfo> waiting;  // of POSIX locks
  };
  static std::vector<Listed> ListAll();
  // Whose these are; by Inode::locks().
  void set_inode(Inode* inode) { inode_.store(inode, std::memory_order_relaxed); }

 private:
  struct Held {
    LockKind kind;
    LockType type;
    LockRange range;
    const void* owner;
    pid_t pid;
  };
  struct Waiter {
    FileLocks* locks;
    LockRequest request;
  };
  static bool Conflicts(const Held& held, const LockRequest& request);
  const Held* FindConflictLocked(const LockRequest& request) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void ApplyLocked(const LockRequest& request) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  Result<void> TrySetLocked(const LockRequest& request) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  static bool WouldDeadlockLocked(FileLocks& locks, const LockRequest& request) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  // One mutex for all files, so that deadlock detection sees one consistent picture; held for a scan of one file's
  // locks.
  static Mutex mu_;
  static std::vector<Waiter*>& Waiters() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // The files that have locks.
  static std::unordered_set<FileLocks*>& Registry() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  std::atomic<Inode*> inode_{nullptr};
  std::vector<Held> held_ ABSL_GUARDED_BY(mu_);
  WaitQueue queue_;
};

}  // namespace sentry::vfs

#endif  // SENTRY_VFS_LOCKS_H_
