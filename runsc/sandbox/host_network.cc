// SPDX-License-Identifier: Apache-2.0
#include "runsc/sandbox/host_network.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_arp.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/neighbour.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <netinet/in.h>
#include <sched.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <functional>
#include <thread>

#include "absl/strings/str_cat.h"
#include "base/unique_fd.h"
#include "runsc/control/wire.h"
#include "runsc/errors.h"

namespace runsc {
namespace {

using control::NetworkAddress;
using control::NetworkConfig;
using control::NetworkInterface;
using control::NetworkNeighbour;
using control::NetworkRoute;

constexpr int kReceiveBuffer = 4 << 20;
constexpr size_t kMaxInterfaces = 32;
constexpr uint32_t kResolver = 0x7f00000b;  // 127.0.0.11

absl::Status Failed(const std::string& what) {
  return absl::InternalError(absl::StrCat("network: ", what, ": ", ErrnoText(errno)));
}

// rtnetlink(7), in the namespace that the thread is in when it is opened.
class Rtnetlink {
 public:
  absl::Status Open() {
    socket_.Reset(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
    if (!socket_.ok()) return Failed("socket of rtnetlink");
    // The kernel always answers; a bound all the same.
    const timeval limit = {.tv_sec = 10};
    setsockopt(socket_.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    return absl::OkStatus();
  }

  // All messages of a dump.
  absl::Status Dump(uint16_t type, const std::function<void(const nlmsghdr*)>& each) {
    struct {
      nlmsghdr header;
      rtgenmsg message;
    } request = {.header = {.nlmsg_len = sizeof request, .nlmsg_type = type, .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP},
                 .message = {.rtgen_family = AF_UNSPEC}};
    return Exchange(&request, sizeof request, each);
  }

  // A request that is only acknowledged; its length is filled in.
  absl::Status Tell(std::string message) {
    const auto length = static_cast<uint32_t>(message.size());
    memcpy(message.data(), &length, sizeof length);
    return Exchange(message.data(), message.size(), [](auto) {});
  }

 private:
  absl::Status Exchange(const void* request, size_t size, const std::function<void(const nlmsghdr*)>& each) {
    if (send(socket_.get(), request, size, 0) != static_cast<ssize_t>(size)) return Failed("request to rtnetlink");
    std::vector<char> buffer(64 << 10);
    for (;;) {
      const ssize_t n = recv(socket_.get(), buffer.data(), buffer.size(), 0);
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) return Failed("answer of rtnetlink");
      auto left = static_cast<unsigned>(n);
      for (auto* h = reinterpret_cast<const nlmsghdr*>(buffer.data()); NLMSG_OK(h, left); h = NLMSG_NEXT(h, left)) {
        if (h->nlmsg_type == NLMSG_DONE) return absl::OkStatus();
        if (h->nlmsg_type == NLMSG_ERROR) {
          errno = -static_cast<const nlmsgerr*>(NLMSG_DATA(h))->error;
          return errno ? Failed("rtnetlink") : absl::OkStatus();
        }
        each(h);
      }
    }
  }

  base::UniqueFd socket_;
};

// The attributes behind a message's fixed part.
template <typename Message>
void ForEachAttribute(const nlmsghdr* h, const std::function<void(int type, const void* data, size_t size)>& each) {
  const auto* message = static_cast<const Message*>(NLMSG_DATA(h));
  const auto* a =
      reinterpret_cast<const rtattr*>(reinterpret_cast<const char*>(message) + NLMSG_ALIGN(sizeof(Message)));
  auto left = static_cast<int>(h->nlmsg_len - NLMSG_LENGTH(sizeof(Message)));
  for (; RTA_OK(a, left); a = RTA_NEXT(a, left)) each(a->rta_type & NLA_TYPE_MASK, RTA_DATA(a), RTA_PAYLOAD(a));
}

std::string Bytes(const void* data, size_t size) { return {static_cast<const char*>(data), size}; }
std::string Text(const void* data, size_t size) {
  return {static_cast<const char*>(data), strnlen(static_cast<const char*>(data), size)};
}
uint32_t Number(const void* data, size_t size) {
  uint32_t value = 0;
  memcpy(&value, data, std::min(size, sizeof value));
  return value;
}
std::array<uint8_t, 6> Hardware(const void* data, size_t size) {
  std::array<uint8_t, 6> a = {};
  memcpy(a.data(), data, std::min(size, a.size()));
  return a;
}

NetworkInterface* Find(NetworkConfig& config, uint32_t index) {
  for (NetworkInterface& i : config.interfaces) {
    if (i.index == index) return &i;
  }
  return nullptr;
}

absl::Status Read(Rtnetlink& rtnetlink, NetworkConfig* config) {
  RETURN_IF_ERROR(rtnetlink.Dump(RTM_GETLINK, [&](const nlmsghdr* h) {
    const auto* m = static_cast<const ifinfomsg*>(NLMSG_DATA(h));
    if (h->nlmsg_type != RTM_NEWLINK || m->ifi_type != ARPHRD_ETHER || !(m->ifi_flags & IFF_UP)) return;
    NetworkInterface i;
    i.index = static_cast<uint32_t>(m->ifi_index);
    i.flags = m->ifi_flags;
    ForEachAttribute<ifinfomsg>(h, [&](int type, const void* data, size_t size) {
      if (type == IFLA_IFNAME) i.name = Text(data, size);
      if (type == IFLA_ADDRESS) i.hardware_address = Hardware(data, size);
      if (type == IFLA_MTU) i.mtu = Number(data, size);
      if (type == IFLA_TXQLEN) i.tx_queue_length = Number(data, size);
    });
    config->interfaces.push_back(std::move(i));
  }));
  RETURN_IF_ERROR(rtnetlink.Dump(RTM_GETADDR, [&](const nlmsghdr* h) {
    const auto* m = static_cast<const ifaddrmsg*>(NLMSG_DATA(h));
    NetworkInterface* interface = Find(*config, m->ifa_index);
    if (h->nlmsg_type != RTM_NEWADDR || !interface) return;
    NetworkAddress a = {.prefix = m->ifa_prefixlen, .scope = m->ifa_scope, .flags = m->ifa_flags};
    std::string peer;
    ForEachAttribute<ifaddrmsg>(h, [&](int type, const void* data, size_t size) {
      if (type == IFA_LOCAL) a.ip = Bytes(data, size);
      if (type == IFA_ADDRESS) peer = Bytes(data, size);
      if (type == IFA_BROADCAST) a.broadcast = Bytes(data, size);
      if (type == IFA_LABEL) a.label = Text(data, size);
      if (type == IFA_FLAGS) a.flags = Number(data, size);
    });
    if (a.ip.empty()) a.ip = peer;
    // An address that is still looked for, or that somebody else has (RFC 4862, 5.4), is nobody's to use.
    if (a.flags & IFA_F_DADFAILED) return;
    a.flags &= ~static_cast<uint32_t>(IFA_F_TENTATIVE);
    interface->addresses.push_back(std::move(a));
  }));
  RETURN_IF_ERROR(rtnetlink.Dump(RTM_GETROUTE, [&](const nlmsghdr* h) {
    const auto* m = static_cast<const rtmsg*>(NLMSG_DATA(h));
    if (h->nlmsg_type != RTM_NEWROUTE || m->rtm_table != RT_TABLE_MAIN || (m->rtm_flags & RTM_F_CLONED)) return;
    if (m->rtm_family != AF_INET && m->rtm_family != AF_INET6) return;
    NetworkRoute r = {
        .prefix = m->rtm_dst_len, .scope = m->rtm_scope, .type = m->rtm_type, .protocol = m->rtm_protocol};
    ForEachAttribute<rtmsg>(h, [&](int type, const void* data, size_t size) {
      if (type == RTA_DST) r.destination = Bytes(data, size);
      if (type == RTA_GATEWAY) r.gateway = Bytes(data, size);
      if (type == RTA_PREFSRC) r.source = Bytes(data, size);
      if (type == RTA_OIF) r.interface = Number(data, size);
      if (type == RTA_PRIORITY) r.metric = Number(data, size);
    });
    if (r.destination.empty()) r.destination.assign(m->rtm_family == AF_INET ? 4 : 16, '\0');
    if (Find(*config, r.interface)) config->routes.push_back(std::move(r));
  }));
  return rtnetlink.Dump(RTM_GETNEIGH, [&](const nlmsghdr* h) {
    const auto* m = static_cast<const ndmsg*>(NLMSG_DATA(h));
    if (h->nlmsg_type != RTM_NEWNEIGH || !(m->ndm_state & NUD_PERMANENT)) return;
    NetworkNeighbour n = {.interface = static_cast<uint32_t>(m->ndm_ifindex)};
    ForEachAttribute<ndmsg>(h, [&](int type, const void* data, size_t size) {
      if (type == NDA_DST) n.ip = Bytes(data, size);
      if (type == NDA_LLADDR) n.hardware_address = Hardware(data, size);
    });
    if (Find(*config, n.interface) && (n.ip.size() == 4 || n.ip.size() == 16))
      config->permanent.push_back(std::move(n));
  });
}

absl::Status OpenSocket(NetworkInterface& interface) {
  auto failed = [&](const char* what) { return Failed(absl::StrCat("interface ", interface.name, ": ", what)); };
  // Protocol 0: nothing arrives before it is bound to the interface.
  base::UniqueFd fd(socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0));
  if (!fd.ok()) return failed("packet socket");
  const int one = 1;
  if (setsockopt(fd.get(), SOL_PACKET, PACKET_VNET_HDR, &one, sizeof one) != 0) return failed("PACKET_VNET_HDR");
  constexpr int kPacketIgnoreOutgoing = 23;  // PACKET_IGNORE_OUTGOING, Linux 4.20
  if (setsockopt(fd.get(), SOL_PACKET, kPacketIgnoreOutgoing, &one, sizeof one) != 0) {
    return failed("PACKET_IGNORE_OUTGOING");
  }
  // More than the default where it may be had: bursts wait here while the sandbox is not scheduled.
  if (setsockopt(fd.get(), SOL_SOCKET, SO_RCVBUFFORCE, &kReceiveBuffer, sizeof kReceiveBuffer) != 0) {
    setsockopt(fd.get(), SOL_SOCKET, SO_RCVBUF, &kReceiveBuffer, sizeof kReceiveBuffer);
  }
  // Which groups are wanted is the sandbox's to know.
  const packet_mreq groups = {.mr_ifindex = static_cast<int>(interface.index), .mr_type = PACKET_MR_ALLMULTI};
  setsockopt(fd.get(), SOL_PACKET, PACKET_ADD_MEMBERSHIP, &groups, sizeof groups);
  const sockaddr_ll address = {
      .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL), .sll_ifindex = static_cast<int>(interface.index)};
  if (bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) return failed("bind");
  interface.socket = std::move(fd);
  return absl::OkStatus();
}

template <typename Body>
std::string Message(const nlmsghdr& header, const Body& body) {
  std::string message = Bytes(&header, sizeof header) + Bytes(&body, sizeof body);
  message.resize(NLMSG_ALIGN(message.size()));
  return message;
}

void Put(std::string& message, uint16_t type, const std::string& value) {
  const rtattr a = {.rta_len = static_cast<unsigned short>(RTA_LENGTH(value.size())), .rta_type = type};
  message.append(reinterpret_cast<const char*>(&a), sizeof a);
  message += value;
  message.resize(NLMSG_ALIGN(message.size()));
}

// Takes (RTM_DELADDR) or gives back (RTM_NEWADDR) an address.
absl::Status ChangeAddress(Rtnetlink& rtnetlink, uint16_t type, const NetworkInterface& interface,
                           const NetworkAddress& address) {
  // Its neighbours have known it all the time: no duplicate address detection.
  const uint8_t flags = type == RTM_NEWADDR && address.ip.size() == 16 ? IFA_F_NODAD : 0;
  const ifaddrmsg body = {.ifa_family = static_cast<uint8_t>(address.ip.size() == 4 ? AF_INET : AF_INET6),
                          .ifa_prefixlen = static_cast<uint8_t>(address.prefix),
                          .ifa_flags = flags,
                          .ifa_scope = static_cast<uint8_t>(address.scope),
                          .ifa_index = interface.index};
  nlmsghdr header = {.nlmsg_type = type, .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK};
  if (type == RTM_NEWADDR) header.nlmsg_flags |= NLM_F_CREATE;
  std::string message = Message(header, body);
  Put(message, IFA_LOCAL, address.ip);
  if (type == RTM_NEWADDR && !address.broadcast.empty()) Put(message, IFA_BROADCAST, address.broadcast);
  return rtnetlink.Tell(std::move(message));
}

absl::Status AddRoute(Rtnetlink& rtnetlink, const NetworkRoute& route) {
  const rtmsg body = {.rtm_family = static_cast<uint8_t>(route.destination.size() == 4 ? AF_INET : AF_INET6),
                      .rtm_dst_len = static_cast<uint8_t>(route.prefix),
                      .rtm_table = RT_TABLE_MAIN,
                      .rtm_protocol = static_cast<uint8_t>(route.protocol),
                      .rtm_scope = static_cast<uint8_t>(route.scope),
                      .rtm_type = static_cast<uint8_t>(route.type)};
  std::string message =
      Message({.nlmsg_type = RTM_NEWROUTE, .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL}, body);
  auto number = [](uint32_t value) { return Bytes(&value, sizeof value); };
  Put(message, RTA_DST, route.destination);
  Put(message, RTA_OIF, number(route.interface));
  Put(message, RTA_PRIORITY, number(route.metric));
  if (!route.gateway.empty()) Put(message, RTA_GATEWAY, route.gateway);
  if (!route.source.empty()) Put(message, RTA_PREFSRC, route.source);
  return rtnetlink.Tell(std::move(message));
}

absl::StatusOr<base::UniqueFd> ConnectResolver() {
  base::UniqueFd fd(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  sockaddr_in server = {.sin_family = AF_INET, .sin_port = htons(53)};
  server.sin_addr.s_addr = htonl(kResolver);
  if (!fd.ok() || connect(fd.get(), reinterpret_cast<const sockaddr*>(&server), sizeof server) != 0) {
    return Failed("the name server at 127.0.0.11");
  }
  return fd;
}

absl::StatusOr<NetworkConfig> TakeHere(bool resolver) {
  Rtnetlink rtnetlink;
  RETURN_IF_ERROR(rtnetlink.Open());
  NetworkConfig config;
  RETURN_IF_ERROR(Read(rtnetlink, &config));
  if (config.interfaces.size() > kMaxInterfaces) {
    return absl::ResourceExhaustedError(absl::StrCat("network: ", config.interfaces.size(),
                                                     " interfaces are up in the container's namespace; at most ",
                                                     kMaxInterfaces, " can move into the sandbox"));
  }
  for (NetworkInterface& interface : config.interfaces) RETURN_IF_ERROR(OpenSocket(interface));
  if (resolver) config.resolver = VALUE_OR_RETURN(ConnectResolver());
  std::vector<std::pair<const NetworkInterface*, const NetworkAddress*>> taken;
  for (const NetworkInterface& interface : config.interfaces) {
    for (const NetworkAddress& address : interface.addresses) {
      absl::Status status = ChangeAddress(rtnetlink, RTM_DELADDR, interface, address);
      // It may have gone with another one (a secondary address with its primary).
      if (!status.ok() && errno != EADDRNOTAVAIL) {
        for (const auto& [i, a] : taken) ChangeAddress(rtnetlink, RTM_NEWADDR, *i, *a).IgnoreError();
        return status;
      }
      taken.emplace_back(&interface, &address);
    }
  }
  return config;
}

// Runs `body` in the network namespace that `theirs` names, unless it is the caller's own.
absl::Status InNamespace(const base::UniqueFd& theirs, const std::function<absl::Status()>& body) {
  base::UniqueFd own(open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC));
  if (!own.ok()) return Failed("/proc/self/ns/net");
  struct stat ours, sandbox;
  if (fstat(own.get(), &ours) != 0 || fstat(theirs.get(), &sandbox) != 0) return Failed("fstat of a namespace");
  // The caller's own interfaces (--network=host, or a container that asked for this namespace) stay where they are.
  if (ours.st_dev == sandbox.st_dev && ours.st_ino == sandbox.st_ino) return absl::OkStatus();
  absl::Status status;
  // The namespace is a thread's, and this one's end: root of a user namespace may enter what belongs to that, and never
  // come back to the host's.
  std::thread([&] {
    status = setns(theirs.get(), CLONE_NEWNET) == 0 ? body() : Failed("entering the sandbox's namespace");
  }).join();
  return status;
}

}  // namespace

