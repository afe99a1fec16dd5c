// SPDX-License-Identifier: Apache-2.0
#include "sentry/net/tcp/tcp_header.h"

#include <netinet/in.h>
#include <string.h>

#include <algorithm>

#include "sentry/net/checksum.h"

namespace sentry::net {
namespace {

constexpr uint8_t kEnd = 0, kNop = 1, kMss = 2, kWindowScale = 3, kSackPermitted = 4, kSack = 5, kTimestamp = 8;
constexpr uint8_t kMaxWindowScale = 14;

uint16_t Get16(const uint8_t* p) { return static_cast<uint16_t>(p[0] << 8 | p[1]); }
uint32_t Get32(const uint8_t* p) { return uint32_t{Get16(p)} << 16 | Get16(p + 2); }
uint8_t* Put16(uint8_t* p, uint32_t v) {
  p[0] = static_cast<uint8_t>(v >> 8);
  p[1] = static_cast<uint8_t>(v);
  return p + 2;
}
uint8_t* Put32(uint8_t* p, uint32_t v) { return Put16(Put16(p, v >> 16), v & 0xffff); }

}  // namespace

bool TcpHeader::Parse(Packet& packet) {
  const uint8_t* h = packet.Front(kTcpHeader);
  if (!h) return false;
  header_size = (h[12] >> 4) * 4u;
  if (header_size < kTcpHeader || !(h = packet.Front(header_size))) return false;
  source_port = Get16(h);
  destination_port = Get16(h + 2);
  seq = Get32(h + 4);
  ack = Get32(h + 8);
  flags = h[13];
  window = Get16(h + 14);
  urgent = Get16(h + 18);
  const uint8_t* p = h + kTcpHeader;
  const uint8_t* const end = h + header_size;
  while (p < end && *p != kEnd) {
    if (*p == kNop) {
      ++p;
      continue;
    }
    if (end - p < 2) break;
    const uint8_t kind = p[0], size = p[1];
    if (size < 2 || size > end - p) break;
    const uint8_t* v = p + 2;
    switch (kind) {
      case kMss:
        if (size == 4 && Has(kTcpSyn)) {
          has_mss = true;
          mss = Get16(v);
        }
        break;
      case kWindowScale:
        if (size == 3 && Has(kTcpSyn)) {
          has_window_scale = true;
          window_scale = std::min(v[0], kMaxWindowScale);
        }
        break;
      case kSackPermitted:
        if (size == 2 && Has(kTcpSyn)) sack_permitted = true;
        break;
      case kTimestamp:
        if (size == 10) {
          has_timestamp = true;
          timestamp = Get32(v);
          timestamp_echo = Get32(v + 4);
        }
        break;
      case kSack:
        if ((size - 2) % 8 == 0) {
          for (int i = 0; i < (size - 2) / 8 && sack_count < kMaxSacks; ++i, v += 8)
            sacks[sack_count++] = {Get32(v), Get32(v + 4)};
        }
        break;
    }
    p += size;
  }
  return true;
}

size_t TcpHeader::OptionsSize() const {
  size_t size = 0;
  if (has_mss) size += 4;
  if (has_timestamp) size += kTimestampOption;
  if (has_window_scale) size += 4;
  if (sack_permitted && !has_timestamp) size += 4;  // else it takes the place of the padding
  if (sack_count) size += 4 + 8u * static_cast<size_t>(sack_count);
  return size;
}

void TcpHeader::Push(Packet& packet) const {
  const size_t size = kTcpHeader + OptionsSize();
  uint8_t* h = packet.Push(size);
  uint8_t* p = Put16(h, source_port);
  p = Put16(p, destination_port);
  p = Put32(p, seq);
  p = Put32(p, ack);
  *p++ = static_cast<uint8_t>(size / 4 << 4);
  *p++ = flags;
  p = Put16(p, window);
  p = Put16(p, 0);
  p = Put16(p, urgent);
  if (has_mss) {
    *p++ = kMss;
    *p++ = 4;
    p = Put16(p, mss);
  }
  if (has_timestamp) {
    *p++ = sack_permitted ? kSackPermitted : kNop;
    *p++ = sack_permitted ? 2 : kNop;
    *p++ = kTimestamp;
    *p++ = 10;
    p = Put32(p, timestamp);
    p = Put32(p, timestamp_echo);
  } else if (sack_permitted) {
    *p++ = kNop;
    *p++ = kNop;
    *p++ = kSackPermitted;
    *p++ = 2;
  }
  if (has_window_scale) {
    *p++ = kNop;
    *p++ = kWindowScale;
    *p++ = 3;
    *p++ = window_scale;
  }
  if (sack_count) {
    *p++ = kNop;
    *p++ = kNop;
    *p++ = kSack;
    *p++ = static_cast<uint8_t>(2 + 8 * sack_count);
    for (int i = 0; i < sack_count; ++i) p = Put32(Put32(p, sacks[i].start), sacks[i].end);
  }
}

void SetTcpChecksum(Packet& packet) {
  Checksum sum;
  sum.AddPseudoHeader(packet.source, packet.destination, IPPROTO_TCP, packet.size());
  sum.Add(packet);
  const uint16_t value = sum.Finish();
  memcpy(packet.head + packet.begin + 16, &value, 2);
}

bool IsTcpChecksumRight(const Packet& packet) {
  Checksum sum;
  sum.AddPseudoHeader(packet.source, packet.destination, IPPROTO_TCP, packet.size());
  sum.Add(packet);
  return sum.Finish() == 0;
}

}  // namespace sentry::net
