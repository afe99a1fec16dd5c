// SPDX-License-Identifier: Apache-2.0
// Where a read puts its bytes (IoTarget) and where a write takes them from (IoSource): guest memory, a kernel buffer or
// another file. Used by one thread. Both advance; a fault after some bytes gives a short count, at once EFAULT.
#ifndef SENTRY_KERNEL_CORE_IO_H_
#define SENTRY_KERNEL_CORE_IO_H_

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <span>

#include "sentry/common.h"

namespace sentry {

class IoTarget {
 public:
  virtual ~IoTarget() = default;
  // Bytes still wanted.
  virtual size_t remaining() const = 0;
  // Appends up to min(length, remaining()); the count done, or EFAULT when none could be.
  virtual Result<size_t> Put(const void* data, size_t length) = 0;
  virtual Result<size_t> PutZeroes(size_t length);
  // Appends from a host file at `offset` (-1: its position/stream); the count, 0 at end of file, or the host's error.
  // The default goes through a bounce buffer; guest memory overrides it to read straight into pinned pages.
  virtual Result<size_t> PutFromHost(int fd, int64_t offset, size_t length);
};

class IoSource {
 public:
  virtual ~IoSource() = default;
  virtual size_t remaining() const = 0;
  virtual Result<size_t> Take(void* data, size_t length) = 0;
  // Puts the last `length` bytes taken back (a short write after Take). Only as many as the last Take gave.
  virtual void Untake(size_t length) = 0;
  virtual Result<size_t> TakeToHost(int fd, int64_t offset, size_t length);
};

class BufferTarget final : public IoTarget {
 public:
  explicit BufferTarget(std::span<uint8_t> buffer) : buffer_(buffer) {}
  BufferTarget(void* data, size_t length) : buffer_(static_cast<uint8_t*>(data), length) {}
  size_t remaining() const override { return buffer_.size() - done_; }
  size_t done() const { return done_; }
  Result<size_t> Put(const void* data, size_t length) override;

 private:
  std::span<uint8_t> buffer_;
  size_t done_ = 0;
};

class BufferSource final : public IoSource {
 public:
  explicit BufferSource(std::span<const uint8_t> buffer) : buffer_(buffer) {}
  BufferSource(const void* data, size_t length) : buffer_(static_cast<const uint8_t*>(data), length) {}
  size_t remaining() const override { return buffer_.size() - done_; }
  size_t done() const { return done_; }
  Result<size_t> Take(void* data, size_t length) override;
  void Untake(size_t length) override { done_ -= length; }

 private:
  std::span<const uint8_t> buffer_;
  size_t done_ = 0;
};

}  // namespace sentry

#endif  // SENTRY_KERNEL_CORE_IO_H_
