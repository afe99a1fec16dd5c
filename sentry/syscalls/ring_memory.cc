// SPDX-License-Identifier: Apache-2.0
#include "sentry/syscalls/ring_memory.h"

#include <algorithm>
#include <atomic>

#include "platform/safe_copy.h"
#include "sentry/kernel/kernel.h"

namespace sentry::syscalls {
namespace {
std::atomic<uint64_t> next_inode{1};
}

Result<RefPtr<RingMemory>> RingMemory::Create(uint64_t length, std::string name) {
  platform::MemoryFile& memory = kernel::Kernel::Get().memory_file();
  auto range = TRY(memory.Allocate((length + kPageSize - 1) / kPageSize * kPageSize));
  return RefPtr<RingMemory>(new RingMemory(memory, range, std::move(name)));
}

RingMemory::RingMemory(platform::MemoryFile& memory, platform::FileRange range, std::string name)
    : memory_(memory),
      range_(range),
      name_(std::move(name)),
      inode_(next_inode.fetch_add(1, std::memory_order_relaxed)) {}

RingMemory::~RingMemory() { memory_.DecRef(range_); }

uint32_t RingMemory::Load(uint64_t offset) const {
  uint32_t value = 0;
  if (!platform::SafeLoad32(reinterpret_cast<const uint32_t*>(At(offset)), &value)) return 0;
  std::atomic_thread_fence(std::memory_order_acquire);
  return value;
}

void RingMemory::Update(uint64_t offset, uint32_t set, uint32_t clear) {
  auto* at = reinterpret_cast<uint32_t*>(At(offset));
  uint32_t expected;
  if (!platform::SafeLoad32(at, &expected)) return;
  // A guest that keeps changing the word must not hold the sentry up: after enough tries its value loses.
  for (int tries = 0; tries < 1000; ++tries) {
    bool exchanged = false;
    if (!platform::SafeCompareExchange32(at, &expected, (expected & ~clear) | set, &exchanged) || exchanged) return;
  }
}

void RingMemory::Store(uint64_t offset, uint32_t value) { Update(offset, value, ~uint32_t{0}); }

void RingMemory::Read(uint64_t offset, void* to, size_t length) const {
  size_t n = platform::SafeCopy(to, At(offset), length);
  if (n < length) std::fill_n(static_cast<uint8_t*>(to) + n, length - n, uint8_t{0});
}

void RingMemory::Write(uint64_t offset, const void* from, size_t length) {
  (void)platform::SafeCopy(At(offset), from, length);
}

Result<mm::Backing> RingMemory::GetBacking(uint64_t offset, uint64_t length, bool write) {
  if (offset >= range_.length()) return Errno(EFAULT);
  length = std::min(length, range_.length() - offset);
  memory_.IncRef({range_.start + offset, range_.start + offset + length});
  return mm::Backing{.fd = memory_.fd(), .offset = range_.start + offset, .length = length, .in_memory_file = true};
}

}  // namespace sentry::syscalls
