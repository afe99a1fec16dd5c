// SPDX-License-Identifier: Apache-2.0
// Conversions of the platform contract.
#include "platform/platform.h"

#include <sys/mman.h>

namespace platform {

int Protection::ToHost() const { return (read ? PROT_READ : 0) | (write ? PROT_WRITE : 0) | (exec ? PROT_EXEC : 0); }

base::Result<void> AddressSpace::MapAll(std::span<const Mapping> mappings) {
  for (const Mapping& m : mappings) TRY(Map(m.address, m.length, m.fd, m.offset, m.protection, m.populate));
  return base::OkResult();
}

}  // namespace platform
