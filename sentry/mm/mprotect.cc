// SPDX-License-Identifier: Apache-2.0
// mprotect(2).
#include <algorithm>

#include "sentry/mm/mm_state.h"

namespace sentry::mm {
namespace {
constexpr uint64_t kEagerOnProtect = 64 << 20;
}

Result<void> MemoryManager::State::Protect(uint64_t start, uint64_t end, Protection prot) {
  uint64_t at = start;
  Result<void> result;
  while (at < end) {
    auto it = VmaAt(at);
    if (it == vmas.end()) {
      result = Errno(ENOMEM);
      break;
    }
    uint64_t to = std::min(end, it->second.end);
    if (it->second.prot == prot) {
      at = to;
      continue;
    }
    const Protection& max = it->second.max_prot;
    if ((prot.read && !max.read) || (prot.write && !max.write) || (prot.exec && !max.exec)) {
      result = Errno(EACCES);
      break;
    }
    if (vmas.size() + 2 > kMaxVmas && (it->second.start < at || it->second.end > to)) {
      result = Errno(ENOMEM);
      break;
    }
    bool becomes_data = it->second.is_private && prot.write && !it->second.prot.write && !it->second.stack;
    if (becomes_data && (to - at > limits.data || data_bytes > limits.data - (to - at))) {
      result = Errno(ENOMEM);
      break;
    }
    SplitVma(at);
    SplitVma(to);
    it = VmaAt(at);
    bool becomes_writable = !it->second.is_private && prot.write && !it->second.prot.write;
    SetVmaProtection(it->second, prot);
    // A read-only shared mapping may have got backing that must not be written (holes): ask the object again.
    if (becomes_writable) DropPmaps(at, to);
    for (auto p = PmapAfter(at); p != pmaps.end() && p->second.start < to; ++p) p->second.prot = prot;
    at = to;
  }
  UpdateStub(start, at);
  MergeVmas(start, at);
  for (uint64_t from = start; from < at;) {
    const Vma& vma = VmaAt(from)->second;
    uint64_t to = std::min(at, vma.end);
    if (!vma.no_reserve && to - from <= kEagerOnProtect) MakeEager(vma, from, to, vma.locked);
    from = to;
  }
  // What became equal within one VMA joins again.
  for (auto p = PmapAfter(start); p != pmaps.end() && p->second.start < at; ++p) p = MergePmap(p);
  return result;
}

Result<void> MemoryManager::Mprotect(uint64_t address, uint64_t length, Protection protection, bool grows_down) {
  if (address % kPageSize) return Errno(EINVAL);
  if (length == 0) return OkResult();
  uint64_t end = TRY(RangeEnd(address, length, ENOMEM));
  Lock lock(*this);
  if (grows_down) {
    auto it = state_->VmaAfter(address);
    if (it == state_->vmas.end() || it->second.start >= end) return Errno(ENOMEM);
    if (!it->second.grows_down) return Errno(EINVAL);
    address = it->second.start;
  }
  if (state_->AnySealed(address, end)) return Errno(EPERM);
  return state_->Protect(address, end, protection);
}

}  // namespace sentry::mm
