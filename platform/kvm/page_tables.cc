// SPDX-License-Identifier: Apache-2.0
#include "platform/kvm/page_tables.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include <algorithm>
#include <utility>

namespace platform::kvm {
namespace {

constexpr uint64_t kPresent = 1, kWrite = 2, kUser = 4;
constexpr uint64_t kAccessed = 0x20, kDirty = 0x40, kHuge = 0x80;
constexpr uint64_t kNoExecute = uint64_t{1} << 63;
constexpr uint64_t kAddressMask = 0x000f'ffff'ffff'f000;
constexpr size_t kKernelSlot = 256;  // of the root: kKernelBase
constexpr size_t kQuarantine = 2048;

// A CPU walks the tree meanwhile.
uint64_t Load(const uint64_t* entry) { return __atomic_load_n(entry, __ATOMIC_RELAXED); }
void Store(uint64_t* entry, uint64_t value) { __atomic_store_n(entry, value, __ATOMIC_RELEASE); }

}  // namespace

base::Result<void> Arena::Create(AddSlot add_slot) {
  add_slot_ = std::move(add_slot);
  void* base = mmap(nullptr, kSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (base == MAP_FAILED) return base::Errno::Last();
  base_ = static_cast<uint8_t*>(base);
  return base::OkResult();
}

Arena::~Arena() {
  if (base_ != nullptr) munmap(base_, kSize);
}

base::Result<uint64_t> Arena::Allocate() {
  base::MutexLock lock(mu_);
  if (free_.empty() && quarantine_.size() >= kQuarantine) {
    if (zap_) zap_();
    free_.swap(quarantine_);
  }
  if (!free_.empty()) {
    uint64_t page = free_.back();
    free_.pop_back();
    memset(Pointer(page), 0, kPageSize);
    return page;
  }
  if (next_ == registered_) {
    if (registered_ == kSize) return base::Errno(ENOMEM);
    TRY(add_slot_(static_cast<uint32_t>(registered_ / kSlotSize), kGuestPhysical + registered_, base_ + registered_,
                  kSlotSize));
    registered_ += kSlotSize;
  }
  uint64_t page = kGuestPhysical + next_;
  next_ += kPageSize;
  return page;
}

void Arena::Free(const std::vector<uint64_t>& pages) {
  base::MutexLock lock(mu_);
  quarantine_.insert(quarantine_.end(), pages.begin(), pages.end());
}

PageTables::~PageTables() { arena_.Free(pages_); }

base::Result<void> PageTables::Create(uint64_t kernel_entry) {
  for (uint64_t& root : roots_) {
    root = TRY(arena_.Allocate());
    pages_.push_back(root);
    reinterpret_cast<uint64_t*>(arena_.Pointer(root))[kKernelSlot] = kernel_entry;
  }
  return base::OkResult();
}

uint64_t PageTables::kernel_entry() const {
  return Load(reinterpret_cast<uint64_t*>(arena_.Pointer(roots_[0])) + kKernelSlot);
}

base::Result<uint64_t*> PageTables::BlockEntry(uint64_t address, bool make, uint64_t flags) {
  uint64_t table = roots_[0];
  for (int shift = 39; shift > 21; shift -= 9) {
    const uint64_t index = (address >> shift) & 511;
    uint64_t* entry = reinterpret_cast<uint64_t*>(arena_.Pointer(table)) + index;
    uint64_t value = Load(entry);
    if (value == 0) {
      if (!make) return static_cast<uint64_t*>(nullptr);
      uint64_t page = TRY(arena_.Allocate());
      pages_.push_back(page);
      value = page | flags;
      Store(entry, value);
      if (shift == 39) Store(reinterpret_cast<uint64_t*>(arena_.Pointer(roots_[1])) + index, value);
    }
    table = value & kAddressMask;
  }
  return reinterpret_cast<uint64_t*>(arena_.Pointer(table)) + ((address >> 21) & 511);
}

base::Result<uint64_t*> PageTables::Entry(uint64_t address, bool make, uint64_t flags) {
  uint64_t* block = TRY(BlockEntry(address, make, flags));
  if (block == nullptr) return block;
  if ((Load(block) & kHuge) != 0) DropHuge(block);
  uint64_t value = Load(block);
  if (value == 0) {
    if (!make) return static_cast<uint64_t*>(nullptr);
    uint64_t page = TRY(arena_.Allocate());
    pages_.push_back(page);
    value = page | flags;
    Store(block, value);
  }
  return reinterpret_cast<uint64_t*>(arena_.Pointer(value & kAddressMask)) + ((address >> 12) & 511);
}

void PageTables::DropHuge(uint64_t* block) {
  Store(block, 0);
  --huge_blocks_;
}

base::Result<void> PageTables::Map(uint64_t address, uint64_t length, uint64_t gpa, bool write, bool exec) {
  constexpr uint64_t kTable = kPresent | kWrite | kUser | kAccessed;
  const uint64_t bits =
      kPresent | kUser | kAccessed | kDirty | (write ? kWrite : uint64_t{0}) | (exec ? uint64_t{0} : kNoExecute);
  for (const uint64_t end = address + length; address < end;) {
    const uint64_t stop = std::min(end, (address | (kBlock - 1)) + 1);
    if (huge_ && stop - address == kBlock && gpa % kBlock == 0) {
      uint64_t* block = TRY(BlockEntry(address, true, kTable));
      // Where there were pages before, their table stays.
      if (const uint64_t value = Load(block); value == 0 || (value & kHuge) != 0) {
        if (value == 0) ++huge_blocks_;
        Store(block, gpa | bits | kHuge);
        address = stop;
        gpa += kBlock;
        continue;
      }
    }
    uint64_t* entry = TRY(Entry(address, true, kTable));
    for (; address < stop; address += kPageSize, gpa += kPageSize) Store(entry++, gpa | bits);
  }
  return base::OkResult();
}

void PageTables::Unmap(uint64_t address, uint64_t length) {
  for (const uint64_t end = address + length; address < end;) {
    const uint64_t stop = std::min(end, (address | (kBlock - 1)) + 1);
    if (base::Result<uint64_t*> entry = Entry(address, false, 0); *entry != nullptr) {
      uint64_t* at = *entry;
      for (uint64_t page = address; page < stop; page += kPageSize) Store(at++, 0);
    }
    address = stop;
  }
}

base::Result<void> PageTables::MapKernel(uint64_t address, uint64_t gpa, bool write, bool exec) {
  uint64_t* entry = TRY(Entry(address, true, kPresent | kWrite | kAccessed));
  Store(entry,
        gpa | kPresent | kAccessed | kDirty | (write ? kWrite : uint64_t{0}) | (exec ? uint64_t{0} : kNoExecute));
  return base::OkResult();
}

}  // namespace platform::kvm
