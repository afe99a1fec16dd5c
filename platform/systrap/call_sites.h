// SPDX-License-Identifier: Apache-2.0
// CallSites: which system calls of an address space go to the stub by a jump instead of a trap, and by what code. See
// "Patched call sites" in README.md. Bookkeeping only: the address space makes the host calls. Not thread-safe.
#ifndef PLATFORM_SYSTRAP_CALL_SITES_H_
#define PLATFORM_SYSTRAP_CALL_SITES_H_

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <vector>

#include "platform/platform.h"
#include "platform/ptrace/interval_set.h"
#include "platform/systrap/stub_memory.h"

namespace platform::systrap {

// What a gate leaves in registers for the stub's code: where the call returns to, and its number. Read-only in the
// stub.
struct GateTarget {
  uint64_t return_address;
  uint32_t number;
  uint32_t unused;
};
static_assert(offsetof(GateTarget, return_address) == GATE_RETURN && offsetof(GateTarget, number) == GATE_NUMBER);

// `mov $number, %eax; syscall`, of which a jump replaces the first instruction: as long, so that no thread can be in
// the middle, and whoever comes to the second by another way or finds itself there makes the call as ever.
struct CallSite {
  static constexpr uint64_t kLength = 7;
  static constexpr uint64_t kSyscallOffset = 5;
  // Bytes before it that must be there to look at.
  static constexpr uint64_t kLookBack = 4;

  uint64_t address = 0;
  uint32_t number = 0;

  uint64_t syscall() const { return address + kSyscallOffset; }
  uint64_t return_address() const { return address + kLength; }
};

// Whether the call that returned to offset `end` of `page`, with `number` in rax, is a call site. The instruction
// before `syscall` can be nothing but the move: with rax as it is, all else that ends in these bytes would have
// faulted, or is told by the bytes before.
bool IsCallSite(std::span<const uint8_t, kPageSize> page, uint64_t end, uint64_t number);

class CallSites {
 public:
  static constexpr size_t kMaxPages = 24;  // patched pages of an address space
  static constexpr size_t kMaxRooms = 4;
  static constexpr uint64_t kSlotSize = 32;
  static constexpr size_t kSlots = kPageSize / kSlotSize;  // of a room; the first holds the address of the stub's code

  // A page of gates among the guest's addresses, near its text.
  struct Room {
    uint64_t address = 0;
    uint64_t file_offset = 0;
    bool mapped = false;
    std::vector<CallSite> sites;  // slot i + 1
  };
  // A page of text that is a patched copy now. What it was is kept in the stub at `shadow`.
  struct Page {
    uint64_t address = 0;
    uint64_t file_offset = 0;
    uint64_t shadow = 0;
  };

  // Text that doesn't change: ranges mapped readable and executable, of a file, private to the guest.
  ptrace::IntervalSet text;

  void Lend(uint64_t start, uint64_t end);
  // Forgets the rooms that overlap the range; whoever jumps there must have been put back.
  void TakeBack(uint64_t start, uint64_t end);
  bool HasRoomIn(uint64_t start, uint64_t end) const;
  // A room in reach of the site, with a slot for it; null if there is none.
  Room* RoomFor(const CallSite& site);
  std::vector<Room>& rooms() { return rooms_; }

  // Writes the gate of `site` into the sentry's view of its room's page, if it isn't there. Its address in the stub.
  static uint64_t WriteGate(Room& room, uint8_t* view, const CallSite& site, uint64_t stub_code);
  // The jump into the sentry's view of the site's page.
  static void WriteJump(uint8_t* view, const CallSite& site, uint64_t gate);

  // The site whose gate contains `address`, or whose GateTarget is there.
  std::optional<CallSite> SiteOfGate(uint64_t address) const;

  // An address in the stub for one more page's original. There are less than kMaxPages.
  uint64_t FreeShadow() const;

  // Patched pages, by address.
  std::map<uint64_t, Page> pages;

 private:
  std::vector<Room> rooms_;
};

}  // namespace platform::systrap

#endif  // PLATFORM_SYSTRAP_CALL_SITES_H_
