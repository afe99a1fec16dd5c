// SPDX-License-Identifier: Apache-2.0
#include "sentry/net/ethernet.h"

#include <linux/icmp.h>
#include <linux/icmpv6.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <netinet/in.h>
#include <string.h>

#include <algorithm>

#include "sentry/net/checksum.h"
#include "sentry/net/stack.h"

namespace sentry::net {
namespace {

constexpr size_t kEthernetHeader = 14, kArpSize = 28;
constexpr uint16_t kArpRequest = 1, kArpReply = 2;
constexpr uint8_t kSolicitation = 135, kAdvertisement = 136;
constexpr uint8_t kSourceOption = 1, kTargetOption = 2;
constexpr uint8_t kSolicitedFlag = 0x40, kOverrideFlag = 0x20;
constexpr HardwareAddress kEverybody = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};

// Linux's gc_thresh3, unres_qlen (in packets), base_reachable_time, delay_first_probe_time, retrans_time, *_solicit.
constexpr size_t kMaxNeighbours = 1024, kMaxWaiting = 101;
constexpr int64_t kReachableNs = 30'000 * kNsPerMs, kDelayNs = 5'000 * kNsPerMs, kRetransmitNs = 1'000 * kNsPerMs;
constexpr int kMaxProbes = 3;
// How long a neighbour that does not answer is not asked again.
constexpr int64_t kFailedNs = 1'000 * kNsPerMs;

uint16_t Get16(const uint8_t* p) { return static_cast<uint16_t>(p[0] << 8 | p[1]); }
void Put16(uint8_t* p, uint16_t v) {
  p[0] = static_cast<uint8_t>(v >> 8);
  p[1] = static_cast<uint8_t>(v);
}

HardwareAddress AddressAt(const uint8_t* p) {
  HardwareAddress a;
  memcpy(a.data(), p, a.size());
  return a;
}

bool IsUnicast(const HardwareAddress& a) { return !(a[0] & 1) && a != HardwareAddress{}; }

// RFC 1112, 6.4; RFC 2464, 7.
HardwareAddress MulticastAddress(const IpAddress& group) {
  const uint8_t* w = group.wire();
  if (group.IsV4()) return {0x01, 0x00, 0x5e, static_cast<uint8_t>(w[1] & 0x7f), w[2], w[3]};
  return {0x33, 0x33, w[12], w[13], w[14], w[15]};
}

IpAddress SolicitedNode(const IpAddress& ip) {
  uint8_t bytes[16] = {0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff};
  memcpy(bytes + 13, ip.v6_bytes() + 13, 3);
  return IpAddress::V6Bytes(bytes);
}

// The hardware address in an option of Neighbor Discovery; false: there is none, or the options are malformed.
bool FindOption(const uint8_t* p, size_t size, uint8_t type, HardwareAddress* found) {
  while (size >= 8) {
    const size_t length = p[1] * 8u;
    if (length == 0 || length > size) return false;
    if (p[0] == type) {
      *found = AddressAt(p + 2);
      return IsUnicast(*found);
    }
    p += length;
    size -= length;
  }
  return false;
}

}  // namespace

std::vector<Neighbour> Link::Neighbours() const { return {}; }

// What is known of the neighbours, and who waits for them. The timer is armed for the earliest deadline.
class EthernetLink::Table final : public Timed {
 public:
  struct Entry {
    HardwareAddress hardware = {};
    Neighbour::State state = Neighbour::State::kIncomplete;
    int64_t deadline_ns = kNoDeadline;  // of the state
    int64_t used_ns = 0;
    int probes = 0;
    PacketQueue waiting;
  };
  using State = Neighbour::State;

  explicit Table(EthernetLink& link) : link_(&link) {}
  void OnTimer(int64_t now_ns) override {
    RefPtr<EthernetLink> link;
    {
      MutexLock lock(link_mu_);
      if (link_ && link_->TryIncRef()) link = RefPtr<EthernetLink>::Adopt(link_);
    }
    if (link) link->OnTimer(now_ns);
  }
  void Orphan() {
    MutexLock lock(link_mu_);
    link_ = nullptr;
  }

