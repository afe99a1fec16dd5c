// SPDX-License-Identifier: Apache-2.0
#include "sentry/net/stack.h"

#include <errno.h>
#include <linux/if_arp.h>

#include <algorithm>

#include "sentry/net/datagram.h"
#include "sentry/net/loopback.h"
#include "sentry/net/tcp/tcp_table.h"

namespace sentry::net {
namespace {

std::atomic<uint64_t> next_stack_id{1};

struct CachedConfig {
  uint64_t stack = 0, generation = 0;
  std::shared_ptr<const Config> config;
};
thread_local CachedConfig cached;

}  // namespace

Stack::Stack(RefPtr<Environment> environment)
    : environment_(std::move(environment)),
      hash_secret_(environment_->Random()),
      id_(next_stack_id.fetch_add(1, std::memory_order_relaxed)),
      config_(std::make_shared<Config>()),
      timers_(*environment_),
      tcp_(std::make_unique<TcpTable>(*this)),
      next_id_(static_cast<uint32_t>(environment_->Random())) {
  Interface lo;
  lo.name = "lo";
  lo.flags = IFF_LOOPBACK;
  lo.mtu = 65536;
  lo.type = ARPHRD_LOOPBACK;
  lo.link = MakeRef<LoopbackLink>(*this);
  AddInterface(std::move(lo));
}

Stack::~Stack() {
  for (const Interface& interface : config()->interfaces) interface.link->Stop();
  environment_->WakeAt(kNoDeadline);
}

std::shared_ptr<const Config> Stack::config() const {
  const uint64_t generation = generation_.load(std::memory_order_acquire);
  if (cached.stack == id_ && cached.generation == generation) return cached.config;
  std::shared_ptr<const Config> old = std::move(cached.config);  // dies after the lock
  MutexLock lock(config_mu_);
  cached = {id_, config_->generation, config_};
  return config_;
}

Result<void> Stack::Change(const std::function<Result<void>(Config&)>& change) {
  if (frozen_.load(std::memory_order_relaxed)) return Errno(EPERM);
  std::shared_ptr<const Config> old;
  MutexLock lock(config_mu_);
  auto copy = std::make_shared<Config>(*config_);
  TRY(change(*copy));
  copy->generation = generation_.load(std::memory_order_relaxed) + 1;
  old = std::exchange(config_, std::move(copy));
  generation_.store(config_->generation, std::memory_order_release);
  for (const Interface& i : config_->interfaces) i.link->set_up(i.IsUp());
  return OkResult();
}

int Stack::NumberOf(uint64_t other_stack, bool assign) {
  constexpr size_t kMaxNumbers = 65536;
  MutexLock lock(numbers_mu_);
  auto it = numbers_.find(other_stack);
  if (it != numbers_.end()) return it->second;
  if (!assign || numbers_.size() >= kMaxNumbers) return -1;
  return numbers_.emplace(other_stack, static_cast<int>(numbers_.size())).first->second;
}

uint32_t Stack::AddInterface(Interface interface) {
  uint32_t index = 1;
  (void)Change([&](Config& config) {
    for (const Interface& i : config.interfaces) index = std::max(index, i.index + 1);
    interface.index = index;
    config.interfaces.push_back(interface);
    return OkResult();
  }).ok();
  return index;
}

void Stack::RunTimers() { timers_.Run(NowNs()); }

void Stack::AddTap(RefPtr<FrameTap> tap) {
  MutexLock lock(taps_mu_);
  taps_.push_back(std::move(tap));
  tap_count_.store(static_cast<int>(taps_.size()), std::memory_order_relaxed);
}

void Stack::RemoveTap(FrameTap& tap) {
  RefPtr<FrameTap> held(&tap);
  MutexLock lock(taps_mu_);
  std::erase_if(taps_, [&](const auto& t) { return t.get() == &tap; });
  tap_count_.store(static_cast<int>(taps_.size()), std::memory_order_relaxed);
}

void Stack::TellTaps(const FrameInfo& info, std::span<const uint8_t> header, const Packet& packet,
                     const FrameTap* sender) {
  std::vector<RefPtr<FrameTap>> taps;
  {
    MutexLock lock(taps_mu_);
    taps = taps_;
  }
  for (const RefPtr<FrameTap>& tap : taps) {
    if (tap.get() != sender) tap->OnFrame(info, header, packet);
  }
}

void Stack::AddRaw(DatagramEndpoint& endpoint) {
  MutexLock lock(raw_mu_);
  raw_.push_back(&endpoint);
  raw_count_.fetch_add(1, std::memory_order_relaxed);
}

void Stack::RemoveRaw(DatagramEndpoint& endpoint) {
  MutexLock lock(raw_mu_);
  raw_count_.fetch_sub(static_cast<int>(std::erase(raw_, &endpoint)), std::memory_order_relaxed);
}

std::vector<RefPtr<DatagramEndpoint>> Stack::RawEndpoints() const {
  std::vector<RefPtr<DatagramEndpoint>> list;
  if (raw_count_.load(std::memory_order_relaxed) == 0) return list;
  MutexLock lock(raw_mu_);
  for (DatagramEndpoint* endpoint : raw_) {
    if (endpoint->TryIncRef()) list.push_back(RefPtr<DatagramEndpoint>::Adopt(endpoint));
  }
  return list;
}

Endpoint::Endpoint(Stack& stack, bool v6) : stack_(&stack), v6_(v6) {}
Endpoint::~Endpoint() = default;

uint8_t Endpoint::TtlFor(const IpAddress& destination) const {
  const bool v4 = destination.IsV4();
  if (destination.IsMulticast())
    return static_cast<uint8_t>(v4 ? ip_.multicast_ttl.load() : std::max(ip_.multicast_hops.load(), 0));
  const int own = v4 ? ip_.ttl.load() : ip_.hop_limit.load();
  if (own >= 0) return static_cast<uint8_t>(own);
  return static_cast<uint8_t>(v4 ? stack_->settings().default_ttl.load() : stack_->settings().default_hop_limit.load());
}

uint8_t Endpoint::TrafficClassFor(const IpAddress& destination) const {
  return static_cast<uint8_t>(destination.IsV4() ? ip_.tos.load() : ip_.traffic_class.load());
}

Result<void> Endpoint::CheckLocal(const IpAddress& ip, uint32_t scope) const {
  if (ip.IsAny() || ip_.free_bind || ip_.transparent) return OkResult();
  std::shared_ptr<const Config> config = stack_->config();
  if (config->IsLocal(ip)) return OkResult();
  if (ip.IsMulticast() || (ip.IsV4() && config->IsBroadcast(ip))) return OkResult();
  return Errno(EADDRNOTAVAIL);
}

}  // namespace sentry::net
