// SPDX-License-Identifier: Apache-2.0
// The table of io_uring's operations. Most are a system call's handler with the entry's fields for arguments; fields
// that an operation doesn't use must be zero (EINVAL), as Linux wants them.
#include <linux/fs.h>
#include <linux/io_uring.h>
#include <sys/socket.h>

#include <algorithm>

#include "sentry/socket/socket.h"
#include "sentry/syscalls/call_scope.h"
#include "sentry/syscalls/file_io.h"
#include "sentry/syscalls/handlers.h"
#include "sentry/syscalls/uring.h"

namespace sentry::syscalls {
namespace {

using R = UringRequest;

constexpr uint64_t kFile = static_cast<uint64_t>(int64_t{CallScope::kFile});
constexpr int kRwFlags = RWF_HIPRI | RWF_DSYNC | RWF_SYNC | RWF_NOWAIT | RWF_APPEND;

uint64_t Fd(int32_t fd) { return static_cast<uint64_t>(int64_t{fd}); }
Arguments Args(uint64_t a = 0, uint64_t b = 0, uint64_t c = 0, uint64_t d = 0, uint64_t e = 0, uint64_t f = 0) {
  return Arguments{{a, b, c, d, e, f}};
}

// Whatever O_NONBLOCK says, a request waits; RWF_NOWAIT and MSG_DONTWAIT are how one asks for EAGAIN.
Outcome WaitUnless(Outcome outcome, bool dont_wait) {
  return outcome.kind == Outcome::kDone && outcome.result == -EAGAIN && !dont_wait ? Outcome::Wait() : outcome;
}

Outcome FromResult(const Result<size_t>& result) {
  if (result.ok()) return Outcome::Done(static_cast<int64_t>(*result));
  if (result.error() == kernel::kWouldSleep) return Outcome::Wait();
  return Outcome::Error(result.error().IsRestart() ? EINTR : result.error().number());
}

// --- Selected buffers

// Picks one for this attempt. Unused, it goes back: see Selected.
Result<void> Select(R& r, Task& task) {
  r.buffer = TRY(r.ring->SelectBuffer(task, r.sqe.buf_group, r.sqe.len));
  return OkResult();
}
Outcome Selected(R& r, Outcome outcome) {
  if (outcome.kind == Outcome::kDone && outcome.result >= 0) {
    outcome.flags |= IORING_CQE_F_BUFFER | (uint32_t{r.buffer.id} << IORING_CQE_BUFFER_SHIFT);
  } else {
    r.ring->ReturnBuffer(r.sqe.buf_group, r.buffer);
  }
  return outcome;
}

// --- Reads and writes

bool IsWrite(const R& r) {
  return r.sqe.opcode == IORING_OP_WRITE || r.sqe.opcode == IORING_OP_WRITEV || r.sqe.opcode == IORING_OP_WRITE_FIXED;
}

Result<void> ImportVectors(R& r, Task& task) {
  if (r.imported) return OkResult();
  switch (r.sqe.opcode) {
    case IORING_OP_READV:
    case IORING_OP_WRITEV:
      r.vectors = TRY(CopyInIovec(task, UserAddr(r.sqe.addr), r.sqe.len));
      break;
    case IORING_OP_READ_FIXED:
    case IORING_OP_WRITE_FIXED:
      TRY(r.ring->CheckFixedBuffer(r.sqe.buf_index, r.sqe.addr, r.sqe.len));
      [[fallthrough]];
    default:
      r.vectors = {{reinterpret_cast<void*>(r.sqe.addr), std::min<size_t>(r.sqe.len, kMaxRwCount)}};
  }
  for (const iovec& v : r.vectors) r.expected += static_cast<int64_t>(v.iov_len);
  r.imported = true;
  return OkResult();
}

Outcome ReadWrite(R& r, Task& task) {
  const int flags = static_cast<int>(r.sqe.rw_flags);
  const bool write = IsWrite(r);
  if (flags & ~kRwFlags) return Outcome::Error(EOPNOTSUPP);
  if (write ? !r.file->IsWritable() : !r.file->IsReadable()) return Outcome::Error(EBADF);
  const mode_t type = r.file->inode()->type();
  int64_t offset = static_cast<int64_t>(r.sqe.off);
  if (type != S_IFREG && type != S_IFBLK) offset = -1;
  if (offset < -1) return Outcome::Error(EINVAL);
  r.wait_mask = write ? kEventOut : kEventIn | EPOLLRDHUP;
  const bool select = (r.sqe.flags & IOSQE_BUFFER_SELECT) != 0;
  std::vector<iovec> vectors;
  if (select) {
    if (r.sqe.opcode == IORING_OP_READV && r.sqe.len > 1) return Outcome::Error(EINVAL);
    auto selected = Select(r, task);
    if (!selected.ok()) return Outcome::Error(selected.error().number());
    vectors = {{reinterpret_cast<void*>(r.buffer.address), r.buffer.length}};
  } else {
    auto imported = ImportVectors(r, task);
    if (!imported.ok()) return Outcome::Error(imported.error().number());
    vectors = r.vectors;
  }
  if (write) {
    mm::UserSource source(task.mm(), std::move(vectors));
    auto result = WriteFile(task, *r.file, source, offset, flags & RWF_NOWAIT, flags & RWF_APPEND);
    if (result.ok() && (flags & (RWF_DSYNC | RWF_SYNC))) {
      auto synced = r.file->Sync(!(flags & RWF_SYNC));
      if (!synced.ok()) return Outcome::Error(synced.error().number());
    }
    return WaitUnless(FromResult(result), flags & RWF_NOWAIT);
  }
  mm::UserTarget target(task.mm(), std::move(vectors));
  Outcome outcome =
      WaitUnless(FromResult(ReadFile(task, *r.file, target, offset, flags & RWF_NOWAIT)), flags & RWF_NOWAIT);
  return select ? Selected(r, outcome) : outcome;
}

// --- Sockets

// EAGAIN of a datagram socket is about the peer's queue: a thread waits for that.
void WaitForPeer(R& r) {
  socket::Socket* socket = r.file->AsSocket();
  if (socket && socket->type() != SOCK_STREAM) r.wait_mask = 0;
}

bool PollFirst(R& r) {
  if (!(r.sqe.ioprio & IORING_RECVSEND_POLL_FIRST) || r.queue()) return false;
  return !(r.file->Poll() & (r.wait_mask | EPOLLERR | EPOLLHUP));
}

Outcome Send(R& r, Task& task) {
  const bool zero_copy = r.sqe.opcode == IORING_OP_SEND_ZC || r.sqe.opcode == IORING_OP_SENDMSG_ZC;
  const bool message = r.sqe.opcode == IORING_OP_SENDMSG || r.sqe.opcode == IORING_OP_SENDMSG_ZC;
  if (r.sqe.ioprio & ~(IORING_RECVSEND_POLL_FIRST | (zero_copy ? IORING_RECVSEND_FIXED_BUF : 0)))
    return Outcome::Error(EINVAL);
  if (PollFirst(r)) return Outcome::Wait();
  WaitForPeer(r);
  const uint64_t flags = r.sqe.msg_flags | MSG_NOSIGNAL;
  if (r.sqe.ioprio & IORING_RECVSEND_FIXED_BUF) {
    auto checked = r.ring->CheckFixedBuffer(r.sqe.buf_index, r.sqe.addr, r.sqe.len);
    if (!checked.ok()) return Outcome::Error(checked.error().number());
  }
  if (!message && (flags & MSG_WAITALL)) r.expected = r.sqe.len;
  Outcome outcome = message ? r.CallDone(task, &SysSendmsg, Args(kFile, r.sqe.addr, flags))
                            : r.CallDone(task, &SysSendto,
                                         Args(kFile, r.sqe.addr, r.sqe.len, flags, zero_copy ? r.sqe.addr2 : 0,
                                              zero_copy ? r.sqe.addr_len : 0));
  outcome = WaitUnless(outcome, flags & MSG_DONTWAIT);
  if (!zero_copy || outcome.kind != Outcome::kDone) return outcome;
  // The data was copied: its notification follows at once.
  (void)r.PostMore(outcome.result);
  return Outcome::Done(0, IORING_CQE_F_NOTIF);
}

Outcome ReceiveOnce(R& r, Task& task, uint64_t flags) {
  if (r.sqe.opcode == IORING_OP_RECVMSG)
    return WaitUnless(r.CallDone(task, &SysRecvmsg, Args(kFile, r.sqe.addr, flags)), flags & MSG_DONTWAIT);
  const bool select = (r.sqe.flags & IOSQE_BUFFER_SELECT) != 0;
  uint64_t address = r.sqe.addr, length = r.sqe.len;
  if (select) {
    auto selected = Select(r, task);
    if (!selected.ok()) return Outcome::Error(selected.error().number());
    address = r.buffer.address;
    length = r.buffer.length;
  }
  Outcome outcome =
      WaitUnless(r.CallDone(task, &SysRecvfrom, Args(kFile, address, length, flags)), flags & MSG_DONTWAIT);
  return select ? Selected(r, outcome) : outcome;
}

Outcome Receive(R& r, Task& task) {
  if (r.sqe.ioprio & ~(IORING_RECVSEND_POLL_FIRST | IORING_RECV_MULTISHOT)) return Outcome::Error(EINVAL);
  const uint64_t flags = r.sqe.msg_flags;
  const bool multishot = r.sqe.ioprio & IORING_RECV_MULTISHOT;
  if (multishot &&
      (!(r.sqe.flags & IOSQE_BUFFER_SELECT) || (flags & MSG_WAITALL) || r.sqe.len || r.sqe.opcode == IORING_OP_RECVMSG))
    return Outcome::Error(EINVAL);
  if (PollFirst(r)) return Outcome::Wait();
  // All of it: a thread waits, since each attempt would give away what it got.
  if (flags & MSG_WAITALL) r.wait_mask = 0, r.expected = r.sqe.opcode == IORING_OP_RECV ? r.sqe.len : 0;
  for (int i = 0; multishot && i < 64; ++i) {
    Outcome outcome = ReceiveOnce(r, task, flags);
    if (outcome.kind != Outcome::kDone || outcome.result <= 0) return outcome;
    if (!r.PostMore(outcome.result, outcome.flags)) return Outcome::Error(ENOBUFS);
    if (i == 63) r.Kick();  // others' turn
  }
  return multishot ? Outcome::Wait() : ReceiveOnce(r, task, flags);
}

// The result of an operation that makes a file: a descriptor, or a slot of the registered files.
Outcome Direct(R& r, Task& task, Handler handler, const Arguments& args) {
  if (!r.sqe.file_index) return r.CallDone(task, handler, args);
  vfs::FileRef made;
  Value value = r.Call(task, handler, args, &made);
  if (!value.ok()) {
    if (value.error() == kernel::kWouldSleep) return Outcome::Wait();
    return Outcome::Error(value.error().IsRestart() ? EINTR : value.error().number());
  }
  auto slot = r.ring->InstallFixed(r.sqe.file_index, std::move(made));
  if (!slot.ok()) return Outcome::Error(slot.error().number());
  return Outcome::Done(r.sqe.file_index == IORING_FILE_INDEX_ALLOC ? *slot : 0);
}

Outcome Accept(R& r, Task& task) {
  if (r.sqe.len || r.sqe.buf_index || (r.sqe.ioprio & ~IORING_ACCEPT_MULTISHOT)) return Outcome::Error(EINVAL);
  const bool multishot = r.sqe.ioprio & IORING_ACCEPT_MULTISHOT;
  if (r.sqe.file_index && (r.sqe.accept_flags & SOCK_CLOEXEC)) return Outcome::Error(EINVAL);
  if (multishot && r.sqe.file_index && r.sqe.file_index != IORING_FILE_INDEX_ALLOC) return Outcome::Error(EINVAL);
  const Arguments args = Args(kFile, r.sqe.addr, r.sqe.addr2, r.sqe.accept_flags);
  for (int i = 0; i < 64; ++i) {
    Outcome outcome = WaitUnless(Direct(r, task, &SysAccept4, args), false);
    if (!multishot || outcome.kind != Outcome::kDone || outcome.result < 0) return outcome;
    if (!r.PostMore(outcome.result)) return outcome;
  }
  r.Kick();
  return Outcome::Wait();
}

Outcome Connect(R& r, Task& task) {
  if (r.sqe.len || r.sqe.buf_index || r.sqe.rw_flags || r.sqe.splice_fd_in) return Outcome::Error(EINVAL);
  Outcome outcome = r.CallDone(task, &SysConnect, Args(kFile, r.sqe.addr, r.sqe.addr2));
  if (outcome.kind == Outcome::kWait) r.wait_mask = 0;
  if (outcome.kind != Outcome::kDone) return outcome;
  if (outcome.result == -EINPROGRESS || outcome.result == -EALREADY) return Outcome::Wait();
  // After such a wait: it has come about.
  if (outcome.result == -EISCONN && r.queue()) return Outcome::Done(0);
  return outcome;
}

// --- Others

Outcome Close(R& r, Task& task) {
  if (r.sqe.off || r.sqe.addr || r.sqe.len || r.sqe.rw_flags || r.sqe.buf_index) return Outcome::Error(EINVAL);
  if (r.sqe.flags & IOSQE_FIXED_FILE) return Outcome::Error(EBADF);
  if (r.sqe.file_index) {
    if (r.sqe.fd) return Outcome::Error(EINVAL);
    auto removed = r.ring->RemoveFixed(r.sqe.file_index - 1);
    return removed.ok() ? Outcome::Done(0) : Outcome::Error(removed.error().number());
  }
  auto file = task.fds().Get(r.sqe.fd);
  // A ring is not closed from inside of one.
  if (!file.ok() || RingOf(**file)) return Outcome::Error(EBADF);
  return r.CallDone(task, &SysClose, Args(Fd(r.sqe.fd)));
}

Outcome FilesUpdate(R& r, Task& task) {
  if (r.sqe.rw_flags || r.sqe.splice_fd_in || (r.sqe.flags & (IOSQE_FIXED_FILE | IOSQE_BUFFER_SELECT)) || !r.sqe.len)
    return Outcome::Error(EINVAL);
  auto updated = r.ring->UpdateFiles(task, static_cast<uint32_t>(r.sqe.off), UserAddr(r.sqe.addr), r.sqe.len);
  return updated.ok() ? Outcome::Done(*updated) : Outcome::Error(updated.error().number());
}

Outcome MsgRing(R& r, Task&) {
  if (r.sqe.buf_index || r.sqe.personality) return Outcome::Error(EINVAL);
  Ring* target = RingOf(*r.file);
  if (!target) return Outcome::Error(EBADFD);
  if (target->IsDisabled()) return Outcome::Error(EBADFD);
  if (r.sqe.addr != IORING_MSG_DATA) return Outcome::Error(EINVAL);
  if (r.sqe.splice_fd_in || r.sqe.addr3 || r.sqe.msg_ring_flags) return Outcome::Error(EINVAL);
  return target->Post(r.sqe.off, static_cast<int32_t>(r.sqe.len), 0) ? Outcome::Done(0) : Outcome::Error(EOVERFLOW);
}

Outcome ProvideBuffers(R& r, Task&) {
  if (r.sqe.rw_flags || r.sqe.splice_fd_in) return Outcome::Error(EINVAL);
  auto provided = r.ring->ProvideBuffers(r.sqe);
  return provided.ok() ? Outcome::Done(0) : Outcome::Error(provided.error().number());
}

Outcome RemoveBuffers(R& r, Task&) {
  if (r.sqe.rw_flags || r.sqe.addr || r.sqe.len || r.sqe.off || r.sqe.splice_fd_in) return Outcome::Error(EINVAL);
  if (r.sqe.fd <= 0 || r.sqe.fd > 65536) return Outcome::Error(EINVAL);
  auto removed = r.ring->RemoveBuffers(r.sqe.buf_group, static_cast<uint32_t>(r.sqe.fd));
  return removed.ok() ? Outcome::Done(*removed) : Outcome::Error(removed.error().number());
}

// The input of a splice is named by its own field; the output is the request's file.
Outcome Splice(R& r, Task& task) {
  const bool tee = r.sqe.opcode == IORING_OP_TEE;
  const uint32_t flags = r.sqe.splice_flags;
  if (tee && (r.sqe.splice_off_in || r.sqe.off)) return Outcome::Error(EINVAL);
  if (flags & ~(SPLICE_F_FD_IN_FIXED | 0xfu)) return Outcome::Error(EINVAL);
  // Offsets are values here, and pointers there: only the position is served.
  if (!tee && (r.sqe.splice_off_in != UINT64_MAX || r.sqe.off != UINT64_MAX)) return Outcome::Error(ESPIPE);
  uint64_t in = Fd(r.sqe.splice_fd_in);
  vfs::FileRef out = r.file;
  if (flags & SPLICE_F_FD_IN_FIXED) {
    auto fixed = r.ring->FixedFile(static_cast<uint32_t>(r.sqe.splice_fd_in));
    if (!fixed.ok()) return Outcome::Error(EBADF);
    // Both without descriptors would need two of them.
    if (r.sqe.flags & IOSQE_FIXED_FILE) return Outcome::Error(EBADF);
    CallScope scope(*fixed);
    Value value = tee ? SysTee(task, Args(kFile, Fd(r.sqe.fd), r.sqe.len, flags & 0xf))
                      : SysSplice(task, Args(kFile, 0, Fd(r.sqe.fd), 0, r.sqe.len, flags & 0xf));
    return value.ok() ? Outcome::Done(*value) : FromResult(value.error());
  }
  return tee ? r.CallDone(task, &SysTee, Args(in, kFile, r.sqe.len, flags))
             : r.CallDone(task, &SysSplice, Args(in, 0, kFile, 0, r.sqe.len, flags));
}

Outcome Fsync(R& r, Task& task) {
  if (r.sqe.addr || r.sqe.buf_index || r.sqe.splice_fd_in || (r.sqe.fsync_flags & ~IORING_FSYNC_DATASYNC))
    return Outcome::Error(EINVAL);
  return r.CallDone(task, r.sqe.fsync_flags ? &SysFdatasync : &SysFsync, Args(kFile));
}

Outcome OpenAt2(R& r, Task& task) {
  if (r.sqe.buf_index) return Outcome::Error(EINVAL);
  if (r.sqe.flags & IOSQE_FIXED_FILE) return Outcome::Error(EBADF);
  return Direct(r, task, &SysOpenat2, Args(Fd(r.sqe.fd), r.sqe.addr, r.sqe.off, r.sqe.len));
}

Outcome OpenAt(R& r, Task& task) {
  if (r.sqe.buf_index) return Outcome::Error(EINVAL);
  if (r.sqe.flags & IOSQE_FIXED_FILE) return Outcome::Error(EBADF);
  if (r.sqe.file_index && (r.sqe.open_flags & O_CLOEXEC)) return Outcome::Error(EINVAL);
  return Direct(r, task, &SysOpenat, Args(Fd(r.sqe.fd), r.sqe.addr, r.sqe.open_flags, r.sqe.len));
}

Outcome Socket(R& r, Task& task) {
  if (r.sqe.addr || r.sqe.rw_flags || r.sqe.buf_index) return Outcome::Error(EINVAL);
  if (r.sqe.file_index && (r.sqe.off & SOCK_CLOEXEC)) return Outcome::Error(EINVAL);
  return Direct(r, task, &SysSocket, Args(Fd(r.sqe.fd), r.sqe.off, r.sqe.len));
}

#define SIMPLE(bad, handler, ...)                         \
  [](R& r, Task& task) {                                  \
    const io_uring_sqe& s = r.sqe;                        \
    if (bad) return Outcome::Error(EINVAL);               \
    return r.CallDone(task, &handler, Args(__VA_ARGS__)); \
  }
// The same for calls that name a directory by number: no registered files there.
#define PATH(bad, handler, ...)                                   \
  [](R& r, Task& task) {                                          \
    const io_uring_sqe& s = r.sqe;                                \
    if (bad) return Outcome::Error(EINVAL);                       \
    if (s.flags & IOSQE_FIXED_FILE) return Outcome::Error(EBADF); \
    return r.CallDone(task, &handler, Args(__VA_ARGS__));         \
  }

constexpr EventMask kIn = kEventIn | EPOLLRDHUP;

const UringOp kOps[] = {
    {"nop", [](R&, Task&) { return Outcome::Done(0); }},
    {"readv", &ReadWrite, true, kIn, true, true},
    {"writev", &ReadWrite, true, kEventOut, false, true},
    {"fsync", &Fsync, true},
    {"read_fixed", &ReadWrite, true, kIn, false, true},
    {"write_fixed", &ReadWrite, true, kEventOut, false, true},
    {"poll_add", &RunPollAdd, true},
    {"poll_remove", &RunPollRemove},
    {"sync_file_range",
     SIMPLE(s.addr || s.buf_index || s.splice_fd_in, SysSyncFileRange, kFile, s.off, s.len, s.sync_range_flags), true},
    {"sendmsg", &Send, true, kEventOut, false, true},
    {"recvmsg", &Receive, true, kIn, false, true},
    {"timeout", &RunTimeout},
    {"timeout_remove", &RunTimeoutRemove},
    {"accept", &Accept, true, kEventIn, false, true},
    {"async_cancel", &RunAsyncCancel},
    {"link_timeout", &RunLinkTimeout},
    {"connect", &Connect, true, kEventOut},
    {"fallocate", SIMPLE(s.buf_index || s.rw_flags || s.splice_fd_in, SysFallocate, kFile, s.len, s.off, s.addr), true},
    {"openat", &OpenAt},
    {"close", &Close},
    {"files_update", &FilesUpdate},
    {"statx", PATH(s.buf_index || s.splice_fd_in, SysStatx, Fd(s.fd), s.addr, s.statx_flags, s.len, s.addr2)},
    {"read", &ReadWrite, true, kIn, true, true},
    {"write", &ReadWrite, true, kEventOut, false, true},
    {"fadvise", SIMPLE(s.buf_index || s.addr || s.splice_fd_in, SysFadvise64, kFile, s.off, s.len, s.fadvise_advice),
     true},
    {"madvise", SIMPLE(s.buf_index || s.off || s.splice_fd_in, SysMadvise, s.addr, s.len, s.fadvise_advice)},
    {"send", &Send, true, kEventOut, false, true},
    {"recv", &Receive, true, kIn, true, true},
    {"openat2", &OpenAt2},
    {"epoll_ctl", SIMPLE(s.buf_index || s.splice_fd_in, SysEpollCtl, Fd(s.fd), s.len, s.off, s.addr)},
    {"splice", &Splice, true},
    {"provide_buffers", &ProvideBuffers},
    {"remove_buffers", &RemoveBuffers},
    {"tee", &Splice, true},
    {"shutdown", SIMPLE(s.off || s.addr || s.rw_flags || s.buf_index || s.splice_fd_in, SysShutdown, kFile, s.len),
     true},
    {"renameat", PATH(s.buf_index || s.splice_fd_in, SysRenameat2, Fd(s.fd), s.addr, Fd(static_cast<int32_t>(s.len)),
                      s.addr2, s.rename_flags)},
    {"unlinkat", PATH(s.off || s.len || s.buf_index || s.splice_fd_in, SysUnlinkat, Fd(s.fd), s.addr, s.unlink_flags)},
    {"mkdirat", PATH(s.off || s.rw_flags || s.buf_index || s.splice_fd_in, SysMkdirat, Fd(s.fd), s.addr, s.len)},
    {"symlinkat", PATH(s.len || s.rw_flags || s.buf_index || s.splice_fd_in, SysSymlinkat, s.addr, Fd(s.fd), s.addr2)},
    {"linkat", PATH(s.rw_flags & ~uint32_t{AT_SYMLINK_FOLLOW | AT_EMPTY_PATH} || s.buf_index || s.splice_fd_in,
                    SysLinkat, Fd(s.fd), s.addr, Fd(static_cast<int32_t>(s.len)), s.addr2, s.hardlink_flags)},
    {"msg_ring", &MsgRing, true},
    {"fsetxattr", SIMPLE(s.splice_fd_in, SysFsetxattr, kFile, s.addr, s.addr2, s.len, s.xattr_flags), true},
    {"setxattr", SIMPLE(s.splice_fd_in, SysSetxattr, s.addr3, s.addr, s.addr2, s.len, s.xattr_flags)},
    {"fgetxattr", SIMPLE(s.xattr_flags, SysFgetxattr, kFile, s.addr, s.addr2, s.len), true},
    {"getxattr", SIMPLE(s.xattr_flags, SysGetxattr, s.addr3, s.addr, s.addr2, s.len)},
    {"socket", &Socket},
    {nullptr, nullptr},  // uring_cmd: no file here has commands
    {"send_zc", &Send, true, kEventOut, false, true},
    {"sendmsg_zc", &Send, true, kEventOut, false, true},
};
static_assert(std::size(kOps) == IORING_OP_LAST);

#undef SIMPLE
#undef PATH

}  // namespace

const UringOp* FindUringOp(unsigned opcode) {
  return opcode < std::size(kOps) && kOps[opcode].run ? &kOps[opcode] : nullptr;
}

}  // namespace sentry::syscalls