  // The entry for an address, made if need be in the place of the one that was not used for the longest time.
  Entry& Get(const IpAddress& ip) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu) {
    auto it = entries.find(ip);
    if (it != entries.end()) return it->second;
    if (entries.size() >= kMaxNeighbours) {
      auto oldest = entries.end();
      for (auto i = entries.begin(); i != entries.end(); ++i) {
        if (i->second.state == State::kPermanent) continue;
        if (oldest == entries.end() || i->second.used_ns < oldest->second.used_ns) oldest = i;
      }
      if (oldest != entries.end()) entries.erase(oldest);
    }
    return entries[ip];
  }

  mutable Mutex mu{LockRank::kNetDevice};
  std::map<IpAddress, Entry> entries ABSL_GUARDED_BY(mu);

 private:
  Mutex link_mu_;
  EthernetLink* link_ ABSL_GUARDED_BY(link_mu_);
};

EthernetLink::EthernetLink(Stack& stack, RefPtr<FrameDevice> device, const HardwareAddress& own)
    : stack_(stack), device_(std::move(device)), own_(own), table_(MakeRef<Table>(*this)) {}

EthernetLink::~EthernetLink() { table_->Orphan(); }

void EthernetLink::ArmTimer(int64_t at_ns) {
  if (at_ns == kNoDeadline) return;
  stack_.timers().Arm(*table_, at_ns);
  // Stop, which cancels it, may have come in between.
  if (stopped_) stack_.timers().Cancel(*table_);
}

void EthernetLink::Stop() {
  stopped_ = true;
  stack_.timers().Cancel(*table_);
  table_->Orphan();
  device_->Stop(*this);
}

void EthernetLink::SendFrame(const Packet& packet, const HardwareAddress& to, uint16_t type) {
  uint8_t header[kEthernetHeader];
  memcpy(header, to.data(), 6);
  memcpy(header + 6, own_.data(), 6);
  Put16(header + 12, type);
  if (stack_.has_taps()) {
    const FrameInfo info = {.interface = interface_, .protocol = type, .type = PACKET_OUTGOING};
    stack_.TellTaps(info, header, packet);
  }
  (void)Put(header, packet);
}

bool EthernetLink::Put(std::span<const uint8_t> header, const Packet& packet) {
  if (!device_->Send(header, packet)) {
    Count(statistics_.tx_dropped);
    return false;
  }
  Count(statistics_.tx_packets);
  Count(statistics_.tx_bytes, packet.size() + kEthernetHeader);
  return true;
}

bool EthernetLink::SendFrame(std::span<const uint8_t> header, PacketPtr packet) { return Put(header, *packet); }

void EthernetLink::SendAll(PacketQueue& packets, const HardwareAddress& to) {
  while (PacketPtr packet = packets.PopFront()) SendFrame(*packet, to, packet->is_v4 ? ETH_P_IP : ETH_P_IPV6);
}

void EthernetLink::Transmit(PacketPtr packet, const IpAddress& next_hop) {
  const uint16_t type = packet->is_v4 ? ETH_P_IP : ETH_P_IPV6;
  if (next_hop.IsMulticast()) return SendFrame(*packet, MulticastAddress(next_hop), type);
  if (next_hop.IsV4() && stack_.config()->IsBroadcast(next_hop)) return SendFrame(*packet, kEverybody, type);
  HardwareAddress to;
  bool ask = false;
  int64_t timer_ns = kNoDeadline;
  {
    const int64_t now = stack_.NowNs();
    MutexLock lock(table_->mu);
    Table::Entry& entry = table_->Get(next_hop);
    entry.used_ns = now;
    using State = Neighbour::State;
    if (entry.state == State::kReachable && now >= entry.deadline_ns) entry.state = State::kStale;
    switch (entry.state) {
      case State::kStale:
        // In use: asked for after a while, unless it is heard of before.
        entry.state = State::kDelay;
        timer_ns = entry.deadline_ns = now + kDelayNs;
        [[fallthrough]];
      case State::kReachable:
      case State::kDelay:
      case State::kProbe:
      case State::kPermanent:
        to = entry.hardware;
        break;
      case State::kFailed:
        if (now < entry.deadline_ns) {
          Count(statistics_.tx_dropped);
          return;
        }
        entry.state = State::kIncomplete;
        entry.probes = 0;
        entry.deadline_ns = kNoDeadline;
        [[fallthrough]];
      case State::kIncomplete:
        if (entry.waiting.size() >= kMaxWaiting) {
          entry.waiting.PopFront();
          Count(statistics_.tx_dropped);
        }
        entry.waiting.PushBack(std::move(packet));
        if (entry.deadline_ns == kNoDeadline) {
          ask = true;
          entry.probes = 1;
          timer_ns = entry.deadline_ns = now + kRetransmitNs;
        }
        break;
    }
  }
  ArmTimer(timer_ns);
  if (packet) return SendFrame(*packet, to, type);
  if (ask) Solicit(next_hop, nullptr);
}

