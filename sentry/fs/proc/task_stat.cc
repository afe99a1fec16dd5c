// SPDX-License-Identifier: Apache-2.0
// stat, statm and status of a task (proc(5)).
#include <algorithm>

#include "sentry/fs/proc/task_dir.h"
#include "sentry/kernel/kernel.h"
#include "sentry/kernel/ptrace.h"
#include "sentry/kernel/task_internal.h"
#include "sentry/kernel/thread_group_state.h"

namespace sentry::fs {

using kernel::Kernel;
using kernel::PidNamespace;
using kernel::SignalBit;
using kernel::SignalSet;
using kernel::Task;
using kernel::ThreadGroup;

namespace {

constexpr int64_t kTickNs = 10'000'000;  // USER_HZ = 100

struct SignalSets {
  SignalSet pending = 0, shared = 0, blocked = 0, ignored = 0, caught = 0;
};

SignalSets SignalSetsOf(Task& task) {
  SignalSets sets;
  sets.blocked = task.signal_mask();
  kernel::SignalLock lock(task.group());
  sets.pending = task.internal().pending.set();
  sets.shared = task.group().state().shared_pending.set();
  for (int signal = 1; signal <= kernel::kSignalMax; ++signal) {
    const uint64_t handler = lock.handlers().actions[signal].handler;
    if (handler == kernel::kSignalIgnore) sets.ignored |= SignalBit(signal);
    if (handler != kernel::kSignalIgnore && handler != kernel::kSignalDefault) sets.caught |= SignalBit(signal);
  }
  return sets;
}

pid_t ParentId(const ThreadGroup& group, const PidNamespace& ns) {
  RefPtr<ThreadGroup> parent = group.parent();
  return parent ? parent->TgidIn(ns) : 0;
}

pid_t TracerId(Task& task, const PidNamespace& ns) {
  if (!task.ptrace()) return 0;
  MutexLock lock(Kernel::Get().tasks().mu());
  Task* tracer = task.ptrace()->tracer.load(std::memory_order_acquire);
  return tracer ? tracer->TidIn(ns) : 0;
}

const char* StateName(char letter) {
  switch (letter) {
    case 'R':
      return "R (running)";
    case 'S':
      return "S (sleeping)";
    case 'D':
      return "D (disk sleep)";
    case 'T':
      return "T (stopped)";
    case 't':
      return "t (tracing stop)";
    case 'Z':
      return "Z (zombie)";
    default:
      return "X (dead)";
  }
}

std::string EscapedName(const Task& task) {
  std::string escaped;
  for (char c : task.name()) {
    if (c == '\n') {
      escaped += "\\n";
    } else if (c == '\\') {
      escaped += "\\\\";
    } else {
      escaped += c;
    }
  }
  return escaped;
}

// "0-3"; and "f" in groups of 32 bits.
std::string CpuList(uint64_t mask) {
  std::string text;
  for (int i = 0; i < 64; ++i) {
    if (!(mask >> i & 1)) continue;
    int last = i;
    while (last < 63 && (mask >> (last + 1) & 1)) ++last;
    Append(text, last > i ? "%s%d-%d" : "%s%d", text.empty() ? "" : ",", i, last);
    i = last;
  }
  return text;
}

std::string CpuMask(uint64_t mask) {
  std::string text;
  if (mask >> 32)
    Append(text, "%x,%08x", static_cast<uint32_t>(mask >> 32), static_cast<uint32_t>(mask));
  else
    Append(text, "%x", static_cast<uint32_t>(mask));
  return text;
}

uint64_t AllowedCpus(const Task& task) {
  const unsigned cpus = GetProcHostInfo().cpus;
  const uint64_t online = cpus >= 64 ? ~uint64_t{0} : (uint64_t{1} << cpus) - 1;
  const uint64_t allowed = task.cpu_affinity.load(std::memory_order_relaxed) & online;
  return allowed ? allowed : online;
}

void AppendMemory(std::string& text, mm::MemoryManager& mm) {
  const mm::MemoryManager::Usage usage = mm.GetUsage();
  auto line = [&](const char* name, uint64_t bytes) {
    Append(text, "%s:\t%8llu kB\n", name, static_cast<unsigned long long>(bytes / 1024));
  };
  line("VmPeak", std::max(usage.peak_virtual, usage.virtual_bytes));
  line("VmSize", usage.virtual_bytes);
  line("VmLck", usage.locked_bytes);
  line("VmPin", 0);
  line("VmHWM", std::max(usage.peak_resident, usage.resident_bytes));
  line("VmRSS", usage.resident_bytes);
  line("RssAnon", usage.resident_bytes - std::min(usage.shared_bytes, usage.resident_bytes));
  line("RssFile", usage.shared_bytes);
  line("RssShmem", 0);
  line("VmData", usage.data_bytes);
  line("VmStk", usage.stack_bytes);
  line("VmExe", usage.code_bytes);
  line("VmLib", 0);
  line("VmPTE", usage.resident_bytes / 512);
  line("VmSwap", 0);
  text += "HugetlbPages:\t       0 kB\nCoreDumping:\t0\nTHP_enabled:\t1\n";
}

void AppendCredentials(std::string& text, const Credentials& creds) {
  auto uid = [](uid_t id) { return ShownToReader(IdKind::kUser, id); };
  auto gid = [](gid_t id) { return ShownToReader(IdKind::kGroup, id); };
  Append(text, "Uid:\t%u\t%u\t%u\t%u\n", uid(creds.ruid), uid(creds.euid), uid(creds.suid), uid(creds.fsuid));
  Append(text, "Gid:\t%u\t%u\t%u\t%u\n", gid(creds.rgid), gid(creds.egid), gid(creds.sgid), gid(creds.fsgid));
}

void AppendIds(std::string& text, const char* name, const std::vector<pid_t>& ids) {
  text += name;
  for (pid_t id : ids) Append(text, "\t%d", id);
  text += '\n';
}

// Of the namespace `from` and those below it down to the task's own.
template <typename F>
std::vector<pid_t> IdsDownFrom(const PidNamespace& from, const PidNamespace& own, F id_in) {
  std::vector<pid_t> ids;
  for (const PidNamespace* ns = &own; ns; ns = ns->parent().get()) {
    ids.insert(ids.begin(), id_in(*ns));
    if (ns == &from) break;
  }
  return ids;
}

}  // namespace

Result<std::string> TaskStat(const Context& context) {
  Task& task = *context.task;
  ThreadGroup& group = context.group();
  const PidNamespace& ns = context.fs.pid_ns();
  RefPtr<kernel::ProcessGroup> process_group = group.process_group();
  RefPtr<kernel::Session> session = group.session();
  RefPtr<kernel::ControllingTerminal> terminal = session ? session->terminal() : nullptr;
  RefPtr<kernel::ProcessGroup> foreground = terminal ? terminal->Foreground() : nullptr;
  const kernel::CpuUsage usage = context.whole_process ? group.usage() : task.usage();
  const kernel::CpuUsage children = context.whole_process ? group.children_usage() : kernel::CpuUsage();
  const SignalSets signals = SignalSetsOf(task);
  const bool visible = CheckAccess(task, Errno(EACCES)).ok();
  RefPtr<mm::MemoryManager> mm = context.mm();
  mm::MemoryManager::Usage memory = {};
  mm::ImageInfo image;
  if (mm) {
    memory = mm->GetUsage();
    if (visible) image = mm->image();
  }
  const int64_t start = (context.whole_process ? group.start_time_ns() : task.start_time_ns()) + ReaderBootOffset();
  const int nice = task.nice.load(std::memory_order_relaxed);
  const int realtime = task.sched_priority.load(std::memory_order_relaxed);
  const kernel::ExitStatus exit = visible && task.StateLetter() == 'Z' ? group.exit_status() : kernel::ExitStatus();
  using U = unsigned long long;
  std::string text;
  Append(text, "%d (%s) %c %d %d %d %d %d 0 %llu %llu %llu %llu ", task.TidIn(ns), EscapedName(task).c_str(),
         task.StateLetter(), ParentId(group, ns), process_group ? process_group->IdIn(ns) : 0,
         session ? session->IdIn(ns) : 0, terminal ? static_cast<int>(terminal->Device()) : 0,
         terminal ? (foreground ? foreground->IdIn(ns) : 0) : -1, static_cast<U>(usage.minor_faults),
         static_cast<U>(children.minor_faults), static_cast<U>(usage.major_faults),
         static_cast<U>(children.major_faults));
  Append(text, "%lld %lld %lld %lld %d %d %d 0 %lld %llu %llu %llu ", static_cast<long long>(usage.user_ns / kTickNs),
         static_cast<long long>(usage.system_ns / kTickNs), static_cast<long long>(children.user_ns / kTickNs),
         static_cast<long long>(children.system_ns / kTickNs), realtime ? -1 - realtime : 20 + nice, nice,
         group.thread_count(), static_cast<long long>(start / kTickNs), static_cast<U>(memory.virtual_bytes),
         static_cast<U>(memory.resident_bytes / kPageSize), static_cast<U>(group.limits().Soft(RLIMIT_RSS)));
  // Instruction and stack pointers aren't shown, as for any task that doesn't exit (since Linux 4.11).
  Append(text, "%llu %llu %llu 0 0 %llu %llu %llu %llu 0 0 0 %d 0 %d %d 0 0 0 ", static_cast<U>(image.start_code),
         static_cast<U>(image.end_code), static_cast<U>(image.start_stack),
         static_cast<U>(signals.pending & 0x7fffffff), static_cast<U>(signals.blocked & 0x7fffffff),
         static_cast<U>(signals.ignored & 0x7fffffff), static_cast<U>(signals.caught & 0x7fffffff), SIGCHLD, realtime,
         task.sched_policy.load(std::memory_order_relaxed) & 0xff);
  Append(text, "%llu %llu 0 %llu %llu %llu %llu %d\n", static_cast<U>(image.start_data), static_cast<U>(image.end_data),
         static_cast<U>(image.arg_start), static_cast<U>(image.arg_end), static_cast<U>(image.env_start),
         static_cast<U>(image.env_end), exit.ToWaitStatus());
  return text;
}

Result<std::string> TaskStatm(const Context& context) {
  mm::MemoryManager::Usage usage = {};
  if (RefPtr<mm::MemoryManager> mm = context.mm()) usage = mm->GetUsage();
  std::string text;
  auto pages = [](uint64_t bytes) { return static_cast<unsigned long long>(bytes / kPageSize); };
  Append(text, "%llu %llu %llu %llu 0 %llu 0\n", pages(usage.virtual_bytes), pages(usage.resident_bytes),
         pages(usage.shared_bytes), pages(usage.code_bytes), pages(usage.data_bytes + usage.stack_bytes));
  return text;
}

Result<std::string> TaskStatus(const Context& context) {
  Task& task = *context.task;
  ThreadGroup& group = context.group();
  const PidNamespace& ns = context.fs.pid_ns();
  const PidNamespace& own = *group.pid_ns();
  RefPtr<const Credentials> creds = task.creds_ref();
  RefPtr<vfs::FsContext> fs_context = task.fs_ref();
  RefPtr<kernel::FdTable> fds = task.fds_ref();
  RefPtr<kernel::ProcessGroup> process_group = group.process_group();
  RefPtr<kernel::Session> session = group.session();

  std::string text = "Name:\t" + EscapedName(task) + "\n";
  if (fs_context) Append(text, "Umask:\t%04o\n", fs_context->umask());
  Append(text, "State:\t%s\nTgid:\t%d\nNgid:\t0\nPid:\t%d\nPPid:\t%d\nTracerPid:\t%d\n", StateName(task.StateLetter()),
         group.TgidIn(ns), task.TidIn(ns), ParentId(group, ns), TracerId(task, ns));
  if (creds) AppendCredentials(text, *creds);
  size_t fd_size = 64;
  if (fds) {
    std::vector<int> open = fds->List();
    while (!open.empty() && fd_size <= static_cast<size_t>(open.back())) fd_size *= 2;
  }
  Append(text, "FDSize:\t%zu\nGroups:\t", fds ? fd_size : 0);
  if (creds) {
    for (gid_t gid : creds->groups) Append(text, "%u ", ShownToReader(IdKind::kGroup, gid));
  }
  text += '\n';
  AppendIds(text, "NStgid:", IdsDownFrom(ns, own, [&](const PidNamespace& in) { return group.TgidIn(in); }));
  AppendIds(text, "NSpid:", IdsDownFrom(ns, own, [&](const PidNamespace& in) { return task.TidIn(in); }));
  AppendIds(text, "NSpgid:", IdsDownFrom(ns, own, [&](const PidNamespace& in) {
              return process_group ? process_group->IdIn(in) : 0;
            }));
  AppendIds(text,
            "NSsid:", IdsDownFrom(ns, own, [&](const PidNamespace& in) { return session ? session->IdIn(in) : 0; }));
  if (RefPtr<mm::MemoryManager> mm = context.mm()) AppendMemory(text, *mm);

  const SignalSets signals = SignalSetsOf(task);
  auto set = [&](const char* name, uint64_t value) {
    Append(text, "%s:\t%016llx\n", name, static_cast<unsigned long long>(value));
  };
  Append(text, "Threads:\t%d\nSigQ:\t0/%llu\n", group.thread_count(),
         static_cast<unsigned long long>(group.limits().Soft(RLIMIT_SIGPENDING)));
  set("SigPnd", signals.pending);
  set("ShdPnd", signals.shared);
  set("SigBlk", signals.blocked);
  set("SigIgn", signals.ignored);
  set("SigCgt", signals.caught);
  if (creds) {
    set("CapInh", creds->inheritable);
    set("CapPrm", creds->permitted);
    set("CapEff", creds->effective);
    set("CapBnd", creds->bounding);
    set("CapAmb", creds->ambient);
  }
  const kernel::SeccompStatus seccomp = kernel::SeccompStatusOf(task);
  Append(text, "NoNewPrivs:\t%d\nSeccomp:\t%d\nSeccomp_filters:\t%u\n", task.no_new_privs.load() ? 1 : 0, seccomp.mode,
         seccomp.filters);
  text += "Speculation_Store_Bypass:\tthread vulnerable\nSpeculationIndirectBranch:\tconditional enabled\n";
  const uint64_t cpus = AllowedCpus(task);
  const kernel::CpuUsage usage = task.usage();
  text += "Cpus_allowed:\t" + CpuMask(cpus) + "\nCpus_allowed_list:\t" + CpuList(cpus) +
          "\nMems_allowed:\t1\nMems_allowed_list:\t0\n";
  Append(text, "voluntary_ctxt_switches:\t%llu\nnonvoluntary_ctxt_switches:\t%llu\n",
         static_cast<unsigned long long>(usage.voluntary_switches),
         static_cast<unsigned long long>(usage.involuntary_switches));
  return text;
}

}  // namespace sentry::fs
