// SPDX-License-Identifier: Apache-2.0
// MemoryFile: all guest RAM of a sandbox, as page ranges of one sparse host file, mapped shared into stubs and, whole
// and lazily, into the sentry. Ranges are reference-counted page by page; the last reference punches the pages out, so
// the host gets them back and a later owner finds zeroes. Thread-safe.
#ifndef PLATFORM_MEMORY_FILE_H_
#define PLATFORM_MEMORY_FILE_H_

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>

#include "base/mutex.h"
#include "base/result.h"
#include "base/unique_fd.h"

namespace platform {

struct FileRange {
  uint64_t start = 0;  // bytes, page-aligned
  uint64_t end = 0;
  uint64_t length() const { return end - start; }
};

class MemoryFile {
 public:
  // Offsets below this are handed out; also the size of the sentry's mapping (address space only).
#ifdef __SANITIZE_THREAD__
  static constexpr uint64_t kMaxSize = uint64_t{256} << 30;  // TSan leaves less than 2 TiB to the program
#else
  static constexpr uint64_t kMaxSize = uint64_t{32} << 40;
#endif

  // Makes a memfd (host call) and maps it. ENOMEM.
  static base::Result<std::unique_ptr<MemoryFile>> Create();
  // The same on a caller-supplied empty file (a tmpfs with huge pages).
  static base::Result<std::unique_ptr<MemoryFile>> CreateFrom(base::UniqueFd fd);
  ~MemoryFile();

  int fd() const { return fd_.get(); }
  // A zeroed range with one reference per page. `length` is a multiple of the page size; `alignment` a power of two.
  base::Result<FileRange> Allocate(uint64_t length, uint64_t alignment = 4096);
  void IncRef(FileRange range);
  void DecRef(FileRange range);
  // True if every page of the range has exactly one reference.
  bool IsUnique(FileRange range);
  // Zeroes by punching the pages out; the references stay.
  void Decommit(FileRange range);
  // The sentry's view of an offset. Contiguous over any allocated range. Touch only through SafeCopy/SafeZero (the host
  // may be out of memory: SIGBUS) and only while holding a reference.
  uint8_t* Pointer(uint64_t offset) const { return base_ + offset; }
  // Returns when more than `limit` bytes are allocated, whether touched or not: until then no more can be in use. For
  // one thread. Others change `limit` and call LimitChanged.
  void AwaitAllocated(const std::atomic<uint64_t>& limit);
  void LimitChanged();
  // Bytes of host memory in use now (fstat: one host call).
  uint64_t UsedBytes() const;
  // Bytes of the range that hold data, in memory or swapped out. Costs by the range, however long the run of data
  // that it lies in (SEEK_HOLE walks that to its end); on hosts before Linux 6.5, what is swapped out isn't counted.
  uint64_t DataBytes(FileRange range) const;
  // One byte per page of the range, as mincore(2).
  void ResidentPages(FileRange range, uint8_t* pages) const;
  // Copies `length` bytes between two ranges, skipping holes of the source. False if the host is out of memory.
  bool Copy(uint64_t from, uint64_t to, uint64_t length);

 private:
  MemoryFile() = default;
  struct Extent {
    uint64_t end;
    uint64_t refs;
  };
  void FreeLocked(uint64_t start, uint64_t end) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Makes an extent begin at `at` if one contains it; returns the first extent at or after `at`.
  std::map<uint64_t, Extent>::iterator SplitLocked(uint64_t at) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Joins neighbours of equal count in and around the range.
  void MergeLocked(uint64_t start, uint64_t end) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // The end of the run of data at `start`, which has data; `limit` at most.
  uint64_t DataEnd(uint64_t start, uint64_t limit) const;
  // Returns the pages to the host. False if the old contents may still be there.
  bool Punch(FileRange range);

  base::UniqueFd fd_;
  uint8_t* base_ = nullptr;
  mutable base::Mutex mu_{base::LockRank::kMemoryFile};
  std::map<uint64_t, Extent> extents_ ABSL_GUARDED_BY(mu_);  // start -> referenced extent
  std::map<uint64_t, uint64_t> free_ ABSL_GUARDED_BY(mu_);   // start -> end, below next_
  uint64_t next_ ABSL_GUARDED_BY(mu_) = 0;
  uint64_t allocated_ ABSL_GUARDED_BY(mu_) = 0;
  const std::atomic<uint64_t>* awaited_ ABSL_GUARDED_BY(mu_) = nullptr;  // whoever allocates beyond it notifies
  base::CondVar beyond_;
};

}  // namespace platform

#endif  // PLATFORM_MEMORY_FILE_H_
