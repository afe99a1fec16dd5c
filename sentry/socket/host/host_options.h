// SPDX-License-Identifier: Apache-2.0
// What a sandbox with --network=host may ask of the host's sockets: kinds, socket options and ioctls. The sockets go by
// these tables and the sentry's seccomp filter (sentry/boot/filter.cc) is made from them.
#ifndef SENTRY_SOCKET_HOST_HOST_OPTIONS_H_
#define SENTRY_SOCKET_HOST_HOST_OPTIONS_H_

#include <netinet/in.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/udp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <cstdint>

namespace sentry::socket {

struct HostSocketKind {
  int family, type, protocol;
};
inline constexpr HostSocketKind kHostSocketKinds[] = {
    {AF_INET, SOCK_STREAM, IPPROTO_TCP}, {AF_INET6, SOCK_STREAM, IPPROTO_TCP}, {AF_INET, SOCK_DGRAM, IPPROTO_UDP},
    {AF_INET6, SOCK_DGRAM, IPPROTO_UDP}, {AF_INET, SOCK_DGRAM, IPPROTO_ICMP},  {AF_INET6, SOCK_DGRAM, IPPROTO_ICMPV6},
};

// Beyond SIOCINQ (FIONREAD), which every sentry may ask.
inline constexpr unsigned kHostSocketIoctls[] = {SIOCOUTQ, SIOCATMARK, SIOCOUTQNSD};

struct HostOption {
  enum Use : uint8_t { kSet = 1, kGet = 2, kBoth = 3 };
  int level, name;
  Use use = kBoth;
  uint16_t size = sizeof(int);  // of what getsockopt gives at most
};

constexpr HostOption kHostOptions[] = {
    {SOL_SOCKET, SO_REUSEADDR},
    {SOL_SOCKET, SO_REUSEPORT},
    {SOL_SOCKET, SO_KEEPALIVE},
    {SOL_SOCKET, SO_BROADCAST},
    {SOL_SOCKET, SO_OOBINLINE},
    {SOL_SOCKET, SO_DONTROUTE},
    {SOL_SOCKET, SO_SNDBUF},
    {SOL_SOCKET, SO_RCVBUF},
    {SOL_SOCKET, SO_RCVLOWAT},
    {SOL_SOCKET, SO_PRIORITY},
    {SOL_SOCKET, SO_TIMESTAMP},
    {SOL_SOCKET, SO_TIMESTAMPNS},
    {SOL_SOCKET, SO_NO_CHECK},
    {SOL_SOCKET, SO_LINGER, HostOption::kSet},
    {SOL_SOCKET, SO_BINDTODEVICE, HostOption::kBoth, 16},
    {SOL_SOCKET, SO_ERROR, HostOption::kGet},
    {SOL_SOCKET, SO_ACCEPTCONN, HostOption::kGet},
    {SOL_SOCKET, SO_INCOMING_CPU, HostOption::kGet},
    {IPPROTO_TCP, TCP_NODELAY},
    {IPPROTO_TCP, TCP_MAXSEG},
    {IPPROTO_TCP, TCP_CORK},
    {IPPROTO_TCP, TCP_KEEPIDLE},
    {IPPROTO_TCP, TCP_KEEPINTVL},
    {IPPROTO_TCP, TCP_KEEPCNT},
    {IPPROTO_TCP, TCP_SYNCNT},
    {IPPROTO_TCP, TCP_LINGER2},
    {IPPROTO_TCP, TCP_DEFER_ACCEPT},
    {IPPROTO_TCP, TCP_WINDOW_CLAMP},
    {IPPROTO_TCP, TCP_QUICKACK},
    {IPPROTO_TCP, TCP_CONGESTION, HostOption::kBoth, 16},
    {IPPROTO_TCP, TCP_USER_TIMEOUT},
    {IPPROTO_TCP, TCP_FASTOPEN},
    {IPPROTO_TCP, TCP_FASTOPEN_CONNECT},
    {IPPROTO_TCP, TCP_NOTSENT_LOWAT},
    {IPPROTO_TCP, TCP_INQ},
    {IPPROTO_TCP, TCP_INFO, HostOption::kGet, 512},
    {IPPROTO_UDP, UDP_CORK},
    {IPPROTO_UDP, UDP_SEGMENT},
    {IPPROTO_UDP, UDP_GRO},
    {IPPROTO_IP, IP_TOS},
    {IPPROTO_IP, IP_TTL},
    {IPPROTO_IP, IP_PKTINFO},
    {IPPROTO_IP, IP_MTU_DISCOVER},
    {IPPROTO_IP, IP_RECVERR},
    {IPPROTO_IP, IP_RECVTTL},
    {IPPROTO_IP, IP_RECVTOS},
    {IPPROTO_IP, IP_RECVORIGDSTADDR},
    {IPPROTO_IP, IP_MTU, HostOption::kGet},
    {IPPROTO_IP, IP_FREEBIND},
    {IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT},
    {IPPROTO_IP, IP_UNICAST_IF},
    {IPPROTO_IP, IP_MULTICAST_IF},
    {IPPROTO_IP, IP_MULTICAST_TTL},
    {IPPROTO_IP, IP_MULTICAST_LOOP},
    {IPPROTO_IP, IP_MULTICAST_ALL},
    {IPPROTO_IP, IP_ADD_MEMBERSHIP, HostOption::kSet},
    {IPPROTO_IP, IP_DROP_MEMBERSHIP, HostOption::kSet},
    {IPPROTO_IP, IP_ADD_SOURCE_MEMBERSHIP, HostOption::kSet},
    {IPPROTO_IP, IP_DROP_SOURCE_MEMBERSHIP, HostOption::kSet},
    {IPPROTO_IP, MCAST_JOIN_GROUP, HostOption::kSet},
    {IPPROTO_IP, MCAST_LEAVE_GROUP, HostOption::kSet},
    {IPPROTO_IPV6, IPV6_V6ONLY},
    {IPPROTO_IPV6, IPV6_UNICAST_HOPS},
    {IPPROTO_IPV6, IPV6_MULTICAST_IF},
    {IPPROTO_IPV6, IPV6_MULTICAST_HOPS},
    {IPPROTO_IPV6, IPV6_MULTICAST_LOOP},
    {IPPROTO_IPV6, IPV6_MULTICAST_ALL},
    {IPPROTO_IPV6, IPV6_ADD_MEMBERSHIP, HostOption::kSet},
    {IPPROTO_IPV6, IPV6_DROP_MEMBERSHIP, HostOption::kSet},
    {IPPROTO_IPV6, MCAST_JOIN_GROUP, HostOption::kSet},
    {IPPROTO_IPV6, MCAST_LEAVE_GROUP, HostOption::kSet},
    {IPPROTO_IPV6, IPV6_MTU_DISCOVER},
    {IPPROTO_IPV6, IPV6_MTU},
    {IPPROTO_IPV6, IPV6_RECVERR},
    {IPPROTO_IPV6, IPV6_RECVPKTINFO},
    {IPPROTO_IPV6, IPV6_RECVHOPLIMIT},
    {IPPROTO_IPV6, IPV6_RECVTCLASS},
    {IPPROTO_IPV6, IPV6_TCLASS},
    {IPPROTO_IPV6, IPV6_DONTFRAG},
    {IPPROTO_IPV6, IPV6_UNICAST_IF},
};

}  // namespace sentry::socket

#endif  // SENTRY_SOCKET_HOST_HOST_OPTIONS_H_
