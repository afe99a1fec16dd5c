// SPDX-License-Identifier: Apache-2.0
#include "sentry/net/virtual_device.h"

#include <string.h>

#include "sentry/net/bridge.h"

namespace sentry::net {

PacketPtr CopyFrame(std::span<const uint8_t> header, const Packet& packet) {
  if (packet.hops >= kMaxHops) return nullptr;
  PacketPtr frame;
  if (packet.begin >= header.size()) {
    frame = packet.Clone();
    memcpy(frame->Push(header.size()), header.data(), header.size());
  } else {
    const std::string bytes = std::string(header.begin(), header.end()) + packet.ToString();
    frame = Packet::FromBytes(bytes.data(), bytes.size());
    if (frame->size() != bytes.size()) return nullptr;  // no memory: lost
  }
  frame->hops = static_cast<uint8_t>(packet.hops + 1);
  // Whoever made it may have written anything.
  frame->trusted_checksums = false;
  return frame;
}

bool Inbox::Push(PacketPtr frame) {
  if (!is_up()) return false;
  {
    MutexLock lock(mu_);
    if (queue_.size() >= kMaxQueue) return false;
    queue_.PushBack(std::move(frame));
    if (busy_) return true;
  }
  DeferTask(RefPtr<DeferredTask>(this));
  return true;
}

bool Inbox::Run() {
  // How many frames before what else is deferred gets its turn.
  constexpr int kBudget = 16;
  mu_.Lock();
  if (busy_) {
    mu_.Unlock();
    return false;
  }
  busy_ = true;
  for (int i = 0; i < kBudget; ++i) {
    PacketPtr frame = queue_.PopFront();
    if (!frame) break;
    mu_.Unlock();
    Deliver(std::move(frame));
    mu_.Lock();
  }
  busy_ = false;
  const bool more = !queue_.empty();
  mu_.Unlock();
  return more;
}

void Inbox::Deliver(PacketPtr frame) {
  RefPtr<EthernetLink> link;
  RefPtr<Stack> stack;
  RefPtr<Bridge> bridge;
  FrameDevice* port = nullptr;
  {
    MutexLock lock(mu_);
    if (bridge_) {
      bridge = bridge_;
      port = port_;
    } else if (stack_ && stack_->TryIncRef()) {
      stack = RefPtr<Stack>::Adopt(stack_);
      link = link_;
    }
  }
  if (!is_up()) return;
  if (bridge) return bridge->ReceiveAt(port, std::move(frame));
  if (link) link->ReceiveFrame(std::move(frame));
}

void Inbox::Attach(RefPtr<EthernetLink> link, Stack& stack) {
  RefPtr<EthernetLink> old;
  MutexLock lock(mu_);
  old = std::exchange(link_, std::move(link));
  stack_ = &stack;
}

void Inbox::Detach(const EthernetLink& link) {
  RefPtr<EthernetLink> old;
  MutexLock lock(mu_);
  if (link_.get() != &link) return;
  old = std::move(link_);
  stack_ = nullptr;
}

void Inbox::SetBridge(RefPtr<Bridge> bridge, FrameDevice* port) {
  RefPtr<Bridge> old;
  MutexLock lock(mu_);
  old = std::exchange(bridge_, std::move(bridge));
  port_ = port;
}

RefPtr<Bridge> Inbox::bridge() const {
  MutexLock lock(mu_);
  return bridge_;
}

std::pair<RefPtr<VethEnd>, RefPtr<VethEnd>> VethEnd::NewPair() {
  auto a = MakeRef<Inbox>(), b = MakeRef<Inbox>();
  return {MakeRef<VethEnd>(a, b), MakeRef<VethEnd>(b, a)};
}

bool VethEnd::Send(std::span<const uint8_t> header, const Packet& packet) {
  // Both ends must be up for anything to come through.
  if (!in_->is_up()) return false;
  PacketPtr frame = CopyFrame(header, packet);
  return frame && out_->Push(std::move(frame));
}

Result<void> VethEnd::SetBridge(RefPtr<Bridge> bridge) {
  if (RefPtr<Bridge> old = in_->bridge()) old->RemovePort(*this);
  if (bridge) bridge->AddPort(RefPtr<FrameDevice>(this));
  in_->SetBridge(std::move(bridge), this);
  return OkResult();
}

}  // namespace sentry::net
