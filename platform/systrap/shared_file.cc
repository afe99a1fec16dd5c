// SPDX-License-Identifier: Apache-2.0
#include "platform/systrap/shared_file.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/log.h"

namespace platform::systrap {
namespace {

// Address space and file size only; pages come with use.
constexpr uint64_t kFileSize = uint64_t{4} << 30;

absl::Status HostError(const char* what) {
  return absl::UnavailableError(std::string("systrap platform: shared memory: ") + what + ": " + strerror(errno));
}

}  // namespace

absl::StatusOr<std::unique_ptr<SharedFile>> SharedFile::Create() {
  std::unique_ptr<SharedFile> file(new SharedFile());
  file->fd_.Reset(memfd_create("systrap", MFD_CLOEXEC));
  if (!file->fd_) return HostError("memfd_create");
  if (ftruncate(file->fd_.get(), static_cast<off_t>(kFileSize)) != 0) return HostError("ftruncate");
  void* base = mmap(nullptr, kFileSize, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, file->fd_.get(), 0);
  if (base == MAP_FAILED) return HostError("mmap");
  madvise(base, kFileSize, MADV_DONTDUMP);
  madvise(base, kFileSize, MADV_DONTFORK);
  file->base_ = static_cast<uint8_t*>(base);
  return file;
}

SharedFile::~SharedFile() {
  if (base_ != nullptr) munmap(base_, kFileSize);
}

base::Result<uint64_t> SharedFile::Allocate() {
  base::MutexLock lock(mu_);
  if (!free_.empty()) {
    uint64_t offset = free_.back();
    free_.pop_back();
    return offset;
  }
  if (next_ >= kFileSize) return base::Errno(ENOMEM);
  uint64_t offset = next_;
  next_ += kAreaSize;
  return offset;
}

void SharedFile::Free(uint64_t offset) {
  int result;
  do {
    result = fallocate(fd_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(offset), kAreaSize);
  } while (result != 0 && errno == EINTR);
  if (result != 0) {
    LOG_WARNING("systrap platform: a unit of shared memory can't be given back: errno %d", errno);
    return;
  }
  base::MutexLock lock(mu_);
  free_.push_back(offset);
}

}  // namespace platform::systrap
