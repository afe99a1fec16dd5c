// SPDX-License-Identifier: Apache-2.0
// The TCP/IP stack of each network namespace, made at its first use and gone with the namespace and its last socket;
// the one thread that runs their timers. Thread-safe.
#ifndef SENTRY_SOCKET_INET_STACKS_H_
#define SENTRY_SOCKET_INET_STACKS_H_

#include <cstdint>

#include "sentry/net/stack.h"

namespace sentry::socket {

// `first`: the sandbox's first namespace, whose loopback is up from the start.
RefPtr<net::Stack> StackOf(uint64_t net_namespace, bool first);
// Of the calling task's namespace.
RefPtr<net::Stack> CallersStack();
// The namespace is gone.
void ForgetStack(uint64_t net_namespace);

}  // namespace sentry::socket

#endif  // SENTRY_SOCKET_INET_STACKS_H_
