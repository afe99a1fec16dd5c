// SPDX-License-Identifier: Apache-2.0
// Shared by the socket calls: descriptors, addresses, and waiting on sockets.
#ifndef SENTRY_SYSCALLS_SOCKET_UTIL_H_
#define SENTRY_SYSCALLS_SOCKET_UTIL_H_

#include "sentry/socket/socket.h"
#include "sentry/syscalls/syscall.h"

namespace sentry::syscalls {

struct SocketRef {
  vfs::FileRef file;
  socket::Socket* operator->() const { return file->AsSocket(); }
  socket::Socket& operator*() const { return *file->AsSocket(); }
};

// EBADF, ENOTSOCK.
Result<SocketRef> GetSocket(Task& task, int fd);
// A sockaddr argument; EINVAL for a length that none has.
Result<std::string> CopyInAddress(Task& task, UserAddr address, int length);
// The result of accept, getsockname, recvfrom: clipped to the int at `length`, which then tells the whole length.
// EINVAL.
Result<void> CopyOutAddress(Task& task, const std::string& bytes, UserAddr address, UserAddr length);

// BlockOn for sockets: `attempt(WaitOn*)` may ask to wait for another queue than the socket's own. A time-out
// (relative) is EAGAIN, and with one a signal gives EINTR, never a restart (sock_intr_errno).
template <typename F>
auto BlockOnSocket(Task& task, socket::Socket& socket, EventMask mask, bool nonblocking, int64_t timeout_ns, F attempt)
    -> decltype(attempt(static_cast<socket::WaitOn*>(nullptr))) {
  socket::WaitOn source;
  auto result = attempt(&source);
  if (result.ok() || result.error() != Errno(EAGAIN) || nonblocking) return result;
  const int64_t deadline = timeout_ns == kNoDeadline ? kNoDeadline : DeadlineAfter(timeout_ns);
  for (;;) {
    const socket::WaitOn waited = source;
    BlockerEntry entry(task.blocker());
    (waited ? waited->queue : *socket.wait_queue()).Add(entry, mask);
    for (;;) {
      source = nullptr;
      auto again = attempt(&source);
      if (again.ok() || again.error() != Errno(EAGAIN)) return again;
      if (source != waited) break;
      auto slept = task.Block(deadline);
      if (slept.ok()) continue;
      if (slept.error() == Errno(ETIMEDOUT)) return Errno(EAGAIN);
      if (slept.error() == base::kErestartsys && deadline != kNoDeadline) return Errno(EINTR);
      return slept.error();
    }
  }
}

}  // namespace sentry::syscalls

#endif  // SENTRY_SYSCALLS_SOCKET_UTIL_H_
