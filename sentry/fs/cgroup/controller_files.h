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

#undef CGROUP_READ
#undef CGROUP_WRITE

}  // namespace sentry::fs

#endif  // SENTRY_FS_CGROUP_CONTROLLER_FILES_H_
