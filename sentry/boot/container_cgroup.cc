// SPDX-License-Identifier: Apache-2.0
#include "sentry/boot/container_cgroup.h"

namespace sentry {

using kernel::Cgroups;

RefPtr<kernel::Cgroup> ContainerCgroup(const std::string& id, const runsc::spec::Spec& spec, bool outside) {
  // "slice:prefix:name" is systemd's way to name one.
  const std::string& path = spec.linux.cgroups_path;
  RefPtr<kernel::Cgroup> group =
      Cgroups::Get().MakeContainerGroup(path.empty() || path.find(':') != std::string::npos ? id : path);
  const runsc::spec::Resources& resources = spec.linux.resources;
  MutexLock lock(Cgroups::mu());
  if (group->limits_set) return group;
  group->limits_set = true;
  if (resources.pids_limit && *resources.pids_limit > 0) group->pids.max = *resources.pids_limit;
  if (resources.memory_limit && *resources.memory_limit > 0) {
    group->memory.max = *resources.memory_limit;
    group->memory.is_outside = outside;
  }
  if (resources.cpu_quota && *resources.cpu_quota > 0) {
    group->cpu.quota_ns = *resources.cpu_quota * 1000;
    group->cpu.is_outside = outside;
  }
  if (resources.cpu_period && *resources.cpu_period > 0)
    group->cpu.period_ns = static_cast<int64_t>(*resources.cpu_period) * 1000;
  if (resources.cpu_shares && *resources.cpu_shares >= 2) {
    // As runc: [2, 262144] becomes [1, 10000].
    group->cpu.shares = static_cast<int64_t>(*resources.cpu_shares);
    group->cpu.weight = 1 + (group->cpu.shares - 2) * 9999 / 262142;
  }
  group->cpus = resources.cpuset_cpus;
  group->mems = resources.cpuset_mems;
  return group;
}

void RemoveContainerCgroup(RefPtr<kernel::Cgroup> group) {
  MutexLock lock(Cgroups::mu());
  std::vector<RefPtr<kernel::Cgroup>> groups;
  group->ForEach([&](kernel::Cgroup& each) { groups.emplace_back(&each); });
  // Parents come first.
  for (auto it = groups.rbegin(); it != groups.rend(); ++it) (void)Cgroups::Get().RemoveLocked(**it).ok();
}

}  // namespace sentry
