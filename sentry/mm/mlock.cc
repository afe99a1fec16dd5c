// SPDX-License-Identifier: Apache-2.0
// mlock(2) and its family (accounting: guest memory is never swapped by us), msync(2), mincore(2).
#include <sys/mman.h>

#include <algorithm>

#include "sentry/mm/host_memory.h"
#include "sentry/mm/mm_state.h"

namespace sentry::mm {
namespace {
constexpr uint64_t kMincoreMax = uint64_t{1} << 36;
}

void MemoryManager::State::SetLocked(uint64_t start, uint64_t end, bool lock) {
  for (uint64_t at = start; at < end;) {
    auto it = VmaAfter(at);
    if (it == vmas.end() || it->second.start >= end) break;
    uint64_t from = std::max(at, it->second.start), to = std::min(end, it->second.end);
    if (it->second.locked != lock) {
      SplitVma(from);
      SplitVma(to);
      Vma& vma = VmaAt(from)->second;
      Account(vma, false);
      vma.locked = lock;
      Account(vma, true);
    }
    at = to;
  }
  MergeVmas(start, end);
}

Result<void> MemoryManager::Mlock(uint64_t address, uint64_t length, bool lock) {
  // mlock rounds both ends outwards.
  uint64_t start = PageDown(address);
  length = PageUp(length + (address - start));  // wraps to nothing, as in Linux
  if (start + length < start) return Errno(EINVAL);
  if (length == 0) return OkResult();
  Lock guard(*this);
  State& state = *state_;
  if (lock && state.limits.memlock == 0) return Errno(EPERM);
  if (start > kGuestAddressLimit || length > kGuestAddressLimit - start) return Errno(ENOMEM);
  uint64_t end = start + length;
  if (lock) {
    uint64_t already = 0;
    for (auto it = state.VmaAfter(start); it != state.vmas.end() && it->second.start < end; ++it) {
      if (it->second.locked) already += std::min(end, it->second.end) - std::max(start, it->second.start);
    }
    uint64_t more = length - already;
    if (more > state.limits.memlock || state.locked_bytes > state.limits.memlock - more) return Errno(ENOMEM);
  }
  if (state.vmas.size() + 2 > kMaxVmas) return Errno(ENOMEM);
  bool covered = state.Covered(start, end);
  state.SetLocked(start, end, lock);
  if (!covered) return Errno(ENOMEM);
  if (lock) {
    for (uint64_t at = start; at < end;) {
      const Vma& vma = state.VmaAt(at)->second;
      uint64_t to = std::min(end, vma.end);
      if (!IsNone(vma.prot)) state.Populate(at, to, vma.is_private && vma.prot.write);
      at = to;
    }
  }
  return OkResult();
}

Result<void> MemoryManager::MlockAll(int flags) {
  if (flags & ~(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) || flags == MCL_ONFAULT) return Errno(EINVAL);
  Lock lock(*this);
  State& state = *state_;
  if (flags && state.limits.memlock == 0) return Errno(EPERM);
  if ((flags & MCL_CURRENT) && state.virtual_bytes > state.limits.memlock) return Errno(ENOMEM);
  state.lock_future = flags & MCL_FUTURE;
  if (flags == 0 || (flags & MCL_CURRENT)) state.SetLocked(0, kGuestAddressLimit, flags != 0);
  return OkResult();
}

Result<void> MemoryManager::Msync(uint64_t address, uint64_t length, int flags) {
  if (flags & ~(MS_ASYNC | MS_INVALIDATE | MS_SYNC)) return Errno(EINVAL);
  if (address % kPageSize) return Errno(EINVAL);
  if ((flags & MS_ASYNC) && (flags & MS_SYNC)) return Errno(EINVAL);
  uint64_t end = address + PageUp(length);  // the length may wrap to nothing
  if (end < address) return Errno(ENOMEM);
  struct Part {
    RefPtr<MappedObject> object;
    uint64_t offset, length;
  };
  std::vector<Part> parts;
  bool holes = false;
  {
    Lock lock(*this);
    State& state = *state_;
    for (uint64_t at = address; at < end;) {
      auto it = state.VmaAfter(at);
      if (it == state.vmas.end() || it->second.start >= end) {
        holes = true;
        break;
      }
      const Vma& vma = it->second;
      if (vma.start > at) holes = true;
      at = std::max(at, vma.start);
      if ((flags & MS_INVALIDATE) && vma.locked) return Errno(EBUSY);
      uint64_t to = std::min(end, vma.end);
      if ((flags & MS_SYNC) && vma.object && !vma.is_private) parts.push_back({vma.object, vma.OffsetOf(at), to - at});
      at = to;
    }
  }
  for (Part& part : parts) TRY(part.object->Sync(part.offset, part.length));
  if (holes) return Errno(ENOMEM);
  return OkResult();
}

Result<void> MemoryManager::Mincore(uint64_t address, uint64_t length, std::vector<uint8_t>* pages) {
  uint64_t end = TRY(RangeEnd(address, length, ENOMEM));
  if (end - address > kMincoreMax) return Errno(ENOMEM);
  Lock lock(*this);
  State& state = *state_;
  if (!state.Covered(address, end)) return Errno(ENOMEM);
  pages->assign((end - address) / kPageSize, 0);
  for (auto it = state.PmapAfter(address); it != state.pmaps.end() && it->second.start < end; ++it) {
    const Pmap& pmap = it->second;
    uint64_t from = std::max(address, pmap.start), to = std::min(end, pmap.end);
    uint8_t* out = pages->data() + (from - address) / kPageSize;
    if (pmap.fd >= 0) {
      std::fill_n(out, (to - from) / kPageSize, 1);
    } else {
      memory_file_.ResidentPages({pmap.OffsetOf(from), pmap.OffsetOf(to)}, out);
    }
  }
  return OkResult();
}

}  // namespace sentry::mm
