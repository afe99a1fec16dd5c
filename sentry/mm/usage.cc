// SPDX-License-Identifier: Apache-2.0
// What /proc and prctl see, and invalidation by files.
#include <algorithm>

#include "sentry/mm/host_memory.h"
#include "sentry/mm/mm_state.h"

namespace sentry::mm {

uint64_t MemoryManager::State::Resident(uint64_t start, uint64_t end, uint64_t* anonymous) {
  uint64_t total = 0;
  for (auto it = PmapAfter(start); it != pmaps.end() && it->second.start < end;) {
    const Pmap& first = it->second;
    platform::FileRange range = {first.offset, first.offset + first.length()};
    // Neighbours in the memory file are asked about at once: a process may have 65530 mappings of a page.
    while (++it != pmaps.end() && it->second.start < end && first.fd < 0 && it->second.fd < 0 &&
           it->second.anon == first.anon && it->second.offset == range.end) {
      range.end += it->second.length();
    }
    uint64_t bytes = first.fd >= 0 ? range.length() : memory.DataBytes(range);
    total += bytes;
    if (first.anon) *anonymous += bytes;
  }
  return total;
}

void MemoryManager::ForEachVma(const std::function<void(const VmaInfo&)>& visit, bool residency) {
  struct Row {
    VmaInfo info;
    RefPtr<MappedObject> object;
  };
  std::vector<Row> rows;
  {
    Lock lock(*this);
    State& state = *state_;
    rows.reserve(state.vmas.size());
    for (const auto& [start, vma] : state.vmas) {
      VmaInfo info = {.start = vma.start,
                      .end = vma.end,
                      .protection = vma.prot,
                      .is_private = vma.is_private,
                      .grows_down = vma.grows_down,
                      .locked = vma.locked,
                      .offset = vma.object ? vma.offset : 0};
      if (vma.name) {
        info.name = vma.name;
      } else if (vma.stack && vma.start <= state.image.start_stack && state.image.start_stack < vma.end) {
        info.name = "[stack]";
      }
      if (residency) info.resident = state.Resident(vma.start, vma.end, &info.anonymous);
      rows.push_back({std::move(info), vma.object});
    }
  }
  for (Row& row : rows) {
    if (row.object) {
      if (row.info.name.empty()) row.info.name = row.object->Name();
      row.info.device = row.object->Device();
      row.info.inode = row.object->InodeNumber();
    }
    visit(row.info);
  }
}

RefPtr<MappedObject> MemoryManager::ObjectAt(uint64_t address, uint64_t* offset) {
  Lock lock(*this);
  auto it = state_->VmaAt(address);
  if (it == state_->vmas.end() || !it->second.object) return nullptr;
  if (offset) *offset = it->second.OffsetOf(PageDown(address));
  return it->second.object;
}

MemoryManager::Usage MemoryManager::GetUsage() {
  Lock lock(*this);
  State& state = *state_;
  uint64_t anonymous = 0;
  uint64_t resident = state.Resident(0, kGuestAddressLimit, &anonymous);
  state.peak_resident = std::max(state.peak_resident, resident);
  return {.virtual_bytes = state.virtual_bytes,
          .resident_bytes = resident,
          .shared_bytes = resident - anonymous,
          .data_bytes = state.data_bytes,
          .stack_bytes = state.stack_bytes,
          .code_bytes = state.code_bytes,
          .locked_bytes = state.locked_bytes,
          .peak_virtual = state.peak_virtual,
          .peak_resident = state.peak_resident};
}

void MemoryManager::PrivateRanges(std::vector<platform::FileRange>* ranges) const {
  Lock lock(*this);
  for (const auto& [start, pmap] : state_->pmaps) {
    if (pmap.fd < 0 && pmap.anon) ranges->push_back(pmap.File(pmap.start, pmap.end));
  }
}

void MemoryManager::SetLimits(const MmLimits& limits) {
  Lock lock(*this);
  state_->limits = limits;
}

ImageInfo MemoryManager::image() const {
  Lock lock(*this);
  return state_->image;
}

void MemoryManager::SetImage(const ImageInfo& image) {
  Lock lock(*this);
  state_->image = image;
}

void MemoryManager::State::DropObjectPages(uint64_t start, uint64_t end, bool private_copies) {
  if (private_copies) return DropPmaps(start, end);
  for (uint64_t at = start; at < end;) {
    auto it = PmapAfter(at);
    if (it == pmaps.end() || it->second.start >= end) return;
    uint64_t from = std::max(at, it->second.start);
    at = std::min(end, it->second.end);
    if (!it->second.anon) DropPmaps(from, at);
  }
}

void MemoryManager::InvalidatePages(uint64_t address, uint64_t length, bool private_copies) {
  Lock lock(*this);
  State& state = *state_;
  if (address >= kGuestAddressLimit) return;
  uint64_t end = address + std::min(PageUp(std::min(length, kGuestAddressLimit)), kGuestAddressLimit - address);
  for (uint64_t at = address; at < end;) {
    auto vma = state.VmaAfter(at);
    if (vma == state.vmas.end() || vma->second.start >= end) return;
    uint64_t from = std::max(at, vma->second.start);
    at = std::min(end, vma->second.end);
    if (!vma->second.Anonymous()) state.DropObjectPages(from, at, private_copies);
  }
}

void MemoryManager::InvalidateObject(const ReverseMap& map, uint64_t offset, uint64_t length, bool private_copies) {
  Lock lock(*this);
  State& state = *state_;
  uint64_t limit = length > UINT64_MAX - offset ? UINT64_MAX : offset + length;
  for (auto& [start, vma] : state.vmas) {
    if (!vma.object || &vma.object->reverse_map() != &map) continue;
    uint64_t from = std::max(offset, vma.offset), to = std::min(limit, vma.offset + vma.length());
    if (from >= to) continue;
    state.DropObjectPages(vma.start + (PageDown(from) - vma.offset), vma.start + (PageUp(to) - vma.offset),
                          private_copies);
  }
}

}  // namespace sentry::mm
