// SPDX-License-Identifier: Apache-2.0
// SOL_SOCKET's part that needs the stack, ip(7) and ipv6(7) options.
#include <linux/capability.h>
#include <linux/if.h>
#include <netinet/in.h>
#include <string.h>

#include <algorithm>

#include "sentry/socket/inet/inet_socket.h"

// Not in every libc's headers.
#ifndef IP_BIND_ADDRESS_NO_PORT
#define IP_BIND_ADDRESS_NO_PORT 24
#endif
#ifndef IPV6_ADDR_PREFERENCES
#define IPV6_ADDR_PREFERENCES 72
#endif
#ifndef IP_LOCAL_PORT_RANGE
#define IP_LOCAL_PORT_RANGE 51
#endif

namespace sentry::socket {
namespace {

constexpr int kMaxMulticastTtl = 255;

// The options that take an int also take one byte.
Result<int> ByteOrInt(std::string_view value) {
  if (value.size() >= sizeof(int)) return OptionInt(value);
  if (value.empty()) return Errno(EINVAL);
  return static_cast<uint8_t>(value[0]);
}

Result<void> SetBool(std::atomic<bool>& option, std::string_view value) {
  option = TRY(ByteOrInt(value)) != 0;
  return OkResult();
}

}  // namespace

Result<void> InetSocket::SetDevice(std::string_view value) {
  const std::string name(value.substr(0, strnlen(value.data(), std::min<size_t>(value.size(), IFNAMSIZ - 1))));
  if (ip().device && !HasNetCapability(CAP_NET_RAW)) return Errno(EPERM);
  uint32_t index = 0;
  if (!name.empty()) {
    auto config = stack().config();
    const net::Interface* interface = config->Find(name);
    if (!interface) return Errno(ENODEV);
    index = interface->index;
  }
  ip().device = index;
  OnDeviceChanged();
  return OkResult();
}

Result<void> InetSocket::SetOption(int level, int name, std::string_view value) {
  switch (level) {
    case SOL_SOCKET:
      if (name == SO_BINDTODEVICE) return SetDevice(value);
      if (name == SO_BINDTOIFINDEX) {
        const int index = TRY(OptionInt(value));
        if (index < 0) return Errno(EINVAL);
        if (index && !stack().config()->Find(static_cast<uint32_t>(index))) return Errno(ENODEV);
        ip().device = static_cast<uint32_t>(index);
        OnDeviceChanged();
        return OkResult();
      }
      if (name == SO_ZEROCOPY) {
        const int on = TRY(OptionInt(value));
        if (on != 0 && on != 1) return Errno(EINVAL);
        options().zero_copy = on;
        return OkResult();
      }
      if (name == SO_MAX_PACING_RATE || name == SO_TIMESTAMPING || name == SO_PREFER_BUSY_POLL) {
        TRY(OptionInt(value));  // accepted: without effect on what is sent
        return OkResult();
      }
      TRY(Socket::SetOption(level, name, value));
      if (name == SO_BROADCAST) ip().broadcast = options().broadcast != 0;
      if (name == SO_TIMESTAMP || name == SO_TIMESTAMPNS)
        ip().timestamp = options().timestamp || options().timestamp_ns;
      return OkResult();
    case SOL_IP:
      return SetIpOption(name, value);
    case SOL_IPV6:
      if (!is_v6()) return Errno(ENOPROTOOPT);
      return SetIpv6Option(name, value);
    default:
      return SetProtocolOption(level, name, value);
  }
}

Result<std::string> InetSocket::GetOption(int level, int name) {
  switch (level) {
    case SOL_SOCKET:
      if (name == SO_BINDTODEVICE) {
        auto config = stack().config();
        const net::Interface* interface = config->Find(ip().device);
        return interface ? interface->name + std::string(1, '\0') : std::string();
      }
      if (name == SO_BINDTOIFINDEX) return OptionBytes(static_cast<int>(ip().device));
      if (name == SO_PEERNAME) return GetPeer();
      if (name == SO_TIMESTAMPING || name == SO_PREFER_BUSY_POLL) return OptionBytes(0);
      if (name == SO_MAX_PACING_RATE) return OptionBytes(-1);
      return Socket::GetOption(level, name);
    case SOL_IP:
      return GetIpOption(name);
    case SOL_IPV6:
      if (!is_v6()) return Errno(ENOPROTOOPT);
      return GetIpv6Option(name);
    default:
      return GetProtocolOption(level, name);
  }
}

Result<void> InetSocket::SetIpOption(int name, std::string_view value) {
  switch (name) {
    case IP_TOS:
      // Of TCP the lower two bits are ECN's.
      ip().tos = TRY(ByteOrInt(value)) & (type() == SOCK_STREAM ? 0xfc : 0xff);
      return OkResult();
    case IP_TTL: {
      const int ttl = TRY(ByteOrInt(value));
      if (ttl != -1 && (ttl < 1 || ttl > 255)) return Errno(EINVAL);
      ip().ttl = ttl;
      return OkResult();
    }
    case IP_HDRINCL:
      if (type() != SOCK_RAW) return Errno(ENOPROTOOPT);
      return SetBool(ip().header_included, value);
    case IP_MTU_DISCOVER: {
      const int mode = TRY(ByteOrInt(value));
      if (mode < IP_PMTUDISC_DONT || mode > IP_PMTUDISC_OMIT) return Errno(EINVAL);
      ip().mtu_discover = mode;
      return OkResult();
    }
    case IP_RECVERR:
      return SetBool(ip().receive_errors, value);
    case IP_FREEBIND:
      return SetBool(ip().free_bind, value);
    case IP_TRANSPARENT: {
      if (!HasNetCapability(CAP_NET_RAW) && !HasNetCapability(CAP_NET_ADMIN)) return Errno(EPERM);
      return SetBool(ip().transparent, value);
    }
    case IP_BIND_ADDRESS_NO_PORT:
      return SetBool(ip().bind_address_no_port, value);
    case IP_PKTINFO:
      return SetBool(control_.packet_info, value);
    case IP_RECVTTL:
      return SetBool(control_.ttl, value);
    case IP_RECVTOS:
      return SetBool(control_.tos, value);
    case IP_RECVOPTS:
    case IP_RETOPTS:
      return SetBool(control_.options, value);
    case IP_RECVORIGDSTADDR:
      return SetBool(control_.original_destination, value);
    case IP_MULTICAST_TTL: {
      if (type() == SOCK_STREAM) return Errno(EINVAL);
      int ttl = TRY(ByteOrInt(value));
      if (ttl == -1) ttl = 1;
      if (ttl < 0 || ttl > kMaxMulticastTtl) return Errno(EINVAL);
      ip().multicast_ttl = ttl;
      return OkResult();
    }
    case IP_MULTICAST_LOOP:
      return SetBool(ip().multicast_loop, value);
    case IP_MULTICAST_ALL:
      return SetBool(ip().multicast_all, value);
    case IP_MULTICAST_IF: {
      if (type() == SOCK_STREAM) return Errno(EINVAL);
      ip_mreqn m = {};
      if (value.size() >= sizeof(ip_mreqn))
        memcpy(&m, value.data(), sizeof m);
      else if (value.size() >= sizeof(ip_mreq))
        memcpy(&m, value.data(), sizeof(ip_mreq));
      else if (value.size() >= sizeof(in_addr))
        memcpy(&m.imr_address, value.data(), sizeof(in_addr));
      else
        return Errno(EINVAL);
      uint32_t index = static_cast<uint32_t>(m.imr_ifindex);
      auto config = stack().config();
      if (!index && m.imr_address.s_addr) {
        index = config->InterfaceOf(net::IpAddress::V4Bytes(&m.imr_address));
        if (!index) return Errno(EADDRNOTAVAIL);
      } else if (index && !config->Find(index)) {
        return Errno(EADDRNOTAVAIL);
      }
      ip().multicast_interface = index;
      return OkResult();
    }
    case IP_ADD_MEMBERSHIP:
    case IP_DROP_MEMBERSHIP: {
      if (type() == SOCK_STREAM) return Errno(EPROTO);
      ip_mreqn m = {};
      if (value.size() < sizeof(ip_mreq)) return Errno(EINVAL);
      memcpy(&m, value.data(), value.size() >= sizeof m ? sizeof m : sizeof(ip_mreq));
      uint32_t index = static_cast<uint32_t>(m.imr_ifindex);
      if (!index && m.imr_address.s_addr) {
        index = stack().config()->InterfaceOf(net::IpAddress::V4Bytes(&m.imr_address));
        if (!index) return Errno(ENODEV);
      }
      return ChangeMembership(net::IpAddress::V4Bytes(&m.imr_multiaddr), index, name == IP_ADD_MEMBERSHIP);
    }
    case MCAST_JOIN_GROUP:
    case MCAST_LEAVE_GROUP: {
      group_req request;
      if (value.size() < sizeof request) return Errno(EINVAL);
      memcpy(&request, value.data(), sizeof request);
      auto address =
          TRY(ParseAddress({reinterpret_cast<char*>(&request.gr_group), sizeof(sockaddr_in)}, AF_INET, false));
      return ChangeMembership(address.ip, request.gr_interface, name == MCAST_JOIN_GROUP);
    }
    case IP_UNICAST_IF:
    case IP_MINTTL:
    case IP_CHECKSUM:
    case IP_NODEFRAG:
    case IP_LOCAL_PORT_RANGE:
    case IP_PASSSEC:
    case IP_RECVFRAGSIZE:
      TRY(ByteOrInt(value));
      return OkResult();
    case IP_OPTIONS:
      return value.empty() ? OkResult() : Result<void>(Errno(EINVAL));
    default:
      return Errno(ENOPROTOOPT);
  }
}

Result<std::string> InetSocket::GetIpOption(int name) {
  switch (name) {
    case IP_TOS:
      return OptionBytes(ip().tos);
    case IP_TTL: {
      const int own = ip().ttl;
      return OptionBytes(own >= 0 ? own : stack().settings().default_ttl.load());
    }
    case IP_HDRINCL:
      if (type() != SOCK_RAW) return Errno(ENOPROTOOPT);
      return OptionBytes(ip().header_included);
    case IP_MTU_DISCOVER:
      return OptionBytes(ip().mtu_discover);
    case IP_RECVERR:
      return OptionBytes(ip().receive_errors);
    case IP_FREEBIND:
      return OptionBytes(ip().free_bind);
    case IP_TRANSPARENT:
      return OptionBytes(ip().transparent);
    case IP_BIND_ADDRESS_NO_PORT:
      return OptionBytes(ip().bind_address_no_port);
    case IP_PKTINFO:
      return OptionBytes(control_.packet_info);
    case IP_RECVTTL:
      return OptionBytes(control_.ttl);
    case IP_RECVTOS:
      return OptionBytes(control_.tos);
    case IP_RECVOPTS:
    case IP_RETOPTS:
      return OptionBytes(control_.options);
    case IP_RECVORIGDSTADDR:
      return OptionBytes(control_.original_destination);
    case IP_MULTICAST_TTL:
      return OptionBytes(ip().multicast_ttl);
    case IP_MULTICAST_LOOP:
      return OptionBytes(ip().multicast_loop);
    case IP_MULTICAST_ALL:
      return OptionBytes(ip().multicast_all);
    case IP_MULTICAST_IF: {
      auto config = stack().config();
      in_addr address = {};
      if (const net::Interface* interface = config->Find(ip().multicast_interface)) {
        for (const net::InterfaceAddress& a : interface->addresses) {
          if (a.ip.IsV4()) memcpy(&address, a.ip.v4_bytes(), 4);
        }
      }
      return OptionBytes(&address, sizeof address);
    }
    case IP_MTU: {
      auto peer = GetPeer();
      if (!peer.ok()) return Errno(ENOTCONN);
      auto remote = TRY(ParseAddress(*peer, domain(), true));
      auto path = TRY(stack().config()->Lookup(remote.ip, net::IpAddress::Any(remote.ip.IsV4()), ip().device));
      return OptionBytes(static_cast<int>(path.mtu));
    }
    case IP_UNICAST_IF:
    case IP_MINTTL:
    case IP_CHECKSUM:
    case IP_NODEFRAG:
    case IP_LOCAL_PORT_RANGE:
    case IP_PASSSEC:
    case IP_RECVFRAGSIZE:
      return OptionBytes(0);
    case IP_OPTIONS:
      return std::string();
    default:
      return Errno(ENOPROTOOPT);
  }
}

Result<void> InetSocket::SetIpv6Option(int name, std::string_view value) {
  switch (name) {
    case IPV6_V6ONLY:
      if (value.size() < sizeof(int)) return Errno(EINVAL);
      if (IsBound()) return Errno(EINVAL);
      ip().v6_only = TRY(OptionInt(value)) != 0;
      return OkResult();
    case IPV6_UNICAST_HOPS:
    case IPV6_MULTICAST_HOPS: {
      const int hops = TRY(OptionInt(value));
      if (hops < -1 || hops > 255) return Errno(EINVAL);
      if (name == IPV6_UNICAST_HOPS)
        ip().hop_limit = hops;
      else
        ip().multicast_hops = hops == -1 ? 1 : hops;
      return OkResult();
    }
    case IPV6_TCLASS: {
      const int tclass = TRY(OptionInt(value));
      if (tclass < -1 || tclass > 255) return Errno(EINVAL);
      ip().traffic_class = tclass == -1 ? 0 : tclass & (type() == SOCK_STREAM ? 0xfc : 0xff);
      return OkResult();
    }
    case IPV6_MTU_DISCOVER: {
      const int mode = TRY(OptionInt(value));
      if (mode < IPV6_PMTUDISC_DONT || mode > IPV6_PMTUDISC_OMIT) return Errno(EINVAL);
      ip().mtu_discover6 = mode;
      return OkResult();
    }
    case IPV6_RECVERR:
      return SetBool(ip().receive_errors6, value);
    case IPV6_RECVPKTINFO:
    case IPV6_2292PKTINFO:
      return SetBool(control_.packet_info6, value);
    case IPV6_RECVHOPLIMIT:
    case IPV6_2292HOPLIMIT:
      return SetBool(control_.hop_limit, value);
    case IPV6_RECVTCLASS:
      return SetBool(control_.traffic_class, value);
    case IPV6_RECVORIGDSTADDR:
      return SetBool(control_.original_destination6, value);
    case IPV6_FREEBIND:
      return SetBool(ip().free_bind, value);
    case IPV6_TRANSPARENT:
      if (!HasNetCapability(CAP_NET_RAW) && !HasNetCapability(CAP_NET_ADMIN)) return Errno(EPERM);
      return SetBool(ip().transparent, value);
    case IPV6_MULTICAST_LOOP: {
      const int on = TRY(OptionInt(value));
      if (on != 0 && on != 1) return Errno(EINVAL);
      ip().multicast_loop6 = on != 0;
      return OkResult();
    }
    case IPV6_MULTICAST_ALL:
      return SetBool(ip().multicast_all6, value);
    case IPV6_MULTICAST_IF: {
      if (type() == SOCK_STREAM) return Errno(ENOPROTOOPT);
      const int index = TRY(OptionInt(value));
      if (index && !stack().config()->Find(static_cast<uint32_t>(index))) return Errno(ENODEV);
      ip().multicast_interface6 = static_cast<uint32_t>(index);
      return OkResult();
    }
    case IPV6_ADD_MEMBERSHIP:
    case IPV6_DROP_MEMBERSHIP: {
      if (type() == SOCK_STREAM) return Errno(EPROTO);
      ipv6_mreq m;
      if (value.size() < sizeof m) return Errno(EINVAL);
      memcpy(&m, value.data(), sizeof m);
      return ChangeMembership(net::IpAddress::V6Bytes(&m.ipv6mr_multiaddr), m.ipv6mr_interface,
                              name == IPV6_ADD_MEMBERSHIP);
    }
    case MCAST_JOIN_GROUP:
    case MCAST_LEAVE_GROUP: {
      group_req request;
      if (value.size() < sizeof request) return Errno(EINVAL);
      memcpy(&request, value.data(), sizeof request);
      auto address =
          TRY(ParseAddress({reinterpret_cast<char*>(&request.gr_group), sizeof(sockaddr_in6)}, AF_INET6, false));
      return ChangeMembership(address.ip, request.gr_interface, name == MCAST_JOIN_GROUP);
    }
    case IPV6_CHECKSUM:
      return SetProtocolOption(SOL_IPV6, name, value);
    case IPV6_MTU:
    case IPV6_DONTFRAG:
    case IPV6_ADDR_PREFERENCES:
    case IPV6_AUTOFLOWLABEL:
    case IPV6_RECVRTHDR:
    case IPV6_RECVHOPOPTS:
    case IPV6_RECVDSTOPTS:
    case IPV6_RECVFRAGSIZE:
    case IPV6_RECVPATHMTU:
    case IPV6_UNICAST_IF:
    case IPV6_MINHOPCOUNT:
    case 33:  // IPV6_FLOWINFO_SEND
      TRY(OptionInt(value));
      return OkResult();
    default:
      return Errno(ENOPROTOOPT);
  }
}

Result<std::string> InetSocket::GetIpv6Option(int name) {
  switch (name) {
    case IPV6_V6ONLY:
      return OptionBytes(ip().v6_only);
    case IPV6_UNICAST_HOPS: {
      const int own = ip().hop_limit;
      return OptionBytes(own >= 0 ? own : stack().settings().default_hop_limit.load());
    }
    case IPV6_MULTICAST_HOPS:
      return OptionBytes(ip().multicast_hops);
    case IPV6_TCLASS:
      return OptionBytes(ip().traffic_class);
    case IPV6_MTU_DISCOVER:
      return OptionBytes(ip().mtu_discover6);
    case IPV6_RECVERR:
      return OptionBytes(ip().receive_errors6);
    case IPV6_RECVPKTINFO:
    case IPV6_2292PKTINFO:
      return OptionBytes(control_.packet_info6);
    case IPV6_RECVHOPLIMIT:
    case IPV6_2292HOPLIMIT:
      return OptionBytes(control_.hop_limit);
    case IPV6_RECVTCLASS:
      return OptionBytes(control_.traffic_class);
    case IPV6_RECVORIGDSTADDR:
      return OptionBytes(control_.original_destination6);
    case IPV6_FREEBIND:
      return OptionBytes(ip().free_bind);
    case IPV6_TRANSPARENT:
      return OptionBytes(ip().transparent);
    case IPV6_MULTICAST_LOOP:
      return OptionBytes(ip().multicast_loop6);
    case IPV6_MULTICAST_ALL:
      return OptionBytes(ip().multicast_all6);
    case IPV6_MULTICAST_IF:
      return OptionBytes(static_cast<int>(ip().multicast_interface6));
    case IPV6_CHECKSUM:
      return GetProtocolOption(SOL_IPV6, name);
    case IPV6_MTU: {
      auto peer = GetPeer();
      if (!peer.ok()) return Errno(ENOTCONN);
      return OptionBytes(65536);
    }
    case IPV6_DONTFRAG:
    case IPV6_ADDR_PREFERENCES:
    case IPV6_AUTOFLOWLABEL:
    case IPV6_RECVRTHDR:
    case IPV6_RECVHOPOPTS:
    case IPV6_RECVDSTOPTS:
    case IPV6_RECVFRAGSIZE:
    case IPV6_RECVPATHMTU:
    case IPV6_UNICAST_IF:
    case IPV6_MINHOPCOUNT:
    case 33:
      return OptionBytes(0);
    default:
      return Errno(ENOPROTOOPT);
  }
}

}  // namespace sentry::socket