void EthernetLink::OnTimer(int64_t now_ns) {
  DeferScope scope;
  struct Question {
    IpAddress ip;
    HardwareAddress hardware;
    bool known;
  };
  std::vector<Question> questions;
  PacketQueue lost;
  using State = Neighbour::State;
  int64_t next = kNoDeadline;
  {
    MutexLock lock(table_->mu);
    for (auto& [ip, entry] : table_->entries) {
      const bool waits =
          entry.state == State::kIncomplete || entry.state == State::kDelay || entry.state == State::kProbe;
      if (!waits) continue;
      if (entry.deadline_ns <= now_ns) {
        if (entry.state == State::kDelay) {
          entry.state = State::kProbe;
          entry.probes = 0;
        }
        if (entry.probes >= kMaxProbes) {
          entry.state = State::kFailed;
          entry.deadline_ns = now_ns + kFailedNs;
          while (PacketPtr packet = entry.waiting.PopFront()) lost.PushBack(std::move(packet));
          continue;
        }
        ++entry.probes;
        entry.deadline_ns = now_ns + kRetransmitNs;
        questions.push_back({ip, entry.hardware, entry.state == State::kProbe});
      }
      next = std::min(next, entry.deadline_ns);
    }
  }
  ArmTimer(next);
  for (const Question& q : questions) Solicit(q.ip, q.known ? &q.hardware : nullptr);
  // Nobody is there: their senders are told, as if a router had said so.
  while (PacketPtr packet = lost.PopFront()) {
    Count(statistics_.tx_dropped);
    if (packet->is_v4) {
      stack_.SendIcmpError(*packet, ICMP_DEST_UNREACH, ICMP_HOST_UNREACH);
    } else {
      stack_.SendIcmpError(*packet, ICMPV6_DEST_UNREACH, ICMPV6_ADDR_UNREACH);
    }
  }
}

void EthernetLink::Solicit(const IpAddress& ip, const HardwareAddress* known) {
  if (!ip.IsV4()) return SendSolicitation(ip, known);
  std::shared_ptr<const Config> config = stack_.config();
  const Interface* interface = config->Find(interface_);
  if (!interface) return;
  SendArp(kArpRequest, config->SourceOn(*interface, ip), known ? *known : kEverybody, ip, {});
}

void EthernetLink::SendArp(uint16_t operation, const IpAddress& source, const HardwareAddress& to,
                           const IpAddress& target, const HardwareAddress& target_hardware) {
  Packet packet;
  uint8_t* p = packet.Push(kArpSize);
  Put16(p, 1);  // Ethernet
  Put16(p + 2, ETH_P_IP);
  p[4] = 6;
  p[5] = 4;
  Put16(p + 6, operation);
  memcpy(p + 8, own_.data(), 6);
  memcpy(p + 14, source.v4_bytes(), 4);
  memcpy(p + 18, target_hardware.data(), 6);
  memcpy(p + 24, target.v4_bytes(), 4);
  SendFrame(packet, to, ETH_P_ARP);
}

