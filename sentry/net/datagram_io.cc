// SPDX-License-Identifier: Apache-2.0
// Messages through datagram endpoints (RFC 768, RFC 3828; raw(7), icmp(7)).
#include <errno.h>
#include <netinet/in.h>
#include <linux/icmp.h>
#include <linux/icmpv6.h>
#include <string.h>
#include <sys/epoll.h>

#include <algorithm>
#include <vector>

#include "sentry/net/checksum.h"
#include "sentry/net/datagram.h"

namespace sentry::net {
namespace {

constexpr size_t kUdpHeader = 8, kIcmpHeader = 8, kV4Header = 20;
constexpr size_t kMaxIp = 65535;
// What a queued message costs beside its data.
constexpr size_t kOverhead = 576;

uint16_t Get16(const uint8_t* p) { return static_cast<uint16_t>(p[0] << 8 | p[1]); }
void Put16(uint8_t* p, uint32_t v) {
  p[0] = static_cast<uint8_t>(v >> 8);
  p[1] = static_cast<uint8_t>(v);
}

// Of a packet's first `length` bytes from its front on.
void AddFront(Checksum& sum, const Packet& packet, size_t length) {
  if (length >= packet.size()) return sum.Add(packet);
  std::vector<uint8_t> front(length);
  packet.CopyTo(front.data(), length);
  sum.Add(front.data(), length);
}

}  // namespace

Result<Path> DatagramEndpoint::RouteLocked(const SocketAddress& to, const SendOptions& options) {
  const bool v4 = to.ip.IsV4();
  uint32_t interface = ip().device;
  if (options.interface) {
    if (interface && interface != options.interface) return Errno(EINVAL);
    interface = options.interface;
  }
  if (!interface && to.ip.IsLinkLocalV6() && to.scope) interface = to.scope;
  if (!interface && to.ip.IsMulticast()) interface = v4 ? ip().multicast_interface : ip().multicast_interface6;
  IpAddress source = options.source.value_or(user_.address);
  if (source.IsAny() || source.IsV4() != v4 || source.IsMulticast()) source = IpAddress::Any(v4);
  std::shared_ptr<const Config> config = stack().config();
  if (options.source && !source.IsAny() && !config->IsLocal(source) && !ip().free_bind && !ip().transparent)
    return Errno(v4 ? ENETUNREACH : EINVAL);
  auto path = config->Lookup(to.ip, source, interface);
  if (!path.ok()) Count(stack().ip_statistics(v4).out_no_routes);
  return path;
}

void DatagramEndpoint::AddHeader(Packet& packet, const SocketAddress& to, uint16_t port, bool checksum) {
  if (kind_ == Kind::kUdp) {
    const size_t length = packet.size() + kUdpHeader;
    uint8_t* h = packet.Push(kUdpHeader);
    Put16(h, port);
    Put16(h + 2, to.port);
    size_t covered = length;
    if (is_lite()) {
      const int wanted = send_coverage;
      if (wanted > 0) covered = std::min(length, static_cast<size_t>(wanted));
      Put16(h + 4, static_cast<uint32_t>(wanted == 0 ? 0 : covered));
    } else {
      Put16(h + 4, static_cast<uint32_t>(length));
    }
    Put16(h + 6, 0);
    if (!checksum) return;
    Checksum sum;
    sum.AddPseudoHeader(packet.source, packet.destination, static_cast<uint8_t>(protocol_), length);
    AddFront(sum, packet, covered);
    uint16_t value = sum.Finish();
    if (value == 0) value = 0xffff;  // 0 is "none"
    memcpy(h + 6, &value, 2);
    return;
  }
  const bool v6 = !packet.destination.IsV4();
  if (kind_ == Kind::kRaw) {
    // ICMPv6's checksum is always the kernel's; of others where IPV6_CHECKSUM says.
    int offset = checksum_offset;
    if (v6 && protocol_ == IPPROTO_ICMPV6) offset = 2;
    if (!v6 || offset < 0 || packet.size() < static_cast<size_t>(offset) + 2) return;
    uint8_t* h = const_cast<uint8_t*>(packet.Front(static_cast<size_t>(offset) + 2));
    if (!h) return;
    memset(h + offset, 0, 2);
    Checksum sum;
    sum.AddPseudoHeader(packet.source, packet.destination, static_cast<uint8_t>(protocol_), packet.size());
    sum.Add(packet);
    const uint16_t value = sum.Finish();
    memcpy(h + offset, &value, 2);
    return;
  }
  // A ping: the id is the port, the checksum ours; the rest is the guest's.
  uint8_t* h = const_cast<uint8_t*>(packet.Front(kIcmpHeader));
  Put16(h + 2, 0);
  Put16(h + 4, port);
  Checksum sum;
  if (v6) sum.AddPseudoHeader(packet.source, packet.destination, IPPROTO_ICMPV6, packet.size());
  sum.Add(packet);
  const uint16_t value = sum.Finish();
  memcpy(h + 2, &value, 2);
}

Result<size_t> DatagramEndpoint::Send(Buffer data, const SendOptions& options, const BindOptions& bind) {
  const size_t length = data.size();
  auto packet = std::make_unique<Packet>();
  SocketAddress to;
  Path path;
  OutputOptions output;
  Section section(mu_);
  if (send_shutdown_) return Errno(EPIPE);
  if (int error = TakeErrorLocked()) return Errno(error);
  if (options.to) {
    to = *options.to;
  } else {
    if (!remote_) return Errno(EDESTADDRREQ);
    to = *remote_;
  }
  if (to.ip.IsAny()) to.ip = to.ip.IsV4() ? IpAddress::LoopbackV4() : IpAddress::LoopbackV6();
  const bool v4 = to.ip.IsV4();
  if (v4 && is_v6() && ip().v6_only) return Errno(ENETUNREACH);
  // A v6 socket bound to a v6 address can't speak IPv4.
  if (v4 && is_v6() && !user_.address.IsV4() && !user_.address.IsAny()) return Errno(ENETUNREACH);
  if (!v4 && user_.address.IsV4()) return Errno(is_v6() ? ENETUNREACH : EAFNOSUPPORT);
  if (kind_ == Kind::kUdp && to.port == 0) return Errno(EINVAL);
  const bool included = kind_ == Kind::kRaw && v4 && (ip().header_included || protocol_ == IPPROTO_RAW);
  const size_t headers = (kind_ == Kind::kUdp ? kUdpHeader : 0) + (included ? 0 : kV4Header);
  if (length + (v4 ? headers : kind_ == Kind::kUdp ? kUdpHeader : 0) > kMaxIp) return Errno(EMSGSIZE);
  if (kind_ == Kind::kPing) {
    uint8_t type;
    if (length < kIcmpHeader) return Errno(EINVAL);
    data.CopyTo(0, &type, 1);
    if (type != (v4 ? ICMP_ECHO : ICMPV6_ECHO_REQUEST)) return Errno(EINVAL);
  }
  path = TRY(RouteLocked(to, options));
  if (path.broadcast && !ip().broadcast) return Errno(EACCES);
  TRY(AutoBindLocked(bind));

  const int discover = v4 ? ip().mtu_discover : ip().mtu_discover6;
  // DO and PROBE never fragment; WANT does for what is larger than the MTU.
  const bool never = discover == IP_PMTUDISC_DO || discover == IP_PMTUDISC_PROBE;
  if (never && length + (v4 ? headers : 40 + headers - kV4Header) > path.mtu) return Errno(EMSGSIZE);
  if (included) {
    TRY(SendIncluded(std::move(data), path, to));
    return length;
  }
  packet->payload = std::move(data);
  packet->source = path.source;
  packet->destination = to.ip;
  packet->trusted_checksums = path.local && kind_ == Kind::kUdp && !is_lite();
  output.protocol = static_cast<uint8_t>(protocol_);
  output.ttl = options.ttl >= 0 ? static_cast<uint8_t>(options.ttl) : TtlFor(to.ip);
  output.traffic_class =
      options.traffic_class >= 0 ? static_cast<uint8_t>(options.traffic_class) : TrafficClassFor(to.ip);
  output.dont_fragment = v4 && length + headers <= path.mtu && discover != IP_PMTUDISC_DONT;
  output.multicast_loop = v4 ? ip().multicast_loop : ip().multicast_loop6;
  AddHeader(*packet, to, user_.port, !packet->trusted_checksums);
  if (kind_ == Kind::kUdp) Count(stack().udp_statistics(v4, is_lite()).out_datagrams);
  TRY(stack().Send(std::move(packet), path, output));
  return length;
}

// raw(7): what of the header is the guest's and what is filled in.
Result<void> DatagramEndpoint::SendIncluded(Buffer data, Path path, const SocketAddress& to) {
  if (data.size() < kV4Header) return Errno(EINVAL);
  if (data.size() > path.mtu) return Errno(EMSGSIZE);
  auto packet = std::make_unique<Packet>();
  const size_t length = data.size();
  uint8_t first;
  data.CopyTo(0, &first, 1);
  const size_t header = (first & 0xf) * 4u;
  if (header < kV4Header || header > length) return Errno(EINVAL);
  uint8_t* h = packet->Push(header);
  data.CopyTo(0, h, header);
  data.TrimFront(header);
  packet->payload = std::move(data);
  Put16(h + 2, static_cast<uint32_t>(length));
  if (memcmp(h + 12, "\0\0\0\0", 4) == 0) memcpy(h + 12, path.source.v4_bytes(), 4);
  if (Get16(h + 4) == 0) Put16(h + 4, static_cast<uint32_t>(stack().environment().Random() & 0xffff));
  Put16(h + 10, 0);
  const uint16_t sum = ChecksumOf(h, header);
  memcpy(h + 10, &sum, 2);
  packet->is_v4 = true;
  packet->source = IpAddress::V4Bytes(h + 12);
  packet->destination = IpAddress::V4Bytes(h + 16);
  packet->protocol = h[9];
  packet->network_begin = packet->begin;
  return stack().SendRaw(std::move(packet), path);
}

void DatagramEndpoint::set_filter(RefPtr<Filter> filter) {
  MutexLock lock(mu_);
  std::swap(filter_, filter);
}

bool DatagramEndpoint::has_filter() const {
  MutexLock lock(mu_);
  return filter_ != nullptr;
}

void DatagramEndpoint::Deliver(const Packet& packet, Buffer data, const SocketAddress& from, uint16_t to_port,
                               size_t data_at, size_t header) {
  Datagram d;
  d.from = from;
  if (from.ip.IsLinkLocalV6()) d.from.scope = packet.interface;
  d.to = packet.destination;
  d.to_port = to_port;
  d.interface = packet.interface;
  d.ttl = packet.ttl;
  d.traffic_class = packet.traffic_class;
  d.received_ns = ip().timestamp ? stack().environment().RealtimeNs() : 0;
  UdpStatistics& stats = stack().udp_statistics(packet.is_v4, is_lite());
  Section section(mu_);
  if (closed_) return;
  if (filter_) {
    const uint32_t kept = filter_->Run({packet, data_at - header, data_at, data});
    if (kept == 0) {
      drops_.fetch_add(1, std::memory_order_relaxed);
      if (kind_ == Kind::kUdp) Count(stats.in_errors);
      return;
    }
    const size_t wanted = std::max<size_t>(kept, header) - header;
    if (wanted < data.size()) data.TrimTo(wanted);
  }
  d.charge = data.truesize() + kOverhead;
  d.data = std::move(data);
  // One message fits always.
  if (charged_ && charged_ + d.charge > receive_limit_.load(std::memory_order_relaxed)) {
    drops_.fetch_add(1, std::memory_order_relaxed);
    if (kind_ == Kind::kUdp) {
      Count(stats.in_errors);
      Count(stats.receive_buffer_errors);
    }
    return;
  }
  if (kind_ == Kind::kUdp) Count(stats.in_datagrams);
  charged_ += d.charge;
  queue_.push_back(std::move(d));
  DeferEvents(observer_, EPOLLIN | EPOLLRDNORM | EPOLLRDBAND);
}

Result<Datagram> DatagramEndpoint::Receive(bool peek) {
  MutexLock lock(mu_);
  if (int error = TakeErrorLocked()) return Errno(error);
  if (queue_.empty()) return Errno(EAGAIN);
  Datagram& first = queue_.front();
  if (peek) {
    Datagram copy;
    copy.data = first.data.Share(0, first.data.size());
    copy.from = first.from;
    copy.to = first.to;
    copy.to_port = first.to_port;
    copy.interface = first.interface;
    copy.ttl = first.ttl;
    copy.traffic_class = first.traffic_class;
    if (!first.received_ns) first.received_ns = stack().environment().RealtimeNs();
    copy.received_ns = first.received_ns;
    return copy;
  }
  Datagram taken = std::move(first);
  if (!taken.received_ns && ip().timestamp) taken.received_ns = stack().environment().RealtimeNs();
  charged_ -= taken.charge;
  queue_.pop_front();
  return taken;
}

bool DatagramEndpoint::ReceiveRaw(const Packet& packet) {
  if (protocol_ != packet.protocol) return false;
  const bool v4 = packet.is_v4;
  {
    MutexLock lock(mu_);
    if (closed_) return false;
    if (!user_.address.IsAny() && user_.address != packet.destination) return false;
    if (remote_ && remote_->ip != packet.source) return false;
    if (user_.device && user_.device != packet.interface) return false;
    if ((v4 && protocol_ == IPPROTO_ICMP) || (!v4 && protocol_ == IPPROTO_ICMPV6)) {
      uint8_t type = 0;
      if (packet.size() == 0) return true;
      packet.CopyTo(&type, 1);
      if (v4 ? type < 32 && (icmp_filter_[0] >> type & 1) : (icmp_filter_[type / 32] >> type % 32 & 1)) return true;
    }
  }
  // IPv4 raw sockets see the IP header, IPv6 ones don't.
  Buffer data;
  const size_t from = v4 ? packet.network_begin : packet.begin;
  data = Buffer::Copy(packet.head + from, packet.end - from);
  data.Append(packet.payload.Share(0, packet.payload.size()));
  Deliver(packet, std::move(data), SocketAddress{packet.source, 0}, 0, from, 0);
  return true;
}

namespace {

bool IsCoveredEnough(const DatagramEndpoint& endpoint, size_t covered, size_t length) {
  const int wanted = endpoint.receive_coverage;
  return covered == length || wanted < 0 || (wanted > 0 && covered >= static_cast<size_t>(wanted));
}

}  // namespace

void ReceiveUdp(Stack& stack, PacketPtr packet) {
  const bool v4 = packet->is_v4;
  const bool lite = packet->protocol == IPPROTO_UDPLITE;
  UdpStatistics& stats = stack.udp_statistics(v4, lite);
  PortTable& ports = lite ? stack.udplite_ports() : stack.udp_ports();
  const uint8_t* h = packet->Front(kUdpHeader);
  if (!h) return Count(stats.in_errors);
  // UDP-Lite has in its place how much the checksum covers; 0: everything.
  size_t length = Get16(h + 4), covered = length;
  if (lite && covered == 0) covered = packet->size();
  if (covered < kUdpHeader || covered > packet->size()) return Count(stats.in_errors);
  if (lite)
    length = packet->size();
  else
    packet->TrimTo(length);
  // IPv6 has no "no checksum" (RFC 8200, 8.1), nor has UDP-Lite.
  const bool has_sum = h[6] || h[7];
  if (!packet->trusted_checksums && (has_sum || !v4 || lite)) {
    Checksum sum;
    sum.AddPseudoHeader(packet->source, packet->destination, packet->protocol, length);
    AddFront(sum, *packet, covered);
    if (!has_sum || sum.Finish() != 0) {
      Count(stats.in_checksum_errors);
      return Count(stats.in_errors);
    }
  }
  const SocketAddress from{packet->source, Get16(h), packet->source.IsLinkLocalV6() ? packet->interface : 0};
  const uint16_t port = Get16(h + 2);
  if (packet->broadcast) {
    packet->Consume(kUdpHeader);
    for (const RefPtr<Endpoint>& found : ports.FindAll(packet->destination, port, from)) {
      auto& endpoint = static_cast<DatagramEndpoint&>(*found);
      if (packet->destination.IsMulticast() && !endpoint.IsMember(packet->destination, packet->interface)) continue;
      if (!IsCoveredEnough(endpoint, covered, length)) continue;
      Buffer data = Buffer::Copy(packet->head + packet->begin, packet->header_size());
      data.Append(packet->payload.Share(0, packet->payload.size()));
      endpoint.Deliver(*packet, std::move(data), from, port, packet->begin, kUdpHeader);
    }
    return;
  }
  if (UdpService* service = lite ? nullptr : stack.FindUdpService(packet->destination, port)) {
    packet->Consume(kUdpHeader);
    service->Receive(from, packet->TakePayload());
    return;
  }
  const uint64_t hash = FourTuple{packet->destination, packet->source, port, from.port}.Hash(stack.hash_secret());
  RefPtr<Endpoint> endpoint = ports.Find(packet->destination, port, from, packet->interface, false, hash);
  if (!endpoint) {
    Count(stats.no_ports);
    stack.SendIcmpError(*packet, v4 ? ICMP_DEST_UNREACH : ICMPV6_DEST_UNREACH,
                        v4 ? ICMP_PORT_UNREACH : ICMPV6_PORT_UNREACH);
    return;
  }
  if (!IsCoveredEnough(static_cast<DatagramEndpoint&>(*endpoint), covered, length)) return Count(stats.in_errors);
  packet->Consume(kUdpHeader);
  const size_t data_at = packet->begin;
  Buffer data = packet->TakePayload();
  static_cast<DatagramEndpoint&>(*endpoint).Deliver(*packet, std::move(data), from, port, data_at, kUdpHeader);
}

Result<void> Stack::SendUdp(const SocketAddress& from, const SocketAddress& to, Buffer data) {
  const Path path = TRY(config()->Lookup(to.ip, from.ip, to.scope));
  auto packet = std::make_unique<Packet>();
  packet->payload = std::move(data);
  packet->source = path.source;
  packet->destination = to.ip;
  const size_t length = packet->size() + kUdpHeader;
  if (length > 65535) return Errno(EMSGSIZE);
  uint8_t* h = packet->Push(kUdpHeader);
  Put16(h, from.port);
  Put16(h + 2, to.port);
  Put16(h + 4, static_cast<uint32_t>(length));
  Put16(h + 6, 0);
  Checksum sum;
  sum.AddPseudoHeader(packet->source, packet->destination, IPPROTO_UDP, length);
  sum.Add(*packet);
  // Zero would say that there is none (RFC 768).
  uint16_t value = sum.Finish();
  if (value == 0) value = 0xffff;
  memcpy(h + 6, &value, 2);
  OutputOptions output;
  output.protocol = IPPROTO_UDP;
  output.ttl = static_cast<uint8_t>(to.ip.IsV4() ? settings_.default_ttl.load() : settings_.default_hop_limit.load());
  Count(to.ip.IsV4() ? statistics_.udp4.out_datagrams : statistics_.udp6.out_datagrams);
  DeferScope scope;
  return Send(std::move(packet), path, output);
}

void ReceivePing(Stack& stack, const Packet& packet) {
  uint8_t h[kIcmpHeader];
  if (packet.size() < sizeof h) return;
  packet.CopyTo(h, sizeof h);
  const SocketAddress from{packet.source, 0};
  RefPtr<Endpoint> endpoint =
      stack.ping_ports().Find(packet.destination, Get16(h + 4), from, packet.interface, false, 0);
  if (!endpoint) return;
  Buffer data = Buffer::Copy(packet.head + packet.begin, packet.header_size());
  data.Append(packet.payload.Share(0, packet.payload.size()));
  static_cast<DatagramEndpoint&>(*endpoint).Deliver(packet, std::move(data), from, 0, packet.begin, 0);
}

}  // namespace sentry::net
