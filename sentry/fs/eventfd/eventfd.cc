// SPDX-License-Identifier: Apache-2.0
#include "sentry/fs/eventfd/eventfd.h"

#include <fcntl.h>

#include <cstdio>

#include "sentry/vfs/special_files.h"

namespace sentry::fs {
namespace {

constexpr char kName[] = "anon_inode:[eventfd]";
constexpr uint64_t kMaximum = UINT64_MAX - 1;

class EventFd final : public vfs::FileDescription {
 public:
  EventFd(vfs::Path path, int flags, uint64_t initial, bool semaphore)
      : FileDescription(std::move(path), flags), semaphore_(semaphore), count_(initial) {}

  Result<size_t> Read(IoTarget& target) override {
    if (target.remaining() < sizeof(uint64_t)) return Errno(EINVAL);
    uint64_t value;
    {
      MutexLock lock(mu_);
      if (count_ == 0) return Errno(EAGAIN);
      value = semaphore_ ? 1 : count_;
      count_ -= value;
    }
    queue_.Notify(kEventOut);
    return target.Put(&value, sizeof value);
  }

  Result<size_t> Write(IoSource& source) override {
    if (source.remaining() < sizeof(uint64_t)) return Errno(EINVAL);
    uint64_t value;
    TRY(source.Take(&value, sizeof value));
    {
      MutexLock lock(mu_);
      if (value == UINT64_MAX) return Errno(EINVAL);
      if (value > kMaximum - count_) {
        source.Untake(sizeof value);
        return Errno(EAGAIN);
      }
      count_ += value;
    }
    queue_.Notify(kEventIn);
    return sizeof value;
  }

  Result<int64_t> Seek(int64_t, int) override { return Errno(ESPIPE); }

  EventMask Poll() override {
    MutexLock lock(mu_);
    return (count_ > 0 ? kEventIn : 0) | (count_ < kMaximum ? kEventOut : 0);
  }
  WaitQueue* wait_queue() override { return &queue_; }
  std::string FdInfo() const override {
    MutexLock lock(mu_);
    char line[48];
    snprintf(line, sizeof line, "eventfd-count: %16lx\n", count_);
    return line;
  }

 private:
  const bool semaphore_;
  mutable Mutex mu_{LockRank::kLeaf};
  uint64_t count_ ABSL_GUARDED_BY(mu_);
  WaitQueue queue_;
};

}  // namespace

vfs::FileRef NewEventFd(const Credentials& creds, uint64_t initial, bool semaphore, int flags) {
  vfs::Path path = vfs::NewAnonymousPath(kName, 0600, creds);
  return vfs::FileRef(new EventFd(std::move(path), O_RDWR | (flags & O_NONBLOCK), initial, semaphore));
}

bool IsEventFd(const vfs::FileDescription& file) {
  // No tree can hold a detached dentry, and only eventfds have this name.
  return !file.path().dentry->parent() && file.path().dentry->name() == kName;
}

}  // namespace sentry::fs