void EthernetLink::ReceiveFrame(PacketPtr frame) {
  const uint8_t* h = frame->Front(kEthernetHeader);
  if (!h) return;
  Count(statistics_.rx_packets);
  Count(statistics_.rx_bytes, frame->size());
  const bool mine = AddressAt(h) == own_, group = h[0] & 1;
  const bool to_all = AddressAt(h) == kEverybody;
  const uint16_t type = Get16(h + 12);
  frame->Consume(kEthernetHeader);
  if (stack_.has_taps()) {
    const int kind = mine ? PACKET_HOST : to_all ? PACKET_BROADCAST : group ? PACKET_MULTICAST : PACKET_OTHERHOST;
    const FrameInfo info = {.interface = interface_, .protocol = type, .type = static_cast<uint8_t>(kind)};
    stack_.TellTaps(info, {h, kEthernetHeader}, *frame);
  }
  if (!mine && !group) return;
  switch (type) {
    case ETH_P_ARP:
      return ReceiveArp(*frame);
    case ETH_P_IP:
    case ETH_P_IPV6: {
      const uint8_t* first = frame->Front(1);
      if (!first || (*first >> 4 == 4) != (type == ETH_P_IP)) return;
      stack_.Receive(interface_, std::move(frame));
      return;
    }
  }
  Count(statistics_.rx_dropped);
}

void EthernetLink::ReceiveArp(Packet& frame) {
  const uint8_t* p = frame.Front(kArpSize);
  if (!p || Get16(p) != 1 || Get16(p + 2) != ETH_P_IP || p[4] != 6 || p[5] != 4) return;
  const uint16_t operation = Get16(p + 6);
  const HardwareAddress hardware = AddressAt(p + 8);
  const IpAddress source = IpAddress::V4Bytes(p + 14), target = IpAddress::V4Bytes(p + 24);
  if ((operation != kArpRequest && operation != kArpReply) || !IsUnicast(hardware)) return;
  if (source.IsMulticast() || source.IsLimitedBroadcast() || source.IsLoopback() || target.IsLoopback()) return;
  std::shared_ptr<const Config> config = stack_.config();
  // Somebody else's use of our address is not learned.
  const bool for_us = config->InterfaceOf(target) != 0, own_source = config->InterfaceOf(source) != 0;
  if (!source.IsAny() && !own_source) Learn(source, hardware, for_us, operation == kArpReply, true);
  if (operation == kArpRequest && for_us) SendArp(kArpReply, target, hardware, source, hardware);
}

void EthernetLink::Learn(const IpAddress& ip, const HardwareAddress& hardware, bool create, bool confirmed,
                         bool replace) {
  PacketQueue ready;
  {
    const int64_t now = stack_.NowNs();
    using State = Neighbour::State;
    MutexLock lock(table_->mu);
    if (!create && !table_->entries.contains(ip)) return;
    Table::Entry& entry = table_->Get(ip);
    if (entry.state == State::kPermanent) return;
    const bool known = entry.state != State::kIncomplete && entry.state != State::kFailed;
    const bool same = known && entry.hardware == hardware;
    if (known && !same && !replace) return;
    entry.hardware = hardware;
    if (entry.used_ns == 0) entry.used_ns = now;
    if (confirmed) {
      entry.state = State::kReachable;
      entry.deadline_ns = now + kReachableNs;
    } else if (!same) {
      entry.state = State::kStale;
      entry.deadline_ns = kNoDeadline;
    }
    while (PacketPtr packet = entry.waiting.PopFront()) ready.PushBack(std::move(packet));
  }
  SendAll(ready, hardware);
}

