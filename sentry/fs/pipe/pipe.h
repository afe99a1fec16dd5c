// SPDX-License-Identifier: Apache-2.0
// pipe(7) and fifo(7): a byte ring with readers and writers. One Pipe belongs to one inode (anonymous or a FIFO's special object).
#ifndef SENTRY_FS_PIPE_PIPE_H_
#define SENTRY_FS_PIPE_PIPE_H_

#include <memory>

#include "sentry/kernel/core/wait_queue.h"
#include "sentry/vfs/file_description.h"

namespace sentry::fs {

class Pipe final : public vfs::SpecialObject {
 public:
  static constexpr size_t kDefaultCapacity = 65536;
  static constexpr size_t kMaxCapacity = 1 << 20;  // /proc/sys/fs/pipe-max-size
  // POSIX atomicity: writes up to this are never split.
  static constexpr size_t kAtomic = 4096;

  // EAGAIN when empty with writers; 0 at end of file.
  Result<size_t> Read(IoTarget& target);
  // EPIPE without readers; EAGAIN when full (or when an atomic write doesn't fit).
  Result<size_t> Write(IoSource& source);
  // Copies without consuming (tee(2)); same results as Read.
  Result<size_t> Peek(IoTarget& target);
  size_t Available() const;
  size_t capacity() const;
  // F_SETPIPE_SZ: the new capacity. EBUSY when more data is queued.
  Result<size_t> SetCapacity(size_t wanted);
  EventMask Poll(bool readable, bool writable) const;
  WaitQueue& queue() { return queue_; }

  void AddEnd(bool readable, bool writable);
  void RemoveEnd(bool readable, bool writable);
  // fifo(7) opens: blocks until the other side has been opened (since).
  Result<void> WaitForPeer(Caller& caller, bool for_writer);
  bool HasReaders() const;

 private:
  Result<size_t> ReadLocked(IoTarget& target, bool consume) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  mutable Mutex mu_{LockRank::kPipe};
  WaitQueue queue_;
  std::unique_ptr<uint8_t[]> ring_ ABSL_GUARDED_BY(mu_);  // made on first write
  size_t capacity_ ABSL_GUARDED_BY(mu_) = kDefaultCapacity;
  size_t head_ ABSL_GUARDED_BY(mu_) = 0;  // of the oldest byte
  size_t used_ ABSL_GUARDED_BY(mu_) = 0;
  int readers_ ABSL_GUARDED_BY(mu_) = 0, writers_ ABSL_GUARDED_BY(mu_) = 0;
  // How many opens of each side there ever were: a blocked open waits for a change.
  uint64_t reader_opens_ ABSL_GUARDED_BY(mu_) = 0, writer_opens_ ABSL_GUARDED_BY(mu_) = 0;
};

// pipe2(2): [read end, write end]. `flags`: O_NONBLOCK, O_DIRECT.
Result<std::pair<vfs::FileRef, vfs::FileRef>> NewPipe(const Credentials& creds, int flags);
// The pipe behind a file, or null.
Pipe* PipeOf(vfs::FileDescription& file);
// Registers the FIFO opener with the vfs; at boot.
void RegisterFifos();

}  // namespace sentry::fs

#endif  // SENTRY_FS_PIPE_PIPE_H_
