// SPDX-License-Identifier: Apache-2.0
// CallSites: which system calls of an address space go to the stub by a jump instead of a trap, and by what code. See
// "Patched call sites" in README.md. Bookkeeping only: the address space makes the host calls. Not thread-safe.
#ifndef PLATFORM_SYSTRAP_CALL_SITES_H_
#define PLATFORM_SYSTRAP_CALL_SITES_H_

#include <array>
#include <bitset>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <vector>

#include "platform/platform.h"
#include "platform/ptrace/interval_set.h"
#include "platform/systrap/stub_memory.h"

namespace platform::systrap {

// A call that is made often in one place, and five bytes there that a jump may replace.
//
// A *moved* site is `mov $number, %eax; syscall`: the jump replaces the first instruction and is as long, so that no
// thread can be in the middle, and whoever comes to the second by another way or finds itself there makes the call as
// ever.
//
// A *relocated* site is any other `syscall`: the jump replaces it and a part of the instruction behind it, of which the
// gate has a copy (the tail). Threads that are in the call return to the middle of the jump then: the gate is where the
// byte that they find there is int3, and the sentry has them go on at the tail.
struct CallSite {
  static constexpr uint64_t kMoveLength = 7;
  static constexpr uint64_t kSyscallLength = 2;
  // Bytes before a moved site that must be there to look at.
  static constexpr uint64_t kLookBack = 4;
  static constexpr size_t kMaxTail = 8;

  uint64_t address = 0;  // of the jump
  bool moved = true;
  uint32_t number = 0;  // of a moved one
  uint8_t tail_length = 0;
  std::array<uint8_t, kMaxTail> tail = {};

  uint64_t syscall() const { return moved ? address + kMoveLength - kSyscallLength : address; }
  uint64_t return_address() const { return syscall() + kSyscallLength; }
  bool operator==(const CallSite&) const = default;
};

// The site of the call that returned to offset `end` of `page`, which is at `address`, with `number` in rax; none if
// that can't be patched. That the two bytes before are `syscall` is known because the call was made, and so is what is
// behind it.
std::optional<CallSite> FindCallSite(std::span<const uint8_t, kPageSize> page, uint64_t address, uint64_t end,
                                     uint64_t number);

class CallSites {
 public:
  static constexpr size_t kMaxPages = 24;  // patched pages of an address space
  static constexpr size_t kMaxRooms = 4;
  static constexpr size_t kMaxRoomPages = 16;  // mapped ones, of all rooms
  static constexpr uint64_t kSlotSize = 64;
  static constexpr size_t kSlots = kPageSize / kSlotSize;  // of a page; the first holds the address of the stub's code

  // The code that a site jumps to, in a slot of a room's page. The order of what is in it: see WriteGate.
  struct Gate {
    uint64_t address = 0;
    CallSite site;

    uint64_t own_syscall() const;  // relocated sites only
    uint64_t tail() const;
    // Where a call that comes by the gate returns to.
    uint64_t returns_to() const { return site.moved ? site.return_address() : tail(); }
  };
  struct RoomPage {
    uint64_t address = 0;
    uint64_t file_offset = 0;
    std::bitset<kSlots> used;
  };
  // Addresses that are nobody's, near text, for pages of gates.
  struct Room {
    uint64_t start = 0;
    uint64_t end = 0;
    std::vector<RoomPage> pages;  // those mapped
  };
  // A page of text that is a patched copy now. What it was is kept in the stub at `shadow`.
  struct Page {
    uint64_t address = 0;
    uint64_t file_offset = 0;
    uint64_t shadow = 0;
    std::map<uint64_t, uint64_t> relocated;  // return addresses, and the gates that are jumped to
  };

  // Text that doesn't change: ranges mapped readable and executable, of a file, private to the guest.
  ptrace::IntervalSet text;

  void Lend(uint64_t start, uint64_t end);
  // Forgets the rooms that overlap the range; whoever jumps there must have been put back.
  void TakeBack(uint64_t start, uint64_t end);
  bool HasRoomIn(uint64_t start, uint64_t end) const;
  std::span<Room> rooms() { return rooms_; }

  // Where a gate of the site may be, in reach of it: one that is there already, or a free slot, on a page that need not
  // be mapped yet. 0: nowhere.
  uint64_t PlaceFor(const CallSite& site) const;
  // The page of a room that has `address`; null if none is mapped there.
  RoomPage* PageOf(uint64_t address);
  // Makes it known that there is a page for `address`, which is in a room.
  RoomPage& AddPage(uint64_t address, uint64_t file_offset);
  // Writes the gate of `site` to `address` in the sentry's view of its page, if it isn't there.
  void WriteGate(uint8_t* view, uint64_t address, const CallSite& site, uint64_t stub_code);
  // The jump into the sentry's view of the site's page.
  static void WriteJump(uint8_t* view, const CallSite& site, uint64_t gate);

  // The gate that has `address` in its code, that a call returns from to `address` of the text or the gate's own, or
  // whose site ends at `address` on a page that is patched now.
  // `gone`: one that was there before the last room was taken back will do.
  const Gate* GateAt(uint64_t address, bool gone = false) const;
  const Gate* GateReturningTo(uint64_t address, bool gone = false) const;
  const Gate* RelocatedEndingAt(uint64_t address) const;

  // An address in the stub for one more page's original. There are less than kMaxPages.
  uint64_t FreeShadow() const;

  // Patched pages, by address.
  std::map<uint64_t, Page> pages;

 private:
  template <typename Predicate>
  const Gate* FindGate(bool gone, Predicate predicate) const;
  bool IsFree(const Room& room, uint64_t slot) const;

  std::vector<Room> rooms_;
  std::vector<Gate> gates_;
  std::vector<Gate> gone_;
};

}  // namespace platform::systrap

#endif  // PLATFORM_SYSTRAP_CALL_SITES_H_
