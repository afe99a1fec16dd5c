// SPDX-License-Identifier: Apache-2.0
// The functions behind the controllers' files.
#ifndef SENTRY_FS_CGROUP_CONTROLLER_FILES_H_
#define SENTRY_FS_CGROUP_CONTROLLER_FILES_H_

#include "sentry/fs/cgroup/cgroup_fs.h"

namespace sentry::fs {

#define CGROUP_READ(name) Result<std::string> name(const CgroupFileContext& context)
#define CGROUP_WRITE(name) Result<void> name(const CgroupFileContext& context, std::string_view text)

// ---- cpu_files.cc
CGROUP_READ(CpuStat);
CGROUP_READ(CpuStatV1);
CGROUP_READ(CpuMax);
CGROUP_WRITE(WriteCpuMax);
CGROUP_READ(CpuBurst);
CGROUP_WRITE(WriteCpuBurst);
CGROUP_READ(CfsQuota);
CGROUP_WRITE(WriteCfsQuota);
CGROUP_READ(CfsPeriod);
CGROUP_WRITE(WriteCfsPeriod);
CGROUP_READ(CpuWeight);
CGROUP_WRITE(WriteCpuWeight);
CGROUP_READ(CpuWeightNice);
CGROUP_WRITE(WriteCpuWeightNice);
CGROUP_READ(CpuShares);
CGROUP_WRITE(WriteCpuShares);
CGROUP_READ(CpuIdle);
CGROUP_WRITE(WriteCpuIdle);
CGROUP_READ(CpuacctUsage);
CGROUP_READ(CpuacctUser);
CGROUP_READ(CpuacctSystem);
CGROUP_READ(CpuacctPerCpu);
CGROUP_READ(CpuacctStat);
// ---- cpuset_files.cc
CGROUP_READ(CpusetCpus);
CGROUP_WRITE(WriteCpusetCpus);
CGROUP_READ(CpusetMems);
CGROUP_WRITE(WriteCpusetMems);
CGROUP_READ(CpusetEffectiveCpus);
CGROUP_READ(CpusetEffectiveMems);

// ---- memory_files.cc
CGROUP_READ(MemoryCurrent);
CGROUP_READ(MemoryPeak);
CGROUP_READ(MemoryMax);
CGROUP_READ(MemoryHigh);
CGROUP_READ(MemoryLow);
CGROUP_READ(MemoryMin);
CGROUP_READ(SwapMax);
CGROUP_READ(SwapHigh);
CGROUP_READ(SwapCurrent);
CGROUP_READ(SwapEvents);
CGROUP_READ(OomGroup);
CGROUP_READ(MemoryEvents);
CGROUP_READ(MemoryEventsLocal);
CGROUP_READ(MemoryStat);
CGROUP_READ(MemoryLimitV1);
CGROUP_READ(SoftLimitV1);
CGROUP_READ(FailuresV1);
CGROUP_READ(OomControlV1);
CGROUP_READ(UseHierarchyV1);
CGROUP_READ(MemoryStatV1);
CGROUP_WRITE(WriteMemoryMax);
CGROUP_WRITE(WriteMemoryHigh);
CGROUP_WRITE(WriteMemoryLow);
CGROUP_WRITE(WriteMemoryMin);
CGROUP_WRITE(WriteSwapMax);
CGROUP_WRITE(WriteSwapHigh);
CGROUP_WRITE(WriteOomGroup);
CGROUP_WRITE(WriteMemoryLimitV1);
CGROUP_WRITE(WriteSoftLimitV1);
CGROUP_WRITE(ResetPeakV1);
CGROUP_WRITE(ResetFailuresV1);
CGROUP_WRITE(WriteOomControlV1);
CGROUP_WRITE(WriteUseHierarchyV1);

#undef CGROUP_READ
#undef CGROUP_WRITE

}  // namespace sentry::fs

#endif  // SENTRY_FS_CGROUP_CONTROLLER_FILES_H_
