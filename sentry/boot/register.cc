// SPDX-License-Identifier: Apache-2.0
// The one list of what this kernel can mount and open.
#include "sentry/boot/filesystems.h"
#include "sentry/fs/dev/dev.h"
#include "sentry/fs/devpts/pty.h"
#include "sentry/fs/mqueue/mqueue.h"
#include "sentry/fs/pipe/pipe.h"
#include "sentry/fs/proc/proc.h"
#include "sentry/fs/sys/sys.h"
#include "sentry/fs/tmpfs/tmpfs.h"
#include "sentry/socket/unix/unix_socket.h"
#include "sentry/vfs/vfs.h"

namespace sentry {

void RegisterFilesystems(const HostInfo& host, uint64_t total_memory) {
  fs::SetProcHostInfo({.cpuinfo = host.cpuinfo, .cpus = host.cpus, .total_memory = total_memory});
  vfs::RegisterFilesystemType("tmpfs", &tmpfs::NewTmpfs);
  vfs::RegisterFilesystemType("ramfs", &tmpfs::NewTmpfs);
  vfs::RegisterFilesystemType("devtmpfs", &tmpfs::NewTmpfs);
  vfs::RegisterFilesystemType("proc", &fs::NewProc);
  vfs::RegisterFilesystemType("sysfs", &fs::NewSysfs);
  vfs::RegisterFilesystemType("devpts", &fs::NewDevpts);
  vfs::RegisterFilesystemType("mqueue", &fs::NewMqueue);
  fs::RegisterDevices();
  fs::RegisterTerminals();
  fs::RegisterFifos();
  fs::RegisterProcNet("unix", [](const kernel::NetNamespace&) { return socket::ProcNetUnix(); });
}

}  // namespace sentry
