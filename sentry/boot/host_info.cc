// SPDX-License-Identifier: Apache-2.0
#include "sentry/boot/host_info.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include <algorithm>

#include "base/unique_fd.h"

namespace sentry {

namespace {

std::string ReadAll(const std::string& path) {
  std::string text;
  base::UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  char buffer[8192];
  ssize_t n;
  while (fd && (n = read(fd.get(), buffer, sizeof buffer)) > 0) text.append(buffer, static_cast<size_t>(n));
  return text;
}

}  // namespace

bool HasCpuQuota(const std::string& cgroups, const std::string& root) {
  for (size_t at = 0, end; at < cgroups.size(); at = end + 1) {
    end = std::min(cgroups.find('\n', at), cgroups.size());
    // ID:CONTROLLERS:PATH; version 2 has no controllers.
    size_t first = cgroups.find(':', at), second = first == std::string::npos ? first : cgroups.find(':', first + 1);
    if (second == std::string::npos || second >= end) continue;
    std::string controllers = "," + cgroups.substr(first + 1, second - first - 1) + ",";
    const bool unified = controllers == ",,";
    if (!unified && controllers.find(",cpu,") == std::string::npos) continue;
    // A limit of any ancestor counts.
    for (std::string path = cgroups.substr(second + 1, end - second - 1);;) {
      std::string limit = ReadAll(root + (unified ? "" : "/cpu") + path + (unified ? "/cpu.max" : "/cpu.cfs_quota_us"));
      if (!limit.empty() && limit[0] >= '1' && limit[0] <= '9') return true;
      size_t slash = path.rfind('/');
      if (path.empty() || slash == std::string::npos) break;
      path.resize(slash);
    }
  }
  return false;
}

HostInfo ReadHostInfo() {
  HostInfo info;
  info.cpuinfo = ReadAll("/proc/cpuinfo");
  info.cpu_quota = HasCpuQuota(ReadAll("/proc/self/cgroup"), "/sys/fs/cgroup");
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) info.cpus = static_cast<unsigned>(std::max(CPU_COUNT(&set), 1));
  struct sysinfo s;
  if (sysinfo(&s) == 0) info.total_memory = uint64_t{s.totalram} * s.mem_unit;
  return info;
}

}  // namespace sentry
