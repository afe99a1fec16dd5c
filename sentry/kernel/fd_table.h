// SPDX-License-Identifier: Apache-2.0
// FdTable: file descriptors of a process (Linux's files_struct); shared by CLONE_FILES. Thread-safe.
// Closing runs FileDescription::Flush and releases the caller's POSIX locks, outside the table's lock.
#ifndef SENTRY_KERNEL_FD_TABLE_H_
#define SENTRY_KERNEL_FD_TABLE_H_

#include <functional>
#include <vector>

#include "sentry/common.h"
#include "sentry/vfs/file_description.h"

namespace sentry::kernel {

class FdTable : public RefCounted<FdTable> {
 public:
  FdTable() = default;
  ~FdTable();

  // EBADF when there is none. GetOpen also refuses O_PATH descriptors (EBADF), which most calls want.
  Result<vfs::FileRef> Get(int fd) const;
  Result<vfs::FileRef> GetOpen(int fd) const;
  // The lowest free descriptor >= `minimum`. EMFILE at `limit` (RLIMIT_NOFILE), EINVAL if minimum >= limit.
  Result<int> Add(vfs::FileRef file, bool close_on_exec, uint64_t limit, int minimum = 0);
  // dup2/dup3: replaces (and closes) what is at `fd`. EBADF when fd >= limit.
  Result<void> Set(int fd, vfs::FileRef file, bool close_on_exec, uint64_t limit);
  Result<void> Close(int fd);
  // close_range(2), without the unsharing.
  void CloseRange(unsigned first, unsigned last, bool only_set_cloexec);
  Result<bool> GetCloseOnExec(int fd) const;
  Result<void> SetCloseOnExec(int fd, bool value);
  void CloseOnExec();
  RefPtr<FdTable> Clone() const;
  // Copies descriptors below `limit_fd` only (close_range with CLOSE_RANGE_UNSHARE).
  // Snapshot in order, for /proc/PID/fd.
  std::vector<int> List() const;
  // Closes all: the last task left.
  void Clear();

 private:
  struct Slot {
    vfs::FileRef file;
    bool close_on_exec = false;
  };
  mutable Mutex mu_{LockRank::kFdTable};
  std::vector<Slot> slots_ ABSL_GUARDED_BY(mu_);
  int first_free_ ABSL_GUARDED_BY(mu_) = 0;  // no free slot below
};

}  // namespace sentry::kernel

#endif  // SENTRY_KERNEL_FD_TABLE_H_
