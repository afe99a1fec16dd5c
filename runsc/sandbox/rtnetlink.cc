// SPDX-License-Identifier: Apache-2.0
#include "runsc/sandbox/rtnetlink.h"

#include <errno.h>
#include <linux/if.h>
#include <linux/if_arp.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <algorithm>
#include <array>
#include <vector>

#include "absl/strings/str_cat.h"
#include "runsc/errors.h"

namespace runsc {
namespace {

using control::NetworkAddress;
using control::NetworkConfig;
using control::NetworkInterface;
using control::NetworkNeighbour;
using control::NetworkRoute;

absl::Status Failed(const std::string& what) {
  return absl::InternalError(absl::StrCat("network: ", what, ": ", ErrnoText(errno)));
}

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

}  // namespace

absl::Status Rtnetlink::Open() {
  socket_.Reset(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
  if (!socket_.ok()) return Failed("socket of rtnetlink");
  // The kernel always answers; a bound all the same.
  const timeval limit = {.tv_sec = 10};
  setsockopt(socket_.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  return absl::OkStatus();
}

absl::Status Rtnetlink::Dump(uint16_t type, const std::function<void(const nlmsghdr*)>& each) {
  struct {
    nlmsghdr header;
    rtgenmsg message;
  } request = {.header = {.nlmsg_len = sizeof request, .nlmsg_type = type, .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP},
               .message = {.rtgen_family = AF_UNSPEC}};
  return Exchange(&request, sizeof request, each);
}

absl::Status Rtnetlink::Tell(std::string message) {
  const auto length = static_cast<uint32_t>(message.size());
  memcpy(message.data(), &length, sizeof length);
  return Exchange(message.data(), message.size(), [](auto) {});
}

absl::Status Rtnetlink::Exchange(const void* request, size_t size, const std::function<void(const nlmsghdr*)>& each) {
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

absl::Status ReadNetwork(Rtnetlink& rtnetlink, Interfaces which, NetworkConfig* config) {
  RETURN_IF_ERROR(rtnetlink.Dump(RTM_GETLINK, [&](const nlmsghdr* h) {
    const auto* m = static_cast<const ifinfomsg*>(NLMSG_DATA(h));
    if (h->nlmsg_type != RTM_NEWLINK) return;
    if (which == Interfaces::kEthernet && (m->ifi_type != ARPHRD_ETHER || !(m->ifi_flags & IFF_UP))) return;
    NetworkInterface i;
    i.index = static_cast<uint32_t>(m->ifi_index);
    i.flags = m->ifi_flags;
    i.type = m->ifi_type;
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

}  // namespace runsc
