// SPDX-License-Identifier: Apache-2.0
#include "sentry/fs/sys/cpu_caches.h"

#include <cpuid.h>

namespace sentry::fs {
namespace {

constexpr unsigned kMostCaches = 8;

std::vector<CpuCache> FromLeaf(unsigned leaf) {
  std::vector<CpuCache> caches;
  for (unsigned index = 0; index < kMostCaches; ++index) {
    unsigned a = 0, b = 0, c = 0, d = 0;
    if (!__get_cpuid_count(leaf, index, &a, &b, &c, &d)) break;
    const unsigned type = a & 31;
    if (type < 1 || type > 3) break;
    caches.push_back({.type = static_cast<CpuCache::Type>(type),
                      .level = a >> 5 & 7,
                      .line_bytes = (b & 0xfff) + 1,
                      .partitions = (b >> 12 & 0x3ff) + 1,
                      .ways = (b >> 22) + 1,
                      .sets = c + 1});
  }
  return caches;
}

}  // namespace

std::vector<CpuCache> CpuCaches() {
  constexpr unsigned kTopologyExtensions = 1 << 22;
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid(0x80000001, &a, &b, &c, &d) && (c & kTopologyExtensions)) return FromLeaf(0x8000001d);
  return FromLeaf(4);
}

}  // namespace sentry::fs
