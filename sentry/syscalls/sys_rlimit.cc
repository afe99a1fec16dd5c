// SPDX-License-Identifier: Apache-2.0
// getrlimit(2), prlimit(2), getrusage(2).
#include <sys/resource.h>

#include <algorithm>
#include <cstring>

#include "sentry/kernel/kernel.h"
#include "sentry/kernel/posix_timers.h"
#include "sentry/syscalls/handlers.h"

namespace sentry::syscalls {
namespace {

// The address space keeps its own copies of the limits that concern it.
void RefreshMmLimits(Task& target) {
  RefPtr<mm::MemoryManager> mm = target.mm_ref();
  if (!mm) return;
  const kernel::Limits& limits = target.group().limits();
  mm->SetLimits({.address_space = limits.Soft(RLIMIT_AS),
                 .data = limits.Soft(RLIMIT_DATA),
                 .stack = limits.Soft(RLIMIT_STACK),
                 .memlock = limits.Soft(RLIMIT_MEMLOCK)});
}

Result<void> SetLimit(Task& task, Task& target, int resource, const rlimit64& limit) {
  TRY(target.group().limits().Set(resource, limit, task.HasCapability(CAP_SYS_RESOURCE)));
  if (resource == RLIMIT_AS || resource == RLIMIT_DATA || resource == RLIMIT_STACK || resource == RLIMIT_MEMLOCK) {
    RefreshMmLimits(target);
  }
  if (resource == RLIMIT_CPU) target.group().timers().EnforceCpuLimit();
  return {};
}

// prlimit(2): the same real, effective and saved ids, or CAP_SYS_RESOURCE.
Result<void> CheckLimitAccess(Task& task, Task& target) {
  if (&task.group() == &target.group()) return {};
  RefPtr<const Credentials> its = target.creds_ref();
  if (!its) return Errno(ESRCH);
  if (task.HasCapabilityIn(its->user_ns, CAP_SYS_RESOURCE)) return {};
  const Credentials& own = *task.creds();
  bool same = own.ruid == its->euid && own.ruid == its->suid && own.ruid == its->ruid && own.rgid == its->egid &&
              own.rgid == its->sgid && own.rgid == its->rgid;
  return same ? Result<void>() : Errno(EPERM);
}

timeval ToTimeval(int64_t ns) { return {.tv_sec = ns / base::kNsPerSecond, .tv_usec = ns % base::kNsPerSecond / 1000}; }

}  // namespace

SYSCALL_HANDLER(SysGetrlimit) {
  unsigned resource = args.Uint(0);
  if (resource >= RLIM_NLIMITS) return Errno(EINVAL);
  TRY(task.CopyOut(args.Addr(1), task.group().limits().Get(static_cast<int>(resource))));
  return 0;
}

SYSCALL_HANDLER(SysSetrlimit) {
  auto limit = TRY(task.CopyIn<rlimit64>(args.Addr(1)));
  if (args.Uint(0) >= RLIM_NLIMITS) return Errno(EINVAL);
  TRY(SetLimit(task, task, args.Int(0), limit));
  return 0;
}

SYSCALL_HANDLER(SysPrlimit64) {
  unsigned resource = args.Uint(1);
  rlimit64 limit = {};
  bool set = !args.Addr(2).IsNull();
  if (set) limit = TRY(task.CopyIn<rlimit64>(args.Addr(2)));
  RefPtr<Task> target = TRY(FindTask(task, args.Int(0)));
  TRY(CheckLimitAccess(task, *target));
  if (resource >= RLIM_NLIMITS) return Errno(EINVAL);
  rlimit64 old = target->group().limits().Get(static_cast<int>(resource));
  if (set) TRY(SetLimit(task, *target, static_cast<int>(resource), limit));
  if (!args.Addr(3).IsNull()) TRY(task.CopyOut(args.Addr(3), old));
  return 0;
}

SYSCALL_HANDLER(SysGetrusage) {
  kernel::CpuUsage usage;
  switch (args.Int(0)) {
    case RUSAGE_SELF:
      usage = task.group().usage();
      usage.max_rss_kb = std::max(usage.max_rss_kb, task.mm().GetUsage().peak_resident / 1024);
      break;
    case RUSAGE_CHILDREN:
      usage = task.group().children_usage();
      break;
    case RUSAGE_THREAD:
      usage = task.usage();
      usage.max_rss_kb = std::max(usage.max_rss_kb, task.mm().GetUsage().peak_resident / 1024);
      break;
    default:
      return Errno(EINVAL);
  }
  rusage out;
  memset(&out, 0, sizeof out);
  out.ru_utime = ToTimeval(usage.user_ns);
  out.ru_stime = ToTimeval(usage.system_ns);
  out.ru_maxrss = static_cast<long>(usage.max_rss_kb);
  out.ru_minflt = static_cast<long>(usage.minor_faults);
  out.ru_majflt = static_cast<long>(usage.major_faults);
  out.ru_nvcsw = static_cast<long>(usage.voluntary_switches);
  out.ru_nivcsw = static_cast<long>(usage.involuntary_switches);
  TRY(task.CopyOut(args.Addr(1), out));
  return 0;
}

}  // namespace sentry::syscalls
