// SPDX-License-Identifier: Apache-2.0
#include "sentry/socket/inet/inet_socket.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/ioctl.h>

#include "sentry/kernel/core/tunables.h"
#include "sentry/socket/environment.h"
#include "sentry/socket/inet/stacks.h"

namespace sentry::socket {
namespace {

constexpr size_t kMinIpv6Address = 24;  // SIN6_LEN_RFC2133

template <int kFamily>
Result<vfs::FileRef> Create(int type, int protocol, int flags) {
  constexpr bool kV6 = kFamily == AF_INET6;
  if (protocol < 0 || protocol >= IPPROTO_MAX) return Errno(EINVAL);
  switch (type) {
    case SOCK_STREAM:
      if (protocol && protocol != IPPROTO_TCP) return Errno(EPROTONOSUPPORT);
      return NewTcpSocket(kFamily, flags);
    case SOCK_DGRAM: {
      const int echo = kV6 ? int{IPPROTO_ICMPV6} : int{IPPROTO_ICMP};
      if (protocol && protocol != IPPROTO_UDP && protocol != IPPROTO_UDPLITE && protocol != echo)
        return Errno(EPROTONOSUPPORT);
      return NewDatagramSocket(kFamily, type, protocol ? protocol : int{IPPROTO_UDP}, flags);
    }
    case SOCK_RAW:
      if (protocol == 0) return Errno(EPROTONOSUPPORT);
      if (!HasNetCapability(CAP_NET_RAW)) return Errno(EPERM);
      return NewDatagramSocket(kFamily, type, protocol, flags);
    default:
      return Errno(ESOCKTNOSUPPORT);
  }
}

uint64_t InodeNumber(const vfs::Path& path) {
  auto stat = path.inode()->GetStat();
  return stat.ok() ? stat->ino : 0;
}

}  // namespace

Result<net::SocketAddress> ParseAddress(std::string_view bytes, int family, bool v4_allowed_on_v6) {
  const int given = FamilyOf(bytes);
  if (given < 0) return Errno(EINVAL);
  net::SocketAddress address;
  if (given == AF_INET && (family == AF_INET || v4_allowed_on_v6)) {
    sockaddr_in in;
    if (bytes.size() < sizeof in) return Errno(EINVAL);
    memcpy(&in, bytes.data(), sizeof in);
    address.ip = net::IpAddress::V4Bytes(&in.sin_addr);
    address.port = ntohs(in.sin_port);
    return address;
  }
  if (family == AF_INET) {
    if (bytes.size() < sizeof(sockaddr_in)) return Errno(EINVAL);
    return Errno(EAFNOSUPPORT);
  }
  sockaddr_in6 in6 = {};
  if (bytes.size() < kMinIpv6Address) return Errno(EINVAL);
  if (given != AF_INET6) return Errno(EAFNOSUPPORT);
  memcpy(&in6, bytes.data(), std::min(bytes.size(), sizeof in6));
  address.ip = net::IpAddress::V6Bytes(&in6.sin6_addr);
  address.port = ntohs(in6.sin6_port);
  address.scope = in6.sin6_scope_id;
  return address;
}

std::string FormatAddress(const net::SocketAddress& address, int family) {
  if (family == AF_INET) {
    sockaddr_in in = {};
    in.sin_family = AF_INET;
    in.sin_port = htons(address.port);
    if (address.ip.IsV4()) memcpy(&in.sin_addr, address.ip.v4_bytes(), 4);
    return OptionBytes(&in, sizeof in);
  }
  sockaddr_in6 in6 = {};
  in6.sin6_family = AF_INET6;
  in6.sin6_port = htons(address.port);
  memcpy(&in6.sin6_addr, address.ip.v6_bytes(), 16);
  if (address.ip.IsLinkLocalV6()) in6.sin6_scope_id = address.scope;
  return OptionBytes(&in6, sizeof in6);
}

void SocketEvents::OnEvents(uint32_t events) {
  queue_.Notify(events);
  if (!async_.load(std::memory_order_relaxed)) return;
  vfs::FileRef file;
  {
    MutexLock lock(mu_);
    if (file_ && file_->TryIncRef()) file = vfs::FileRef::Adopt(file_);
  }
  if (file) file->NotifyEvents(events);
}

void SocketEvents::set_file(vfs::FileDescription* file) {
  MutexLock lock(mu_);
  file_ = file;
}

InetSocket::InetSocket(vfs::Path path, int flags, int family, int type, int protocol, net::Endpoint& endpoint)
    : Socket(path, flags, family, type, protocol),
      endpoint_(endpoint),
      events_(MakeRef<SocketEvents>()),
      inode_number_(InodeNumber(path)) {
  events_->set_file(this);
  endpoint_.set_observer(events_);
  endpoint_.file_inode = inode_number_;
  endpoint_.file_owner = Caller::Current().creds()->fsuid;
}

void InetSocket::Detach() {
  events_->set_file(nullptr);
  endpoint_.file_inode = 0;
}

Result<void> InetSocket::CheckPort(uint16_t port) {
  if (port && port < tunables::ip_unprivileged_port_start && !HasNetCapability(CAP_NET_BIND_SERVICE)) {
    return Errno(EACCES);
  }
  return OkResult();
}

Result<void> InetSocket::OnSetFlags(int flags) {
  events_->set_async(flags & O_ASYNC);
  return OkResult();
}

Result<int64_t> InetSocket::Ioctl(unsigned request, uint64_t argument) {
  switch (request) {
    case SIOCINQ:
    case SIOCOUTQ:
    case SIOCOUTQNSD:
    case SIOCATMARK: {
      const int value = static_cast<int>(TRY(QueueSize(request)));
      TRY(Caller::Current().CopyOut(UserAddr(argument), value));
      return 0;
    }
    default:
      return InterfaceIoctl(stack(), HasNetCapability(CAP_NET_ADMIN), request, argument);
  }
}

void RegisterInetSockets() {
  RegisterDomain(AF_INET, {.create = &Create<AF_INET>});
  RegisterDomain(AF_INET6, {.create = &Create<AF_INET6>});
  SetDeviceIoctl([](unsigned request, uint64_t argument) {
    return InterfaceIoctl(*CallersStack(), HasNetCapability(CAP_NET_ADMIN), request, argument);
  });
}

}  // namespace sentry::socket
