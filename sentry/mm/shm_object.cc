// SPDX-License-Identifier: Apache-2.0
#include "sentry/mm/shm_object.h"

#include <algorithm>
#include <atomic>

#include "sentry/mm/host_memory.h"

namespace sentry::mm {

MappedObject::~MappedObject() = default;

Result<RefPtr<MappedObject>> ShmObject::Create(platform::MemoryFile& memory, uint64_t length, std::string name,
                                               uint64_t inode) {
  static std::atomic<uint64_t> next_inode{1024};
  if (inode == 0) inode = next_inode.fetch_add(1, std::memory_order_relaxed);
  // Congruent to the huge-page alignment that large mappings get.
  auto range = TRY(memory.Allocate(length, length >= (2 << 20) ? 2 << 20 : kPageSize));
  return RefPtr<MappedObject>(new ShmObject(memory, range, std::move(name), inode));
}

ShmObject::~ShmObject() {
  if (charge_) charge_->RemoveObject(this);
  memory_.DecRef(range_);
}

Result<Backing> ShmObject::GetBacking(uint64_t offset, uint64_t length, bool write) {
  if (offset >= range_.length()) return Errno(EFAULT);
  length = std::min(length, range_.length() - offset);
  memory_.IncRef({range_.start + offset, range_.start + offset + length});
  return Backing{.fd = memory_.fd(), .offset = range_.start + offset, .length = length, .in_memory_file = true};
}

uint64_t ShmObject::ResidentBytes() const { return memory_.DataBytes(range_); }

Result<void> ShmObject::PunchHole(uint64_t offset, uint64_t length) {
  if (offset >= range_.length()) return OkResult();
  length = std::min(length, range_.length() - offset);
  memory_.Decommit({range_.start + offset, range_.start + offset + length});
  return OkResult();
}

}  // namespace sentry::mm
