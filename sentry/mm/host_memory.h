// SPDX-License-Identifier: Apache-2.0
// The memory manager's host calls: (p)readv, (p)writev, pread64, pwrite64, fstat, mmap and munmap of one page.
#ifndef SENTRY_MM_HOST_MEMORY_H_
#define SENTRY_MM_HOST_MEMORY_H_

#include <sys/uio.h>

#include <cstdint>
#include <vector>

#include "sentry/common.h"

namespace sentry::mm {

// Reads up to `length` bytes at `offset`, until the end of the file: the count, or -1 when none could be read for an
// error.
int64_t HostRead(int fd, void* to, uint64_t length, uint64_t offset);
// Writes, but not past the end of the file (a mapping's last page reaches beyond it, its bytes there are lost).
// The count that counts as written, or -1.
int64_t HostWriteMapped(int fd, const void* from, uint64_t length, uint64_t offset);
// Vectored I/O at `offset`, or at the file's position when negative. The count or the host's error.
Result<size_t> HostReadv(int fd, const std::vector<iovec>& pieces, int64_t offset);
Result<size_t> HostWritev(int fd, const std::vector<iovec>& pieces, int64_t offset);

// A page of a host file mapped shared into the sentry, for atomic access to a futex word. Touch by Safe* only.
class HostPage {
 public:
  HostPage(int fd, uint64_t offset);
  ~HostPage();
  HostPage(const HostPage&) = delete;
  HostPage& operator=(const HostPage&) = delete;
  // Null when it could not be mapped.
  uint8_t* data() const { return data_; }

 private:
  uint8_t* data_ = nullptr;
};

}  // namespace sentry::mm

#endif  // SENTRY_MM_HOST_MEMORY_H_
