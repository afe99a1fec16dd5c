// SPDX-License-Identifier: Apache-2.0
// PageMap: which MemoryFile pages hold which pages of a file. Runs that are contiguous in both are one extent; a spare
// range behind the last extent, doubling with the file, keeps files that grow in few extents. Not thread-safe: guarded
// by its file.
#ifndef SENTRY_FS_TMPFS_PAGE_MAP_H_
#define SENTRY_FS_TMPFS_PAGE_MAP_H_

#include <map>
#include <vector>

#include "platform/memory_file.h"
#include "sentry/common.h"
#include "sentry/mm/memory_charge.h"

namespace sentry::tmpfs {

class PageMap {
 public:
  // A run of the file from an asked offset on: data at `memory_offset`, or a hole.
  struct Run {
    bool is_data;
    uint64_t length;         // bytes, page-granular from the page of the asked offset
    uint64_t memory_offset;  // of the asked offset
  };

  explicit PageMap(platform::MemoryFile& memory) : memory_(memory) {}
  ~PageMap();  // gives all pages back

  // `offset` need not be aligned. The length of the last hole is UINT64_MAX - offset.
  Run At(uint64_t offset) const;
  // Pages without data in the page-aligned range.
  uint64_t MissingPages(uint64_t start, uint64_t end) const;
  // Gives every hole of the page-aligned range zeroed pages. All or, on ENOMEM, part of it; adds the pages made to
  // `*added`.
  Result<void> Fill(uint64_t start, uint64_t end, uint64_t* added);
  // Takes the range's pages out; the caller drops their references after unmapping. Gives the pages' number.
  uint64_t Remove(uint64_t start, uint64_t end, std::vector<platform::FileRange>* removed);
  uint64_t pages() const { return pages_; }
  size_t extents() const { return extents_.size(); }

 private:
  struct Extent {
    uint64_t end;
    uint64_t memory;
  };
  Result<platform::FileRange> Take(uint64_t at, uint64_t length);
  void Insert(uint64_t start, platform::FileRange range);
  void DropSpare();

  platform::MemoryFile& memory_;
  RefPtr<mm::MemoryCharge> charge_;  // of who gave it its first page
  std::map<uint64_t, Extent> extents_;
  uint64_t pages_ = 0;
  platform::FileRange spare_;
  uint64_t spare_at_ = 0;  // the file offset that the spare continues
};

}  // namespace sentry::tmpfs

#endif  // SENTRY_FS_TMPFS_PAGE_MAP_H_
