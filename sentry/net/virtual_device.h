// SPDX-License-Identifier: Apache-2.0
// Ethernet devices that no wire of the host's is behind: the two ends of a virtual cable (veth), and a dummy that takes
// what is sent and gives nothing. Thread-safe.
//
// Frames are left in the other end's inbox and delivered by a thread that holds no lock (deferred.h); one thread at a
// time works on an inbox. A frame goes over at most kMaxHops devices, so that bridges in a circle end by themselves.
#ifndef SENTRY_NET_VIRTUAL_DEVICE_H_
#define SENTRY_NET_VIRTUAL_DEVICE_H_

#include "sentry/net/ethernet.h"
#include "sentry/net/stack.h"

namespace sentry::net {

inline constexpr int kMaxHops = 16;

// A copy, which shares the payload, with its Ethernet header in front; null: it has gone too far.
PacketPtr CopyFrame(std::span<const uint8_t> header, const Packet& packet);

class Bridge;

// What came in and is not looked at yet, and who will: a link of a stack, or the bridge that the device is a port of.
class Inbox final : public DeferredTask {
 public:
  // Within a DeferScope. False: full, or closed.
  bool Push(PacketPtr frame);
  bool Run() override;
  void Attach(RefPtr<EthernetLink> link, Stack& stack);
  // Unless somebody else was attached meanwhile.
  void Detach(const EthernetLink& link);
  // Null: the link gets the frames.
  void SetBridge(RefPtr<Bridge> bridge, FrameDevice* port);
  RefPtr<Bridge> bridge() const;
  // Whether the interface is up; frames are lost while it is not.
  void set_up(bool up) { up_.store(up, std::memory_order_relaxed); }
  bool is_up() const { return up_.load(std::memory_order_relaxed); }

 private:
  static constexpr size_t kMaxQueue = 1000;
  void Deliver(PacketPtr frame);

  std::atomic<bool> up_{false};
  mutable Mutex mu_{LockRank::kNetDevice};
  PacketQueue queue_ ABSL_GUARDED_BY(mu_);
  bool busy_ ABSL_GUARDED_BY(mu_) = false;
  RefPtr<EthernetLink> link_ ABSL_GUARDED_BY(mu_);
  Stack* stack_ ABSL_GUARDED_BY(mu_) = nullptr;  // of the link, which detaches before it goes
  RefPtr<Bridge> bridge_ ABSL_GUARDED_BY(mu_);
  FrameDevice* port_ ABSL_GUARDED_BY(mu_) = nullptr;  // of the bridge, which holds it
};

// A device that links.h makes and moves.
class VirtualDevice : public FrameDevice {
 public:
  enum class Kind : uint8_t { kVeth, kBridge, kDummy };

  Kind kind() const { return kind_; }
  // Frames that come in go to `link`.
  virtual void Attach(RefPtr<EthernetLink> link, Stack& stack) = 0;
  // Can be a port of a bridge, whose frames then go there. EINVAL: it can't.
  virtual Result<void> SetBridge(RefPtr<Bridge> bridge) { return Errno(EINVAL); }

  // Where the interface is; of links.cc, under its lock.
  Stack* stack = nullptr;
  uint32_t index = 0;
  // Of a veth.
  VirtualDevice* peer = nullptr;

 protected:
  explicit VirtualDevice(Kind kind) : kind_(kind) {}

 private:
  const Kind kind_;
};

// One end of a cable.
class VethEnd final : public VirtualDevice {
 public:
  static std::pair<RefPtr<VethEnd>, RefPtr<VethEnd>> NewPair();
  VethEnd(RefPtr<Inbox> in, RefPtr<Inbox> out) : VirtualDevice(Kind::kVeth), in_(std::move(in)), out_(std::move(out)) {}
  bool Send(std::span<const uint8_t> header, const Packet& packet) override;
  void set_up(bool up) override { in_->set_up(up); }
  void Stop(const EthernetLink& link) override { in_->Detach(link); }
  void Attach(RefPtr<EthernetLink> link, Stack& stack) override { in_->Attach(std::move(link), stack); }
  Result<void> SetBridge(RefPtr<Bridge> bridge) override;

 private:
  const RefPtr<Inbox> in_, out_;
};

class DummyDevice final : public VirtualDevice {
 public:
  DummyDevice() : VirtualDevice(Kind::kDummy) {}
  bool Send(std::span<const uint8_t>, const Packet&) override { return true; }
  void Attach(RefPtr<EthernetLink>, Stack&) override {}
};

}  // namespace sentry::net

#endif  // SENTRY_NET_VIRTUAL_DEVICE_H_
