// SPDX-License-Identifier: Apache-2.0
// The internet checksum (RFC 1071). Pure functions.
#ifndef SENTRY_NET_CHECKSUM_H_
#define SENTRY_NET_CHECKSUM_H_

#include <cstddef>
#include <cstdint>

#include "sentry/net/address.h"
#include "sentry/net/packet.h"

namespace sentry::net {

class Checksum {
 public:
  // Bytes in order; an odd count is continued by the next piece.
  void Add(const void* data, size_t length);
  void Add(const Buffer& buffer);
  // The rest of a packet from its current front.
  void Add(const Packet& packet);
  void AddPseudoHeader(const IpAddress& source, const IpAddress& destination, uint8_t protocol, size_t length);
  // For the header field, in network order (as loaded from memory). 0 over data that includes a right checksum.
  uint16_t Finish() const;

 private:
  uint64_t sum_ = 0;
  bool odd_ = false;
};

uint16_t ChecksumOf(const void* data, size_t length);

}  // namespace sentry::net

#endif  // SENTRY_NET_CHECKSUM_H_
