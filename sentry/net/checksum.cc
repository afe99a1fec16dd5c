// SPDX-License-Identifier: Apache-2.0
#include "sentry/net/checksum.h"

#include <string.h>

namespace sentry::net {

void Checksum::Add(const void* data, size_t length) {
  const uint8_t* p = static_cast<const uint8_t*>(data);
  if (length == 0) return;
  if (odd_) {
    sum_ += uint64_t{*p++} << 8;  // little-endian sum: the second byte of a pair is the high one
    --length;
    odd_ = false;
  }
  uint64_t sum = 0;
  for (; length >= 4; p += 4, length -= 4) {
    uint32_t word;
    memcpy(&word, p, 4);
    sum += word;
  }
  if (length >= 2) {
    uint16_t word;
    memcpy(&word, p, 2);
    sum += word;
    p += 2;
    length -= 2;
  }
  if (length) {
    sum += *p;
    odd_ = true;
  }
  while (sum >> 32) sum = (sum & 0xffffffff) + (sum >> 32);
  sum_ += sum;
}

void Checksum::Add(const Buffer& buffer) {
  for (size_t i = 0; i < buffer.slice_count(); ++i) Add(buffer.slice(i).data(), buffer.slice(i).length);
}

void Checksum::Add(const Packet& packet) {
  Add(packet.head + packet.begin, packet.header_size());
  Add(packet.payload);
}

void Checksum::AddPseudoHeader(const IpAddress& source, const IpAddress& destination, uint8_t protocol, size_t length) {
  Add(source.wire(), source.wire_size());
  Add(destination.wire(), destination.wire_size());
  // The length as 32 bits and the protocol as 32 bits sum up to the same as IPv4's 16-bit forms.
  const uint8_t tail[8] = {static_cast<uint8_t>(length >> 24),
                           static_cast<uint8_t>(length >> 16),
                           static_cast<uint8_t>(length >> 8),
                           static_cast<uint8_t>(length),
                           0,
                           0,
                           0,
                           protocol};
  Add(tail, sizeof tail);
}

uint16_t Checksum::Finish() const {
  uint64_t sum = sum_;
  while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<uint16_t>(~sum);
}

uint16_t ChecksumOf(const void* data, size_t length) {
  Checksum sum;
  sum.Add(data, length);
  return sum.Finish();
}

}  // namespace sentry::net
