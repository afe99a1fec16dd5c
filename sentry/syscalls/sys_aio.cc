// SPDX-License-Identifier: Apache-2.0
// io_setup, io_submit, io_getevents, io_pgetevents, io_cancel, io_destroy. The queue is in aio_context.h.
#include <linux/aio_abi.h>
#include <linux/fs.h>
#include <sys/eventfd.h>

#include <algorithm>

#include "sentry/fs/eventfd/eventfd.h"
#include "sentry/syscalls/aio_context.h"
#include "sentry/syscalls/file_io.h"
#include "sentry/syscalls/handlers.h"

namespace sentry::syscalls {
namespace {

constexpr uint32_t kKey = 0;  // KIOCB_KEY
constexpr int kRwFlags = RWF_HIPRI | RWF_DSYNC | RWF_SYNC | RWF_NOWAIT | RWF_APPEND;

Result<RefPtr<AioContext>> FindContext(Task& task, uint64_t id) {
  RefPtr<AioTable> table = AioTable::Of(task);
  if (!table) return Errno(EINVAL);
  return table->Find(id);
}

// What a completion tells instead of a restart: the call was made once and cannot be made again.
int64_t ResultOf(const Result<size_t>& result) {
  if (result.ok()) return static_cast<int64_t>(*result);
  return result.error().IsRestart() ? -EINTR : -result.error().number();
}

// Streams have no position; what has one is read at the request's.
int64_t OffsetFor(const vfs::FileDescription& file, const iocb& request) {
  const mode_t type = file.inode()->type();
  return type == S_IFREG || type == S_IFBLK ? request.aio_offset : -1;
}

Result<std::vector<iovec>> Vectors(Task& task, const iocb& request, bool vectored) {
  if (vectored) return CopyInIovec(task, UserAddr(request.aio_buf), request.aio_nbytes);
  return std::vector<iovec>{
      {reinterpret_cast<void*>(request.aio_buf), std::min<size_t>(request.aio_nbytes, kMaxRwCount)}};
}

Result<int64_t> ReadOrWrite(Task& task, const iocb& request, vfs::FileDescription& file) {
  const bool write = request.aio_lio_opcode == IOCB_CMD_PWRITE || request.aio_lio_opcode == IOCB_CMD_PWRITEV;
  const bool vectored = request.aio_lio_opcode == IOCB_CMD_PREADV || request.aio_lio_opcode == IOCB_CMD_PWRITEV;
  const int flags = request.aio_rw_flags;
  if (flags & ~kRwFlags) return Errno(EOPNOTSUPP);
  if (write ? !file.IsWritable() : !file.IsReadable()) return Errno(EBADF);
  if (file.inode()->IsDirectory()) return Errno(EINVAL);
  std::vector<iovec> vectors = TRY(Vectors(task, request, vectored));
  const int64_t offset = OffsetFor(file, request);
  if (request.aio_offset < 0) return Errno(EINVAL);
  if (!write) {
    mm::UserTarget target(task.mm(), std::move(vectors));
    return ResultOf(ReadFile(task, file, target, offset, flags & RWF_NOWAIT));
  }
  mm::UserSource source(task.mm(), std::move(vectors));
  auto result = WriteFile(task, file, source, offset, flags & RWF_NOWAIT, flags & RWF_APPEND);
  if (result.ok() && (flags & (RWF_DSYNC | RWF_SYNC))) TRY(file.Sync(!(flags & RWF_SYNC)));
  return ResultOf(result);
}

Result<int64_t> Sync(const iocb& request, vfs::FileDescription& file) {
  if (request.aio_buf || request.aio_offset || request.aio_nbytes || request.aio_rw_flags) return Errno(EINVAL);
  if (!file.inode()->IsRegular() && !file.inode()->IsDirectory()) return Errno(EINVAL);
  auto synced = file.Sync(request.aio_lio_opcode == IOCB_CMD_FDSYNC);
  return synced.ok() ? int64_t{0} : -int64_t{synced.error().number()};
}

// Done now, or (a poll) under way: then nothing. An error is the submission's; none after the reservation was used.
Result<void> Start(Task& task, AioContext& context, const iocb& request, UserAddr user) {
  vfs::FileRef file = TRY(GetFile(task, static_cast<int>(request.aio_fildes)));
  vfs::FileRef eventfd;
  if (request.aio_flags & IOCB_FLAG_RESFD) {
    eventfd = TRY(GetFile(task, static_cast<int>(request.aio_resfd)));
    if (!fs::IsEventFd(*eventfd)) return Errno(EINVAL);
  }
  TRY(task.CopyOut(user + offsetof(iocb, aio_key), kKey));
  int64_t result;
  switch (request.aio_lio_opcode) {
    case IOCB_CMD_PREAD:
    case IOCB_CMD_PREADV:
    case IOCB_CMD_PWRITE:
    case IOCB_CMD_PWRITEV:
      result = TRY(ReadOrWrite(task, request, *file));
      break;
    case IOCB_CMD_FSYNC:
    case IOCB_CMD_FDSYNC:
      result = TRY(Sync(request, *file));
      break;
    case IOCB_CMD_POLL:
      if (static_cast<uint16_t>(request.aio_buf) != request.aio_buf || request.aio_offset || request.aio_nbytes ||
          request.aio_rw_flags)
        return Errno(EINVAL);
      return context.SubmitPoll(task, request, user, std::move(file), std::move(eventfd));
    default:  // IOCB_CMD_NOOP has a number and no service in Linux either
      return Errno(EINVAL);
  }
  context.Complete({.data = request.aio_data, .obj = user.value(), .res = result, .res2 = 0}, eventfd.get());
  return OkResult();
}

Result<void> SubmitOne(Task& task, AioContext& context, UserAddr user) {
  iocb request = TRY(task.CopyIn<iocb>(user));
  if (request.aio_reserved2) return Errno(EINVAL);
  if (static_cast<int64_t>(request.aio_nbytes) < 0) return Errno(EINVAL);
  TRY(context.Reserve());
  auto started = Start(task, context, request, user);
  if (!started.ok()) context.Release();
  return started;
}

// At least `min` completions, up to `limit`, unless the deadline comes first.
Value GetEvents(Task& task, uint64_t id, int64_t min, int64_t limit, UserAddr events, int64_t deadline) {
  RefPtr<AioContext> context = TRY(FindContext(task, id));
  if (min < 0 || limit < 0 || min > limit) return Errno(EINVAL);
  int64_t done = 0;
  BlockerEntry entry(task.blocker());
  bool registered = false;
  for (Result<void> slept;;) {
    auto taken = context->Take(task, events + done * sizeof(io_event), limit - done);
    if (!taken.ok()) return done ? Value(done) : Value(taken.error());
    done += *taken;
    if (done >= min || context->IsShut()) return done;
    if (!slept.ok()) {
      if (slept.error() == Errno(ETIMEDOUT) || done) return done;
      return Errno(EINTR);
    }
    if (deadline != kNoDeadline && deadline <= base::MonotonicNs()) return done;
    if (!registered) {
      context->queue().Add(entry, kEventIn);
      registered = true;
      continue;
    }
    slept = task.Block(deadline);
  }
}

// Unlike other calls' a malformed time is taken as the sum that it is; a negative one never comes.
Result<int64_t> Deadline(Task& task, UserAddr address) {
  if (address.IsNull()) return kNoDeadline;
  timespec ts = TRY(task.CopyIn<timespec>(address));
  int64_t ns;
  if (__builtin_mul_overflow(ts.tv_sec, base::kNsPerSecond, &ns) || __builtin_add_overflow(ns, ts.tv_nsec, &ns))
    return kNoDeadline;
  return ns < 0 ? kNoDeadline : ns == 0 ? int64_t{0} : DeadlineAfter(ns);
}

struct AioSigset {  // struct __aio_sigset
  uint64_t mask, size;
};

}  // namespace

SYSCALL_HANDLER(SysIoSetup) {
  uint64_t id = TRY(task.CopyIn<uint64_t>(args.Addr(1)));
  uint32_t events = args.Uint(0);
  if (id || events == 0) return Errno(EINVAL);
  RefPtr<AioContext> context = TRY(AioContext::Create(task, events));
  auto told = task.CopyOut(args.Addr(1), context->id());
  if (!told.ok()) {
    (void)task.mm().Munmap(context->id(), context->mapped_length()).ok();
    return told.error();
  }
  AioTable::GetOrMake(task)->Add(std::move(context));
  return 0;
}

SYSCALL_HANDLER(SysIoDestroy) {
  RefPtr<AioTable> table = AioTable::Of(task);
  if (!table) return Errno(EINVAL);
  RefPtr<AioContext> context = TRY(table->Remove(args.Ulong(0)));
  context->Shut();
  (void)task.mm().Munmap(context->id(), context->mapped_length()).ok();
  return 0;
}

SYSCALL_HANDLER(SysIoSubmit) {
  int64_t count = args.Long(1);
  if (count < 0) return Errno(EINVAL);
  RefPtr<AioContext> context = TRY(FindContext(task, args.Ulong(0)));
  count = std::min<int64_t>(count, context->capacity());
  for (int64_t i = 0; i < count; ++i) {
    auto user = task.CopyIn<uint64_t>(args.Addr(2) + i * sizeof(uint64_t));
    Result<void> started = user.ok() ? SubmitOne(task, *context, UserAddr(*user)) : Result<void>(user.error());
    if (!started.ok()) return i ? Value(i) : Value(started.error());
  }
  return count;
}

SYSCALL_HANDLER(SysIoGetevents) {
  const int64_t deadline = TRY(Deadline(task, args.Addr(4)));
  return GetEvents(task, args.Ulong(0), args.Long(1), args.Long(2), args.Addr(3), deadline);
}

SYSCALL_HANDLER(SysIoPgetevents) {
  const int64_t deadline = TRY(Deadline(task, args.Addr(4)));
  if (!args.Addr(5).IsNull()) {
    auto set = TRY(task.CopyIn<AioSigset>(args.Addr(5)));
    if (set.mask) task.SetTemporaryMask(TRY(CopyInSignalSet(task, UserAddr(set.mask), set.size)));
  }
  auto result = GetEvents(task, args.Ulong(0), args.Long(1), args.Long(2), args.Addr(3), deadline);
  if (!result.ok() && result.error() == Errno(EINTR)) return base::kErestartnohand;
  return result;
}

SYSCALL_HANDLER(SysIoCancel) {
  uint32_t key = TRY(task.CopyIn<uint32_t>(args.Addr(1) + offsetof(iocb, aio_key)));
  if (key != kKey) return Errno(EINVAL);
  RefPtr<AioContext> context = TRY(FindContext(task, args.Ulong(0)));
  TRY(context->Cancel(args.Addr(1)));
  // The completion comes through the ring, as of any request.
  return Errno(EINPROGRESS);
}

}  // namespace sentry::syscalls
