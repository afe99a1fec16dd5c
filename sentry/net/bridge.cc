// SPDX-License-Identifier: Apache-2.0
#include "sentry/net/bridge.h"

#include <string.h>

#include <algorithm>

namespace sentry::net {
namespace {

constexpr size_t kHeader = 14;

HardwareAddress AddressAt(const uint8_t* p) {
  HardwareAddress a;
  memcpy(a.data(), p, a.size());
  return a;
}

bool IsGroup(const HardwareAddress& a) { return a[0] & 1; }

}  // namespace

std::vector<RefPtr<FrameDevice>> Bridge::Targets(const HardwareAddress& to, FrameDevice* from) const {
  std::vector<RefPtr<FrameDevice>> targets;
  if (!IsGroup(to)) {
    auto it = table_.find(to);
    if (it != table_.end()) {
      // Back where it came from: it is there already.
      if (it->second.port != from) targets.emplace_back(it->second.port);
      return targets;
    }
  }
  for (const RefPtr<FrameDevice>& port : ports_) {
    if (port.get() != from) targets.push_back(port);
  }
  return targets;
}

void Bridge::Learn(const HardwareAddress& from, FrameDevice* port, int64_t now_ns) {
  if (IsGroup(from) || from == HardwareAddress{} || from == own_) return;
  auto it = table_.find(from);
  if (it != table_.end()) {
    it->second = {port, now_ns};
    return;
  }
  if (table_.size() >= kMaxLearned) {
    std::erase_if(table_, [&](const auto& entry) { return entry.second.seen_ns + kAgeNs < now_ns; });
    // Of more, frames go to all ports.
    if (table_.size() >= kMaxLearned) return;
  }
  table_.emplace(from, Learned{port, now_ns});
}

bool Bridge::Send(std::span<const uint8_t> header, const Packet& packet) {
  if (!up_.load(std::memory_order_relaxed) || header.size() < kHeader) return false;
  std::vector<RefPtr<FrameDevice>> targets;
  {
    MutexLock lock(mu_);
    targets = Targets(AddressAt(header.data()), nullptr);
  }
  for (const RefPtr<FrameDevice>& port : targets) port->Send(header, packet);
  return true;
}

void Bridge::ReceiveAt(FrameDevice* port, PacketPtr frame) {
  const uint8_t* h = frame->Front(kHeader);
  if (!h || !up_.load(std::memory_order_relaxed)) return;
  const HardwareAddress to = AddressAt(h);
  RefPtr<EthernetLink> link;
  RefPtr<Stack> stack;
  std::vector<RefPtr<FrameDevice>> targets;
  {
    MutexLock lock(mu_);
    // It may have left meanwhile.
    if (std::ranges::none_of(ports_, [&](const auto& p) { return p.get() == port; })) return;
    if (!stack_ || !stack_->TryIncRef()) return;
    stack = RefPtr<Stack>::Adopt(stack_);
    const int64_t now = stack->NowNs();
    Learn(AddressAt(h + 6), port, now);
    if (to != own_) {
      auto it = table_.find(to);
      if (it != table_.end() && it->second.seen_ns + kAgeNs < now) table_.erase(it);
      targets = Targets(to, port);
    }
    if (to == own_ || IsGroup(to)) link = link_;
  }
  if (!targets.empty()) {
    uint8_t header[kHeader];
    memcpy(header, h, kHeader);
    const uint16_t begin = frame->begin;
    frame->Consume(kHeader);
    for (const RefPtr<FrameDevice>& target : targets) target->Send(header, *frame);
    frame->begin = begin;
  }
  if (link) link->ReceiveFrame(std::move(frame));
}

void Bridge::AddPort(RefPtr<FrameDevice> port) {
  MutexLock lock(mu_);
  ports_.push_back(std::move(port));
}

void Bridge::RemovePort(FrameDevice& port) {
  RefPtr<FrameDevice> held(&port);
  MutexLock lock(mu_);
  std::erase_if(ports_, [&](const auto& p) { return p.get() == &port; });
  std::erase_if(table_, [&](const auto& entry) { return entry.second.port == &port; });
}

void Bridge::Attach(RefPtr<EthernetLink> link, Stack& stack) {
  RefPtr<EthernetLink> old;
  MutexLock lock(mu_);
  old = std::exchange(link_, std::move(link));
  stack_ = &stack;
}

void Bridge::Stop(const EthernetLink& link) {
  RefPtr<EthernetLink> old;
  MutexLock lock(mu_);
  if (link_.get() != &link) return;
  old = std::move(link_);
  stack_ = nullptr;
}

size_t Bridge::learned() const {
  MutexLock lock(mu_);
  return table_.size();
}

}  // namespace sentry::net
