// SPDX-License-Identifier: Apache-2.0
// Bytes on their way: blocks that are written once and then shared, and chains of slices of them. A slice that crosses
// the loopback is the sender's own block; nothing is copied between the two copies from and to user memory.
// A Block may be read by many threads; a Buffer belongs to its owner's lock.
#ifndef SENTRY_NET_BUFFER_H_
#define SENTRY_NET_BUFFER_H_

#include <atomic>
#include <cstdint>
#include <string>
#include <string_view>

#include "sentry/common.h"
#include "sentry/net/ring.h"

namespace sentry::net {

class Block {
 public:
  // Null when all blocks of the process together are at their limit (set_limit) or memory is short.
  static RefPtr<Block> New(size_t capacity);
  static void set_limit(size_t bytes) { limit_.store(bytes, std::memory_order_relaxed); }
  static size_t total() { return total_.load(std::memory_order_relaxed); }

  uint8_t* data() { return reinterpret_cast<uint8_t*>(this + 1); }
  size_t capacity() const { return capacity_; }
  // How far it is written. Only the owner of the last slice moves it, by Buffer::Append.
  size_t used() const { return used_; }
  void set_used(size_t used) { used_ = static_cast<uint32_t>(used); }

  void IncRef() const { refs_.fetch_add(1, std::memory_order_relaxed); }
  void DecRef() const {
    if (refs_.fetch_sub(1, std::memory_order_acq_rel) == 1) Free();
  }

 private:
  explicit Block(uint32_t capacity) : capacity_(capacity) {}
  void Free() const;
  static std::atomic<size_t> total_, limit_;
  mutable std::atomic<int32_t> refs_{0};
  uint32_t capacity_, used_ = 0;
};

struct Slice {
  RefPtr<Block> block;
  uint32_t offset = 0, length = 0;
  const uint8_t* data() const { return block->data() + offset; }
};

class Buffer {
 public:
  Buffer() = default;
  Buffer(Buffer&& other) noexcept : slices_(std::move(other.slices_)), size_(std::exchange(other.size_, 0)) {}
  Buffer& operator=(Buffer&& other) noexcept {
    slices_ = std::move(other.slices_);
    size_ = std::exchange(other.size_, 0);
    return *this;
  }
  // A copy of `bytes`; empty when no block is to be had.
  static Buffer Copy(const void* data, size_t length);

  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  size_t slice_count() const { return slices_.size(); }
  const Slice& slice(size_t i) const { return slices_[i]; }
  // What the blocks take in memory, and a bit for each slice.
  size_t truesize() const;

  void Append(Slice slice);
  void Append(Buffer&& other);
  // Appends the first `length` bytes of a block's unwritten rest that were just written: extends the last slice if it
  // can.
  void AppendWritten(const RefPtr<Block>& block, size_t length);
  // Room behind the last slice in its block, if this buffer is the only one to write there.
  size_t TailRoom() const;
  uint8_t* Tail() { return slices_.back().block->data() + slices_.back().block->used(); }
  const RefPtr<Block>& TailBlock() const { return slices_.back().block; }

  // Shares a range, which must exist.
  Buffer Share(size_t offset, size_t length) const;
  // Moves the first `length` bytes out.
  Buffer TakeFront(size_t length);
  void TrimFront(size_t length);
  void TrimTo(size_t length);
  void CopyTo(size_t offset, void* to, size_t length) const;
  std::string ToString() const;
  void Clear() {
    slices_.clear();
    size_ = 0;
  }

 private:
  Ring<Slice> slices_;
  size_t size_ = 0;
};

}  // namespace sentry::net

#endif  // SENTRY_NET_BUFFER_H_
