// SPDX-License-Identifier: Apache-2.0
#include "runsc/sandbox/host_network.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <netinet/in.h>
#include <sched.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <functional>
#include <thread>

#include "absl/strings/str_cat.h"
#include "base/unique_fd.h"
#include "runsc/control/wire.h"
#include "runsc/errors.h"
#include "runsc/sandbox/rtnetlink.h"

namespace runsc {
namespace {

using control::NetworkAddress;
using control::NetworkConfig;
using control::NetworkInterface;
using control::NetworkRoute;

constexpr int kReceiveBuffer = 4 << 20;
constexpr size_t kMaxInterfaces = 32;
constexpr uint32_t kResolver = 0x7f00000b;  // 127.0.0.11

absl::Status Failed(const std::string& what) {
  return absl::InternalError(absl::StrCat("network: ", what, ": ", ErrnoText(errno)));
}

std::string Bytes(const void* data, size_t size) { return {static_cast<const char*>(data), size}; }

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
  RETURN_IF_ERROR(ReadNetwork(rtnetlink, Interfaces::kEthernet, &config));
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
