// SPDX-License-Identifier: Apache-2.0
// pipe(7) and fifo(7): a byte ring with readers and writers. One Pipe belongs to one inode (anonymous or a FIFO's
// special object).
#ifndef SENTRY_FS_PIPE_PIPE_H_
#define SENTRY_FS_PIPE_PIPE_H_

#include <deque>
#include <memory>

#include "sentry/kernel/core/wait_queue.h"
#include "sentry/vfs/file_description.h"

namespace sentry::fs {

class Pipe final : public vfs::SpecialObject {
 public:
  static constexpr size_t kDefaultCapacity = 65536;
  // POSIX atomicity: writes up to this are never split.
  static constexpr size_t kAtomic = 4096;

  // EAGAIN when empty with writers; 0 at end of file.
  Result<size_t> Read(IoTarget& target);
  // EPIPE without readers; EAGAIN when full (or when an atomic write doesn't fit). `packets` (O_DIRECT, pipe(2)): a
  // read ends with each piece of up to kAtomic bytes, and drops what of it wasn't asked for.
  Result<size_t> Write(IoSource& source, bool packets);
  // tee(2): copies up to `length` bytes without consuming them. EAGAIN when `from` is empty with writers, ENOBUFS when
  // `to` is full, EPIPE when it has no readers; 0 at end of file.
  static Result<size_t> Tee(Pipe& from, Pipe& to, size_t length);
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
  struct Packet {
    uint64_t start, end;  // places in the stream of all bytes ever written
  };
  Result<size_t> ReadLocked(IoTarget& target) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Moves up to `length` bytes to the tail. Room was checked.
  Result<size_t> FillLocked(IoSource& source, size_t length) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void ConsumeLocked(size_t length) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Free bytes; none when packets take all of the pages that Linux would put them in.
  size_t RoomLocked() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    return packets_.size() >= capacity_ / kAtomic ? 0 : capacity_ - used_;
  }
  mutable Mutex mu_{LockRank::kPipe};
  WaitQueue queue_;
  std::unique_ptr<uint8_t[]> ring_ ABSL_GUARDED_BY(mu_);  // made on first write
  size_t capacity_ ABSL_GUARDED_BY(mu_) = kDefaultCapacity;
  size_t head_ ABSL_GUARDED_BY(mu_) = 0;  // of the oldest byte
  size_t used_ ABSL_GUARDED_BY(mu_) = 0;
  uint64_t consumed_ ABSL_GUARDED_BY(mu_) = 0;  // the stream's place of the oldest byte
  std::deque<Packet> packets_ ABSL_GUARDED_BY(mu_);
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
