// SPDX-License-Identifier: Apache-2.0
// Interfaces that guests make and take away: veth pairs, bridges, dummies; ports of bridges; interfaces that move from
// one stack to another. Thread-safe: one lock (kNetPorts) serialises all of it, in front of the stacks' configurations.
#ifndef SENTRY_NET_LINKS_H_
#define SENTRY_NET_LINKS_H_

#include <optional>
#include <string>

#include "sentry/net/stack.h"
#include "sentry/net/virtual_device.h"

namespace sentry::net {

// Of a new interface; numbers that are not given are chosen.
struct NewLink {
  std::string name;  // "%d" in it becomes the first free number
  uint32_t index = 0;
  std::optional<HardwareAddress> hardware_address;
  std::optional<uint32_t> mtu, tx_queue_length;
  uint32_t master = 0;
  bool up = false;
};

// Names that Linux takes (dev_valid_name).
bool IsInterfaceName(const std::string& name);

// Indexes of the new interfaces. EEXIST (name or index), EINVAL, ENOSPC: kMaxLinks of a stack.
inline constexpr size_t kMaxLinks = 1024;
Result<uint32_t> AddLink(Stack& stack, VirtualDevice::Kind kind, const NewLink& link);  // not kVeth
// Both ends or none; the first one's index.
Result<uint32_t> AddVeth(Stack& stack, const NewLink& link, Stack& peer_stack, const NewLink& peer);

// With its other end. ENODEV; EOPNOTSUPP: it is not one that was made here.
Result<void> RemoveLink(Stack& stack, uint32_t index);
// Its addresses, routes and neighbours are lost and it is down. It keeps its number if that is free. `name` empty: it
// keeps its own. The new index. ENODEV, EINVAL (not one that was made here, or a bridge: those stay), EEXIST.
Result<uint32_t> MoveLink(Stack& from, uint32_t index, Stack& to, const std::string& name);
// `bridge` 0: leaves the one that it is a port of. ENODEV, EINVAL, ELOOP.
Result<void> SetMaster(Stack& stack, uint32_t index, uint32_t bridge);
Result<void> SetHardwareAddress(Stack& stack, uint32_t index, const HardwareAddress& address);

// The other end of a veth, and what its namespace is called here if that is another one. No index: it has none.
struct PeerOf {
  uint32_t index = 0;
  std::optional<int> namespace_number;
};
PeerOf FindPeer(const Interface& interface);

// The namespace is gone: what was made in it goes, too.
void RemoveAllLinks(Stack& stack);

}  // namespace sentry::net

#endif  // SENTRY_NET_LINKS_H_