absl::StatusOr<NetworkConfig> TakeNetwork(pid_t pid, bool resolver) {
  base::UniqueFd theirs(open(absl::StrCat("/proc/", pid, "/ns/net").c_str(), O_RDONLY | O_CLOEXEC));
  if (!theirs.ok()) return Failed(absl::StrCat("/proc/", pid, "/ns/net"));
  NetworkConfig config;
  RETURN_IF_ERROR(InNamespace(theirs, [&]() -> absl::Status {
    config = VALUE_OR_RETURN(TakeHere(resolver));
    return absl::OkStatus();
  }));
  return config;
}

absl::Status GiveBackNetwork(const std::string& path, const NetworkConfig& config) {
  base::UniqueFd theirs(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  // Whoever made the namespace may have taken it away before the container was deleted.
  if (!theirs.ok()) return absl::OkStatus();
  return InNamespace(theirs, [&]() -> absl::Status {
    Rtnetlink rtnetlink;
    RETURN_IF_ERROR(rtnetlink.Open());
    for (const NetworkInterface& interface : config.interfaces) {
      for (const NetworkAddress& address : interface.addresses) {
        ChangeAddress(rtnetlink, RTM_NEWADDR, interface, address).IgnoreError();
      }
    }
    // Those that the addresses bring along are there; gateways come after the routes that lead to them.
    for (bool gateways : {false, true}) {
      for (const NetworkRoute& route : config.routes) {
        if (route.gateway.empty() != gateways) AddRoute(rtnetlink, route).IgnoreError();
      }
    }
    return absl::OkStatus();
  });
}

}  // namespace runsc
