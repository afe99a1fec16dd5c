// SPDX-License-Identifier: Apache-2.0
// The inside of a MemoryManager: the VMA and pmap trees and what keeps them consistent. Private to sentry/mm. Every
// member runs with the owner's mu_ held.
#ifndef SENTRY_MM_MM_STATE_H_
#define SENTRY_MM_MM_STATE_H_

#include <bitset>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "sentry/mm/memory_manager.h"
#include "sentry/mm/userfault.h"

namespace sentry::mm {

inline constexpr uint64_t kHugeSize = 2 << 20;
inline constexpr uint64_t kStackGuardGap = 256 * kPageSize;  // vm.stack_guard_gap
inline constexpr uint64_t kMaxVmas = 65530;                  // vm.max_map_count
inline constexpr uint64_t kCopyGranule = 64 << 10;           // copied by a write to a shared private page
inline constexpr uint64_t kEagerMax = uint64_t{1} << 30;     // larger private mappings get memory when touched
inline constexpr uint64_t kWindowMax = 1 << 20;              // larger allocations bypass the windows
using platform::kGuestAddressLimit;
using platform::kGuestAddressMin;

constexpr uint64_t AlignDown(uint64_t n, uint64_t alignment) { return n & ~(alignment - 1); }
constexpr uint64_t AlignUp(uint64_t n, uint64_t alignment) { return (n + alignment - 1) & ~(alignment - 1); }
constexpr bool IsNone(Protection p) { return !p.read && !p.write && !p.exec; }

struct Vma {
  uint64_t start = 0, end = 0;
  Protection prot, max_prot{true, true, true};
  bool is_private = true;
  bool grows_down = false, stack = false;
  bool locked = false, no_reserve = false;
  bool dont_fork = false, wipe_on_fork = false;
  bool sealed = false;  // mseal(2)
  RefPtr<MappedObject> object;
  uint64_t offset = 0;  // of `start` in the object
  const char* name = nullptr;
  RefPtr<UserfaultContext> userfault;  // its pages are made one by one, when it says so
  uint8_t userfault_modes = 0;         // UFFDIO_REGISTER_MODE_*

  uint64_t length() const { return end - start; }
  bool Anonymous() const { return is_private && !object; }
  uint64_t OffsetOf(uint64_t address) const { return offset + (address - start); }
  // Where memory is made on touch only.
  bool Lazy() const { return no_reserve || length() > kEagerMax; }
  // What may come directly below a growing stack.
  uint64_t StartWithGap() const {
    if (!grows_down) return start;
    return start > kStackGuardGap ? start - kStackGuardGap : 0;
  }
};

// Lies within one VMA.
struct Pmap {
  uint64_t start = 0, end = 0;
  int fd = -1;  // -1: the MemoryFile, one reference per page held; else borrowed from the VMA's object
  uint64_t offset = 0;
  bool anon = false;     // private memory of this space (or shared with fork relatives): not the object's own pages
  bool cow = false;      // a write must first make it (or a granule of it) private
  bool writable = true;  // of the backing
  bool hot = false;      // a granule at most, made private by a write after a fork: the next fork copies it
  bool userfault_wp = false;  // a write must first be allowed by UFFDIO_WRITEPROTECT
  Protection prot;            // the VMA's
  Protection mapped;          // what the stub has now; none: nothing at all is mapped there

  uint64_t length() const { return end - start; }
  uint64_t OffsetOf(uint64_t address) const { return offset + (address - start); }
  platform::FileRange File(uint64_t from, uint64_t to) const { return {OffsetOf(from), OffsetOf(to)}; }
  bool InStub() const { return mapped.read; }
  // What the stub should have. x86 pages that can be written or run can be read.
  Protection Wanted() const { return {!IsNone(prot), prot.write && !cow && writable && !userfault_wp, prot.exec}; }
};

using VmaMap = std::map<uint64_t, Vma>;
using PmapMap = std::map<uint64_t, Pmap>;

// File ranges pinned for writing. Shared with the PinnedPages, which may outlive the space.
class PinSet {
 public:
  void Add(platform::FileRange range);
  void Remove(platform::FileRange range);
  bool Overlaps(platform::FileRange range) const;

