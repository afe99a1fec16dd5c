// SPDX-License-Identifier: Apache-2.0
// mseal(2), remap_file_pages(2).
#include <algorithm>

#include "sentry/mm/mm_state.h"

namespace sentry::mm {

bool MemoryManager::State::AnySealed(uint64_t start, uint64_t end) {
  for (auto it = VmaAfter(start); it != vmas.end() && it->second.start < end; ++it) {
    if (it->second.sealed) return true;
  }
  return false;
}

Result<void> MemoryManager::Seal(uint64_t address, uint64_t length) {
  if (address % kPageSize || length > UINT64_MAX - kPageSize || address + PageUp(length) < address)
    return Errno(EINVAL);
  const uint64_t end = address + PageUp(length);
  if (end == address) return OkResult();
  Lock lock(*this);
  State& state = *state_;
  if (end > kGuestAddressLimit || !state.Covered(address, end) || state.vmas.size() + 2 > kMaxVmas)
    return Errno(ENOMEM);
  state.SplitVma(address);
  state.SplitVma(end);
  for (auto it = state.VmaAt(address); it != state.vmas.end() && it->second.start < end; ++it) it->second.sealed = true;
  state.MergeVmas(address, end);
  return OkResult();
}

// As Linux emulates it: a new mapping of the same object in place of [address, address+length), which must lie in
// shared mappings of that object.
Result<void> MemoryManager::RemapPages(uint64_t address, uint64_t length, uint64_t page_offset, bool populate) {
  address = PageDown(address);
  length = PageDown(length);
  if (address + length <= address) return Errno(EINVAL);
  if (page_offset + length / kPageSize < page_offset || page_offset > UINT64_MAX / kPageSize) return Errno(EINVAL);
  const uint64_t end = address + length;
  Lock lock(*this);
  State& state = *state_;
  auto it = state.VmaAt(address);
  if (it == state.vmas.end() || it->second.is_private || !it->second.object) return Errno(EINVAL);
  const Vma first = it->second;
  for (uint64_t at = address; at < end; ++it) {
    if (it == state.vmas.end() || it->second.start > at || it->second.object != first.object ||
        it->second.prot != first.prot)
      return Errno(EINVAL);
    at = it->second.end;
  }
  if (state.AnySealed(address, end)) return Errno(EPERM);
  MmapRequest request{.address = address,
                      .length = length,
                      .protection = first.prot,
                      .max_protection = first.max_prot,
                      .is_private = false,
                      .fixed = true,
                      .populate = populate,
                      .no_reserve = first.no_reserve,
                      .locked = first.locked,
                      .object = first.object,
                      .offset = page_offset * kPageSize};
  if (request.offset > INT64_MAX - length) return Errno(EOVERFLOW);
  TRY(state.Mmap(request, length, first.object));
  return OkResult();
}

}  // namespace sentry::mm
