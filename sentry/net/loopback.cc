// SPDX-License-Identifier: Apache-2.0
#include "sentry/net/loopback.h"

#include <string.h>

#include "sentry/net/stack.h"

namespace sentry::net {

LoopbackLink::LoopbackLink(Stack& stack) {
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
  Queue(std::move(packet));
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
