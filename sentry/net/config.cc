// SPDX-License-Identifier: Apache-2.0
#include "sentry/net/config.h"

#include <errno.h>
#include <linux/if_arp.h>
#include <linux/rtnetlink.h>

#include <algorithm>

namespace sentry::net {
namespace {

constexpr size_t kMaxAddresses = 1024, kMaxRoutes = 65536;

uint32_t HostMask(int prefix) { return prefix == 0 ? ~0u : (1u << (32 - prefix)) - 1; }

bool IsLess(const Route& a, const Route& b) { return a.prefix != b.prefix ? a.prefix > b.prefix : a.metric < b.metric; }

// An IPv4 packet's length has 16 bits, whatever the link takes.
uint32_t Clamp(uint32_t mtu, const IpAddress& destination) { return destination.IsV4() ? std::min(mtu, 65535u) : mtu; }

bool SameKey(const Route& a, const Route& b) {
  return a.destination == b.destination && a.prefix == b.prefix && a.table == b.table && a.metric == b.metric &&
         a.tos == b.tos;
}

}  // namespace

const InterfaceAddress* Interface::Find(const IpAddress& ip) const {
  for (const InterfaceAddress& a : addresses) {
    if (a.ip == ip) return &a;
  }
  return nullptr;
}

const Interface* Config::Find(uint32_t index) const {
  for (const Interface& i : interfaces) {
    if (i.index == index) return &i;
  }
  return nullptr;
}

const Interface* Config::Find(std::string_view name) const {
  for (const Interface& i : interfaces) {
    if (i.name == name) return &i;
  }
  return nullptr;
}

Interface* Config::FindMutable(uint32_t index) { return const_cast<Interface*>(Find(index)); }

const Interface* Config::Loopback() const {
  for (const Interface& i : interfaces) {
    if (i.IsLoopback()) return &i;
  }
  return nullptr;
}

bool Config::IsLocal(const IpAddress& ip) const {
  if (IsBroadcast(ip)) return false;
  for (const Interface& i : interfaces) {
    if (!i.IsUp()) continue;
    for (const InterfaceAddress& a : i.addresses) {
      if (a.ip == ip || (i.IsLoopback() && ip.IsV4() && ip.InPrefix(a.ip, a.prefix))) return true;
    }
  }
  return false;
}

bool Config::IsBroadcast(const IpAddress& ip) const {
  if (!ip.IsV4()) return false;
  if (ip.IsLimitedBroadcast()) return true;
  for (const Interface& i : interfaces) {
    for (const InterfaceAddress& a : i.addresses) {
      if (!a.ip.IsV4()) continue;
      if (!a.broadcast.IsAny() && a.broadcast == ip) return true;
      if (a.prefix < 31 && ip.v4() == (a.ip.v4() | HostMask(a.prefix))) return true;
    }
  }
  return false;
}

uint32_t Config::InterfaceOf(const IpAddress& ip) const {
  for (const Interface& i : interfaces) {
    if (i.Find(ip)) return i.index;
  }
  return 0;
}

IpAddress Config::SourceOn(const Interface& interface, const IpAddress& destination) const {
  const InterfaceAddress* best = nullptr;
  int best_score = -1;
  for (const InterfaceAddress& a : interface.addresses) {
    if (a.ip.IsV4() != destination.IsV4()) continue;
    // RFC 6724 in short: same scope, then the same subnet, then the first one.
    int score = a.ip.IsLinkLocalV6() == destination.IsLinkLocalV6() ? 2 : 0;
    if (destination.InPrefix(a.ip, a.prefix)) score += 1;
    if (score > best_score) {
      best = &a;
      best_score = score;
    }
  }
  if (best) return best->ip;
  // An address of another interface, as Linux lends it.
  for (const Interface& i : interfaces) {
    for (const InterfaceAddress& a : i.addresses) {
      if (i.IsUp() && !i.IsLoopback() && a.ip.IsV4() == destination.IsV4() && !a.ip.IsLinkLocalV6()) return a.ip;
    }
  }
  return IpAddress::Any(destination.IsV4());
}

Result<Path> Config::Lookup(const IpAddress& destination, const IpAddress& source, uint32_t interface) const {
  Path path;
  path.next_hop = destination;
  path.source = source;
  const Interface* loopback = Loopback();
  if (loopback && loopback->IsUp() && IsLocal(destination)) {
    path.local = true;
    path.interface = loopback->index;
    path.mtu = Clamp(loopback->mtu, destination);
    if (source.IsAny()) {
      path.source = destination;
      // All of 127/8 answers from the loopback's own address.
      if (!InterfaceOf(destination)) path.source = SourceOn(*loopback, destination);
    }
    return path;
  }
  path.multicast = destination.IsMulticast();
  if (interface && (path.multicast || destination.IsLimitedBroadcast() || destination.IsLinkLocalV6())) {
    const Interface* out = Find(interface);
    if (!out || !out->IsUp()) return Errno(ENETUNREACH);
    path.interface = interface;
    path.mtu = Clamp(out->mtu, destination);
    path.broadcast = destination.IsLimitedBroadcast();
    if (source.IsAny()) path.source = SourceOn(*out, destination);
    return path;
  }
  for (const Route& r : routes) {  // by falling prefix, rising metric
    if (r.table == RT_TABLE_LOCAL && r.type != RTN_BROADCAST && r.type != RTN_MULTICAST) continue;
    if (interface && r.interface != interface) continue;
    if (!destination.InPrefix(r.destination, r.prefix)) continue;
    switch (r.type) {
      case RTN_UNREACHABLE:
        return Errno(EHOSTUNREACH);
      case RTN_PROHIBIT:
        return Errno(EACCES);
      case RTN_BLACKHOLE:
        return Errno(EINVAL);
    }
    const Interface* out = Find(r.interface);
    if (!out || !out->IsUp()) continue;
    path.interface = out->index;
    path.mtu = Clamp(r.mtu ? std::min(r.mtu, out->mtu) : out->mtu, destination);
    path.broadcast = r.type == RTN_BROADCAST;
    if (r.has_gateway) path.next_hop = r.gateway;
    if (source.IsAny()) path.source = r.has_source ? r.source : SourceOn(*out, destination);
    return path;
  }
  return Errno(ENETUNREACH);
}

void Config::AddImplied(const Interface& interface, const InterfaceAddress& a) {
  const int all = a.ip.IsV4() ? 32 : 128;
  Route route;
  route.interface = interface.index;
  route.protocol = RTPROT_KERNEL;
  route.metric = a.ip.IsV4() ? 0 : 256;
  const auto add = [&](const IpAddress& destination, int prefix, uint32_t table, uint8_t type, uint8_t scope) {
    route.destination = destination;
    route.prefix = prefix;
    route.table = table;
    route.type = type;
    route.scope = scope;
    (void)AddRoute(route, false, false).ok();
  };
  route.has_source = a.ip.IsV4();
  route.source = a.ip;
  if (a.prefix < all) {
    if (interface.IsLoopback()) {
      add(a.ip.Masked(a.prefix), a.prefix, RT_TABLE_LOCAL, RTN_LOCAL, RT_SCOPE_HOST);
    } else if (!(a.flags & 0x200)) {  // IFA_F_NOPREFIXROUTE
      add(a.ip.Masked(a.prefix), a.prefix, RT_TABLE_MAIN, RTN_UNICAST, RT_SCOPE_LINK);
    }
  }
  if (!a.ip.IsV4()) route.metric = 0;
  add(a.ip, all, RT_TABLE_LOCAL, RTN_LOCAL, RT_SCOPE_HOST);
  if (a.ip.IsV4() && a.prefix < 31) {
    add(IpAddress::V4(a.ip.v4() | HostMask(a.prefix)), 32, RT_TABLE_LOCAL, RTN_BROADCAST, RT_SCOPE_LINK);
  }
}

void Config::RemoveImplied(const Interface& interface, const InterfaceAddress& a) {
  std::erase_if(routes, [&](const Route& r) {
    if (r.interface != interface.index || r.protocol != RTPROT_KERNEL) return false;
    if (r.has_source) return r.source == a.ip;
    return r.destination == a.ip || r.destination == a.ip.Masked(a.prefix);
  });
}

Result<void> Config::AddAddress(uint32_t index, InterfaceAddress address) {
  Interface* interface = FindMutable(index);
  if (!interface) return Errno(ENODEV);
  if (interface->Find(address.ip)) return Errno(EEXIST);
  if (interface->addresses.size() >= kMaxAddresses) return Errno(ENOBUFS);
  interface->addresses.push_back(address);
  if (interface->IsUp()) AddImplied(*interface, address);
  return OkResult();
}

Result<void> Config::RemoveAddress(uint32_t index, const IpAddress& ip, int prefix) {
  Interface* interface = FindMutable(index);
  if (!interface) return Errno(ENODEV);
  for (size_t i = 0; i < interface->addresses.size(); ++i) {
    const InterfaceAddress a = interface->addresses[i];
    if (a.ip != ip || (prefix >= 0 && a.prefix != prefix)) continue;
    interface->addresses.erase(interface->addresses.begin() + static_cast<ptrdiff_t>(i));
    RemoveImplied(*interface, a);
    return OkResult();
  }
  return Errno(EADDRNOTAVAIL);
}

Result<void> Config::SetUp(uint32_t index, bool up) {
  Interface* interface = FindMutable(index);
  if (!interface) return Errno(ENODEV);
  if (interface->IsUp() == up) return OkResult();
  if (up) {
    interface->flags |= IFF_UP | IFF_RUNNING | IFF_LOWER_UP;
    if (interface->IsLoopback()) {
      if (!interface->Find(IpAddress::LoopbackV4()))
        interface->addresses.push_back(
            {.ip = IpAddress::LoopbackV4(), .prefix = 8, .scope = RT_SCOPE_HOST, .flags = 0x80, .label = "lo"});
      if (!interface->Find(IpAddress::LoopbackV6()))
        interface->addresses.push_back(
            {.ip = IpAddress::LoopbackV6(), .prefix = 128, .scope = RT_SCOPE_HOST, .flags = 0x80});
    }
    // RFC 4291, appendix A; of the container's own interfaces the host has made it.
    if (!interface->kind.empty() && interface->type == ARPHRD_ETHER) {
      const auto& h = interface->hardware_address;
      const uint8_t bytes[16] = {0xfe, 0x80, 0,    0,    0,    0,    0,   0, static_cast<uint8_t>(h[0] ^ 2),
                                 h[1], h[2], 0xff, 0xfe, h[3], h[4], h[5]};
      const IpAddress own = IpAddress::V6Bytes(bytes);
      if (!interface->Find(own))
        interface->addresses.push_back({.ip = own, .prefix = 64, .scope = RT_SCOPE_LINK, .flags = 0x80});
    }
    const std::vector<InterfaceAddress> addresses = interface->addresses;
    for (const InterfaceAddress& a : addresses) AddImplied(*interface, a);
  } else {
    interface->flags &= ~(IFF_UP | IFF_RUNNING | IFF_LOWER_UP);
    std::erase_if(routes, [&](const Route& r) { return r.interface == index; });
    std::erase_if(interface->addresses, [](const InterfaceAddress& a) { return !a.ip.IsV4(); });
  }
  return OkResult();
}

Result<void> Config::RemoveInterface(uint32_t index) {
  if (!Find(index)) return Errno(ENODEV);
  std::erase_if(routes, [&](const Route& r) { return r.interface == index; });
  std::erase_if(interfaces, [&](const Interface& i) { return i.index == index; });
  for (Interface& i : interfaces) {
    if (i.master == index) i.master = 0;
  }
  return OkResult();
}

Result<void> Config::AddRoute(Route route, bool replace, bool append) {
  if (routes.size() >= kMaxRoutes) return Errno(ENOBUFS);
  for (Route& r : routes) {
    if (!SameKey(r, route)) continue;
    if (replace) {
      r = route;
      return OkResult();
    }
    if (!append) return Errno(EEXIST);
  }
  routes.insert(std::upper_bound(routes.begin(), routes.end(), route, IsLess), route);
  return OkResult();
}

Result<void> Config::RemoveRoute(const Route& p) {
  for (size_t i = 0; i < routes.size(); ++i) {
    const Route& r = routes[i];
    if (r.destination != p.destination || r.prefix != p.prefix || r.table != p.table) continue;
    if (p.interface && r.interface != p.interface) continue;
    if (p.has_gateway && (!r.has_gateway || r.gateway != p.gateway)) continue;
    if (p.metric && r.metric != p.metric) continue;
    routes.erase(routes.begin() + static_cast<ptrdiff_t>(i));
    return OkResult();
  }
  return Errno(ESRCH);
}

}  // namespace sentry::net
