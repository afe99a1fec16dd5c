// SPDX-License-Identifier: Apache-2.0
// A link: where an interface's packets go. Thread-safe.
#ifndef SENTRY_NET_LINK_H_
#define SENTRY_NET_LINK_H_

#include <atomic>
#include <span>
#include <vector>

#include "sentry/net/packet.h"

namespace sentry::net {

struct LinkStatistics {
  std::atomic<uint64_t> rx_packets{0}, rx_bytes{0}, rx_dropped{0}, tx_packets{0}, tx_bytes{0}, tx_dropped{0};
};

struct Neighbour;  // ethernet.h

class Link : public RefCounted<Link> {
 public:
  virtual ~Link() = default;
  // A packet that starts with its IP header, for a neighbour. Called within a DeferScope, possibly with an endpoint's
  // lock held: it queues, and never delivers to an endpoint itself.
  virtual void Transmit(PacketPtr packet, const IpAddress& next_hop) = 0;
  // A frame as a packet socket made it, with its Ethernet header. Within a DeferScope. False: it was dropped.
  virtual bool SendFrame(std::span<const uint8_t> header, PacketPtr packet) { return false; }
  // Of a link whose neighbours have hardware addresses: Neighbor Discovery in, and what is known.
  virtual void ReceiveDiscovery(Packet& packet) {}
  virtual std::vector<Neighbour> Neighbours() const;
  // The interface is up or down, after each change of the configuration.
  virtual void set_up(bool up) {}
  // The stack or the interface goes; snapshots of its configuration may keep the link for a while.
  virtual void Stop() {}
  LinkStatistics& statistics() { return statistics_; }

 protected:
  LinkStatistics statistics_;
};

}  // namespace sentry::net

#endif  // SENTRY_NET_LINK_H_
