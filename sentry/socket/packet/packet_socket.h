// SPDX-License-Identifier: Apache-2.0
// AF_PACKET (packet(7)): SOCK_RAW and SOCK_DGRAM.
#ifndef SENTRY_SOCKET_PACKET_PACKET_SOCKET_H_
#define SENTRY_SOCKET_PACKET_PACKET_SOCKET_H_

namespace sentry::socket {

// At start.
void RegisterPacketSockets();

}  // namespace sentry::socket

#endif  // SENTRY_SOCKET_PACKET_PACKET_SOCKET_H_
