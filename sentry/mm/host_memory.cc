// SPDX-License-Identifier: Apache-2.0
// Host calls of the memory manager.
#include "sentry/mm/host_memory.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

namespace sentry::mm {

int64_t HostRead(int fd, void* to, uint64_t length, uint64_t offset) {
  uint64_t done = 0;
  while (done < length) {
    ssize_t n = pread(fd, static_cast<uint8_t*>(to) + done, length - done, offset + done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return done ? static_cast<int64_t>(done) : -1;
    if (n == 0) break;
    done += n;
  }
  return done;
}

int64_t HostWriteMapped(int fd, const void* from, uint64_t length, uint64_t offset) {
  struct stat status;
  if (fstat(fd, &status) != 0) return -1;
  uint64_t size = status.st_size;
  uint64_t inside = offset >= size ? 0 : std::min(length, size - offset);
  uint64_t done = 0;
  while (done < inside) {
    ssize_t n = pwrite(fd, static_cast<const uint8_t*>(from) + done, inside - done, offset + done);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return done ? static_cast<int64_t>(done) : -1;
    done += n;
  }
  return length;
}

Result<size_t> HostReadv(int fd, const std::vector<iovec>& pieces, int64_t offset) {
  ssize_t n = offset < 0 ? readv(fd, pieces.data(), pieces.size()) : preadv(fd, pieces.data(), pieces.size(), offset);
  if (n < 0) return Errno::Last();
  return static_cast<size_t>(n);
}

Result<size_t> HostWritev(int fd, const std::vector<iovec>& pieces, int64_t offset) {
  ssize_t n = offset < 0 ? writev(fd, pieces.data(), pieces.size()) : pwritev(fd, pieces.data(), pieces.size(), offset);
  if (n < 0) return Errno::Last();
  return static_cast<size_t>(n);
}

HostPage::HostPage(int fd, uint64_t offset) {
  void* page = mmap(nullptr, kPageSize, PROT_READ | PROT_WRITE, MAP_SHARED, fd, offset);
  if (page != MAP_FAILED) data_ = static_cast<uint8_t*>(page);
}

HostPage::~HostPage() {
  if (data_) munmap(data_, kPageSize);
}

}  // namespace sentry::mm
