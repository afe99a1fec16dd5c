// SPDX-License-Identifier: Apache-2.0
#include "sentry/net/packet.h"

#include <string.h>

#include <algorithm>

namespace sentry::net {

bool Packet::PullUp(size_t n) {
  if (n > size()) return false;
  const size_t more = n - header_size();
  if (end + more > kHeaderRoom) {
    // Moved to the front, with room for an IP header if that can be, and with the network header that was consumed:
    // errors and raw sockets still want it.
    if (n > kHeaderRoom) return false;
    uint16_t first = network_begin <= begin ? network_begin : begin;
    if (static_cast<size_t>(end - first) + more > kHeaderRoom) first = begin;
    const size_t kept = end - first, consumed = begin - first;
    const auto start = static_cast<uint16_t>(kept + more + kOutputRoom <= kHeaderRoom ? kOutputRoom : 0);
    memmove(head + start, head + first, kept);
    network_begin = start;
    begin = static_cast<uint16_t>(start + consumed);
    end = static_cast<uint16_t>(start + kept);
  }
  payload.CopyTo(0, head + end, more);
  payload.TrimFront(more);
  end += static_cast<uint16_t>(more);
  return true;
}

void Packet::TrimTo(size_t length) {
  if (length >= size()) return;
  if (length < header_size()) {
    end = static_cast<uint16_t>(begin + length);
    payload.Clear();
    return;
  }
  payload.TrimTo(length - header_size());
}

void Packet::CopyTo(void* to, size_t length) const {
  const size_t n = std::min(length, header_size());
  memcpy(to, head + begin, n);
  payload.CopyTo(0, static_cast<uint8_t*>(to) + n, length - n);
}

std::string Packet::ToString() const {
  std::string text(size(), '\0');
  CopyTo(text.data(), text.size());
  return text;
}

Buffer Packet::TakePayload() {
  if (header_size() == 0) return std::move(payload);
  Buffer all = Buffer::Copy(head + begin, header_size());
  all.Append(std::move(payload));
  begin = end;
  return all;
}

PacketPtr Packet::Clone() const {
  auto copy = std::make_unique<Packet>();
  copy->payload = payload.Share(0, payload.size());
  copy->source = source;
  copy->destination = destination;
  copy->interface = interface;
  copy->network_begin = network_begin;
  copy->ttl = ttl;
  copy->traffic_class = traffic_class;
  copy->protocol = protocol;
  copy->is_v4 = is_v4;
  copy->broadcast = broadcast;
  copy->trusted_checksums = trusted_checksums;
  copy->received_ns = received_ns;
  copy->hops = hops;
  copy->segment_size = segment_size;
  copy->partial_checksum = partial_checksum;
  copy->begin = begin;
  copy->end = end;
  memcpy(copy->head, head, sizeof head);
  return copy;
}

PacketPtr Packet::FromBytes(const void* data, size_t length) {
  auto packet = std::make_unique<Packet>();
  packet->begin = packet->end = packet->network_begin = 0;
  packet->payload = Buffer::Copy(data, length);
  return packet;
}

}  // namespace sentry::net
