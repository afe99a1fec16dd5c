// SPDX-License-Identifier: Apache-2.0
// IoTarget and IoSource over guest memory. Host files are read into and written from pinned guest pages.
#include <algorithm>

#include "sentry/mm/host_memory.h"
#include "sentry/mm/memory_manager.h"

namespace sentry::mm {
namespace {

constexpr size_t kMaxTotal = 0x7fff'f000;  // MAX_RW_COUNT
constexpr size_t kHostChunk = 4 << 20;     // per host call
constexpr size_t kMaxPieces = 1024;        // IOV_MAX

uint64_t Address(const iovec& vector) { return reinterpret_cast<uint64_t>(vector.iov_base); }

std::vector<iovec> One(UserAddr address, size_t length) { return {{reinterpret_cast<void*>(address.value()), length}}; }

}  // namespace

// What one host call can reach.
struct UserCursor::Batch {
  std::vector<PinnedPages> pins;
  std::vector<iovec> pieces;
  size_t size = 0;
};

UserCursor::UserCursor(MemoryManager& mm, std::vector<iovec> vectors) : mm_(mm), vectors_(std::move(vectors)) {
  for (iovec& vector : vectors_) {
    vector.iov_len = std::min(vector.iov_len, kMaxTotal - remaining_);
    remaining_ += vector.iov_len;
  }
  if (!mm_.HasUserfaults()) return;
  // Here and not under the locks of what is read or written. What is only protected against writes is met by the copy.
  for (const iovec& vector : vectors_) {
    if (!mm_.AwaitUserfaults(UserAddr(Address(vector)), vector.iov_len, false).ok()) return;
  }
}

void UserCursor::Advance(size_t n) {
  remaining_ -= n;
  offset_ += n;
  while (index_ < vectors_.size() && offset_ >= vectors_[index_].iov_len) offset_ -= vectors_[index_++].iov_len;
}

void UserCursor::Retreat(size_t n) {
  remaining_ += n;
  while (n > offset_) {
    n -= offset_;
    offset_ = vectors_[--index_].iov_len;
  }
  offset_ -= n;
}

template <typename Step>
Result<size_t> UserCursor::Walk(size_t length, Step step) {
  length = std::min(length, remaining_);
  size_t done = 0;
  while (done < length) {
    Advance(0);  // past vectors of no length
    const size_t want = std::min(length - done, vectors_[index_].iov_len - offset_);
    Result<size_t> n = step(UserAddr(Address(vectors_[index_]) + offset_), done, want);
    if (!n.ok()) {
      if (done) break;
      return n;
    }
    done += *n;
    Advance(*n);
    if (*n < want) break;
  }
  return done;
}

Result<UserCursor::Batch> UserCursor::Pin(size_t length, bool for_write) const {
  Batch batch;
  size_t offset = offset_;
  for (size_t index = index_; index < vectors_.size() && batch.size < length; ++index, offset = 0) {
    const size_t want = std::min(vectors_[index].iov_len - offset, length - batch.size);
    if (want == 0) continue;
    auto pinned = mm_.Pin(UserAddr(Address(vectors_[index]) + offset), want, for_write);
    if (!pinned.ok()) {
      if (batch.size == 0) return pinned.error();
      break;
    }
    const size_t got = pinned->size();
    if (batch.pieces.size() + pinned->pieces().size() > kMaxPieces) break;
    batch.pieces.insert(batch.pieces.end(), pinned->pieces().begin(), pinned->pieces().end());
    batch.pins.push_back(std::move(*pinned));
    batch.size += got;
    if (got < want) break;
  }
  return batch;
}

template <typename Call, typename Bounce>
Result<size_t> UserCursor::WalkPinned(size_t length, int64_t offset, bool for_write, Call call, Bounce bounce) {
  length = std::min(length, remaining_);
  size_t done = 0;
  while (done < length) {
    auto batch = Pin(std::min(length - done, kHostChunk), for_write);
    Result<size_t> n = Errno(EFAULT);
    size_t asked = length - done;
    const int64_t position = offset < 0 ? offset : offset + static_cast<int64_t>(done);
    if (!batch.ok()) {
      n = batch.error();
    } else if (batch->size == 0) {
      n = bounce(position, asked);
    } else {
      asked = batch->size;
      n = call(batch->pieces, position);
      if (n.ok()) Advance(*n);
    }
    if (!n.ok()) {
      if (done) break;
      return n;
    }
    done += *n;
    if (offset < 0 || *n < asked) break;
  }
  return done;
}

UserTarget::UserTarget(MemoryManager& mm, UserAddr address, size_t length) : UserTarget(mm, One(address, length)) {}

Result<size_t> UserTarget::Put(const void* data, size_t length) {
  return at_.Walk(length, [&](UserAddr to, size_t done, size_t want) {
    return at_.mm().CopyOut(to, static_cast<const uint8_t*>(data) + done, want);
  });
}

Result<size_t> UserTarget::PutZeroes(size_t length) {
  return at_.Walk(length, [&](UserAddr to, size_t, size_t want) { return at_.mm().ZeroOut(to, want); });
}

Result<size_t> UserTarget::PutFromHost(int fd, int64_t offset, size_t length) {
  return at_.WalkPinned(
      length, offset, true,
      [&](const std::vector<iovec>& pieces, int64_t position) { return HostReadv(fd, pieces, position); },
      [&](int64_t position, size_t want) { return IoTarget::PutFromHost(fd, position, want); });
}

UserSource::UserSource(MemoryManager& mm, UserAddr address, size_t length) : UserSource(mm, One(address, length)) {}

Result<size_t> UserSource::Take(void* data, size_t length) {
  return at_.Walk(length, [&](UserAddr from, size_t done, size_t want) {
    return at_.mm().CopyIn(from, static_cast<uint8_t*>(data) + done, want);
  });
}

Result<size_t> UserSource::TakeToHost(int fd, int64_t offset, size_t length) {
  return at_.WalkPinned(
      length, offset, false,
      [&](const std::vector<iovec>& pieces, int64_t position) { return HostWritev(fd, pieces, position); },
      [&](int64_t position, size_t want) { return IoSource::TakeToHost(fd, position, want); });
}

}  // namespace sentry::mm
