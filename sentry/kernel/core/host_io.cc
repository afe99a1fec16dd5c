// SPDX-License-Identifier: Apache-2.0
// Buffers, and the bounce path between host files and any target or source.
#include <string.h>
#include <unistd.h>

#include <algorithm>

#include "sentry/kernel/core/io.h"

namespace sentry {
namespace {
constexpr size_t kBounce = 16384;
}

Result<size_t> IoTarget::PutZeroes(size_t length) {
  static const uint8_t kZeroes[4096] = {};
  size_t done = 0;
  while (done < length && remaining() > 0) {
    auto n = Put(kZeroes, std::min(length - done, sizeof kZeroes));
    if (!n.ok()) {
      if (done) break;
      return n;
    }
    if (*n == 0) break;
    done += *n;
  }
  return done;
}

Result<size_t> IoTarget::PutFromHost(int fd, int64_t offset, size_t length) {
  uint8_t bounce[kBounce];
  size_t done = 0;
  length = std::min(length, remaining());
  while (done < length) {
    size_t want = std::min(length - done, sizeof bounce);
    ssize_t got = offset < 0 ? read(fd, bounce, want) : pread(fd, bounce, want, offset + done);
    if (got < 0) {
      if (done) break;
      return Errno::Last();
    }
    if (got == 0) break;
    auto put = Put(bounce, got);
    if (!put.ok()) {
      if (done) break;
      return put;
    }
    done += *put;
    if (*put < static_cast<size_t>(got) || static_cast<size_t>(got) < want) break;
  }
  return done;
}

Result<size_t> IoSource::TakeToHost(int fd, int64_t offset, size_t length) {
  uint8_t bounce[kBounce];
  size_t done = 0;
  length = std::min(length, remaining());
  while (done < length) {
    auto taken = Take(bounce, std::min(length - done, sizeof bounce));
    if (!taken.ok()) {
      if (done) break;
      return taken;
    }
    if (*taken == 0) break;
    ssize_t put = offset < 0 ? write(fd, bounce, *taken) : pwrite(fd, bounce, *taken, offset + done);
    if (put < 0) {
      Errno error = Errno::Last();
      Untake(*taken);
      if (done) break;
      return error;
    }
    done += put;
    if (static_cast<size_t>(put) < *taken) {
      Untake(*taken - put);
      break;
    }
  }
  return done;
}

Result<size_t> BufferTarget::Put(const void* data, size_t length) {
  length = std::min(length, remaining());
  memcpy(buffer_.data() + done_, data, length);
  done_ += length;
  return length;
}

Result<size_t> BufferSource::Take(void* data, size_t length) {
  length = std::min(length, remaining());
  memcpy(data, buffer_.data() + done_, length);
  done_ += length;
  return length;
}

}  // namespace sentry
