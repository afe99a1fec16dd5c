// SPDX-License-Identifier: Apache-2.0
// The table of /proc/PID's text files, and the short ones' generators.
#include <sys/resource.h>

#include <algorithm>

#include "sentry/fs/proc/task_dir.h"
#include "sentry/kernel/cgroup.h"
#include "sentry/kernel/kernel.h"
#include "sentry/kernel/thread_group_state.h"

namespace sentry::fs {

using kernel::Task;

namespace {

Result<void> CheckRead(const Context& context) { return CheckAccess(*context.task, Errno(EACCES)); }
Result<void> CheckAttach(const Context& context) { return CheckAccess(*context.task, Errno(EPERM)); }
Result<void> CheckAdmin(const Context&) {
  Caller* caller = Caller::CurrentOrNull();
  if (caller && !caller->creds()->HasCapability(CAP_SYS_ADMIN)) return Errno(EPERM);
  return OkResult();
}

Result<std::string> Comm(const Context& context) { return context.task->name() + "\n"; }

// Only threads of the process may name each other (proc(5)).
Result<size_t> WriteComm(const Context& context, std::string_view data) {
  Task* caller = Task::CurrentOrNull();
  if (caller && &caller->group() != &context.group()) return Errno(EINVAL);
  std::string_view name = data.substr(0, std::min(data.find('\0'), size_t{15}));
  if (size_t line = name.find('\n'); line != std::string_view::npos) name = name.substr(0, line);
  context.task->set_name(name);
  return data.size();
}

Result<std::string> Limits(const Context& context) {
  static constexpr struct {
    int resource;
    const char* name;
    const char* unit;
  } kRows[] = {
      {RLIMIT_CPU, "Max cpu time", "seconds"},         {RLIMIT_FSIZE, "Max file size", "bytes"},
      {RLIMIT_DATA, "Max data size", "bytes"},         {RLIMIT_STACK, "Max stack size", "bytes"},
      {RLIMIT_CORE, "Max core file size", "bytes"},    {RLIMIT_RSS, "Max resident set", "bytes"},
      {RLIMIT_NPROC, "Max processes", "processes"},    {RLIMIT_NOFILE, "Max open files", "files"},
      {RLIMIT_MEMLOCK, "Max locked memory", "bytes"},  {RLIMIT_AS, "Max address space", "bytes"},
      {RLIMIT_LOCKS, "Max file locks", "locks"},       {RLIMIT_SIGPENDING, "Max pending signals", "signals"},
      {RLIMIT_MSGQUEUE, "Max msgqueue size", "bytes"}, {RLIMIT_NICE, "Max nice priority", ""},
      {RLIMIT_RTPRIO, "Max realtime priority", ""},    {RLIMIT_RTTIME, "Max realtime timeout", "us"},
  };
  std::string text;
  Append(text, "%-25s %-20s %-20s %-10s\n", "Limit", "Soft Limit", "Hard Limit", "Units");
  auto value = [](uint64_t limit) {
    return limit == RLIM64_INFINITY ? std::string("unlimited") : std::to_string(limit);
  };
  for (const auto& row : kRows) {
    const rlimit64 limit = context.group().limits().Get(row.resource);
    Append(text, "%-25s %-20s %-20s %-10s\n", row.name, value(limit.rlim_cur).c_str(), value(limit.rlim_max).c_str(),
           row.unit);
  }
  return text;
}

// Linux's badness: the share of memory in thousandths, shifted by the adjustment, scaled to 0..2000*2/3.
Result<std::string> OomScore(const Context& context) {
  int64_t points = context.group().oom_score_adj.load(std::memory_order_relaxed);
  if (RefPtr<mm::MemoryManager> mm = context.mm()) {
    const uint64_t total = std::max<uint64_t>(GetProcHostInfo().total_memory, kPageSize);
    points += static_cast<int64_t>(mm->GetUsage().resident_bytes / (total / 1000 + 1));
  }
  return std::to_string(std::clamp<int64_t>((1000 + points) * 2 / 3, 0, 1333)) + "\n";
}

Result<std::string> OomScoreAdj(const Context& context) {
  return std::to_string(context.group().oom_score_adj.load(std::memory_order_relaxed)) + "\n";
}

Result<void> SetOomScoreAdj(const Context& context, int64_t value) {
  if (value < -1000 || value > 1000) return Errno(EINVAL);
  Caller* caller = Caller::CurrentOrNull();
  if (value < context.group().oom_score_adj.load() && caller && !caller->creds()->HasCapability(CAP_SYS_RESOURCE))
    return Errno(EACCES);
  context.group().oom_score_adj.store(static_cast<int>(value));
  return OkResult();
}

Result<size_t> WriteOomScoreAdj(const Context& context, std::string_view data) {
  TRY(SetOomScoreAdj(context, TRY(ParseNumber(data))));
  return data.size();
}

// The old scale: -17 (never) to 15.
Result<std::string> OomAdj(const Context& context) {
  const int adj = context.group().oom_score_adj.load(std::memory_order_relaxed);
  return std::to_string(adj == 1000 ? 15 : adj * 17 / 1000) + "\n";
}

Result<size_t> WriteOomAdj(const Context& context, std::string_view data) {
  const int64_t value = TRY(ParseNumber(data));
  if (value < -17 || value > 15) return Errno(EINVAL);
  TRY(SetOomScoreAdj(context, value == 15 ? 1000 : value * 1000 / 17));
  return data.size();
}

Result<std::string> Personality(const Context& context) {
  std::string text;
  Append(text, "%08x\n", context.task->personality.load(std::memory_order_relaxed));
  return text;
}

// Registers of other tasks are never looked at: the arguments show as zero.
Result<std::string> Syscall(const Context& context) {
  const int number = context.task->current_syscall.load(std::memory_order_relaxed);
  if (number < 0 || context.task->StateLetter() == 'R') return std::string("running\n");
  return std::to_string(number) + " 0x0 0x0 0x0 0x0 0x0 0x0 0x0 0x0\n";
}

Result<std::string> Sched(const Context& context) {
  Task& task = *context.task;
  const kernel::CpuUsage usage = task.usage();
  std::string text;
  Append(text, "%s (%d, #threads: %d)\n-------------------------------------------------------------------\n",
         task.name().c_str(), task.TidIn(context.fs.pid_ns()), context.group().thread_count());
  Append(text, "%-45s:%21.6f\n", "se.sum_exec_runtime", static_cast<double>(usage.user_ns + usage.system_ns) / 1e6);
  auto line = [&](const char* name, long long value) { Append(text, "%-45s:%21lld\n", name, value); };
  line("nr_switches", static_cast<long long>(usage.voluntary_switches + usage.involuntary_switches));
  line("nr_voluntary_switches", static_cast<long long>(usage.voluntary_switches));
  line("nr_involuntary_switches", static_cast<long long>(usage.involuntary_switches));
  line("policy", task.sched_policy.load(std::memory_order_relaxed) & 0xff);
  line("prio", 120 + task.nice.load(std::memory_order_relaxed));
  return text;
}

Result<std::string> SchedStat(const Context& context) {
  const kernel::CpuUsage usage = context.task->usage();
  std::string text;
  Append(text, "%lld 0 %llu\n", static_cast<long long>(usage.user_ns + usage.system_ns),
         static_cast<unsigned long long>(usage.voluntary_switches));
  return text;
}

// No storage is known here: what reaches one is the host's affair, and these counts are zero.
Result<std::string> Io(const Context& context) {
  kernel::CpuUsage usage = context.whole_process ? context.group().usage() : context.task->usage();
  if (context.whole_process) usage += context.group().children_usage();
  std::string text;
  Append(text, "rchar: %llu\nwchar: %llu\nsyscr: %llu\nsyscw: %llu\n",
         static_cast<unsigned long long>(usage.read_chars), static_cast<unsigned long long>(usage.written_chars),
         static_cast<unsigned long long>(usage.read_calls), static_cast<unsigned long long>(usage.write_calls));
  return text + "read_bytes: 0\nwrite_bytes: 0\ncancelled_write_bytes: 0\n";
}

Result<std::string> TimerSlack(const Context& context) {
  return std::to_string(context.task->timer_slack_ns.load(std::memory_order_relaxed)) + "\n";
}
Result<size_t> WriteTimerSlack(const Context& context, std::string_view data) {
  TRY(CheckAttach(context));
  const int64_t value = TRY(ParseNumber(data));
  if (value < 0) return Errno(EINVAL);
  context.task->timer_slack_ns.store(value ? static_cast<uint64_t>(value) : 50000);
  return data.size();
}

Result<std::string> Children(const Context& context) {
  std::string text;
  MutexLock lock(kernel::Kernel::Get().tasks().mu());
  for (const RefPtr<kernel::ThreadGroup>& child : context.group().state().children) {
    if (child->state().parent != context.task.get()) continue;
    if (pid_t pid = child->TgidIn(context.fs.pid_ns())) Append(text, "%d ", pid);
  }
  return text;
}

Result<std::string> CgroupPaths(const Context& context) {
  Task* reader = Task::CurrentOrNull();
  kernel::Cgroups& cgroups = kernel::Cgroups::Get();
  return cgroups.TextOf(*context.task, reader ? *reader->namespaces().cgroup : *cgroups.root_namespace());
}

Result<size_t> Accept(const Context&, std::string_view data) { return data.size(); }
Result<size_t> WriteClearRefs(const Context&, std::string_view data) {
  const int64_t value = TRY(ParseNumber(data));
  if (value < 1 || value > 5) return Errno(EINVAL);
  return data.size();
}
Result<size_t> Refuse(const Context&, std::string_view) { return Errno(EPERM); }

#define READ_ONLY nullptr, nullptr

constexpr TextEntry kTaskEntries[] = {
    {"auxv", 0400, &TaskAuxv, nullptr, &CheckRead},
    {"cgroup", 0444, &CgroupPaths},
    {"children", 0444, &Children},
    {"clear_refs", 0200, nullptr, &WriteClearRefs},
    {"cmdline", 0444, &TaskCmdline},
    {"comm", 0644, &Comm, &WriteComm},
    {"environ", 0400, &TaskEnviron, nullptr, &CheckRead},
    {"gid_map", 0644, &TaskIdMap, &WriteTaskIdMap},
    {"io", 0400, &Io, nullptr, &CheckRead},
    {"limits", 0444, &Limits},
    {"loginuid", 0644, nullptr, &Refuse, nullptr, "4294967295"},
    {"maps", 0444, &TaskMaps, nullptr, &CheckRead},
    {"mountinfo", 0444, &TaskMountInfo, READ_ONLY, "", &NewMountsFile},
    {"mounts", 0444, &TaskMounts, READ_ONLY, "", &NewMountsFile},
    {"numa_maps", 0444, &TaskNumaMaps, nullptr, &CheckRead},
    {"oom_adj", 0644, &OomAdj, &WriteOomAdj},
    {"oom_score", 0444, &OomScore},
    {"oom_score_adj", 0644, &OomScoreAdj, &WriteOomScoreAdj},
    {"personality", 0400, &Personality, nullptr, &CheckAttach},
    {"projid_map", 0644, &TaskIdMap, &WriteTaskIdMap},
    {"sched", 0644, &Sched, &Accept},
    {"schedstat", 0444, &SchedStat},
    {"sessionid", 0444, nullptr, READ_ONLY, "4294967295"},
    {"setgroups", 0644, &TaskSetgroups, &WriteTaskSetgroups},
    {"smaps", 0444, &TaskSmaps, nullptr, &CheckRead},
    {"smaps_rollup", 0444, &TaskSmapsRollup, nullptr, &CheckRead},
    {"stack", 0400, nullptr, nullptr, &CheckAdmin},
    {"stat", 0444, &TaskStat},
    {"statm", 0444, &TaskStatm},
    {"status", 0444, &TaskStatus},
    {"syscall", 0400, &Syscall, nullptr, &CheckAttach},
    {"uid_map", 0644, &TaskIdMap, &WriteTaskIdMap},
    {"wchan", 0444, nullptr, READ_ONLY, "0"},
};

constexpr TextEntry kProcessEntries[] = {
    {"autogroup", 0644, nullptr, &Accept, nullptr, "/autogroup-1 nice 0\n"},
    {"coredump_filter", 0644, nullptr, &Accept, nullptr, "00000033\n"},
    {"mountstats", 0400, &TaskMountStats, nullptr, &CheckRead, "", &NewMountsFile},
    {"timens_offsets", 0644, &TaskTimeOffsets, &WriteTaskTimeOffsets},
    {"timers", 0444, nullptr, nullptr, &CheckRead},
    {"timerslack_ns", 0666, &TimerSlack, &WriteTimerSlack, &CheckAttach},
};

}  // namespace

std::span<const TextEntry> TaskEntries() { return kTaskEntries; }
std::span<const TextEntry> ProcessEntries() { return kProcessEntries; }

}  // namespace sentry::fs
