// SPDX-License-Identifier: Apache-2.0
// A device of the host as Ethernet: a packet(7) socket bound to it, with PACKET_VNET_HDR on, so that frames say whether
// their checksums are still to be made and large segments arrive whole. Thread-safe.
#ifndef SENTRY_NET_PACKET_DEVICE_H_
#define SENTRY_NET_PACKET_DEVICE_H_

#include "base/unique_fd.h"
#include "sentry/net/ethernet.h"
#include "sentry/net/stack.h"

namespace sentry::net {

// Host calls: recvmsg, sendmsg.
class PacketDevice final : public FrameDevice {
 public:
  explicit PacketDevice(base::UniqueFd socket) : socket_(std::move(socket)) {}
  bool Send(std::span<const uint8_t> header, const Packet& packet) override;

  // Feeds `link` from this device, on a thread of its own that sleeps in recvmsg(2) and ends with the process, or when
  // the socket fails for good. Keeps all three; `stack` is the link's.
  static void Start(RefPtr<PacketDevice> device, RefPtr<EthernetLink> link, RefPtr<Stack> stack);

 private:
  void Run(EthernetLink& link);
  const base::UniqueFd socket_;
};

}  // namespace sentry::net

#endif  // SENTRY_NET_PACKET_DEVICE_H_
