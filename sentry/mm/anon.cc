// SPDX-License-Identifier: Apache-2.0
// Private anonymous memory: ranges of the MemoryFile, laid out so that neighbouring addresses get neighbouring file
// pages (few host mappings) and addresses are congruent to file offsets modulo 2 MiB (huge pages).
#include <algorithm>

#include "sentry/mm/mm_state.h"

namespace sentry::mm {

using platform::FileRange;

Result<FileRange> MemoryManager::State::AllocateFor(uint64_t start, uint64_t end) {
  uint64_t base = AlignDown(start, kHugeSize);
  if (end - start > kWindowMax || end > base + kHugeSize) {
    uint64_t lead = start - base;
    FileRange range = TRY(memory.Allocate(PageUp(lead + (end - start)), kHugeSize));
    if (lead) memory.DecRef({range.start, range.start + lead});
    return FileRange{range.start + lead, range.end};
  }
  size_t first = (start - base) / kPageSize, last = (end - base) / kPageSize;
  auto it = windows.find(base);
  if (it != windows.end()) {
    for (size_t i = first; i < last; ++i) {
      if (!it->second.used[i]) continue;
      Window& window = it->second;
      for (size_t a = 0; a < window.used.size();) {
        size_t b = a;
        while (b < window.used.size() && !window.used[b]) ++b;
        if (b > a) memory.DecRef({window.offset + a * kPageSize, window.offset + b * kPageSize});
        a = b + 1;
      }
      windows.erase(it);
      it = windows.end();
      break;
    }
  }
  if (it == windows.end()) {
    FileRange range = TRY(memory.Allocate(kHugeSize, kHugeSize));
    it = windows.emplace(base, Window{range.start, {}}).first;
  }
  for (size_t i = first; i < last; ++i) it->second.used.set(i);
  FileRange result{it->second.offset + (start - base), it->second.offset + (end - base)};
  if (it->second.used.all()) windows.erase(it);
  return result;
}

void MemoryManager::State::ReleaseRange(uint64_t start, uint64_t end, uint64_t offset) {
  uint64_t at = start;  // released up to here
  for (auto it = windows.lower_bound(AlignDown(start, kHugeSize)); it != windows.end() && it->first < end;) {
    auto& [base, window] = *it;
    uint64_t from = std::max(start, base), to = std::min(end, base + kHugeSize);
    FileRange part{offset + (from - start), offset + (to - start)};
    bool ours = part.start == window.offset + (from - base) && memory.IsUnique(part);
    if (!ours) {
      ++it;
      continue;
    }
    if (from > at) memory.DecRef({offset + (at - start), part.start});
    at = to;
    for (uint64_t page = from; page < to; page += kPageSize) window.used.reset((page - base) / kPageSize);
    if (window.used.none()) {
      memory.DecRef({window.offset, window.offset + kHugeSize});
      it = windows.erase(it);
    } else {
      memory.Decommit(part);
      ++it;
    }
  }
  if (end > at) memory.DecRef({offset + (at - start), offset + (end - start)});
}

void MemoryManager::State::ReleaseWindows() {
  for (auto& [base, window] : windows) {
    for (size_t i = 0; i < window.used.size();) {
      size_t j = i;
      while (j < window.used.size() && !window.used[j]) ++j;
      if (j > i) memory.DecRef({window.offset + i * kPageSize, window.offset + j * kPageSize});
      i = j + 1;
    }
  }
  windows.clear();
}

Result<void> MemoryManager::State::AllocateAnonymous(const Vma& vma, uint64_t start, uint64_t end) {
  uint64_t at = start;
  while (at < end) {
    auto it = PmapAfter(at);
    if (it != pmaps.end() && it->second.start <= at) {
      at = it->second.end;
      continue;
    }
    uint64_t to = it == pmaps.end() ? end : std::min(end, it->second.start);
    // Small pieces stay within one window.
    if (to - at <= kWindowMax) to = std::min(to, AlignDown(at, kHugeSize) + kHugeSize);
    FileRange range = TRY(AllocateFor(at, to));
    auto added = InsertPmap({.start = at, .end = to, .offset = range.start, .anon = true, .prot = vma.prot});
    MergePmap(added);
    at = to;
  }
  return OkResult();
}

void MemoryManager::State::MakeEager(const Vma& vma, uint64_t start, uint64_t end, bool populate) {
  if (!vma.Anonymous() || vma.userfault || IsNone(vma.prot) || !AllocateAnonymous(vma, start, end).ok()) return;
  for (auto it = PmapAfter(start); it != pmaps.end() && it->second.start < end; ++it) {
    if (it->second.InStub()) continue;
    if (!MapStub(it->second, populate).ok()) return;
    it = MergePmap(it);
  }
}

}  // namespace sentry::mm
