// SPDX-License-Identifier: Apache-2.0
#include "platform/memory_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <iterator>
#include <utility>
#include <vector>

#include "base/log.h"
#include "platform/platform.h"
#include "platform/safe_copy.h"

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif

namespace platform {
namespace {

// Candidates looked at before an allocation goes to the file's end: bounds the time under the lock.
constexpr int kMaxFreeProbes = 128;

uint64_t AlignUp(uint64_t value, uint64_t alignment) { return (value + alignment - 1) & ~(alignment - 1); }

// cachestat(2), Linux 6.5: not in the headers of older ones.
#ifndef SYS_cachestat
#define SYS_cachestat 451
#endif
struct CachestatRange {
  uint64_t offset, length;
};
struct Cachestat {
  uint64_t cached, dirty, writeback, evicted, recently_evicted;
};

// Pages asked for at once where mincore(2) has to do.
constexpr uint64_t kMincorePages = 4096;
// Runs of data up to this long are found page by page rather than by SEEK_HOLE.
constexpr uint64_t kShortRun = 64 * kPageSize;

}  // namespace

base::Result<std::unique_ptr<MemoryFile>> MemoryFile::Create() {
  int fd = memfd_create("guest-memory", MFD_CLOEXEC | MFD_NOEXEC_SEAL);
  // Kernels before 6.3 don't know the flag, which only silences a warning about an executable file.
  if (fd < 0 && errno == EINVAL) fd = memfd_create("guest-memory", MFD_CLOEXEC);
  if (fd < 0) return base::Errno::Last();
  return CreateFrom(base::UniqueFd(fd));
}

base::Result<std::unique_ptr<MemoryFile>> MemoryFile::CreateFrom(base::UniqueFd fd) {
  if (ftruncate(fd.get(), static_cast<off_t>(kMaxSize)) != 0) return base::Errno::Last();
  void* base = mmap(nullptr, kMaxSize, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd.get(), 0);
  if (base == MAP_FAILED) return base::Errno::Last();
  // Guest memory belongs neither in the sentry's core dumps nor in processes forked from it.
  madvise(base, kMaxSize, MADV_DONTDUMP);
  madvise(base, kMaxSize, MADV_DONTFORK);
  std::unique_ptr<MemoryFile> file(new MemoryFile());
  file->fd_ = std::move(fd);
  file->base_ = static_cast<uint8_t*>(base);
  return file;
}

MemoryFile::~MemoryFile() {
  if (base_ != nullptr) munmap(base_, kMaxSize);
}

base::Result<FileRange> MemoryFile::Allocate(uint64_t length, uint64_t alignment) {
  if (length == 0 || length % kPageSize != 0 || alignment == 0 || (alignment & (alignment - 1)) != 0) {
    return base::Errno(EINVAL);
  }
  if (length > kMaxSize) return base::Errno(ENOMEM);
  alignment = std::max(alignment, kPageSize);
  base::MutexLock lock(mu_);
  FileRange range;
  int probes = 0;
  for (auto it = free_.begin(); it != free_.end() && probes < kMaxFreeProbes; ++it, ++probes) {
    uint64_t start = AlignUp(it->first, alignment);
    uint64_t end = it->second;
    if (start >= end || end - start < length) continue;
    range = {start, start + length};
    if (start == it->first) {
      free_.erase(it);
    } else {
      it->second = start;
    }
    if (range.end < end) free_.emplace(range.end, end);
    break;
  }
  if (range.end == 0) {
    uint64_t start = AlignUp(next_, alignment);
    if (start > kMaxSize || kMaxSize - start < length) return base::Errno(ENOMEM);
    range = {start, start + length};
    if (start > next_) FreeLocked(next_, start);
    next_ = range.end;
  }
  extents_.emplace(range.start, Extent{range.end, 1});
  allocated_ += length;
  if (awaited_ != nullptr && allocated_ > awaited_->load(std::memory_order_relaxed)) beyond_.NotifyOne();
  return range;
}

std::map<uint64_t, MemoryFile::Extent>::iterator MemoryFile::SplitLocked(uint64_t at) {
  auto it = extents_.lower_bound(at);
  if (it != extents_.end() && it->first == at) return it;
  if (it == extents_.begin()) return it;
  auto before = std::prev(it);
  if (before->second.end <= at) return it;
  Extent rest = before->second;
  before->second.end = at;
  return extents_.emplace_hint(it, at, rest);
}

void MemoryFile::FreeLocked(uint64_t start, uint64_t end) {
  auto next = free_.lower_bound(start);
  if (next != free_.end() && next->first == end) {
    end = next->second;
    next = free_.erase(next);
  }
  if (next != free_.begin()) {
    auto before = std::prev(next);
    if (before->second == start) {
      before->second = end;
      return;
    }
  }
  free_.emplace_hint(next, start, end);
}

void MemoryFile::MergeLocked(uint64_t start, uint64_t end) {
  auto it = extents_.lower_bound(start);
  if (it != extents_.begin()) --it;
  while (it != extents_.end() && it->first <= end) {
    auto next = std::next(it);
    if (next == extents_.end()) break;
    if (it->second.end == next->first && it->second.refs == next->second.refs) {
      it->second.end = next->second.end;
      extents_.erase(next);
    } else {
      it = next;
    }
  }
}

void MemoryFile::IncRef(FileRange range) {
  base::MutexLock lock(mu_);
  auto it = SplitLocked(range.start);
  SplitLocked(range.end);
  uint64_t at = range.start;
  for (; it != extents_.end() && it->first < range.end; ++it) {
    CHECK_THAT(it->first == at);
    ++it->second.refs;
    at = it->second.end;
  }
  CHECK_THAT(at == range.end);
  MergeLocked(range.start, range.end);
}

void MemoryFile::DecRef(FileRange range) {
  std::vector<FileRange> dead;
  {
    base::MutexLock lock(mu_);
    auto it = SplitLocked(range.start);
    SplitLocked(range.end);
    uint64_t at = range.start;
    while (it != extents_.end() && it->first < range.end) {
      CHECK_THAT(it->first == at);
      at = it->second.end;
      if (--it->second.refs > 0) {
        ++it;
        continue;
      }
      if (!dead.empty() && dead.back().end == it->first) {
        dead.back().end = at;
      } else {
        dead.push_back({it->first, at});
      }
      it = extents_.erase(it);
    }
    CHECK_THAT(at == range.end);
    MergeLocked(range.start, range.end);
  }
  if (dead.empty()) return;
  // Nobody refers to these pages and they are not yet free: punched without the lock.
  std::erase_if(dead, [this](FileRange r) { return !Punch(r); });
  base::MutexLock lock(mu_);
  for (FileRange r : dead) {
    FreeLocked(r.start, r.end);
    allocated_ -= r.length();
  }
}

bool MemoryFile::IsUnique(FileRange range) {
  base::MutexLock lock(mu_);
  auto it = extents_.upper_bound(range.start);
  if (it == extents_.begin()) return false;
  --it;
  uint64_t at = range.start;
  while (at < range.end) {
    if (it == extents_.end() || it->first > at || it->second.end <= at || it->second.refs != 1) return false;
    at = it->second.end;
    ++it;
  }
  return true;
}

bool MemoryFile::Punch(FileRange range) {
  int result;
  do {
    result = fallocate(fd_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(range.start),
                       static_cast<off_t>(range.length()));
  } while (result != 0 && errno == EINTR);
  if (result == 0) return true;
  // The next owner must find zeroes; pages that can't be cleared are lost rather than leaked to another process.
  LOG_WARNING("memory file: punching [%#lx, %#lx): errno %d; zeroing instead", range.start, range.end, errno);
  return SafeZero(Pointer(range.start), range.length()) == range.length();
}

void MemoryFile::Decommit(FileRange range) {
  if (range.length() > 0) Punch(range);
}

void MemoryFile::AwaitAllocated(const std::atomic<uint64_t>& limit) {
  base::MutexLock lock(mu_);
  awaited_ = &limit;
  while (allocated_ <= limit.load(std::memory_order_relaxed)) beyond_.Wait(mu_);
  awaited_ = nullptr;
}

void MemoryFile::LimitChanged() {
  base::MutexLock lock(mu_);
  beyond_.NotifyOne();
}

uint64_t MemoryFile::UsedBytes() const {
  struct stat st;
  if (fstat(fd_.get(), &st) != 0) return 0;
  return static_cast<uint64_t>(st.st_blocks) * 512;
}

uint64_t MemoryFile::DataBytes(FileRange range) const {
  CachestatRange where = {range.start, range.length()};
  Cachestat found{};
  if (syscall(SYS_cachestat, fd_.get(), &where, &found, 0) == 0) return (found.cached + found.evicted) * kPageSize;
  std::vector<uint8_t> pages(std::min(kMincorePages, range.length() / kPageSize));
  uint64_t bytes = 0;
  for (uint64_t at = range.start; at < range.end;) {
    off_t data = lseek(fd_.get(), static_cast<off_t>(at), SEEK_DATA);
    if (data < 0 || static_cast<uint64_t>(data) >= range.end) break;
    at = static_cast<uint64_t>(data);
    FileRange part = {at, std::min(range.end, at + kMincorePages * kPageSize)};
    ResidentPages(part, pages.data());
    for (uint64_t i = 0; i < part.length() / kPageSize; i++) bytes += (pages[i] & 1) * kPageSize;
    at = part.end;
  }
  return bytes;
}

void MemoryFile::ResidentPages(FileRange range, uint8_t* pages) const {
  if (mincore(Pointer(range.start), range.length(), pages) != 0) std::fill_n(pages, range.length() / kPageSize, 0);
}

uint64_t MemoryFile::DataEnd(uint64_t start, uint64_t limit) const {
  CachestatRange where = {start, limit - start};
  Cachestat found{};
  bool known = syscall(SYS_cachestat, fd_.get(), &where, &found, 0) == 0;
  if (known && (found.cached + found.evicted) * kPageSize == where.length) return limit;
  if (where.length > kShortRun) {
    off_t hole = lseek(fd_.get(), static_cast<off_t>(start), SEEK_HOLE);
    return hole < 0 ? limit : std::min(limit, static_cast<uint64_t>(hole));
  }
  uint64_t end = start;
  do {
    end += kPageSize;
  } while (end < limit && lseek(fd_.get(), static_cast<off_t>(end), SEEK_DATA) == static_cast<off_t>(end));
  return end;
}

bool MemoryFile::Copy(uint64_t from, uint64_t to, uint64_t length) {
  uint64_t done = 0;
  while (done < length) {
    // Reading a hole through the mapping would allocate it.
    off_t data = lseek(fd_.get(), static_cast<off_t>(from + done), SEEK_DATA);
    if (data < 0) return errno == ENXIO;
    uint64_t start = static_cast<uint64_t>(data) - from;
    if (start >= length) return true;
    // Punched by another thread between the two calls: look again.
    uint64_t end = DataEnd(static_cast<uint64_t>(data), from + length) - from;
    if (end <= start) continue;
    for (done = start; done < end;) {
      // The destination's pages need not be mapped in the sentry for this.
      ssize_t n = pwrite(fd_.get(), Pointer(from + done), end - done, static_cast<off_t>(to + done));
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) return false;
      done += static_cast<uint64_t>(n);
    }
  }
  return true;
}

}  // namespace platform
