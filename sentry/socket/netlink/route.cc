// SPDX-License-Identifier: Apache-2.0
// NETLINK_ROUTE (rtnetlink(7)): addresses, routes, rules and neighbours of a stack; links are in link.cc.
#include <linux/capability.h>
#include <linux/fib_rules.h>
#include <linux/if.h>
#include <linux/if_addr.h>
#include <linux/if_arp.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <netinet/in.h>

#include <algorithm>

#include "sentry/net/ethernet.h"
#include "sentry/socket/netlink/netlink_socket.h"
#include "sentry/socket/netlink/route.h"

namespace sentry::socket {
namespace {

using net::IpAddress;

int FamilyOf(const IpAddress& ip) { return ip.IsV4() ? AF_INET : AF_INET6; }
void PutIp(MessageBuilder& m, uint16_t type, const IpAddress& ip) { m.Put(type, ip.wire(), ip.wire_size()); }

Result<IpAddress> ParseIp(std::string_view bytes, int family) {
  if (family == AF_INET && bytes.size() >= 4) return IpAddress::V4Bytes(bytes.data());
  if (family == AF_INET6 && bytes.size() >= 16) return IpAddress::V6Bytes(bytes.data());
  return Errno(EINVAL);
}

// --- Addresses

std::string AddressMessage(const net::Interface& i, const net::InterfaceAddress& a, uint16_t type, uint16_t flags,
                           uint32_t sequence, uint32_t port) {
  ifaddrmsg body = {};
  body.ifa_family = static_cast<uint8_t>(FamilyOf(a.ip));
  body.ifa_prefixlen = static_cast<uint8_t>(a.prefix);
  body.ifa_flags = static_cast<uint8_t>(a.flags | IFA_F_PERMANENT);
  body.ifa_scope = a.scope;
  body.ifa_index = i.index;
  MessageBuilder m(type, flags, sequence, port, body);
  PutIp(m, IFA_ADDRESS, a.ip);
  if (a.ip.IsV4()) {
    PutIp(m, IFA_LOCAL, a.ip);
    if (!a.broadcast.IsAny()) PutIp(m, IFA_BROADCAST, a.broadcast);
    m.PutString(IFA_LABEL, a.label.empty() ? i.name : a.label);
  }
  m.Put(IFA_FLAGS, a.flags | IFA_F_PERMANENT);
  const ifa_cacheinfo info = {.ifa_prefered = ~0u, .ifa_valid = ~0u, .cstamp = 0, .tstamp = 0};
  m.Put(IFA_CACHEINFO, info);
  return m.Finish();
}

uint32_t AddressGroup(const IpAddress& ip) { return ip.IsV4() ? RTNLGRP_IPV4_IFADDR : RTNLGRP_IPV6_IFADDR; }

Result<void> GetAddress(NetlinkSocket& socket, const NetlinkRequest& request) {
  if (!request.IsDump()) return Errno(EOPNOTSUPP);
  const int family = request.body.empty() ? AF_UNSPEC : static_cast<uint8_t>(request.body[0]);
  uint32_t index = 0;
  if (request.body.size() >= sizeof(ifaddrmsg)) index = TRY(request.Body<ifaddrmsg>()).ifa_index;
  auto config = socket.stack().config();
  std::vector<std::string> all;
  for (const int wanted : {AF_INET, AF_INET6}) {
    if (family != AF_UNSPEC && family != wanted) continue;
    for (const net::Interface& i : config->interfaces) {
      if (index && i.index != index) continue;
      for (const net::InterfaceAddress& a : i.addresses) {
        if (FamilyOf(a.ip) == wanted)
          all.push_back(AddressMessage(i, a, RTM_NEWADDR, NLM_F_MULTI, request.header.nlmsg_seq, socket.port()));
      }
    }
  }
  socket.AnswerDump(request, std::move(all));
  return OkResult();
}

Result<void> ChangeAddress(NetlinkSocket& socket, const NetlinkRequest& request) {
  const auto body = TRY(request.Body<ifaddrmsg>());
  const Attributes<IFA_MAX> attributes(request.body.substr(std::min(request.body.size(), NLMSG_ALIGN(sizeof body))));
  const uint16_t which = attributes.Has(IFA_LOCAL) ? IFA_LOCAL : IFA_ADDRESS;
  net::InterfaceAddress a;
  a.ip = TRY(ParseIp(attributes[which], body.ifa_family));
  a.prefix = body.ifa_prefixlen;
  if (a.prefix > (a.ip.IsV4() ? 32 : 128)) return Errno(EINVAL);
  a.scope = body.ifa_scope;
  a.flags = IFA_F_PERMANENT;
  if (attributes.Has(IFA_FLAGS))
    a.flags |= TRY(attributes.Get<uint32_t>(IFA_FLAGS)) & (IFA_F_NOPREFIXROUTE | IFA_F_NODAD);
  if (attributes.Has(IFA_BROADCAST)) a.broadcast = TRY(ParseIp(attributes[IFA_BROADCAST], body.ifa_family));
  if (attributes.Has(IFA_LABEL)) a.label = attributes.String(IFA_LABEL).substr(0, IFNAMSIZ - 1);
  const bool add = request.header.nlmsg_type == RTM_NEWADDR;
  TRY(socket.stack().Change([&](net::Config& config) -> Result<void> {
    if (add) {
      auto added = config.AddAddress(body.ifa_index, a);
      if (!added.ok() && added.error() == Errno(EEXIST) && (request.header.nlmsg_flags & NLM_F_REPLACE))
        return OkResult();
      return added;
    }
    return config.RemoveAddress(body.ifa_index, a.ip, a.prefix);
  }));
  auto config = socket.stack().config();
  if (const net::Interface* i = config->Find(body.ifa_index))
    NotifyGroup(socket.stack(), AddressGroup(a.ip), AddressMessage(*i, a, request.header.nlmsg_type, 0, 0, 0));
  return OkResult();
}

// --- Routes

std::string RouteMessage(const net::Route& r, uint16_t type, uint16_t flags, uint32_t sequence, uint32_t port) {
  rtmsg body = {};
  body.rtm_family = static_cast<uint8_t>(FamilyOf(r.destination));
  body.rtm_dst_len = static_cast<uint8_t>(r.prefix);
  body.rtm_tos = r.tos;
  body.rtm_table = static_cast<uint8_t>(r.table < 256 ? r.table : RT_TABLE_COMPAT);
  body.rtm_protocol = r.protocol;
  body.rtm_scope = r.scope;
  body.rtm_type = r.type;
  MessageBuilder m(type, flags, sequence, port, body);
  m.Put(RTA_TABLE, r.table);
  if (r.prefix) PutIp(m, RTA_DST, r.destination);
  if (r.metric) m.Put(RTA_PRIORITY, r.metric);
  if (r.has_source) PutIp(m, RTA_PREFSRC, r.source);
  if (r.has_gateway) PutIp(m, RTA_GATEWAY, r.gateway);
  if (r.interface) m.Put(RTA_OIF, r.interface);
  if (!r.destination.IsV4()) {
    const rta_cacheinfo info = {};
    m.Put(RTA_CACHEINFO, info);
    m.Put(RTA_PREF, uint8_t{0});
  }
  if (r.mtu) {
    const size_t at = m.BeginNested(RTA_METRICS);
    m.Put(RTAX_MTU, r.mtu);
    m.EndNested(at);
  }
  return m.Finish();
}

Result<void> GetRoute(NetlinkSocket& socket, const NetlinkRequest& request) {
  auto config = socket.stack().config();
  if (request.IsDump()) {
    rtmsg body = {};
    if (request.body.size() >= sizeof body) body = TRY(request.Body<rtmsg>());
    const int family = request.body.empty() ? AF_UNSPEC : static_cast<uint8_t>(request.body[0]);
    std::vector<std::string> all;
    for (const int wanted : {AF_INET, AF_INET6}) {
      if (family != AF_UNSPEC && family != wanted) continue;
      for (const net::Route& r : config->routes) {
        if (FamilyOf(r.destination) != wanted || (body.rtm_table && r.table != body.rtm_table)) continue;
        all.push_back(RouteMessage(r, RTM_NEWROUTE, NLM_F_MULTI, request.header.nlmsg_seq, socket.port()));
      }
    }
    socket.AnswerDump(request, std::move(all));
    return OkResult();
  }
  const auto body = TRY(request.Body<rtmsg>());
  const Attributes<RTA_MAX> attributes(request.body.substr(std::min(request.body.size(), NLMSG_ALIGN(sizeof body))));
  const IpAddress to = attributes.Has(RTA_DST) ? TRY(ParseIp(attributes[RTA_DST], body.rtm_family))
                                               : IpAddress::Any(body.rtm_family == AF_INET);
  IpAddress from = IpAddress::Any(to.IsV4());
  if (attributes.Has(RTA_SRC)) from = TRY(ParseIp(attributes[RTA_SRC], body.rtm_family));
  const uint32_t out = attributes.Has(RTA_OIF) ? TRY(attributes.Get<uint32_t>(RTA_OIF)) : 0;
  const net::Path path = TRY(config->Lookup(to, from, out));
  net::Route r;
  r.destination = to;
  r.prefix = to.IsV4() ? 32 : 128;
  r.interface = path.interface;
  r.table = path.local ? RT_TABLE_LOCAL : RT_TABLE_MAIN;
  r.type = path.local ? RTN_LOCAL : path.broadcast ? RTN_BROADCAST : path.multicast ? RTN_MULTICAST : RTN_UNICAST;
  r.protocol = RTPROT_UNSPEC;
  r.has_source = true;
  r.source = path.source;
  r.has_gateway = path.next_hop != to;
  r.gateway = path.next_hop;
  socket.Queue(RouteMessage(r, RTM_NEWROUTE, 0, request.header.nlmsg_seq, socket.port()));
  return OkResult();
}

Result<void> ChangeRoute(NetlinkSocket& socket, const NetlinkRequest& request) {
  const auto body = TRY(request.Body<rtmsg>());
  if (body.rtm_family != AF_INET && body.rtm_family != AF_INET6) return Errno(EAFNOSUPPORT);
  const bool v4 = body.rtm_family == AF_INET;
  const Attributes<RTA_MAX> attributes(request.body.substr(std::min(request.body.size(), NLMSG_ALIGN(sizeof body))));
  net::Route r;
  r.prefix = body.rtm_dst_len;
  if (r.prefix > (v4 ? 32 : 128)) return Errno(EINVAL);
  r.destination = attributes.Has(RTA_DST) ? TRY(ParseIp(attributes[RTA_DST], body.rtm_family)) : IpAddress::Any(v4);
  if (r.destination.Masked(r.prefix) != r.destination) return Errno(EINVAL);
  r.tos = body.rtm_tos;
  r.protocol = body.rtm_protocol;
  r.scope = body.rtm_scope;
  r.type = body.rtm_type;
  r.table = attributes.Has(RTA_TABLE) ? TRY(attributes.Get<uint32_t>(RTA_TABLE))
            : body.rtm_table          ? uint32_t{body.rtm_table}
                                      : uint32_t{RT_TABLE_MAIN};
  if (attributes.Has(RTA_OIF)) r.interface = TRY(attributes.Get<uint32_t>(RTA_OIF));
  if (attributes.Has(RTA_PRIORITY)) r.metric = TRY(attributes.Get<uint32_t>(RTA_PRIORITY));
  if (attributes.Has(RTA_GATEWAY)) {
    r.has_gateway = true;
    r.gateway = TRY(ParseIp(attributes[RTA_GATEWAY], body.rtm_family));
  }
  if (attributes.Has(RTA_PREFSRC)) {
    r.has_source = true;
    r.source = TRY(ParseIp(attributes[RTA_PREFSRC], body.rtm_family));
  }
  if (attributes.Has(RTA_METRICS)) {
    const Attributes<RTAX_MAX> metrics(attributes[RTA_METRICS]);
    if (metrics.Has(RTAX_MTU)) r.mtu = TRY(metrics.Get<uint32_t>(RTAX_MTU));
  }
  const bool add = request.header.nlmsg_type == RTM_NEWROUTE;
  TRY(socket.stack().Change([&](net::Config& config) -> Result<void> {
    if (!add) return config.RemoveRoute(r);
    const bool needs_device = r.type == RTN_UNICAST || r.type == RTN_LOCAL || r.type == RTN_BROADCAST;
    if (!v4 && !r.metric) r.metric = 1024;
    if (r.has_gateway) {
      auto via = config.Lookup(r.gateway, IpAddress::Any(v4), r.interface);
      if (!via.ok() || via->local || via->next_hop != r.gateway) return Errno(v4 ? ENETUNREACH : EHOSTUNREACH);
      if (!r.interface) r.interface = via->interface;
    }
    if (needs_device) {
      const net::Interface* out = config.Find(r.interface);
      if (!out) return Errno(ENODEV);
      if (!out->IsUp()) return Errno(ENETDOWN);
    }
    if (r.has_source && !config.IsLocal(r.source)) return Errno(EINVAL);
    return config.AddRoute(r, request.header.nlmsg_flags & NLM_F_REPLACE, request.header.nlmsg_flags & NLM_F_APPEND);
  }));
  NotifyGroup(socket.stack(), v4 ? RTNLGRP_IPV4_ROUTE : RTNLGRP_IPV6_ROUTE,
              RouteMessage(r, request.header.nlmsg_type, 0, 0, 0));
  return OkResult();
}

// --- Rules: the three that every namespace starts with.

Result<void> GetRules(NetlinkSocket& socket, const NetlinkRequest& request) {
  if (!request.IsDump()) return Errno(EOPNOTSUPP);
  const int family = request.body.empty() ? AF_UNSPEC : static_cast<uint8_t>(request.body[0]);
  std::vector<std::string> all;
  for (const int wanted : {AF_INET, AF_INET6}) {
    if (family != AF_UNSPEC && family != wanted) continue;
    for (const auto& [priority, table] :
         {std::pair<uint32_t, uint32_t>{0, RT_TABLE_LOCAL}, {32766, RT_TABLE_MAIN}, {32767, RT_TABLE_DEFAULT}}) {
      if (wanted == AF_INET6 && table == RT_TABLE_DEFAULT) continue;
      fib_rule_hdr body = {};
      body.family = static_cast<uint8_t>(wanted);
      body.table = static_cast<uint8_t>(table);
      body.action = FR_ACT_TO_TBL;
      MessageBuilder m(RTM_NEWRULE, NLM_F_MULTI, request.header.nlmsg_seq, socket.port(), body);
      m.Put(FRA_TABLE, table);
      m.Put(FRA_SUPPRESS_PREFIXLEN, ~0u);
      if (priority) m.Put(FRA_PRIORITY, priority);
      all.push_back(m.Finish());
    }
  }
  socket.AnswerDump(request, std::move(all));
  return OkResult();
}

// --- Neighbours

uint16_t NudState(net::Neighbour::State state) {
  using State = net::Neighbour::State;
  switch (state) {
    case State::kIncomplete:
      return NUD_INCOMPLETE;
    case State::kReachable:
      return NUD_REACHABLE;
    case State::kStale:
      return NUD_STALE;
    case State::kDelay:
      return NUD_DELAY;
    case State::kProbe:
      return NUD_PROBE;
    case State::kFailed:
      return NUD_FAILED;
    case State::kPermanent:
      return NUD_PERMANENT;
  }
  return NUD_NONE;
}

Result<void> GetNeighbours(NetlinkSocket& socket, const NetlinkRequest& request) {
  if (!request.IsDump()) return Errno(EOPNOTSUPP);
  ndmsg wanted = {};
  if (auto body = request.Body<ndmsg>(); body.ok()) wanted = *body;
  std::vector<std::string> all;
  for (const net::Interface& i : socket.stack().config()->interfaces) {
    if (wanted.ndm_ifindex && static_cast<uint32_t>(wanted.ndm_ifindex) != i.index) continue;
    for (const net::Neighbour& n : i.link->Neighbours()) {
      ndmsg body = {};
      body.ndm_family = n.ip.IsV4() ? AF_INET : AF_INET6;
      if (wanted.ndm_family != AF_UNSPEC && wanted.ndm_family != body.ndm_family) continue;
      body.ndm_ifindex = static_cast<int>(i.index);
      body.ndm_state = NudState(n.state);
      body.ndm_type = RTN_UNICAST;
      MessageBuilder m(RTM_NEWNEIGH, NLM_F_MULTI, request.header.nlmsg_seq, socket.port(), body);
      m.Put(NDA_DST, n.ip.wire(), n.ip.wire_size());
      if (n.state != net::Neighbour::State::kIncomplete && n.state != net::Neighbour::State::kFailed)
        m.Put(NDA_LLADDR, n.hardware.data(), n.hardware.size());
      all.push_back(m.Finish());
    }
  }
  socket.AnswerDump(request, std::move(all));
  return OkResult();
}

Result<void> EmptyDump(NetlinkSocket& socket, const NetlinkRequest& request) {
  if (!request.IsDump()) return Errno(EOPNOTSUPP);
  socket.AnswerDump(request, {});
  return OkResult();
}

struct Handler {
  uint16_t type;
  Result<void> (*handle)(NetlinkSocket&, const NetlinkRequest&);
};
constexpr Handler kHandlers[] = {
    {RTM_GETLINK, &GetLink},       {RTM_NEWLINK, &SetLink},        {RTM_SETLINK, &SetLink},
    {RTM_DELLINK, &DeleteLink},    {RTM_GETADDR, &GetAddress},     {RTM_NEWADDR, &ChangeAddress},
    {RTM_DELADDR, &ChangeAddress}, {RTM_GETROUTE, &GetRoute},      {RTM_NEWROUTE, &ChangeRoute},
    {RTM_DELROUTE, &ChangeRoute},  {RTM_GETRULE, &GetRules},       {RTM_GETNEIGH, &GetNeighbours},
    {RTM_GETQDISC, &EmptyDump},    {RTM_GETADDRLABEL, &EmptyDump}, {RTM_GETNETCONF, &EmptyDump},
    {RTM_GETNEXTHOP, &EmptyDump},  {RTM_GETMULTICAST, &EmptyDump}, {RTM_GETNSID, &GetNamespaceNumber},
};

}  // namespace

Result<void> HandleRoute(NetlinkSocket& socket, const NetlinkRequest& request) {
  // Types come in fours: NEW, DEL, GET, SET.
  const bool reads = (request.header.nlmsg_type & 3) == 2;
  if (!reads && !socket.HasNetCapability(CAP_NET_ADMIN)) return Errno(EPERM);
  for (const Handler& h : kHandlers) {
    if (h.type == request.header.nlmsg_type) return h.handle(socket, request);
  }
  return Errno(EOPNOTSUPP);
}

}  // namespace sentry::socket
