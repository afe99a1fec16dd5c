// SPDX-License-Identifier: Apache-2.0
// Names, state and errors of datagram endpoints; data is in datagram_io.cc.
#include "sentry/net/datagram.h"

#include <errno.h>
#include <netinet/in.h>
#include <linux/errqueue.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>

namespace sentry::net {
namespace {

constexpr size_t kMaxMemberships = 20;  // net.ipv4.igmp_max_memberships
constexpr size_t kMaxErrors = 64;

}  // namespace

DatagramEndpoint::DatagramEndpoint(Stack& stack, bool v6, Kind kind, int protocol)
    : Endpoint(stack, v6), kind_(kind), protocol_(protocol) {
  user_.endpoint = this;
  user_.address = IpAddress::Any(!v6);
  if (kind == Kind::kRaw) stack.AddRaw(*this);
}

DatagramEndpoint::~DatagramEndpoint() { Close(); }

PortTable* DatagramEndpoint::ports() const {
  switch (kind_) {
    case Kind::kUdp:
      return is_lite() ? &stack().udplite_ports() : &stack().udp_ports();
    case Kind::kPing:
      return &stack().ping_ports();
    case Kind::kRaw:
      return nullptr;
  }
  return nullptr;
}

void DatagramEndpoint::Close() {
  Ring<Datagram> dropped;
  Section section(mu_);
  if (closed_) return;
  closed_ = true;
  observer_ = nullptr;
  if (PortTable* table = ports())
    table->Unbind(user_);
  else
    stack().RemoveRaw(*this);
  dropped.Swap(queue_);
  errors_.clear();
  charged_ = 0;
}

void DatagramEndpoint::set_observer(RefPtr<Observer> observer) {
  MutexLock lock(mu_);
  observer_ = std::move(observer);
}

Result<void> DatagramEndpoint::Bind(const SocketAddress& address, const BindOptions& options) {
  MutexLock lock(mu_);
  if (kind_ != Kind::kRaw && user_.port) return Errno(EINVAL);
  TRY(CheckLocal(address.ip, address.scope));
  const Settings& settings = stack().settings();
  const PortUser before = user_;
  user_.address = address.ip;
  user_.dual = is_v6() && !ip().v6_only && address.ip == IpAddress::AnyV6();
  user_.device = ip().device;
  user_.reuse_address = options.reuse_address;
  user_.reuse_port = options.reuse_port;
  user_.uid = options.uid;
  if (PortTable* table = ports()) {
    auto done = table->Bind(user_, address.port, static_cast<uint16_t>(settings.port_low),
                            static_cast<uint16_t>(settings.port_high), stack().environment().Random());
    if (!done.ok()) {
      user_ = before;
      return done;
    }
  }
  address_by_connect_ = false;
  bound_ = true;
  return OkResult();
}

Result<void> DatagramEndpoint::AutoBindLocked(const BindOptions& options) {
  PortTable* table = ports();
  if (!table || user_.port) return OkResult();
  const Settings& settings = stack().settings();
  user_.dual = is_v6() && !ip().v6_only && user_.address == IpAddress::AnyV6();
  user_.device = ip().device;
  user_.uid = options.uid;
  auto done = table->Bind(user_, 0, static_cast<uint16_t>(settings.port_low), static_cast<uint16_t>(settings.port_high),
                          stack().environment().Random());
  user_.reuse_address = options.reuse_address;
  user_.reuse_port = options.reuse_port;
  if (!done.ok()) return Errno(EAGAIN);
  return OkResult();
}

void DatagramEndpoint::OnOptionsChanged(const BindOptions& options) {
  MutexLock lock(mu_);
  const auto change = [&](PortUser& user) {
    user.reuse_address = options.reuse_address;
    user.reuse_port = options.reuse_port;
    user.device = ip().device;
  };
  if (PortTable* table = ports())
    table->Update(user_, change);
  else
    change(user_);
}

Result<void> DatagramEndpoint::Connect(const SocketAddress& remote, const BindOptions& options) {
  SocketAddress to = remote;
  if (to.ip.IsAny()) to.ip = to.ip.IsV4() ? IpAddress::LoopbackV4() : IpAddress::LoopbackV6();
  MutexLock lock(mu_);
  if (to.ip.IsV4() && is_v6() && ip().v6_only) return Errno(ENETUNREACH);
  std::shared_ptr<const Config> config = stack().config();
  if (config->IsBroadcast(to.ip) && !ip().broadcast) return Errno(EACCES);
  SendOptions none;
  Path path = TRY(RouteLocked(to, none));
  TRY(AutoBindLocked(options));
  const auto change = [&](PortUser& user) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    if (user.address.IsAny()) {
      address_by_connect_ = true;
      user.address = path.source;
      user.dual = false;
    }
    user.connected = true;
    user.remote = to;
  };
  if (PortTable* table = ports())
    table->Update(user_, change);
  else
    change(user_);
  remote_ = to;
  bound_ = true;
  return OkResult();
}

