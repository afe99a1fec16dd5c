// SPDX-License-Identifier: Apache-2.0
// proc(5): processes and the kernel as files. One instance per mount; it shows the processes of one pid namespace.
#ifndef SENTRY_FS_PROC_PROC_H_
#define SENTRY_FS_PROC_PROC_H_

#include <string>
#include <string_view>

#include "sentry/kernel/kernel.h"
#include "sentry/vfs/vfs.h"

namespace sentry::fs {

// What of the host the guests are shown. Once, before the first mount.
struct ProcHostInfo {
  std::string cpuinfo;  // the host's /proc/cpuinfo
  unsigned cpus = 1;    // as sched_getaffinity(2) tells guests; the first so many processors of `cpuinfo` are shown
  uint64_t total_memory = 0;  // bytes: MemTotal
};
void SetProcHostInfo(ProcHostInfo info);
const ProcHostInfo& GetProcHostInfo();

// The factory for RegisterFilesystemType("proc", NewProc): for the pid namespace of the mounting task. Options:
// hidepid, gid, subset=pid. EINVAL.
Result<RefPtr<vfs::Filesystem>> NewProc(const vfs::MountSource& source);
// For boot/, which mounts without a task.
Result<RefPtr<vfs::Filesystem>> NewProcFor(RefPtr<kernel::PidNamespace> pid_ns, std::string_view options = "");

// The process whose /proc/PID an open file is; null for other files.
RefPtr<kernel::ThreadGroup> ProcessOfDirectory(vfs::FileDescription& file);

// Contents of /proc/net/NAME ("unix", "tcp", "udp"…), by the layer that knows them; at start. Without one only the
// header is shown.
using ProcNetGenerator = std::string (*)(const kernel::NetNamespace& net);
void RegisterProcNet(const char* name, ProcNetGenerator generator);

// The settings below /proc/sys/net that a namespace heeds, by their names there ("ipv4/ip_default_ttl"), by the layer
// that knows them; at start. ENOENT: another one, which is stored only.
struct ProcNetSettings {
  Result<std::string> (*read)(const kernel::NetNamespace& net, std::string_view name);
  Result<void> (*write)(const kernel::NetNamespace& net, std::string_view name, std::string_view text);
};
void RegisterProcNetSettings(const ProcNetSettings& settings);

}  // namespace sentry::fs

#endif  // SENTRY_FS_PROC_PROC_H_
