// SPDX-License-Identifier: Apache-2.0
// read(2), write(2) and their p, v and v2 forms.
#include <linux/fs.h>
#include <sys/inotify.h>
#include <sys/resource.h>

#include <algorithm>

#include "sentry/socket/socket.h"
#include "sentry/syscalls/access_ok.h"
#include "sentry/syscalls/file_io.h"
#include "sentry/syscalls/handlers.h"
#include "sentry/vfs/inotify_watches.h"

namespace sentry::syscalls {
namespace {

// Limits the source to what RLIMIT_FSIZE leaves.
class LimitedSource final : public IoSource {
 public:
  LimitedSource(IoSource& source, size_t limit) : source_(source), left_(limit) {}
  size_t remaining() const override { return std::min(left_, source_.remaining()); }
  Result<size_t> Take(void* data, size_t length) override {
    size_t n = TRY(source_.Take(data, std::min(length, remaining())));
    left_ -= n;
    return n;
  }
  void Untake(size_t length) override {
    source_.Untake(length);
    left_ += length;
  }

 private:
  IoSource& source_;
  size_t left_;
};

Result<size_t> WriteOnce(Task& task, vfs::FileDescription& file, IoSource& source, int64_t offset, bool append) {
  const bool flagged = file.flags() & O_APPEND;
  if (offset >= 0)
    append |= flagged;  // even at a given offset (pwrite(2), BUGS)
  else if (!file.inode()->IsRegular())
    append = false;  // of a stream every place is the end
  auto write = [&](IoSource& from) -> Result<size_t> {
    int64_t end = 0;
    if (offset >= 0) return file.PWrite(from, append ? -1 : offset, &end);
    if (!append) return file.Write(from);
    MutexLock lock(file.position_mu());
    size_t n = TRY(file.PWrite(from, -1, &end));
    file.set_position(end);
    return n;
  };
  uint64_t limit = task.SoftLimit(RLIMIT_FSIZE);
  if (limit != RLIM_INFINITY && file.inode()->IsRegular()) [[unlikely]] {
    int64_t at = offset >= 0 ? offset : file.position();
    if (append || (offset < 0 && flagged)) at = TRY(file.GetStat()).size;
    if (static_cast<uint64_t>(at) >= limit && source.remaining()) {
      task.RaiseSelf(SIGXFSZ);
      return Errno(EFBIG);
    }
    LimitedSource limited(source, limit - at);
    return write(limited);
  }
  return write(source);
}

// Data written to a regular file by an unprivileged task drops set-id bits (file_remove_privs).
void DropPrivilegeBits(Task& task, vfs::FileDescription& file) {
  if (!file.inode()->IsRegular() || task.HasCapability(CAP_FSETID)) return;
  auto stat = file.inode()->GetStat();
  if (!stat.ok()) return;
  mode_t mode = stat->mode & 07777, dropped = mode & ~S_ISUID;
  if (mode & S_IXGRP) dropped &= ~S_ISGID;
  if (dropped == mode) return;
  vfs::SetStatRequest request;
  request.mode = dropped;
  (void)file.inode()->SetStat(request).ok();
}

// What a wait with a deadline (SO_RCVTIMEO, SO_SNDTIMEO) ends in: EAGAIN, and EINTR instead of a restart.
Errno TimedError(Errno error, int64_t deadline) {
  if (error == Errno(ETIMEDOUT) && base::MonotonicNs() >= deadline) return Errno(EAGAIN);
  return error == base::kErestartsys ? Errno(EINTR) : error;
}

// Where one waiter is woken for an event, it wakes the next one if it leaves something.
void PassOn(vfs::FileDescription& file, WaitQueue& queue, EventMask event) {
  if (file.WakesOneWaiter() && !queue.Empty() && (file.Poll() & event)) queue.NotifyOne(event);
}

}  // namespace

Result<size_t> ReadFile(Task& task, vfs::FileDescription& file, IoTarget& target, int64_t offset, bool nonblocking) {
  if (!file.IsReadable()) return Errno(EBADF);
  if (file.inode()->IsDirectory()) [[unlikely]]
    return Errno(EISDIR);
  TRY(vfs::AskToRead(file));
  auto attempt = [&] { return offset < 0 ? file.Read(target) : file.PRead(target, offset); };
  WaitQueue* queue = file.wait_queue();
  const int64_t deadline = queue ? file.IoDeadline(false) : kNoDeadline;
  Result<size_t> result = queue ? BlockOn(task, *queue, kEventIn | EPOLLRDHUP, nonblocking || file.IsNonBlocking(),
                                          deadline, attempt, file.WakesOneWaiter())
                                : attempt();
  if (queue) PassOn(file, *queue, kEventIn);
  if (deadline != kNoDeadline && !result.ok()) [[unlikely]]
    return TimedError(result.error(), deadline);
  if (result.ok() && *result) vfs::NotifyFile(file, IN_ACCESS);
  return result;
}

Result<size_t> WriteFile(Task& task, vfs::FileDescription& file, IoSource& source, int64_t offset, bool nonblocking,
                         bool append) {
  if (!file.IsWritable()) return Errno(EBADF);
  DropPrivilegeBits(task, file);
  WaitQueue* queue = file.wait_queue();
  bool wait = queue && !nonblocking && !file.IsNonBlocking();
  const int64_t deadline = queue ? file.IoDeadline(true) : kNoDeadline;
  size_t done = 0;
  Result<size_t> result = size_t{0};
  do {
    auto attempt = [&] { return WriteOnce(task, file, source, offset < 0 ? offset : offset + done, append); };
    result = queue ? BlockOn(task, *queue, kEventOut, !wait, deadline, attempt, file.WakesOneWaiter()) : attempt();
    if (queue) PassOn(file, *queue, kEventOut);
    if (deadline != kNoDeadline && !result.ok()) [[unlikely]]
      result = TimedError(result.error(), deadline);
    if (!result.ok()) break;
    done += *result;
  } while (wait && *result && source.remaining() && file.ContinuesPartialWrites());
  if (done) vfs::NotifyFile(file, IN_MODIFY);
  if (!result.ok() && !done) {
    // Message sockets fail without the signal.
    socket::Socket* socket = file.AsSocket();
    if (result.error() == Errno(EPIPE) && !file.inode()->IsRegular() && (!socket || socket->RaisesSigpipe()))
      task.RaiseSelf(SIGPIPE);
    return result.error();
  }
  return done;
}

namespace {

// The buffers of a read, when a handler of the guest has to provide them: it is told that they will be written to.
Result<void> AwaitBuffer(Task& task, UserAddr address, size_t length) {
  if (!task.mm().HasUserfaults()) [[likely]]
    return OkResult();
  return task.mm().AwaitUserfaults(address, length, true);
}

// Streams have no offsets, in whatever mode they are open.
Result<void> CheckSeekable(vfs::FileDescription& file) {
  if (file.inode()->type() == S_IFIFO || file.inode()->type() == S_IFSOCK) return Errno(ESPIPE);
  return OkResult();
}

// For /proc/PID/io, which tells of these calls alone: not of sockets' own, splice, aio.
Value CountedRead(Task& task, Value result) {
  task.CountRead(result.ok() ? static_cast<uint64_t>(*result) : 0);
  return result;
}
Value CountedWrite(Task& task, Value result) {
  task.CountWrite(result.ok() ? static_cast<uint64_t>(*result) : 0);
  return result;
}

Value ReadAt(Task& task, vfs::FileDescription& file, UserAddr address, size_t length, int64_t offset) {
  length = std::min(length, kMaxRwCount);
  TRY(AwaitBuffer(task, address, length));
  mm::UserTarget target(task.mm(), address, length);
  return static_cast<int64_t>(TRY(ReadFile(task, file, target, offset)));
}

Value WriteAt(Task& task, vfs::FileDescription& file, UserAddr address, size_t length, int64_t offset) {
  mm::UserSource source(task.mm(), address, std::min(length, kMaxRwCount));
  return static_cast<int64_t>(TRY(WriteFile(task, file, source, offset)));
}

Value ReadVector(Task& task, const Arguments& args, int64_t offset, int flags) {
  std::vector<iovec> vectors = TRY(CopyInIovec(task, args.Addr(1), args.Ulong(2)));
  if (flags & ~(RWF_HIPRI | RWF_DSYNC | RWF_SYNC | RWF_NOWAIT | RWF_APPEND)) return Errno(EOPNOTSUPP);
  vfs::FileRef file = TRY(GetFile(task, args.Int(0)));
  if (offset >= 0) TRY(CheckSeekable(*file));
  for (const iovec& v : vectors) TRY(AwaitBuffer(task, UserAddr(reinterpret_cast<uint64_t>(v.iov_base)), v.iov_len));
  mm::UserTarget target(task.mm(), std::move(vectors));
  // RWF_NOWAIT on a file whose data could be anywhere: served, as from a page cache.
  return static_cast<int64_t>(TRY(ReadFile(task, *file, target, offset, flags & RWF_NOWAIT)));
}

Value WriteVector(Task& task, const Arguments& args, int64_t offset, int flags) {
  std::vector<iovec> vectors = TRY(CopyInIovec(task, args.Addr(1), args.Ulong(2)));
  if (flags & ~(RWF_HIPRI | RWF_DSYNC | RWF_SYNC | RWF_NOWAIT | RWF_APPEND)) return Errno(EOPNOTSUPP);
  vfs::FileRef file = TRY(GetFile(task, args.Int(0)));
  if (offset >= 0) TRY(CheckSeekable(*file));
  mm::UserSource source(task.mm(), std::move(vectors));
  size_t n = TRY(WriteFile(task, *file, source, offset, flags & RWF_NOWAIT, flags & RWF_APPEND));
  if (flags & (RWF_DSYNC | RWF_SYNC)) TRY(file->Sync(!(flags & RWF_SYNC)));
  return static_cast<int64_t>(n);
}

Value Sync(Task& task, int fd, bool data_only) {
  vfs::FileRef file = TRY(GetFile(task, fd));
  if (file->inode()->type() == 0) return Errno(EINVAL);  // epoll, eventfd, ...: nothing is behind them
  TRY(file->Sync(data_only));
  return 0;
}

// The offset of preadv and pwritev comes as two halves; on x86-64 the low one is the whole.
Result<int64_t> VectorOffset(const Arguments& args, bool position_allowed) {
  int64_t offset = args.Long(3);
  if (position_allowed && offset == -1) return int64_t{-1};
  if (offset < 0) return Errno(EINVAL);
  return offset;
}

}  // namespace

SYSCALL_HANDLER(SysRead) {
  vfs::FileRef file = TRY(GetFile(task, args.Int(0)));
  if (!file->IsReadable()) return Errno(EBADF);
  TRY(CheckRange(args.Addr(1), args.Size(2)));
  return CountedRead(task, ReadAt(task, *file, args.Addr(1), args.Size(2), -1));
}

SYSCALL_HANDLER(SysWrite) {
  vfs::FileRef file = TRY(GetFile(task, args.Int(0)));
  if (!file->IsWritable()) return Errno(EBADF);
  TRY(CheckRange(args.Addr(1), args.Size(2)));
  return CountedWrite(task, WriteAt(task, *file, args.Addr(1), args.Size(2), -1));
}

SYSCALL_HANDLER(SysPread64) {
  if (args.Long(3) < 0) return Errno(EINVAL);
  vfs::FileRef file = TRY(GetFile(task, args.Int(0)));
  TRY(CheckSeekable(*file));
  if (!file->IsReadable()) return Errno(EBADF);
  TRY(CheckRange(args.Addr(1), args.Size(2)));
  return CountedRead(task, ReadAt(task, *file, args.Addr(1), args.Size(2), args.Long(3)));
}

SYSCALL_HANDLER(SysPwrite64) {
  if (args.Long(3) < 0) return Errno(EINVAL);
  vfs::FileRef file = TRY(GetFile(task, args.Int(0)));
  TRY(CheckSeekable(*file));
  if (!file->IsWritable()) return Errno(EBADF);
  TRY(CheckRange(args.Addr(1), args.Size(2)));
  return CountedWrite(task, WriteAt(task, *file, args.Addr(1), args.Size(2), args.Long(3)));
}

SYSCALL_HANDLER(SysReadv) { return CountedRead(task, ReadVector(task, args, -1, 0)); }
SYSCALL_HANDLER(SysWritev) { return CountedWrite(task, WriteVector(task, args, -1, 0)); }
SYSCALL_HANDLER(SysPreadv) {
  int64_t offset = TRY(VectorOffset(args, false));
  return CountedRead(task, ReadVector(task, args, offset, 0));
}
SYSCALL_HANDLER(SysPwritev) {
  int64_t offset = TRY(VectorOffset(args, false));
  return CountedWrite(task, WriteVector(task, args, offset, 0));
}
SYSCALL_HANDLER(SysPreadv2) {
  int64_t offset = TRY(VectorOffset(args, true));
  return CountedRead(task, ReadVector(task, args, offset, args.Int(5)));
}
SYSCALL_HANDLER(SysPwritev2) {
  int64_t offset = TRY(VectorOffset(args, true));
  return CountedWrite(task, WriteVector(task, args, offset, args.Int(5)));
}

SYSCALL_HANDLER(SysLseek) {
  vfs::FileRef file = TRY(GetFile(task, args.Int(0)));
  return file->Seek(args.Long(1), args.Int(2));
}

SYSCALL_HANDLER(SysFsync) { return Sync(task, args.Int(0), false); }
SYSCALL_HANDLER(SysFdatasync) { return Sync(task, args.Int(0), true); }
SYSCALL_HANDLER(SysSyncfs) {
  TRY(TRY(GetAnyFile(task, args.Int(0)))->inode()->filesystem().SyncFs());
  return 0;
}
SYSCALL_HANDLER(SysSync) {
  for (const auto& info : task.namespaces().mounts->List()) (void)info.mount->filesystem()->SyncFs().ok();
  return 0;
}

SYSCALL_HANDLER(SysSyncFileRange) {
  if (args.Long(1) < 0 || args.Long(2) < 0 || args.Long(1) > INT64_MAX - args.Long(2) || (args.Uint(3) & ~7u)) {
    return Errno(EINVAL);
  }
  vfs::FileRef file = TRY(GetFile(task, args.Int(0)));
  if (!file->inode()->IsRegular() && !file->inode()->IsDirectory()) return Errno(ESPIPE);
  TRY(file->Sync(true));
  return 0;
}

SYSCALL_HANDLER(SysFtruncate) {
  if (args.Long(1) < 0) return Errno(EINVAL);
  vfs::FileRef file = TRY(GetFile(task, args.Int(0)));
  if (!file->IsWritable() || !file->inode()->IsRegular()) return Errno(EINVAL);
  if (args.Ulong(1) > task.SoftLimit(RLIMIT_FSIZE)) {
    task.RaiseSelf(SIGXFSZ);
    return Errno(EFBIG);
  }
  TRY(file->Truncate(args.Ulong(1)));
  vfs::NotifyFile(*file, IN_MODIFY);
  return 0;
}

SYSCALL_HANDLER(SysFallocate) {
  int64_t offset = args.Long(2), length = args.Long(3), end;
  if (offset < 0 || length <= 0) return Errno(EINVAL);
  vfs::FileRef file = TRY(GetFile(task, args.Int(0)));
  if (!file->IsWritable()) return Errno(EBADF);
  mode_t type = file->inode()->type();
  if (type == S_IFIFO) return Errno(ESPIPE);
  if (type == S_IFDIR) return Errno(EISDIR);
  if (type != S_IFREG) return Errno(ENODEV);
  if (__builtin_add_overflow(offset, length, &end)) return Errno(EFBIG);
  if (static_cast<uint64_t>(end) > task.SoftLimit(RLIMIT_FSIZE)) {
    task.RaiseSelf(SIGXFSZ);
    return Errno(EFBIG);
  }
  TRY(file->Allocate(args.Int(1), offset, length));
  vfs::NotifyFile(*file, IN_MODIFY);
  return 0;
}

SYSCALL_HANDLER(SysFadvise64) {
  vfs::FileRef file = TRY(GetFile(task, args.Int(0)));
  if (file->inode()->type() == S_IFIFO) return Errno(ESPIPE);
  if (args.Long(2) < 0 || args.Uint(3) > 5) return Errno(EINVAL);
  return 0;
}

SYSCALL_HANDLER(SysReadahead) {
  vfs::FileRef file = TRY(GetFile(task, args.Int(0)));
  if (!file->IsReadable()) return Errno(EBADF);
  if (!file->inode()->IsRegular() || args.Long(2) < 0) return Errno(EINVAL);
  return 0;
}

}  // namespace sentry::syscalls
