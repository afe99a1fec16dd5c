// SPDX-License-Identifier: Apache-2.0
// Ethernet under IP: the link of an interface whose neighbours have hardware addresses, which ARP (RFC 826) and
// Neighbor Discovery (RFC 4861) find out. Frames go to and come from a FrameDevice. Thread-safe.
#ifndef SENTRY_NET_ETHERNET_H_
#define SENTRY_NET_ETHERNET_H_

#include <array>
#include <map>
#include <span>
#include <vector>

#include "sentry/net/link.h"
#include "sentry/net/timer.h"

namespace sentry::net {

class EthernetLink;
class Stack;

using HardwareAddress = std::array<uint8_t, 6>;

// Where frames go. What receives them calls EthernetLink::ReceiveFrame.
class FrameDevice : public RefCounted<FrameDevice> {
 public:
  virtual ~FrameDevice() = default;
  // An Ethernet header and what follows it. False: it had to drop the frame. May be called with an endpoint's lock
  // held, and never blocks.
  virtual bool Send(std::span<const uint8_t> header, const Packet& packet) = 0;
  // The interface went up or down.
  virtual void set_up(bool up) {}
  // The link is about to go.
  virtual void Stop(const EthernetLink& link) {}
};

// States as Linux's NUD_* (linux/neighbour.h) and RFC 4861, 7.3.2.
struct Neighbour {
  enum class State : uint8_t { kIncomplete, kReachable, kStale, kDelay, kProbe, kFailed, kPermanent };
  IpAddress ip;
  HardwareAddress hardware = {};
  State state = State::kIncomplete;
};

class EthernetLink final : public Link {
 public:
  // `stack` outlives the use of the link (it calls Stop); set_interface follows before any packet.
  EthernetLink(Stack& stack, RefPtr<FrameDevice> device, const HardwareAddress& own);
  ~EthernetLink() override;
  void set_interface(uint32_t index) { interface_ = index; }
  const RefPtr<FrameDevice>& device() const { return device_; }

  void Transmit(PacketPtr packet, const IpAddress& next_hop) override;
  bool SendFrame(std::span<const uint8_t> header, PacketPtr packet) override;
  void Stop() override;
  void set_up(bool up) override { device_->set_up(up); }
  // A frame that starts with its Ethernet header. Within no lock.
  void ReceiveFrame(PacketPtr frame);
  // A solicitation or an advertisement (RFC 4861, 4.3 and 4.4), at its ICMPv6 header.
  void ReceiveDiscovery(Packet& packet) override;

  // An entry that never expires. False: the table is full.
  bool AddPermanent(const IpAddress& ip, const HardwareAddress& hardware);
  std::vector<Neighbour> Neighbours() const override;

 private:
  class Table;  // its timer holds it, not the link

  void ReceiveArp(Packet& frame);
  bool Put(std::span<const uint8_t> header, const Packet& packet);
  void SendFrame(const Packet& packet, const HardwareAddress& to, uint16_t type);
  void SendArp(uint16_t operation, const IpAddress& source, const HardwareAddress& to, const IpAddress& target,
               const HardwareAddress& target_hardware);
  void SendSolicitation(const IpAddress& target, const HardwareAddress* to);
  void SendAdvertisement(const IpAddress& target, const IpAddress& to, const HardwareAddress& hardware, bool solicited);
  // Asks for a neighbour: everybody, or the one that is thought to be there.
  void Solicit(const IpAddress& ip, const HardwareAddress* known);
  void SendAll(PacketQueue& packets, const HardwareAddress& to);
  // What a neighbour said of itself. `create`: also if nobody here asked; `confirmed`: it answered, so it is there;
  // `replace`: also if another address is known.
  void Learn(const IpAddress& ip, const HardwareAddress& hardware, bool create, bool confirmed, bool replace);
  void OnTimer(int64_t now_ns);
  void ArmTimer(int64_t at_ns);

  Stack& stack_;
  const RefPtr<FrameDevice> device_;
  const HardwareAddress own_;
  uint32_t interface_ = 0;
  std::atomic<bool> stopped_{false};
  RefPtr<Table> table_;
};

}  // namespace sentry::net

#endif  // SENTRY_NET_ETHERNET_H_
