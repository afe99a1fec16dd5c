// SPDX-License-Identifier: Apache-2.0
#include "runsc/control/wire.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "base/clock.h"

namespace runsc::control {
namespace {

constexpr int kFrameTimeoutMs = 10'000;

absl::Status PeerGone() { return absl::UnavailableError("the other end of the control socket is gone"); }

// OK when `socket` has `events`.
absl::Status WaitFor(int socket, short events, int timeout_ms, int cancel_fd) {
  pollfd fds[2] = {{.fd = socket, .events = events}, {.fd = cancel_fd, .events = POLLIN}};
  int64_t deadline = timeout_ms < 0 ? base::kNoDeadline : base::MonotonicNs() + int64_t{timeout_ms} * 1'000'000;
  while (true) {
    int left = -1;
    if (timeout_ms >= 0) {
      left = static_cast<int>(std::max<int64_t>(0, (deadline - base::MonotonicNs() + 999'999) / 1'000'000));
    }
    int n = poll(fds, cancel_fd >= 0 ? 2 : 1, left);
    if (n < 0 && errno != EINTR) return absl::InternalError(absl::StrCat("poll: ", strerror(errno)));
    if (n == 0) return absl::DeadlineExceededError("the sandbox did not answer in time");
    if (n < 0) continue;
    if (cancel_fd >= 0 && fds[1].revents) return absl::CancelledError("cancelled");
    if (fds[0].revents) return absl::OkStatus();
  }
}

// Takes the descriptors out of a message. False if there were more than fit (the kernel then dropped some).
bool TakeFds(msghdr* message, std::vector<base::UniqueFd>* fds) {
  for (cmsghdr* c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
    size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd;
      memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof fd);
      fds->emplace_back(fd);
    }
  }
  return !(message->msg_flags & MSG_CTRUNC) && fds->size() <= kMaxFrameFds;
}

// Reads exactly `size` bytes; descriptors are accepted only where `fds` is given.
absl::Status ReadAll(int socket, void* buffer, size_t size, std::vector<base::UniqueFd>* fds, int first_timeout_ms,
                     int cancel_fd) {
  char* at = static_cast<char*>(buffer);
  size_t done = 0;
  while (done < size) {
    int timeout = done == 0 ? first_timeout_ms : kFrameTimeoutMs;
    if (auto status = WaitFor(socket, POLLIN, timeout, cancel_fd); !status.ok()) return status;
    iovec iov{.iov_base = at + done, .iov_len = size - done};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * kMaxFrameFds)];
    msghdr message{.msg_iov = &iov, .msg_iovlen = 1};
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    ssize_t n = recvmsg(socket, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    if (n < 0) {
      if (errno == EINTR || errno == EAGAIN) continue;
      if (errno == ECONNRESET) return PeerGone();
      return absl::InternalError(absl::StrCat("recvmsg: ", strerror(errno)));
    }
    std::vector<base::UniqueFd> received;
    bool fits = TakeFds(&message, &received);
    if (!fits || (!received.empty() && (fds == nullptr || !fds->empty()))) {
      return absl::DataLossError("unexpected descriptors on the control socket");
    }
    if (fds && !received.empty()) *fds = std::move(received);
    if (n == 0) return done == 0 ? PeerGone() : absl::DataLossError("the control connection broke inside a message");
    done += n;
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status SendFrame(int socket, const std::string& payload, const std::vector<int>& fds, int timeout_ms) {
  if (payload.size() > kMaxFrame) {
    return absl::InvalidArgumentError("the request is larger than 16 MiB: shorten arguments and environment");
  }
  if (fds.size() > kMaxFrameFds) return absl::InternalError("too many descriptors for one message");
  uint32_t length = static_cast<uint32_t>(payload.size());
  std::string bytes(reinterpret_cast<const char*>(&length), sizeof length);
  bytes += payload;
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * kMaxFrameFds)] = {};
  size_t done = 0;
  while (done < bytes.size()) {
    iovec iov{.iov_base = bytes.data() + done, .iov_len = bytes.size() - done};
    msghdr message{.msg_iov = &iov, .msg_iovlen = 1};
    if (done == 0 && !fds.empty()) {
      message.msg_control = control;
      message.msg_controllen = CMSG_SPACE(sizeof(int) * fds.size());
      cmsghdr* c = CMSG_FIRSTHDR(&message);
      c->cmsg_level = SOL_SOCKET;
      c->cmsg_type = SCM_RIGHTS;
      c->cmsg_len = CMSG_LEN(sizeof(int) * fds.size());
      memcpy(CMSG_DATA(c), fds.data(), sizeof(int) * fds.size());
    }
    ssize_t n = sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n >= 0) {
      done += n;
      continue;
    }
    if (errno == EINTR) continue;
    if (errno == EAGAIN) {
      if (auto status = WaitFor(socket, POLLOUT, timeout_ms, -1); !status.ok()) return status;
      continue;
    }
    if (errno == EPIPE || errno == ECONNRESET) return PeerGone();
    return absl::InternalError(absl::StrCat("sendmsg: ", strerror(errno)));
  }
  return absl::OkStatus();
}

absl::Status ReceiveFrame(int socket, Frame* frame, int timeout_ms, int cancel_fd) {
  frame->payload.clear();
  frame->fds.clear();
  uint32_t length = 0;
  if (auto status = ReadAll(socket, &length, sizeof length, &frame->fds, timeout_ms, cancel_fd); !status.ok()) {
    return status;
  }
  if (length > kMaxFrame) return absl::DataLossError("a control message claims more than 16 MiB");
  // Grow with what arrives: the peer must send the bytes before they cost memory here.
  constexpr size_t kChunk = 256 << 10;
  while (frame->payload.size() < length) {
    size_t at = frame->payload.size();
    size_t want = std::min<size_t>(kChunk, length - at);
    frame->payload.resize(at + want);
    auto status = ReadAll(socket, frame->payload.data() + at, want, nullptr, kFrameTimeoutMs, cancel_fd);
    if (absl::IsUnavailable(status)) return absl::DataLossError("the control connection broke inside a message");
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

}  // namespace runsc::control
