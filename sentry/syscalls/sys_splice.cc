// SPDX-License-Identifier: Apache-2.0
// sendfile(2), copy_file_range(2), splice(2), tee(2), vmsplice(2): moves between two files through a bounce buffer.
// A read that was taken from a stream but couldn't be written is never lost: room is checked before the read.
#include <fcntl.h>
#include <sys/inotify.h>

#include <algorithm>
#include <memory>

#include "sentry/fs/pipe/pipe.h"
#include "sentry/syscalls/file_io.h"
#include "sentry/syscalls/handlers.h"

namespace sentry::syscalls {
namespace {

constexpr size_t kChunk = 64 << 10;

bool IsPipe(const vfs::FileDescription& file) { return file.inode()->type() == S_IFIFO; }

// Waits until the file has one of `events`; EAGAIN when it may not wait.
Result<void> WaitReady(Task& task, vfs::FileDescription& file, EventMask events, bool nonblocking) {
  auto ready = [&]() -> Result<void> {
    if (file.Poll() & (events | EPOLLERR | EPOLLHUP)) return OkResult();
    return Errno(EAGAIN);
  };
  WaitQueue* queue = file.wait_queue();
  return queue ? BlockOn(task, *queue, events, nonblocking, kNoDeadline, ready) : ready();
}

struct Transfer {
  vfs::FileDescription& in;
  int64_t in_offset;  // -1: its position
  vfs::FileDescription& out;
  int64_t out_offset;
  bool nonblocking;
};

// Moves up to `count` bytes. Stops at the end of the input, or, once something moved, when either side would block.
Result<size_t> Move(Task& task, Transfer t, size_t count) {
  auto buffer = std::make_unique<uint8_t[]>(std::min(count, kChunk));
  size_t done = 0;
  while (done < count) {
    bool nonblocking = t.nonblocking || done > 0;
    auto writable = WaitReady(task, t.out, EPOLLOUT, t.nonblocking || t.out.IsNonBlocking());
    if (!writable.ok()) {
      if (done) break;
      return writable.error();
    }
    BufferTarget target(buffer.get(), std::min(count - done, kChunk));
    auto got =
        ReadFile(task, t.in, target, t.in_offset < 0 ? -1 : t.in_offset + static_cast<int64_t>(done), nonblocking);
    if (!got.ok()) {
      if (done) break;
      return got.error();
    }
    if (*got == 0) break;
    BufferSource source(buffer.get(), *got);
    size_t put = 0;
    while (put < *got) {
      auto n = WriteFile(task, t.out, source, t.out_offset < 0 ? -1 : t.out_offset + static_cast<int64_t>(done + put));
      if (!n.ok()) {
        // What a seekable input gave is given back by its position.
        if (t.in_offset < 0 && !t.in.wait_queue()) t.in.set_position(t.in.position() - (*got - put));
        if (done + put) return done + put;
        return n.error();
      }
      put += *n;
    }
    done += put;
  }
  return done;
}

// For /proc/PID/io: one reading and one writing call, whatever came out. splice(2) and its kin do not count.
size_t Counted(Task& task, const Result<size_t>& moved) {
  const size_t bytes = moved.ok() ? *moved : 0;
  task.CountRead(bytes);
  task.CountWrite(bytes);
  return bytes;
}

// An optional offset argument: -1 when NULL.
Result<int64_t> CopyInOffset(Task& task, UserAddr address) {
  if (address.IsNull()) return int64_t{-1};
  int64_t offset = TRY(task.CopyIn<int64_t>(address));
  if (offset < 0) return Errno(EINVAL);
  return offset;
}

Result<void> CopyOutOffset(Task& task, UserAddr address, int64_t offset, size_t moved) {
  if (address.IsNull()) return OkResult();
  return task.CopyOut(address, offset + static_cast<int64_t>(moved));
}

}  // namespace

SYSCALL_HANDLER(SysSendfile) {
  vfs::FileRef out = TRY(GetFile(task, args.Int(0)));
  vfs::FileRef in = TRY(GetFile(task, args.Int(1)));
  int64_t offset = TRY(CopyInOffset(task, args.Addr(2)));
  if (!in->IsReadable() || !out->IsWritable()) return Errno(EBADF);
  if (offset >= 0 && !in->inode()->IsRegular() && in->wait_queue()) return Errno(ESPIPE);
  if (out->flags() & O_APPEND) return Errno(EINVAL);
  if (!in->inode()->IsRegular() && in->inode()->type() != S_IFBLK && !IsPipe(*out)) return Errno(EINVAL);
  if (args.Long(3) < 0) return Errno(EINVAL);
  Result<size_t> moved = Move(task, {*in, offset, *out, -1, false}, std::min(args.Size(3), kMaxRwCount));
  // The offset is told whatever came out.
  TRY(CopyOutOffset(task, args.Addr(2), offset, Counted(task, moved)));
  return static_cast<int64_t>(TRY(moved));
}

SYSCALL_HANDLER(SysCopyFileRange) {
  if (args.Uint(5)) return Errno(EINVAL);
  vfs::FileRef in = TRY(GetFile(task, args.Int(0)));
  vfs::FileRef out = TRY(GetFile(task, args.Int(2)));
  int64_t in_offset = TRY(CopyInOffset(task, args.Addr(1)));
  int64_t out_offset = TRY(CopyInOffset(task, args.Addr(3)));
  if (in->inode()->IsDirectory() || out->inode()->IsDirectory()) return Errno(EISDIR);
  if (!in->inode()->IsRegular() || !out->inode()->IsRegular()) return Errno(EINVAL);
  if (!in->IsReadable() || !out->IsWritable() || (out->flags() & O_APPEND)) return Errno(EBADF);
  size_t count = std::min(args.Size(4), kMaxRwCount);
  if (in->inode() == out->inode()) {
    int64_t from = in_offset < 0 ? in->position() : in_offset, to = out_offset < 0 ? out->position() : out_offset;
    int64_t length = static_cast<int64_t>(count);
    if (from < to + length && to < from + length) return Errno(EINVAL);
  }
  if (count == 0) return 0;
  Result<size_t> copied = Move(task, {*in, in_offset, *out, out_offset, false}, count);
  Counted(task, copied);
  size_t moved = TRY(copied);
  TRY(CopyOutOffset(task, args.Addr(1), in_offset, moved));
  TRY(CopyOutOffset(task, args.Addr(3), out_offset, moved));
  return static_cast<int64_t>(moved);
}

SYSCALL_HANDLER(SysSplice) {
  unsigned flags = args.Uint(5);
  if (flags & ~(SPLICE_F_MOVE | SPLICE_F_NONBLOCK | SPLICE_F_MORE | SPLICE_F_GIFT)) return Errno(EINVAL);
  if (args.Size(4) == 0) return 0;
  vfs::FileRef in = TRY(GetFile(task, args.Int(0)));
  vfs::FileRef out = TRY(GetFile(task, args.Int(2)));
  if (!in->IsReadable() || !out->IsWritable()) return Errno(EBADF);
  bool in_pipe = IsPipe(*in), out_pipe = IsPipe(*out);
  if (!in_pipe && !out_pipe) return Errno(EINVAL);
  if ((in_pipe && !args.Addr(1).IsNull()) || (out_pipe && !args.Addr(3).IsNull())) return Errno(ESPIPE);
  if (in_pipe && out_pipe && in->inode() == out->inode()) return Errno(EINVAL);
  if (out->flags() & O_APPEND) return Errno(EINVAL);
  int64_t in_offset = TRY(CopyInOffset(task, args.Addr(1)));
  int64_t out_offset = TRY(CopyInOffset(task, args.Addr(3)));
  if (!(in_pipe && out_pipe) && args.Long(4) < 0) return Errno(EINVAL);
  // One pipe's worth at a time, as Linux moves at most what the pipe holds without blocking again.
  size_t count = std::min(args.Size(4), kChunk);
  size_t moved = TRY(Move(task, {*in, in_offset, *out, out_offset, (flags & SPLICE_F_NONBLOCK) != 0}, count));
  TRY(CopyOutOffset(task, args.Addr(1), in_offset, moved));
  TRY(CopyOutOffset(task, args.Addr(3), out_offset, moved));
  return static_cast<int64_t>(moved);
}

SYSCALL_HANDLER(SysTee) {
  unsigned flags = args.Uint(3);
  if (flags & ~(SPLICE_F_MOVE | SPLICE_F_NONBLOCK | SPLICE_F_MORE | SPLICE_F_GIFT)) return Errno(EINVAL);
  if (args.Size(2) == 0) return 0;
  vfs::FileRef in = TRY(GetFile(task, args.Int(0)));
  vfs::FileRef out = TRY(GetFile(task, args.Int(1)));
  if (!in->IsReadable() || !out->IsWritable()) return Errno(EBADF);
  fs::Pipe *from = fs::PipeOf(*in), *to = fs::PipeOf(*out);
  if (!from || !to || from == to) return Errno(EINVAL);
  bool nonblocking = (flags & SPLICE_F_NONBLOCK) || in->IsNonBlocking() || out->IsNonBlocking();
  for (;;) {
    auto copied = BlockOn(task, from->queue(), kEventIn, nonblocking, kNoDeadline,
                          [&] { return fs::Pipe::Tee(*from, *to, args.Size(2)); });
    if (copied.ok()) return static_cast<int64_t>(*copied);
    if (copied.error() == Errno(EPIPE)) task.RaiseSelf(SIGPIPE);
    if (copied.error() != Errno(ENOBUFS)) return copied.error();
    TRY(WaitReady(task, *out, EPOLLOUT, nonblocking));
  }
}

SYSCALL_HANDLER(SysVmsplice) {
  if (args.Uint(3) & ~15u) return Errno(EINVAL);
  vfs::FileRef file = TRY(GetFile(task, args.Int(0)));
  if (!IsPipe(*file)) return Errno(EBADF);
  std::vector<iovec> vectors = TRY(CopyInIovec(task, args.Addr(1), args.Ulong(2)));
  bool nonblocking = args.Uint(3) & SPLICE_F_NONBLOCK;
  if (file->IsWritable()) {
    mm::UserSource source(task.mm(), std::move(vectors));
    return static_cast<int64_t>(TRY(WriteFile(task, *file, source, -1, nonblocking)));
  }
  mm::UserTarget target(task.mm(), std::move(vectors));
  return static_cast<int64_t>(TRY(ReadFile(task, *file, target, -1, nonblocking)));
}

}  // namespace sentry::syscalls
