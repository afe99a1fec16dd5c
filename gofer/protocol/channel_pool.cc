// SPDX-License-Identifier: Apache-2.0
#include "gofer/protocol/channel_pool.h"

#include <sched.h>

#include <iterator>
#include <utility>

#include "base/log.h"

namespace gofer {

using base::Errno;
using base::MutexLock;
using base::Result;
using base::UniqueFd;

struct ChannelPool::Channel {
  explicit Channel(UniqueFd s) : socket(std::move(s)) {}
  UniqueFd socket;
  uint64_t tag = 0;
  int cpu = -1;  // of the last request: the server's thread is there
  // Not initialised: pages are touched only as far as messages reach.
  std::unique_ptr<uint8_t[]> request{new uint8_t[kMaxPayload]};
  std::unique_ptr<uint8_t[]> reply{new uint8_t[kMaxMessage]};
};

ChannelPool::Lease::Lease(ChannelPool* pool, Channel* channel)
    : request({channel->request.get(), kMaxPayload}), pool_(pool), channel_(channel) {}

ChannelPool::Lease::Lease(Lease&& other) noexcept
    : request(other.request), pool_(other.pool_), channel_(std::exchange(other.channel_, nullptr)) {}

ChannelPool::Lease::~Lease() {
  if (channel_) pool_->Release(channel_);
}

ChannelPool::ChannelPool(UniqueFd primary, int max_channels, std::function<void()> on_disconnect)
    : primary_fd_(primary.get()), on_disconnect_(std::move(on_disconnect)), max_channels_(max_channels) {
  channels_.push_back(std::make_unique<Channel>(std::move(primary)));
  free_.push_back(channels_.back().get());
}

ChannelPool::~ChannelPool() = default;

Result<ChannelPool::Lease> ChannelPool::Acquire() {
  Channel* channel;
  bool grow = false;
  {
    MutexLock lock(mu_);
    bool waited = false;
    while (free_.empty() && connected()) {
      waited = true;
      freed_.Wait(mu_);
    }
    if (!connected()) return Errno(EIO);
    auto chosen = std::prev(free_.end());
    const int cpu = sched_getcpu();
    for (auto it = free_.begin(); it != free_.end(); ++it) {
      if ((*it)->cpu == cpu) chosen = it;
    }
    channel = *chosen;
    channel->cpu = cpu;
    free_.erase(chosen);
    ++calls_;
    if (free_.empty() && !growing_ && static_cast<int>(channels_.size()) < max_channels_) {
      grow = waited || (calls_ >= kCallsBeforeSpare && channels_.size() == 1) || channels_.size() > 1;
      growing_ = grow;
    }
  }
  Lease lease(this, channel);
  if (grow) Grow(channel);
  return lease;
}

void ChannelPool::Grow(Channel* through) {
  Result<Packet> reply = CallOn(through, Op::kOpenChannel, {});
  std::unique_ptr<Channel> added;
  if (reply.ok() && reply->fds.size() == 1) added = std::make_unique<Channel>(std::move(reply->fds[0]));
  MutexLock lock(mu_);
  growing_ = false;
  if (!added) {
    // The server has no fds or threads to spare: make do with what there is.
    max_channels_ = static_cast<int>(channels_.size());
    return;
  }
  if (!connected()) return;
  free_.push_back(added.get());
  channels_.push_back(std::move(added));
  freed_.NotifyOne();
}

void ChannelPool::Release(Channel* channel) {
  MutexLock lock(mu_);
  free_.push_back(channel);
  freed_.NotifyOne();
}

Result<Packet> ChannelPool::CallOn(Channel* channel, Op op, std::span<const uint8_t> body) {
  constexpr uint64_t kCountMask = (uint64_t{1} << kTagCpuShift) - 1;
  const uint64_t hint = channel->cpu >= 0 && channel->cpu < static_cast<int>(kMaxTagCpu) ? channel->cpu + 1 : 0;
  const uint64_t tag = (++channel->tag & kCountMask) | hint << kTagCpuShift;
  Result<void> sent = SendPacket(channel->socket.get(), static_cast<uint16_t>(op), tag, body, {});
  if (!sent.ok()) {
    Disconnect();
    return Errno(EIO);
  }
  Result<Packet> reply = ReceivePacket(channel->socket.get(), {channel->reply.get(), kMaxMessage}, true);
  // This process is out of fd numbers: the caller's error, the connection is whole.
  if (!reply.ok() && reply.error() == Errno(EMFILE)) return reply.error();
  if (!reply.ok() || reply->header.tag != tag || reply->header.code >= 512) {
    if (reply.ok() || reply.error() == Errno(EBADMSG)) LOG_ERROR("gofer: broken reply to request %d", int(op));
    Disconnect();
    return Errno(EIO);
  }
  if (reply->header.code != 0) return Errno(reply->header.code);
  return reply;
}

void ChannelPool::Disconnect() {
  {
    MutexLock lock(mu_);
    if (dead_.exchange(true, std::memory_order_acq_rel)) return;
    for (auto& channel : channels_) ShutdownSocket(channel->socket.get());
    freed_.NotifyAll();
  }
  if (on_disconnect_) on_disconnect_();
}

}  // namespace gofer
