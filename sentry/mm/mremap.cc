// SPDX-License-Identifier: Apache-2.0
// mremap(2).
#include <sys/mman.h>

#include <algorithm>

#include "sentry/mm/mm_state.h"

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif

namespace sentry::mm {

Result<uint64_t> MemoryManager::State::Move(Vma vma, uint64_t old_address, uint64_t old_length, uint64_t new_address,
                                            uint64_t new_length, bool keep) {
  // `old_length` is 0 when a shared mapping is duplicated.
  uint64_t moved = std::min(old_length, new_length);
  uint64_t old_end = old_address + moved;
  SplitPmap(old_address);
  SplitPmap(old_end);
  UnmapStub(old_address, old_end);
  std::vector<Pmap> pages;
  for (auto it = PmapAfter(old_address); it != pmaps.end() && it->second.start < old_end;) {
    auto next = std::next(it);
    pages.push_back(it->second);
    ErasePmap(it);
    it = next;
  }
  vma.offset = vma.object ? vma.OffsetOf(old_address) : 0;
  vma.start = new_address;
  vma.end = new_address + new_length;
  if (vma.userfault && !vma.userfault->HasFeature(UFFD_FEATURE_EVENT_REMAP)) {
    dropped_contexts.push_back(std::move(vma.userfault));
    vma.userfault_modes = 0;
    for (Pmap& pmap : pages) pmap.userfault_wp = false;
  }
  if (old_length && !keep) UnmapRange(old_address, old_address + old_length);
  if (keep) {
    // What stays behind is empty, and no longer locked (mremap(2)).
    SplitVma(old_address);
    SplitVma(old_address + old_length);
    Vma& rest = VmaAt(old_address)->second;
    Account(rest, false);
    rest.locked = false;
    Account(rest, true);
    MergeVmas(old_address, old_address + old_length);
  }
  InsertVma(vma);
  for (Pmap& pmap : pages) {
    pmap.start = pmap.start - old_address + new_address;
    pmap.end = pmap.end - old_address + new_address;
    Pmap& placed = InsertPmap(pmap)->second;
    // When the thread may not map, the pages fault in.
    (void)MapStub(placed, false).ok();
  }
  MergeVmas(new_address, new_address + new_length);
  const Vma& merged = VmaAt(new_address)->second;
  if (!merged.Lazy() && new_length > moved)
    MakeEager(merged, new_address + moved, new_address + new_length, merged.locked);
  return new_address;
}

Result<uint64_t> MemoryManager::State::Remap(uint64_t old_address, uint64_t old_length, uint64_t new_length, int flags,
                                             uint64_t new_address) {
  uint64_t old_end = old_address + old_length;
  auto it = VmaAt(old_address);
  if (it == vmas.end()) return Errno(EFAULT);
  bool keep = flags & MREMAP_DONTUNMAP;
  bool fixed = flags & MREMAP_FIXED;
  if (old_length == 0 && it->second.is_private) return Errno(EINVAL);
  if (old_end > it->second.end) {
    // Shrinking in place may span mappings; everything else works on one.
    if (fixed || keep || new_length > old_length) return Errno(EFAULT);
  }
  if (vmas.size() + 3 > kMaxVmas) return Errno(ENOMEM);
  if (!fixed && !keep && new_length <= old_length && old_length) {
    if (new_length < old_length) UnmapRange(old_address + new_length, old_end);
    return old_address;
  }
  uint64_t growth = keep ? new_length : new_length - std::min(new_length, old_length);
  if (it->second.object && it->second.OffsetOf(old_address) > INT64_MAX - new_length) return Errno(EINVAL);
  if (growth) {
    Vma probe = it->second;
    TRY(CheckLimits(probe, growth, 0));
  }
  if (!fixed && !keep && old_length && old_end == it->second.end && new_length <= kGuestAddressLimit - old_address &&
      IsFree(old_end, old_address + new_length)) {
    Vma more = it->second;
    more.offset = more.object ? more.OffsetOf(old_end) : 0;
    more.start = old_end;
    more.end = old_address + new_length;
    InsertVma(more);
    MergeVmas(more.start, more.end);
    const Vma& merged = VmaAt(more.start)->second;
    if (!merged.Lazy()) MakeEager(merged, more.start, more.end, merged.locked);
    return old_address;
  }
  if (!(flags & MREMAP_MAYMOVE)) return Errno(ENOMEM);
  if (fixed) {
    UnmapRange(new_address, new_address + new_length);
    if (new_length < old_length) {
      UnmapRange(old_address + new_length, old_end);
      old_length = new_length;
    }
    it = VmaAt(old_address);
  } else {
    new_address = FindFree(keep ? new_address : 0, new_length, false, kPageSize);
    if (new_address == kNoAddress) return Errno(ENOMEM);
  }
  return Move(it->second, old_address, old_length, new_address, new_length, keep);
}

Result<uint64_t> MemoryManager::Mremap(uint64_t old_address, uint64_t old_length, uint64_t new_length, int flags,
                                       uint64_t new_address) {
  if (flags & ~(MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP)) return Errno(EINVAL);
  if ((flags & (MREMAP_FIXED | MREMAP_DONTUNMAP)) && !(flags & MREMAP_MAYMOVE)) return Errno(EINVAL);
  if (old_address % kPageSize) return Errno(EINVAL);
  if (old_length > kGuestAddressLimit || new_length > kGuestAddressLimit) return Errno(EINVAL);
  old_length = PageUp(old_length);
  new_length = PageUp(new_length);
  if (new_length == 0) return Errno(EINVAL);
  if ((flags & MREMAP_DONTUNMAP) && old_length != new_length) return Errno(EINVAL);
  if (old_address > kGuestAddressLimit || old_length > kGuestAddressLimit - old_address) return Errno(EFAULT);
  if (flags & (MREMAP_FIXED | MREMAP_DONTUNMAP)) {
    if (new_address % kPageSize) return Errno(EINVAL);
    if (new_length > kGuestAddressLimit || new_address > kGuestAddressLimit - new_length) return Errno(EINVAL);
  }
  if (flags & MREMAP_FIXED) {
    if (new_address < kGuestAddressMin) return Errno(EPERM);
    if (new_address < old_address + old_length && old_address < new_address + new_length) return Errno(EINVAL);
  }
  UserfaultEvents unmapped, moved, left;
  Result<uint64_t> result = Errno(EPERM);
  {
    Lock lock(*this);
    State& state = *state_;
    if (state.AnySealed(old_address, old_address + std::max(old_length, kPageSize)) ||
        ((flags & MREMAP_FIXED) && state.AnySealed(new_address, new_address + new_length)))
      return Errno(EPERM);
    if (flags & MREMAP_FIXED) {
      state.CollectEvents(new_address, new_address + new_length, UFFD_FEATURE_EVENT_UNMAP, UFFD_EVENT_UNMAP, &unmapped);
    }
    if (new_length < old_length) {
      state.CollectEvents(old_address + new_length, old_address + old_length, UFFD_FEATURE_EVENT_UNMAP,
                          UFFD_EVENT_UNMAP, &unmapped);
    }
    auto it = state.VmaAt(old_address);
    RefPtr<UserfaultContext> context = it == state.vmas.end() ? nullptr : it->second.userfault;
    result = state.Remap(old_address, old_length, new_length, flags, new_address);
    if (context && context->HasFeature(UFFD_FEATURE_EVENT_REMAP) && result.ok() && *result != old_address) {
      uffd_msg message = {};
      message.event = UFFD_EVENT_REMAP;
      message.arg.remap.from = old_address;
      message.arg.remap.to = *result;
      message.arg.remap.len = old_length;
      const bool tell_unmap = context->HasFeature(UFFD_FEATURE_EVENT_UNMAP) && !(flags & MREMAP_DONTUNMAP);
      moved.Add(context, message);
      message = {};
      message.event = UFFD_EVENT_UNMAP;
      message.arg.remove.start = old_address;
      message.arg.remove.end = old_address + old_length;
      if (tell_unmap) left.Add(std::move(context), message);
    }
  }
  if (result.ok()) {
    unmapped.Post();
    moved.Post();
    left.Post();
  }
  return result;
}

}  // namespace sentry::mm
