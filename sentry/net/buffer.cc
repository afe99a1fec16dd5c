// SPDX-License-Identifier: Apache-2.0
#include "sentry/net/buffer.h"

#include <stdlib.h>
#include <string.h>

#include <algorithm>
#include <new>

namespace sentry::net {

std::atomic<size_t> Block::total_{0};
std::atomic<size_t> Block::limit_{size_t{512} << 20};

RefPtr<Block> Block::New(size_t capacity) {
  const size_t size = sizeof(Block) + capacity;
  if (total_.fetch_add(size, std::memory_order_relaxed) + size > limit_.load(std::memory_order_relaxed)) {
    total_.fetch_sub(size, std::memory_order_relaxed);
    return nullptr;
  }
  void* memory = malloc(size);
  if (!memory) {
    total_.fetch_sub(size, std::memory_order_relaxed);
    return nullptr;
  }
  return RefPtr<Block>(new (memory) Block(static_cast<uint32_t>(capacity)));
}

void Block::Free() const {
  total_.fetch_sub(sizeof(Block) + capacity_, std::memory_order_relaxed);
  free(const_cast<Block*>(this));
}

Buffer Buffer::Copy(const void* data, size_t length) {
  Buffer buffer;
  if (length == 0) return buffer;
  RefPtr<Block> block = Block::New(length);
  if (!block) return buffer;
  memcpy(block->data(), data, length);
  buffer.AppendWritten(block, length);
  return buffer;
}

size_t Buffer::truesize() const {
  size_t total = 0;
  for (size_t i = 0; i < slices_.size(); ++i) {
    const Slice& s = slices_[i];
    // A block that several slices share is counted for each, up to what the slice could keep alive alone.
    total += sizeof(Slice) + std::min<size_t>(s.block->capacity(), std::max<size_t>(s.length * 2, 512));
  }
  return total;
}

void Buffer::Append(Slice slice) {
  if (slice.length == 0) return;
  size_ += slice.length;
  if (!slices_.empty()) {
    Slice& last = slices_.back();
    if (last.block == slice.block && last.offset + last.length == slice.offset) {
      last.length += slice.length;
      return;
    }
  }
  slices_.push_back(std::move(slice));
}

void Buffer::Append(Buffer&& other) {
  if (slices_.empty()) {
    *this = std::move(other);
    return;
  }
  for (size_t i = 0; i < other.slices_.size(); ++i) Append(std::move(other.slices_[i]));
  other.Clear();
}

void Buffer::AppendWritten(const RefPtr<Block>& block, size_t length) {
  const size_t offset = block->used();
  block->set_used(offset + length);
  Append(Slice{block, static_cast<uint32_t>(offset), static_cast<uint32_t>(length)});
}

size_t Buffer::TailRoom() const {
  if (slices_.empty()) return 0;
  const Slice& last = slices_.back();
  if (last.offset + last.length != last.block->used()) return 0;
  return last.block->capacity() - last.block->used();
}

Buffer Buffer::Share(size_t offset, size_t length) const {
  Buffer shared;
  for (size_t i = 0; i < slices_.size() && length; ++i) {
    const Slice& s = slices_[i];
    if (offset >= s.length) {
      offset -= s.length;
      continue;
    }
    const size_t n = std::min<size_t>(s.length - offset, length);
    shared.Append(Slice{s.block, static_cast<uint32_t>(s.offset + offset), static_cast<uint32_t>(n)});
    offset = 0;
    length -= n;
  }
  return shared;
}

Buffer Buffer::TakeFront(size_t length) {
  if (length >= size_) return std::move(*this);
  Buffer taken;
  while (length) {
    Slice& s = slices_.front();
    const size_t n = std::min<size_t>(s.length, length);
    length -= n;
    size_ -= n;
    if (n == s.length) {
      taken.Append(std::move(s));
      slices_.pop_front();
    } else {
      taken.Append(Slice{s.block, s.offset, static_cast<uint32_t>(n)});
      s.offset += n;
      s.length -= n;
    }
  }
  return taken;
}

void Buffer::TrimFront(size_t length) {
  length = std::min(length, size_);
  size_ -= length;
  while (length) {
    Slice& s = slices_.front();
    if (length < s.length) {
      s.offset += length;
      s.length -= length;
      return;
    }
    length -= s.length;
    slices_.pop_front();
  }
}

void Buffer::TrimTo(size_t length) {
  while (size_ > length) {
    Slice& s = slices_.back();
    const size_t n = std::min<size_t>(s.length, size_ - length);
    s.length -= n;
    size_ -= n;
    if (s.length == 0) slices_.pop_back();
  }
}

void Buffer::CopyTo(size_t offset, void* to, size_t length) const {
  uint8_t* out = static_cast<uint8_t*>(to);
  for (size_t i = 0; i < slices_.size() && length; ++i) {
    const Slice& s = slices_[i];
    if (offset >= s.length) {
      offset -= s.length;
      continue;
    }
    const size_t n = std::min<size_t>(s.length - offset, length);
    memcpy(out, s.data() + offset, n);
    out += n;
    offset = 0;
    length -= n;
  }
}

std::string Buffer::ToString() const {
  std::string text(size_, '\0');
  CopyTo(0, text.data(), size_);
  return text;
}

}  // namespace sentry::net
