// SPDX-License-Identifier: Apache-2.0
#include "sentry/fs/tmpfs/page_map.h"

#include <algorithm>

namespace sentry::tmpfs {
namespace {
constexpr uint64_t kMaxSpare = 2 << 20;
// One MemoryFile allocation; larger fills take several.
constexpr uint64_t kMaxAllocation = uint64_t{1} << 30;
}  // namespace

PageMap::~PageMap() {
  for (const auto& [start, extent] : extents_) memory_.DecRef({extent.memory, extent.memory + (extent.end - start)});
  DropSpare();
  if (charge_) charge_->Add(-static_cast<int64_t>(pages_ * kPageSize));
}

void PageMap::DropSpare() {
  if (spare_.length()) memory_.DecRef(spare_);
  spare_ = {};
}

PageMap::Run PageMap::At(uint64_t offset) const {
  auto next = extents_.upper_bound(offset);
  if (next != extents_.begin()) {
    auto it = std::prev(next);
    if (it->second.end > offset) return {true, it->second.end - offset, it->second.memory + (offset - it->first)};
  }
  return {false, (next == extents_.end() ? UINT64_MAX : next->first) - offset, 0};
}

uint64_t PageMap::MissingPages(uint64_t start, uint64_t end) const {
  uint64_t missing = 0;
  for (uint64_t at = start; at < end;) {
    Run run = At(at);
    const uint64_t length = std::min(run.length, end - at);
    if (!run.is_data) missing += length / kPageSize;
    at += length;
  }
  return missing;
}

// Zeroed pages for the hole at `at`, from the spare when it continues there.
Result<platform::FileRange> PageMap::Take(uint64_t at, uint64_t length) {
  if (spare_.length() && spare_at_ == at) {
    const uint64_t n = std::min(length, spare_.length());
    platform::FileRange taken{spare_.start, spare_.start + n};
    spare_.start += n;
    spare_at_ += n;
    return taken;
  }
  length = std::min(length, kMaxAllocation);
  // A file that grows at its end gets room to go on; the first write gets just what it needs.
  const bool appends = pages_ > 0 && (extents_.empty() || at >= extents_.rbegin()->second.end);
  const uint64_t room = appends ? std::min(PageDown(pages_ * kPageSize), kMaxSpare) : 0;
  platform::FileRange range = TRY(memory_.Allocate(length + room));
  if (room) {
    DropSpare();
    spare_ = {range.start + length, range.end};
    spare_at_ = at + length;
    range.end = range.start + length;
  }
  return range;
}

void PageMap::Insert(uint64_t start, platform::FileRange range) {
  uint64_t end = start + range.length();
  if (pages_ == 0 && !charge_) charge_ = mm::MemoryCharge::Current();
  if (charge_) charge_->Add(static_cast<int64_t>(range.length()));
  pages_ += range.length() / kPageSize;
  auto next = extents_.lower_bound(start);
  if (next != extents_.begin()) {
    auto previous = std::prev(next);
    if (previous->second.end == start && previous->second.memory + (start - previous->first) == range.start) {
      previous->second.end = end;
      if (next != extents_.end() && next->first == end && next->second.memory == range.end) {
        previous->second.end = next->second.end;
        extents_.erase(next);
      }
      return;
    }
  }
  if (next != extents_.end() && next->first == end && next->second.memory == range.end) {
    end = next->second.end;
    next = extents_.erase(next);
  }
  extents_.emplace_hint(next, start, Extent{end, range.start});
}

Result<void> PageMap::Fill(uint64_t start, uint64_t end, uint64_t* added) {
  for (uint64_t at = start; at < end;) {
    Run run = At(at);
    uint64_t length = std::min(run.length, end - at);
    if (!run.is_data) {
      platform::FileRange range = TRY(Take(at, length));
      length = range.length();
      Insert(at, range);
      *added += length / kPageSize;
    }
    at += length;
  }
  return OkResult();
}

uint64_t PageMap::Remove(uint64_t start, uint64_t end, std::vector<platform::FileRange>* removed) {
  uint64_t count = 0;
  auto it = extents_.upper_bound(start);
  if (it != extents_.begin() && std::prev(it)->second.end > start) --it;
  while (it != extents_.end() && it->first < end) {
    const uint64_t first = it->first;
    const Extent extent = it->second;
    const uint64_t cut_start = std::max(first, start), cut_end = std::min(extent.end, end);
    removed->push_back({extent.memory + (cut_start - first), extent.memory + (cut_end - first)});
    count += (cut_end - cut_start) / kPageSize;
    it = extents_.erase(it);
    if (first < cut_start) extents_.emplace(first, Extent{cut_start, extent.memory});
    if (extent.end > cut_end)
      it = extents_.emplace(cut_end, Extent{extent.end, extent.memory + (cut_end - first)}).first;
  }
  // The spare continues a page that may be gone now: let it go with it.
  if (spare_.length() && spare_at_ > start) DropSpare();
  pages_ -= count;
  if (charge_) charge_->Add(-static_cast<int64_t>(count * kPageSize));
  return count;
}

}  // namespace sentry::tmpfs
