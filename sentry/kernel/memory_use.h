// SPDX-License-Identifier: Apache-2.0
#ifndef SENTRY_KERNEL_MEMORY_USE_H_
#define SENTRY_KERNEL_MEMORY_USE_H_

#include <cstdint>

namespace sentry::kernel {

// Bytes in tmpfs files and in memory shared without a file (Shmem of /proc/meminfo), whoever made them. Any thread,
// without locks; a few host calls for sparse objects.
uint64_t SharedMemoryInUse();

}  // namespace sentry::kernel

#endif  // SENTRY_KERNEL_MEMORY_USE_H_
