// SPDX-License-Identifier: Apache-2.0
#include "platform/systrap/call_sites.h"

#include <string.h>

#include <algorithm>

#include "base/log.h"

namespace platform::systrap {
namespace {

constexpr uint8_t kMovEax = 0xb8;
constexpr uint8_t kJmp = 0xe9;
constexpr uint8_t kInt3 = 0xcc;
constexpr uint64_t kJumpLength = 5;
// A relocated site's gate is where byte 2 of the jump, the second of the displacement, is int3: in one such stretch of
// addresses of every 64 KiB.
constexpr uint64_t kIntOffset = uint64_t{kInt3} << 8;
constexpr uint64_t kStretch = 256;
constexpr uint64_t kPeriod = 64 << 10;
// rdgsbase %rcx; mov %gs:MAILBOX_SELF, %r11; not %r11; lea 1(%rcx, %r11), %rcx; jrcxz: is what %gs holds an area's
// address, and written there? No flag is touched.
constexpr uint8_t kCheck[] = {0xf3, 0x48, 0x0f, 0xae, 0xc9, 0x65, 0x4c, 0x8b, 0x1c, 0x25, MAILBOX_SELF, 0,
                              0,    0,    0x49, 0xf7, 0xd3, 0x4a, 0x8d, 0x4c, 0x19, 0x01, 0xe3};
constexpr uint64_t kCheckLength = sizeof kCheck + 1;
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

// That the instruction before `syscall` can be nothing but the move: with rax as it is, all else that ends in these
// bytes would have faulted, or is told by the bytes before.
bool IsMovedSite(std::span<const uint8_t, kPageSize> page, uint64_t end, uint64_t number) {
  if (number >= ANSWERED_CALLS || end < CallSite::kMoveLength + CallSite::kLookBack) return false;
  const uint8_t* site = page.data() + end - CallSite::kMoveLength;
  uint32_t immediate;
  memcpy(&immediate, site + 1, sizeof immediate);
  if (site[0] != kMovEax || immediate != number || site[5] != 0x0f || site[6] != 0x05) return false;
  if (BelongsToNext(site[-1])) return false;
  return !TakesImmediate(site[-2]) && !TakesImmediate(site[-3]) && !TakesImmediate(site[-4]);
}

// The length of a ModRM byte and what belongs to it; 0: an operand relative to rip, or cut off.
size_t OperandLength(std::span<const uint8_t> code) {
  if (code.empty()) return 0;
  const uint8_t mode = code[0] >> 6, base = code[0] & 7;
  if (mode == 3) return 1;
  if (mode == 0 && base == 5) return 0;
  size_t length = mode == 1 ? 2 : mode == 2 ? 5 : 1;
  if (base == 4) {
    if (code.size() < 2) return 0;
    if (mode == 0 && (code[1] & 7) == 5) length += 4;
    ++length;
  }
  return length;
}

// The length of the instruction if it does the same elsewhere and is at least as long as what the jump takes of it:
// arithmetic and moves. Else 0.
size_t TailLength(std::span<const uint8_t> code) {
  const bool rex = !code.empty() && (code[0] & 0xf0) == 0x40;
  const bool wide = rex && (code[0] & 8) != 0;
  const size_t at = rex ? 1 : 0;
  if (code.size() < at + 2) return 0;
  const uint8_t opcode = code[at], extension = code[at + 1] >> 3 & 7;
  const size_t operand = OperandLength(code.subspan(at + 1));
  const size_t with_operand = operand == 0 ? 0 : at + 1 + operand;
  const bool arithmetic = opcode < 0x40;
  size_t length = 0;
  if (arithmetic && (opcode & 7) == 5) {
    length = at + 5;  // add, or, adc, sbb, and, sub, xor, cmp: rax, immediate
  } else if ((arithmetic && ((opcode & 7) == 1 || (opcode & 7) == 3)) || opcode == 0x85 || opcode == 0x89 ||
             opcode == 0x8b || opcode == 0x8d || opcode == 0x63) {
    length = with_operand;  // the same, test, mov, lea, movsxd: register and operand
  } else if (opcode == 0x83 && operand != 0) {
    length = with_operand + 1;
  } else if ((opcode == 0x81 || (opcode == 0xc7 && extension == 0)) && operand != 0) {
    length = with_operand + 4;
  } else if (opcode == 0xff && extension <= 1) {
    length = with_operand;  // inc, dec
  } else if ((opcode & 0xf8) == 0xb8 && !wide) {
    length = at + 5;
  }
  if (length < kJumpLength - CallSite::kSyscallLength || length > std::min(code.size(), CallSite::kMaxTail)) return 0;
  return length;
}

void Put(uint8_t*& to, std::span<const uint8_t> bytes) {
  memcpy(to, bytes.data(), bytes.size());
  to += bytes.size();
}
void PutWord(uint8_t*& to, uint32_t word) {
  memcpy(to, &word, sizeof word);
  to += sizeof word;
}

}  // namespace

std::optional<CallSite> FindCallSite(std::span<const uint8_t, kPageSize> page, uint64_t address, uint64_t end,
                                     uint64_t number) {
  if (end > kPageSize || end < CallSite::kSyscallLength) return std::nullopt;
  if (page[end - 2] != 0x0f || page[end - 1] != 0x05) return std::nullopt;
  CallSite site;
  if (IsMovedSite(page, end, number)) {
    site.address = address + end - CallSite::kMoveLength;
    site.number = static_cast<uint32_t>(number);
    return site;
  }
  site.moved = false;
  site.address = address + end - CallSite::kSyscallLength;
  site.tail_length = static_cast<uint8_t>(TailLength(page.subspan(end)));
  if (site.tail_length == 0) return std::nullopt;
  memcpy(site.tail.data(), page.data() + end, site.tail_length);
  return site;
}

uint64_t CallSites::Gate::own_syscall() const { return address + kCheckLength; }
uint64_t CallSites::Gate::tail() const { return own_syscall() + CallSite::kSyscallLength; }

void CallSites::Lend(uint64_t start, uint64_t end) {
  if (rooms_.size() < kMaxRooms) rooms_.push_back({.start = start, .end = end, .pages = {}});
}

void CallSites::TakeBack(uint64_t start, uint64_t end) {
  gone_.clear();
  std::erase_if(rooms_, [&](const Room& room) {
    if (room.start >= end || start >= room.end) return false;
    std::erase_if(gates_, [&](const Gate& gate) {
      if (gate.address < room.start || gate.address >= room.end) return false;
      gone_.push_back(gate);
      return true;
    });
    return true;
  });
}

bool CallSites::HasRoomIn(uint64_t start, uint64_t end) const {
  return std::any_of(rooms_.begin(), rooms_.end(),
                     [&](const Room& room) { return room.start < end && start < room.end; });
}

bool CallSites::IsFree(const Room& room, uint64_t slot) const {
  const uint64_t index = slot % kPageSize / kSlotSize;
  if (index == 0 || slot < room.start || slot + kSlotSize > room.end) return false;
  for (const RoomPage& page : room.pages) {
    if (slot - page.address < kPageSize) return !page.used[index];
  }
  size_t mapped = 0;
  for (const Room& other : rooms_) mapped += other.pages.size();
  return mapped < kMaxRoomPages;
}

uint64_t CallSites::PlaceFor(const CallSite& site) const {
  for (const Gate& gate : gates_) {
    if (gate.site == site) return gate.address;
  }
  const uint64_t from = site.address + kJumpLength;
  for (const Room& room : rooms_) {
    const int64_t distance = static_cast<int64_t>(room.start - site.address);
    if (distance > kReach || distance < -kReach) continue;
    if (!site.moved) {
      uint64_t first = room.start + (from + kIntOffset - room.start) % kPeriod;
      for (; first < room.end; first += kPeriod) {
        const uint64_t aligned = (first + kSlotSize - 1) & ~(kSlotSize - 1);
        for (uint64_t slot = aligned; slot < first + kStretch; slot += kSlotSize) {
          if (IsFree(room, slot)) return slot;
        }
      }
      continue;
    }
    auto in_page = [&](uint64_t page) -> uint64_t {
      for (uint64_t slot = page; slot < page + kPageSize; slot += kSlotSize) {
        if (IsFree(room, slot)) return slot;
      }
      return 0;
    };
    for (const RoomPage& page : room.pages) {
      if (const uint64_t slot = in_page(page.address); slot != 0) return slot;
    }
    for (uint64_t page = room.start; page < room.end; page += kPageSize) {
      if (const uint64_t slot = in_page(page); slot != 0) return slot;
    }
  }
  return 0;
}

CallSites::RoomPage* CallSites::PageOf(uint64_t address) {
  for (Room& room : rooms_) {
    for (RoomPage& page : room.pages) {
      if (address - page.address < kPageSize) return &page;
    }
  }
  return nullptr;
}

CallSites::RoomPage& CallSites::AddPage(uint64_t address, uint64_t file_offset) {
  for (Room& room : rooms_) {
    if (address < room.start || address >= room.end) continue;
    return room.pages.emplace_back(
        RoomPage{.address = address & ~(kPageSize - 1), .file_offset = file_offset, .used = {}});
  }
  FATAL("no room at %#lx", address);
}

// A gate is
//   (moved)     mov $number, %eax
//               the check; to `ours` if it holds
//   (moved)     jmp to the site's `syscall`
//   (relocated) syscall; the tail; jmp behind the site
//   ours:       lea to where the call returns to, %rcx
//               jmp to the stub's code
void CallSites::WriteGate(uint8_t* view, uint64_t address, const CallSite& site, uint64_t stub_code) {
  RoomPage* page = PageOf(address);
  CHECK_THAT(page != nullptr);
  const uint64_t offset = address % kPageSize;
  if (page->used[offset / kSlotSize]) return;
  page->used.set(offset / kSlotSize);
  gates_.push_back({.address = address, .site = site});
  memcpy(view, &stub_code, sizeof stub_code);
  std::array<uint8_t, kSlotSize> gate;
  gate.fill(kInt3);
  uint8_t* to = gate.data();
  auto here = [&] { return address + static_cast<uint64_t>(to - gate.data()); };
  if (site.moved) {
    *to++ = kMovEax;
    PutWord(to, site.number);
  }
  Put(to, kCheck);
  uint8_t* const distance = to++;
  auto jump = [&](uint64_t target) {
    *to++ = kJmp;
    PutWord(to, static_cast<uint32_t>(Displacement(target, here() + 4)));
  };
  if (site.moved) {
    jump(site.syscall());
  } else {
    CHECK_THAT(here() == gates_.back().own_syscall());
    *to++ = 0x0f;
    *to++ = 0x05;
    Put(to, std::span(site.tail).first(site.tail_length));
    jump(site.return_address() + site.tail_length);
  }
  *distance = static_cast<uint8_t>(to - distance - 1);
  constexpr uint8_t kLea[] = {0x48, 0x8d, 0x0d};
  Put(to, kLea);
  PutWord(to, static_cast<uint32_t>(Displacement(gates_.back().returns_to(), here() + 4)));
  constexpr uint8_t kJumpTo[] = {0xff, 0x25};
  Put(to, kJumpTo);
  PutWord(to, static_cast<uint32_t>(Displacement(address - offset, here() + 4)));
  memcpy(view + offset, gate.data(), gate.size());
}

void CallSites::WriteJump(uint8_t* view, const CallSite& site, uint64_t gate) {
  uint8_t* at = view + site.address % kPageSize;
  const int32_t displacement = Displacement(gate, site.address + kJumpLength);
  at[0] = kJmp;
  memcpy(at + 1, &displacement, sizeof displacement);
  CHECK_THAT(site.moved || at[CallSite::kSyscallLength] == kInt3);
}

uint64_t CallSites::FreeShadow() const {
  for (uint64_t shadow = kShadowAddress;; shadow += kPageSize) {
    bool taken =
        std::any_of(pages.begin(), pages.end(), [&](const auto& page) { return page.second.shadow == shadow; });
    if (!taken) return shadow;
  }
}

template <typename Predicate>
const CallSites::Gate* CallSites::FindGate(bool gone, Predicate predicate) const {
  for (const auto* gates : {&gates_, &gone_}) {
    const auto it = std::find_if(gates->begin(), gates->end(), predicate);
    if (it != gates->end()) return &*it;
    if (!gone) break;
  }
  return nullptr;
}

const CallSites::Gate* CallSites::GateAt(uint64_t address, bool gone) const {
  return FindGate(gone, [&](const Gate& gate) { return address - gate.address < kSlotSize; });
}

const CallSites::Gate* CallSites::GateReturningTo(uint64_t address, bool gone) const {
  return FindGate(gone, [&](const Gate& gate) { return gate.returns_to() == address; });
}

const CallSites::Gate* CallSites::RelocatedEndingAt(uint64_t address) const {
  auto page = pages.find((address - 1) & ~(kPageSize - 1));
  if (page == pages.end()) return nullptr;
  const auto end = page->second.relocated.find(address);
  return end == page->second.relocated.end() ? nullptr : GateAt(end->second);
}

}  // namespace platform::systrap
