// SPDX-License-Identifier: Apache-2.0
// ICMP (RFC 792, RFC 1122 3.2.2) and ICMPv6 (RFC 4443): echo, errors in and out.
#include <errno.h>
#include <netinet/in.h>
#include <linux/icmp.h>
#include <linux/icmpv6.h>
#include <string.h>

#include <algorithm>
#include <iterator>

#include "sentry/net/checksum.h"
#include "sentry/net/datagram.h"
#include "sentry/net/stack.h"
#include "sentry/net/tcp/tcp_table.h"

namespace sentry::net {
namespace {

constexpr size_t kIcmpHeader = 8;
constexpr uint8_t kNeighbourSolicitation = 135, kNeighbourAdvertisement = 136;
// How much of the offending packet an error carries back (RFC 1812; the minimum MTUs).
constexpr size_t kMaxQuoteV4 = 576 - 20 - kIcmpHeader, kMaxQuoteV6 = 1280 - 40 - kIcmpHeader;

uint16_t Get16(const uint8_t* p) { return static_cast<uint16_t>(p[0] << 8 | p[1]); }
uint32_t Get32(const uint8_t* p) { return uint32_t{Get16(p)} << 16 | Get16(p + 2); }

struct Meaning {
  int error;
  bool fatal;
};
// Of the codes of "destination unreachable" (icmp_err_convert of Linux).
constexpr Meaning kUnreachable[] = {
    {ENETUNREACH, false},  {EHOSTUNREACH, false}, {ENOPROTOOPT, true},  {ECONNREFUSED, true},
    {EMSGSIZE, false},     {EOPNOTSUPP, false},   {ENETUNREACH, true},  {EHOSTDOWN, true},
    {ENONET, true},        {ENETUNREACH, true},   {EHOSTUNREACH, true}, {ENETUNREACH, false},
    {EHOSTUNREACH, false}, {EHOSTUNREACH, true},  {EHOSTUNREACH, true}, {EHOSTUNREACH, true}};
constexpr Meaning kUnreachable6[] = {{ENETUNREACH, false}, {EACCES, true}, {EHOSTUNREACH, false}, {EHOSTUNREACH, false},
                                     {ECONNREFUSED, true}, {EACCES, true}, {EACCES, true}};

}  // namespace

// A thousand errors a second, fifty at once (icmp_msgs_per_sec, icmp_msgs_burst).
bool Stack::TakeIcmpToken() {
  constexpr int64_t kInterval = 1'000'000, kBurst = 50 * kInterval;
  const int64_t now = NowNs();
  MutexLock lock(icmp_mu_);
  icmp_tokens_ns_ = std::max(icmp_tokens_ns_, now - kBurst);
  if (icmp_tokens_ns_ + kInterval > now) return false;
  icmp_tokens_ns_ += kInterval;
  return true;
}

void Stack::SendIcmpError(const Packet& about, uint8_t type, uint8_t code, uint32_t extra) {
  IcmpStatistics& stats = about.is_v4 ? statistics_.icmp4 : statistics_.icmp6;
  if (about.broadcast || about.source.IsAny() || about.source.IsMulticast()) return;
  const uint8_t* network = about.head + about.network_begin;
  if (about.is_v4 && (Get16(network + 6) & 0x1fff)) return;
  std::shared_ptr<const Config> config = this->config();
  const Interface* in = config->Find(about.interface);
  if (!(in && in->IsLoopback()) && !TakeIcmpToken()) return Count(stats.out_rate_limited);
  // The packet from its network header on: what was consumed still lies in the header array.
  const size_t headers = about.end - about.network_begin;
  const size_t quote = std::min(headers + about.payload.size(), about.is_v4 ? kMaxQuoteV4 : kMaxQuoteV6);
  auto packet = std::make_unique<Packet>();
  Buffer quoted = Buffer::Copy(network, std::min(headers, quote));
  if (quote > headers) quoted.Append(about.payload.Share(0, quote - headers));
  packet->payload = std::move(quoted);
  uint8_t* h = packet->Push(kIcmpHeader);
  memset(h, 0, kIcmpHeader);
  h[0] = type;
  h[1] = code;
  extra = htonl(extra);
  memcpy(h + 4, &extra, 4);
  Count(stats.out_errors);
  if (type == static_cast<int>(about.is_v4 ? int{ICMP_DEST_UNREACH} : int{ICMPV6_DEST_UNREACH}))
    Count(stats.out_unreachables);
  Reply(about, std::move(packet), static_cast<uint8_t>(about.is_v4 ? int{IPPROTO_ICMP} : int{IPPROTO_ICMPV6}));
}

void Stack::DeliverIcmp(PacketPtr packet) {
  IcmpStatistics& stats = statistics_.icmp4;
  Count(stats.in_messages);
  const uint8_t* h = packet->Front(kIcmpHeader);
  if (!h) return Count(stats.in_errors);
  Checksum sum;
  sum.Add(*packet);
  if (sum.Finish() != 0) {
    Count(stats.in_checksum_errors);
    return Count(stats.in_errors);
  }
  const uint8_t type = h[0], code = h[1];
  switch (type) {
    case ICMP_ECHO: {
      Count(stats.in_echos);
      if (settings_.echo_ignore_all || packet->broadcast) return;
      auto answer = std::make_unique<Packet>();
      answer->payload = packet->payload.Share(0, packet->payload.size());
      const size_t size = packet->header_size();
      memcpy(answer->Push(size), h, size);
      answer->head[answer->begin] = ICMP_ECHOREPLY;
      Count(stats.out_echo_replies);
      Reply(*packet, std::move(answer), IPPROTO_ICMP);
      return;
    }
    case ICMP_ECHOREPLY:
      Count(stats.in_echo_replies);
      ReceivePing(*this, *packet);
      return;
    case ICMP_DEST_UNREACH:
    case ICMP_TIME_EXCEEDED:
    case ICMP_PARAMETERPROB: {
      IcmpError error = {.type = type, .code = code, .offender = packet->source};
      if (type == ICMP_DEST_UNREACH) {
        Count(stats.in_unreachables);
        if (code >= std::size(kUnreachable)) return;
        error.error = kUnreachable[code].error;
        error.fatal = kUnreachable[code].fatal;
        if (code == ICMP_FRAG_NEEDED) error.mtu = Get16(h + 6);
      } else {
        if (type == ICMP_TIME_EXCEEDED) Count(stats.in_time_exceeded);
        error.error = type == ICMP_TIME_EXCEEDED ? EHOSTUNREACH : EPROTO;
        error.fatal = type == ICMP_PARAMETERPROB;
      }
      packet->Consume(kIcmpHeader);
      DeliverIcmpError(*packet, error);
      return;
    }
  }
}

void Stack::DeliverIcmp6(PacketPtr packet) {
  IcmpStatistics& stats = statistics_.icmp6;
  Count(stats.in_messages);
  const uint8_t* h = packet->Front(kIcmpHeader);
  if (!h) return Count(stats.in_errors);
  Checksum sum;
  sum.AddPseudoHeader(packet->source, packet->destination, IPPROTO_ICMPV6, packet->size());
  sum.Add(*packet);
  if (sum.Finish() != 0) {
    Count(stats.in_checksum_errors);
    return Count(stats.in_errors);
  }
  const uint8_t type = h[0], code = h[1];
  switch (type) {
    case ICMPV6_ECHO_REQUEST: {
      Count(stats.in_echos);
      auto answer = std::make_unique<Packet>();
      answer->payload = packet->payload.Share(0, packet->payload.size());
      const size_t size = packet->header_size();
      memcpy(answer->Push(size), h, size);
      answer->head[answer->begin] = ICMPV6_ECHO_REPLY;
      Count(stats.out_echo_replies);
      Reply(*packet, std::move(answer), IPPROTO_ICMPV6);
      return;
    }
    case kNeighbourSolicitation:
    case kNeighbourAdvertisement:
      // Only from the link itself (RFC 4861, 7.1).
      if (packet->ttl != 255 || code != 0) return Count(stats.in_errors);
      if (const Interface* in = config()->Find(packet->interface)) in->link->ReceiveDiscovery(*packet);
      return;
    case ICMPV6_ECHO_REPLY:
      Count(stats.in_echo_replies);
      ReceivePing(*this, *packet);
      return;
    case ICMPV6_DEST_UNREACH:
    case ICMPV6_PKT_TOOBIG:
    case ICMPV6_TIME_EXCEED:
    case ICMPV6_PARAMPROB: {
      IcmpError error = {.type = type, .code = code, .is_v4 = false, .offender = packet->source};
      if (type == ICMPV6_DEST_UNREACH) {
        Count(stats.in_unreachables);
        error.error = code < std::size(kUnreachable6) ? kUnreachable6[code].error : EPROTO;
        error.fatal = code < std::size(kUnreachable6) ? kUnreachable6[code].fatal : true;
      } else if (type == ICMPV6_PKT_TOOBIG) {
        error.error = EMSGSIZE;
        error.mtu = Get32(h + 4);
      } else {
        error.error = type == ICMPV6_TIME_EXCEED ? EHOSTUNREACH : EPROTO;
        error.fatal = type == ICMPV6_PARAMPROB;
      }
      packet->Consume(kIcmpHeader);
      DeliverIcmpError(*packet, error);
      return;
    }
  }
}

// The packet starts with the offending packet's IP header, which anybody can have written.
void Stack::DeliverIcmpError(Packet& packet, IcmpError error) {
  SocketAddress local, remote;
  uint8_t protocol;
  if (error.is_v4) {
    const uint8_t* h = packet.Front(20);
    if (!h || h[0] >> 4 != 4 || (h[0] & 0xf) < 5) return;
    const size_t header = (h[0] & 0xf) * 4u;
    if (Get16(h + 6) & 0x1fff) return;
    local.ip = IpAddress::V4Bytes(h + 12);
    remote.ip = IpAddress::V4Bytes(h + 16);
    protocol = h[9];
    if (!packet.Front(header)) return;
    packet.Consume(header);
  } else {
    const uint8_t* h = packet.Front(40);
    if (!h || h[0] >> 4 != 6) return;
    local.ip = IpAddress::V6Bytes(h + 8);
    remote.ip = IpAddress::V6Bytes(h + 24);
    protocol = h[6];
    packet.Consume(40);
  }
  if (packet.size() < 8) return;
  const std::string quoted = packet.ToString();
  const auto* t = reinterpret_cast<const uint8_t*>(quoted.data());
  error.transport = t;
  error.transport_size = quoted.size();
  local.port = Get16(t);
  remote.port = Get16(t + 2);
  for (const RefPtr<DatagramEndpoint>& raw : RawEndpoints()) {
    if (raw->is_v6() != error.is_v4 && raw->protocol() == protocol) raw->OnIcmpError(error, local, remote);
  }
  switch (protocol) {
    case IPPROTO_TCP:
      tcp_->OnIcmpError(error, local, remote);
      break;
    case IPPROTO_UDP:
    case IPPROTO_UDPLITE: {
      PortTable& ports = protocol == IPPROTO_UDP ? udp_ports_ : udplite_ports_;
      if (RefPtr<Endpoint> endpoint = ports.Find(local.ip, local.port, remote, 0, false, 0))
        endpoint->OnIcmpError(error, local, remote);
      break;
    }
    case IPPROTO_ICMP:
    case IPPROTO_ICMPV6:
      local.port = Get16(t + 4);  // the echo's id
      remote.port = 0;
      if (RefPtr<Endpoint> endpoint = ping_ports_.Find(local.ip, local.port, remote, 0, false, 0))
        endpoint->OnIcmpError(error, local, remote);
      break;
  }
}

}  // namespace sentry::net
