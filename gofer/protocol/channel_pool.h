// SPDX-License-Identifier: Apache-2.0
// The client's channels: sockets on which one request at a time is under way. Private to Client.
#ifndef GOFER_PROTOCOL_CHANNEL_POOL_H_
#define GOFER_PROTOCOL_CHANNEL_POOL_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "base/mutex.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "gofer/protocol/codec.h"
#include "gofer/protocol/host_transport.h"

namespace gofer {

class ChannelPool {
 private:
  struct Channel;

 public:
  // A channel that is the holder's alone. Write the body to `request`, then Call; a repeated Call sends it again.
  class Lease {
   public:
    Lease(ChannelPool* pool, Channel* channel);
    Lease(Lease&& other) noexcept;
    ~Lease();

    // The reply; its payload is valid until the next Call or the end of the lease. The server's errno, or EIO.
    base::Result<Packet> Call(Op op) { return pool_->CallOn(channel_, op, request.written()); }

    Writer request;

   private:
    ChannelPool* pool_;
    Channel* channel_;
  };

  ChannelPool(base::UniqueFd primary, int max_channels, std::function<void()> on_disconnect);
  ~ChannelPool();

  // Waits for a free channel. EIO once disconnected.
  base::Result<Lease> Acquire();
  void Disconnect();
  bool connected() const { return !dead_.load(std::memory_order_acquire); }
  int primary_fd() const { return primary_fd_; }

 private:
  // After so many calls a spare channel is opened before anybody had to wait: short containers never pay for it, and
  // long-lived ones are not held up by the first slow file.
  static constexpr uint32_t kCallsBeforeSpare = 32;

  base::Result<Packet> CallOn(Channel* channel, Op op, std::span<const uint8_t> body);
  void Grow(Channel* through);
  void Release(Channel* channel);

  const int primary_fd_;
  std::function<void()> on_disconnect_;
  std::atomic<bool> dead_{false};
  base::Mutex mu_{base::LockRank::kGoferChannel};
  base::CondVar freed_;
  int max_channels_ ABSL_GUARDED_BY(mu_);
  uint32_t calls_ ABSL_GUARDED_BY(mu_) = 0;
  bool growing_ ABSL_GUARDED_BY(mu_) = false;
  std::vector<std::unique_ptr<Channel>> channels_ ABSL_GUARDED_BY(mu_);
  std::vector<Channel*> free_ ABSL_GUARDED_BY(mu_);
};

}  // namespace gofer

#endif  // GOFER_PROTOCOL_CHANNEL_POOL_H_
