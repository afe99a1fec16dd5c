// SPDX-License-Identifier: Apache-2.0
// Handlers of NETLINK_ROUTE requests that route.cc's table names and other files have. Errors as Linux answers them.
#ifndef SENTRY_SOCKET_NETLINK_ROUTE_H_
#define SENTRY_SOCKET_NETLINK_ROUTE_H_

#include "sentry/socket/netlink/netlink_socket.h"

namespace sentry::socket {

Result<void> GetLink(NetlinkSocket& socket, const NetlinkRequest& request);
Result<void> SetLink(NetlinkSocket& socket, const NetlinkRequest& request);  // also makes one
Result<void> DeleteLink(NetlinkSocket& socket, const NetlinkRequest& request);
// What a namespace is called in the socket's (RTM_GETNSID).
Result<void> GetNamespaceNumber(NetlinkSocket& socket, const NetlinkRequest& request);

}  // namespace sentry::socket

#endif  // SENTRY_SOCKET_NETLINK_ROUTE_H_
