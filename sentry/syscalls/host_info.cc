// SPDX-License-Identifier: Apache-2.0
#include "sentry/syscalls/host_info.h"

#include <linux/membarrier.h>
#include <sched.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>

#include "base/log.h"
#include "sentry/kernel/kernel.h"

namespace sentry::syscalls {
namespace {

const unsigned host_cpus = static_cast<unsigned>(std::max(sysconf(_SC_NPROCESSORS_ONLN), 1L));
const uint64_t host_memory =
    static_cast<uint64_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
const bool host_has_barrier = [] {
  long commands = syscall(SYS_membarrier, MEMBARRIER_CMD_QUERY, 0, 0);
  return commands > 0 && (commands & MEMBARRIER_CMD_GLOBAL);
}();

}  // namespace

unsigned OnlineCpus() {
  unsigned wanted = kernel::Kernel::Get().options().cpus;
  return std::min(wanted ? wanted : host_cpus, 64u);
}

uint64_t OnlineCpuMask() {
  unsigned cpus = OnlineCpus();
  return cpus == 64 ? ~uint64_t{0} : (uint64_t{1} << cpus) - 1;
}

unsigned CurrentCpu() {
  int cpu = sched_getcpu();
  return cpu < 0 ? 0 : static_cast<unsigned>(cpu) % OnlineCpus();
}

uint64_t TotalMemory() {
  uint64_t limit = kernel::Kernel::Get().options().total_memory;
  return limit ? limit : host_memory;
}

void HostYield() { sched_yield(); }

void HostRandom(void* buffer, size_t length) {
  auto* bytes = static_cast<uint8_t*>(buffer);
  while (length) {
    ssize_t n = getrandom(bytes, length, 0);
    if (n < 0 && errno == EINTR) continue;
    CHECK_THAT(n > 0);
    bytes += n;
    length -= static_cast<size_t>(n);
  }
}

bool HostHasMemoryBarrier() { return host_has_barrier; }

Result<void> HostMemoryBarrier() {
  if (syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) != 0) return Errno::Last();
  return {};
}

}  // namespace sentry::syscalls