 private:
  mutable Mutex mu_{LockRank::kMemoryFile};
  std::multimap<uint64_t, uint64_t> ranges_ ABSL_GUARDED_BY(mu_);  // start -> end; few
};

// Events of an operation. Until they are posted, nothing is placed in the spaces that they are about.
class UserfaultEvents {
 public:
  UserfaultEvents() = default;
  UserfaultEvents(const UserfaultEvents&) = delete;
  ~UserfaultEvents();
  void Add(RefPtr<UserfaultContext> context, const uffd_msg& message, RefPtr<UserfaultContext> fork = nullptr);
  // Waits until the handlers have read them. Without locks.
  void Post();
  // The operation failed: there is nothing to tell.
  void Clear();

 private:
  std::vector<UserfaultContext::Event> events_;
  std::vector<RefPtr<UserfaultContext>> changing_;
};

struct MemoryManager::State {
  State(MemoryManager& owner, platform::MemoryFile& file) : mm(owner), memory(file), pins(std::make_shared<PinSet>()) {}

  // ---- vma.cc
  VmaMap::iterator VmaAt(uint64_t address);     // containing, or end()
  VmaMap::iterator VmaAfter(uint64_t address);  // the first that ends above
  void SplitVma(uint64_t at);
  void InsertVma(Vma vma);
  void EraseVma(VmaMap::iterator it);
  // Joins equal neighbours in and at the edges of the range.
  void MergeVmas(uint64_t start, uint64_t end);
  void Account(const Vma& vma, bool add);
  void SetVmaProtection(Vma& vma, Protection prot);
  bool Covered(uint64_t start, uint64_t end);
  // Addresses. kNoAddress when there is no room.
  static constexpr uint64_t kNoAddress = UINT64_MAX;
  bool IsFree(uint64_t start, uint64_t end);
  uint64_t FindTopDown(uint64_t length, uint64_t low, uint64_t high, uint64_t align, uint64_t* largest_skipped);
  uint64_t FindBottomUp(uint64_t length, uint64_t low, uint64_t high);
  uint64_t FindFree(uint64_t hint, uint64_t length, bool below_4g, uint64_t align);
  // Would `length` more bytes of such a VMA break a limit? `replaced` bytes go away first.
  Result<void> CheckLimits(const Vma& vma, uint64_t length, uint64_t replaced);

  // ---- pmap.cc
  PmapMap::iterator PmapAt(uint64_t address);
  PmapMap::iterator PmapAfter(uint64_t address);
  void SplitPmap(uint64_t at);
  PmapMap::iterator MergePmap(PmapMap::iterator it);
  PmapMap::iterator InsertPmap(const Pmap& pmap);
  void ErasePmap(PmapMap::iterator it);
  // Unmaps the stub's part and drops the pmaps of a range. Splits at its ends.
  void DropPmaps(uint64_t start, uint64_t end);
  void UnmapStub(uint64_t start, uint64_t end);  // when anything is mapped there
  Result<void> MapStub(Pmap& pmap, bool populate);
  // Brings the stub to Wanted() for a pmap that is in it already, from any thread.
  void UpdateStub(uint64_t start, uint64_t end);
  // DropPmaps, but private copies stay unless `private_copies`.
  void DropObjectPages(uint64_t start, uint64_t end, bool private_copies);
  // munmap: VMAs and pmaps.
  void UnmapRange(uint64_t start, uint64_t end);

