// SPDX-License-Identifier: Apache-2.0
// Data of regular files: read, write, truncate, fallocate, holes.
#include "sentry/fs/tmpfs/regular_file.h"

#include <linux/falloc.h>
#include <fcntl.h>

#include <algorithm>

#include "platform/safe_copy.h"
#include "sentry/kernel/core/caller.h"
#include "sentry/vfs/permission.h"

namespace sentry::tmpfs {
namespace {
constexpr uint64_t kMaxFileSize = INT64_MAX;
// Pages are prepared for this much of a write at a time.
constexpr uint64_t kWriteChunk = 1 << 20;
}  // namespace

TmpfsRegularFile::TmpfsRegularFile(Tmpfs& filesystem, const vfs::CreateAttributes& attributes)
    : TmpfsInode(filesystem, S_IFREG, attributes), pages_(filesystem.memory()), seals_(F_SEAL_SEAL) {}

TmpfsRegularFile::~TmpfsRegularFile() {
  MutexLock lock(pages_mu_);
  tmpfs().ReleasePages(pages_.pages());
}

void TmpfsRegularFile::FillStatLocked(vfs::InodeStat* stat) const {
  stat->size = size_.load(std::memory_order_relaxed);
  MutexLock lock(pages_mu_);
  stat->blocks = pages_.pages() * (kPageSize / 512);
}

void TmpfsRegularFile::SetSizeLocked(uint64_t size) {
  MutexLock lock(pages_mu_);
  size_.store(size, std::memory_order_release);
}

Result<size_t> TmpfsRegularFile::Read(IoTarget& target, int64_t offset) {
  if (offset < 0) return Errno(EINVAL);
  InodeLock lock(mu_);
  size_t done = 0;
  uint64_t at = offset;
  while (target.remaining() > 0) {
    const uint64_t size = size_.load(std::memory_order_relaxed);
    if (at >= size) break;
    uint64_t want = std::min<uint64_t>(size - at, target.remaining());
    PageMap::Run run;
    {
      MutexLock pages_lock(pages_mu_);
      run = pages_.At(at);
    }
    want = std::min(want, run.length);
    // Pages leave the map only under mu_, so that the run stays valid.
    auto put = run.is_data ? target.Put(tmpfs().memory().Pointer(run.memory_offset), want) : target.PutZeroes(want);
    if (!put.ok()) {
      if (done) break;
      return put;
    }
    done += *put;
    at += *put;
    if (*put < want) break;
  }
  return done;
}

// Charges and makes the holes of a page-aligned range, all or nothing.
Result<void> TmpfsRegularFile::FillLocked(uint64_t start, uint64_t end) {
  const uint64_t missing = pages_.MissingPages(start, end);
  if (!missing) return OkResult();
  TRY(tmpfs().ChargePages(missing));
  uint64_t added = 0;
  auto filled = pages_.Fill(start, end, &added);
  if (added < missing) tmpfs().ReleasePages(missing - added);
  return filled.ok() ? OkResult() : Result<void>(Errno(ENOSPC));
}

Result<uint64_t> TmpfsRegularFile::PrepareWrite(uint64_t offset, uint64_t length) {
  const uint64_t start = PageDown(offset), end = PageUp(offset + length);
  MutexLock lock(pages_mu_);
  if (FillLocked(start, end).ok()) return length;
  // Nearly full: as far as it goes.
  uint64_t at = start;
  while (at < end && FillLocked(at, at + kPageSize).ok()) at += kPageSize;
  if (at <= offset) return Errno(ENOSPC);
  return std::min(at - offset, length);
}

Result<size_t> TmpfsRegularFile::Write(IoSource& source, int64_t offset, int64_t* end) {
  InodeLock lock(mu_);
  uint64_t at = offset == -1 ? size_.load(std::memory_order_relaxed) : static_cast<uint64_t>(offset);
  if (offset < -1) return Errno(EINVAL);
  if (source.remaining() == 0) {
    *end = static_cast<int64_t>(at);
    return size_t{0};
  }
  if (at >= kMaxFileSize) return Errno(EFBIG);
  if (seals_ & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)) return Errno(EPERM);
  uint64_t limit = kMaxFileSize;
  if (seals_ & F_SEAL_GROW) {
    limit = size_.load(std::memory_order_relaxed);
    if (at + source.remaining() > limit) return Errno(EPERM);
  }
  size_t done = 0;
  Errno error(0);
  while (source.remaining() > 0 && at < limit) {
    auto prepared = PrepareWrite(at, std::min<uint64_t>({source.remaining(), kWriteChunk, limit - at}));
    if (!prepared.ok()) {
      error = prepared.error();
      break;
    }
    uint64_t want = *prepared;
    PageMap::Run run;
    {
      MutexLock pages_lock(pages_mu_);
      run = pages_.At(at);
    }
    want = std::min(want, run.length);
    auto taken = source.Take(tmpfs().memory().Pointer(run.memory_offset), want);
    if (!taken.ok()) {
      error = taken.error();
      break;
    }
    done += *taken;
    at += *taken;
    if (at > size_.load(std::memory_order_relaxed)) SetSizeLocked(at);
    if (*taken < want) break;
  }
  if (done == 0 && error.number() != 0) return error;
  Caller* caller = Caller::CurrentOrNull();
  if (mode_ & (S_ISUID | S_ISGID)) {
    if (auto mode = vfs::ModeAfterWrite(StatLocked(), caller ? caller->creds().get() : nullptr)) mode_ = *mode;
  }
  TouchLocked(true);
  *end = static_cast<int64_t>(at);
  return done;
}

