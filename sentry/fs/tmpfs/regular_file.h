// SPDX-License-Identifier: Apache-2.0
// TmpfsRegularFile: data, mappings and seals. Locks: mu_ (kInode) serialises reads, writes and truncation and is held
// while guest memory is copied; pages_mu_ (kMappable) guards the page map and is what page faults take.
#ifndef SENTRY_FS_TMPFS_REGULAR_FILE_H_
#define SENTRY_FS_TMPFS_REGULAR_FILE_H_

#include <atomic>
#include <string>

#include "sentry/fs/tmpfs/page_map.h"
#include "sentry/fs/tmpfs/tmpfs_inode.h"
#include "sentry/mm/mapped_object.h"
#include "sentry/vfs/file_description.h"

namespace sentry::tmpfs {

class TmpfsRegularFile final : public TmpfsInode {
 public:
  TmpfsRegularFile(Tmpfs& filesystem, const vfs::CreateAttributes& attributes);
  ~TmpfsRegularFile() override;

  Result<vfs::FileRef> Open(const vfs::Path& path, int flags) override;
  Result<int> GetSeals() override;
  Result<void> AddSeals(int seals) override;
  // For memfds, before anyone else has the inode; other files refuse all seals.
  void SetInitialSeals(int seals);

  Result<size_t> Read(IoTarget& target, int64_t offset);
  // `offset` -1 appends. `*end` becomes the position after the write.
  Result<size_t> Write(IoSource& source, int64_t offset, int64_t* end);
  Result<void> Allocate(int mode, uint64_t offset, uint64_t length);
  // lseek(2) SEEK_DATA and SEEK_HOLE. ENXIO.
  Result<int64_t> SeekData(int64_t offset, bool hole);
  Result<void> Mmap(mm::MmapRequest& request, const vfs::Path& path, bool writable);

  // For the mapping object.
  Result<mm::Backing> GetBacking(uint64_t offset, uint64_t length);
  Result<void> PunchHole(uint64_t offset, uint64_t length);
  mm::ReverseMap& reverse_map() { return reverse_map_; }
  void AddWritableMapping(int change) { writable_mappings_.fetch_add(change, std::memory_order_acq_rel); }

 private:
  void FillStatLocked(vfs::InodeStat* stat) const override;
  Result<void> Resize(uint64_t size) override;
  void SetSizeLocked(uint64_t size) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void ShrinkLocked(uint64_t size) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  Result<void> FillLocked(uint64_t start, uint64_t end) ABSL_EXCLUSIVE_LOCKS_REQUIRED(pages_mu_);
  // Fills the pages of [offset, offset+length) or, short of memory, a prefix: its length. ENOSPC.
  Result<uint64_t> PrepareWrite(uint64_t offset, uint64_t length);
  void ZeroLocked(uint64_t start, uint64_t end) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void PunchLocked(uint64_t start, uint64_t end) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  mutable Mutex pages_mu_{LockRank::kMappable};
  PageMap pages_ ABSL_GUARDED_BY(pages_mu_);
  std::atomic<uint64_t> size_{0};  // written with both locks
  int seals_ ABSL_GUARDED_BY(mu_);
  std::atomic<int> writable_mappings_{0};
  mm::ReverseMap reverse_map_;
};

}  // namespace sentry::tmpfs

#endif  // SENTRY_FS_TMPFS_REGULAR_FILE_H_
