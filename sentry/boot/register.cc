// SPDX-License-Identifier: Apache-2.0
// The one list of what this kernel can mount and open.
#include "sentry/boot/filesystems.h"
#include "sentry/fs/cgroup/cgroup.h"
#include "sentry/fs/dev/dev.h"
#include "sentry/fs/devpts/pty.h"
#include "sentry/fs/mqueue/mqueue.h"
#include "sentry/fs/overlay/overlay.h"
#include "sentry/fs/pipe/pipe.h"
#include "sentry/fs/proc/proc.h"
#include "sentry/fs/sys/sys.h"
#include "sentry/fs/tmpfs/tmpfs.h"
#include "sentry/socket/inet/net_settings.h"
#include "sentry/socket/inet/proc_net.h"
#include "sentry/socket/inet/stacks.h"
#include "sentry/socket/packet/packet_socket.h"
#include "sentry/socket/unix/unix_socket.h"
#include "sentry/vfs/vfs.h"

namespace sentry {
namespace {

template <std::string (*kText)(net::Stack&)>
std::string OfStack(const kernel::NetNamespace& net) {
  return kText(*socket::StackOf(net.inode_number(), net.is_first()));
}

void RegisterNetFiles() {
  fs::RegisterProcNetSettings({
      .read =
          [](const kernel::NetNamespace& net, std::string_view name) {
            return socket::ReadNetSetting(*socket::StackOf(net.inode_number(), net.is_first()), name);
          },
      .write =
          [](const kernel::NetNamespace& net, std::string_view name, std::string_view text) {
            return socket::WriteNetSetting(*socket::StackOf(net.inode_number(), net.is_first()), name, text);
          },
  });
  fs::RegisterProcNet("unix", [](const kernel::NetNamespace&) { return socket::ProcNetUnix(); });
  fs::RegisterProcNet("tcp", &OfStack<&socket::ProcNetTcp>);
  fs::RegisterProcNet("tcp6", &OfStack<&socket::ProcNetTcp6>);
  fs::RegisterProcNet("udp", &OfStack<&socket::ProcNetUdp>);
  fs::RegisterProcNet("udp6", &OfStack<&socket::ProcNetUdp6>);
  fs::RegisterProcNet("raw", &OfStack<&socket::ProcNetRaw>);
  fs::RegisterProcNet("raw6", &OfStack<&socket::ProcNetRaw6>);
  fs::RegisterProcNet("dev", &OfStack<&socket::ProcNetDev>);
  fs::RegisterProcNet("arp", &OfStack<&socket::ProcNetArp>);
  fs::RegisterProcNet("route", &OfStack<&socket::ProcNetRoute>);
  fs::RegisterProcNet("ipv6_route", &OfStack<&socket::ProcNetRoute6>);
  fs::RegisterProcNet("if_inet6", &OfStack<&socket::ProcNetIfInet6>);
  fs::RegisterProcNet("snmp", &OfStack<&socket::ProcNetSnmp>);
  fs::RegisterProcNet("snmp6", &OfStack<&socket::ProcNetSnmp6>);
  fs::RegisterProcNet("netstat", &OfStack<&socket::ProcNetNetstat>);
  fs::RegisterProcNet("sockstat", &OfStack<&socket::ProcNetSockstat>);
}

}  // namespace

void RegisterFilesystems(const HostInfo& host, uint64_t total_memory) {
  fs::SetProcHostInfo({.cpuinfo = host.cpuinfo, .cpus = host.cpus, .total_memory = total_memory});
  vfs::RegisterFilesystemType("tmpfs", &tmpfs::NewTmpfs);
  vfs::RegisterFilesystemType("ramfs", &tmpfs::NewTmpfs);
  vfs::RegisterFilesystemType("devtmpfs", &tmpfs::NewTmpfs);
  vfs::RegisterFilesystemType("proc", &fs::NewProc);
  vfs::RegisterFilesystemType("sysfs", &fs::NewSysfs);
  vfs::RegisterFilesystemType("devpts", &fs::NewDevpts);
  vfs::RegisterFilesystemType("mqueue", &fs::NewMqueue);
  vfs::RegisterFilesystemType("cgroup", &fs::NewCgroup1);
  vfs::RegisterFilesystemType("cgroup2", &fs::NewCgroup2);
  vfs::RegisterFilesystemType("overlay", &fs::NewGuestOverlay);
  fs::RegisterDevices();
  fs::RegisterTerminals();
  fs::RegisterFifos();
  RegisterNetFiles();
  socket::RegisterPacketSockets();
}

}  // namespace sentry
