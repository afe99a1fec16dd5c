// SPDX-License-Identifier: Apache-2.0
// --network=host: AF_INET and AF_INET6 sockets of the sandbox's first network namespace are sockets of the host's.
#ifndef SENTRY_SOCKET_HOST_HOST_SOCKET_H_
#define SENTRY_SOCKET_HOST_HOST_SOCKET_H_

namespace sentry::socket {

// At start, after the families are registered (inet/) and fs::HostPoller runs. Other network namespaces keep the
// sandbox's own stack. The seccomp filter must allow what host_options.h lists.
void UseHostSockets();

}  // namespace sentry::socket

#endif  // SENTRY_SOCKET_HOST_HOST_SOCKET_H_
