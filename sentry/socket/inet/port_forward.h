// SPDX-License-Identifier: Apache-2.0
// Connections from outside the sandbox to a port inside, whatever interfaces it has.
#ifndef SENTRY_SOCKET_INET_PORT_FORWARD_H_
#define SENTRY_SOCKET_INET_PORT_FORWARD_H_

#include "base/unique_fd.h"
#include "sentry/net/stack.h"

namespace sentry::socket {

// Connects to `port` of the stack's loopback, by IPv4 and, where nobody listens, IPv6; then carries bytes between that
// connection and `host`, a connected AF_UNIX stream socket of the host, by two threads, until both directions have
// ended or either side is gone. Returns once connected. ECONNREFUSED; ETIMEDOUT after 25 s; EAGAIN beyond 256 at a
// time. Host calls: poll, recvmsg, sendmsg, shutdown, close.
Result<void> ForwardPort(RefPtr<net::Stack> stack, uint16_t port, base::UniqueFd host);

}  // namespace sentry::socket

#endif  // SENTRY_SOCKET_INET_PORT_FORWARD_H_
