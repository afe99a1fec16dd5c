// SPDX-License-Identifier: Apache-2.0
#ifndef SENTRY_FS_SYS_CPU_CACHES_H_
#define SENTRY_FS_SYS_CPU_CACHES_H_

#include <cstdint>
#include <vector>

namespace sentry::fs {

struct CpuCache {
  enum class Type : uint8_t { kData = 1, kInstruction = 2, kUnified = 3 } type;  // as CPUID numbers them
  unsigned level, line_bytes, partitions, ways, sets;
  uint64_t Bytes() const { return uint64_t{line_bytes} * partitions * ways * sets; }
};

// Those of the processor that this thread runs on, from CPUID (leaf 4, or AMD's 0x8000001d); empty when it does not
// tell.
std::vector<CpuCache> CpuCaches();

}  // namespace sentry::fs

#endif  // SENTRY_FS_SYS_CPU_CACHES_H_
