// SPDX-License-Identifier: Apache-2.0
// fork(2): the child shares every page; private ones become copy-on-write on both sides.
#include <algorithm>

#include "sentry/mm/mm_state.h"

namespace sentry::mm {
namespace {
constexpr uint64_t kPinnedGranule = 64 << 10;
}

void MemoryManager::State::ForkInto(State& child) {
  child.mmap_base = mmap_base;
  child.search_top = search_top;
  child.search_hole = search_hole;
  child.brk_start = brk_start;
  child.brk = brk;
  child.limits = limits;
  child.image = image;
  for (auto& [start, vma] : vmas) {
    if (vma.dont_fork) {
      child.search_top = mmap_base;
      child.search_hole = 0;
      continue;
    }
    Vma copy = vma;
    copy.locked = false;  // mlock(2): not inherited
    child.InsertVma(copy);
    if (vma.wipe_on_fork) continue;
    for (auto it = PmapAfter(vma.start); it != pmaps.end() && it->second.start < vma.end; ++it) {
      if (it->second.anon && pins->Overlaps(it->second.File(it->second.start, it->second.end))) {
        // The host is writing there now for a system call of this space: its pages stay, the child gets copies.
        uint64_t from = it->second.start;
        SplitPmap(std::min(it->second.end, AlignDown(from, kPinnedGranule) + kPinnedGranule));
        uint64_t to = it->second.end;
        if (pins->Overlaps(it->second.File(from, to))) {
          auto range = child.AllocateFor(from, to);
          if (range.ok() && CopyPages(it->second, from, to, range->start)) {
            Pmap own = it->second;
            own.offset = range->start;
            own.cow = false;
            own.mapped = {};
            child.InsertPmap(own);
            continue;
          }
          if (range.ok()) child.ReleaseRange(from, to, range->start);
        }
      }
      Pmap& pmap = it->second;
      if (pmap.fd < 0) memory.IncRef(pmap.File(pmap.start, pmap.end));
      if (vma.is_private) pmap.cow = true;
      Pmap shared = pmap;
      shared.mapped = {};
      child.InsertPmap(shared);
    }
  }
  if (!child.vmas.empty()) child.MergeVmas(0, kGuestAddressLimit);
  UpdateStub(0, kGuestAddressLimit);
}

// The child is locked, too, because its objects' reverse maps know it from its first mapping on.
Result<RefPtr<MemoryManager>> MemoryManager::Fork() ABSL_NO_THREAD_SAFETY_ANALYSIS {
  RefPtr<MemoryManager> child = TRY(Create(platform_, memory_file_));
  child->dumpable.store(dumpable.load());
  Lock lock(*this);
  child->mu_.LockNested();
  state_->ForkInto(*child->state_);
  child->mu_.Unlock();
  return child;
}

}  // namespace sentry::mm
