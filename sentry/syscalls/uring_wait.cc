// SPDX-License-Identifier: Apache-2.0
// io_uring's operations that wait for an event, a time or for each other: poll, timeouts, cancellation.
#include <poll.h>

#include <algorithm>

#include "sentry/syscalls/uring.h"

namespace sentry::syscalls {
namespace {

constexpr EventMask kAlways = EPOLLERR | EPOLLHUP;
// What EPOLL flags may be in an event mask besides events: they have no meaning for a poll request.
constexpr EventMask kNoEvents = EPOLLET | EPOLLONESHOT | EPOLLEXCLUSIVE | EPOLLWAKEUP;

bool IsPoll(const UringRequest& r) { return r.sqe.opcode == IORING_OP_POLL_ADD; }
bool IsTimeout(const UringRequest& r) { return r.sqe.opcode == IORING_OP_TIMEOUT; }

// A time of `clock` as one of CLOCK_MONOTONIC.
Result<int64_t> ReadDeadline(Task& task, uint64_t address, uint32_t flags) {
  struct {
    int64_t seconds, nanoseconds;  // struct __kernel_timespec
  } ts;
  TRY(task.CopyInBytes(UserAddr(address), &ts, sizeof ts));
  if (ts.seconds < 0 || ts.nanoseconds < 0) return Errno(EINVAL);
  int64_t ns;
  if (__builtin_mul_overflow(ts.seconds, base::kNsPerSecond, &ns) || __builtin_add_overflow(ns, ts.nanoseconds, &ns))
    return kNoDeadline;
  if (!(flags & IORING_TIMEOUT_ABS)) return DeadlineAfter(ns);
  if (flags & IORING_TIMEOUT_REALTIME) return DeadlineAfter(std::max<int64_t>(ns - base::ClockNs(CLOCK_REALTIME), 0));
  if (flags & IORING_TIMEOUT_BOOTTIME)
    return DeadlineAfter(std::max<int64_t>(HostTimeOf(task, CLOCK_BOOTTIME, ns) - base::ClockNs(CLOCK_BOOTTIME), 0));
  return HostTimeOf(task, CLOCK_MONOTONIC, ns);
}

constexpr uint32_t kTimeoutFlags =
    IORING_TIMEOUT_ABS | IORING_TIMEOUT_BOOTTIME | IORING_TIMEOUT_REALTIME | IORING_TIMEOUT_ETIME_SUCCESS;
constexpr uint32_t kClocks = IORING_TIMEOUT_BOOTTIME | IORING_TIMEOUT_REALTIME;

}  // namespace

Outcome RunPollAdd(UringRequest& r, Task&) {
  const io_uring_sqe& s = r.sqe;
  if (s.buf_index || s.off || s.addr || (s.len & ~uint32_t{IORING_POLL_ADD_MULTI | IORING_POLL_ADD_LEVEL}))
    return Outcome::Error(EINVAL);
  const bool multishot = s.len & IORING_POLL_ADD_MULTI;
  if (multishot && (s.flags & IOSQE_CQE_SKIP_SUCCESS)) return Outcome::Error(EINVAL);
  r.wait_mask = (s.poll32_events & ~kNoEvents) | kAlways;
  // One event, one completion: what is ready at the start is looked at once, when the request is in the queue.
  if (multishot && r.file->wait_queue() && !r.queue()) return Outcome::Wait();
  EventMask ready = r.file->Poll() & r.wait_mask;
  if (!ready) return Outcome::Wait();
  if (!multishot || !r.file->wait_queue()) return Outcome::Done(ready);
  // Then only at the next event.
  if (!r.PostMore(static_cast<int32_t>(ready))) return Outcome::Done(ready);
  return Outcome::Wait();
}

Outcome RunPollRemove(UringRequest& r, Task&) {
  const io_uring_sqe& s = r.sqe;
  const uint32_t flags = s.len;
  if (s.buf_index || s.splice_fd_in ||
      (flags & ~uint32_t{IORING_POLL_UPDATE_EVENTS | IORING_POLL_UPDATE_USER_DATA | IORING_POLL_ADD_MULTI}))
    return Outcome::Error(EINVAL);
  if (flags == IORING_POLL_ADD_MULTI) return Outcome::Error(EINVAL);
  const bool events = flags & IORING_POLL_UPDATE_EVENTS, user_data = flags & IORING_POLL_UPDATE_USER_DATA;
  if (!user_data && s.off) return Outcome::Error(EINVAL);
  if (!events && s.poll32_events) return Outcome::Error(EINVAL);
  auto found = r.ring->Find([&](const UringRequest& o) { return IsPoll(o) && o.sqe.user_data == s.addr; }, false);
  if (found.empty()) return Outcome::Error(ENOENT);
  UringRequest& poll = *found.front();
  if (!events && !user_data) {
    const int result = poll.Cancel();
    // One that has just posted an event and is about to wait for the next ends instead, with ECANCELED.
    const bool ends = result == -EALREADY && (poll.sqe.len & IORING_POLL_ADD_MULTI);
    return Outcome::Done(ends ? 0 : result);
  }
  if (!poll.Claim(UringRequest::State::kArmed)) return Outcome::Error(EALREADY);
  // Taken out and put in again with its new events: it may be ready for them.
  if (user_data) poll.sqe.user_data = s.off;
  if (events) {
    poll.sqe.poll32_events = s.poll32_events;
    poll.sqe.len = flags & IORING_POLL_ADD_MULTI;
  }
  poll.Rearm(events);
  return Outcome::Done(0);
}

Outcome RunAsyncCancel(UringRequest& r, Task& task) {
  const io_uring_sqe& s = r.sqe;
  const uint32_t flags = s.cancel_flags;
  if (s.off || s.len || s.splice_fd_in ||
      (flags & ~uint32_t{IORING_ASYNC_CANCEL_ALL | IORING_ASYNC_CANCEL_FD | IORING_ASYNC_CANCEL_ANY |
                         IORING_ASYNC_CANCEL_FD_FIXED}))
    return Outcome::Error(EINVAL);
  const bool by_fd = flags & IORING_ASYNC_CANCEL_FD, any = flags & IORING_ASYNC_CANCEL_ANY;
  if (by_fd && any) return Outcome::Error(EINVAL);
  const bool all = flags & (IORING_ASYNC_CANCEL_ALL | IORING_ASYNC_CANCEL_ANY);
  vfs::FileRef file;
  if (by_fd) {
    const bool fixed = (s.flags & IOSQE_FIXED_FILE) || (flags & IORING_ASYNC_CANCEL_FD_FIXED);
    auto named = fixed ? r.ring->FixedFile(static_cast<uint32_t>(s.fd)) : task.fds().Get(s.fd);
    if (!named.ok()) return Outcome::Error(EBADF);
    file = std::move(*named);
  }
  auto found = r.ring->Find(
      [&](const UringRequest& o) { return &o != &r && (any || (by_fd ? o.file == file : o.sqe.user_data == s.addr)); },
      all);
  int cancelled = 0, result = -ENOENT;
  for (const auto& request : found) {
    int one = request->Cancel();
    if (one == 0) ++cancelled;
    if (result == -ENOENT || one == 0) result = one;
  }
  if (all) return Outcome::Done(cancelled || found.empty() ? cancelled : result);
  return Outcome::Done(result);
}

Result<void> PrepareTimeout(UringRequest& r, Task& task) {
  const io_uring_sqe& s = r.sqe;
  const bool link = r.IsLinkTimeout();
  if (s.buf_index || s.len != 1 || s.splice_fd_in || (s.timeout_flags & ~kTimeoutFlags) || (link && s.off))
    return Errno(EINVAL);
  if ((s.timeout_flags & kClocks) == kClocks) return Errno(EINVAL);
  r.deadline_ns = TRY(ReadDeadline(task, s.addr, s.timeout_flags));
  return OkResult();
}

Outcome RunTimeout(UringRequest& r, Task&) {
  if (!r.group().async_work().Prepare().ok()) return Outcome::Error(ENOMEM);
  if (RefPtr<UringRequest> follower = r.StartTimeout()) UringRequest::IssueLater(std::move(follower));
  return Outcome::Pending();
}

// What it bounds ended in the same moment, or it was issued alone.
Outcome RunLinkTimeout(UringRequest&, Task&) { return Outcome::Error(ECANCELED); }

Outcome RunTimeoutRemove(UringRequest& r, Task& task) {
  const io_uring_sqe& s = r.sqe;
  const uint32_t flags = s.timeout_flags;
  if ((s.flags & (IOSQE_FIXED_FILE | IOSQE_BUFFER_SELECT)) || s.buf_index || s.len || s.splice_fd_in)
    return Outcome::Error(EINVAL);
  const bool update = flags & IORING_TIMEOUT_UPDATE_MASK;
  if (flags & ~uint32_t{IORING_TIMEOUT_UPDATE_MASK | IORING_TIMEOUT_ABS | kClocks}) return Outcome::Error(EINVAL);
  if (!update && flags) return Outcome::Error(EINVAL);
  const bool link = flags & IORING_LINK_TIMEOUT_UPDATE;
  if ((flags & IORING_TIMEOUT_UPDATE_MASK) == IORING_TIMEOUT_UPDATE_MASK || (flags & kClocks) == kClocks)
    return Outcome::Error(EINVAL);
  int64_t deadline = 0;
  if (update) {
    auto read = ReadDeadline(task, s.addr2, flags);
    if (!read.ok()) return Outcome::Error(read.error().number());
    deadline = *read;
  }
  auto found = r.ring->Find(
      [&](const UringRequest& o) { return (link ? o.IsLinkTimeout() : IsTimeout(o)) && o.sqe.user_data == s.addr; },
      false);
  if (found.empty()) return Outcome::Error(ENOENT);
  if (!update) return Outcome::Done(found.front()->Cancel());
  found.front()->StartTimer(deadline);
  return Outcome::Done(0);
}

}  // namespace sentry::syscalls
