// SPDX-License-Identifier: Apache-2.0
// What the platform needs to know to patch calls in the guest's text: where text is, and where its own code may be.
#include <algorithm>

#include "sentry/mm/mm_state.h"

namespace sentry::mm {
namespace {

// Neither the image's growth nor its guards come that near.
constexpr uint64_t kAboveLibraries = 1 << 20;
constexpr uint64_t kBelowImage = 64 << 10;
constexpr uint64_t kSegmentGap = 4 << 20;
// Virtual: what the platform maps there are single pages.
constexpr uint64_t kRoomSize = 128 << 10;

}  // namespace

void MemoryManager::State::LendRooms() {
  uint64_t image_start = PageDown(image.start_code);
  // The image's other segments are below its code.
  for (auto it = VmaAt(image_start); it != vmas.end(); --it) {
    image_start = it->second.start;
    if (it == vmas.begin() || std::prev(it)->second.end + kSegmentGap < image_start) break;
  }
  const uint64_t candidates[] = {mmap_base + kAboveLibraries, image_start > kGuestAddressMin + kBelowImage + kRoomSize
                                                                  ? image_start - kBelowImage - kRoomSize
                                                                  : 0};
  for (uint64_t room : candidates) {
    if (room < kGuestAddressMin || room + kRoomSize > kGuestAddressLimit || !IsFree(room, room + kRoomSize)) continue;
    if (std::find(rooms.begin(), rooms.end(), room) != rooms.end()) continue;
    rooms.push_back(room);
    mm.address_space_->LendRoom(room, kRoomSize);
  }
}

void MemoryManager::State::TakeBackRooms(uint64_t start, uint64_t end) {
  for (auto it = rooms.begin(); it != rooms.end();) {
    if (*it >= end || start >= *it + kRoomSize) {
      ++it;
      continue;
    }
    mm.address_space_->TakeBackRoom(*it, kRoomSize);
    it = rooms.erase(it);
  }
}

void MemoryManager::State::MarkText(const Pmap& pmap) {
  if (pmap.anon || !pmap.cow || !pmap.mapped.exec || pmap.prot.write) return;
  mm.address_space_->MarkText(pmap.start, pmap.length());
}

void MemoryManager::LendRooms() {
  Lock lock(*this);
  state_->LendRooms();
}

}  // namespace sentry::mm