void EthernetLink::ReceiveDiscovery(Packet& packet) {
  constexpr size_t kFixed = 24;
  const uint8_t* h = packet.Front(std::min(packet.size(), Packet::kHeaderRoom - Packet::kOutputRoom));
  const size_t size = std::min(packet.size(), Packet::kHeaderRoom - Packet::kOutputRoom);
  if (!h || size < kFixed) return;
  const uint8_t flags = h[4];
  const IpAddress target = IpAddress::V6Bytes(h + 8);
  if (target.IsMulticast()) return;
  HardwareAddress hardware;
  std::shared_ptr<const Config> config = stack_.config();
  if (h[0] == kSolicitation) {
    const Interface* in = config->Find(interface_);
    if (!in || !in->Find(target)) return;
    if (packet.source.IsAny()) {
      // Duplicate address detection of somebody else: it is taken.
      const IpAddress all_nodes = IpAddress::V6Bytes("\xff\x02\0\0\0\0\0\0\0\0\0\0\0\0\0\1");
      return SendAdvertisement(target, all_nodes, MulticastAddress(all_nodes), false);
    }
    if (!FindOption(h + kFixed, size - kFixed, kSourceOption, &hardware)) return;
    const IpAddress asking = packet.source;
    Learn(asking, hardware, true, false, true);
    return SendAdvertisement(target, asking, hardware, true);
  }
  if (config->InterfaceOf(target)) return;
  if (!FindOption(h + kFixed, size - kFixed, kTargetOption, &hardware)) return;
  Learn(target, hardware, false, flags & kSolicitedFlag, flags & kOverrideFlag);
}

namespace {

// An ICMPv6 message with its IPv6 header, hop limit 255.
void Finish(Packet& packet, const IpAddress& source, const IpAddress& destination) {
  Checksum sum;
  sum.AddPseudoHeader(source, destination, IPPROTO_ICMPV6, packet.size());
  sum.Add(packet);
  const uint16_t value = sum.Finish();
  memcpy(packet.head + packet.begin + 2, &value, 2);
  const size_t length = packet.size();
  uint8_t* h = packet.Push(40);
  memset(h, 0, 40);
  h[0] = 0x60;
  Put16(h + 4, static_cast<uint16_t>(length));
  h[6] = IPPROTO_ICMPV6;
  h[7] = 255;
  memcpy(h + 8, source.v6_bytes(), 16);
  memcpy(h + 24, destination.v6_bytes(), 16);
  packet.is_v4 = false;
}

// The fixed part and one option.
uint8_t* Message(Packet& packet, uint8_t type, const IpAddress& target, uint8_t option, const HardwareAddress& own) {
  uint8_t* h = packet.Push(32);
  memset(h, 0, 32);
  h[0] = type;
  memcpy(h + 8, target.v6_bytes(), 16);
  h[24] = option;
  h[25] = 1;
  memcpy(h + 26, own.data(), 6);
  return h;
}

}  // namespace

void EthernetLink::SendSolicitation(const IpAddress& target, const HardwareAddress* to) {
  std::shared_ptr<const Config> config = stack_.config();
  const Interface* interface = config->Find(interface_);
  if (!interface) return;
  Packet packet;
  Message(packet, kSolicitation, target, kSourceOption, own_);
  const IpAddress group = SolicitedNode(target);
  Finish(packet, config->SourceOn(*interface, target), to ? target : group);
  SendFrame(packet, to ? *to : MulticastAddress(group), ETH_P_IPV6);
}

void EthernetLink::SendAdvertisement(const IpAddress& target, const IpAddress& to, const HardwareAddress& hardware,
                                     bool solicited) {
  Packet packet;
  uint8_t* h = Message(packet, kAdvertisement, target, kTargetOption, own_);
  h[4] = static_cast<uint8_t>((solicited ? kSolicitedFlag : 0) | kOverrideFlag);
  Finish(packet, target, to);
  SendFrame(packet, hardware, ETH_P_IPV6);
}

bool EthernetLink::AddPermanent(const IpAddress& ip, const HardwareAddress& hardware) {
  MutexLock lock(table_->mu);
  if (table_->entries.size() >= kMaxNeighbours) return false;
  Table::Entry& entry = table_->entries[ip];
  entry.hardware = hardware;
  entry.state = Neighbour::State::kPermanent;
  entry.deadline_ns = kNoDeadline;
  return true;
}

std::vector<Neighbour> EthernetLink::Neighbours() const {
  std::vector<Neighbour> list;
  const int64_t now = stack_.NowNs();
  MutexLock lock(table_->mu);
  for (const auto& [ip, entry] : table_->entries) {
    Neighbour::State state = entry.state;
    if (state == Neighbour::State::kReachable && now >= entry.deadline_ns) state = Neighbour::State::kStale;
    list.push_back({ip, entry.hardware, state});
  }
  return list;
}

}  // namespace sentry::net
