// SPDX-License-Identifier: Apache-2.0
// CPU bandwidth (cpu.max, cpu.cfs_quota_us). A guest that computes never passes through the sentry, so a timer looks: a
// group can't use up its quota before the rest of it, divided among the processors that its tasks can be on, has
// passed. Over it, the tasks get kWorkThrottle, which takes them out of guest code on every platform and parks them at
// the top of their run loop until the next period. What a task used too much is taken from later periods.
//
// CPU time is what Task::usage() tells: on a busy host it includes time in which the host ran something else.
#include <algorithm>

#include "sentry/kernel/cgroup.h"
#include "sentry/kernel/kernel.h"

namespace sentry::kernel {
namespace {

constexpr int64_t kShortestNs = 1'000'000;

bool HasQuota(const Cgroup& group) { return group.cpu.quota_ns >= 0 && !group.cpu.is_outside; }

}  // namespace

void Cgroups::CheckCpu() {
  MutexLock lock(mu());
  const int64_t now = base::MonotonicNs();
  int64_t next = kNoDeadline;
  for (const RefPtr<Cgroup>& root : RootsLocked()) {
    if (!(root->hierarchy().controllers & kCpu)) continue;
    root->ForEach([&](Cgroup& group) {
      if (HasQuota(group) && group.IsPopulated()) next = std::min(next, CheckCpuOf(group, now));
    });
  }
  if (next != kNoDeadline) cpu_timer_.Arm(next, 0);
}

int64_t Cgroups::CheckCpuOf(Cgroup& group, int64_t now_ns) {
  CgroupCpu& cpu = group.cpu;
  const CgroupCpuUsage usage = group.CpuUsage();
  const int64_t total = usage.user_ns + usage.system_ns;
  if (cpu.period_start_ns == 0) {
    cpu.period_start_ns = now_ns;
    cpu.start_usage_ns = total;
  }
  if (const int64_t passed = (now_ns - cpu.period_start_ns) / cpu.period_ns; passed > 0) {
    const int64_t used = total - cpu.start_usage_ns;
    if (used > 0) cpu.periods += passed;
    // Owed: what was used above the quotas of the periods that passed. Saved: what burst allows to keep of a quota.
    const __int128 granted = static_cast<__int128>(cpu.quota_ns) * passed;
    const auto balance =
        static_cast<int64_t>(std::clamp<__int128>(granted - used, -static_cast<__int128>(INT64_MAX / 2), cpu.burst_ns));
    cpu.start_usage_ns = total + balance;
    cpu.period_start_ns += passed * cpu.period_ns;
  }
  const int64_t left = cpu.quota_ns - (total - cpu.start_usage_ns);
  const bool over = left <= 0;
  const int64_t period_end = cpu.period_start_ns + cpu.period_ns;
  if (over != cpu.throttled) {
    cpu.throttled = over;
    if (over) {
      ++cpu.throttled_periods;
      cpu.throttled_since_ns = now_ns;
    } else {
      cpu.throttled_ns += now_ns - cpu.throttled_since_ns;
    }
    UpdateStopsLocked(group);
  } else if (over && cpu.throttled_since_ns < cpu.period_start_ns) {
    // Through another period.
    ++cpu.throttled_periods;
    cpu.throttled_ns += cpu.period_start_ns - cpu.throttled_since_ns;
    cpu.throttled_since_ns = cpu.period_start_ns;
  }
  if (over) return period_end;
  const int64_t at_once =
      std::clamp<int64_t>(group.live, 1, Kernel::Get().options().cpus ? Kernel::Get().options().cpus : 1);
  return std::min(period_end, now_ns + std::max(left / at_once, kShortestNs));
}

Result<void> Cgroups::SetBandwidthLocked(Cgroup& group, int64_t quota_ns, int64_t period_ns, int64_t burst_ns) {
  if (group.IsRoot()) return Errno(EINVAL);
  // v1 refuses more than the group above has (sched_cfs_period checks of __cfs_schedulable).
  if (!group.IsV2() && quota_ns >= 0) {
    for (const Cgroup* at = group.parent(); at; at = at->parent()) {
      if (at->cpu.quota_ns < 0) continue;
      if (static_cast<__int128>(quota_ns) * at->cpu.period_ns > static_cast<__int128>(at->cpu.quota_ns) * period_ns)
        return Errno(EINVAL);
      break;
    }
  }
  CgroupCpu& cpu = group.cpu;
  cpu.quota_ns = quota_ns;
  cpu.period_ns = period_ns;
  cpu.burst_ns = burst_ns;
  cpu.is_outside = false;
  cpu.period_start_ns = 0;
  if (cpu.throttled) {
    cpu.throttled = false;
    cpu.throttled_ns += base::MonotonicNs() - cpu.throttled_since_ns;
    UpdateStopsLocked(group);
  }
  WatchCpuLocked(group);
  return OkResult();
}

void Cgroups::WatchCpuLocked(const Cgroup& group) {
  for (const Cgroup* at = &group; at; at = at->parent()) {
    if (HasQuota(*at)) return cpu_timer_.Arm(base::MonotonicNs(), 0);
  }
}

}  // namespace sentry::kernel