void DatagramEndpoint::Disconnect() {
  MutexLock lock(mu_);
  remote_.reset();
  const auto change = [&](PortUser& user) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    user.connected = false;
    user.remote = {};
    if (address_by_connect_) {
      user.address = IpAddress::Any(!is_v6());
      user.dual = is_v6() && !ip().v6_only;
    }
  };
  if (PortTable* table = ports())
    table->Update(user_, change);
  else
    change(user_);
  // A port that nobody asked for goes as well (__udp_disconnect without SOCK_BINDPORT_LOCK).
  if (PortTable* table = ports(); table && !bound_) table->Unbind(user_);
  address_by_connect_ = false;
  receive_shutdown_ = send_shutdown_ = false;
}

SocketAddress DatagramEndpoint::local() const {
  MutexLock lock(mu_);
  SocketAddress address{user_.address, user_.port};
  if (kind_ == Kind::kRaw) address.port = static_cast<uint16_t>(protocol_);
  return address;
}

std::optional<SocketAddress> DatagramEndpoint::remote() const {
  MutexLock lock(mu_);
  return remote_;
}

bool DatagramEndpoint::is_bound() const {
  MutexLock lock(mu_);
  return user_.port != 0 || bound_;
}

size_t DatagramEndpoint::NextSize() const {
  MutexLock lock(mu_);
  return queue_.empty() ? 0 : queue_.front().data.size();
}

size_t DatagramEndpoint::QueuedBytes() const {
  MutexLock lock(mu_);
  return charged_;
}

bool DatagramEndpoint::IsReceiveShutdown() const {
  MutexLock lock(mu_);
  return receive_shutdown_;
}

Result<void> DatagramEndpoint::Shutdown(int how) {
  Section section(mu_);
  if (how == SHUT_RD || how == SHUT_RDWR) receive_shutdown_ = true;
  if (how == SHUT_WR || how == SHUT_RDWR) send_shutdown_ = true;
  DeferEvents(observer_, EPOLLIN | EPOLLRDNORM | EPOLLOUT | EPOLLWRNORM | EPOLLRDHUP | EPOLLHUP);
  if (!remote_) return Errno(ENOTCONN);
  return OkResult();
}

uint32_t DatagramEndpoint::Poll() const {
  MutexLock lock(mu_);
  uint32_t events = EPOLLOUT | EPOLLWRNORM | EPOLLWRBAND;
  if (!queue_.empty() || receive_shutdown_) events |= EPOLLIN | EPOLLRDNORM;
  if (receive_shutdown_) events |= EPOLLRDHUP;
  if (receive_shutdown_ && send_shutdown_) events |= EPOLLHUP;
  if (error_ || !errors_.empty()) events |= EPOLLERR;
  return events;
}

int DatagramEndpoint::TakeErrorLocked() { return std::exchange(error_, 0); }

int DatagramEndpoint::TakeError() {
  MutexLock lock(mu_);
  return TakeErrorLocked();
}

