// SPDX-License-Identifier: Apache-2.0
// Faults: making pmaps, copy-on-write, growing stacks, and deciding which signal an access deserves.
#include <algorithm>
#include <utility>

#include "sentry/mm/host_memory.h"
#include "sentry/mm/mm_state.h"

namespace sentry::mm {
namespace {

constexpr int kMostImageFiles = 32;        // mappings of an image that are made without a fault
constexpr uint64_t kFileChunk = 16 << 20;  // mapped around a fault on a file
constexpr uint64_t kStackGrowth = 128 << 10;
constexpr uint64_t kPopulateMax = uint64_t{4} << 30;
constexpr int kMaxRuns = 64;  // of a fragmented file, mapped before the faulting page
constexpr int kMaxUnexplained = 8;
// From so many pmaps on, granules grow: the host refuses more than 65530 mappings.
constexpr size_t kManyPmaps = 8000, kVeryManyPmaps = 24000;

// The last fault of this thread that found everything in order already. Such a fault is a race with another thread's
// (retry), or an access that the tracked mapping does not allow though the platform could not say so.
struct LastUnexplained {
  const void* mm = nullptr;
  uint64_t address = 0, generation = 0;
  int count = 0;
};
thread_local LastUnexplained last_unexplained;

}  // namespace

uint64_t MemoryManager::State::Granule() const {
  if (pmaps.size() < kManyPmaps) return kCopyGranule;
  return pmaps.size() < kVeryManyPmaps ? kCopyGranule * 8 : kHugeSize;
}

bool MemoryManager::State::CopyPages(const Pmap& from, uint64_t start, uint64_t end, uint64_t to_offset) {
  if (from.fd < 0) return memory.Copy(from.OffsetOf(start), to_offset, end - start);
  // Past the end of the file the copy keeps its zeroes.
  return HostRead(from.fd, memory.Pointer(to_offset), end - start, from.OffsetOf(start)) >= 0;
}

Result<PmapMap::iterator> MemoryManager::State::BreakCow(PmapMap::iterator it, uint64_t page) {
  Pmap& pmap = it->second;
  auto take = [&](PmapMap::iterator piece) {
    piece->second.cow = false;
    piece->second.hot = piece->second.length() <= kCopyGranule;
    if (piece->second.InStub()) UpdateStub(piece->second.start, piece->second.end);
    return MergePmap(piece);
  };
  if (pmap.anon && memory.IsUnique(pmap.File(pmap.start, pmap.end))) return take(it);
  uint64_t base = AlignDown(page, Granule());
  uint64_t start = std::max(pmap.start, base), end = std::min(pmap.end, base + Granule());
  if (pmap.anon && memory.IsUnique(pmap.File(start, end))) {
    SplitPmap(start);
    SplitPmap(end);
    return take(PmapAt(start));
  }
  platform::FileRange copy = TRY(AllocateFor(start, end));
  if (!CopyPages(pmap, start, end, copy.start)) {
    ReleaseRange(start, end, copy.start);
    return Errno(ENOMEM);
  }
  SplitPmap(start);
  SplitPmap(end);
  auto piece = PmapAt(start);
  Pmap old = piece->second;
  piece->second = {.start = start,
                   .end = end,
                   .offset = copy.start,
                   .anon = true,
                   .hot = end - start <= kCopyGranule,
                   .prot = old.prot};
  // Mapping replaces the stub's view of the old page at once; a thread that may not map leaves a hole to be faulted in.
  if (old.InStub() && !MapStub(piece->second, false).ok()) {
    ++generation;
    mm.address_space_->Unmap(start, end - start);
  }
  if (old.fd < 0) ReleaseRange(start, end, old.offset);
  return MergePmap(piece);
}

Result<void> MemoryManager::State::FillFromObject(const Vma& vma, uint64_t page) {
  uint64_t start = std::max(vma.start, AlignDown(page, kFileChunk));
  uint64_t end = std::min(vma.end, AlignDown(page, kFileChunk) + kFileChunk);
  if (auto next = PmapAfter(page); next != pmaps.end()) {
    end = std::min(end, next->second.start);
    if (next != pmaps.begin()) start = std::max(start, std::prev(next)->second.end);
  } else if (!pmaps.empty()) {
    start = std::max(start, pmaps.rbegin()->second.end);
  }
  bool write = !vma.is_private && vma.prot.write;
  int runs = 0;
  for (uint64_t at = start; at <= page;) {
    if (++runs > kMaxRuns) at = page;
    auto backing = vma.object->GetBacking(vma.OffsetOf(at), end - at, write);
    if (!backing.ok() || backing->length == 0) {
      if (at == page) return backing.ok() ? Errno(EFAULT) : backing.error();
      at = page;
      continue;
    }
    uint64_t length = std::min(PageUp(backing->length), end - at);
    if (backing->in_memory_file && backing->length > length) {
      memory.DecRef({backing->offset + length, backing->offset + backing->length});
    }
    auto added = InsertPmap({.start = at,
                             .end = at + length,
                             .fd = backing->in_memory_file ? -1 : backing->fd,
                             .offset = backing->offset,
                             .anon = false,
                             .cow = vma.is_private,
                             .writable = vma.is_private || backing->writable,
                             .prot = vma.prot});
    MergePmap(added);
    at += length;
  }
  return OkResult();
}

Result<PmapMap::iterator> MemoryManager::State::GetPmap(const Vma& vma, uint64_t page, bool write) {
  auto it = PmapAt(page);
  if (it == pmaps.end()) {
    if (vma.Anonymous()) {
      uint64_t granule = kHugeSize;
      if (!vma.Lazy()) granule = AlignDown(kEagerMax, kHugeSize);
      if (vma.userfault) {
        granule = kPageSize;
      } else if (pmaps.size() > kManyPmaps)
        granule = std::max<uint64_t>(granule, 32 << 20);
      uint64_t base = AlignDown(page, granule);
      uint64_t start = std::max(vma.start, base), end = std::min(vma.end, base + granule);
      // Only the hole around the page: others may have been dropped on purpose (MADV_DONTNEED).
      if (auto next = PmapAfter(page); next != pmaps.end()) {
        end = std::min(end, next->second.start);
        if (next != pmaps.begin()) start = std::max(start, std::prev(next)->second.end);
      } else if (!pmaps.empty()) {
        start = std::max(start, pmaps.rbegin()->second.end);
      }
      TRY(AllocateAnonymous(vma, start, end));
    } else {
      TRY(FillFromObject(vma, page));
    }
    it = PmapAt(page);
    if (it == pmaps.end()) return Errno(EFAULT);
  }
  if (!write) return it;
  if (it->second.cow) return BreakCow(it, page);
  if (!it->second.writable) return Errno(EFAULT);
  return it;
}

VmaMap::iterator MemoryManager::State::GrowStack(uint64_t address) {
  uint64_t page = PageDown(address);
  auto it = VmaAfter(address);
  if (it == vmas.end() || !it->second.grows_down || it->second.object || page < kGuestAddressMin) return vmas.end();
  uint64_t floor = kGuestAddressMin;
  if (it != vmas.begin()) {
    const Vma& below = std::prev(it)->second;
    bool gap = !below.grows_down && !IsNone(below.prot);
    floor = std::max(floor, below.end + (gap ? kStackGuardGap : 0));
  }
  uint64_t stack_limit = PageDown(limits.stack);
  if (it->second.end > stack_limit) floor = std::max(floor, it->second.end - stack_limit);
  if (page < floor) return vmas.end();
  uint64_t old_start = it->second.start;
  uint64_t start = std::max(floor, old_start > kStackGrowth ? std::min(page, old_start - kStackGrowth) : page);
  Vma probe;
  probe.stack = true;
  probe.locked = it->second.locked;
  if (!CheckLimits(probe, old_start - start, 0).ok()) {
    start = page;
    if (!CheckLimits(probe, old_start - start, 0).ok()) return vmas.end();
  }
  Account(it->second, false);
  auto node = vmas.extract(it);
  node.key() = start;
  node.mapped().start = start;
  it = vmas.insert(std::move(node)).position;
  Account(it->second, true);
  return it;
}

MemoryManager::FaultSignal MemoryManager::State::Unexplained(uint64_t address, const Vma& vma, int host_signal) {
  LastUnexplained& last = last_unexplained;
  if (last.mm != &mm || last.address != address) last = {&mm, address, generation - 1, 0};
  bool again = last.generation == generation;
  last.generation = generation;
  if (!again && ++last.count < kMaxUnexplained) return {};
  last = {};
  if (host_signal == SIGBUS) return {SIGBUS, BUS_ADRERR};
  return {SIGSEGV, SEGV_ACCERR};
}

MemoryManager::FaultSignal MemoryManager::State::Fault(uint64_t address, Access access, int host_signal,
                                                       Userfault* userfault) {
  loading = false;
  if (address >= kGuestAddressLimit) return {SIGSEGV, SEGV_MAPERR};
  auto found = VmaAt(address);
  if (found == vmas.end()) found = GrowStack(address);
  if (found == vmas.end()) return {SIGSEGV, SEGV_MAPERR};
  const Vma& vma = found->second;
  if (IsNone(vma.prot) || (access == Access::kWrite && !vma.prot.write) ||
      (access == Access::kExec && !vma.prot.exec)) {
    return {SIGSEGV, SEGV_ACCERR};
  }
  uint64_t page = PageDown(address);
  auto it = PmapAt(page);
  bool in_stub = it != pmaps.end() && it->second.InStub();
  bool write = access == Access::kWrite;
  if (vma.userfault) {
    // A page that is there and faults is written to, when its protection is all that stands against that.
    const bool writes = write || (access == Access::kUnknown && in_stub && vma.prot.write && !it->second.mapped.write);
    if (CheckUserfault(vma, address, writes, userfault)) return {};
  }
  if (in_stub) {
    bool can_break = vma.prot.write && !it->second.mapped.write;
    if (access == Access::kUnknown) write = can_break;
    if (host_signal == SIGBUS && !can_break) {
      // The host has no page there: the file shrank behind our back, or it is out of memory.
      FaultSignal verdict = Unexplained(address, vma, SIGBUS);
      if (verdict.signal == 0 && !it->second.anon) DropPmaps(it->second.start, it->second.end);
      return verdict;
    }
    if (!(write && can_break) && it->second.mapped == it->second.Wanted())
      return Unexplained(address, vma, host_signal);
  }
  auto pmap = GetPmap(vma, page, write);
  if (!pmap.ok()) return {SIGBUS, BUS_ADRERR};
  if ((*pmap)->second.mapped == (*pmap)->second.Wanted()) return {};
  auto mapped = MapStub((*pmap)->second, false);
  if (!mapped.ok()) {
    // Too many host mappings: start over with none, and let what is in use fault back in.
    UnmapStub(0, kGuestAddressLimit);
    mapped = MapStub((*pmap)->second, false);
    if (!mapped.ok()) return {SIGBUS, BUS_ADRERR};
  }
  MergePmap(*pmap);
  return {};
}

bool MemoryManager::State::Populate(uint64_t start, uint64_t end, bool write) {
  end = std::min(end, start + kPopulateMax);
  for (uint64_t at = start; at < end;) {
    auto vma = VmaAt(at);
    if (vma == vmas.end() || IsNone(vma->second.prot)) return false;
    Userfault fault;
    if (vma->second.userfault && CheckUserfault(vma->second, at, write && vma->second.prot.write, &fault)) return false;
    auto pmap = GetPmap(vma->second, at, write && vma->second.prot.write);
    if (!pmap.ok()) return false;
    uint64_t next = (*pmap)->second.end;
    if (!(*pmap)->second.InStub() && MapStub((*pmap)->second, true).ok()) next = MergePmap(*pmap)->second.end;
    at = next;
  }
  return true;
}

MemoryManager::FaultSignal MemoryManager::HandleFault(uint64_t address, Access access, int host_signal) {
  Userfault fault;
  {
    Lock lock(*this);
    FaultSignal signal = state_->Fault(address, access, host_signal, &fault);
    if (!fault) return signal;
  }
  if (fault.context->HasFeature(UFFD_FEATURE_SIGBUS)) return {SIGBUS, BUS_ADRERR};
  // A signal that ends the wait is handled first; then the access faults again.
  (void)fault.context->Await(fault.address, fault.flags, false).ok();
  return {};
}

void MemoryManager::BeginImage() {
  Lock lock(*this);
  state_->loading = true;
}

void MemoryManager::State::FillImage() {
  int filled = 0;
  for (auto& [start, vma] : vmas) {
    if (!vma.object || IsNone(vma.prot)) continue;
    if (++filled > kMostImageFiles) return;
    // Relocation writes to a program's data; what is larger is data that may stay as it is.
    const bool write = vma.prot.write && vma.is_private && vma.length() <= kCopyGranule;
    // What can't be had is for the fault to tell.
    (void)GetPmap(vma, start, write).ok();
  }
}

void MemoryManager::MapEagerly() {
  Lock lock(*this);
  State& state = *state_;
  if (std::exchange(state.loading, false)) state.FillImage();
  std::vector<platform::Mapping> mappings;
  for (auto& [start, pmap] : state.pmaps) {
    Protection wanted = pmap.Wanted();
    if (pmap.InStub() || IsNone(wanted)) continue;
    int fd = pmap.fd < 0 ? state.memory.fd() : pmap.fd;
    mappings.push_back({start, pmap.length(), fd, pmap.offset, wanted});
  }
  if (mappings.empty()) return;
  ++state.generation;
  if (!address_space_->MapAll(mappings).ok()) {
    // What got there is not known: all of it faults in anew.
    const uint64_t from = mappings.front().address, to = mappings.back().address + mappings.back().length;
    for (auto it = state.PmapAfter(from); it != state.pmaps.end() && it->second.start < to; ++it)
      it->second.mapped = {};
    address_space_->Unmap(from, to - from);
    return;
  }
  for (auto it = state.pmaps.begin(); it != state.pmaps.end(); ++it) {
    if (it->second.InStub()) continue;
    it->second.mapped = it->second.Wanted();
    state.MarkText(it->second);
    it = state.MergePmap(it);
  }
}

}  // namespace sentry::mm
