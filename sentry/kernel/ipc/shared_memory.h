// SPDX-License-Identifier: Apache-2.0
// System V shared memory: shmget(2), shmat(2), shmctl(2). A segment is a mapped object; mm tells it of the VMAs that
// map it. Thread-safe.
#ifndef SENTRY_KERNEL_IPC_SHARED_MEMORY_H_
#define SENTRY_KERNEL_IPC_SHARED_MEMORY_H_

#include <string>
#include <vector>

#include "platform/memory_file.h"
#include "sentry/kernel/ipc/permissions.h"
#include "sentry/kernel/ipc/registry.h"
#include "sentry/mm/mapped_object.h"

namespace sentry::ipc {

struct SharedMemoryLimits {
  uint64_t segment_bytes = UINT64_MAX - (uint64_t{1} << 24);  // shmmax, ULONG_MAX - 2^24
  uint64_t total_pages = UINT64_MAX - (uint64_t{1} << 24);    // shmall
  int segments = 4096;                                        // shmmni
  bool rmid_forced = false;
};

struct SegmentStatus {
  Permissions permissions;
  int id = 0;
  uint64_t size = 0, attached = 0, resident = 0;
  int64_t atime = 0, dtime = 0, ctime = 0;
  pid_t creator = 0, last = 0;
};

class SharedMemory;

class Segment final : public mm::MappedObject, public IpcObject {
 public:
  Segment(RefPtr<SharedMemory> owner, uint64_t size, RefPtr<mm::MappedObject> memory, std::string name)
      : owner_(std::move(owner)), size_(size), memory_(std::move(memory)), name_(std::move(name)) {}

  uint64_t size() const { return size_; }  // as asked for

  Result<mm::Backing> GetBacking(uint64_t offset, uint64_t length, bool write) override {
    return memory_->GetBacking(offset, length, write);
  }
  std::string Name() const override { return name_; }
  dev_t Device() const override { return memory_->Device(); }
  uint64_t InodeNumber() const override;
  Result<void> PunchHole(uint64_t offset, uint64_t length) override { return memory_->PunchHole(offset, length); }
  const void* Identity() const override { return memory_->Identity(); }
  mm::ReverseMap& reverse_map() override { return memory_->reverse_map(); }
  void OnVmaAdded() override;
  void OnVmaRemoved() override;
  uint64_t DetachLength() const override { return PageUp(size_); }

 private:
  friend class SharedMemory;
  const RefPtr<SharedMemory> owner_;
  const uint64_t size_;
  const RefPtr<mm::MappedObject> memory_;
  const std::string name_;
  // Guarded by the owner's mutex.
  uint64_t attached_ = 0;
  int64_t atime_ = 0, dtime_ = 0, ctime_ = 0;
  PidStamp creator_, last_;
};

class SharedMemory : public RefCounted<SharedMemory> {
 public:
  explicit SharedMemory(platform::MemoryFile& memory) : memory_(memory) {}
  SharedMemoryLimits limits() const;
  void set_limits(const SharedMemoryLimits& limits);

  // `memory_limit`: requests beyond it are refused with ENOMEM unless SHM_NORESERVE.
  Result<int> Get(key_t key, uint64_t size, int flags, uint64_t memory_limit, const Credentials& creds);
  // The segment, counted as attached once until Unpin: for the time between the look-up and the mapping.
  Result<RefPtr<Segment>> Pin(int id, uint32_t access, const Credentials& creds);
  void Unpin(Segment& segment);

  // shmctl(2). `check` false: SHM_STAT_ANY. The resident size is filled in only by List and GetTotals.
  Result<SegmentStatus> Status(int id, IdKind kind, bool check, const Credentials& creds) const;
  Result<void> SetOwner(int id, const OwnerChange& change, const Credentials& creds);
  // With attachments it stays, without its key, until the last is gone.
  Result<void> Remove(int id, const Credentials& creds);
  Result<void> SetLocked(int id, bool locked, uint64_t memlock_limit, const Credentials& creds);
  struct Totals {
    int segments, max_index;
    uint64_t pages, resident_pages;
  };
  Totals GetTotals() const;
  std::vector<SegmentStatus> List() const;

  void Shutdown();

 private:
  friend class Segment;
  void Attached(Segment& segment);
  void Detached(Segment& segment);
  void RemoveLocked(Segment& segment);
  SegmentStatus StatusLocked(const Segment& segment) const;

  platform::MemoryFile& memory_;
  mutable Mutex mu_{LockRank::kNamespace};
  SharedMemoryLimits limits_ ABSL_GUARDED_BY(mu_);
  Registry<Segment> segments_ ABSL_GUARDED_BY(mu_);
  uint64_t pages_ ABSL_GUARDED_BY(mu_) = 0;
};

}  // namespace sentry::ipc

#endif  // SENTRY_KERNEL_IPC_SHARED_MEMORY_H_
