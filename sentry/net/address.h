// SPDX-License-Identifier: Apache-2.0
// Internet addresses. An IPv4 address is kept as its IPv4-mapped IPv6 form (RFC 4291, 2.5.5.2), so that one type serves
// both families and a dual-stack socket needs no second table. Values; no locks.
#ifndef SENTRY_NET_ADDRESS_H_
#define SENTRY_NET_ADDRESS_H_

#include <arpa/inet.h>
#include <string.h>

#include <compare>
#include <cstdint>
#include <string>

namespace sentry::net {

class IpAddress {
 public:
  // The IPv6 unspecified address.
  constexpr IpAddress() = default;
  // `address` in host order.
  static IpAddress V4(uint32_t address) {
    address = htonl(address);
    return V4Bytes(&address);
  }
  static IpAddress V4Bytes(const void* four) {
    IpAddress a;
    a.bytes_[10] = a.bytes_[11] = 0xff;
    memcpy(a.bytes_ + 12, four, 4);
    return a;
  }
  static IpAddress V6Bytes(const void* sixteen) {
    IpAddress a;
    memcpy(a.bytes_, sixteen, 16);
    return a;
  }
  static IpAddress AnyV4() { return V4(INADDR_ANY); }
  static IpAddress AnyV6() { return IpAddress(); }
  static IpAddress Any(bool v4) { return v4 ? AnyV4() : AnyV6(); }
  static IpAddress LoopbackV4() { return V4(INADDR_LOOPBACK); }
  static IpAddress LoopbackV6() {
    IpAddress a;
    a.bytes_[15] = 1;
    return a;
  }

  bool IsV4() const {
    uint64_t high;
    uint32_t middle;
    memcpy(&high, bytes_, 8);
    memcpy(&middle, bytes_ + 8, 4);
    return high == 0 && middle == htonl(0xffff);
  }
  // Host order; only of an IPv4 address.
  uint32_t v4() const {
    uint32_t v;
    memcpy(&v, bytes_ + 12, 4);
    return ntohl(v);
  }
  const uint8_t* v4_bytes() const { return bytes_ + 12; }
  const uint8_t* v6_bytes() const { return bytes_; }
  // The bytes on the wire: 4 or 16.
  const uint8_t* wire() const { return IsV4() ? v4_bytes() : bytes_; }
  size_t wire_size() const { return IsV4() ? 4 : 16; }

  bool IsAny() const { return IsV4() ? v4() == 0 : *this == IpAddress(); }
  bool IsLoopback() const { return IsV4() ? v4() >> 24 == 127 : *this == LoopbackV6(); }
  bool IsMulticast() const { return IsV4() ? v4() >> 28 == 14 : bytes_[0] == 0xff; }
  bool IsLimitedBroadcast() const { return IsV4() && v4() == INADDR_BROADCAST; }
  // fe80::/10 and link-local multicast: need a scope.
  bool IsLinkLocalV6() const {
    return (bytes_[0] == 0xfe && (bytes_[1] & 0xc0) == 0x80) || (bytes_[0] == 0xff && (bytes_[1] & 0xf) <= 2);
  }
  // Whether the first `bits` (of 32 or 128) are those of `other`, of the same family.
  bool InPrefix(const IpAddress& prefix, int bits) const {
    if (IsV4() != prefix.IsV4()) return false;
    const uint8_t* a = wire();
    const uint8_t* b = prefix.wire();
    if (memcmp(a, b, bits / 8) != 0) return false;
    return bits % 8 == 0 || ((a[bits / 8] ^ b[bits / 8]) >> (8 - bits % 8)) == 0;
  }
  // The first `bits` kept, the others zero.
  IpAddress Masked(int bits) const {
    IpAddress a = *this;
    uint8_t* p = a.bytes_ + (IsV4() ? 12 : 0);
    const int all = IsV4() ? 32 : 128;
    for (int i = bits; i < all; ++i) p[i / 8] &= ~(0x80 >> i % 8);
    return a;
  }
  uint64_t Hash() const {
    uint64_t a, b;
    memcpy(&a, bytes_, 8);
    memcpy(&b, bytes_ + 8, 8);
    return (a * 0x9e3779b97f4a7c15u) ^ (b * 0xc2b2ae3d27d4eb4fu);
  }
  std::string ToString() const {
    char text[INET6_ADDRSTRLEN];
    inet_ntop(IsV4() ? AF_INET : AF_INET6, wire(), text, sizeof text);
    return text;
  }
  friend bool operator==(const IpAddress& a, const IpAddress& b) { return memcmp(a.bytes_, b.bytes_, 16) == 0; }
  friend auto operator<=>(const IpAddress& a, const IpAddress& b) { return memcmp(a.bytes_, b.bytes_, 16) <=> 0; }

 private:
  uint8_t bytes_[16] = {};
};

// An address with a port (or a protocol, or an echo id) and, for link-local ones, the interface it is valid on.
struct SocketAddress {
  IpAddress ip;
  uint16_t port = 0;
  uint32_t scope = 0;
  friend bool operator==(const SocketAddress& a, const SocketAddress& b) { return a.ip == b.ip && a.port == b.port; }
};

// A connection, seen from this side.
struct FourTuple {
  IpAddress local, remote;
  uint16_t local_port = 0, remote_port = 0;
  friend bool operator==(const FourTuple&, const FourTuple&) = default;
  uint64_t Hash(uint64_t secret) const {
    uint64_t h = local.Hash() ^ (remote.Hash() * 0xff51afd7ed558ccdu) ^ secret;
    h ^= (uint64_t{local_port} << 16 | remote_port) * 0x9e3779b97f4a7c15u;
    h ^= h >> 32;
    h *= 0xc4ceb9fe1a85ec53u;
    return h ^ (h >> 29);
  }
};

}  // namespace sentry::net

#endif  // SENTRY_NET_ADDRESS_H_
