// SPDX-License-Identifier: Apache-2.0
// Pinning guest pages for host I/O.
#include <algorithm>

#include "sentry/mm/mm_state.h"

namespace sentry::mm {
namespace {
constexpr size_t kMaxPieces = 1024;  // IOV_MAX
}

void PinSet::Add(platform::FileRange range) {
  MutexLock lock(mu_);
  ranges_.emplace(range.start, range.end);
}

void PinSet::Remove(platform::FileRange range) {
  MutexLock lock(mu_);
  for (auto [it, end] = ranges_.equal_range(range.start); it != end; ++it) {
    if (it->second != range.end) continue;
    ranges_.erase(it);
    return;
  }
}

bool PinSet::Overlaps(platform::FileRange range) const {
  MutexLock lock(mu_);
  for (const auto& [start, end] : ranges_) {
    if (start < range.end && end > range.start) return true;
  }
  return false;
}

PinnedPages::PinnedPages(PinnedPages&& other) noexcept
    : file_(std::exchange(other.file_, nullptr)),
      pins_(std::move(other.pins_)),
      ranges_(std::move(other.ranges_)),
      pieces_(std::move(other.pieces_)) {}

PinnedPages& PinnedPages::operator=(PinnedPages&& other) noexcept {
  if (this == &other) return *this;
  PinnedPages old(std::move(*this));
  file_ = std::exchange(other.file_, nullptr);
  pins_ = std::move(other.pins_);
  ranges_ = std::move(other.ranges_);
  pieces_ = std::move(other.pieces_);
  return *this;
}

PinnedPages::~PinnedPages() {
  for (platform::FileRange range : ranges_) {
    if (pins_) pins_->Remove(range);
    file_->DecRef(range);
  }
}

size_t PinnedPages::size() const {
  size_t size = 0;
  for (const iovec& piece : pieces_) size += piece.iov_len;
  return size;
}

Result<PinnedPages> MemoryManager::Pin(UserAddr address, size_t length, bool for_write) {
  PinnedPages pinned;
  pinned.file_ = &memory_file_;
  Lock lock(*this);
  if (for_write) pinned.pins_ = state_->pins;
  uint64_t at = address.value();
  while (length > 0 && pinned.pieces_.size() < kMaxPieces) {
    auto reached = state_->Reach(at, for_write, false, nullptr);
    if (!reached.ok()) {
      if (pinned.pieces_.empty()) return reached.error();
      break;
    }
    const Pmap& pmap = (*reached)->second;
    if (pmap.fd >= 0) break;
    uint64_t n = std::min<uint64_t>(length, pmap.end - at);
    platform::FileRange range{PageDown(pmap.OffsetOf(at)), PageUp(pmap.OffsetOf(at) + n)};
    memory_file_.IncRef(range);
    if (for_write) pinned.pins_->Add(range);
    pinned.ranges_.push_back(range);
    pinned.pieces_.push_back({memory_file_.Pointer(pmap.OffsetOf(at)), n});
    at += n;
    length -= n;
  }
  return pinned;
}

}  // namespace sentry::mm
