// SPDX-License-Identifier: Apache-2.0
// /proc/PID/net: tables of the task's network namespace, made by the layers that know them.
#include <dirent.h>

#include "sentry/fs/proc/task_dir.h"

namespace sentry::fs {
namespace {

#define IP_SOCKET_HEADER \
  "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode"

Result<std::string> Generate(const Context& context);

// `text`: what there is without a generator.
constexpr TextEntry kNetEntries[] = {
    {"arp", 0444, &Generate, nullptr, nullptr,
     "IP address       HW type     Flags       HW address            Mask     Device\n"},
    {"dev", 0444, &Generate, nullptr, nullptr,
     "Inter-|   Receive                                                |  Transmit\n"
     " face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier "
     "compressed\n"
     "    lo:       0       0    0    0    0     0          0         0        0       0    0    0    0     0       0  "
     "        0\n"},
    {"dev_mcast", 0444, &Generate},
    {"if_inet6", 0444, &Generate},
    {"igmp", 0444, &Generate, nullptr, nullptr, "Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter\n"},
    {"ipv6_route", 0444, &Generate},
    {"netlink", 0444, &Generate, nullptr, nullptr,
     "sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode\n"},
    {"netstat", 0444, &Generate, nullptr, nullptr, "TcpExt: SyncookiesSent\nTcpExt: 0\nIpExt: InNoRoutes\nIpExt: 0\n"},
    {"packet", 0444, &Generate, nullptr, nullptr, "sk               RefCnt Type Proto  Iface R Rmem   User   Inode\n"},
    {"protocols", 0444, &Generate, nullptr, nullptr,
     "protocol  size sockets  memory press maxhdr  slab module     cl co di ac io in de sh ss gs se re sp bi br ha uh "
     "gp em\n"},
    {"psched", 0444, nullptr, nullptr, nullptr, "000003e8 00000040 000f4240 3b9aca00\n"},
    {"ptype", 0444, nullptr, nullptr, nullptr,
     "Type Device      Function\n0800          ip_rcv\n86dd          ipv6_rcv\n"},
    {"raw", 0444, &Generate, nullptr, nullptr, IP_SOCKET_HEADER " ref pointer drops\n"},
    {"raw6", 0444, &Generate, nullptr, nullptr, IP_SOCKET_HEADER " ref pointer drops\n"},
    {"route", 0444, &Generate, nullptr, nullptr,
     "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT                              "
     "                         \n"},
    {"snmp", 0444, &Generate, nullptr, nullptr,
     "Ip: Forwarding DefaultTTL\nIp: 2 64\nTcp: RtoAlgorithm RtoMin RtoMax MaxConn\nTcp: 1 200 120000 -1\n"
     "Udp: InDatagrams NoPorts InErrors OutDatagrams\nUdp: 0 0 0 0\n"},
    {"snmp6", 0444, &Generate},
    {"sockstat", 0444, &Generate, nullptr, nullptr,
     "sockets: used 0\nTCP: inuse 0 orphan 0 tw 0 alloc 0 mem 0\nUDP: inuse 0 mem 0\nRAW: inuse 0\n"},
    {"tcp", 0444, &Generate, nullptr, nullptr,
     IP_SOCKET_HEADER "                                                     \n"},
    {"tcp6", 0444, &Generate, nullptr, nullptr, IP_SOCKET_HEADER "\n"},
    {"udp", 0444, &Generate, nullptr, nullptr, IP_SOCKET_HEADER " ref pointer drops             \n"},
    {"udp6", 0444, &Generate, nullptr, nullptr, IP_SOCKET_HEADER " ref pointer drops\n"},
    {"unix", 0444, &Generate, nullptr, nullptr, "Num       RefCount Protocol Flags    Type St Inode Path\n"},
    {"wireless", 0444, nullptr, nullptr, nullptr,
     "Inter-| sta-|   Quality        |   Discarded packets               | Missed | WE\n"
     " face | tus | link level noise |  nwid  crypt   frag  retry   misc | beacon | 22\n"},
};

// Written at start only.
ProcNetGenerator& Registered(size_t index) {
  static ProcNetGenerator generators[std::size(kNetEntries)];
  return generators[index];
}

Result<std::string> Generate(const Context& context) {
  RefPtr<kernel::Namespaces> namespaces = context.task->namespaces_ref();
  if (!namespaces || !namespaces->net) return Errno(EINVAL);
  ProcNetGenerator generator = Registered(static_cast<size_t>(&context.entry - kNetEntries));
  return generator ? generator(*namespaces->net) : std::string(context.entry.text);
}

class NetDirectory final : public TaskDirectory {
 public:
  NetDirectory(ProcFs& fs, TaskRef task)
      : TaskDirectory(fs, S_IFDIR | 0555, TaskInode(task.Id(), InodeKind::kNet, 0xffff), task) {}
  Result<RefPtr<vfs::Inode>> Lookup(std::string_view name) override {
    for (uint32_t i = 0; i < std::size(kNetEntries); ++i) {
      if (name == kNetEntries[i].name)
        return RefPtr<vfs::Inode>(MakeRef<TextInode>(fs(), Ino(i), kNetEntries[i], task_ref()));
    }
    return Errno(ENOENT);
  }
  Result<std::vector<Entry>> List() override {
    std::vector<Entry> list;
    for (uint32_t i = 0; i < std::size(kNetEntries); ++i)
      list.push_back({kNetEntries[i].name, Ino(i), DT_REG, kFirstCookie + i});
    return list;
  }

 private:
  uint64_t Ino(uint32_t i) const { return TaskInode(task_ref().Id(), InodeKind::kNet, i); }
};

}  // namespace

void RegisterProcNet(const char* name, ProcNetGenerator generator) {
  for (size_t i = 0; i < std::size(kNetEntries); ++i) {
    if (std::string_view(name) == kNetEntries[i].name) Registered(i) = generator;
  }
}

RefPtr<ProcInode> NewNetDirectory(ProcFs& fs, TaskRef task) { return MakeRef<NetDirectory>(fs, std::move(task)); }

}  // namespace sentry::fs
