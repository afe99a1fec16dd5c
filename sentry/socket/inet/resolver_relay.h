// SPDX-License-Identifier: Apache-2.0
// The name server that Docker runs for user-defined networks: it listens in the host's network namespace of the
// container, at 127.0.0.11, port 53, by a redirection there. Queries to that address inside the sandbox are carried
// there and back.
#ifndef SENTRY_SOCKET_INET_RESOLVER_RELAY_H_
#define SENTRY_SOCKET_INET_RESOLVER_RELAY_H_

#include "base/unique_fd.h"
#include "sentry/net/stack.h"

namespace sentry::socket {

// `socket`: a UDP socket of the host, connected to the server. Takes datagrams to 127.0.0.11:53 from now on; those that
// are not DNS (RFC 1035) or find too many others on their way are dropped, as a network may. One thread sleeps in
// recv(2) until the process ends. Host calls: sendmsg, recvmsg. Only over UDP: a client whose answer is truncated gets
// no more.
void StartResolverRelay(RefPtr<net::Stack> stack, base::UniqueFd socket);

}  // namespace sentry::socket

#endif  // SENTRY_SOCKET_INET_RESOLVER_RELAY_H_
