// SPDX-License-Identifier: Apache-2.0
// Conversions of the platform contract, and where the host's address space ends.
#include "platform/platform.h"

#include <errno.h>
#include <sys/mman.h>

namespace platform {
namespace {

// Whether a page can be mapped there, or is.
bool Mappable(uint64_t address) {
  void* want = reinterpret_cast<void*>(address);
  void* got =
      mmap(want, kPageSize, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
  if (got == MAP_FAILED) return errno == EEXIST;
  munmap(got, kPageSize);
  return got == want;
}

}  // namespace

uint64_t FindHostAddressEnd() {
  constexpr uint64_t kTaskSize = 0x7fff'ffff'f000;
  if (Mappable(kTaskSize - kPageSize)) return kTaskSize;
  uint64_t mappable = uint64_t{1} << 32, end = kTaskSize - kPageSize;  // `end` is not
  while (end - mappable > kPageSize) {
    const uint64_t middle = mappable + (end - mappable) / 2 / kPageSize * kPageSize;
    (Mappable(middle) ? mappable : end) = middle;
  }
  return end;
}

int Protection::ToHost() const { return (read ? PROT_READ : 0) | (write ? PROT_WRITE : 0) | (exec ? PROT_EXEC : 0); }

base::Result<void> AddressSpace::MapAll(std::span<const Mapping> mappings) {
  for (const Mapping& m : mappings) TRY(Map(m.address, m.length, m.fd, m.offset, m.protection, m.populate));
  return base::OkResult();
}

}  // namespace platform
