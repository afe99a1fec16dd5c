// SPDX-License-Identifier: Apache-2.0
// MappedObject: what a file mapping maps. A vfs file description (or a shared anonymous object) hands one to mmap; each
// VMA holds a reference. The object gives host file ranges, and is told of mappings so that it can invalidate them
// (truncate, hole punching).
#ifndef SENTRY_MM_MAPPED_OBJECT_H_
#define SENTRY_MM_MAPPED_OBJECT_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "platform/platform.h"
#include "sentry/common.h"

namespace sentry::mm {

class MemoryManager;

// A run of pages of an object, as a host file range.
struct Backing {
  int fd = -1;
  uint64_t offset = 0;          // in the host file
  uint64_t length = 0;          // multiple of the page size; may be less or more than asked
  bool in_memory_file = false;  // fd is the sandbox's MemoryFile and one reference per page was taken for the caller
  bool writable = true;         // may be mapped writable (a host fd opened read-only is not)
};

// Called with an address space's lock held (rank kMm) unless said otherwise: GetBacking may only take locks of higher
// rank. A host fd given out stays open until Invalidate of the pages given with it has returned, or the object dies.
class MappedObject : public RefCounted<MappedObject> {
 public:
  virtual ~MappedObject();

  // The backing of object bytes [offset, offset+length), page-aligned. `write` asks for pages that may be changed
  // through a shared mapping (fills holes). Errors: EFAULT beyond the end of the object (SIGBUS for the guest), ENOMEM,
  // EIO.
  virtual Result<Backing> GetBacking(uint64_t offset, uint64_t length, bool write) = 0;
  // These three are called without locks. For /proc/PID/maps: path, or "/dev/zero (deleted)", "/memfd:name (deleted)",
  // "/SYSV00000000 (deleted)"…
  virtual std::string Name() const = 0;
  virtual dev_t Device() const = 0;
  virtual uint64_t InodeNumber() const = 0;
  // Writes dirty pages through (msync MS_SYNC); called without locks. Nothing to do for most.
  virtual Result<void> Sync(uint64_t offset, uint64_t length) { return OkResult(); }
  // madvise(MADV_REMOVE): frees the pages of the range, which read as zeroes afterwards. Called without locks.
  virtual Result<void> PunchHole(uint64_t offset, uint64_t length) { return Errno(EOPNOTSUPP); }
  // A VMA that maps this appeared or went: mmap, fork, a split or a merge. With the address space's lock held: locks
  // above kMm only. The last reference is not dropped in OnVmaRemoved.
  virtual void OnVmaAdded() {}
  virtual void OnVmaRemoved() {}
  // Of a System V segment: what shmdt(2) unmaps at most. 0: not one.
  virtual uint64_t DetachLength() const { return 0; }
  // An identity that all mappings of one file share (its inode): key of shared futexes and of the reverse map.
  virtual const void* Identity() const = 0;
  // The reverse map of that identity; lives as long as the object.
  virtual class ReverseMap& reverse_map() = 0;
};

// Which address spaces map which parts of one file. Owned by an inode (vfs) or a shared anonymous object. Thread-safe.
class ReverseMap {
 public:
  void Add(MemoryManager* mm, uint64_t address, uint64_t length, uint64_t offset);
  void Remove(MemoryManager* mm, uint64_t address, uint64_t length, uint64_t offset);
  // Drops the page mappings (not the VMAs) of [offset, offset+length) everywhere: later touches fault again and see the
  // object's new state. With `private_copies`, copy-on-write copies go too (truncate). Call without locks of rank >=
  // kMm.
  void Invalidate(uint64_t offset, uint64_t length, bool private_copies);
  bool Empty() const;

 private:
  struct Mapping {
    uint64_t address, length, offset;
  };
  mutable Mutex mu_{LockRank::kMappable};
  // Borrowed pointers: a MemoryManager removes its mappings before it dies.
  std::map<MemoryManager*, std::vector<Mapping>> mappings_ ABSL_GUARDED_BY(mu_);
};

}  // namespace sentry::mm

#endif  // SENTRY_MM_MAPPED_OBJECT_H_
