// SPDX-License-Identifier: Apache-2.0
// memory.
#include <algorithm>

#include "sentry/fs/cgroup/controller_files.h"

namespace sentry::fs {
namespace {

using kernel::CgroupMemory;
using kernel::kCgroupNoLimit;

// What v1 shows for "no limit": PAGE_COUNTER_MAX pages.
constexpr int64_t kV1NoLimit = INT64_MAX - static_cast<int64_t>(kPageSize) + 1;

CgroupMemory Measured(const CgroupFileContext& context) { return Cgroups::Get().MemoryOf(context.group); }

// Without measuring.
CgroupMemory Settings(const CgroupFileContext& context) {
  MutexLock lock(Cgroups::mu());
  return context.group.memory;
}

std::string Row(const char* name, int64_t value) { return std::string(name) + " " + std::to_string(value) + "\n"; }
std::string Number(int64_t value) { return std::to_string(value) + "\n"; }
std::string V1Limit(int64_t value) { return Number(std::min(value, kV1NoLimit)); }

}  // namespace

Result<std::string> MemoryCurrent(const CgroupFileContext& context) { return Number(Measured(context).Usage()); }
Result<std::string> MemoryPeak(const CgroupFileContext& context) { return Number(Measured(context).peak); }
Result<std::string> MemoryMax(const CgroupFileContext& context) { return ShowCgroupLimit(Settings(context).max); }
Result<std::string> MemoryHigh(const CgroupFileContext& context) { return ShowCgroupLimit(Settings(context).high); }
Result<std::string> MemoryLow(const CgroupFileContext& context) { return ShowCgroupLimit(Settings(context).low); }
Result<std::string> MemoryMin(const CgroupFileContext& context) { return ShowCgroupLimit(Settings(context).min); }
Result<std::string> SwapMax(const CgroupFileContext& context) { return ShowCgroupLimit(Settings(context).swap_max); }
Result<std::string> SwapHigh(const CgroupFileContext& context) { return ShowCgroupLimit(Settings(context).swap_high); }
Result<std::string> SwapCurrent(const CgroupFileContext&) { return std::string("0\n"); }
Result<std::string> SwapEvents(const CgroupFileContext&) { return std::string("high 0\nmax 0\nfail 0\n"); }

Result<void> WriteMemoryMax(const CgroupFileContext& context, std::string_view text) {
  const int64_t value = TRY(ParseCgroupBytes(text, "max"));
  MutexLock lock(Cgroups::mu());
  return Cgroups::Get().SetMemoryMaxLocked(context.group, value);
}

namespace {

Result<void> Keep(const CgroupFileContext& context, std::string_view text, int64_t CgroupMemory::*field) {
  const int64_t value = TRY(ParseCgroupBytes(text, "max"));
  MutexLock lock(Cgroups::mu());
  context.group.memory.*field = value;
  return OkResult();
}

}  // namespace

Result<void> WriteMemoryHigh(const CgroupFileContext& context, std::string_view text) {
  return Keep(context, text, &CgroupMemory::high);
}
Result<void> WriteMemoryLow(const CgroupFileContext& context, std::string_view text) {
  return Keep(context, text, &CgroupMemory::low);
}
Result<void> WriteMemoryMin(const CgroupFileContext& context, std::string_view text) {
  return Keep(context, text, &CgroupMemory::min);
}
Result<void> WriteSwapMax(const CgroupFileContext& context, std::string_view text) {
  return Keep(context, text, &CgroupMemory::swap_max);
}
Result<void> WriteSwapHigh(const CgroupFileContext& context, std::string_view text) {
  return Keep(context, text, &CgroupMemory::swap_high);
}

Result<std::string> OomGroup(const CgroupFileContext& context) {
  return std::string(Settings(context).oom_group ? "1\n" : "0\n");
}

Result<void> WriteOomGroup(const CgroupFileContext& context, std::string_view text) {
  const int64_t value = TRY(ParseCgroupNumber(text));
  if (value != 0 && value != 1) return Errno(EINVAL);
  MutexLock lock(Cgroups::mu());
  context.group.memory.oom_group = value == 1;
  return OkResult();
}

namespace {

std::string Events(uint64_t max, uint64_t oom, uint64_t kills, uint64_t group_kills) {
  return "low 0\nhigh 0\n" + Row("max", static_cast<int64_t>(max)) + Row("oom", static_cast<int64_t>(oom)) +
         Row("oom_kill", static_cast<int64_t>(kills)) + Row("oom_group_kill", static_cast<int64_t>(group_kills));
}

}  // namespace

Result<std::string> MemoryEvents(const CgroupFileContext& context) {
  const CgroupMemory memory = Settings(context);
  return Events(memory.max_events, memory.oom_events, memory.oom_kills, memory.oom_group_kills);
}

Result<std::string> MemoryEventsLocal(const CgroupFileContext& context) {
  const CgroupMemory memory = Settings(context);
  return Events(memory.own_max_events, memory.own_oom_events, memory.own_oom_kills, 0);
}

// What the sentry keeps for guests is not theirs: kernel memory is 0, and pages of host files are the host's cache.
Result<std::string> MemoryStat(const CgroupFileContext& context) {
  const CgroupMemory memory = Measured(context);
  std::string text = Row("anon", memory.anonymous) + Row("file", memory.shared);
  for (const char* name : {"kernel", "kernel_stack", "pagetables", "percpu", "sock", "vmalloc"}) text += Row(name, 0);
  text += Row("shmem", memory.shared);
  for (const char* name : {"file_mapped", "file_dirty", "file_writeback", "swapcached", "anon_thp", "file_thp",
                           "shmem_thp", "inactive_anon"})
    text += Row(name, 0);
  text += Row("active_anon", memory.Usage());
  for (const char* name : {"inactive_file", "active_file", "unevictable", "slab_reclaimable", "slab_unreclaimable",
                           "slab", "pgfault", "pgmajfault"})
    text += Row(name, 0);
  return text;
}

Result<std::string> MemoryLimitV1(const CgroupFileContext& context) { return V1Limit(Settings(context).max); }

Result<void> WriteMemoryLimitV1(const CgroupFileContext& context, std::string_view text) {
  const int64_t value = TRY(ParseCgroupBytes(text, "-1"));
  // Nothing can be reclaimed: there is no swap.
  if (!context.group.IsRoot() && Measured(context).Usage() > value) return Errno(EBUSY);
  MutexLock lock(Cgroups::mu());
  return Cgroups::Get().SetMemoryMaxLocked(context.group, value);
}

Result<std::string> SoftLimitV1(const CgroupFileContext& context) { return V1Limit(Settings(context).high); }

Result<void> WriteSoftLimitV1(const CgroupFileContext& context, std::string_view text) {
  const int64_t value = TRY(ParseCgroupBytes(text, "-1"));
  if (context.group.IsRoot()) return Errno(EINVAL);
  MutexLock lock(Cgroups::mu());
  context.group.memory.high = value;
  return OkResult();
}

Result<void> ResetPeakV1(const CgroupFileContext& context, std::string_view) {
  const int64_t now = Measured(context).Usage();
  MutexLock lock(Cgroups::mu());
  context.group.memory.peak = now;
  return OkResult();
}

Result<std::string> FailuresV1(const CgroupFileContext& context) {
  return Number(static_cast<int64_t>(Settings(context).failures));
}

Result<void> ResetFailuresV1(const CgroupFileContext& context, std::string_view) {
  MutexLock lock(Cgroups::mu());
  context.group.memory.failures = 0;
  return OkResult();
}

Result<std::string> OomControlV1(const CgroupFileContext& context) {
  return "oom_kill_disable 0\nunder_oom 0\n" + Row("oom_kill", static_cast<int64_t>(Settings(context).own_oom_kills));
}

// A group whose tasks wait for memory for ever is not to be had.
Result<void> WriteOomControlV1(const CgroupFileContext&, std::string_view text) {
  return TRY(ParseCgroupNumber(text)) == 0 ? OkResult() : Result<void>(Errno(EINVAL));
}

Result<std::string> UseHierarchyV1(const CgroupFileContext&) { return std::string("1\n"); }
Result<void> WriteUseHierarchyV1(const CgroupFileContext&, std::string_view text) {
  return TRY(ParseCgroupNumber(text)) == 1 ? OkResult() : Result<void>(Errno(EINVAL));
}

Result<std::string> MemoryStatV1(const CgroupFileContext& context) {
  const CgroupMemory memory = Measured(context);
  int64_t limit;
  {
    MutexLock lock(Cgroups::mu());
    limit = context.group.memory.max;
    for (const Cgroup* at = context.group.parent(); at; at = at->parent()) limit = std::min(limit, at->memory.max);
  }
  std::string text;
  for (const std::string prefix : {"", "total_"}) {
    text += Row((prefix + "cache").c_str(), memory.shared) + Row((prefix + "rss").c_str(), memory.anonymous);
    for (const char* name : {"rss_huge"}) text += Row((prefix + name).c_str(), 0);
    text += Row((prefix + "shmem").c_str(), memory.shared);
    for (const char* name : {"mapped_file", "dirty", "writeback", "pgpgin", "pgpgout", "pgfault", "pgmajfault"})
      text += Row((prefix + name).c_str(), 0);
    text += Row((prefix + "inactive_anon").c_str(), 0) + Row((prefix + "active_anon").c_str(), memory.Usage());
    for (const char* name : {"inactive_file", "active_file", "unevictable"}) text += Row((prefix + name).c_str(), 0);
    if (prefix.empty()) text += Row("hierarchical_memory_limit", std::min(limit, kV1NoLimit));
  }
  return text;
}

}  // namespace sentry::fs
