// SPDX-License-Identifier: Apache-2.0
// Files of the controllers.
#include "sentry/fs/cgroup/controller_files.h"

namespace sentry::fs {
namespace {

using kernel::kCgroupNoLimit;
using kernel::kCpu;
using kernel::kCpuacct;
using kernel::kCpuset;
using kernel::kFreezer;
using kernel::kMemory;
using kernel::kPids;

using Context = CgroupFileContext;

Result<std::string> PidsCurrent(const Context& context) {
  MutexLock lock(Cgroups::mu());
  return std::to_string(context.group.pids.current) + "\n";
}

Result<std::string> PidsPeak(const Context& context) {
  MutexLock lock(Cgroups::mu());
  return std::to_string(context.group.pids.peak) + "\n";
}

Result<std::string> PidsMax(const Context& context) {
  MutexLock lock(Cgroups::mu());
  return ShowCgroupLimit(context.group.pids.max);
}

Result<void> WritePidsMax(const Context& context, std::string_view text) {
  constexpr int64_t kPidsMax = kernel::kPidMax + 1;
  const int64_t value = TRY(ParseCgroupLimit(text));
  if (value < 0 || (value >= kPidsMax && value != kCgroupNoLimit)) return Errno(EINVAL);
  MutexLock lock(Cgroups::mu());
  context.group.pids.max = value;
  return OkResult();
}

Result<std::string> PidsEvents(const Context& context) {
  MutexLock lock(Cgroups::mu());
  return "max " + std::to_string(context.group.pids.refused) + "\n";
}

Result<std::string> FreezerState(const Context& context) {
  MutexLock lock(Cgroups::mu());
  return std::string(context.group.IsFrozen() ? "FROZEN\n" : context.group.IsFreezing() ? "FREEZING\n" : "THAWED\n");
}

Result<void> WriteFreezerState(const Context& context, std::string_view text) {
  if (text != "FROZEN" && text != "THAWED") return Errno(EINVAL);
  MutexLock lock(Cgroups::mu());
  context.group.freeze = text == "FROZEN";
  Cgroups::Get().UpdateStopsLocked(context.group);
  return OkResult();
}

Result<std::string> SelfFreezing(const Context& context) {
  MutexLock lock(Cgroups::mu());
  return std::string(context.group.freeze ? "1\n" : "0\n");
}

Result<std::string> ParentFreezing(const Context& context) {
  MutexLock lock(Cgroups::mu());
  return std::string(context.group.parent()->IsFreezing() ? "1\n" : "0\n");
}

constexpr uint8_t kBothOthers = kOnV1 | kOnV2 | kOnOthers, kV1All = kOnV1 | kEverywhere;

constexpr CgroupFile kFiles[] = {
    {"pids.current", 0444, kBothOthers, kPids, &PidsCurrent},
    {"pids.events", 0444, kBothOthers, kPids, &PidsEvents, nullptr, CgroupEvent::kPidsEvents},
    {"pids.max", 0644, kBothOthers, kPids, &PidsMax, &WritePidsMax},
    {"pids.peak", 0444, kBothOthers, kPids, &PidsPeak},

    {"cpu.idle", 0644, kOnV2 | kOnOthers, kCpu, &CpuIdle, &WriteCpuIdle},
    {"cpu.max", 0644, kOnV2 | kOnOthers, kCpu, &CpuMax, &WriteCpuMax},
    {"cpu.max.burst", 0644, kOnV2 | kOnOthers, kCpu, &CpuBurst, &WriteCpuBurst},
    {"cpu.stat", 0444, kOnV2 | kEverywhere, 0, &CpuStat},
    {"cpu.weight", 0644, kOnV2 | kOnOthers, kCpu, &CpuWeight, &WriteCpuWeight},
    {"cpu.weight.nice", 0644, kOnV2 | kOnOthers, kCpu, &CpuWeightNice, &WriteCpuWeightNice},
    {"cpu.cfs_burst_us", 0644, kV1All, kCpu, &CpuBurst, &WriteCpuBurst},
    {"cpu.cfs_period_us", 0644, kV1All, kCpu, &CfsPeriod, &WriteCfsPeriod},
    {"cpu.cfs_quota_us", 0644, kV1All, kCpu, &CfsQuota, &WriteCfsQuota},
    {"cpu.idle", 0644, kV1All, kCpu, &CpuIdle, &WriteCpuIdle},
    {"cpu.shares", 0644, kV1All, kCpu, &CpuShares, &WriteCpuShares},
    {"cpu.stat", 0444, kV1All, kCpu, &CpuStatV1},

    {"cpuacct.stat", 0444, kV1All, kCpuacct, &CpuacctStat},
    {"cpuacct.usage", 0444, kV1All, kCpuacct, &CpuacctUsage},
    {"cpuacct.usage_percpu", 0444, kV1All, kCpuacct, &CpuacctPerCpu},
    {"cpuacct.usage_sys", 0444, kV1All, kCpuacct, &CpuacctSystem},
    {"cpuacct.usage_user", 0444, kV1All, kCpuacct, &CpuacctUser},

    {"cpuset.cpus", 0644, kOnV2 | kOnOthers, kCpuset, &CpusetCpus, &WriteCpusetCpus},
    {"cpuset.cpus.effective", 0444, kOnV2 | kEverywhere, kCpuset, &CpusetEffectiveCpus},
    {"cpuset.mems", 0644, kOnV2 | kOnOthers, kCpuset, &CpusetMems, &WriteCpusetMems},
    {"cpuset.mems.effective", 0444, kOnV2 | kEverywhere, kCpuset, &CpusetEffectiveMems},
    {"cpuset.cpus", 0644, kV1All, kCpuset, &CpusetCpus, &WriteCpusetCpus},
    {"cpuset.effective_cpus", 0444, kV1All, kCpuset, &CpusetEffectiveCpus},
    {"cpuset.effective_mems", 0444, kV1All, kCpuset, &CpusetEffectiveMems},
    {"cpuset.mems", 0644, kV1All, kCpuset, &CpusetMems, &WriteCpusetMems},

    {"memory.current", 0444, kOnV2 | kOnOthers, kMemory, &MemoryCurrent},
    {"memory.events", 0444, kOnV2 | kOnOthers, kMemory, &MemoryEvents, nullptr, CgroupEvent::kMemoryEvents},
    {"memory.events.local", 0444, kOnV2 | kOnOthers, kMemory, &MemoryEventsLocal, nullptr, CgroupEvent::kMemoryEvents},
    {"memory.high", 0644, kOnV2 | kOnOthers, kMemory, &MemoryHigh, &WriteMemoryHigh},
    {"memory.low", 0644, kOnV2 | kOnOthers, kMemory, &MemoryLow, &WriteMemoryLow},
    {"memory.max", 0644, kOnV2 | kOnOthers, kMemory, &MemoryMax, &WriteMemoryMax},
    {"memory.min", 0644, kOnV2 | kOnOthers, kMemory, &MemoryMin, &WriteMemoryMin},
    {"memory.oom.group", 0644, kOnV2 | kOnOthers, kMemory, &OomGroup, &WriteOomGroup},
    {"memory.peak", 0444, kOnV2 | kOnOthers, kMemory, &MemoryPeak},
    {"memory.stat", 0444, kOnV2 | kEverywhere, kMemory, &MemoryStat},
    {"memory.swap.current", 0444, kOnV2 | kOnOthers, kMemory, &SwapCurrent},
    {"memory.swap.events", 0444, kOnV2 | kOnOthers, kMemory, &SwapEvents},
    {"memory.swap.high", 0644, kOnV2 | kOnOthers, kMemory, &SwapHigh, &WriteSwapHigh},
    {"memory.swap.max", 0644, kOnV2 | kOnOthers, kMemory, &SwapMax, &WriteSwapMax},
    {"memory.failcnt", 0644, kV1All, kMemory, &FailuresV1, &ResetFailuresV1},
    {"memory.limit_in_bytes", 0644, kV1All, kMemory, &MemoryLimitV1, &WriteMemoryLimitV1},
    {"memory.max_usage_in_bytes", 0644, kV1All, kMemory, &MemoryPeak, &ResetPeakV1},
    {"memory.oom_control", 0644, kV1All, kMemory, &OomControlV1, &WriteOomControlV1},
    {"memory.soft_limit_in_bytes", 0644, kV1All, kMemory, &SoftLimitV1, &WriteSoftLimitV1},
    {"memory.stat", 0444, kV1All, kMemory, &MemoryStatV1},
    {"memory.usage_in_bytes", 0444, kV1All, kMemory, &MemoryCurrent},
    {"memory.use_hierarchy", 0644, kV1All, kMemory, &UseHierarchyV1, &WriteUseHierarchyV1},

    {"freezer.parent_freezing", 0444, kOnV1 | kOnOthers, kFreezer, &ParentFreezing},
    {"freezer.self_freezing", 0444, kOnV1 | kOnOthers, kFreezer, &SelfFreezing},
    {"freezer.state", 0644, kOnV1 | kOnOthers, kFreezer, &FreezerState, &WriteFreezerState},
};

}  // namespace

std::span<const CgroupFile> ControllerFiles() { return kFiles; }

}  // namespace sentry::fs
