// SPDX-License-Identifier: Apache-2.0
// cpuset: lists are checked, kept and shown; they move no task.
#include <algorithm>

#include "sentry/fs/cgroup/controller_files.h"
#include "sentry/kernel/kernel.h"

namespace sentry::fs {

Result<std::string> CpusetCpus(const CgroupFileContext& context) {
  MutexLock lock(Cgroups::mu());
  return context.group.cpus + "\n";
}
Result<std::string> CpusetMems(const CgroupFileContext& context) {
  MutexLock lock(Cgroups::mu());
  return context.group.mems + "\n";
}

namespace {

// "0-2,4": numbers below `count`. EINVAL, ERANGE.
Result<std::string> ParseList(std::string_view text, unsigned count) {
  std::string_view rest = text;
  while (!rest.empty()) {
    const size_t comma = std::min(rest.find(','), rest.size());
    const std::string_view range = rest.substr(0, comma);
    rest.remove_prefix(std::min(comma + 1, rest.size()));
    const size_t dash = range.find('-');
    const int64_t first = TRY(ParseCgroupNumber(range.substr(0, dash)));
    const int64_t last = dash == std::string_view::npos ? first : TRY(ParseCgroupNumber(range.substr(dash + 1)));
    if (first < 0 || last < first) return Errno(EINVAL);
    if (last >= static_cast<int64_t>(count)) return Errno(ERANGE);
  }
  return std::string(text);
}

std::string Effective(const CgroupFileContext& context, std::string Cgroup::*list, unsigned count) {
  MutexLock lock(Cgroups::mu());
  for (const Cgroup* at = &context.group; at; at = at->parent()) {
    if (!(at->*list).empty()) return at->*list + "\n";
  }
  return (count > 1 ? "0-" + std::to_string(count - 1) : "0") + "\n";
}

unsigned Cpus() { return std::max(1u, kernel::Kernel::Get().options().cpus); }

}  // namespace

Result<std::string> CpusetEffectiveCpus(const CgroupFileContext& context) {
  return Effective(context, &Cgroup::cpus, Cpus());
}
Result<std::string> CpusetEffectiveMems(const CgroupFileContext& context) {
  return Effective(context, &Cgroup::mems, 1);
}

Result<void> WriteCpusetCpus(const CgroupFileContext& context, std::string_view text) {
  std::string list = TRY(ParseList(text, Cpus()));
  if (context.group.IsRoot()) return Errno(EACCES);
  MutexLock lock(Cgroups::mu());
  if (list.empty() && !context.group.IsV2() && context.group.IsPopulated()) return Errno(ENOSPC);
  context.group.cpus = std::move(list);
  return OkResult();
}

Result<void> WriteCpusetMems(const CgroupFileContext& context, std::string_view text) {
  std::string list = TRY(ParseList(text, 1));
  if (context.group.IsRoot()) return Errno(EACCES);
  MutexLock lock(Cgroups::mu());
  if (list.empty() && !context.group.IsV2() && context.group.IsPopulated()) return Errno(ENOSPC);
  context.group.mems = std::move(list);
  return OkResult();
}

}  // namespace sentry::fs
