// SPDX-License-Identifier: Apache-2.0
// The pmap tree, and the stub's mappings that follow it.
#include <algorithm>

#include "base/log.h"
#include "sentry/mm/mm_state.h"

namespace sentry::mm {
namespace {

bool Mergeable(const Pmap& a, const Pmap& b) {
  return a.end == b.start && a.fd == b.fd && a.offset + a.length() == b.offset && a.anon == b.anon && a.cow == b.cow &&
         a.writable == b.writable && a.userfault_wp == b.userfault_wp && a.prot == b.prot && a.mapped == b.mapped;
}

}  // namespace

PmapMap::iterator MemoryManager::State::PmapAfter(uint64_t address) {
  auto it = pmaps.upper_bound(address);
  if (it != pmaps.begin() && std::prev(it)->second.end > address) --it;
  return it;
}

PmapMap::iterator MemoryManager::State::PmapAt(uint64_t address) {
  if (last_pmap != pmaps.end() && last_pmap->second.start <= address && address < last_pmap->second.end)
    return last_pmap;
  auto it = PmapAfter(address);
  if (it == pmaps.end() || it->second.start > address) return pmaps.end();
  return last_pmap = it;
}

void MemoryManager::State::SplitPmap(uint64_t at) {
  auto it = PmapAt(at);
  if (it == pmaps.end() || it->second.start == at) return;
  Pmap upper = it->second;
  upper.offset = upper.OffsetOf(at);
  upper.start = at;
  it->second.end = at;
  pmaps.emplace_hint(std::next(it), at, upper);
}

PmapMap::iterator MemoryManager::State::InsertPmap(const Pmap& pmap) {
  auto [it, inserted] = pmaps.emplace(pmap.start, pmap);
  CHECK_THAT(inserted);
  return it;
}

void MemoryManager::State::ErasePmap(PmapMap::iterator it) {
  if (last_pmap == it) last_pmap = pmaps.end();
  pmaps.erase(it);
}

PmapMap::iterator MemoryManager::State::MergePmap(PmapMap::iterator it) {
  // A pmap lies within one VMA: neighbours that look alike may still be apart.
  Vma& vma = VmaAt(it->second.start)->second;
  if (auto next = std::next(it);
      next != pmaps.end() && next->second.start < vma.end && Mergeable(it->second, next->second)) {
    it->second.end = next->second.end;
    it->second.hot &= next->second.hot && it->second.length() <= kCopyGranule;
    ErasePmap(next);
  }
  if (it == pmaps.begin() || it->second.start == vma.start) return it;
  auto before = std::prev(it);
  if (!Mergeable(before->second, it->second)) return it;
  before->second.end = it->second.end;
  before->second.hot &= it->second.hot && before->second.length() <= kCopyGranule;
  ErasePmap(it);
  return before;
}

Result<void> MemoryManager::State::MapStub(Pmap& pmap, bool populate) {
  Protection wanted = pmap.Wanted();
  if (pmap.mapped == wanted || loading) return OkResult();
  if (IsNone(wanted)) {
    UnmapStub(pmap.start, pmap.end);
    return OkResult();
  }
  ++generation;
  if (pmap.InStub()) {
    mm.address_space_->Protect(pmap.start, pmap.length(), wanted);
  } else {
    int fd = pmap.fd < 0 ? memory.fd() : pmap.fd;
    auto result = mm.address_space_->Map(pmap.start, pmap.length(), fd, pmap.offset, wanted, populate);
    if (!result.ok()) return result;
  }
  pmap.mapped = wanted;
  MarkText(pmap);
  return OkResult();
}

void MemoryManager::State::UnmapStub(uint64_t start, uint64_t end) {
  uint64_t from = 0, to = 0;
  for (auto it = PmapAfter(start); it != pmaps.end() && it->second.start < end; ++it) {
    if (!it->second.InStub()) continue;
    if (!to) from = std::max(start, it->second.start);
    to = std::min(end, it->second.end);
    it->second.mapped = {};
  }
  if (!to) return;
  ++generation;
  mm.address_space_->Unmap(from, to - from);
}

void MemoryManager::State::UpdateStub(uint64_t start, uint64_t end) {
  // One Protect for a run of pmaps that get the same protection; gaps between them hold nothing.
  uint64_t from = 0, to = 0;
  Protection run;
  auto flush = [&] {
    if (!to) return;
    ++generation;
    IsNone(run) ? mm.address_space_->Unmap(from, to - from) : mm.address_space_->Protect(from, to - from, run);
    to = 0;
  };
  for (auto it = PmapAfter(start); it != pmaps.end() && it->second.start < end; ++it) {
    Pmap& pmap = it->second;
    Protection wanted = pmap.Wanted();
    if (!pmap.InStub()) continue;
    if (to && wanted != run) flush();
    if (pmap.mapped == wanted) {
      if (to) to = pmap.end;
      continue;
    }
    if (!to) from = pmap.start, run = wanted;
    to = pmap.end;
    pmap.mapped = wanted;
  }
  flush();
}

void MemoryManager::State::DropPmaps(uint64_t start, uint64_t end) {
  SplitPmap(start);
  SplitPmap(end);
  UnmapStub(start, end);
  auto it = PmapAfter(start);
  while (it != pmaps.end() && it->second.start < end) {
    if (it->second.fd < 0) ReleaseRange(it->second.start, it->second.end, it->second.offset);
    auto next = std::next(it);
    ErasePmap(it);
    it = next;
  }
}

void MemoryManager::State::UnmapRange(uint64_t start, uint64_t end) {
  SplitVma(start);
  SplitVma(end);
  DropPmaps(start, end);
  for (auto it = VmaAfter(start); it != vmas.end() && it->second.start < end;) {
    auto next = std::next(it);
    EraseVma(it);
    it = next;
  }
}

}  // namespace sentry::mm
