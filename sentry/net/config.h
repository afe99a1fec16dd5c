// SPDX-License-Identifier: Apache-2.0
// Interfaces, addresses and routes of a stack: one immutable value that is replaced as a whole (readers take a
// snapshot and hold no lock). Numbers are those of rtnetlink(7).
#ifndef SENTRY_NET_CONFIG_H_
#define SENTRY_NET_CONFIG_H_

#include <linux/if.h>

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "sentry/common.h"
#include "sentry/net/address.h"
#include "sentry/net/link.h"

namespace sentry::net {

struct InterfaceAddress {
  IpAddress ip;
  int prefix = 32;
  IpAddress broadcast = IpAddress::AnyV4();  // any: none
  IpAddress peer;                            // of a point-to-point link; any: none
  uint8_t scope = 0;                         // RT_SCOPE_*
  uint32_t flags = 0;                        // IFA_F_*
  std::string label;
};

struct Interface {
  uint32_t index = 0;
  std::string name;
  RefPtr<Link> link;
  uint32_t flags = 0;  // IFF_*
  uint32_t mtu = 0;
  uint16_t type = 0;  // ARPHRD_*
  uint32_t tx_queue_length = 1000;
  std::array<uint8_t, 6> hardware_address = {};
  std::vector<InterfaceAddress> addresses;
  std::string kind;     // IFLA_INFO_KIND, of those that links.h makes
  uint32_t master = 0;  // the bridge that it is a port of

  bool IsUp() const { return flags & IFF_UP; }
  bool IsLoopback() const { return flags & IFF_LOOPBACK; }
  const InterfaceAddress* Find(const IpAddress& ip) const;
};

struct Route {
  IpAddress destination;  // its family is the route's
  int prefix = 0;
  IpAddress gateway;  // any of the family or default-constructed: on link
  bool has_gateway = false;
  uint32_t interface = 0;
  IpAddress source;  // preferred; IpAddress(): none
  bool has_source = false;
  uint32_t metric = 0;
  uint32_t table = 254;  // RT_TABLE_MAIN
  uint8_t protocol = 3;  // RTPROT_BOOT
  uint8_t scope = 0;
  uint8_t type = 1;  // RTN_UNICAST
  uint8_t tos = 0;
  uint32_t mtu = 0;  // 0: the interface's
};

// How to reach a destination.
struct Path {
  uint32_t interface = 0;
  IpAddress source;
  IpAddress next_hop;
  uint32_t mtu = 0;
  bool local = false;      // an address of this stack, over the loopback
  bool broadcast = false;  // of a subnet, or limited
  bool multicast = false;
};

struct Config {
  uint64_t generation = 0;
  std::vector<Interface> interfaces;
  std::vector<Route> routes;  // table local included, as `ip route show table all` lists it

  const Interface* Find(uint32_t index) const;
  const Interface* Find(std::string_view name) const;
  Interface* FindMutable(uint32_t index);
  const Interface* Loopback() const;
  // Whether packets to it are for this stack. 127/8 as a whole when the loopback has an address of it.
  bool IsLocal(const IpAddress& ip) const;
  bool IsBroadcast(const IpAddress& ip) const;
  // The interface that has this very address; 0: none.
  uint32_t InterfaceOf(const IpAddress& ip) const;
  // `source` any: chosen. `interface` 0: any. ENETUNREACH, EHOSTUNREACH, EACCES (prohibit), EINVAL (blackhole).
  Result<Path> Lookup(const IpAddress& destination, const IpAddress& source, uint32_t interface) const;
  // A good source address on an interface for a destination; any of the family if there is none.
  IpAddress SourceOn(const Interface& interface, const IpAddress& destination) const;

  // Changes on a copy that is then published. Errors as rtnetlink answers them.
  Result<void> AddAddress(uint32_t index, InterfaceAddress address);
  Result<void> RemoveAddress(uint32_t index, const IpAddress& ip, int prefix);
  Result<void> SetUp(uint32_t index, bool up);
  // With its addresses and routes. ENODEV.
  Result<void> RemoveInterface(uint32_t index);
  // EEXIST: as NLM_F_EXCL; `replace`: NLM_F_REPLACE.
  Result<void> AddRoute(Route route, bool replace, bool append);
  Result<void> RemoveRoute(const Route& pattern);

 private:
  void AddImplied(const Interface& interface, const InterfaceAddress& address);
  void RemoveImplied(const Interface& interface, const InterfaceAddress& address);
};

}  // namespace sentry::net

#endif  // SENTRY_NET_CONFIG_H_
