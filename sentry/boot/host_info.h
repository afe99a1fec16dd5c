// SPDX-License-Identifier: Apache-2.0
// Facts about the host, read before the sentry loses sight of its files.
#ifndef SENTRY_BOOT_HOST_INFO_H_
#define SENTRY_BOOT_HOST_INFO_H_

#include <cstdint>
#include <string>

namespace sentry {

struct HostInfo {
  std::string cpuinfo;        // /proc/cpuinfo
  unsigned cpus = 1;          // those this process may use
  uint64_t total_memory = 0;  // bytes
  bool cpu_quota = false;     // a cgroup limits the CPU time of this process
};

HostInfo ReadHostInfo();
// Of the groups that /proc/PID/cgroup names, with their file systems (version 2's, and version 1's cpu) at `root`.
bool HasCpuQuota(const std::string& cgroups, const std::string& root);

}  // namespace sentry

#endif  // SENTRY_BOOT_HOST_INFO_H_
