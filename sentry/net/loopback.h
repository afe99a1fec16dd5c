// SPDX-License-Identifier: Apache-2.0
// The loopback: packets of a flow go through one of a few queues, in order, and are delivered by a thread that put
// them there once it holds no lock. One thread at a time works on a queue; others leave their packets to it.
#ifndef SENTRY_NET_LOOPBACK_H_
#define SENTRY_NET_LOOPBACK_H_

#include <array>

#include "sentry/net/deferred.h"
#include "sentry/net/link.h"

namespace sentry::net {

class Stack;

class LoopbackLink final : public Link {
 public:
  explicit LoopbackLink(Stack& stack);
  void Transmit(PacketPtr packet, const IpAddress& next_hop) override;
  bool SendFrame(std::span<const uint8_t> header, PacketPtr packet) override;
  // For packets that other links loop back (multicast): no statistics.
  void Queue(PacketPtr packet);

 private:
  // Packets beyond this are dropped, as a device queue does; windows keep TCP far below.
  static constexpr size_t kMaxQueue = 4096;
  static constexpr size_t kShards = 32;
  class Shard final : public DeferredTask {
   public:
    void set_stack(Stack* stack) { stack_ = stack; }
    bool Run() override;
    // False: full.
    bool Push(PacketPtr packet);

   private:
    Stack* stack_ = nullptr;  // lives longer: its endpoints and timers hold it
    Mutex mu_{LockRank::kNetDevice};
    PacketQueue queue_ ABSL_GUARDED_BY(mu_);
    bool busy_ ABSL_GUARDED_BY(mu_) = false;
  };

  Stack& stack_;
  std::array<RefPtr<Shard>, kShards> shards_;
};

}  // namespace sentry::net

#endif  // SENTRY_NET_LOOPBACK_H_
