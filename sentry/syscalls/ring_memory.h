// SPDX-License-Identifier: Apache-2.0
// RingMemory: pages that the sentry shares with a guest (an aio ring, the rings of io_uring). The guest may change any
// byte at any time: whoever reads here copies once and validates. An access to a page that the host cannot supply reads
// as zero and writes nothing. Thread-safe.
#ifndef SENTRY_SYSCALLS_RING_MEMORY_H_
#define SENTRY_SYSCALLS_RING_MEMORY_H_

#include <string>

#include "platform/memory_file.h"
#include "sentry/mm/mapped_object.h"

namespace sentry::syscalls {

class RingMemory final : public mm::MappedObject {
 public:
  // `length` in bytes is rounded up to whole pages, which are zero. ENOMEM.
  static Result<RefPtr<RingMemory>> Create(uint64_t length, std::string name);
  ~RingMemory() override;

  uint64_t length() const { return range_.length(); }
  // Aligned 32-bit words, with acquire and release ordering. `offset` is within the length: the caller's promise.
  uint32_t Load(uint64_t offset) const;
  void Store(uint64_t offset, uint32_t value);
  // Sets and clears bits, atomically against the guest.
  void Update(uint64_t offset, uint32_t set, uint32_t clear);
  void Read(uint64_t offset, void* to, size_t length) const;
  void Write(uint64_t offset, const void* from, size_t length);

  Result<mm::Backing> GetBacking(uint64_t offset, uint64_t length, bool write) override;
  std::string Name() const override { return name_; }
  dev_t Device() const override { return 1; }
  uint64_t InodeNumber() const override { return inode_; }
  const void* Identity() const override { return this; }
  mm::ReverseMap& reverse_map() override { return reverse_map_; }

 private:
  RingMemory(platform::MemoryFile& memory, platform::FileRange range, std::string name);
  uint8_t* At(uint64_t offset) const { return memory_.Pointer(range_.start + offset); }

  platform::MemoryFile& memory_;
  const platform::FileRange range_;
  const std::string name_;
  const uint64_t inode_;
  mm::ReverseMap reverse_map_;
};

}  // namespace sentry::syscalls

#endif  // SENTRY_SYSCALLS_RING_MEMORY_H_
