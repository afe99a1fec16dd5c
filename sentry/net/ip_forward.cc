// SPDX-License-Identifier: Apache-2.0
// Packets for others are passed on (RFC 1812, 5.2 and 5.3; RFC 8200).
#include <linux/icmp.h>
#include <linux/icmpv6.h>
#include <netinet/in.h>
#include <string.h>

#include <algorithm>

#include "sentry/net/checksum.h"
#include "sentry/net/stack.h"

namespace sentry::net {
namespace {

constexpr size_t kV6Header = 40;
constexpr uint16_t kDontFragment = 0x4000, kMoreFragments = 0x2000, kOffsetMask = 0x1fff;

uint16_t Get16(const uint8_t* p) { return static_cast<uint16_t>(p[0] << 8 | p[1]); }
void Put16(uint8_t* p, size_t v) {
  p[0] = static_cast<uint8_t>(v >> 8);
  p[1] = static_cast<uint8_t>(v);
}

void SetHeaderChecksum(uint8_t* h, size_t header) {
  h[10] = h[11] = 0;
  const uint16_t sum = ChecksumOf(h, header);
  memcpy(h + 10, &sum, 2);
}

// The transport's checksum of a packet at its IP header of `header` bytes.
void SetTransportChecksum(Packet& packet, size_t header) {
  const size_t at = packet.protocol == IPPROTO_TCP ? 16 : 6;
  if (packet.protocol != IPPROTO_TCP && packet.protocol != IPPROTO_UDP) return;
  if (!packet.Front(header + at + 2)) return;
  packet.network_begin = packet.begin;
  packet.Consume(header);
  uint8_t* field = packet.head + packet.begin + at;
  field[0] = field[1] = 0;
  Checksum sum;
  sum.AddPseudoHeader(packet.source, packet.destination, packet.protocol, packet.size());
  sum.Add(packet);
  uint16_t value = sum.Finish();
  if (value == 0 && packet.protocol == IPPROTO_UDP) value = 0xffff;
  memcpy(field, &value, 2);
  packet.begin = packet.network_begin;
}

size_t HeaderSize(const Packet& packet) { return packet.is_v4 ? (packet.head[packet.begin] & 0xf) * 4u : kV6Header; }

}  // namespace

void Stack::Forward(PacketPtr packet, const Config& config) {
  const bool v4 = packet->is_v4;
  IpStatistics& stats = ip_statistics(v4);
  // What means this link or nobody stays here (RFC 1812, 5.3.7; RFC 4291, 2.5.6).
  const IpAddress &from = packet->source, &to = packet->destination;
  if (from.IsAny() || to.IsAny() || from.IsLinkLocalV6() || to.IsLinkLocalV6() || from.IsLoopback())
    return Count(stats.in_address_errors);
  if (packet->ttl <= 1) {
    Count(stats.in_header_errors);
    return SendIcmpError(*packet, static_cast<uint8_t>(v4 ? ICMP_TIME_EXCEEDED : ICMPV6_TIME_EXCEED), 0);
  }
  auto path = config.Lookup(to, from, 0);
  if (!path.ok()) {
    Count(stats.in_no_routes);
    const bool prohibited = path.error() == Errno(EACCES);
    if (path.error() == Errno(EINVAL)) return;  // a black hole
    if (v4) return SendIcmpError(*packet, ICMP_DEST_UNREACH, prohibited ? ICMP_PKT_FILTERED : ICMP_NET_UNREACH);
    return SendIcmpError(*packet, ICMPV6_DEST_UNREACH, prohibited ? ICMPV6_ADM_PROHIBITED : ICMPV6_NOROUTE);
  }
  const Interface* out = config.Find(path->interface);
  if (!out || path->local || path->broadcast || path->multicast) return Count(stats.in_address_errors);
  uint8_t* h = packet->head + packet->begin;
  const bool joined = packet->segment_size && packet->protocol == IPPROTO_TCP;
  const size_t size = joined ? HeaderSize(*packet) + packet->segment_size : packet->size();
  if (size > path->mtu) {
    if (!v4) return SendIcmpError(*packet, ICMPV6_PKT_TOOBIG, 0, path->mtu);
    if (Get16(h + 6) & kDontFragment) {
      Count(stats.fragment_fails);
      return SendIcmpError(*packet, ICMP_DEST_UNREACH, ICMP_FRAG_NEEDED, path->mtu);
    }
  }
  Count(stats.forwarded);
  if (v4) {
    --h[8];
    SetHeaderChecksum(h, HeaderSize(*packet));
  } else {
    --h[7];
  }
  if (joined) return ForwardSegments(std::move(packet), *path, *out);
  const bool whole = !v4 || !(Get16(h + 6) & (kMoreFragments | kOffsetMask));
  if (packet->partial_checksum && whole) SetTransportChecksum(*packet, HeaderSize(*packet));
  packet->partial_checksum = false;
  if (!v4) {
    out->link->Transmit(std::move(packet), path->next_hop);
    return;
  }
  if (size > path->mtu) return ForwardInPieces(std::move(packet), *path, *out);
  out->link->Transmit(std::move(packet), path->next_hop);
}

// What a device of the host's joined is taken apart again: it is not for us to know how large the next link's are.
void Stack::ForwardSegments(PacketPtr packet, const Path& path, const Interface& out) {
  constexpr uint8_t kFin = 1, kPush = 8, kReduced = 0x80;
  const size_t network = HeaderSize(*packet);
  const uint8_t* h = packet->Front(network + 20);
  if (!h) return;
  const size_t header = network + (h[network + 12] >> 4) * 4u;
  if (header < network + 20 || !(h = packet->Front(header)) || header > sizeof(uint8_t[120])) return;
  uint8_t headers[120];
  memcpy(headers, h, header);
  const size_t piece = packet->segment_size;
  uint32_t sequence;
  memcpy(&sequence, headers + network + 4, 4);
  sequence = ntohl(sequence);
  uint16_t id = Get16(headers + 4);
  const uint8_t flags = headers[network + 13];
  packet->Consume(header);
  Buffer all = packet->TakePayload();
  for (bool first = true; first || !all.empty(); first = false) {
    auto part = std::make_unique<Packet>();
    part->payload = all.TakeFront(std::min(piece, all.size()));
    const size_t length = part->payload.size();
    uint8_t* to = part->Push(header);
    memcpy(to, headers, header);
    const uint32_t at = htonl(sequence);
    memcpy(to + network + 4, &at, 4);
    sequence += static_cast<uint32_t>(length);
    to[network + 13] = static_cast<uint8_t>(flags & ~(all.empty() ? 0 : kFin | kPush) & ~(first ? 0 : kReduced));
    part->source = packet->source;
    part->destination = packet->destination;
    part->protocol = packet->protocol;
    part->interface = path.interface;
    part->is_v4 = packet->is_v4;
    part->hops = packet->hops;
    if (part->is_v4) {
      Put16(to + 2, header + length);
      Put16(to + 4, id++);
      SetHeaderChecksum(to, network);
    } else {
      Put16(to + 4, header - kV6Header + length);
    }
    SetTransportChecksum(*part, network);
    out.link->Transmit(std::move(part), path.next_hop);
  }
}

// The packet may be a piece itself. Options go with all pieces, also those that need to be in the first one only.
void Stack::ForwardInPieces(PacketPtr packet, const Path& path, const Interface& out) {
  uint8_t header[60];
  const size_t header_size = HeaderSize(*packet);
  memcpy(header, packet->head + packet->begin, header_size);
  if (path.mtu < header_size + 8) return Count(statistics_.ip4.fragment_fails);
  const size_t piece = (path.mtu - header_size) & ~size_t{7};
  const uint16_t field = Get16(header + 6);
  const IpAddress source = packet->source, destination = packet->destination;
  const uint8_t hops = packet->hops;
  packet->Consume(header_size);
  Buffer all = packet->TakePayload();
  size_t offset = (field & kOffsetMask) * 8u;
  while (!all.empty()) {
    auto part = std::make_unique<Packet>();
    part->payload = all.TakeFront(std::min(piece, all.size()));
    const size_t length = part->payload.size();
    uint8_t* h = part->Push(header_size);
    memcpy(h, header, header_size);
    Put16(h + 2, header_size + length);
    Put16(h + 6, offset / 8 | ((field & kMoreFragments) || !all.empty() ? kMoreFragments : 0));
    SetHeaderChecksum(h, header_size);
    part->source = source;
    part->destination = destination;
    part->interface = path.interface;
    part->network_begin = part->begin;
    part->is_v4 = true;
    part->hops = hops;
    Count(statistics_.ip4.fragment_creates);
    out.link->Transmit(std::move(part), path.next_hop);
    offset += length;
  }
  Count(statistics_.ip4.fragment_oks);
}

}  // namespace sentry::net
