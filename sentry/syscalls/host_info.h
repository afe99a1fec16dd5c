// SPDX-License-Identifier: Apache-2.0
// What handlers ask of the host. Sizes of the machine are taken once, before the process confines itself.
#ifndef SENTRY_SYSCALLS_HOST_INFO_H_
#define SENTRY_SYSCALLS_HOST_INFO_H_

#include <cstddef>
#include <cstdint>

#include "sentry/common.h"

namespace sentry::syscalls {

// CPUs that guests see: KernelOptions::cpus or the host's, at most 64.
unsigned OnlineCpus();
uint64_t OnlineCpuMask();
unsigned CurrentCpu();
// Bytes: KernelOptions::total_memory or the host's.
uint64_t TotalMemory();
// Lets other threads of the host run.
void HostYield();
// Fills from the host's generator, which never blocks after boot.
void HostRandom(void* buffer, size_t length);
// A full memory barrier on every CPU of the host (membarrier(2), MEMBARRIER_CMD_GLOBAL). ENOSYS where the host has
// none.
Result<void> HostMemoryBarrier();
bool HostHasMemoryBarrier();

}  // namespace sentry::syscalls

#endif  // SENTRY_SYSCALLS_HOST_INFO_H_