  // ---- anon.cc
  // Makes zeroed memory for every page of the range that has none. The range lies in one anonymous VMA.
  Result<void> AllocateAnonymous(const Vma& vma, uint64_t start, uint64_t end);
  // A zeroed file range for addresses [start, end), near in the file to that of its neighbours.
  Result<platform::FileRange> AllocateFor(uint64_t start, uint64_t end);
  void ReleaseRange(uint64_t start, uint64_t end, uint64_t offset);
  void ReleaseWindows();
  // AllocateAnonymous and MapStub, for a new or newly accessible part of a VMA. Failures leave the rest to faults.
  void MakeEager(const Vma& vma, uint64_t start, uint64_t end, bool populate);

  // ---- fault.cc
  // The pmap of a page, made if need be, private if `write`. Does not touch the stub except to drop stale mappings.
  // EFAULT: beyond the object (SIGBUS); ENOMEM, EIO.
  Result<PmapMap::iterator> GetPmap(const Vma& vma, uint64_t page, bool write);
  Result<void> FillFromObject(const Vma& vma, uint64_t page);
  Result<PmapMap::iterator> BreakCow(PmapMap::iterator it, uint64_t page);
  bool CopyPages(const Pmap& from, uint64_t start, uint64_t end, uint64_t to_offset);
  // Makes the pmaps of a new image's files.
  void FillImage();
  // Extends a growing VMA down to `address`; its iterator, or end().
  VmaMap::iterator GrowStack(uint64_t address);
  uint64_t Granule() const;
  FaultSignal Fault(uint64_t address, Access access, int host_signal, Userfault* userfault);
  FaultSignal Unexplained(uint64_t address, const Vma& vma, int host_signal);
  // Faults a range in, as MAP_POPULATE does, but at most 4 GiB of it: it cannot be interrupted. False at the first page
  // that cannot be had.
  bool Populate(uint64_t start, uint64_t end, bool write);

  // ---- copy.cc
  // The pmap through which [address, …) may be read or written, its VMA permitting; EFAULT. With `zeroes`, a read of
  // private memory that was never touched makes none: end(), and `*zeroes` is the number of zeroes from `address`.
  Result<PmapMap::iterator> Reach(uint64_t address, bool write, bool ignore_permissions, uint64_t* zeroes);
  enum class Direction { kIn, kOut, kZero };
  // Moves bytes between guest memory and `buffer`; the count until a fault.
  size_t Transfer(Direction direction, uint64_t address, uint8_t* buffer, size_t length, bool ignore_permissions);

  // ---- userfault.cc
  // Whether an access has to wait for the handler of `vma.userfault`, which is not null.
  bool CheckUserfault(const Vma& vma, uint64_t address, bool write, Userfault* fault);
  // Forgets the memory of a range that nobody has touched: those pages are missing then.
  void DropUntouched(uint64_t start, uint64_t end);
  // Of all VMAs of the range; a null context unregisters.
  void SetUserfault(uint64_t start, uint64_t end, RefPtr<UserfaultContext> context, uint64_t modes);
  void SetWriteProtected(uint64_t start, uint64_t end, bool on);
  // A page of memory with that content (null: zeroes) where none is.
  Result<void> PlacePage(uint64_t page, const void* data, bool write_protected);
  // What the contexts that asked for `feature` have to be told about a range, and they are told by ~UserfaultEvents.
  void CollectEvents(uint64_t start, uint64_t end, uint64_t feature, uint8_t event, UserfaultEvents* events);
  Userfault TakeMissed() { return std::exchange(missed, {}); }

  // ---- seal.cc
  bool AnySealed(uint64_t start, uint64_t end);

  // ---- rooms.cc
  void LendRooms();
  void TakeBackRooms(uint64_t start, uint64_t end);
  // After a change of the stub: tells the platform if it is text.
  void MarkText(const Pmap& pmap);

