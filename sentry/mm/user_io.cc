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

size_t Clip(std::vector<iovec>& vectors) {
  size_t total = 0;
  for (iovec& vector : vectors) {
    vector.iov_len = std::min(vector.iov_len, kMaxTotal - total);
    total += vector.iov_len;
  }
  return total;
}

uint64_t Address(const iovec& vector) { return reinterpret_cast<uint64_t>(vector.iov_base); }

std::vector<iovec> One(UserAddr address, size_t length) { return {{reinterpret_cast<void*>(address.value()), length}}; }

// What a host call can reach at once from a position in a list of vectors.
struct Batch {
  std::vector<PinnedPages> pins;
  std::vector<iovec> pieces;
  size_t size = 0;
};

Result<Batch> PinBatch(MemoryManager& mm, const std::vector<iovec>& vectors, size_t index, size_t offset, size_t length,
                       bool for_write) {
  Batch batch;
  for (; index < vectors.size() && batch.size < length; ++index, offset = 0) {
    size_t want = std::min(vectors[index].iov_len - offset, length - batch.size);
    if (want == 0) continue;
    auto pinned = mm.Pin(UserAddr(Address(vectors[index]) + offset), want, for_write);
    if (!pinned.ok()) {
      if (batch.size == 0) return pinned.error();
      break;
    }
    size_t got = pinned->size();
    if (batch.pieces.size() + pinned->pieces().size() > kMaxPieces) break;
    batch.pieces.insert(batch.pieces.end(), pinned->pieces().begin(), pinned->pieces().end());
    batch.pins.push_back(std::move(*pinned));
    batch.size += got;
    if (got < want) break;
  }
  return batch;
}

}  // namespace

UserTarget::UserTarget(MemoryManager& mm, std::vector<iovec> vectors) : mm_(mm), vectors_(std::move(vectors)) {
  remaining_ = Clip(vectors_);
}
UserTarget::UserTarget(MemoryManager& mm, UserAddr address, size_t length) : UserTarget(mm, One(address, length)) {}

void UserTarget::Advance(size_t n) {
  remaining_ -= n;
  offset_ += n;
  while (index_ < vectors_.size() && offset_ >= vectors_[index_].iov_len) offset_ -= vectors_[index_++].iov_len;
}

Result<size_t> UserTarget::Put(const void* data, size_t length) {
  length = std::min(length, remaining_);
  size_t done = 0;
  while (done < length) {
    Advance(0);
    size_t want = std::min(length - done, vectors_[index_].iov_len - offset_);
    auto n = mm_.CopyOut(UserAddr(Address(vectors_[index_]) + offset_), static_cast<const uint8_t*>(data) + done, want);
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

Result<size_t> UserTarget::PutZeroes(size_t length) {
  length = std::min(length, remaining_);
  size_t done = 0;
  while (done < length) {
    Advance(0);
    size_t want = std::min(length - done, vectors_[index_].iov_len - offset_);
    auto n = mm_.ZeroOut(UserAddr(Address(vectors_[index_]) + offset_), want);
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

Result<size_t> UserTarget::PutFromHost(int fd, int64_t offset, size_t length) {
  length = std::min(length, remaining_);
  size_t done = 0;
  while (done < length) {
    auto batch = PinBatch(mm_, vectors_, index_, offset_, std::min(length - done, kHostChunk), true);
    Result<size_t> n = Errno(EFAULT);
    size_t asked = length - done;
    int64_t position = offset < 0 ? offset : offset + static_cast<int64_t>(done);
    if (!batch.ok()) {
      n = batch.error();
    } else if (batch->size == 0) {
      n = IoTarget::PutFromHost(fd, position, asked);  // advances by Put
    } else {
      asked = batch->size;
      n = HostReadv(fd, batch->pieces, position);
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

UserSource::UserSource(MemoryManager& mm, std::vector<iovec> vectors) : mm_(mm), vectors_(std::move(vectors)) {
  remaining_ = Clip(vectors_);
}
UserSource::UserSource(MemoryManager& mm, UserAddr address, size_t length) : UserSource(mm, One(address, length)) {}

void UserSource::Advance(size_t n) {
  remaining_ -= n;
  offset_ += n;
  while (index_ < vectors_.size() && offset_ >= vectors_[index_].iov_len) offset_ -= vectors_[index_++].iov_len;
}

Result<size_t> UserSource::Take(void* data, size_t length) {
  length = std::min(length, remaining_);
  size_t done = 0;
  while (done < length) {
    Advance(0);
    size_t want = std::min(length - done, vectors_[index_].iov_len - offset_);
    auto n = mm_.CopyIn(UserAddr(Address(vectors_[index_]) + offset_), static_cast<uint8_t*>(data) + done, want);
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

void UserSource::Untake(size_t length) {
  remaining_ += length;
  while (length > offset_) {
    length -= offset_;
    offset_ = vectors_[--index_].iov_len;
  }
  offset_ -= length;
}

Result<size_t> UserSource::TakeToHost(int fd, int64_t offset, size_t length) {
  length = std::min(length, remaining_);
  size_t done = 0;
  while (done < length) {
    auto batch = PinBatch(mm_, vectors_, index_, offset_, std::min(length - done, kHostChunk), false);
    Result<size_t> n = Errno(EFAULT);
    size_t asked = length - done;
    int64_t position = offset < 0 ? offset : offset + static_cast<int64_t>(done);
    if (!batch.ok()) {
      n = batch.error();
    } else if (batch->size == 0) {
      n = IoSource::TakeToHost(fd, position, asked);  // advances by Take
    } else {
      asked = batch->size;
      n = HostWritev(fd, batch->pieces, position);
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

}  // namespace sentry::mm
