// SPDX-License-Identifier: Apache-2.0
// A packet: its headers in an inline array (growing towards the front on the way out, eaten from the front on the way
// in) and its payload as shared slices. Owned by one thread at a time.
#ifndef SENTRY_NET_PACKET_H_
#define SENTRY_NET_PACKET_H_

#include <cstdint>
#include <memory>

#include "sentry/net/address.h"
#include "sentry/net/buffer.h"

namespace sentry::net {

struct Packet {
  // The longest chain of headers that is looked at: Ethernet, IPv6 with extensions, TCP with options.
  static constexpr size_t kHeaderRoom = 224;

  // Of it, what output adds before a transport header.
  static constexpr size_t kOutputRoom = 64;

  // --- Bytes
  // `n` bytes before what is there; n never exceeds the room by construction of our own headers.
  uint8_t* Push(size_t n) { return head + (begin -= static_cast<uint16_t>(n)); }
  // The first `n` bytes, contiguous; null when there are fewer or more than the header array takes.
  const uint8_t* Front(size_t n) {
    if (header_size() < n && !PullUp(n)) return nullptr;
    return head + begin;
  }
  // Removes bytes that Front gave. They stay readable in `head`.
  void Consume(size_t n) { begin += static_cast<uint16_t>(n); }
  // Cuts the packet to `length` bytes from here on.
  void TrimTo(size_t length);
  size_t header_size() const { return end - begin; }
  size_t size() const { return header_size() + payload.size(); }
  void CopyTo(void* to, size_t length) const;
  std::string ToString() const;
  // What is left as a buffer: headers not consumed are copied.
  Buffer TakePayload();
  std::unique_ptr<Packet> Clone() const;
  static std::unique_ptr<Packet> FromBytes(const void* data, size_t length);

  Packet* next = nullptr;  // in a PacketQueue
  Buffer payload;

  // --- Of the network header, once it is parsed (in) or known (out).
  IpAddress source, destination;
  uint32_t interface = 0;                // received on
  uint16_t network_begin = kHeaderRoom;  // where the IP header starts in `head`
  uint8_t ttl = 0, traffic_class = 0, protocol = 0;
  bool is_v4 = false;
  bool broadcast = false;          // or multicast: no errors are sent about it
  bool trusted_checksums = false;  // it never left this stack
  bool has_router_alert = false;
  // Of frames from a device of the host's: TCP segments that it joined, by how long they were; the transport's checksum
  // is yet to be made.
  uint16_t segment_size = 0;
  bool partial_checksum = false;
  uint8_t hops = 0;         // devices of the sandbox's own that it went over (virtual_device.h)
  int64_t received_ns = 0;  // CLOCK_REALTIME; 0: not asked for

  uint16_t begin = kHeaderRoom, end = kHeaderRoom;
  uint8_t head[kHeaderRoom];

 private:
  bool PullUp(size_t n);
};

using PacketPtr = std::unique_ptr<Packet>;

class PacketQueue {
 public:
  PacketQueue() = default;
  PacketQueue(const PacketQueue&) = delete;
  PacketQueue& operator=(const PacketQueue&) = delete;
  ~PacketQueue() {
    while (PopFront()) {
    }
  }
  bool empty() const { return first_ == nullptr; }
  size_t size() const { return size_; }
  void PushBack(PacketPtr packet) {
    Packet* p = packet.release();
    p->next = nullptr;
    (first_ ? last_->next : first_) = p;
    last_ = p;
    ++size_;
  }
  PacketPtr PopFront() {
    if (!first_) return nullptr;
    PacketPtr p(first_);
    first_ = p->next;
    p->next = nullptr;
    --size_;
    return p;
  }

 private:
  Packet* first_ = nullptr;
  Packet* last_ = nullptr;
  size_t size_ = 0;
};

}  // namespace sentry::net

#endif  // SENTRY_NET_PACKET_H_