void DatagramEndpoint::OnIcmpError(const IcmpError& error, const SocketAddress& local, const SocketAddress& remote) {
  Section section(mu_);
  if (closed_) return;
  if (remote_ && *remote_ != remote && kind_ != Kind::kRaw) return;
  const bool wanted = error.is_v4 ? ip().receive_errors : ip().receive_errors6;
  if (wanted && errors_.size() < kMaxErrors) {
    QueuedError queued;
    queued.error = error;
    queued.error.transport = nullptr;
    queued.origin = error.is_v4 ? SO_EE_ORIGIN_ICMP : SO_EE_ORIGIN_ICMP6;
    queued.destination = remote;
    // Raw and echo sockets see the header of what they sent, and no ports.
    const size_t header = kind_ == Kind::kUdp ? 8 : 0;
    if (kind_ != Kind::kUdp) queued.destination.port = 0;
    if (error.transport_size > header)
      queued.data = Buffer::Copy(error.transport + header, error.transport_size - header);
    errors_.push_back(std::move(queued));
    error_ = error.error;
  } else if (remote_ && error.fatal) {
    error_ = error.error;
  } else {
    return;
  }
  DeferEvents(observer_, EPOLLERR | EPOLLIN | EPOLLRDNORM | EPOLLOUT | EPOLLWRNORM);
}

Result<QueuedError> DatagramEndpoint::TakeQueuedError() {
  MutexLock lock(mu_);
  if (errors_.empty()) return Errno(EAGAIN);
  QueuedError first = std::move(errors_.front());
  errors_.pop_front();
  // The pending error is that of the next in the queue (sock_dequeue_err_skb).
  error_ = errors_.empty() ? 0 : errors_.front().error.error;
  return first;
}

Result<void> DatagramEndpoint::JoinGroup(const IpAddress& group, uint32_t interface) {
  if (!group.IsMulticast()) return Errno(EINVAL);
  std::shared_ptr<const Config> config = stack().config();
  if (interface == 0) {
    auto path = config->Lookup(group, IpAddress::Any(group.IsV4()), 0);
    if (path.ok()) {
      interface = path->interface;
    } else {
      for (const Interface& i : config->interfaces) {
        if (i.IsUp() && (i.flags & IFF_MULTICAST)) interface = i.index;
      }
      if (interface == 0) return Errno(ENODEV);
    }
  }
  if (!config->Find(interface)) return Errno(ENODEV);
  MutexLock lock(mu_);
  for (const Membership& m : memberships_) {
    if (m.group == group && m.interface == interface) return Errno(EADDRINUSE);
  }
  if (memberships_.size() >= kMaxMemberships) return Errno(ENOBUFS);
  memberships_.push_back({group, interface});
  return OkResult();
}

Result<void> DatagramEndpoint::LeaveGroup(const IpAddress& group, uint32_t interface) {
  MutexLock lock(mu_);
  for (size_t i = 0; i < memberships_.size(); ++i) {
    if (memberships_[i].group != group || (interface && memberships_[i].interface != interface)) continue;
    memberships_.erase(memberships_.begin() + static_cast<ptrdiff_t>(i));
    return OkResult();
  }
  return Errno(EADDRNOTAVAIL);
}

bool DatagramEndpoint::IsMember(const IpAddress& group, uint32_t interface) const {
  MutexLock lock(mu_);
  for (const Membership& m : memberships_) {
    if (m.group == group && m.interface == interface) return true;
  }
  return group.IsV4() ? ip().multicast_all : ip().multicast_all6;
}

void DatagramEndpoint::set_icmp_filter(const std::array<uint32_t, 8>& filter) {
  MutexLock lock(mu_);
  icmp_filter_ = filter;
}

std::array<uint32_t, 8> DatagramEndpoint::icmp_filter() const {
  MutexLock lock(mu_);
  return icmp_filter_;
}

}  // namespace sentry::net
