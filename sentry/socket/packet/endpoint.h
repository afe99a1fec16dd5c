// SPDX-License-Identifier: Apache-2.0
// Frames as packet sockets (packet(7)) see and send them. Thread-safe.
#ifndef SENTRY_SOCKET_PACKET_ENDPOINT_H_
#define SENTRY_SOCKET_PACKET_ENDPOINT_H_

#include <linux/if_packet.h>

#include <span>

#include "sentry/net/deferred.h"
#include "sentry/net/filter.h"
#include "sentry/net/ring.h"
#include "sentry/net/stack.h"

namespace sentry::socket {

using net::Buffer;
using net::Filter;
using net::FrameInfo;
using net::FrameTap;
using net::Observer;
using net::Packet;
using net::PacketPtr;
using net::Stack;

struct CapturedFrame {
  PacketPtr packet;  // from its Ethernet header on
  FrameInfo info;
  uint32_t kept = 0;  // as the filter says, from where the socket sees it; never more than is there
  int64_t realtime_ns = 0;
  bool checksum_missing = false;  // it is made later, or never had to be
};

// Where frames go instead of the queue: memory that the guest reads by itself. Called under the endpoint's lock.
class FrameRing : public RefCounted<FrameRing> {
 public:
  virtual ~FrameRing() = default;
  // False: no room. `*ready`: there is something new to see. `*retire_ns`: when Retire is wanted, or not changed.
  virtual bool Put(const CapturedFrame& frame, int64_t now_ns, bool* ready, int64_t* retire_ns) = 0;
  // Time is up for what is not shown yet. True: there is something new to see.
  virtual bool Retire(int64_t now_ns, int64_t* retire_ns) = 0;
  virtual bool HasFrames() const = 0;
};

class PacketEndpoint final : public FrameTap {
 public:
  static constexpr size_t kEthernetHeader = 14;

  // `cooked` (SOCK_DGRAM): without the Ethernet header. Close comes before the last reference goes.
  PacketEndpoint(Stack& stack, bool cooked);
  ~PacketEndpoint() override;
  void Close();
  Stack& stack() const { return *stack_; }
  bool cooked() const { return cooked_; }
  // Before events are wanted.
  void set_observer(RefPtr<Observer> observer);

  // `protocol` (ETH_P_*): 0: none, ETH_P_ALL: also what is sent. `interface` 0: all.
  void Bind(uint16_t protocol, uint32_t interface);
  uint16_t protocol() const { return protocol_; }
  uint32_t interface() const { return interface_; }
  // Null: none.
  void SetFilter(RefPtr<Filter> filter);
  // Null: the queue again.
  void SetRing(RefPtr<FrameRing> ring);
  void set_receive_buffer(size_t bytes) { receive_buffer_ = bytes; }
  void set_ignore_outgoing(bool on) { ignore_outgoing_ = on; }
  bool ignores_outgoing() const { return ignore_outgoing_; }

  // EAGAIN.
  Result<CapturedFrame> Receive(bool peek);
  // A whole frame, or with `cooked` what follows its header. ENXIO, ENETDOWN, EMSGSIZE, ENOBUFS.
  Result<void> Send(uint32_t interface, std::span<const uint8_t> header, Buffer rest);
  uint32_t Poll() const;
  // Frames seen and lost since the last call.
  struct Counts {
    uint32_t seen = 0, lost = 0;
  };
  Counts TakeCounts();
  // The length of the first frame in the queue; 0: none.
  size_t FirstLength() const;

  void OnFrame(const FrameInfo& info, std::span<const uint8_t> header, const Packet& packet) override;

 private:
  class RetireTimer;
  void OnRetire(int64_t now_ns);
  void ArmRetire(int64_t at_ns);
  size_t Seen(const CapturedFrame& frame) const { return frame.packet->size() - (cooked_ ? kEthernetHeader : 0); }

  const RefPtr<Stack> stack_;
  const bool cooked_;
  std::atomic<uint16_t> protocol_{0};
  std::atomic<uint32_t> interface_{0};
  std::atomic<size_t> receive_buffer_{212992};
  std::atomic<bool> ignore_outgoing_{false}, closed_{false};
  RefPtr<RetireTimer> timer_;
  mutable Mutex mu_{LockRank::kNetDevice};
  RefPtr<Observer> observer_ ABSL_GUARDED_BY(mu_);
  RefPtr<Filter> filter_ ABSL_GUARDED_BY(mu_);
  RefPtr<FrameRing> ring_ ABSL_GUARDED_BY(mu_);
  net::Ring<CapturedFrame> queue_ ABSL_GUARDED_BY(mu_);
  size_t queued_ ABSL_GUARDED_BY(mu_) = 0;
  Counts counts_ ABSL_GUARDED_BY(mu_);
  bool tapped_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace sentry::socket

#endif  // SENTRY_SOCKET_PACKET_ENDPOINT_H_
