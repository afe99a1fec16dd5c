// SPDX-License-Identifier: Apache-2.0
// Arena: the guest-physical memory that holds page tables and the ring-0 part. PageTables: one four-level tree, whose
// upper half is the ring-0 part's and the same in all. The sentry writes the entries; no guest address leads to them.
#ifndef PLATFORM_KVM_PAGE_TABLES_H_
#define PLATFORM_KVM_PAGE_TABLES_H_

#include <cstdint>
#include <functional>
#include <vector>

#include "base/mutex.h"
#include "base/result.h"
#include "platform/platform.h"

namespace platform::kvm {

inline constexpr uint64_t kKernelBase = 0xffff'8000'0000'0000;
inline constexpr uint64_t kBlock = uint64_t{2} << 20;  // what one last-level table maps

// Thread-safe.
class Arena {
 public:
  static constexpr uint64_t kGuestPhysical = uint64_t{4} << 30;
  static constexpr uint64_t kSize = uint64_t{16} << 30;
  static constexpr uint64_t kSlotSize = uint64_t{64} << 20;

  // `add_slot(slot index, guest-physical, host, length)` registers memory; `zap` makes KVM forget what it derived from
  // guest page tables. Both are called under the lock.
  using AddSlot = std::function<base::Result<void>(uint32_t, uint64_t, uint8_t*, uint64_t)>;
  base::Result<void> Create(AddSlot add_slot);
  ~Arena();
  // Freed pages are handed out again only after `zap`, many at a time: a shadow MMU knows tables by their address.
  void set_zap(std::function<void()> zap) { zap_ = std::move(zap); }

  // A zeroed page's guest-physical address. ENOMEM.
  base::Result<uint64_t> Allocate() ABSL_LOCKS_EXCLUDED(mu_);
  void Free(const std::vector<uint64_t>& pages) ABSL_LOCKS_EXCLUDED(mu_);
  uint8_t* Pointer(uint64_t gpa) const { return base_ + (gpa - kGuestPhysical); }

 private:
  uint8_t* base_ = nullptr;
  AddSlot add_slot_;
  std::function<void()> zap_;
  base::Mutex mu_{base::LockRank::kLeaf};
  uint64_t next_ ABSL_GUARDED_BY(mu_) = 0;
  uint64_t registered_ ABSL_GUARDED_BY(mu_) = 0;
  std::vector<uint64_t> free_ ABSL_GUARDED_BY(mu_);
  std::vector<uint64_t> quarantine_ ABSL_GUARDED_BY(mu_);
};

// The caller serialises.
class PageTables {
 public:
  // `huge`: only where the CPU walks the tables itself. A KVM that shadows them is not told when a block's entry turns
  // into a table, and mixes up the two.
  PageTables(Arena& arena, bool huge) : arena_(arena), huge_(huge) {}
  ~PageTables();
  // Two roots with the same contents: loading the other one makes the CPU forget its translations.
  base::Result<void> Create(uint64_t kernel_entry);

  uint64_t root(int which) const { return roots_[which]; }
  // [address, address+length) to guest-physical memory, readable; whole blocks by one entry where both are aligned.
  // ENOMEM: some is mapped.
  base::Result<void> Map(uint64_t address, uint64_t length, uint64_t gpa, bool write, bool exec);
  // A block that is one entry goes as a whole, what is around the range faults anew.
  void Unmap(uint64_t address, uint64_t length);
  // Blocks that are one entry now.
  size_t huge_blocks() const { return huge_blocks_; }
  // For the ring-0 part's own tree.
  base::Result<void> MapKernel(uint64_t address, uint64_t gpa, bool write, bool exec);
  uint64_t kernel_entry() const;

 private:
  // The entry of an address in the table of blocks, or in the last one; null where there is no table and none is to be
  // made.
  base::Result<uint64_t*> BlockEntry(uint64_t address, bool make, uint64_t flags);
  base::Result<uint64_t*> Entry(uint64_t address, bool make, uint64_t flags);
  void DropHuge(uint64_t* block);

  Arena& arena_;
  const bool huge_;
  uint64_t roots_[2] = {0, 0};
  std::vector<uint64_t> pages_;
  size_t huge_blocks_ = 0;
};

}  // namespace platform::kvm

#endif  // PLATFORM_KVM_PAGE_TABLES_H_
