// SPDX-License-Identifier: Apache-2.0
// ReverseMap.
#include <algorithm>
#include <set>

#include "sentry/mm/mapped_object.h"
#include "sentry/mm/memory_manager.h"

namespace sentry::mm {
namespace {
// Each round visits the spaces that came meanwhile (fork); enough for any real race.
constexpr int kMaxRounds = 100;
}  // namespace

void ReverseMap::Add(MemoryManager* mm, uint64_t address, uint64_t length, uint64_t offset) {
  MutexLock lock(mu_);
  auto& list = mappings_[mm];
  for (Mapping& mapping : list) {
    // Growing mappings (mremap, merges) stay one entry.
    if (mapping.address + mapping.length == address && mapping.offset + mapping.length == offset) {
      mapping.length += length;
      return;
    }
  }
  list.push_back({address, length, offset});
}

void ReverseMap::Remove(MemoryManager* mm, uint64_t address, uint64_t length, uint64_t offset) {
  MutexLock lock(mu_);
  auto found = mappings_.find(mm);
  if (found == mappings_.end()) return;
  uint64_t end = address + length;
  auto& list = found->second;
  for (size_t i = 0; i < list.size();) {
    Mapping old = list[i];
    uint64_t old_end = old.address + old.length;
    // A different delta is another mapping that came to lie there.
    if (old.address >= end || old_end <= address || old.offset - old.address != offset - address) {
      ++i;
      continue;
    }
    list[i] = list.back();
    list.pop_back();
    if (old.address < address) list.push_back({old.address, address - old.address, old.offset});
    if (old_end > end) list.push_back({end, old_end - end, old.offset + (end - old.address)});
  }
  if (list.empty()) mappings_.erase(found);
}

void ReverseMap::Invalidate(uint64_t offset, uint64_t length, bool private_copies) {
  uint64_t limit = length > UINT64_MAX - offset ? UINT64_MAX : offset + length;
  std::set<MemoryManager*> visited;
  // Held to the end: an address must not be reused by a new space while it counts as visited.
  std::vector<RefPtr<MemoryManager>> spaces;
  for (int round = 0; round < kMaxRounds; ++round) {
    size_t first = spaces.size();
    {
      MutexLock lock(mu_);
      for (const auto& [mm, list] : mappings_) {
        bool affected = std::any_of(list.begin(), list.end(), [&](const Mapping& mapping) {
          return mapping.offset < limit && mapping.offset + mapping.length > offset;
        });
        if (!affected || visited.contains(mm) || !mm->TryIncRef()) continue;
        visited.insert(mm);
        spaces.push_back(RefPtr<MemoryManager>::Adopt(mm));
      }
    }
    if (spaces.size() == first) return;
    for (size_t i = first; i < spaces.size(); ++i) spaces[i]->InvalidateObject(*this, offset, length, private_copies);
  }
}

bool ReverseMap::Empty() const {
  MutexLock lock(mu_);
  return mappings_.empty();
}

}  // namespace sentry::mm
