// SPDX-License-Identifier: Apache-2.0
// ShmObject: shared memory without a file: MAP_SHARED|MAP_ANONYMOUS and System V segments. A fixed-size range of the
// MemoryFile (sparse: pages cost memory once touched), freed with the last mapping or owner. Thread-safe, immutable.
#ifndef SENTRY_MM_SHM_OBJECT_H_
#define SENTRY_MM_SHM_OBJECT_H_

#include <string>

#include "platform/memory_file.h"
#include "sentry/mm/mapped_object.h"
#include "sentry/mm/memory_charge.h"

namespace sentry::mm {

class ShmObject final : public MappedObject {
 public:
  // `length` is a multiple of the page size. `inode` 0: a fresh number. ENOMEM.
  static Result<RefPtr<MappedObject>> Create(platform::MemoryFile& memory, uint64_t length, std::string name,
                                             uint64_t inode = 0);
  ~ShmObject() override;

  Result<Backing> GetBacking(uint64_t offset, uint64_t length, bool write) override;
  std::string Name() const override { return name_; }
  dev_t Device() const override { return 1; }  // the kernel's internal shmem mount, 00:01
  uint64_t InodeNumber() const override { return inode_; }
  // Bytes that have host memory (host calls).
  uint64_t ResidentBytes() const;
  Result<void> PunchHole(uint64_t offset, uint64_t length) override;
  const void* Identity() const override { return this; }
  ReverseMap& reverse_map() override { return reverse_map_; }

 private:
  ShmObject(platform::MemoryFile& memory, platform::FileRange range, std::string name, uint64_t inode)
      : memory_(memory), range_(range), name_(std::move(name)), inode_(inode), charge_(MemoryCharge::Current()) {
    if (charge_) charge_->AddObject(this);
  }

  platform::MemoryFile& memory_;
  const platform::FileRange range_;
  const std::string name_;
  const uint64_t inode_;
  const RefPtr<MemoryCharge> charge_;
  ReverseMap reverse_map_;
};

}  // namespace sentry::mm

#endif  // SENTRY_MM_SHM_OBJECT_H_
