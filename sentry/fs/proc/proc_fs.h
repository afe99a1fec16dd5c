// SPDX-License-Identifier: Apache-2.0
// ProcFs: one procfs instance.
#ifndef SENTRY_FS_PROC_PROC_FS_H_
#define SENTRY_FS_PROC_PROC_FS_H_

#include <atomic>

#include "sentry/fs/proc/proc.h"
#include "sentry/vfs/inode.h"

namespace sentry::fs {

class StaticDirectory;

struct ProcOptions {
  int hide_pid = 0;        // 0 off, 1 noaccess, 2 invisible, 4 ptraceable
  gid_t gid = 0;           // sees all in spite of it
  bool pids_only = false;  // subset=pid
  static Result<ProcOptions> Parse(std::string_view text);
};

class ProcFs final : public vfs::Filesystem {
 public:
  ProcFs(RefPtr<kernel::PidNamespace> pid_ns, const ProcOptions& options)
      : pid_ns_(std::move(pid_ns)), options_(options) {}
  ~ProcFs() override;

  std::string_view TypeName() const override { return "proc"; }
  RefPtr<vfs::Inode> Root() override;
  vfs::StatFs GetStatFs() override { return {.magic = 0x9fa0}; }
  std::string MountOptions() const override;
  Result<void> Remount(std::string_view options) override;
  void OnLastUnmount() override;

  const kernel::PidNamespace& pid_ns() const { return *pid_ns_; }
  ProcOptions options() const;
  uint64_t NextInode() { return next_ino_.fetch_add(1, std::memory_order_relaxed); }
  // Whether the calling task may know of `task` under hidepid=`level`.
  bool MaySee(kernel::Task& task, int level) const;

 private:
  const RefPtr<kernel::PidNamespace> pid_ns_;
  mutable Mutex mu_{LockRank::kLeaf};
  ProcOptions options_ ABSL_GUARDED_BY(mu_);
  RefPtr<StaticDirectory> root_ ABSL_GUARDED_BY(mu_);
  std::atomic<uint64_t> next_ino_{1};
};

// The tree: system.cc and sys_table.cc fill directories from their tables.
void AddSystemFiles(ProcFs& fs, StaticDirectory& root);
void AddSysctls(ProcFs& fs, StaticDirectory& root);

}  // namespace sentry::fs

#endif  // SENTRY_FS_PROC_PROC_FS_H_
