// SPDX-License-Identifier: Apache-2.0
#include "platform/systrap/call_sites.h"

#include <string.h>

#include <algorithm>

#include "base/log.h"

namespace platform::systrap {
namespace {

constexpr uint8_t kMovEax = 0xb8;
constexpr uint8_t kJmp = 0xe9;
// lea 9(%rip), %rcx: the GateTarget, 16 bytes from the gate's start.
constexpr uint8_t kLea[] = {0x48, 0x8d, 0x0d, 9, 0, 0, 0};
constexpr uint64_t kTargetOffset = 16;
constexpr int64_t kReach = int64_t{0x7fff'0000};

// Prefixes, REX among them, that would make another instruction of a 0xb8 behind them; and the last bytes of opcodes
// that take 0xb8 for a ModRM byte (of a memory operand at rax plus the number) without touching that memory: lea,
// prefetches, long nops.
bool BelongsToNext(uint8_t byte) {
  switch (byte) {
    case 0x26:
    case 0x2e:
    case 0x36:
    case 0x3e:
    case 0x64:
    case 0x65:
    case 0x66:
    case 0x67:
    case 0xf0:
    case 0xf2:
    case 0xf3:
    case 0x8d:
    case 0x0d:
    case 0x18:
    case 0x19:
    case 0x1a:
    case 0x1b:
    case 0x1c:
    case 0x1d:
    case 0x1e:
    case 0x1f:
      return true;
    default:
      return byte >= 0x40 && byte <= 0x4f;
  }
}
// Opcodes of instructions with a memory operand and an immediate, of which 0xb8 could be the displacement; or a segment
// prefix, by which an address near 0 could be one.
bool TakesImmediate(uint8_t byte) {
  return byte == 0xc7 || byte == 0x81 || byte == 0x69 || byte == 0xf7 || byte == 0x8d || byte == 0x64 || byte == 0x65;
}

int32_t Displacement(uint64_t to, uint64_t from) {
  const int64_t distance = static_cast<int64_t>(to - from);
  CHECK_THAT(distance == static_cast<int32_t>(distance));
  return static_cast<int32_t>(distance);
}

}  // namespace

bool IsCallSite(std::span<const uint8_t, kPageSize> page, uint64_t end, uint64_t number) {
  if (number >= ANSWERED_CALLS || end > kPageSize || end < CallSite::kLength + CallSite::kLookBack) return false;
  const uint8_t* site = page.data() + end - CallSite::kLength;
  uint32_t immediate;
  memcpy(&immediate, site + 1, sizeof immediate);
  if (site[0] != kMovEax || immediate != number || site[5] != 0x0f || site[6] != 0x05) return false;
  if (BelongsToNext(site[-1])) return false;
  return !TakesImmediate(site[-2]) && !TakesImmediate(site[-3]) && !TakesImmediate(site[-4]);
}

void CallSites::Lend(uint64_t start, uint64_t end) {
  if (rooms_.size() < kMaxRooms && end - start >= kPageSize) rooms_.push_back({.address = start});
}

void CallSites::TakeBack(uint64_t start, uint64_t end) {
  std::erase_if(rooms_, [&](const Room& room) { return room.address < end && start < room.address + kPageSize; });
}

bool CallSites::HasRoomIn(uint64_t start, uint64_t end) const {
  return std::any_of(rooms_.begin(), rooms_.end(),
                     [&](const Room& room) { return room.address < end && start < room.address + kPageSize; });
}

CallSites::Room* CallSites::RoomFor(const CallSite& site) {
  for (Room& room : rooms_) {
    const int64_t distance = static_cast<int64_t>(room.address - site.address);
    if (distance > kReach || distance < -kReach) continue;
    bool known = std::any_of(room.sites.begin(), room.sites.end(), [&](const CallSite& its) {
      return its.address == site.address && its.number == site.number;
    });
    if (known || room.sites.size() < kSlots - 1) return &room;
  }
  return nullptr;
}

uint64_t CallSites::WriteGate(Room& room, uint8_t* view, const CallSite& site, uint64_t stub_code) {
  for (size_t i = 0; i < room.sites.size(); ++i) {
    if (room.sites[i].address == site.address && room.sites[i].number == site.number) {
      return room.address + (i + 1) * kSlotSize;
    }
  }
  room.sites.push_back(site);
  const uint64_t offset = room.sites.size() * kSlotSize;
  memcpy(view, &stub_code, sizeof stub_code);
  uint8_t gate[kSlotSize];
  memset(gate, 0xcc, sizeof gate);
  memcpy(gate, kLea, sizeof kLea);
  // jmp *entry(%rip)
  uint8_t* jump = gate + sizeof kLea;
  const int32_t displacement = Displacement(room.address, room.address + offset + sizeof kLea + 6);
  jump[0] = 0xff;
  jump[1] = 0x25;
  memcpy(jump + 2, &displacement, sizeof displacement);
  const GateTarget target = {.return_address = site.return_address(), .number = site.number, .unused = 0};
  memcpy(gate + kTargetOffset, &target, sizeof target);
  memcpy(view + offset, gate, sizeof gate);
  return room.address + offset;
}

void CallSites::WriteJump(uint8_t* view, const CallSite& site, uint64_t gate) {
  uint8_t* at = view + site.address % kPageSize;
  const int32_t displacement = Displacement(gate, site.syscall());
  at[0] = kJmp;
  memcpy(at + 1, &displacement, sizeof displacement);
}

uint64_t CallSites::FreeShadow() const {
  for (uint64_t shadow = kShadowAddress;; shadow += kPageSize) {
    bool taken =
        std::any_of(pages.begin(), pages.end(), [&](const auto& page) { return page.second.shadow == shadow; });
    if (!taken) return shadow;
  }
}

std::optional<CallSite> CallSites::SiteOfGate(uint64_t address) const {
  for (const Room& room : rooms_) {
    if (address < room.address || address >= room.address + kPageSize) continue;
    const uint64_t slot = (address - room.address) / kSlotSize;
    if (slot == 0 || slot > room.sites.size()) return std::nullopt;
    return room.sites[slot - 1];
  }
  return std::nullopt;
}

}  // namespace platform::systrap
