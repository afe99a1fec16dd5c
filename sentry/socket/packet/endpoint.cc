// SPDX-License-Identifier: Apache-2.0
#include "sentry/socket/packet/endpoint.h"

#include <errno.h>
#include <linux/if_ether.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/epoll.h>

#include <algorithm>

#include "sentry/net/virtual_device.h"

namespace sentry::socket {
namespace {

constexpr size_t kOverhead = 512;  // what a queued frame costs beyond its bytes

}  // namespace

// Reaches the endpoint until it is closed.
class PacketEndpoint::RetireTimer final : public net::Timed {
 public:
  explicit RetireTimer(PacketEndpoint& owner) : owner_(&owner) {}
  void OnTimer(int64_t now_ns) override {
    RefPtr<PacketEndpoint> owner;
    {
      MutexLock lock(mu_);
      if (owner_ && owner_->TryIncRef()) owner = RefPtr<PacketEndpoint>::Adopt(owner_);
    }
    if (owner) owner->OnRetire(now_ns);
  }
  void Orphan() {
    MutexLock lock(mu_);
    owner_ = nullptr;
  }

 private:
  Mutex mu_;
  PacketEndpoint* owner_ ABSL_GUARDED_BY(mu_);
};

PacketEndpoint::PacketEndpoint(Stack& stack, bool cooked)
    : stack_(&stack), cooked_(cooked), timer_(MakeRef<RetireTimer>(*this)) {}

PacketEndpoint::~PacketEndpoint() { timer_->Orphan(); }

void PacketEndpoint::Close() {
  closed_ = true;
  Bind(0, 0);
  timer_->Orphan();
  stack_->timers().Cancel(*timer_);
  SetRing(nullptr);
}

void PacketEndpoint::ArmRetire(int64_t at_ns) {
  if (at_ns == kNoDeadline) return;
  stack_->timers().Arm(*timer_, at_ns);
  // Close, which cancels it, may have come in between.
  if (closed_) stack_->timers().Cancel(*timer_);
}

void PacketEndpoint::set_observer(RefPtr<Observer> observer) {
  MutexLock lock(mu_);
  observer_ = std::move(observer);
}

void PacketEndpoint::Bind(uint16_t protocol, uint32_t interface) {
  protocol_ = protocol;
  interface_ = interface;
  bool was;
  {
    MutexLock lock(mu_);
    was = std::exchange(tapped_, protocol != 0);
  }
  if (!was && protocol) stack_->AddTap(RefPtr<FrameTap>(this));
  if (was && !protocol) stack_->RemoveTap(*this);
}

void PacketEndpoint::SetFilter(RefPtr<Filter> filter) {
  MutexLock lock(mu_);
  std::swap(filter_, filter);
}

void PacketEndpoint::SetRing(RefPtr<FrameRing> ring) {
  MutexLock lock(mu_);
  std::swap(ring_, ring);
}

void PacketEndpoint::OnFrame(const FrameInfo& info, std::span<const uint8_t> header, const Packet& packet) {
  const uint16_t wanted = protocol_;
  const uint32_t interface = interface_;
  if (interface && interface != info.interface) return;
  // Others than those who want everything hear nothing of what is sent.
  const bool outgoing = info.type == PACKET_OUTGOING;
  if (wanted != ETH_P_ALL && (wanted != info.protocol || outgoing)) return;
  if (outgoing && ignore_outgoing_) return;
  CapturedFrame frame;
  frame.packet = net::CopyFrame(header, packet);
  if (!frame.packet) return;
  frame.info = info;
  frame.checksum_missing = packet.partial_checksum || (packet.trusted_checksums && outgoing);
  frame.realtime_ns = stack_->environment().RealtimeNs();
  const int64_t now = stack_->NowNs();
  int64_t retire_ns = kNoDeadline;
  RefPtr<Observer> observer;
  {
    MutexLock lock(mu_);
    frame.kept = static_cast<uint32_t>(Seen(frame));
    if (filter_) {
      const Packet& p = *frame.packet;
      const size_t first = p.begin + (cooked_ ? kEthernetHeader : 0);
      const uint32_t kept = filter_->Run({p, first, p.end, p.payload, &frame.info});
      if (kept == 0) return;
      frame.kept = std::min(frame.kept, kept);
    }
    ++counts_.seen;
    bool ready = true;
    if (ring_) {
      if (!ring_->Put(frame, now, &ready, &retire_ns)) {
        ++counts_.lost;
        ready = false;
      }
    } else {
      const size_t cost = frame.packet->size() + kOverhead;
      if (queued_ + cost > receive_buffer_) {
        ++counts_.lost;
        return;
      }
      queued_ += cost;
      queue_.push_back(std::move(frame));
    }
    if (ready) observer = observer_;
  }
  ArmRetire(retire_ns);
  if (!observer) return;
  net::DeferScope scope;
  net::DeferEvents(observer, EPOLLIN | EPOLLRDNORM);
}

void PacketEndpoint::OnRetire(int64_t now_ns) {
  int64_t retire_ns = kNoDeadline;
  RefPtr<Observer> observer;
  {
    MutexLock lock(mu_);
    if (!ring_) return;
    if (ring_->Retire(now_ns, &retire_ns)) observer = observer_;
  }
  ArmRetire(retire_ns);
  if (!observer) return;
  net::DeferScope scope;
  net::DeferEvents(observer, EPOLLIN | EPOLLRDNORM);
}

Result<CapturedFrame> PacketEndpoint::Receive(bool peek) {
  MutexLock lock(mu_);
  if (queue_.empty()) return Errno(EAGAIN);
  CapturedFrame& first = queue_.front();
  CapturedFrame frame = {nullptr, first.info, first.kept, first.realtime_ns, first.checksum_missing};
  if (peek) {
    frame.packet = first.packet->Clone();
    return frame;
  }
  queued_ -= first.packet->size() + kOverhead;
  frame.packet = std::move(first.packet);
  queue_.pop_front();
  return frame;
}

Result<void> PacketEndpoint::Send(uint32_t interface, std::span<const uint8_t> header, Buffer rest) {
  auto config = stack_->config();
  const net::Interface* out = config->Find(interface);
  if (!out) return Errno(ENXIO);
  if (!out->IsUp()) return Errno(ENETDOWN);
  if (rest.size() > out->mtu) return Errno(EMSGSIZE);
  net::DeferScope scope;
  auto packet = std::make_unique<Packet>();
  packet->payload = std::move(rest);
  packet->interface = interface;
  FrameInfo info = {interface, static_cast<uint16_t>(header[12] << 8 | header[13]), PACKET_OUTGOING, out->type};
  stack_->TellTaps(info, header, *packet, this);
  if (!out->link->SendFrame(header, std::move(packet))) return Errno(ENOBUFS);
  return OkResult();
}

uint32_t PacketEndpoint::Poll() const {
  MutexLock lock(mu_);
  const bool readable = !queue_.empty() || (ring_ && ring_->HasFrames());
  return EPOLLOUT | EPOLLWRNORM | (readable ? EPOLLIN | EPOLLRDNORM : 0u);
}

PacketEndpoint::Counts PacketEndpoint::TakeCounts() {
  MutexLock lock(mu_);
  return std::exchange(counts_, {});
}

size_t PacketEndpoint::FirstLength() const {
  MutexLock lock(mu_);
  return queue_.empty() ? 0 : queue_.front().kept;
}

}  // namespace sentry::socket
