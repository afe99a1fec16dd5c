// SPDX-License-Identifier: Apache-2.0
// /proc/sys. Values that the sentry has are shown as they are; others hold what Linux has by default, and those that an
// administrator may change keep what was written, for all mounts.
#include <charconv>
#include <map>

#include "sentry/fs/dev/host_entropy.h"
#include "sentry/fs/proc/system.h"
#include "sentry/kernel/core/tunables.h"
#include "sentry/kernel/kernel.h"

namespace sentry::fs {

using kernel::Kernel;
using kernel::Task;

namespace {

RefPtr<kernel::UtsNamespace> Uts() {
  Task* task = Task::CurrentOrNull();
  RefPtr<kernel::Namespaces> namespaces = task ? task->namespaces_ref() : nullptr;
  return namespaces ? namespaces->uts : nullptr;
}

Result<std::string> HostName(const Context&) {
  RefPtr<kernel::UtsNamespace> uts = Uts();
  return (uts ? uts->host_name() : Kernel::Get().options().host_name) + "\n";
}
Result<std::string> DomainName(const Context&) {
  RefPtr<kernel::UtsNamespace> uts = Uts();
  return (uts ? uts->domain_name() : "(none)") + "\n";
}

Result<std::string> NameToSet(std::string_view data) {
  std::string name(data.substr(0, std::min({data.find('\n'), data.find('\0'), data.size()})));
  if (name.size() > 64) return Errno(EINVAL);
  return name;
}
Result<size_t> SetHostName(const Context&, std::string_view data) {
  RefPtr<kernel::UtsNamespace> uts = Uts();
  if (!uts) return Errno(EPERM);
  uts->set_host_name(TRY(NameToSet(data)));
  return data.size();
}
Result<size_t> SetDomainName(const Context&, std::string_view data) {
  RefPtr<kernel::UtsNamespace> uts = Uts();
  if (!uts) return Errno(EPERM);
  uts->set_domain_name(TRY(NameToSet(data)));
  return data.size();
}

Result<std::string> OsRelease(const Context&) { return Kernel::Get().options().release + "\n"; }
Result<std::string> OsVersion(const Context&) { return Kernel::Get().options().version + "\n"; }
Result<std::string> PidMax(const Context&) { return std::to_string(kernel::kPidMax) + "\n"; }
Result<std::string> ThreadsMax(const Context&) { return std::to_string(Kernel::Get().max_tasks()) + "\n"; }
Result<std::string> LastCap(const Context&) { return std::to_string(CAP_LAST_CAP) + "\n"; }

std::string NewUuid() {
  uint8_t b[16];
  FillEntropy(b, sizeof b);
  b[6] = (b[6] & 0x0f) | 0x40;
  b[8] = (b[8] & 0x3f) | 0x80;
  std::string text;
  Append(text, "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x\n", b[0], b[1], b[2], b[3], b[4],
         b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]);
  return text;
}
Result<std::string> Uuid(const Context&) { return NewUuid(); }
Result<std::string> BootId(const Context&) {
  static const std::string& id = *new std::string(NewUuid());
  return id;
}

struct Store {
  Mutex mu{LockRank::kLeaf};
  std::map<const TextEntry*, std::string> values ABSL_GUARDED_BY(mu);
  static Store& Get() {
    static Store& store = *new Store();
    return store;
  }
};

Result<std::string> Stored(const Context& context) {
  Store& store = Store::Get();
  MutexLock lock(store.mu);
  auto it = store.values.find(&context.entry);
  return it == store.values.end() ? std::string(context.entry.text) : it->second;
}

template <Tunable& tunable>
Result<std::string> ReadTunable(const Context&) {
  return std::to_string(tunable.Get()) + "\n";
}
template <Tunable& tunable>
Result<size_t> WriteTunable(const Context&, std::string_view data) {
  const size_t whole = data.size();
  while (!data.empty() && isspace(static_cast<unsigned char>(data.front()))) data.remove_prefix(1);
  int64_t value;
  auto [end, error] = std::from_chars(data.begin(), data.end(), value);
  bool clean = end == data.end() || isspace(static_cast<unsigned char>(*end)) || *end == '\0';
  if (error != std::errc() || !clean || value < tunable.min || value > tunable.max) return Errno(EINVAL);
  tunable.value.store(value, std::memory_order_relaxed);
  return whole;
}

// As many numbers as the default has; a text where the default is none.
Result<size_t> Keep(const Context& context, std::string_view data) {
  auto words = [](std::string_view text, bool* numbers) {
    size_t count = 0;
    bool in_word = false;
    for (char c : text) {
      const bool blank = c == ' ' || c == '\t' || c == '\n' || c == '\0';
      if (!blank && !in_word) ++count;
      in_word = !blank;
      if (!blank && !(c >= '0' && c <= '9') && c != '-') *numbers = false;
    }
    return count;
  };
  bool default_numbers = true, numbers = true;
  const size_t wanted = words(context.entry.text, &default_numbers), got = words(data, &numbers);
  if (data.size() > 256) return Errno(EINVAL);
  if (default_numbers && wanted > 0 && (!numbers || got == 0 || got > wanted)) return Errno(EINVAL);
  std::string value(data.substr(0, data.find('\0')));
  if (!value.ends_with('\n')) value += '\n';
  Store& store = Store::Get();
  MutexLock lock(store.mu);
  store.values[&context.entry] = std::move(value);
  return data.size();
}

// Written at start only.
ProcNetSettings net_settings = {};

// The caller's; boot/, which has no task, sets those of the containers.
RefPtr<kernel::NetNamespace> CallersNet() {
  Task* task = Task::CurrentOrNull();
  RefPtr<kernel::Namespaces> namespaces = task ? task->namespaces_ref() : Kernel::Get().NewNamespaces(nullptr);
  return namespaces ? namespaces->net : nullptr;
}
Result<std::string> ReadNetSetting(const Context& context) {
  RefPtr<kernel::NetNamespace> net = net_settings.read ? CallersNet() : nullptr;
  return net ? net_settings.read(*net, context.entry.name) : std::string();
}
Result<size_t> WriteNetSetting(const Context& context, std::string_view data) {
  RefPtr<kernel::NetNamespace> net = net_settings.write ? CallersNet() : nullptr;
  if (!net) return Errno(EINVAL);
  TRY(net_settings.write(*net, context.entry.name, data.substr(0, data.find('\0'))));
  return data.size();
}

#define VALUE(name, text) \
  { name, 0444, nullptr, nullptr, nullptr, text "\n" }
#define TUNABLE(name, which) \
  { name, 0644, &ReadTunable<tunables::which>, &WriteTunable<tunables::which> }
#define COUNTER(name, which) \
  { name, 0444, &ReadTunable<tunables::which> }
// Of the network namespace of who reads or writes.
#define NETWORK(name) \
  { name, 0644, &ReadNetSetting, &WriteNetSetting, nullptr, "", nullptr, true }
#define SETTING(name, text) \
  { name, 0644, &Stored, &Keep, nullptr, text "\n" }

constexpr TextEntry kKernel[] = {
    VALUE("cad_pid", "1"),
    {"cap_last_cap", 0444, &LastCap},
    SETTING("core_pattern", "core"),
    SETTING("core_pipe_limit", "0"),
    SETTING("core_uses_pid", "0"),
    SETTING("dmesg_restrict", "1"),
    {"domainname", 0644, &DomainName, &SetDomainName},
    {"hostname", 0644, &HostName, &SetHostName},
    VALUE("hung_task_timeout_secs", "0"),
    SETTING("kptr_restrict", "1"),
    VALUE("ngroups_max", "65536"),
    VALUE("numa_balancing", "0"),
    {"osrelease", 0444, &OsRelease},
    VALUE("ostype", "Linux"),
    VALUE("overflowgid", "65534"),
    VALUE("overflowuid", "65534"),
    SETTING("panic", "0"),
    SETTING("panic_on_oops", "0"),
    SETTING("perf_event_paranoid", "3"),
    {"pid_max", 0644, &PidMax},
    SETTING("printk", "4\t4\t1\t7"),
    VALUE("pty/max", "4096"),
    VALUE("randomize_va_space", "2"),
    {"random/boot_id", 0444, &BootId},
    VALUE("random/entropy_avail", "256"),
    VALUE("random/poolsize", "256"),
    {"random/uuid", 0444, &Uuid},
    VALUE("sched_child_runs_first", "0"),
    VALUE("sched_rr_timeslice_ms", "100"),
    VALUE("sched_rt_period_us", "1000000"),
    VALUE("sched_rt_runtime_us", "950000"),
    VALUE("tainted", "0"),
    {"threads-max", 0644, &ThreadsMax},
    VALUE("unprivileged_bpf_disabled", "2"),
    {"version", 0444, &OsVersion},
};

constexpr TextEntry kVm[] = {
    SETTING("dirty_background_ratio", "10"),
    SETTING("dirty_ratio", "20"),
    SETTING("drop_caches", "0"),
    SETTING("max_map_count", "65530"),
    SETTING("min_free_kbytes", "67584"),
    SETTING("mmap_min_addr", "65536"),
    SETTING("nr_hugepages", "0"),
    SETTING("oom_kill_allocating_task", "0"),
    SETTING("overcommit_kbytes", "0"),
    SETTING("overcommit_memory", "0"),
    SETTING("overcommit_ratio", "50"),
    SETTING("panic_on_oom", "0"),
    SETTING("swappiness", "60"),
    TUNABLE("unprivileged_userfaultfd", unprivileged_userfaultfd),
    SETTING("vfs_cache_pressure", "100"),
    SETTING("zone_reclaim_mode", "0"),
};

constexpr TextEntry kFs[] = {
    TUNABLE("aio-max-nr", aio_max_nr),
    COUNTER("aio-nr", aio_nr),
    VALUE("dentry-state", "0\t0\t45\t0\t0\t0"),
    SETTING("epoll/max_user_watches", "1048576"),
    SETTING("file-max", "9223372036854775807"),
    VALUE("file-nr", "0\t0\t9223372036854775807"),
    VALUE("inode-nr", "0\t0"),
    TUNABLE("fanotify/max_queued_events", fanotify_max_queued_events),
    TUNABLE("fanotify/max_user_groups", fanotify_max_user_groups),
    TUNABLE("fanotify/max_user_marks", fanotify_max_user_marks),
    TUNABLE("inotify/max_queued_events", inotify_max_queued_events),
    TUNABLE("inotify/max_user_instances", inotify_max_user_instances),
    TUNABLE("inotify/max_user_watches", inotify_max_user_watches),
    TUNABLE("lease-break-time", lease_break_time),
    TUNABLE("leases-enable", leases_enable),
    SETTING("mount-max", "100000"),
    TUNABLE("nr_open", nr_open),
    VALUE("overflowgid", "65534"),
    VALUE("overflowuid", "65534"),
    TUNABLE("pipe-max-size", pipe_max_size),
    VALUE("pipe-user-pages-hard", "0"),
    VALUE("pipe-user-pages-soft", "16384"),
    SETTING("protected_fifos", "0"),
    SETTING("protected_hardlinks", "0"),
    SETTING("protected_regular", "0"),
    SETTING("protected_symlinks", "0"),
    SETTING("suid_dumpable", "0"),
};

constexpr TextEntry kNet[] = {
    SETTING("core/netdev_max_backlog", "1000"),
    SETTING("core/optmem_max", "131072"),
    SETTING("core/rmem_default", "212992"),
    SETTING("core/rmem_max", "212992"),
    NETWORK("core/somaxconn"),
    SETTING("core/wmem_default", "212992"),
    SETTING("core/wmem_max", "212992"),
    NETWORK("ipv4/conf/all/forwarding"),
    SETTING("ipv4/conf/all/rp_filter", "0"),
    SETTING("ipv4/conf/default/forwarding", "0"),
    SETTING("ipv4/conf/default/rp_filter", "0"),
    NETWORK("ipv4/icmp_echo_ignore_all"),
    NETWORK("ipv4/ip_default_ttl"),
    NETWORK("ipv4/ip_forward"),
    NETWORK("ipv4/ip_local_port_range"),
    SETTING("ipv4/ip_local_reserved_ports", ""),
    SETTING("ipv4/ip_nonlocal_bind", "0"),
    TUNABLE("ipv4/ip_unprivileged_port_start", ip_unprivileged_port_start),
    NETWORK("ipv4/ping_group_range"),
    VALUE("ipv4/tcp_allowed_congestion_control", "reno cubic"),
    VALUE("ipv4/tcp_available_congestion_control", "reno cubic"),
    NETWORK("ipv4/tcp_congestion_control"),
    NETWORK("ipv4/tcp_fin_timeout"),
    NETWORK("ipv4/tcp_keepalive_intvl"),
    NETWORK("ipv4/tcp_keepalive_probes"),
    NETWORK("ipv4/tcp_keepalive_time"),
    NETWORK("ipv4/tcp_max_syn_backlog"),
    NETWORK("ipv4/tcp_max_tw_buckets"),
    SETTING("ipv4/tcp_moderate_rcvbuf", "1"),
    NETWORK("ipv4/tcp_orphan_retries"),
    NETWORK("ipv4/tcp_retries2"),
    NETWORK("ipv4/tcp_rmem"),
    NETWORK("ipv4/tcp_sack"),
    NETWORK("ipv4/tcp_syn_retries"),
    NETWORK("ipv4/tcp_synack_retries"),
    SETTING("ipv4/tcp_syncookies", "0"),
    NETWORK("ipv4/tcp_timestamps"),
    NETWORK("ipv4/tcp_tw_reuse"),
    NETWORK("ipv4/tcp_window_scaling"),
    NETWORK("ipv4/tcp_wmem"),
    SETTING("ipv6/bindv6only", "0"),
    SETTING("ipv6/conf/all/disable_ipv6", "0"),
    NETWORK("ipv6/conf/all/forwarding"),
    SETTING("ipv6/conf/default/disable_ipv6", "0"),
    SETTING("ipv6/conf/lo/disable_ipv6", "0"),
    SETTING("unix/max_dgram_qlen", "512"),
};

// /proc/sys/user/max_*_namespaces: of the reader's own user namespace (namespaces(7)).
Result<std::pair<UserNamespace*, UserCount>> LimitOf(const Context& context) {
  static constexpr std::pair<std::string_view, UserCount> kNames[] = {
      {"cgroup", UserCount::kCgroup}, {"ipc", UserCount::kIpc},   {"mnt", UserCount::kMount}, {"net", UserCount::kNet},
      {"pid", UserCount::kPid},       {"time", UserCount::kTime}, {"user", UserCount::kUser}, {"uts", UserCount::kUts},
  };
  Caller* caller = Caller::CurrentOrNull();
  UserNamespace* ns = caller ? caller->creds()->user_ns.get() : Kernel::Get().root_user_ns().get();
  const std::string_view entry = context.entry.name;
  for (const auto& [name, kind] : kNames) {
    if (entry.substr(4, name.size()) == name) return std::pair(ns, kind);
  }
  return Errno(EINVAL);
}
Result<std::string> NamespaceLimit(const Context& context) {
  const auto [ns, kind] = TRY(LimitOf(context));
  return std::to_string(ns->Max(kind)) + "\n";
}
Result<size_t> SetNamespaceLimit(const Context& context, std::string_view data) {
  const auto [ns, kind] = TRY(LimitOf(context));
  Caller* caller = Caller::CurrentOrNull();
  if (caller && !caller->creds()->HasOwnCapability(CAP_SYS_RESOURCE) &&
      !caller->creds()->HasOwnCapability(CAP_SYS_ADMIN))
    return Errno(EPERM);
  const int64_t value = TRY(ParseNumber(data));
  if (value < 0 || value > INT32_MAX) return Errno(EINVAL);
  ns->SetMax(kind, static_cast<int32_t>(value));
  return data.size();
}

#define NAMESPACE_LIMIT(kind) \
  { "max_" kind "_namespaces", 0666, &NamespaceLimit, &SetNamespaceLimit }
constexpr TextEntry kUser[] = {
    NAMESPACE_LIMIT("cgroup"), NAMESPACE_LIMIT("ipc"),  NAMESPACE_LIMIT("mnt"),  NAMESPACE_LIMIT("net"),
    NAMESPACE_LIMIT("pid"),    NAMESPACE_LIMIT("time"), NAMESPACE_LIMIT("user"), NAMESPACE_LIMIT("uts"),
};

// The names may have directories in them.
void AddTree(ProcFs& fs, StaticDirectory& top, std::span<const TextEntry> entries) {
  for (const TextEntry& entry : entries) {
    RefPtr<StaticDirectory> directory(&top);
    std::string_view rest = entry.name;
    for (size_t slash; (slash = rest.find('/')) != std::string_view::npos; rest = rest.substr(slash + 1)) {
      const std::string name(rest.substr(0, slash));
      ProcInode* child = directory->Find(name);
      directory =
          child ? RefPtr<StaticDirectory>(static_cast<StaticDirectory*>(child)) : AddDirectory(fs, *directory, name);
    }
    directory->Add(std::string(rest), MakeRef<TextInode>(fs, fs.NextInode(), entry));
  }
}

}  // namespace

void RegisterProcNetSettings(const ProcNetSettings& settings) { net_settings = settings; }

void AddSysctls(ProcFs& fs, StaticDirectory& root) {
  RefPtr<StaticDirectory> sys = AddDirectory(fs, root, "sys");
  RefPtr<StaticDirectory> kernel = AddDirectory(fs, *sys, "kernel");
  AddTree(fs, *kernel, kKernel);
  AddSysvLimits(fs, *kernel);
  AddTree(fs, *AddDirectory(fs, *sys, "vm"), kVm);
  RefPtr<StaticDirectory> files = AddDirectory(fs, *sys, "fs");
  AddTree(fs, *files, kFs);
  AddMqueueLimits(fs, *AddDirectory(fs, *files, "mqueue"));
  AddTree(fs, *AddDirectory(fs, *sys, "net"), kNet);
  AddTree(fs, *AddDirectory(fs, *sys, "user"), kUser);
}

}  // namespace sentry::fs
