// SPDX-License-Identifier: Apache-2.0
// Where a frame came from, as packet(7) tells it.
#ifndef SENTRY_SOCKET_PACKET_ADDRESS_H_
#define SENTRY_SOCKET_PACKET_ADDRESS_H_

#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <sys/socket.h>

#include "sentry/socket/packet/endpoint.h"

namespace sentry::socket {

inline sockaddr_ll PacketAddressOf(const CapturedFrame& frame) {
  sockaddr_ll address = {};
  address.sll_family = AF_PACKET;
  address.sll_protocol = htons(frame.info.protocol);
  address.sll_ifindex = static_cast<int>(frame.info.interface);
  address.sll_hatype = frame.info.hardware_type;
  address.sll_pkttype = frame.info.type;
  address.sll_halen = 6;
  uint8_t header[PacketEndpoint::kEthernetHeader];
  frame.packet->CopyTo(header, sizeof header);
  memcpy(address.sll_addr, header + 6, 6);
  return address;
}

}  // namespace sentry::socket

#endif  // SENTRY_SOCKET_PACKET_ADDRESS_H_
