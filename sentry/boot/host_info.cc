// SPDX-License-Identifier: Apache-2.0
#include "sentry/boot/host_info.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include <algorithm>

#include "base/unique_fd.h"

namespace sentry {

HostInfo ReadHostInfo() {
  HostInfo info;
  base::UniqueFd fd(open("/proc/cpuinfo", O_RDONLY | O_CLOEXEC));
  char buffer[8192];
  ssize_t n;
  while (fd && (n = read(fd.get(), buffer, sizeof buffer)) > 0) info.cpuinfo.append(buffer, static_cast<size_t>(n));
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) info.cpus = static_cast<unsigned>(std::max(CPU_COUNT(&set), 1));
  struct sysinfo s;
  if (sysinfo(&s) == 0) info.total_memory = uint64_t{s.totalram} * s.mem_unit;
  return info;
}

}  // namespace sentry
