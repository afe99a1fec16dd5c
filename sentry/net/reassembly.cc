// SPDX-License-Identifier: Apache-2.0
#include "sentry/net/reassembly.h"

#include <algorithm>

namespace sentry::net {
namespace {

constexpr uint32_t kMaxLength = 65535;

}  // namespace

void Reassembler::Drop(std::list<Datagram>::iterator it) {
  memory_ -= it->memory;
  by_key_.erase(it->key);
  by_age_.erase(it);
}

PacketPtr Reassembler::Add(PacketPtr packet, const Fragment& fragment, int64_t now_ns, bool* bad) {
  *bad = true;
  const auto length = static_cast<uint32_t>(packet->size());
  if (length == 0 || fragment.offset + length > kMaxLength || (fragment.more && length % 8)) return nullptr;
  MutexLock lock(mu_);
  while (!by_age_.empty() && by_age_.front().expires_ns <= now_ns) Drop(by_age_.begin());
  const Key key{packet->source, packet->destination, fragment.id, packet->protocol};
  auto found = by_key_.find(key);
  if (found == by_key_.end()) {
    while (by_age_.size() >= kMaxDatagrams || (memory_ > kMaxMemory && !by_age_.empty())) Drop(by_age_.begin());
    by_age_.push_back(Datagram{.key = key, .expires_ns = now_ns + kTimeoutNs});
    found = by_key_.emplace(key, std::prev(by_age_.end())).first;
  }
  const std::list<Datagram>::iterator it = found->second;
  Datagram& d = *it;
  if (d.poisoned) return nullptr;

  const uint32_t end = fragment.offset + length;
  auto place = std::lower_bound(d.pieces.begin(), d.pieces.end(), fragment.offset,
                                [](const Piece& p, uint32_t offset) { return p.offset < offset; });
  if (place != d.pieces.end() && place->offset == fragment.offset && place->length == length) {
    *bad = false;  // a duplicate
    return nullptr;
  }
  const bool overlaps =
      (place != d.pieces.end() && place->offset < end) ||
      (place != d.pieces.begin() && std::prev(place)->offset + std::prev(place)->length > fragment.offset);
  const bool beyond =
      d.total ? end > d.total || (!fragment.more && end != d.total)
              : !fragment.more && !d.pieces.empty() && d.pieces.back().offset + d.pieces.back().length > end;
  if (overlaps || beyond || d.pieces.size() >= kMaxFragments) {
    // Kept empty until its time is over, so that later pieces don't start a new one.
    d.poisoned = true;
    memory_ -= d.memory;
    d.memory = 0;
    d.pieces.clear();
    d.first = nullptr;
    return nullptr;
  }
  *bad = false;
  if (!fragment.more) d.total = end;
  d.received += length;
  Buffer data = packet->TakePayload();
  const size_t charge = data.truesize() + sizeof(Piece) + (fragment.offset == 0 ? sizeof(Packet) : 0);
  d.pieces.insert(place, Piece{fragment.offset, length, std::move(data)});
  if (fragment.offset == 0) d.first = std::move(packet);
  d.memory += charge;
  memory_ += charge;
  if (d.total == 0 || d.received != d.total || !d.first) return nullptr;
  PacketPtr whole = std::move(d.first);
  whole->payload.Clear();
  for (Piece& piece : d.pieces) whole->payload.Append(std::move(piece.data));
  Drop(it);
  return whole;
}

}  // namespace sentry::net
