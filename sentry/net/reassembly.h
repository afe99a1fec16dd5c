// SPDX-License-Identifier: Apache-2.0
// Fragments of datagrams until they are whole (RFC 791, RFC 8200 4.5). Overlaps end the datagram (RFC 5722), memory is
// bounded, and an incomplete datagram goes after 30 s, or earlier when there are too many. Thread-safe.
#ifndef SENTRY_NET_REASSEMBLY_H_
#define SENTRY_NET_REASSEMBLY_H_

#include <list>
#include <map>
#include <tuple>
#include <vector>

#include "sentry/net/packet.h"

namespace sentry::net {

class Reassembler {
 public:
  static constexpr size_t kMaxMemory = 4 << 20;
  static constexpr size_t kMaxDatagrams = 1024;
  static constexpr size_t kMaxFragments = 1024;  // of one datagram
  static constexpr int64_t kTimeoutNs = 30'000'000'000;

  struct Fragment {
    uint32_t id = 0;
    uint32_t offset = 0;  // bytes
    bool more = false;
  };
  // `packet` starts with the fragment's payload. The whole datagram when this completes it (with the headers of the
  // first fragment), else null. `*bad`: the fragment was refused.
  PacketPtr Add(PacketPtr packet, const Fragment& fragment, int64_t now_ns, bool* bad);
  size_t memory() const {
    MutexLock lock(mu_);
    return memory_;
  }

 private:
  using Key = std::tuple<IpAddress, IpAddress, uint32_t, uint8_t>;
  struct Piece {
    uint32_t offset = 0, length = 0;
    Buffer data;
  };
  struct Datagram {
    Key key;
    int64_t expires_ns = 0;
    std::vector<Piece> pieces;         // by offset
    PacketPtr first;                   // headers of the fragment at offset 0
    uint32_t received = 0, total = 0;  // total 0: the last one didn't come yet
    size_t memory = 0;
    bool poisoned = false;
  };
  void Drop(std::list<Datagram>::iterator it) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  mutable Mutex mu_{LockRank::kNetTable};
  std::list<Datagram> by_age_ ABSL_GUARDED_BY(mu_);
  std::map<Key, std::list<Datagram>::iterator> by_key_ ABSL_GUARDED_BY(mu_);
  size_t memory_ ABSL_GUARDED_BY(mu_) = 0;
};

}  // namespace sentry::net

#endif  // SENTRY_NET_REASSEMBLY_H_
