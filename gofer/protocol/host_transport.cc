// SPDX-License-Identifier: Apache-2.0
#include "gofer/protocol/host_transport.h"

#include <sys/socket.h>
#include <sys/un.h>

#include <cstring>

namespace gofer {

using base::Errno;
using base::OkResult;
using base::Result;
using base::UniqueFd;

Result<void> SendPacket(int socket, uint16_t code, uint64_t tag, std::span<const uint8_t> payload,
                        std::span<const int> fds) {
  if (payload.size() > kMaxPayload || fds.size() > kMaxFdsPerMessage) return Errno(EMSGSIZE);
  MessageHeader header{.length = static_cast<uint32_t>(sizeof(MessageHeader) + payload.size()),
                       .code = code,
                       .fds = static_cast<uint16_t>(fds.size()),
                       .tag = tag};
  iovec parts[2] = {{&header, sizeof header}, {const_cast<uint8_t*>(payload.data()), payload.size()}};
  alignas(cmsghdr) char control[CMSG_SPACE(kMaxFdsPerMessage * sizeof(int))];
  msghdr message{.msg_iov = parts, .msg_iovlen = 2};
  if (!fds.empty()) {
    memset(control, 0, sizeof control);
    message.msg_control = control;
    message.msg_controllen = CMSG_SPACE(fds.size_bytes());
    cmsghdr* c = CMSG_FIRSTHDR(&message);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(fds.size_bytes());
    memcpy(CMSG_DATA(c), fds.data(), fds.size_bytes());
  }
  while (sendmsg(socket, &message, MSG_NOSIGNAL) < 0) {
    if (errno != EINTR) return Errno::Last();
  }
  return OkResult();
}

Result<Packet> ReceivePacket(int socket, std::span<uint8_t> buffer, bool accept_fds) {
  iovec part{buffer.data(), kMaxMessage};
  alignas(cmsghdr) char control[CMSG_SPACE(kMaxFdsPerMessage * sizeof(int))];
  msghdr message{.msg_iov = &part, .msg_iovlen = 1};
  // Without room for them the kernel drops fds before they get a number here, and sets MSG_CTRUNC.
  if (accept_fds) {
    message.msg_control = control;
    message.msg_controllen = sizeof control;
  }
  ssize_t n;
  while ((n = recvmsg(socket, &message, MSG_CMSG_CLOEXEC)) < 0) {
    if (errno != EINTR) return Errno::Last();
  }
  Packet packet;
  for (cmsghdr* c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c)) {
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
    size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd;
      memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
      packet.fds.emplace_back(fd);
    }
  }
  if (n == 0) return Errno(ECONNRESET);
  if (message.msg_flags & MSG_TRUNC) return Errno(EBADMSG);
  if (message.msg_flags & MSG_CTRUNC) return Errno(accept_fds ? EMFILE : EBADMSG);
  if (static_cast<size_t>(n) < sizeof packet.header) return Errno(EBADMSG);
  memcpy(&packet.header, buffer.data(), sizeof packet.header);
  if (packet.header.length != static_cast<size_t>(n) || packet.header.fds != packet.fds.size()) return Errno(EBADMSG);
  packet.payload = std::span<const uint8_t>(buffer).subspan(sizeof packet.header, n - sizeof packet.header);
  return packet;
}

Result<std::pair<UniqueFd, UniqueFd>> MakeSocketPair() {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0) return Errno::Last();
  return std::pair(UniqueFd(ends[0]), UniqueFd(ends[1]));
}

Result<void> CheckSocket(int fd) {
  int domain = 0, type = 0;
  socklen_t size = sizeof domain;
  if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) < 0) return Errno(EINVAL);
  size = sizeof type;
  if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) < 0) return Errno(EINVAL);
  sockaddr_un peer;
  size = sizeof peer;
  if (domain != AF_UNIX || type != SOCK_SEQPACKET) return Errno(EINVAL);
  if (getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &size) < 0) return Errno(EINVAL);
  return OkResult();
}

void ShutdownSocket(int fd) { shutdown(fd, SHUT_RDWR); }

}  // namespace gofer
