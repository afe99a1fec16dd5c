// SPDX-License-Identifier: Apache-2.0
// The files of /proc about the system as a whole.
#include <algorithm>

#include "sentry/fs/proc/system.h"
#include "sentry/kernel/cgroup.h"
#include "sentry/kernel/kernel.h"
#include "sentry/kernel/load_average.h"
#include "sentry/kernel/memory_use.h"

namespace sentry::fs {

using kernel::Kernel;

namespace {

constexpr int64_t kTickNs = 10'000'000;

struct Totals {
  int64_t user_ns = 0, system_ns = 0, up_ns = 0, idle_ns = 0;
  uint64_t switches = 0;
  int running = 0, tasks = 0;
};

// Of the processes there are, and those that they waited for: together everything the sandbox ran.
Totals SumUp() {
  Totals totals;
  totals.up_ns = std::max<int64_t>(base::ClockNs(CLOCK_BOOTTIME), 1);
  for (const auto& [pid, group] : Kernel::Get().tasks().ThreadGroups(*Kernel::Get().root_pid_ns())) {
    kernel::CpuUsage usage = group->usage();
    usage += group->children_usage();
    totals.user_ns += usage.user_ns;
    totals.system_ns += usage.system_ns;
    totals.switches += usage.voluntary_switches + usage.involuntary_switches;
    for (const RefPtr<kernel::Task>& thread : group->Threads()) {
      ++totals.tasks;
      totals.running += thread->StateLetter() == 'R';
    }
  }
  totals.idle_ns = std::max<int64_t>(totals.up_ns * GetProcHostInfo().cpus - totals.user_ns - totals.system_ns, 0);
  return totals;
}

// As many of the host's blocks as the guest has processors.
Result<std::string> CpuInfo(const Context&) {
  const ProcHostInfo& host = GetProcHostInfo();
  if (host.cpuinfo.empty()) {
    std::string text;
    for (unsigned i = 0; i < host.cpus; ++i)
      Append(text, "processor\t: %u\nvendor_id\t: unknown\nflags\t\t: fpu\n\n", i);
    return text;
  }
  size_t end = 0;
  for (unsigned i = 0; i < host.cpus && end < host.cpuinfo.size(); ++i) {
    const size_t blank = host.cpuinfo.find("\n\n", end);
    end = blank == std::string::npos ? host.cpuinfo.size() : blank + 2;
  }
  return host.cpuinfo.substr(0, end);
}

Result<std::string> MemInfo(const Context&) {
  const uint64_t used_bytes = Kernel::Get().memory_file().UsedBytes();
  const uint64_t total = std::max(GetProcHostInfo().total_memory / 1024, used_bytes / 1024 + 1024),
                 used = used_bytes / 1024;
  const uint64_t free = total - used, shared = std::min(kernel::SharedMemoryInUse() / 1024, used);
  std::string text;
  auto line = [&](const char* name, uint64_t kilobytes) {
    Append(text, "%-16s%8llu kB\n", (std::string(name) + ":").c_str(), static_cast<unsigned long long>(kilobytes));
  };
  line("MemTotal", total);
  line("MemFree", free);
  line("MemAvailable", free);
  line("Buffers", 0);
  line("Cached", shared);  // files' pages are the host's
  line("SwapCached", 0);
  line("Active", used);
  line("Inactive", 0);
  line("Active(anon)", used);
  for (const char* name : {"Inactive(anon)", "Active(file)", "Inactive(file)", "Unevictable", "Mlocked", "SwapTotal",
                           "SwapFree", "Dirty", "Writeback"}) {
    line(name, 0);
  }
  line("AnonPages", used - shared);
  line("Mapped", 0);
  line("Shmem", shared);
  for (const char* name : {"KReclaimable", "Slab", "SReclaimable", "SUnreclaim", "KernelStack", "PageTables",
                           "NFS_Unstable", "Bounce", "WritebackTmp"}) {
    line(name, 0);
  }
  line("CommitLimit", total / 2);
  line("Committed_AS", used);
  line("VmallocTotal", 34359738367);
  for (const char* name : {"VmallocUsed", "VmallocChunk", "Percpu", "HardwareCorrupted", "AnonHugePages",
                           "ShmemHugePages", "ShmemPmdMapped", "FileHugePages", "FilePmdMapped"}) {
    line(name, 0);
  }
  text += "HugePages_Total:       0\nHugePages_Free:        0\nHugePages_Rsvd:        0\nHugePages_Surp:        0\n";
  line("Hugepagesize", 2048);
  line("Hugetlb", 0);
  return text;
}

Result<std::string> Stat(const Context&) {
  const Totals totals = SumUp();
  const unsigned cpus = GetProcHostInfo().cpus;
  std::string text;
  // The time isn't kept by processor: each shows an even share.
  auto line = [&](const std::string& name, int64_t share) {
    Append(text, "%s %lld 0 %lld %lld 0 0 0 0 0 0\n", name.c_str(),
           static_cast<long long>(totals.user_ns / kTickNs / share),
           static_cast<long long>(totals.system_ns / kTickNs / share),
           static_cast<long long>(totals.idle_ns / kTickNs / share));
  };
  line("cpu ", 1);
  for (unsigned i = 0; i < cpus; ++i) line("cpu" + std::to_string(i), cpus);
  const int64_t boot = (base::RealtimeNs() - totals.up_ns - ReaderBootOffset()) / base::kNsPerSecond;
  Append(text,
         "intr 0\nctxt %llu\nbtime %lld\nprocesses %llu\nprocs_running %d\nprocs_blocked 0\nsoftirq 0 0 0 0 0 0 0 0 0 "
         "0 0\n",
         static_cast<unsigned long long>(totals.switches), static_cast<long long>(boot),
         static_cast<unsigned long long>(Kernel::Get().tasks().forks_total()), std::max(totals.running, 1));
  return text;
}

Result<std::string> Uptime(const Context&) {
  Totals totals = SumUp();
  totals.up_ns += ReaderBootOffset();
  std::string text;
  auto hundredths = [](int64_t ns) { return static_cast<int>(ns / kTickNs % 100); };
  Append(text, "%lld.%02d %lld.%02d\n", static_cast<long long>(totals.up_ns / base::kNsPerSecond),
         hundredths(totals.up_ns), static_cast<long long>(totals.idle_ns / base::kNsPerSecond),
         hundredths(totals.idle_ns));
  return text;
}

Result<std::string> LoadAvg(const Context&) {
  const Totals totals = SumUp();
  std::string text;
  for (uint64_t average : kernel::LoadAverage::Get(Kernel::Get())) {
    constexpr uint64_t kOne = kernel::LoadAverage::kOne;
    const uint64_t hundredths = (average + kOne / 200) * 100 / kOne;
    Append(text, "%llu.%02llu ", static_cast<unsigned long long>(hundredths / 100),
           static_cast<unsigned long long>(hundredths % 100));
  }
  // Of the reader's namespace, whatever the mount shows.
  const kernel::Task* reader = kernel::Task::CurrentOrNull();
  Append(text, "%d/%d %d\n", std::max(totals.running, 1), std::max(totals.tasks, 1),
         reader ? Kernel::Get().tasks().LastPid(reader->pid_ns()) : 0);
  return text;
}

// One node with one zone, all in pages of the smallest order: what is free is the host's to arrange.
Result<std::string> BuddyInfo(const Context&) {
  const uint64_t used = Kernel::Get().memory_file().UsedBytes() / kPageSize,
                 total = GetProcHostInfo().total_memory / kPageSize;
  std::string text;
  Append(text, "Node 0, zone   Normal %6llu", static_cast<unsigned long long>(total > used ? total - used : 0));
  for (int order = 1; order < 11; ++order) Append(text, " %6d", 0);
  return text + " \n";
}

Result<std::string> ZoneInfo(const Context&) {
  const uint64_t used = Kernel::Get().memory_file().UsedBytes() / kPageSize,
                 total = GetProcHostInfo().total_memory / kPageSize;
  auto number = [](uint64_t n) { return static_cast<unsigned long long>(n); };
  std::string text = "Node 0, zone   Normal\n";
  Append(text,
         "  pages free     %llu\n        boost    0\n        min      0\n        low      0\n        high     0\n",
         number(total > used ? total - used : 0));
  Append(text, "        spanned  %llu\n        present  %llu\n        managed  %llu\n", number(total), number(total),
         number(total));
  text += "        protection: (0, 0, 0, 0, 0)\n  start_pfn:           0\n";
  return text;
}

Result<std::string> Version(const Context&) {
  const kernel::KernelOptions& options = Kernel::Get().options();
  return "Linux version " + options.release + " (runsc@sandbox) (gcc, GNU ld) " + options.version + "\n";
}

Result<std::string> Filesystems(const Context&) {
  std::string text;
  for (const auto& [name, needs_device] : vfs::FilesystemTypes())
    text += (needs_device ? "\t" : "nodev\t") + name + "\n";
  return text;
}

Result<std::string> VmStat(const Context&) {
  const uint64_t used = Kernel::Get().memory_file().UsedBytes() / kPageSize,
                 total = GetProcHostInfo().total_memory / kPageSize;
  std::string text;
  Append(text,
         "nr_free_pages %llu\nnr_inactive_anon 0\nnr_active_anon %llu\nnr_inactive_file 0\nnr_active_file 0\nnr_dirty "
         "0\nnr_writeback 0\n",
         static_cast<unsigned long long>(total > used ? total - used : 0), static_cast<unsigned long long>(used));
  text += "pgpgin 0\npgpgout 0\npswpin 0\npswpout 0\npgfault 0\npgmajfault 0\noom_kill 0\n";
  return text;
}

Result<std::string> Interrupts(const Context&) {
  std::string text(10, ' ');
  for (unsigned i = 0; i < GetProcHostInfo().cpus; ++i) Append(text, " CPU%-7u", i);
  return text + "\n";
}

Result<std::string> CgroupTable(const Context& context) { return context.entry.text + kernel::Cgroups::Get().Table(); }

constexpr char kDevices[] =
    "Character devices:\n  1 mem\n  5 /dev/tty\n  5 /dev/console\n  5 /dev/ptmx\n 10 misc\n136 pts\n\nBlock devices:\n";

constexpr TextEntry kRootEntries[] = {
    {"buddyinfo", 0444, &BuddyInfo},
    {"cgroups", 0444, &CgroupTable, nullptr, nullptr, "#subsys_name\thierarchy\tnum_cgroups\tenabled\n"},
    {"cmdline", 0444, nullptr, nullptr, nullptr, "console=tty0\n"},
    {"consoles", 0444},
    {"cpuinfo", 0444, &CpuInfo},
    {"crypto", 0444},
    {"devices", 0444, nullptr, nullptr, nullptr, kDevices},
    {"diskstats", 0444},
    {"filesystems", 0444, &Filesystems},
    {"interrupts", 0444, &Interrupts},
    {"iomem", 0400},
    {"ioports", 0400},
    {"kallsyms", 0444},
    {"key-users", 0444, &KeyUsersTable},
    {"keys", 0444, &KeysTable},
    {"loadavg", 0444, &LoadAvg},
    {"locks", 0444, &LocksTable},
    {"meminfo", 0444, &MemInfo},
    {"misc", 0444},
    {"modules", 0444},
    {"partitions", 0444, nullptr, nullptr, nullptr, "major minor  #blocks  name\n\n"},
    {"softirqs", 0444, &Interrupts},
    {"stat", 0444, &Stat},
    {"swaps", 0444, nullptr, nullptr, nullptr, "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"},
    {"uptime", 0444, &Uptime},
    {"version", 0444, &Version},
    {"vmstat", 0444, &VmStat},
    {"zoneinfo", 0444, &ZoneInfo},
};

Result<std::string> MountsLink(ProcFs&) { return std::string("self/mounts"); }
Result<std::string> NetLink(ProcFs&) { return std::string("self/net"); }

}  // namespace

void AddTexts(ProcFs& fs, StaticDirectory& directory, std::span<const TextEntry> entries) {
  for (const TextEntry& entry : entries) directory.Add(entry.name, MakeRef<TextInode>(fs, fs.NextInode(), entry));
}

RefPtr<StaticDirectory> AddDirectory(ProcFs& fs, StaticDirectory& parent, const std::string& name) {
  auto directory = MakeRef<StaticDirectory>(fs, fs.NextInode());
  parent.Add(name, directory);
  return directory;
}

void AddSystemFiles(ProcFs& fs, StaticDirectory& root) {
  AddTexts(fs, root, kRootEntries);
  root.Add("mounts", MakeRef<ProcLink>(fs, fs.NextInode(), &MountsLink));
  root.Add("net", MakeRef<ProcLink>(fs, fs.NextInode(), &NetLink));
  AddSysvIpc(fs, *AddDirectory(fs, root, "sysvipc"));
  for (const char* name : {"bus", "driver", "fs", "irq", "tty"}) AddDirectory(fs, root, name);
}

}  // namespace sentry::fs
