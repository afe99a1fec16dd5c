// SPDX-License-Identifier: Apache-2.0
// IP input: header checks, extension headers, fragments, and delivery to raw endpoints and protocols.
#include <netinet/in.h>
#include <netinet/ip6.h>
#include <netinet/ip_icmp.h>
#include <string.h>

#include "sentry/net/checksum.h"
#include "sentry/net/datagram.h"
#include "sentry/net/stack.h"
#include "sentry/net/tcp/tcp_table.h"

namespace sentry::net {
namespace {

constexpr size_t kV4Header = 20, kV6Header = 40;
constexpr int kMaxExtensions = 8;

uint16_t Get16(const uint8_t* p) { return static_cast<uint16_t>(p[0] << 8 | p[1]); }
uint32_t Get32(const uint8_t* p) { return uint32_t{Get16(p)} << 16 | Get16(p + 2); }

}  // namespace

void Stack::Receive(uint32_t interface, PacketPtr packet) {
  DeferScope scope;
  packet->interface = interface;
  const uint8_t* first = packet->Front(1);
  if (!first) return;
  packet->network_begin = packet->begin;
  switch (*first >> 4) {
    case 4:
      ReceiveV4(std::move(packet));
      break;
    case 6:
      ReceiveV6(std::move(packet));
      break;
  }
}

void Stack::ReceiveV4(PacketPtr packet) {
  IpStatistics& stats = statistics_.ip4;
  Count(stats.in_receives);
  Count(stats.in_octets, packet->size());
  const uint8_t* h = packet->Front(kV4Header);
  if (!h) return Count(stats.in_header_errors);
  const size_t header = (h[0] & 0xf) * 4u, total = Get16(h + 2);
  if (header < kV4Header || total < header || total > packet->size()) return Count(stats.in_header_errors);
  h = packet->Front(header);
  if (!h) return Count(stats.in_header_errors);
  // Front may have moved the headers to the front of the array.
  packet->network_begin = packet->begin;
  if (!packet->trusted_checksums && ChecksumOf(h, header) != 0) return Count(stats.in_header_errors);
  packet->TrimTo(total);
  packet->is_v4 = true;
  packet->traffic_class = h[1];
  packet->ttl = h[8];
  packet->protocol = h[9];
  packet->source = IpAddress::V4Bytes(h + 12);
  packet->destination = IpAddress::V4Bytes(h + 16);
  std::shared_ptr<const Config> config = this->config();
  const Interface* in = config->Find(packet->interface);
  if (!in || !in->IsUp()) return Count(stats.in_discards);
  // RFC 1122, 3.2.1.3: never a source; the loopback's stay inside.
  if (packet->source.IsMulticast() || packet->source.IsLimitedBroadcast()) return Count(stats.in_address_errors);
  if (!in->IsLoopback() && (packet->source.IsLoopback() || packet->destination.IsLoopback()))
    return Count(stats.in_address_errors);
  if (!config->IsLocal(packet->destination)) {
    packet->broadcast = packet->destination.IsMulticast() || config->IsBroadcast(packet->destination);
    if (!packet->broadcast && settings_.forwarding) return Forward(std::move(packet), *config);
    if (!packet->broadcast) return Count(stats.in_address_errors);
  }
  const uint16_t fragment = Get16(h + 6);
  const uint16_t id = Get16(h + 4);
  packet->Consume(header);
  if (fragment & 0x3fff) {
    Count(stats.reassembly_requests);
    bool bad;
    packet = reassembler_.Add(std::move(packet),
                              {.id = id, .offset = (fragment & 0x1fffu) * 8, .more = (fragment & 0x2000) != 0}, NowNs(),
                              &bad);
    if (bad) Count(stats.reassembly_fails);
    if (!packet) return;
    Count(stats.reassembly_oks);
    packet->trusted_checksums = false;
    uint8_t* whole = packet->head + packet->network_begin;
    const size_t length = packet->size() + header;
    if (length > 65535) return Count(stats.in_header_errors);
    whole[2] = static_cast<uint8_t>(length >> 8);
    whole[3] = static_cast<uint8_t>(length);
    whole[6] = whole[7] = 0;
  }
  Deliver(std::move(packet));
}

void Stack::ReceiveV6(PacketPtr packet) {
  IpStatistics& stats = statistics_.ip6;
  Count(stats.in_receives);
  Count(stats.in_octets, packet->size());
  const uint8_t* h = packet->Front(kV6Header);
  if (!h) return Count(stats.in_header_errors);
  packet->network_begin = packet->begin;
  const size_t length = Get16(h + 4);
  if (length + kV6Header > packet->size()) return Count(stats.in_header_errors);
  packet->TrimTo(length + kV6Header);
  packet->is_v4 = false;
  packet->traffic_class = static_cast<uint8_t>(Get16(h) >> 4);
  packet->ttl = h[7];
  packet->source = IpAddress::V6Bytes(h + 8);
  packet->destination = IpAddress::V6Bytes(h + 24);
  uint8_t next = h[6];
  std::shared_ptr<const Config> config = this->config();
  const Interface* in = config->Find(packet->interface);
  if (!in || !in->IsUp()) return Count(stats.in_discards);
  // Mapped addresses never travel (RFC 4942, 2.2).
  if (packet->source.IsMulticast() || packet->source.IsV4() || packet->destination.IsV4())
    return Count(stats.in_address_errors);
  if (!in->IsLoopback() && (packet->source.IsLoopback() || packet->destination.IsLoopback()))
    return Count(stats.in_address_errors);
  packet->broadcast = packet->destination.IsMulticast();
  if (!packet->broadcast && !config->IsLocal(packet->destination)) {
    packet->protocol = next;
    if (settings_.forwarding6) return Forward(std::move(packet), *config);
    return Count(stats.in_address_errors);
  }
  packet->Consume(kV6Header);

  for (int i = 0;; ++i) {
    const bool is_extension =
        next == IPPROTO_HOPOPTS || next == IPPROTO_DSTOPTS || next == IPPROTO_ROUTING || next == IPPROTO_FRAGMENT;
    if (!is_extension) break;
    const uint8_t* e = packet->Front(8);
    if (i == kMaxExtensions || !e || (next == IPPROTO_HOPOPTS && i > 0)) return Count(stats.in_header_errors);
    if (next == IPPROTO_FRAGMENT) {
      next = e[0];
      packet->protocol = next;
      const uint16_t field = Get16(e + 2);
      const uint32_t id = Get32(e + 4);
      packet->Consume(8);
      if ((field & ~6u) == 0) continue;  // an atomic fragment (RFC 6946)
      Count(stats.reassembly_requests);
      bool bad;
      packet = reassembler_.Add(std::move(packet), {.id = id, .offset = field & 0xfff8u, .more = (field & 1) != 0},
                                NowNs(), &bad);
      if (bad) Count(stats.reassembly_fails);
      if (!packet) return;
      Count(stats.reassembly_oks);
      packet->trusted_checksums = false;
      next = packet->protocol;
      continue;
    }
    const size_t size = (e[1] + 1u) * 8;
    // A routing header with segments left would have us forward (RFC 5095).
    if (next == IPPROTO_ROUTING && e[3] != 0) return Count(stats.in_header_errors);
    next = e[0];
    if (!packet->Front(size)) return Count(stats.in_header_errors);
    packet->Consume(size);
  }
  packet->protocol = next;
  if (next == IPPROTO_NONE) return;
  Deliver(std::move(packet));
}

bool Stack::DeliverRaw(const Packet& packet) {
  bool taken = false;
  for (const RefPtr<DatagramEndpoint>& endpoint : RawEndpoints()) {
    if (endpoint->is_v6() == packet.is_v4) continue;
    taken |= endpoint->ReceiveRaw(packet);
  }
  return taken;
}

void Stack::Deliver(PacketPtr packet) {
  IpStatistics& stats = ip_statistics(packet->is_v4);
  const bool raw = raw_count_.load(std::memory_order_relaxed) && DeliverRaw(*packet);
  Count(stats.in_delivers);
  switch (packet->protocol) {
    case IPPROTO_TCP:
      if (!packet->broadcast) tcp_->Receive(std::move(packet));
      return;
    case IPPROTO_UDP:
    case IPPROTO_UDPLITE:
      ReceiveUdp(*this, std::move(packet));
      return;
    case IPPROTO_ICMP:
      if (!packet->is_v4) break;
      DeliverIcmp(std::move(packet));
      return;
    case IPPROTO_ICMPV6:
      if (packet->is_v4) break;
      DeliverIcmp6(std::move(packet));
      return;
  }
  if (raw) return;
  Count(stats.in_unknown_protocols);
  if (packet->is_v4)
    SendIcmpError(*packet, ICMP_DEST_UNREACH, ICMP_PROT_UNREACH);
  else
    SendIcmpError(*packet, 4 /* parameter problem */, 1 /* next header */, 6);
}

}  // namespace sentry::net
