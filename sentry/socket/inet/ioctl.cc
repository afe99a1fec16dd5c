// SPDX-License-Identifier: Apache-2.0
// netdevice(7): ioctls about interfaces.
#include <linux/capability.h>
#include <linux/if_arp.h>
#include <linux/if.h>
#include <netinet/in.h>
#include <string.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>

#include <algorithm>

#include "sentry/socket/inet/inet_socket.h"

namespace sentry::socket {
namespace {

void PutV4(ifreq& request, const net::IpAddress& address) {
  sockaddr_in in = {};
  in.sin_family = AF_INET;
  memcpy(&in.sin_addr, address.v4_bytes(), 4);
  memcpy(&request.ifr_addr, &in, sizeof in);
}

Result<net::IpAddress> GetV4(const ifreq& request) {
  sockaddr_in in;
  memcpy(&in, &request.ifr_addr, sizeof in);
  if (in.sin_family != AF_INET) return Errno(EINVAL);
  return net::IpAddress::V4Bytes(&in.sin_addr);
}

const net::InterfaceAddress* FirstV4(const net::Interface& interface) {
  for (const net::InterfaceAddress& a : interface.addresses) {
    if (a.ip.IsV4()) return &a;
  }
  return nullptr;
}

net::IpAddress Mask(int prefix) { return net::IpAddress::V4(prefix ? ~0u << (32 - prefix) : 0); }

Result<int64_t> ListInterfaces(net::Stack& stack, uint64_t argument) {
  Caller& caller = Caller::Current();
  ifconf list = TRY(caller.CopyIn<ifconf>(UserAddr(argument)));
  auto config = stack.config();
  std::vector<ifreq> all;
  for (const net::Interface& interface : config->interfaces) {
    for (const net::InterfaceAddress& a : interface.addresses) {
      if (!a.ip.IsV4()) continue;
      ifreq request = {};
      interface.name.copy(request.ifr_name, IFNAMSIZ - 1);
      PutV4(request, a.ip);
      all.push_back(request);
    }
  }
  size_t size = all.size() * sizeof(ifreq);
  if (list.ifc_buf) {
    if (list.ifc_len < 0) return Errno(EINVAL);
    size = std::min<size_t>(size, static_cast<size_t>(list.ifc_len) / sizeof(ifreq) * sizeof(ifreq));
    if (size) TRY(caller.CopyOutBytes(UserAddr(reinterpret_cast<uint64_t>(list.ifc_buf)), all.data(), size));
  }
  list.ifc_len = static_cast<int>(size);
  TRY(caller.CopyOut(UserAddr(argument), list));
  return 0;
}

Result<void> Read(unsigned request, const net::Interface& i, ifreq& r) {
  const net::InterfaceAddress* v4 = FirstV4(i);
  switch (request) {
    case SIOCGIFINDEX:
      r.ifr_ifindex = static_cast<int>(i.index);
      return OkResult();
    case SIOCGIFFLAGS:
      r.ifr_flags = static_cast<short>(i.flags & 0xffff);
      return OkResult();
    case SIOCGIFMTU:
      r.ifr_mtu = static_cast<int>(i.mtu);
      return OkResult();
    case SIOCGIFMETRIC:
      r.ifr_metric = 0;
      return OkResult();
    case SIOCGIFTXQLEN:
      r.ifr_qlen = static_cast<int>(i.tx_queue_length);
      return OkResult();
    case SIOCGIFMAP:
      memset(&r.ifr_map, 0, sizeof r.ifr_map);
      return OkResult();
    case SIOCGIFHWADDR:
      memset(&r.ifr_hwaddr, 0, sizeof r.ifr_hwaddr);
      r.ifr_hwaddr.sa_family = i.type;
      memcpy(r.ifr_hwaddr.sa_data, i.hardware_address.data(), 6);
      return OkResult();
    case SIOCGIFADDR:
    case SIOCGIFDSTADDR:
    case SIOCGIFNETMASK:
    case SIOCGIFBRDADDR:
      if (!v4) return Errno(EADDRNOTAVAIL);
      PutV4(r, request == SIOCGIFNETMASK ? Mask(v4->prefix) : request == SIOCGIFBRDADDR ? v4->broadcast : v4->ip);
      return OkResult();
    default:
      return Errno(ENOTTY);
  }
}

Result<void> Write(unsigned request, net::Config& config, uint32_t index, const ifreq& r) {
  net::Interface* i = config.FindMutable(index);
  const net::InterfaceAddress* first = FirstV4(*i);
  switch (request) {
    case SIOCSIFFLAGS: {
      constexpr uint32_t kChangeable = IFF_NOARP | IFF_PROMISC | IFF_ALLMULTI | IFF_DEBUG;
      i->flags = (i->flags & ~kChangeable) | (static_cast<uint16_t>(r.ifr_flags) & kChangeable);
      return config.SetUp(index, r.ifr_flags & IFF_UP);
    }
    case SIOCSIFMTU:
      if (r.ifr_mtu < 68 || r.ifr_mtu > 65536) return Errno(EINVAL);
      i->mtu = static_cast<uint32_t>(r.ifr_mtu);
      return OkResult();
    case SIOCSIFTXQLEN:
      if (r.ifr_qlen < 0) return Errno(EINVAL);
      i->tx_queue_length = static_cast<uint32_t>(r.ifr_qlen);
      return OkResult();
    case SIOCSIFADDR: {
      const net::IpAddress ip = TRY(GetV4(r));
      // The class's mask until SIOCSIFNETMASK tells another.
      const uint32_t top = ip.v4() >> 24;
      const int prefix = top < 128 ? 8 : top < 192 ? 16 : 24;
      if (first) TRY(config.RemoveAddress(index, first->ip, -1));
      return config.AddAddress(index, {.ip = ip, .prefix = prefix, .label = i->name});
    }
    case SIOCSIFNETMASK: {
      const uint32_t mask = TRY(GetV4(r)).v4();
      if (!first) return Errno(EADDRNOTAVAIL);
      if (mask & (~mask >> 1)) return Errno(EINVAL);
      net::InterfaceAddress changed = *first;
      changed.prefix = __builtin_popcount(mask);
      TRY(config.RemoveAddress(index, changed.ip, -1));
      return config.AddAddress(index, changed);
    }
    case SIOCSIFBRDADDR:
      if (!first) return Errno(EADDRNOTAVAIL);
      const_cast<net::InterfaceAddress*>(first)->broadcast = TRY(GetV4(r));
      return OkResult();
    default:
      return Errno(ENOTTY);
  }
}

}  // namespace

Result<int64_t> InterfaceIoctl(net::Stack& stack, bool may_change, unsigned request, uint64_t argument) {
  Caller& caller = Caller::Current();
  switch (request) {
    case SIOCGIFCONF:
      return ListInterfaces(stack, argument);
    case SIOCGIFNAME: {
      ifreq r = TRY(caller.CopyIn<ifreq>(UserAddr(argument)));
      auto config = stack.config();
      const net::Interface* i = config->Find(static_cast<uint32_t>(r.ifr_ifindex));
      if (!i) return Errno(ENODEV);
      memset(r.ifr_name, 0, IFNAMSIZ);
      i->name.copy(r.ifr_name, IFNAMSIZ - 1);
      TRY(caller.CopyOut(UserAddr(argument), r));
      return 0;
    }
    case SIOCGIFINDEX:
    case SIOCGIFFLAGS:
    case SIOCGIFMTU:
    case SIOCGIFMETRIC:
    case SIOCGIFTXQLEN:
    case SIOCGIFMAP:
    case SIOCGIFHWADDR:
    case SIOCGIFADDR:
    case SIOCGIFDSTADDR:
    case SIOCGIFNETMASK:
    case SIOCGIFBRDADDR: {
      ifreq r = TRY(caller.CopyIn<ifreq>(UserAddr(argument)));
      r.ifr_name[IFNAMSIZ - 1] = '\0';
      auto config = stack.config();
      const net::Interface* i = config->Find(std::string_view(r.ifr_name));
      if (!i) return Errno(ENODEV);
      TRY(Read(request, *i, r));
      TRY(caller.CopyOut(UserAddr(argument), r));
      return 0;
    }
    case SIOCSIFFLAGS:
    case SIOCSIFMTU:
    case SIOCSIFTXQLEN:
    case SIOCSIFADDR:
    case SIOCSIFNETMASK:
    case SIOCSIFBRDADDR: {
      ifreq r = TRY(caller.CopyIn<ifreq>(UserAddr(argument)));
      r.ifr_name[IFNAMSIZ - 1] = '\0';
      if (!may_change) return Errno(EPERM);
      TRY(stack.Change([&](net::Config& config) -> Result<void> {
        const net::Interface* i = config.Find(std::string_view(r.ifr_name));
        if (!i) return Errno(ENODEV);
        return Write(request, config, i->index, r);
      }));
      return 0;
    }
    case SIOCETHTOOL:
      return Errno(EOPNOTSUPP);
    default:
      return Errno(ENOTTY);
  }
}

}  // namespace sentry::socket
