// SPDX-License-Identifier: Apache-2.0
// fork(2): the child shares every page; private ones become copy-on-write on both sides.
#include <algorithm>

#include "sentry/mm/mm_state.h"

namespace sentry::mm {
namespace {
// Hot granules that a fork copies: each saves both sides a fault, but costs a copy even if nobody writes there.
constexpr int kMostHot = 6;
}  // namespace

void MemoryManager::State::ExpectWrite(uint64_t address) {
  auto it = PmapAt(PageDown(address));
  if (it == pmaps.end() || !it->second.anon || it->second.cow || it->second.hot) return;
  const uint64_t base = AlignDown(address, kCopyGranule);
  if (base > it->second.start) SplitPmap(base);
  if (base + kCopyGranule < PmapAt(PageDown(address))->second.end) SplitPmap(base + kCopyGranule);
  PmapAt(PageDown(address))->second.hot = true;
}

bool MemoryManager::State::CopyInto(State& child, const Pmap& pmap) {
  auto range = child.AllocateFor(pmap.start, pmap.end);
  if (!range.ok()) return false;
  if (!CopyPages(pmap, pmap.start, pmap.end, range->start)) {
    child.ReleaseRange(pmap.start, pmap.end, range->start);
    return false;
  }
  Pmap own = pmap;
  own.offset = range->start;
  own.cow = false;
  own.mapped = {};
  own.userfault_wp &= static_cast<bool>(child.VmaAt(pmap.start)->second.userfault);
  child.InsertPmap(own);
  return true;
}

void MemoryManager::State::ForkInto(State& child, std::span<const uint64_t> written, UserfaultEvents* events) {
  // The contexts of the child, by those of this space.
  std::map<const UserfaultContext*, RefPtr<UserfaultContext>> contexts;
  child.mmap_base = mmap_base;
  child.search_top = search_top;
  child.search_hole = search_hole;
  child.brk_start = brk_start;
  child.brk = brk;
  child.limits = limits;
  child.image = image;
  for (uint64_t address : written) ExpectWrite(address);
  int hot = written.empty() ? 0 : kMostHot;
  for (auto& [start, vma] : vmas) {
    if (vma.dont_fork) {
      child.search_top = mmap_base;
      child.search_hole = 0;
      continue;
    }
    Vma copy = vma;
    copy.locked = false;  // mlock(2): not inherited
    if (vma.userfault) {
      RefPtr<UserfaultContext> theirs;
      if (vma.userfault->HasFeature(UFFD_FEATURE_EVENT_FORK)) {
        RefPtr<UserfaultContext>& known = contexts[vma.userfault.get()];
        if (!known) {
          known = MakeRef<UserfaultContext>(RefPtr<MemoryManager>(&child.mm), vma.userfault->user_mode_only());
          known->Enable(vma.userfault->features());
          uffd_msg message = {};
          message.event = UFFD_EVENT_FORK;
          events->Add(vma.userfault, message, known);
        }
        theirs = known;
      }
      copy.userfault = theirs;
      if (!theirs) copy.userfault_modes = 0;
    }
    child.InsertVma(copy);
    if (vma.wipe_on_fork) continue;
    for (auto it = PmapAfter(vma.start); it != pmaps.end() && it->second.start < vma.end; ++it) {
      if (it->second.anon && pins->Overlaps(it->second.File(it->second.start, it->second.end))) {
        // The host is writing there now for a system call of this space: its pages stay, the child gets copies.
        SplitPmap(std::min(it->second.end, AlignDown(it->second.start, kCopyGranule) + kCopyGranule));
        if (pins->Overlaps(it->second.File(it->second.start, it->second.end)) && CopyInto(child, it->second)) continue;
      } else if (it->second.hot && hot > 0 && vma.is_private && !it->second.cow) {
        --hot;
        if (CopyInto(child, it->second)) continue;
      }
      Pmap& pmap = it->second;
      if (pmap.fd < 0) memory.IncRef(pmap.File(pmap.start, pmap.end));
      if (vma.is_private) pmap.cow = true;
      Pmap shared = pmap;
      shared.mapped = {};
      shared.userfault_wp &= static_cast<bool>(copy.userfault);
      child.InsertPmap(shared);
    }
  }
  if (!child.vmas.empty()) child.MergeVmas(0, kGuestAddressLimit);
  if (!rooms.empty()) child.LendRooms();
  UpdateStub(0, kGuestAddressLimit);
}

// The child is locked, too, because its objects' reverse maps know it from its first mapping on.
Result<RefPtr<MemoryManager>> MemoryManager::Fork(std::span<const uint64_t> written) ABSL_NO_THREAD_SAFETY_ANALYSIS {
  RefPtr<MemoryManager> child = TRY(Create(platform_, memory_file_));
  child->dumpable.store(dumpable.load());
  UserfaultEvents events;
  {
    Lock lock(*this);
    child->mu_.LockNested();
    child->userfaults_.store(HasUserfaults());
    state_->ForkInto(*child->state_, written, &events);
    child->mu_.Unlock();
  }
  events.Post();
  return child;
}

}  // namespace sentry::mm
