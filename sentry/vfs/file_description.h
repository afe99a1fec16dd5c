// SPDX-License-Identifier: Apache-2.0
// FileDescription: an open file (Linux's struct file). Operations never block for a guest event: they answer EAGAIN and
// the system call layer waits on wait_queue() (BlockOn) unless O_NONBLOCK. They may do host file I/O.
// Defaults answer the errno Linux gives for a file without the operation. Thread-safe.
#ifndef SENTRY_VFS_FILE_DESCRIPTION_H_
#define SENTRY_VFS_FILE_DESCRIPTION_H_

#include <fcntl.h>
#include <sys/types.h>

#include <atomic>
#include <functional>
#include <memory>
#include <string>

#include "sentry/common.h"
#include "sentry/kernel/core/caller.h"
#include "sentry/kernel/core/io.h"
#include "sentry/kernel/core/wait_queue.h"
#include "sentry/mm/mapped_object.h"
#include "sentry/mm/memory_manager.h"
#include "sentry/vfs/inode.h"
#include "sentry/vfs/path.h"

namespace sentry::socket {
class Socket;
}  // namespace sentry::socket

namespace sentry::vfs {

// F_SETOWN and O_ASYNC, kept as numbers that the kernel layer interprets.
struct AsyncOwner {
  int type = 0;  // F_OWNER_TID, F_OWNER_PID, F_OWNER_PGRP
  pid_t id = 0;
  int signal = 0;  // F_SETSIG
};

class FileDescription : public RefCounted<FileDescription> {
 public:
  // Directory entries go here; returns false when it wants no more (the entry was not taken).
  using DirSink = std::function<bool(const DirEntry&)>;

  // The last reference: releases locks and epoll registrations, then the implementation's own state.
  virtual ~FileDescription();

  const Path& path() const { return path_; }
  const RefPtr<Inode>& inode() const { return path_.dentry->inode(); }
  // O_ACCMODE, O_APPEND, O_NONBLOCK, O_DIRECT, O_NOATIME, O_ASYNC, O_PATH, O_LARGEFILE...: never O_CREAT etc., never
  // O_CLOEXEC.
  int flags() const { return flags_.load(std::memory_order_relaxed); }
  bool IsReadable() const { return readable_; }
  bool IsWritable() const { return writable_; }
  bool IsNonBlocking() const { return flags() & O_NONBLOCK; }
  // fcntl(F_SETFL): only the changeable bits. The implementation may refuse (EINVAL, EPERM).
  Result<void> SetStatusFlags(int flags);
  virtual Result<void> OnSetFlags(int flags) { return OkResult(); }

  // read(2)/write(2) semantics at the file's position; streams override Read and Write, seekable files PRead and
  // PWrite. Access modes were checked by the caller. The default Read and Write use the position under its lock, and
  // O_APPEND is told to PWrite by offset -1, which then reports the new position through *end.
  virtual Result<size_t> Read(IoTarget& target);
  virtual Result<size_t> Write(IoSource& source);
  virtual Result<size_t> PRead(IoTarget& target, int64_t offset) { return Errno(ESPIPE); }
  virtual Result<size_t> PWrite(IoSource& source, int64_t offset, int64_t* end) { return Errno(ESPIPE); }
  // For files whose Write consumes the source piecewise but must be atomic (pipes ≤ PIPE_BUF, sockets, eventfds): a
  // write that stops early with some bytes done is continued by the caller when blocking, if this says so.
  virtual bool ContinuesPartialWrites() const { return false; }
  virtual Result<int64_t> Seek(int64_t offset, int whence);
  // getdents64: emits entries from the position on and moves it. ENOTDIR by default.
  virtual Result<void> IterateDirectory(const DirSink& sink) { return Errno(ENOTDIR); }
  // The guest's memory is reached through Caller::Current(). ENOTTY by default.
  virtual Result<int64_t> Ioctl(unsigned request, uint64_t argument) { return Errno(ENOTTY); }
  // The file-specific fcntl(2) commands: F_SETPIPE_SZ, F_GETPIPE_SZ (EBADF elsewhere), F_ADD_SEALS, F_GET_SEALS (EINVAL
  // elsewhere).
  virtual Result<int64_t> Fcntl(int command, uint64_t argument) {
    return Errno(command == F_SETPIPE_SZ || command == F_GETPIPE_SZ ? EBADF : EINVAL);
  }
  // Events that are ready now, of all kinds. Regular files are always ready.
  virtual EventMask Poll() { return kEventIn | kEventOut; }
  // Null: never changes (regular files; EPERM for epoll).
  virtual WaitQueue* wait_queue() { return nullptr; }
  // Of those who sleep in a read or a write, one is woken for each event (WaitQueue::NotifyOne).
  virtual bool WakesOneWaiter() const { return false; }
  // Called when this is added to an epoll set, so that host-backed files can start watching. Default nothing.
  virtual Result<void> OnEpollAdd() { return OkResult(); }

