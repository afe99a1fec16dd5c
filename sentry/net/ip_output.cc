// SPDX-License-Identifier: Apache-2.0
// IP output: headers (RFC 791, RFC 8200), fragments, and the choice of the link.
#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#include <algorithm>

#include "sentry/net/checksum.h"
#include "sentry/net/loopback.h"
#include "sentry/net/stack.h"

namespace sentry::net {
namespace {

constexpr size_t kV4Header = 20, kV6Header = 40, kFragmentHeader = 8;

void Put16(uint8_t* p, uint32_t v) {
  p[0] = static_cast<uint8_t>(v >> 8);
  p[1] = static_cast<uint8_t>(v);
}

}  // namespace

// `fragment`: the field of IPv4 with flags and offset.
void Stack::PushIpHeader(Packet& packet, const Path& path, const OutputOptions& options, uint16_t id,
                         uint16_t fragment) {
  const size_t length = packet.size();
  const bool v4 = packet.destination.IsV4();
  packet.is_v4 = v4;
  packet.protocol = options.protocol;
  if (v4) {
    uint8_t* h = packet.Push(kV4Header);
    h[0] = 0x45;
    h[1] = options.traffic_class;
    Put16(h + 2, static_cast<uint32_t>(length + kV4Header));
    Put16(h + 4, id);
    Put16(h + 6, fragment);
    h[8] = options.ttl;
    h[9] = options.protocol;
    Put16(h + 10, 0);
    memcpy(h + 12, packet.source.v4_bytes(), 4);
    memcpy(h + 16, packet.destination.v4_bytes(), 4);
    const uint16_t sum = ChecksumOf(h, kV4Header);
    memcpy(h + 10, &sum, 2);
  } else {
    uint8_t* h = packet.Push(kV6Header);
    h[0] = static_cast<uint8_t>(0x60 | options.traffic_class >> 4);
    h[1] = static_cast<uint8_t>(options.traffic_class << 4 | (options.flow_label >> 16 & 0xf));
    Put16(h + 2, options.flow_label & 0xffff);
    Put16(h + 4, static_cast<uint32_t>(length));
    h[6] = options.protocol;
    h[7] = options.ttl;
    memcpy(h + 8, packet.source.v6_bytes(), 16);
    memcpy(h + 24, packet.destination.v6_bytes(), 16);
  }
  packet.network_begin = packet.begin;
}

Result<void> Stack::Send(PacketPtr packet, const Path& path, const OutputOptions& options) {
  std::shared_ptr<const Config> config = this->config();
  const Interface* out = config->Find(path.interface);
  const bool v4 = packet->destination.IsV4();
  IpStatistics& stats = ip_statistics(v4);
  if (!out || !out->IsUp()) {
    Count(stats.out_no_routes);
    return Errno(ENETUNREACH);
  }
  Count(stats.out_requests);
  Count(stats.out_octets, packet->size());
  packet->interface = path.interface;
  if (options.multicast_loop && path.multicast && !out->IsLoopback()) {
    PacketPtr copy = packet->Clone();
    PushIpHeader(*copy, path, options, static_cast<uint16_t>(next_id_.fetch_add(1, std::memory_order_relaxed)), 0);
    if (const Interface* lo = config->Loopback()) static_cast<LoopbackLink&>(*lo->link).Queue(std::move(copy));
  }
  const size_t header = v4 ? kV4Header : kV6Header;
  if (packet->size() + header > path.mtu) {
    if (options.dont_fragment) {
      Count(stats.fragment_fails);
      return Errno(EMSGSIZE);
    }
    return Fragment(std::move(packet), path, options, *out);
  }
  const uint16_t id =
      options.dont_fragment ? 0 : static_cast<uint16_t>(next_id_.fetch_add(1, std::memory_order_relaxed));
  PushIpHeader(*packet, path, options, id, options.dont_fragment ? 0x4000 : 0);
  out->link->Transmit(std::move(packet), path.next_hop);
  return OkResult();
}

Result<void> Stack::Fragment(PacketPtr packet, const Path& path, const OutputOptions& options, const Interface& out) {
  const bool v4 = packet->destination.IsV4();
  IpStatistics& stats = ip_statistics(v4);
  const size_t overhead = v4 ? kV4Header : kV6Header + kFragmentHeader;
  if (path.mtu < overhead + 8) return Errno(EMSGSIZE);
  const size_t piece = (path.mtu - overhead) & ~size_t{7};
  const IpAddress source = packet->source, destination = packet->destination;
  const uint32_t id = next_id_.fetch_add(1, std::memory_order_relaxed);
  Buffer all = packet->TakePayload();
  if (all.size() + overhead > 65535) return Errno(EMSGSIZE);
  size_t offset = 0;
  while (!all.empty()) {
    auto part = std::make_unique<Packet>();
    part->source = source;
    part->destination = destination;
    part->interface = path.interface;
    part->payload = all.TakeFront(piece);
    const size_t length = part->payload.size();
    const bool more = !all.empty();
    OutputOptions own = options;
    if (v4) {
      PushIpHeader(*part, path, own, static_cast<uint16_t>(id),
                   static_cast<uint16_t>(offset / 8 | (more ? 0x2000 : 0)));
    } else {
      uint8_t* h = part->Push(kFragmentHeader);
      h[0] = options.protocol;
      h[1] = 0;
      Put16(h + 2, static_cast<uint32_t>(offset | (more ? 1 : 0)));
      Put16(h + 4, id >> 16);
      Put16(h + 6, id & 0xffff);
      own.protocol = IPPROTO_FRAGMENT;
      PushIpHeader(*part, path, own, 0, 0);
    }
    Count(stats.fragment_creates);
    out.link->Transmit(std::move(part), path.next_hop);
    offset += length;
  }
  Count(stats.fragment_oks);
  return OkResult();
}

Result<void> Stack::SendRaw(PacketPtr packet, const Path& path) {
  std::shared_ptr<const Config> config = this->config();
  const Interface* out = config->Find(path.interface);
  if (!out || !out->IsUp()) return Errno(ENETUNREACH);
  if (packet->size() > path.mtu) return Errno(EMSGSIZE);
  packet->interface = path.interface;
  Count(ip_statistics(packet->is_v4).out_requests);
  out->link->Transmit(std::move(packet), path.next_hop);
  return OkResult();
}

// An answer from the address that was spoken to.
void Stack::Reply(const Packet& to, PacketPtr packet, uint8_t protocol) {
  std::shared_ptr<const Config> config = this->config();
  packet->destination = to.source;
  const uint32_t scope = to.source.IsLinkLocalV6() ? to.interface : 0;
  // About a packet that was for somebody else the nearest address speaks.
  const bool own = !to.broadcast && config->IsLocal(to.destination);
  auto path = config->Lookup(to.source, own ? to.destination : IpAddress::Any(to.source.IsV4()), scope);
  if (!path.ok()) return;
  packet->source = path->source;
  const bool v4 = packet->source.IsV4();
  uint8_t* h = packet->head + packet->begin;  // the ICMP header
  h[2] = h[3] = 0;
  Checksum sum;
  if (!v4) sum.AddPseudoHeader(packet->source, packet->destination, protocol, packet->size());
  sum.Add(*packet);
  const uint16_t value = sum.Finish();
  memcpy(h + 2, &value, 2);
  Count(v4 ? statistics_.icmp4.out_messages : statistics_.icmp6.out_messages);
  OutputOptions options;
  options.protocol = protocol;
  options.ttl = static_cast<uint8_t>(v4 ? settings_.default_ttl.load() : settings_.default_hop_limit.load());
  (void)Send(std::move(packet), *path, options).ok();
}

}  // namespace sentry::net
