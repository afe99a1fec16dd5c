// SPDX-License-Identifier: Apache-2.0
// mmap(2), munmap(2), brk(2), and the life of a MemoryManager.
#include <algorithm>

#include "sentry/mm/mm_state.h"
#include "sentry/mm/shm_object.h"

namespace sentry::mm {

MemoryManager::MemoryManager(platform::Platform& platform, platform::MemoryFile& memory_file,
                             RefPtr<platform::AddressSpace> space)
    : platform_(platform),
      memory_file_(memory_file),
      address_space_(std::move(space)),
      state_(std::make_unique<State>(*this, memory_file)) {}

MemoryManager::~MemoryManager() { Clear(); }

Result<RefPtr<MemoryManager>> MemoryManager::Create(platform::Platform& platform, platform::MemoryFile& memory_file) {
  auto space = TRY(platform.NewAddressSpace());
  return RefPtr<MemoryManager>(new MemoryManager(platform, memory_file, std::move(space)));
}

RefPtr<MemoryManager::Companion> MemoryManager::companion() const {
  MutexLock lock(companion_mu_);
  return companion_;
}

RefPtr<MemoryManager::Companion> MemoryManager::SetCompanion(RefPtr<Companion> companion) {
  MutexLock lock(companion_mu_);
  if (!companion_) companion_ = std::move(companion);
  return companion_;
}

void MemoryManager::Clear() {
  RefPtr<Companion> companion;
  {
    MutexLock lock(companion_mu_);
    std::swap(companion, companion_);
  }
  if (companion) companion->OnClear();
  Lock lock(*this);
  State& state = *state_;
  if (!state.vmas.empty()) state.UnmapRange(state.vmas.begin()->first, state.vmas.rbegin()->second.end);
  state.ReleaseWindows();
  state.brk_start = state.brk = 0;
  state.search_top = state.mmap_base;
  state.search_hole = 0;
  state.lock_future = false;
}

uint64_t MemoryManager::ChooseMmapBase(uint64_t stack_limit, uint64_t random) {
  constexpr uint64_t kMinGap = 128 << 20;
  constexpr uint64_t kStackRandom = uint64_t{16} << 30;  // how far the stack's top may be below the limit
  uint64_t gap = std::clamp(stack_limit, kMinGap, kGuestAddressLimit / 6 * 5);
  gap = std::min(gap + kStackRandom + kStackGuardGap, kGuestAddressLimit / 6 * 5);
  return PageDown(kGuestAddressLimit - gap - (random & ((uint64_t{1} << 28) - 1)) * kPageSize);
}

void MemoryManager::SetMmapBase(uint64_t base) {
  Lock lock(*this);
  state_->mmap_base = state_->search_top = PageDown(std::min(base, kGuestAddressLimit));
  state_->search_hole = 0;
}

void MemoryManager::SetMemoryLimit(uint64_t bytes) { memory_limit.store(bytes, std::memory_order_relaxed); }

uint64_t MemoryManager::MemoryLimit() { return memory_limit.load(std::memory_order_relaxed); }

Result<uint64_t> MemoryManager::Mmap(const MmapRequest& request) {
  if (request.length == 0) return Errno(EINVAL);
  if (request.length > kGuestAddressLimit) return Errno(ENOMEM);
  uint64_t length = PageUp(request.length);
  if (request.offset % kPageSize) return Errno(EINVAL);
  if (request.object && request.offset > INT64_MAX - length) return Errno(EOVERFLOW);
  if (request.grows_down && !request.is_private) return Errno(EINVAL);
  const Protection& max = request.max_protection;
  const Protection& prot = request.protection;
  if ((prot.read && !max.read) || (prot.write && !max.write) || (prot.exec && !max.exec)) return Errno(EACCES);
  if (request.fixed || request.no_replace) {
    if (request.address % kPageSize) return Errno(EINVAL);
    if (length > kGuestAddressLimit || request.address > kGuestAddressLimit - length) return Errno(ENOMEM);
    if (request.address < kGuestAddressMin) return Errno(EPERM);
  }
  RefPtr<MappedObject> object = request.object;
  if (!object && !request.is_private) {
    if (!request.no_reserve && length > memory_limit.load(std::memory_order_relaxed)) return Errno(ENOMEM);
    object = TRY(ShmObject::Create(memory_file_, length, "/dev/zero (deleted)"));
  }
  UserfaultEvents events;
  Result<uint64_t> mapped = Errno(ENOMEM);
  {
    Lock lock(*this);
    if (request.fixed && !request.no_replace) {
      state_->CollectEvents(request.address, request.address + length, UFFD_FEATURE_EVENT_UNMAP, UFFD_EVENT_UNMAP,
                            &events);
    }
    mapped = state_->Mmap(request, length, std::move(object));
  }
  if (mapped.ok()) events.Post();
  return mapped;
}

Result<uint64_t> MemoryManager::State::Mmap(const MmapRequest& request, uint64_t length, RefPtr<MappedObject> object) {
  bool huge = !object && length >= kHugeSize && length % kHugeSize == 0;
  uint64_t address = request.address;
  uint64_t replaced = 0;
  if (request.fixed || request.no_replace) {
    for (auto it = VmaAfter(address); it != vmas.end() && it->second.start < address + length; ++it) {
      replaced += std::min(it->second.end, address + length) - std::max(it->second.start, address);
    }
    if (replaced && request.no_replace) return Errno(EEXIST);
    if (replaced && AnySealed(address, address + length)) return Errno(EPERM);
  } else {
    address = FindFree(PageDown(address), length, request.below_4g, huge ? kHugeSize : kPageSize);
    if (address == kNoAddress) return Errno(ENOMEM);
  }
  Vma vma;
  vma.start = address;
  vma.end = address + length;
  vma.prot = request.protection;
  vma.max_prot = request.max_protection;
  vma.is_private = request.is_private;
  vma.grows_down = request.grows_down;
  vma.stack = request.stack || request.grows_down;
  vma.locked = request.locked || lock_future;
  vma.no_reserve = request.no_reserve;
  vma.offset = object ? request.offset : 0;
  vma.object = std::move(object);
  vma.name = request.name;
  if (vmas.size() >= kMaxVmas) return Errno(ENOMEM);
  TRY(CheckLimits(vma, length, replaced));
  if (replaced) UnmapRange(address, address + length);
  bool populate = request.populate || vma.locked;
  bool write = vma.is_private && vma.prot.write;
  InsertVma(std::move(vma));
  MergeVmas(address, address + length);
  if (const Vma& merged = VmaAt(address)->second; merged.Anonymous() && !request.no_reserve && length <= kEagerMax) {
    MakeEager(merged, address, address + length, populate);
  }
  if (populate) Populate(address, address + length, write);
  return address;
}

Result<void> MemoryManager::Munmap(uint64_t address, uint64_t length) {
  uint64_t end = TRY(RangeEnd(address, length, EINVAL));
  if (end == address) return Errno(EINVAL);
  UserfaultEvents events;
  {
    Lock lock(*this);
    if (state_->AnySealed(address, end)) return Errno(EPERM);
    // Splitting one mapping in two must not pass the limit.
    auto it = state_->VmaAt(address);
    if (state_->vmas.size() >= kMaxVmas && it != state_->vmas.end() && it->second.start < address &&
        it->second.end > end) {
      return Errno(ENOMEM);
    }
    state_->CollectEvents(address, end, UFFD_FEATURE_EVENT_UNMAP, UFFD_EVENT_UNMAP, &events);
    state_->UnmapRange(address, end);
  }
  events.Post();
  return OkResult();
}

// shmdt(2): the first part of a segment that lies where it would if the segment began at `address`, and then the other
// parts of the same one.
Result<void> MemoryManager::Detach(uint64_t address) {
  if (address % kPageSize) return Errno(EINVAL);
  Lock lock(*this);
  State& state = *state_;
  RefPtr<MappedObject> segment;
  for (auto it = state.VmaAfter(address); it != state.vmas.end();) {
    const Vma& vma = it->second;
    if (segment && vma.start - address >= segment->DetachLength()) break;
    const bool belongs = vma.object && vma.object->DetachLength() && vma.start >= address &&
                         vma.start - address == vma.offset && (!segment || segment == vma.object) && !vma.sealed;
    if (!belongs) {
      ++it;
      continue;
    }
    segment = vma.object;
    const uint64_t end = vma.end;
    state.UnmapRange(vma.start, end);
    it = state.VmaAfter(end);
  }
  if (!segment) return Errno(EINVAL);
  state.dropped.push_back(std::move(segment));
  return OkResult();
}

void MemoryManager::SetBrkStart(uint64_t address) {
  Lock lock(*this);
  state_->brk_start = state_->brk = address;
}

uint64_t MemoryManager::Brk(uint64_t address) {
  Lock lock(*this);
  State& state = *state_;
  if (address < state.brk_start || address > kGuestAddressLimit) return state.brk;
  uint64_t old_end = PageUp(state.brk), new_end = PageUp(address);
  if (address - state.brk_start > state.limits.data) return state.brk;
  if (new_end < old_end) {
    if (state.AnySealed(new_end, old_end)) return state.brk;
    state.UnmapRange(new_end, old_end);
  } else if (new_end > old_end) {
    Vma vma;
    vma.start = old_end;
    vma.end = new_end;
    vma.prot = {true, true, false};
    vma.locked = state.lock_future;
    vma.name = "[heap]";
    if (new_end > kGuestAddressLimit - kPageSize || !state.IsFree(old_end, new_end + kPageSize)) return state.brk;
    if (state.vmas.size() >= kMaxVmas || !state.CheckLimits(vma, vma.length(), 0).ok()) return state.brk;
    state.InsertVma(vma);
    state.MergeVmas(old_end, new_end);
    if (new_end - old_end <= kEagerMax) state.MakeEager(state.VmaAt(old_end)->second, old_end, new_end, vma.locked);
  }
  return state.brk = address;
}

}  // namespace sentry::mm