  // ---- the rest
  Result<uint64_t> Mmap(const MmapRequest& request, uint64_t length, RefPtr<MappedObject> object);
  Result<void> Protect(uint64_t start, uint64_t end, Protection prot);
  Result<uint64_t> Remap(uint64_t old_address, uint64_t old_length, uint64_t new_length, int flags,
                         uint64_t new_address);
  Result<uint64_t> Move(Vma vma, uint64_t old_address, uint64_t old_length, uint64_t new_address, uint64_t new_length,
                        bool keep);
  void DontNeed(const Vma& vma, uint64_t start, uint64_t end);
  void SetLocked(uint64_t start, uint64_t end, bool lock);
  // One VMA's part of madvise; sets flags on exactly [start, end).
  Result<void> Advise(uint64_t start, uint64_t end, int advice);
  // Marks the granule around an address as hot.
  void ExpectWrite(uint64_t address);
  // Gives the child pages of its own with the contents of a private pmap. False: out of memory.
  bool CopyInto(State& child, const Pmap& pmap);
  void ForkInto(State& child, std::span<const uint64_t> written, UserfaultEvents* events);
  // Bytes of host memory behind the pmaps of a range (all of a host file's pmaps); `anonymous`: of them, private
  // copies.
  uint64_t Resident(uint64_t start, uint64_t end, uint64_t* anonymous);

  MemoryManager& mm;
  platform::MemoryFile& memory;
  VmaMap vmas;
  PmapMap pmaps;
  PmapMap::iterator last_pmap = pmaps.end();  // of the last lookup: most copies hit the same one
  // A window pairs 2 MiB of addresses with 2 MiB of the MemoryFile, so that small allocations within it get
  // neighbouring file pages whatever their order, and the host merges their mappings. `used` pages belong to pmaps; the
  // window holds the reference of the others.
  struct Window {
    uint64_t offset = 0;
    std::bitset<kHugeSize / kPageSize> used;
  };
  std::map<uint64_t, Window> windows;
  std::shared_ptr<PinSet> pins;
  std::vector<RefPtr<MappedObject>> dropped;  // see MemoryManager::Lock
  std::vector<RefPtr<UserfaultContext>> dropped_contexts;
  bool loading = false;     // see BeginImage
  Userfault missed;         // why the last Reach failed
  uint64_t generation = 0;  // of the stub's mappings

  uint64_t mmap_base = ChooseMmapBase(8 << 20, 0);
  // Every hole above search_top is at most search_hole long.
  uint64_t search_top = mmap_base, search_hole = 0;
  uint64_t brk_start = 0, brk = 0;
  MmLimits limits;
  bool lock_future = false;
  uint64_t virtual_bytes = 0, data_bytes = 0, stack_bytes = 0, code_bytes = 0, locked_bytes = 0;
  uint64_t peak_virtual = 0, peak_resident = 0;
  ImageInfo image;
  std::vector<uint64_t> rooms;  // lent to the platform
};

class ABSL_SCOPED_LOCKABLE MemoryManager::Lock {
 public:
  explicit Lock(const MemoryManager& mm) ABSL_EXCLUSIVE_LOCK_FUNCTION(mm.mu_) : mm_(mm) { mm.mu_.Lock(); }
  // The last reference to an object may run vfs code, whose locks come before mu_.
  ~Lock() ABSL_UNLOCK_FUNCTION() {
    std::vector<RefPtr<MappedObject>> dropped;
    std::vector<RefPtr<UserfaultContext>> contexts;
    dropped.swap(mm_.state_->dropped);
    contexts.swap(mm_.state_->dropped_contexts);
    Userfault missed = mm_.state_->TakeMissed();
    mm_.mu_.Unlock();
  }
  Lock(const Lock&) = delete;
  Lock& operator=(const Lock&) = delete;

 private:
  const MemoryManager& mm_;
};

// Validates and rounds [address, address+length) of a system call. `error` for ranges that wrap or leave the guest's
// addresses, EINVAL for an unaligned address.
Result<uint64_t> RangeEnd(uint64_t address, uint64_t length, int error);
extern std::atomic<uint64_t> memory_limit;

}  // namespace sentry::mm

#endif  // SENTRY_MM_MM_STATE_H_
