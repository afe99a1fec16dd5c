// SPDX-License-Identifier: Apache-2.0
// cpu and cpuacct.
#include <algorithm>
#include <cmath>

#include "sentry/fs/cgroup/controller_files.h"
#include "sentry/kernel/kernel.h"

namespace sentry::fs {
namespace {

using kernel::CgroupCpu;
using kernel::CgroupCpuUsage;

using Context = CgroupFileContext;

constexpr int64_t kNsPerUs = 1000, kShortestUs = 1000, kLongestPeriodUs = 1'000'000;
constexpr int64_t kLongestQuotaUs = INT64_MAX / (kNsPerUs * 1024);

CgroupCpu CpuOf(const Context& context) {
  MutexLock lock(Cgroups::mu());
  return context.group.cpu;
}

CgroupCpuUsage UsageOf(const Context& context) {
  MutexLock lock(Cgroups::mu());
  return context.group.CpuUsage();
}

int64_t ThrottledNs(const CgroupCpu& cpu) {
  return cpu.throttled_ns + (cpu.throttled ? base::MonotonicNs() - cpu.throttled_since_ns : 0);
}

// Quota -1: none. EINVAL outside [1 ms, 1 s] of a period and below 1 ms of quota.
Result<void> SetBandwidth(const Context& context, int64_t quota_us, int64_t period_us, int64_t burst_us) {
  if (period_us < kShortestUs || period_us > kLongestPeriodUs) return Errno(EINVAL);
  if (quota_us >= 0 && (quota_us < kShortestUs || quota_us > kLongestQuotaUs)) return Errno(EINVAL);
  if (burst_us < 0 || (quota_us >= 0 && burst_us > quota_us)) return Errno(EINVAL);
  MutexLock lock(Cgroups::mu());
  return Cgroups::Get().SetBandwidthLocked(context.group, quota_us < 0 ? -1 : quota_us * kNsPerUs, period_us * kNsPerUs,
                                           burst_us * kNsPerUs);
}

}  // namespace

Result<std::string> CpuStat(const CgroupFileContext& context) {
  const CgroupCpuUsage usage = UsageOf(context);
  const int64_t user = usage.user_ns / kNsPerUs, system = usage.system_ns / kNsPerUs;
  std::string text = "usage_usec " + std::to_string(user + system) + "\nuser_usec " + std::to_string(user) +
                     "\nsystem_usec " + std::to_string(system) + "\n";
  bool controlled;
  {
    MutexLock lock(Cgroups::mu());
    controlled = !context.group.IsRoot() && (context.group.AvailableControllers() & kernel::kCpu);
  }
  if (!controlled) return text;
  const CgroupCpu cpu = CpuOf(context);
  return text + "nr_periods " + std::to_string(cpu.periods) + "\nnr_throttled " +
         std::to_string(cpu.throttled_periods) + "\nthrottled_usec " + std::to_string(ThrottledNs(cpu) / kNsPerUs) +
         "\nnr_bursts 0\nburst_usec 0\n";
}

Result<std::string> CpuStatV1(const CgroupFileContext& context) {
  const CgroupCpu cpu = CpuOf(context);
  return "nr_periods " + std::to_string(cpu.periods) + "\nnr_throttled " + std::to_string(cpu.throttled_periods) +
         "\nthrottled_time " + std::to_string(ThrottledNs(cpu)) + "\nnr_bursts 0\nburst_time 0\n";
}

Result<std::string> CpuMax(const CgroupFileContext& context) {
  const CgroupCpu cpu = CpuOf(context);
  return (cpu.quota_ns < 0 ? "max" : std::to_string(cpu.quota_ns / kNsPerUs)) + " " +
         std::to_string(cpu.period_ns / kNsPerUs) + "\n";
}

Result<void> WriteCpuMax(const CgroupFileContext& context, std::string_view text) {
  const CgroupCpu cpu = CpuOf(context);
  const size_t blank = std::min(text.find_first_of(" \t"), text.size());
  const std::string_view first = text.substr(0, blank);
  int64_t quota = -1, period = cpu.period_ns / kNsPerUs;
  if (first != "max") {
    quota = TRY(ParseCgroupNumber(first));
    if (quota < 0) return Errno(EINVAL);
  }
  if (blank < text.size()) {
    std::string_view rest = text.substr(text.find_first_not_of(" \t", blank));
    period = TRY(ParseCgroupNumber(rest));
  }
  return SetBandwidth(context, quota, period, cpu.burst_ns / kNsPerUs);
}

Result<std::string> CpuBurst(const CgroupFileContext& context) {
  return std::to_string(CpuOf(context).burst_ns / kNsPerUs) + "\n";
}

Result<void> WriteCpuBurst(const CgroupFileContext& context, std::string_view text) {
  const CgroupCpu cpu = CpuOf(context);
  return SetBandwidth(context, cpu.quota_ns < 0 ? -1 : cpu.quota_ns / kNsPerUs, cpu.period_ns / kNsPerUs,
                      TRY(ParseCgroupNumber(text)));
}

Result<std::string> CfsQuota(const CgroupFileContext& context) {
  const CgroupCpu cpu = CpuOf(context);
  return std::to_string(cpu.quota_ns < 0 ? -1 : cpu.quota_ns / kNsPerUs) + "\n";
}

Result<void> WriteCfsQuota(const CgroupFileContext& context, std::string_view text) {
  const CgroupCpu cpu = CpuOf(context);
  return SetBandwidth(context, TRY(ParseCgroupNumber(text)), cpu.period_ns / kNsPerUs, cpu.burst_ns / kNsPerUs);
}

Result<std::string> CfsPeriod(const CgroupFileContext& context) {
  return std::to_string(CpuOf(context).period_ns / kNsPerUs) + "\n";
}

Result<void> WriteCfsPeriod(const CgroupFileContext& context, std::string_view text) {
  const CgroupCpu cpu = CpuOf(context);
  return SetBandwidth(context, cpu.quota_ns < 0 ? -1 : cpu.quota_ns / kNsPerUs, TRY(ParseCgroupNumber(text)),
                      cpu.burst_ns / kNsPerUs);
}

Result<std::string> CpuWeight(const CgroupFileContext& context) { return std::to_string(CpuOf(context).weight) + "\n"; }

Result<void> WriteCpuWeight(const CgroupFileContext& context, std::string_view text) {
  const int64_t value = TRY(ParseCgroupNumber(text));
  if (value < 1 || value > 10000) return Errno(ERANGE);
  MutexLock lock(Cgroups::mu());
  context.group.cpu.weight = value;
  return OkResult();
}

// A nice level is a factor of 1.25 (sched_prio_to_weight).
Result<std::string> CpuWeightNice(const CgroupFileContext& context) {
  const double nice = -std::log(static_cast<double>(CpuOf(context).weight) / 100) / std::log(1.25);
  return std::to_string(static_cast<int>(std::clamp(std::lround(nice), -20L, 19L))) + "\n";
}

Result<void> WriteCpuWeightNice(const CgroupFileContext& context, std::string_view text) {
  const int64_t value = TRY(ParseCgroupNumber(text));
  if (value < -20 || value > 19) return Errno(ERANGE);
  MutexLock lock(Cgroups::mu());
  context.group.cpu.weight =
      std::clamp<int64_t>(std::lround(100 * std::pow(1.25, static_cast<double>(-value))), 1, 10000);
  return OkResult();
}

Result<std::string> CpuShares(const CgroupFileContext& context) { return std::to_string(CpuOf(context).shares) + "\n"; }

Result<void> WriteCpuShares(const CgroupFileContext& context, std::string_view text) {
  const int64_t value = TRY(ParseCgroupNumber(text));
  if (value < 0 || context.group.IsRoot()) return Errno(EINVAL);
  MutexLock lock(Cgroups::mu());
  context.group.cpu.shares = std::clamp<int64_t>(value, 2, 262144);
  return OkResult();
}

Result<std::string> CpuIdle(const CgroupFileContext& context) { return std::to_string(CpuOf(context).idle) + "\n"; }

Result<void> WriteCpuIdle(const CgroupFileContext& context, std::string_view text) {
  const int64_t value = TRY(ParseCgroupNumber(text));
  if ((value != 0 && value != 1) || context.group.IsRoot()) return Errno(EINVAL);
  MutexLock lock(Cgroups::mu());
  context.group.cpu.idle = value;
  return OkResult();
}

Result<std::string> CpuacctUsage(const CgroupFileContext& context) {
  const CgroupCpuUsage usage = UsageOf(context);
  return std::to_string(usage.user_ns + usage.system_ns) + "\n";
}

Result<std::string> CpuacctUser(const CgroupFileContext& context) {
  return std::to_string(UsageOf(context).user_ns) + "\n";
}

Result<std::string> CpuacctSystem(const CgroupFileContext& context) {
  return std::to_string(UsageOf(context).system_ns) + "\n";
}

// Which processor it was is not known: all of it is shown as the first's.
Result<std::string> CpuacctPerCpu(const CgroupFileContext& context) {
  const CgroupCpuUsage usage = UsageOf(context);
  std::string text = std::to_string(usage.user_ns + usage.system_ns);
  for (unsigned i = 1; i < kernel::Kernel::Get().options().cpus; ++i) text += " 0";
  return text + " \n";
}

Result<std::string> CpuacctStat(const CgroupFileContext& context) {
  constexpr int64_t kNsPerTick = 10'000'000;  // USER_HZ
  const CgroupCpuUsage usage = UsageOf(context);
  return "user " + std::to_string(usage.user_ns / kNsPerTick) + "\nsystem " +
         std::to_string(usage.system_ns / kNsPerTick) + "\n";
}

}  // namespace sentry::fs
