// SPDX-License-Identifier: Apache-2.0
// The interfaces that move into a sandbox: what they are called, their addresses and routes, and a packet socket for
// each.
#ifndef RUNSC_CONTROL_NETWORK_CONFIG_H_
#define RUNSC_CONTROL_NETWORK_CONFIG_H_

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/unique_fd.h"

namespace runsc::control {

// Addresses are in network order, 4 or 16 bytes; empty: none. Numbers are those of rtnetlink(7).
struct NetworkAddress {
  std::string ip;
  uint32_t prefix = 0;
  std::string broadcast;
  uint32_t scope = 0;
  uint32_t flags = 0;  // IFA_F_*
  std::string label;
};

struct NetworkInterface {
  std::string name;
  uint32_t index = 0;  // as in the namespace it comes from; routes name it
  std::array<uint8_t, 6> hardware_address = {};
  uint32_t mtu = 0;
  uint32_t flags = 0;  // IFF_*
  uint16_t type = 1;   // ARPHRD_ETHER; another one only of interfaces that stay outside
  uint32_t tx_queue_length = 0;
  std::vector<NetworkAddress> addresses;
  // AF_PACKET, SOCK_RAW, bound to the interface, with PACKET_VNET_HDR.
  base::UniqueFd socket;
};

struct NetworkRoute {
  std::string destination;  // of `prefix` 0: all zero bytes of the family
  uint32_t prefix = 0;
  std::string gateway;
  std::string source;
  uint32_t interface = 0;
  uint32_t metric = 0;
  uint32_t scope = 0;
  uint32_t type = 0;
  uint32_t protocol = 0;
  uint32_t mtu = 0;
};

struct NetworkNeighbour {
  std::string ip;
  std::array<uint8_t, 6> hardware_address = {};
  uint32_t interface = 0;
};

struct NetworkConfig {
  std::vector<NetworkInterface> interfaces;
  std::vector<NetworkRoute> routes;         // of the main table
  std::vector<NetworkNeighbour> permanent;  // neighbours that somebody set by hand
  // Connected to the name server that Docker runs at 127.0.0.11:53 of the namespace; closed: it has none.
  base::UniqueFd resolver;
};

// As text for a file, without the sockets. kDataLoss: it is damaged. In the library :wire.
std::string SerializeNetwork(const NetworkConfig& config);
absl::StatusOr<NetworkConfig> ParseNetwork(const std::string& text);

}  // namespace runsc::control

#endif  // RUNSC_CONTROL_NETWORK_CONFIG_H_
