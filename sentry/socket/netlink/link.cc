// SPDX-License-Identifier: Apache-2.0
// Links of rtnetlink(7): what is there, changes, and the kinds that guests make (sentry/net/links.h).
#include <linux/capability.h>
#include <linux/if.h>
#include <linux/if_arp.h>
#include <linux/if_link.h>
#include <linux/net_namespace.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>

#include <algorithm>

#include "sentry/net/links.h"
#include "sentry/socket/environment.h"
#include "sentry/socket/inet/stacks.h"
#include "sentry/socket/netlink/route.h"

namespace sentry::socket {
namespace {

using LinkAttributes = Attributes<IFLA_MAX>;

std::string LinkMessage(const net::Interface& i, uint16_t flags, uint32_t sequence, uint32_t port,
                        uint16_t type = RTM_NEWLINK) {
  ifinfomsg body = {};
  body.ifi_family = AF_UNSPEC;
  body.ifi_type = i.type;
  body.ifi_index = static_cast<int>(i.index);
  body.ifi_flags = i.flags;
  MessageBuilder m(type, flags, sequence, port, body);
  m.PutString(IFLA_IFNAME, i.name);
  m.Put(IFLA_TXQLEN, i.tx_queue_length);
  m.Put(IFLA_OPERSTATE, static_cast<uint8_t>(i.IsLoopback() ? 0 : i.IsUp() ? 6 : 2));
  m.Put(IFLA_LINKMODE, uint8_t{0});
  m.Put(IFLA_MTU, i.mtu);
  m.Put(IFLA_MIN_MTU, uint32_t{0});
  m.Put(IFLA_MAX_MTU, uint32_t{0});
  m.Put(IFLA_GROUP, uint32_t{0});
  m.Put(IFLA_PROMISCUITY, uint32_t{0});
  m.Put(IFLA_NUM_TX_QUEUES, uint32_t{1});
  m.Put(IFLA_NUM_RX_QUEUES, uint32_t{1});
  m.Put(IFLA_CARRIER, static_cast<uint8_t>(1));
  m.PutString(IFLA_QDISC, "noqueue");
  m.Put(IFLA_ADDRESS, i.hardware_address.data(), 6);
  const std::array<uint8_t, 6> broadcast =
      i.IsLoopback() ? std::array<uint8_t, 6>{} : std::array<uint8_t, 6>{255, 255, 255, 255, 255, 255};
  m.Put(IFLA_BROADCAST, broadcast.data(), 6);
  const net::LinkStatistics& s = i.link->statistics();
  rtnl_link_stats64 stats = {};
  stats.rx_packets = s.rx_packets;
  stats.rx_bytes = s.rx_bytes;
  stats.rx_dropped = s.rx_dropped;
  stats.tx_packets = s.tx_packets;
  stats.tx_bytes = s.tx_bytes;
  stats.tx_dropped = s.tx_dropped;
  m.Put(IFLA_STATS64, stats);
  rtnl_link_stats small = {};
  small.rx_packets = static_cast<uint32_t>(stats.rx_packets);
  small.rx_bytes = static_cast<uint32_t>(stats.rx_bytes);
  small.tx_packets = static_cast<uint32_t>(stats.tx_packets);
  small.tx_bytes = static_cast<uint32_t>(stats.tx_bytes);
  m.Put(IFLA_STATS, small);
  if (i.master) m.Put(IFLA_MASTER, i.master);
  if (const net::PeerOf peer = net::FindPeer(i); peer.index) {
    m.Put(IFLA_LINK, peer.index);
    if (peer.namespace_number) m.Put(IFLA_LINK_NETNSID, int32_t{*peer.namespace_number});
  }
  if (!i.kind.empty()) {
    const size_t at = m.BeginNested(IFLA_LINKINFO);
    m.PutString(IFLA_INFO_KIND, i.kind);
    if (i.master) m.PutString(IFLA_INFO_SLAVE_KIND, "bridge");
    m.EndNested(at);
  }
  return m.Finish();
}

void Notify(net::Stack& stack, uint32_t index) {
  if (const net::Interface* i = stack.config()->Find(index)) NotifyGroup(stack, RTNLGRP_LINK, LinkMessage(*i, 0, 0, 0));
}

Result<const net::Interface*> FindLink(const net::Config& config, const ifinfomsg& body,
                                       const LinkAttributes& attributes) {
  const net::Interface* i = nullptr;
  if (body.ifi_index > 0)
    i = config.Find(static_cast<uint32_t>(body.ifi_index));
  else if (attributes.Has(IFLA_IFNAME) || attributes.Has(IFLA_ALT_IFNAME))
    i = config.Find(attributes.String(attributes.Has(IFLA_IFNAME) ? IFLA_IFNAME : IFLA_ALT_IFNAME));
  else
    return Errno(EINVAL);
  if (!i) return Errno(ENODEV);
  return i;
}

LinkAttributes AttributesOf(std::string_view body) {
  return LinkAttributes(body.substr(std::min(body.size(), NLMSG_ALIGN(sizeof(ifinfomsg)))));
}

Result<net::HardwareAddress> HardwareOf(const LinkAttributes& attributes) {
  net::HardwareAddress address;
  if (attributes[IFLA_ADDRESS].size() < address.size()) return Errno(EINVAL);
  memcpy(address.data(), attributes[IFLA_ADDRESS].data(), address.size());
  return address;
}

// A namespace by a process or a descriptor, as one of two attributes names it. EINVAL: neither is there.
template <size_t kMax>
Result<NetNamespaceHandle> NamespaceOf(const Attributes<kMax>& attributes, size_t by_pid, size_t by_fd) {
  const Environment& environment = GetEnvironment();
  if (attributes.Has(by_pid) && environment.net_namespace_of_pid)
    return environment.net_namespace_of_pid(TRY(attributes.template Get<int32_t>(by_pid)));
  if (attributes.Has(by_fd) && environment.net_namespace_of_fd)
    return environment.net_namespace_of_fd(TRY(attributes.template Get<int32_t>(by_fd)));
  return Errno(EINVAL);
}

// IFLA_NET_NS_PID or _FD; the socket's own stack if neither is there. EPERM: its owner does not allow it.
struct Target {
  RefPtr<net::Stack> stack;
  std::shared_ptr<const void> hold;  // the namespace
};
Result<Target> TargetOf(NetlinkSocket& socket, const LinkAttributes& attributes) {
  if (!attributes.Has(IFLA_NET_NS_PID) && !attributes.Has(IFLA_NET_NS_FD))
    return Target{RefPtr<net::Stack>(&socket.stack()), nullptr};
  const NetNamespaceHandle handle = TRY(NamespaceOf(attributes, IFLA_NET_NS_PID, IFLA_NET_NS_FD));
  if (!Caller::Current().creds()->HasCapabilityIn(handle.owner, CAP_NET_ADMIN)) return Errno(EPERM);
  return Target{StackOf(handle.id, handle.is_first), handle.hold};
}

Result<net::NewLink> NewLinkOf(const ifinfomsg& body, const LinkAttributes& attributes) {
  net::NewLink link;
  if (body.ifi_index < 0) return Errno(EINVAL);
  link.index = static_cast<uint32_t>(body.ifi_index);
  if (attributes.Has(IFLA_IFNAME)) link.name = attributes.String(IFLA_IFNAME);
  if (attributes.Has(IFLA_ADDRESS)) link.hardware_address = TRY(HardwareOf(attributes));
  if (attributes.Has(IFLA_MTU)) link.mtu = TRY(attributes.Get<uint32_t>(IFLA_MTU));
  if (attributes.Has(IFLA_TXQLEN)) link.tx_queue_length = TRY(attributes.Get<uint32_t>(IFLA_TXQLEN));
  if (attributes.Has(IFLA_MASTER)) link.master = TRY(attributes.Get<uint32_t>(IFLA_MASTER));
  link.up = body.ifi_flags & IFF_UP;
  return link;
}

Result<void> MakeLink(NetlinkSocket& socket, const ifinfomsg& body, const LinkAttributes& attributes) {
  const Attributes<IFLA_INFO_MAX> info(attributes[IFLA_LINKINFO]);
  const std::string kind = info.String(IFLA_INFO_KIND);
  const Target target = TRY(TargetOf(socket, attributes));
  const net::NewLink link = TRY(NewLinkOf(body, attributes));
  uint32_t index = 0;
  if (kind == "bridge") {
    index = TRY(net::AddLink(*target.stack, net::VirtualDevice::Kind::kBridge, link));
  } else if (kind == "dummy") {
    index = TRY(net::AddLink(*target.stack, net::VirtualDevice::Kind::kDummy, link));
  } else if (kind == "veth") {
    // What the peer is to be: an ifinfomsg and attributes, too.
    const Attributes<VETH_INFO_MAX> data(info[IFLA_INFO_DATA]);
    const std::string_view peer = data[VETH_INFO_PEER];
    ifinfomsg peer_body = {};
    if (data.Has(VETH_INFO_PEER) && peer.size() < sizeof peer_body) return Errno(EINVAL);
    memcpy(&peer_body, peer.data(), std::min(peer.size(), sizeof peer_body));
    const LinkAttributes peer_attributes = AttributesOf(peer);
    net::NewLink peer_link = TRY(NewLinkOf(peer_body, peer_attributes));
    if (!peer_link.mtu) peer_link.mtu = link.mtu;
    const Target peer_target = TRY(TargetOf(socket, peer_attributes));
    index = TRY(net::AddVeth(*target.stack, link, *peer_target.stack, peer_link));
    const net::Interface* made = target.stack->config()->Find(index);
    if (made) Notify(*peer_target.stack, net::FindPeer(*made).index);
  } else {
    return Errno(EOPNOTSUPP);
  }
  Notify(*target.stack, index);
  return OkResult();
}

// What concerns the interface alone.
Result<void> ChangeLink(net::Config& config, uint32_t index, const ifinfomsg& body, const LinkAttributes& attributes) {
  net::Interface* i = config.FindMutable(index);
  if (!i) return Errno(ENODEV);
  if (attributes.Has(IFLA_MTU)) {
    const auto mtu = TRY(attributes.Get<uint32_t>(IFLA_MTU));
    if (mtu < 68 || mtu > 65536) return Errno(EINVAL);
    i->mtu = mtu;
  }
  if (attributes.Has(IFLA_TXQLEN)) i->tx_queue_length = TRY(attributes.Get<uint32_t>(IFLA_TXQLEN));
  if (attributes.Has(IFLA_IFNAME) && body.ifi_index > 0) {
    const std::string name = attributes.String(IFLA_IFNAME);
    if (!net::IsInterfaceName(name)) return Errno(EINVAL);
    if (name != i->name && config.Find(name)) return Errno(EEXIST);
    if (name != i->name && i->IsUp() && i->IsLoopback()) return Errno(EBUSY);
    i->name = name;
  }
  if (body.ifi_flags || body.ifi_change) {
    const uint32_t change = body.ifi_change ? body.ifi_change : ~0u;
    constexpr uint32_t kChangeable = IFF_NOARP | IFF_PROMISC | IFF_ALLMULTI | IFF_DEBUG;
    i->flags = (i->flags & ~(kChangeable & change)) | (body.ifi_flags & kChangeable & change);
    if (change & IFF_UP) TRY(config.SetUp(index, body.ifi_flags & IFF_UP));
  }
  return OkResult();
}

}  // namespace

Result<void> GetLink(NetlinkSocket& socket, const NetlinkRequest& request) {
  auto config = socket.stack().config();
  if (request.IsDump()) {
    std::vector<std::string> all;
    uint32_t master = 0;
    std::string kind;
    if (request.body.size() >= sizeof(ifinfomsg)) {
      const LinkAttributes attributes = AttributesOf(request.body);
      if (attributes.Has(IFLA_MASTER)) master = TRY(attributes.Get<uint32_t>(IFLA_MASTER));
      kind = Attributes<IFLA_INFO_MAX>(attributes[IFLA_LINKINFO]).String(IFLA_INFO_KIND);
    }
    for (const net::Interface& i : config->interfaces) {
      if ((master && i.master != master) || (!kind.empty() && i.kind != kind)) continue;
      all.push_back(LinkMessage(i, NLM_F_MULTI, request.header.nlmsg_seq, socket.port()));
    }
    socket.AnswerDump(request, std::move(all));
    return OkResult();
  }
  const auto body = TRY(request.Body<ifinfomsg>());
  const net::Interface* i = TRY(FindLink(*config, body, AttributesOf(request.body)));
  socket.Queue(LinkMessage(*i, 0, request.header.nlmsg_seq, socket.port()));
  return OkResult();
}

Result<void> SetLink(NetlinkSocket& socket, const NetlinkRequest& request) {
  const auto body = TRY(request.Body<ifinfomsg>());
  const LinkAttributes attributes = AttributesOf(request.body);
  const uint16_t flags = request.header.nlmsg_flags;
  net::Stack& stack = socket.stack();
  const auto config = stack.config();
  auto found = FindLink(*config, body, attributes);
  const bool is_new = request.header.nlmsg_type == RTM_NEWLINK;
  if (!found.ok()) {
    const bool makes = is_new && (flags & NLM_F_CREATE);
    if (makes && attributes.Has(IFLA_LINKINFO)) return MakeLink(socket, body, attributes);
    if (makes) return Errno(EOPNOTSUPP);
    return is_new ? Errno(ENODEV) : found.error();
  }
  // A new one elsewhere may be called as one here.
  const bool elsewhere = attributes.Has(IFLA_NET_NS_PID) || attributes.Has(IFLA_NET_NS_FD);
  if (is_new && (flags & NLM_F_CREATE) && elsewhere && body.ifi_index == 0 && attributes.Has(IFLA_LINKINFO))
    return MakeLink(socket, body, attributes);
  if (is_new && (flags & NLM_F_EXCL)) return Errno(EEXIST);
  uint32_t index = (*found)->index;
  if (elsewhere) {
    const Target target = TRY(TargetOf(socket, attributes));
    const std::string gone = LinkMessage(**found, 0, 0, 0, RTM_DELLINK);
    const std::string name = body.ifi_index > 0 && attributes.Has(IFLA_IFNAME) ? attributes.String(IFLA_IFNAME) : "";
    index = TRY(net::MoveLink(stack, index, *target.stack, name));
    if (target.stack.get() != &stack) NotifyGroup(stack, RTNLGRP_LINK, gone);
    if (body.ifi_flags || body.ifi_change) {
      TRY(target.stack->Change([&](net::Config& c) -> Result<void> {
        return (body.ifi_change & IFF_UP) ? c.SetUp(index, body.ifi_flags & IFF_UP) : OkResult();
      }));
    }
    Notify(*target.stack, index);
    return OkResult();
  }
  if (attributes.Has(IFLA_ADDRESS)) TRY(net::SetHardwareAddress(stack, index, TRY(HardwareOf(attributes))));
  if (attributes.Has(IFLA_MASTER)) TRY(net::SetMaster(stack, index, TRY(attributes.Get<uint32_t>(IFLA_MASTER))));
  TRY(stack.Change([&](net::Config& c) { return ChangeLink(c, index, body, attributes); }));
  Notify(stack, index);
  return OkResult();
}

Result<void> GetNamespaceNumber(NetlinkSocket& socket, const NetlinkRequest& request) {
  if (request.IsDump()) {
    socket.AnswerDump(request, {});
    return OkResult();
  }
  const auto body = TRY(request.Body<rtgenmsg>());
  const Attributes<NETNSA_MAX> attributes(request.body.substr(std::min(request.body.size(), NLMSG_ALIGN(sizeof body))));
  const NetNamespaceHandle handle = TRY(NamespaceOf(attributes, NETNSA_PID, NETNSA_FD));
  const RefPtr<net::Stack> other = StackOf(handle.id, handle.is_first);
  MessageBuilder m(RTM_NEWNSID, 0, request.header.nlmsg_seq, socket.port(), rtgenmsg{.rtgen_family = AF_UNSPEC});
  m.Put(NETNSA_NSID, int32_t{socket.stack().NumberOf(other->id(), false)});
  socket.Queue(m.Finish());
  return OkResult();
}

Result<void> DeleteLink(NetlinkSocket& socket, const NetlinkRequest& request) {
  const auto body = TRY(request.Body<ifinfomsg>());
  const auto config = socket.stack().config();
  const net::Interface* found = TRY(FindLink(*config, body, AttributesOf(request.body)));
  const std::string gone = LinkMessage(*found, 0, 0, 0, RTM_DELLINK);
  TRY(net::RemoveLink(socket.stack(), found->index));
  NotifyGroup(socket.stack(), RTNLGRP_LINK, gone);
  return OkResult();
}

}  // namespace sentry::socket
