// SPDX-License-Identifier: Apache-2.0
// The TCP header on the wire (RFC 9293, 3.1) with the options that matter: MSS, window scale, SACK, timestamps.
#ifndef SENTRY_NET_TCP_TCP_HEADER_H_
#define SENTRY_NET_TCP_TCP_HEADER_H_

#include <cstdint>

#include "sentry/net/packet.h"

namespace sentry::net {

// Sequence numbers wrap (RFC 9293, 3.4).
inline bool Before(uint32_t a, uint32_t b) { return static_cast<int32_t>(a - b) < 0; }
inline bool After(uint32_t a, uint32_t b) { return Before(b, a); }

inline constexpr uint8_t kTcpFin = 1, kTcpSyn = 2, kTcpRst = 4, kTcpPsh = 8, kTcpAck = 16, kTcpUrg = 32;
inline constexpr size_t kTcpHeader = 20, kTcpMaxHeader = 60, kTimestampOption = 12;

struct SackBlock {
  uint32_t start = 0, end = 0;
};

struct TcpHeader {
  static constexpr int kMaxSacks = 4;
  uint16_t source_port = 0, destination_port = 0;
  uint32_t seq = 0, ack = 0;
  uint8_t flags = 0;
  uint16_t window = 0, urgent = 0;
  size_t header_size = kTcpHeader;
  bool has_mss = false, has_window_scale = false, sack_permitted = false, has_timestamp = false;
  uint16_t mss = 0;
  uint8_t window_scale = 0;
  uint32_t timestamp = 0, timestamp_echo = 0;
  int sack_count = 0;
  SackBlock sacks[kMaxSacks];

  bool Has(uint8_t flag) const { return flags & flag; }
  // From the front of a packet, which is left as it is. False: not a TCP header. Bad options end the list.
  bool Parse(Packet& packet);
  // Pushes the header with its options, checksum zero.
  void Push(Packet& packet) const;
  size_t OptionsSize() const;
};

// Adds the checksum to a header pushed.
void SetTcpChecksum(Packet& packet);
bool IsTcpChecksumRight(const Packet& packet);

}  // namespace sentry::net

#endif  // SENTRY_NET_TCP_TCP_HEADER_H_
