// SPDX-License-Identifier: Apache-2.0
// The VMA tree: lookup, split, merge, accounting, and the search for free addresses.
#include <algorithm>

#include "base/log.h"
#include "sentry/mm/mm_state.h"

namespace sentry::mm {
namespace {

bool Mergeable(const Vma& a, const Vma& b) {
  if (a.end != b.start || a.prot != b.prot || a.max_prot != b.max_prot || a.is_private != b.is_private ||
      a.grows_down != b.grows_down || a.stack != b.stack || a.locked != b.locked || a.no_reserve != b.no_reserve ||
      a.dont_fork != b.dont_fork || a.wipe_on_fork != b.wipe_on_fork || a.sealed != b.sealed || a.object != b.object ||
      a.name != b.name || a.userfault != b.userfault || a.userfault_modes != b.userfault_modes) {
    return false;
  }
  return !a.object || a.offset + a.length() == b.offset;
}

}  // namespace

std::atomic<uint64_t> memory_limit{UINT64_MAX};

Result<uint64_t> RangeEnd(uint64_t address, uint64_t length, int error) {
  if (address % kPageSize) return Errno(EINVAL);
  if (length > kGuestAddressLimit || address > kGuestAddressLimit) return Errno(error);
  uint64_t end = address + PageUp(length);
  if (end > kGuestAddressLimit) return Errno(error);
  return end;
}

VmaMap::iterator MemoryManager::State::VmaAfter(uint64_t address) {
  auto it = vmas.upper_bound(address);
  if (it != vmas.begin() && std::prev(it)->second.end > address) --it;
  return it;
}

VmaMap::iterator MemoryManager::State::VmaAt(uint64_t address) {
  auto it = VmaAfter(address);
  return it != vmas.end() && it->second.start <= address ? it : vmas.end();
}

void MemoryManager::State::SplitVma(uint64_t at) {
  auto it = VmaAt(at);
  if (it == vmas.end() || it->second.start == at) return;
  SplitPmap(at);
  Vma upper = it->second;
  upper.offset = upper.object ? upper.OffsetOf(at) : 0;
  upper.start = at;
  it->second.end = at;
  if (upper.object) upper.object->OnVmaAdded();
  vmas.emplace(at, std::move(upper));
}

void MemoryManager::State::Account(const Vma& vma, bool add) {
  auto change = [&](uint64_t& total) { add ? total += vma.length() : total -= vma.length(); };
  change(virtual_bytes);
  if (vma.is_private && vma.prot.write && !vma.stack) change(data_bytes);
  if (vma.stack) change(stack_bytes);
  if (vma.prot.exec && !vma.prot.write && vma.object) change(code_bytes);
  if (vma.locked) change(locked_bytes);
  peak_virtual = std::max(peak_virtual, virtual_bytes);
}

void MemoryManager::State::SetVmaProtection(Vma& vma, Protection prot) {
  Account(vma, false);
  vma.prot = prot;
  Account(vma, true);
}

void MemoryManager::State::InsertVma(Vma vma) {
  Account(vma, true);
  if (vma.object) {
    vma.object->reverse_map().Add(&mm, vma.start, vma.length(), vma.offset);
    vma.object->OnVmaAdded();
  }
  if (!rooms.empty()) TakeBackRooms(vma.start, vma.end);
  uint64_t start = vma.start;
  bool inserted = vmas.emplace(start, std::move(vma)).second;
  CHECK_THAT(inserted);
}

void MemoryManager::State::EraseVma(VmaMap::iterator it) {
  Vma& vma = it->second;
  Account(vma, false);
  if (vma.object) {
    vma.object->reverse_map().Remove(&mm, vma.start, vma.length(), vma.offset);
    vma.object->OnVmaRemoved();
    dropped.push_back(std::move(vma.object));
  }
  if (vma.userfault) dropped_contexts.push_back(std::move(vma.userfault));
  it = vmas.erase(it);
  uint64_t hole_end = it == vmas.end() ? mmap_base : it->second.start;
  uint64_t hole_start = it == vmas.begin() ? 0 : std::prev(it)->second.end;
  if (hole_end > search_top && hole_end > hole_start) search_hole = std::max(search_hole, hole_end - hole_start);
}

void MemoryManager::State::MergeVmas(uint64_t start, uint64_t end) {
  auto it = VmaAfter(start ? start - 1 : 0);
  while (it != vmas.end() && it->second.start <= end) {
    auto next = std::next(it);
    if (next == vmas.end()) return;
    if (next->second.start > end || !Mergeable(it->second, next->second)) {
      it = next;
      continue;
    }
    uint64_t seam = it->second.end;
    it->second.end = next->second.end;
    if (next->second.object) {
      next->second.object->OnVmaRemoved();
      dropped.push_back(std::move(next->second.object));
    }
    vmas.erase(next);
    if (auto pmap = PmapAt(seam); pmap != pmaps.end()) MergePmap(pmap);
  }
}

bool MemoryManager::State::Covered(uint64_t start, uint64_t end) {
  for (auto it = VmaAt(start); start < end; ++it) {
    if (it == vmas.end() || it->second.start > start) return false;
    start = it->second.end;
  }
  return true;
}

bool MemoryManager::State::IsFree(uint64_t start, uint64_t end) {
  auto it = VmaAfter(start);
  return it == vmas.end() || it->second.StartWithGap() >= end;
}

uint64_t MemoryManager::State::FindTopDown(uint64_t length, uint64_t low, uint64_t high, uint64_t align,
                                           uint64_t* largest_skipped) {
  auto it = VmaAfter(high);  // ends above `high`, so it limits the gap below it
  uint64_t gap_end = high;
  if (it != vmas.end()) gap_end = std::min(gap_end, it->second.StartWithGap());
  for (;;) {
    uint64_t gap_start = it == vmas.begin() ? low : std::max(low, std::prev(it)->second.end);
    if (gap_end >= length) {
      uint64_t candidate = AlignDown(gap_end - length, align);
      if (candidate >= gap_start) {
        *largest_skipped = std::max(*largest_skipped, gap_end - (candidate + length));
        return candidate;
      }
    }
    if (gap_end > gap_start) *largest_skipped = std::max(*largest_skipped, gap_end - gap_start);
    if (it == vmas.begin() || std::prev(it)->second.start <= low) return kNoAddress;
    --it;
    gap_end = std::min(gap_end, it->second.StartWithGap());
  }
}

uint64_t MemoryManager::State::FindBottomUp(uint64_t length, uint64_t low, uint64_t high) {
  uint64_t at = low;
  for (auto it = VmaAfter(low);; ++it) {
    uint64_t gap_end = it == vmas.end() ? high : std::min(high, it->second.StartWithGap());
    if (gap_end >= at && gap_end - at >= length) return at;
    if (it == vmas.end() || it->second.end >= high) return kNoAddress;
    at = std::max(at, it->second.end);
  }
}

uint64_t MemoryManager::State::FindFree(uint64_t hint, uint64_t length, bool below_4g, uint64_t align) {
  if (hint) {
    hint = std::max(PageUp(std::min(hint, kGuestAddressLimit)), kGuestAddressMin);
    uint64_t limit = below_4g ? uint64_t{1} << 31 : kGuestAddressLimit;
    if (hint <= limit && length <= limit - hint && IsFree(hint, hint + length)) return hint;
  }
  if (below_4g) return FindBottomUp(length, 0x4000'0000, 0x8000'0000);
  uint64_t from = search_top, hole = search_hole;
  if (length + align - kPageSize <= search_hole) from = mmap_base, hole = 0;
  uint64_t found = FindTopDown(length, kGuestAddressMin, from, align, &hole);
  if (found != kNoAddress) {
    search_top = found + length;
    search_hole = hole;
    return found;
  }
  if (align > kPageSize) return FindFree(0, length, false, kPageSize);
  search_top = mmap_base, search_hole = 0;
  found = FindTopDown(length, kGuestAddressMin, mmap_base, kPageSize, &hole);
  if (found != kNoAddress) return found;
  return FindBottomUp(length, AlignDown(kGuestAddressLimit / 3, kPageSize), kGuestAddressLimit);
}

Result<void> MemoryManager::State::CheckLimits(const Vma& vma, uint64_t length, uint64_t replaced) {
  uint64_t base = virtual_bytes - std::min(virtual_bytes, replaced);
  if (length > limits.address_space || base > limits.address_space - length) return Errno(ENOMEM);
  bool data = vma.is_private && vma.prot.write && !vma.stack;
  if (data && (length > limits.data || data_bytes > limits.data - length)) return Errno(ENOMEM);
  if (vma.is_private && vma.prot.write && !vma.no_reserve && length > memory_limit.load(std::memory_order_relaxed)) {
    return Errno(ENOMEM);
  }
  if (vma.locked && (length > limits.memlock || locked_bytes > limits.memlock - length)) return Errno(EAGAIN);
  return OkResult();
}

}  // namespace sentry::mm
