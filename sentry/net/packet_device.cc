// SPDX-License-Identifier: Apache-2.0
#include "sentry/net/packet_device.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <thread>

#include "base/log.h"

namespace sentry::net {
namespace {

// A segment of the largest IP packet, with its Ethernet header and a VLAN tag.
constexpr size_t kMaxFrame = 65535 + 18;
constexpr size_t kMaxSlices = 62;

// The header that comes before each frame (virtio 1.2, 5.1.6; packet(7) uses the short form).
struct VirtioHeader {
  uint8_t flags, gso_type;
  uint16_t header_length, gso_size, checksum_start, checksum_offset;
};
static_assert(sizeof(VirtioHeader) == 10);
constexpr uint8_t kNeedsChecksum = 1, kChecksumValid = 2;

}  // namespace

bool PacketDevice::Send(std::span<const uint8_t> header, const Packet& packet) {
  VirtioHeader virtio = {};
  iovec parts[kMaxSlices + 3] = {
      {&virtio, sizeof virtio},
      {const_cast<uint8_t*>(header.data()), header.size()},
      {const_cast<uint8_t*>(packet.head) + packet.begin, packet.header_size()},
  };
  const size_t slices = packet.payload.slice_count();
  std::string flat;
  msghdr message = {.msg_iov = parts, .msg_iovlen = 3};
  if (slices <= kMaxSlices) {
    for (size_t i = 0; i < slices; ++i) {
      const Slice& s = packet.payload.slice(i);
      parts[message.msg_iovlen++] = {const_cast<uint8_t*>(s.data()), s.length};
    }
  } else {
    flat = packet.payload.ToString();
    parts[message.msg_iovlen++] = {flat.data(), flat.size()};
  }
  for (;;) {
    if (sendmsg(socket_.get(), &message, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0) return true;
    if (errno != EINTR) return false;
  }
}

void PacketDevice::Start(RefPtr<PacketDevice> device, RefPtr<EthernetLink> link, RefPtr<Stack> stack) {
  std::thread([device = std::move(device), link = std::move(link), stack = std::move(stack)] {
    device->Run(*link);
  }).detach();
}

void PacketDevice::Run(EthernetLink& link) {
  // Host signals are for other threads.
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, nullptr);
  std::vector<uint8_t> frame(kMaxFrame);
  int failures = 0;
  for (;;) {
    VirtioHeader header;
    iovec parts[] = {{&header, sizeof header}, {frame.data(), frame.size()}};
    msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
    const ssize_t n = recvmsg(socket_.get(), &message, 0);
    if (n < 0) {
      if (errno == EINTR) continue;
      // ENETDOWN tells once that the device went down; it may come back.
      if (errno == ENETDOWN && ++failures < 1000) continue;
      LOG_WARNING("a network device is lost: recvmsg: %s", strerror(errno));
      return;
    }
    failures = 0;
    if (static_cast<size_t>(n) <= sizeof header || (message.msg_flags & MSG_TRUNC)) continue;
    PacketPtr packet = Packet::FromBytes(frame.data(), static_cast<size_t>(n) - sizeof header);
    if (packet->size() != static_cast<size_t>(n) - sizeof header) continue;  // no memory: lost, as on a full ring
    // The sender is this host: there was no wire to harm it, or the device has checked it.
    packet->trusted_checksums = header.flags & (kNeedsChecksum | kChecksumValid);
    packet->partial_checksum = header.flags & kNeedsChecksum;
    if (header.gso_type != 0) packet->segment_size = header.gso_size;
    link.ReceiveFrame(std::move(packet));
  }
}

}  // namespace sentry::net