void TmpfsRegularFile::ZeroLocked(uint64_t start, uint64_t end) {
  for (uint64_t at = start; at < end;) {
    PageMap::Run run;
    {
      MutexLock lock(pages_mu_);
      run = pages_.At(at);
    }
    const uint64_t length = std::min(run.length, end - at);
    if (run.is_data) platform::SafeZero(tmpfs().memory().Pointer(run.memory_offset), length);
    at += length;
  }
}

// Zeroes the edges and frees the whole pages in between.
void TmpfsRegularFile::PunchLocked(uint64_t start, uint64_t end) {
  const uint64_t first = PageUp(start), last = PageDown(end);
  if (first > last) {
    ZeroLocked(start, end);
    return;
  }
  ZeroLocked(start, first);
  ZeroLocked(last, end);
  std::vector<platform::FileRange> removed;
  {
    MutexLock lock(pages_mu_);
    tmpfs().ReleasePages(pages_.Remove(first, last, &removed));
  }
  if (removed.empty()) return;
  if (!reverse_map_.Empty()) reverse_map_.Invalidate(first, last - first, false);
  for (const platform::FileRange& range : removed) tmpfs().memory().DecRef(range);
}

void TmpfsRegularFile::ShrinkLocked(uint64_t size) {
  const uint64_t keep = PageUp(size);
  std::vector<platform::FileRange> removed;
  SetSizeLocked(size);
  {
    MutexLock lock(pages_mu_);
    tmpfs().ReleasePages(pages_.Remove(keep, PageDown(UINT64_MAX), &removed));
  }
  if (size < keep) ZeroLocked(size, keep);
  if (!reverse_map_.Empty()) reverse_map_.Invalidate(keep, PageDown(UINT64_MAX) - keep, true);
  for (const platform::FileRange& range : removed) tmpfs().memory().DecRef(range);
}

Result<void> TmpfsRegularFile::Resize(uint64_t size) {
  if (size > kMaxFileSize) return Errno(EFBIG);
  InodeLock lock(mu_);
  const uint64_t old = size_.load(std::memory_order_relaxed);
  if ((size < old && (seals_ & F_SEAL_SHRINK)) || (size > old && (seals_ & F_SEAL_GROW))) return Errno(EPERM);
  if (size < old) {
    ShrinkLocked(size);
  } else {
    SetSizeLocked(size);
  }
  TouchLocked(true);
  return OkResult();
}

Result<void> TmpfsRegularFile::Allocate(int mode, uint64_t offset, uint64_t length) {
  if (length == 0) return Errno(EINVAL);
  if (offset > kMaxFileSize || length > kMaxFileSize - offset) return Errno(EFBIG);
  if (mode & ~(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) return Errno(EOPNOTSUPP);
  const bool punch = mode & FALLOC_FL_PUNCH_HOLE, zero = mode & FALLOC_FL_ZERO_RANGE,
             keep_size = mode & FALLOC_FL_KEEP_SIZE;
  if (punch && (zero || !keep_size)) return Errno(EOPNOTSUPP);
  InodeLock lock(mu_);
  const uint64_t end = offset + length, size = size_.load(std::memory_order_relaxed);
  if ((punch || zero) && (seals_ & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE))) return Errno(EPERM);
  if (!punch && !keep_size && end > size && (seals_ & F_SEAL_GROW)) return Errno(EPERM);
  if (punch) {
    PunchLocked(offset, end);
    TouchLocked(true);
    return OkResult();
  }
  if (zero) ZeroLocked(offset, std::min(end, std::max(size, offset)));
  {
    MutexLock pages_lock(pages_mu_);
    TRY(FillLocked(PageDown(offset), PageUp(end)));
  }
  if (!keep_size && end > size) SetSizeLocked(end);
  TouchLocked(true);
  return OkResult();
}

Result<void> TmpfsRegularFile::PunchHole(uint64_t offset, uint64_t length) {
  InodeLock lock(mu_);
  if (seals_ & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)) return Errno(EPERM);
  const uint64_t end = length > kMaxFileSize - std::min(offset, kMaxFileSize) ? kMaxFileSize : offset + length;
  if (offset < end) PunchLocked(offset, end);
  TouchLocked(true);
  return OkResult();
}

Result<int64_t> TmpfsRegularFile::SeekData(int64_t offset, bool hole) {
  InodeLock lock(mu_);
  const uint64_t size = size_.load(std::memory_order_relaxed);
  if (offset < 0 || static_cast<uint64_t>(offset) >= size) return Errno(ENXIO);
  MutexLock pages_lock(pages_mu_);
  for (uint64_t at = offset; at < size;) {
    PageMap::Run run = pages_.At(at);
    if (run.is_data != hole) return static_cast<int64_t>(at);
    at = run.length > size - at ? size : at + run.length;
  }
  // The end of the file is a hole, never data.
  return hole ? Result<int64_t>(static_cast<int64_t>(size)) : Result<int64_t>(Errno(ENXIO));
}

}  // namespace sentry::tmpfs
