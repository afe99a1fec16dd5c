// SPDX-License-Identifier: Apache-2.0
#include "sentry/net/loopback.h"

#include <linux/if_arp.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <string.h>

#include "sentry/net/stack.h"

namespace sentry::net {

LoopbackLink::LoopbackLink(Stack& stack) : stack_(stack) {
  for (auto& shard : shards_) {
    shard = MakeRef<Shard>();
    shard->set_stack(&stack);
  }
}

bool LoopbackLink::Shard::Push(PacketPtr packet) {
  MutexLock lock(mu_);
  if (queue_.size() >= kMaxQueue) return false;
  queue_.PushBack(std::move(packet));
  return true;
}

bool LoopbackLink::Shard::Run() {
  // How many packets before what else is deferred gets its turn.
  constexpr int kBudget = 16;
  mu_.Lock();
  if (busy_) {
    mu_.Unlock();
    return false;
  }
  busy_ = true;
  for (int i = 0; i < kBudget; ++i) {
    PacketPtr packet = queue_.PopFront();
    if (!packet) break;
    mu_.Unlock();
    const uint32_t interface = packet->interface;
    stack_->Receive(interface, std::move(packet));
    mu_.Lock();
  }
  busy_ = false;
  const bool more = !queue_.empty();
  mu_.Unlock();
  return more;
}

void LoopbackLink::Transmit(PacketPtr packet, const IpAddress&) {
  const size_t size = packet->size();
  Count(statistics_.tx_packets);
  Count(statistics_.tx_bytes, size);
  Count(statistics_.rx_packets);
  Count(statistics_.rx_bytes, size);
  if (stack_.has_taps()) {
    const uint16_t protocol = packet->is_v4 ? ETH_P_IP : ETH_P_IPV6;
    uint8_t header[14] = {};
    header[12] = static_cast<uint8_t>(protocol >> 8);
    header[13] = static_cast<uint8_t>(protocol);
    for (uint8_t type : {PACKET_OUTGOING, PACKET_HOST}) {
      const FrameInfo info = {packet->interface, protocol, type, ARPHRD_LOOPBACK};
      stack_.TellTaps(info, header, *packet);
    }
  }
  Queue(std::move(packet));
}

bool LoopbackLink::SendFrame(std::span<const uint8_t> header, PacketPtr packet) {
  const auto protocol = static_cast<uint16_t>(header[12] << 8 | header[13]);
  const FrameInfo info = {packet->interface, protocol, PACKET_HOST, ARPHRD_LOOPBACK};
  stack_.TellTaps(info, header, *packet);
  const size_t size = packet->size() + header.size();
  Count(statistics_.tx_packets);
  Count(statistics_.tx_bytes, size);
  Count(statistics_.rx_packets);
  Count(statistics_.rx_bytes, size);
  // Others than these are for packet sockets alone.
  packet->is_v4 = protocol == ETH_P_IP;
  const uint8_t* first = packet->Front(1);
  if (!first || (!packet->is_v4 && protocol != ETH_P_IPV6) || (*first >> 4 == 4) != packet->is_v4) return true;
  Queue(std::move(packet));
  return true;
}

void LoopbackLink::Queue(PacketPtr packet) {
  uint64_t hash = packet->source.Hash() * 3 ^ packet->destination.Hash();
  const size_t ports = packet->begin + (packet->is_v4 ? 20u : 40u);
  if (ports + 4 <= packet->end && (packet->protocol == 6 || packet->protocol == 17)) {
    uint32_t both;
    memcpy(&both, packet->head + ports, 4);
    hash ^= both * 0x9e3779b97f4a7c15u;
  }
  hash ^= hash >> 32;
  hash ^= hash >> 16;
  const RefPtr<Shard>& shard = shards_[(hash * 0x9e3779b97f4a7c15u >> 40) % kShards];
  if (!shard->Push(std::move(packet))) {
    Count(statistics_.rx_dropped);
    return;
  }
  DeferTask(shard);
}

}  // namespace sentry::net
