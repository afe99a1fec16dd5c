// SPDX-License-Identifier: Apache-2.0
// madvise(2). Errors as in Linux's mm/madvise.c: holes give ENOMEM after the mapped parts were advised.
#include <sys/mman.h>

#include <algorithm>

#include "sentry/mm/mm_state.h"

namespace sentry::mm {
namespace {

// Newer than some libc headers.
constexpr int kMadvCold = 20, kMadvPageout = 21, kMadvPopulateRead = 22, kMadvPopulateWrite = 23,
              kMadvDontneedLocked = 24, kMadvCollapse = 25;

bool Known(int advice) {
  switch (advice) {
    case MADV_NORMAL:
    case MADV_RANDOM:
    case MADV_SEQUENTIAL:
    case MADV_WILLNEED:
    case MADV_DONTNEED:
    case MADV_FREE:
    case MADV_REMOVE:
    case MADV_DONTFORK:
    case MADV_DOFORK:
    case MADV_MERGEABLE:
    case MADV_UNMERGEABLE:
    case MADV_HUGEPAGE:
    case MADV_NOHUGEPAGE:
    case MADV_DONTDUMP:
    case MADV_DODUMP:
    case MADV_WIPEONFORK:
    case MADV_KEEPONFORK:
    case kMadvCold:
    case kMadvPageout:
    case kMadvPopulateRead:
    case kMadvPopulateWrite:
    case kMadvDontneedLocked:
    case kMadvCollapse:
      return true;
    default:
      return false;
  }
}

}  // namespace

void MemoryManager::State::DontNeed(const Vma& vma, uint64_t start, uint64_t end) {
  if (!vma.is_private) return;  // the object keeps its pages
  for (uint64_t at = start; at < end;) {
    auto it = PmapAfter(at);
    if (it == pmaps.end() || it->second.start >= end) return;
    uint64_t from = std::max(at, it->second.start), to = std::min(end, it->second.end);
    bool anon = it->second.anon;
    if (anon && vma.Anonymous() && !vma.userfault && memory.IsUnique(it->second.File(from, to))) {
      // The stub may keep its mapping: the host takes the pages out of it.
      memory.Decommit(it->second.File(from, to));
    } else if (anon) {
      DropPmaps(from, to);
    }
    at = to;
  }
}

Result<void> MemoryManager::State::Advise(uint64_t start, uint64_t end, int advice) {
  auto it = VmaAt(start);
  Vma& vma = it->second;
  auto flag = [&](bool Vma::*field, bool value) -> Result<void> {
    if (vma.*field == value) return OkResult();
    if (vmas.size() + 2 > kMaxVmas) return Errno(ENOMEM);
    SplitVma(start);
    SplitVma(end);
    VmaAt(start)->second.*field = value;
    return OkResult();
  };
  // What would change a sealed read-only page as a write does.
  const bool discards = advice == MADV_FREE || advice == MADV_DONTNEED || advice == kMadvDontneedLocked ||
                        advice == MADV_DONTFORK || advice == MADV_WIPEONFORK;
  if (vma.sealed && discards && vma.is_private && !vma.prot.write) return Errno(EPERM);
  switch (advice) {
    case MADV_DONTNEED:
      if (vma.locked) return Errno(EINVAL);
      [[fallthrough]];
    case kMadvDontneedLocked:
      DontNeed(vma, start, end);
      return OkResult();
    case MADV_FREE:
      if (!vma.Anonymous()) return Errno(EINVAL);
      if (!vma.locked) DontNeed(vma, start, end);
      return OkResult();
    case MADV_DONTFORK:
      return flag(&Vma::dont_fork, true);
    case MADV_DOFORK:
      return flag(&Vma::dont_fork, false);
    case MADV_WIPEONFORK:
      if (!vma.Anonymous()) return Errno(EINVAL);
      return flag(&Vma::wipe_on_fork, true);
    case MADV_KEEPONFORK:
      return flag(&Vma::wipe_on_fork, false);
    case kMadvCold:
    case kMadvPageout:
      if (vma.locked) return Errno(EINVAL);
      return OkResult();
    case kMadvPopulateRead:
    case kMadvPopulateWrite: {
      bool write = advice == kMadvPopulateWrite;
      if (write ? !vma.prot.write : IsNone(vma.prot)) return Errno(EINVAL);
      if (!Populate(start, end, write)) return Errno(EFAULT);
      return OkResult();
    }
    default:
      // Hints about paging, merging, dumps and huge pages: nothing to do here.
      return OkResult();
  }
}

Result<void> MemoryManager::Madvise(uint64_t address, uint64_t length, int advice) {
  if (!Known(advice)) return Errno(EINVAL);
  if (address % kPageSize || length > UINT64_MAX - kPageSize || address + PageUp(length) < address)
    return Errno(EINVAL);
  uint64_t end = std::min(address + PageUp(length), kGuestAddressLimit);
  bool holes = address + PageUp(length) > kGuestAddressLimit;
  if (length == 0) return OkResult();
  struct Hole {
    RefPtr<MappedObject> object;
    uint64_t offset, length;
  };
  std::vector<Hole> punch;
  UserfaultEvents events;
  if (HasUserfaults() &&
      (advice == MADV_DONTNEED || advice == MADV_FREE || advice == MADV_REMOVE || advice == kMadvDontneedLocked)) {
    {
      Lock lock(*this);
      state_->CollectEvents(address, end, UFFD_FEATURE_EVENT_REMOVE, UFFD_EVENT_REMOVE, &events);
    }
    // Before the pages go: the handler must not take the next fault for an older one.
    events.Post();
  }
  {
    Lock lock(*this);
    State& state = *state_;
    for (uint64_t at = address; at < end;) {
      auto it = state.VmaAfter(at);
      if (it == state.vmas.end() || it->second.start >= end) {
        holes = true;
        break;
      }
      if (it->second.start > at) {
        holes = true;
        at = it->second.start;
        // These two stop at the first hole.
        if (advice == kMadvPopulateRead || advice == kMadvPopulateWrite) return Errno(ENOMEM);
      }
      uint64_t to = std::min(end, it->second.end);
      if (advice == MADV_REMOVE) {
        const Vma& vma = it->second;
        if (vma.locked || !vma.object) return Errno(EINVAL);
        if (vma.is_private || !vma.max_prot.write) return Errno(EACCES);
        punch.push_back({vma.object, vma.OffsetOf(at), to - at});
      } else {
        TRY(state.Advise(at, to, advice));
      }
      at = to;
    }
    state.MergeVmas(address, end);
  }
  for (Hole& hole : punch) TRY(hole.object->PunchHole(hole.offset, hole.length));
  if (holes) return Errno(ENOMEM);
  return OkResult();
}

}  // namespace sentry::mm