  // mmap(2): fills in request.object and may narrow max_protection. ENODEV by default. Access modes were checked.
  virtual Result<void> ConfigureMmap(mm::MmapRequest& request) { return Errno(ENODEV); }
  virtual Result<void> Sync(bool data_only) { return OkResult(); }
  virtual Result<void> Allocate(int mode, uint64_t offset, uint64_t length) { return Errno(EOPNOTSUPP); }
  virtual Result<void> Truncate(uint64_t size);  // default: SetStat on the inode
  virtual Result<InodeStat> GetStat();           // default: the inode's
  // Called at every close(2) of a descriptor (flush). The default drops the caller's POSIX record locks on the inode:
  // overriders call it, too.
  virtual Result<void> Flush();
  // inotify's IN_ACCESS and IN_MODIFY: the system call layer calls these after a read or write that moved bytes. A few
  // loads when nobody watches.
  void NotifyAccess();
  void NotifyModify();
  // What readlink("/proc/PID/fd/N") shows when it is not a path: "pipe:[12]", "socket:[7]", "anon_inode:[eventfd]".
  // Empty: the path.
  virtual std::string LinkName() const { return ""; }
  // Extra lines of /proc/PID/fdinfo/N.
  virtual std::string FdInfo() const { return ""; }
  // A host fd that host calls may read or write directly (splice/sendfile fast path); -1 if none.
  virtual int host_fd() const { return -1; }
  // The socket that this is, or null (there is no RTTI).
  virtual socket::Socket* AsSocket() { return nullptr; }
  // When a blocking read (or write) that begins now gives up with EAGAIN: SO_RCVTIMEO, SO_SNDTIMEO.
  virtual int64_t IoDeadline(bool is_write) { return kNoDeadline; }

  int64_t position() const { return position_.load(std::memory_order_relaxed); }
  Mutex& position_mu() ABSL_LOCK_RETURNED(position_mu_) { return position_mu_; }
  void set_position(int64_t position) { position_.store(position, std::memory_order_relaxed); }
  // For a kernel-made file that doesn't count as a writer of its inode (memfd). By its maker, before anybody else has
  // it.
  void PutWriteAccess();

  AsyncOwner async_owner() const;
  void set_async_owner(const AsyncOwner& owner);
  // Tells who waits on the file, O_ASYNC's owners among them. `events` as for WaitQueue::Notify.
  void NotifyEvents(EventMask events);

  // epoll keeps its registrations here so that the last close removes them; see fs/epoll.
  class EpollLink {
   public:
    virtual void OnFileDestroyed() = 0;

   protected:
    ~EpollLink() = default;
  };
  void AddEpollLink(EpollLink* link);
  void RemoveEpollLink(EpollLink* link);
  // Runs before any destructor (RefCounted): calls OnFileDestroyed of every link, which takes its WaitEntry out of
  // wait_queue().
  void OnLastRef() const;
  // Held by OnLastRef around the links it calls, and by an epoll that is being destroyed: neither outruns the other.
  static Mutex& EpollLifetimeMutex();

  // An identity for OFD locks.
  const void* ofd_owner() const { return this; }

 protected:
  // `path.dentry` must have an inode. Takes write access on the mount/inode if writable.
  FileDescription(Path path, int flags);

 private:
  Path path_;
  std::atomic<int> flags_;
  bool readable_, writable_;
  bool holds_write_access_ = false;
  bool holds_mount_write_ = false;
  Mutex position_mu_{LockRank::kFile};
  std::atomic<int64_t> position_{0};
  mutable Mutex links_mu_{LockRank::kLeaf};
  std::vector<EpollLink*> epoll_links_ ABSL_GUARDED_BY(links_mu_);
  std::unique_ptr<AsyncOwner> async_ ABSL_GUARDED_BY(links_mu_);
};

using FileRef = RefPtr<FileDescription>;

}  // namespace sentry::vfs

#endif  // SENTRY_VFS_FILE_DESCRIPTION_H_
