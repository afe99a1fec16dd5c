// SPDX-License-Identifier: Apache-2.0
// SOCK_DGRAM (udp(7), udplite(7), echo sockets of icmp(7)) and SOCK_RAW (raw(7)) of AF_INET and AF_INET6.
#include <linux/capability.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <linux/errqueue.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/time.h>

#include <algorithm>

#include "sentry/net/datagram.h"
#include "sentry/socket/inet/inet_socket.h"
#include "sentry/socket/inet/stacks.h"

namespace sentry::socket {
namespace {

using net::DatagramEndpoint;
using Kind = DatagramEndpoint::Kind;

constexpr size_t kMaxMessage = 65535;
constexpr int kRawFilter = 1;  // ICMP_FILTER, ICMPV6_FILTER
constexpr int kSolUdplite = 136, kSendCoverage = 10, kReceiveCoverage = 11, kUdpHeader = 8;  // udplite(7)

class DatagramSocket final : public InetSocket {
 public:
  DatagramSocket(vfs::Path path, int flags, int family, int type, RefPtr<DatagramEndpoint> endpoint)
      : InetSocket(std::move(path), flags, family, type, endpoint->protocol(), *endpoint),
        endpoint_(std::move(endpoint)) {
    endpoint_->set_receive_limit(static_cast<size_t>(options().receive_buffer));
  }
  ~DatagramSocket() override {
    Detach();
    endpoint_->Close();
  }

  Result<void> Bind(std::string_view address) override;
  Result<void> Connect(std::string_view address, bool nonblocking, WaitOn*) override;
  Result<void> Shutdown(int how) override {
    if (how < SHUT_RD || how > SHUT_RDWR) return Errno(EINVAL);
    return endpoint_->Shutdown(how);
  }
  Result<std::string> GetName() override { return FormatAddress(endpoint_->local(), domain()); }
  Result<std::string> GetPeer() override {
    auto remote = endpoint_->remote();
    if (!remote) return Errno(ENOTCONN);
    return FormatAddress(*remote, domain());
  }
  Result<size_t> Send(SendRequest& request) override;
  Result<size_t> Receive(ReceiveRequest& request) override;
  EventMask Poll() override { return endpoint_->Poll(); }

 private:
  std::atomic<int>& Coverage(int option) {
    return option == kSendCoverage ? endpoint_->send_coverage : endpoint_->receive_coverage;
  }
  DatagramEndpoint::BindOptions BindOptionsNow() {
    return {.reuse_address = options().reuse_address != 0,
            .reuse_port = options().reuse_port != 0,
            .uid = Caller::Current().creds()->euid};
  }
  void OnOptionSet(int name) override {
    if (name == SO_RCVBUF || name == SO_RCVBUFFORCE)
      endpoint_->set_receive_limit(static_cast<size_t>(options().receive_buffer));
    if (name == SO_REUSEADDR || name == SO_REUSEPORT) endpoint_->OnOptionsChanged(BindOptionsNow());
  }
  Result<void> AttachFilter(std::vector<sock_filter> program) override {
    endpoint_->set_filter(TRY(net::Filter::Create(std::move(program))));
    return OkResult();
  }
  Result<void> DetachFilter() override {
    if (!endpoint_->has_filter()) return Errno(ENOENT);
    endpoint_->set_filter(nullptr);
    return OkResult();
  }
  void OnDeviceChanged() override { endpoint_->OnOptionsChanged(BindOptionsNow()); }
  int TakeError() override { return endpoint_->TakeError(); }
  bool IsBound() override { return endpoint_->is_bound(); }
  Result<int64_t> QueueSize(unsigned request) override;
  Result<void> ChangeMembership(const net::IpAddress& group, uint32_t interface, bool join) override {
    return join ? endpoint_->JoinGroup(group, interface) : endpoint_->LeaveGroup(group, interface);
  }
  Result<void> SetProtocolOption(int level, int name, std::string_view value) override;
  Result<std::string> GetProtocolOption(int level, int name) override;
  Result<void> ParseControl(const SendRequest& request, DatagramEndpoint::SendOptions* send);
  void AddControl(const net::Datagram& d, ReceiveRequest& request);
  Result<size_t> ReceiveError(ReceiveRequest& request);

  const RefPtr<DatagramEndpoint> endpoint_;
  std::atomic<bool> cork_{false};
  Mutex cork_mu_{LockRank::kNetIo};
  net::Buffer corked_ ABSL_GUARDED_BY(cork_mu_);
};

Result<void> DatagramSocket::Bind(std::string_view address) {
  std::string fixed(address);
  if (domain() == AF_INET && FamilyOf(address) == AF_UNSPEC && address.size() >= sizeof(sockaddr_in)) {
    const sa_family_t family = AF_INET;
    memcpy(fixed.data(), &family, sizeof family);
    if (!TRY(ParseAddress(fixed, AF_INET, false)).ip.IsAny()) return Errno(EAFNOSUPPORT);
  }
  auto parsed = TRY(ParseAddress(fixed, domain(), false));
  if (endpoint_->kind() == Kind::kUdp) TRY(CheckPort(parsed.port));
  return endpoint_->Bind(parsed, BindOptionsNow());
}

Result<void> DatagramSocket::Connect(std::string_view address, bool, WaitOn*) {
  if (FamilyOf(address) < 0) return Errno(EINVAL);
  if (FamilyOf(address) == AF_UNSPEC) {
    endpoint_->Disconnect();
    return OkResult();
  }
  return endpoint_->Connect(TRY(ParseAddress(address, domain(), true)), BindOptionsNow());
}

Result<void> DatagramSocket::ParseControl(const SendRequest& request, DatagramEndpoint::SendOptions* send) {
  for (const ControlMessage& m : request.control) {
    const auto number = [&]() -> Result<int> {
      if (m.data.size() >= sizeof(int)) return OptionInt(m.data);
      if (m.data.size() == 1) return static_cast<uint8_t>(m.data[0]);
      return Errno(EINVAL);
    };
    if (m.level == SOL_IP) {
      switch (m.type) {
        case IP_PKTINFO: {
          in_pktinfo info;
          if (m.data.size() != sizeof info) return Errno(EINVAL);
          memcpy(&info, m.data.data(), sizeof info);
          if (info.ipi_ifindex) send->interface = static_cast<uint32_t>(info.ipi_ifindex);
          if (info.ipi_spec_dst.s_addr) send->source = net::IpAddress::V4Bytes(&info.ipi_spec_dst);
          break;
        }
        case IP_TTL:
          send->ttl = TRY(number());
          if (send->ttl < 1 || send->ttl > 255) return Errno(EINVAL);
          break;
        case IP_TOS:
          send->traffic_class = TRY(number());
          if (send->traffic_class < 0 || send->traffic_class > 255) return Errno(EINVAL);
          break;
        case IP_RETOPTS:
          break;
        default:
          return Errno(EINVAL);
      }
    } else if (m.level == SOL_IPV6 && is_v6()) {
      switch (m.type) {
        case IPV6_PKTINFO:
        case IPV6_2292PKTINFO: {
          in6_pktinfo info;
          if (m.data.size() < sizeof info) return Errno(EINVAL);
          memcpy(&info, m.data.data(), sizeof info);
          if (info.ipi6_ifindex) send->interface = info.ipi6_ifindex;
          const auto source = net::IpAddress::V6Bytes(&info.ipi6_addr);
          if (!source.IsAny()) send->source = source;
          break;
        }
        case IPV6_HOPLIMIT:
        case IPV6_2292HOPLIMIT:
          if (m.data.size() != sizeof(int)) return Errno(EINVAL);
          send->ttl = TRY(number());
          if (send->ttl < -1 || send->ttl > 255) return Errno(EINVAL);
          break;
        case IPV6_TCLASS:
          if (m.data.size() != sizeof(int)) return Errno(EINVAL);
          send->traffic_class = TRY(number());
          if (send->traffic_class < -1 || send->traffic_class > 255) return Errno(EINVAL);
          break;
        case IPV6_DONTFRAG:
          break;
        default:
          return Errno(EINVAL);
      }
    }
  }
  return OkResult();
}

Result<size_t> DatagramSocket::Send(SendRequest& request) {
  if (request.flags & MSG_OOB) return Errno(EOPNOTSUPP);
  DatagramEndpoint::SendOptions send;
  if (!request.address.empty()) {
    if (FamilyOf(request.address) < 0) return Errno(EINVAL);
    // A sendto with AF_UNSPEC is one to the connected peer, or of old programs to an IPv4 address.
    if (FamilyOf(request.address) == AF_UNSPEC && domain() == AF_INET &&
        request.address.size() >= sizeof(sockaddr_in)) {
      const sa_family_t family = AF_INET;
      memcpy(request.address.data(), &family, sizeof family);
      send.to = TRY(ParseAddress(request.address, AF_INET, false));
    } else if (FamilyOf(request.address) == AF_UNSPEC && domain() == AF_INET6) {
      if (!endpoint_->remote()) return Errno(EDESTADDRREQ);
    } else {
      send.to = TRY(ParseAddress(request.address, domain(), true));
    }
    if (send.to && endpoint_->kind() != Kind::kUdp) send.to->port = 0;
  }
  TRY(ParseControl(request, &send));
  const size_t length = request.data.remaining();
  if (length > kMaxMessage) return Errno(EMSGSIZE);
  net::Buffer data;
  if (length) {
    RefPtr<net::Block> block = net::Block::New(length);
    if (!block) return Errno(ENOBUFS);
    const size_t taken = TRY(request.data.Take(block->data(), length));
    if (taken < length) return Errno(EFAULT);
    data.AppendWritten(block, length);
  }
  const bool hold = (request.flags & MSG_MORE) || cork_;
  auto sent = [&]() -> Result<size_t> {
    if (endpoint_->kind() != Kind::kUdp) return endpoint_->Send(std::move(data), send, BindOptionsNow());
    net::Buffer whole;
    {
      MutexLock lock(cork_mu_);
      if (hold || !corked_.empty()) {
        if (corked_.size() + length > kMaxMessage) return Errno(EMSGSIZE);
        corked_.Append(std::move(data));
        if (hold) return length;
        whole = std::move(corked_);
      } else {
        whole = std::move(data);
      }
    }
    TRY(endpoint_->Send(std::move(whole), send, BindOptionsNow()));
    return length;
  }();
  if (!sent.ok()) request.data.Untake(length);
  return sent;
}

void DatagramSocket::AddControl(const net::Datagram& d, ReceiveRequest& request) {
  const bool v4 = d.to.IsV4();
  const auto add = [&](int level, int type, const void* data, size_t size) {
    request.control.push_back({level, type, std::string(static_cast<const char*>(data), size)});
  };
  if (options().timestamp_ns) {
    const timespec ts = base::ToTimespec(d.received_ns);
    add(SOL_SOCKET, SO_TIMESTAMPNS, &ts, sizeof ts);
  } else if (options().timestamp) {
    const timeval tv = {d.received_ns / base::kNsPerSecond, d.received_ns % base::kNsPerSecond / 1000};
    add(SOL_SOCKET, SO_TIMESTAMP, &tv, sizeof tv);
  }
  if (options().receive_queue_overflow) {
    const auto drops = static_cast<uint32_t>(endpoint_->drops());
    if (drops) add(SOL_SOCKET, SO_RXQ_OVFL, &drops, sizeof drops);
  }
  if (v4) {
    if (control_.packet_info) {
      in_pktinfo info = {};
      info.ipi_ifindex = static_cast<int>(d.interface);
      memcpy(&info.ipi_addr, d.to.v4_bytes(), 4);
      memcpy(&info.ipi_spec_dst, d.to.v4_bytes(), 4);
      add(SOL_IP, IP_PKTINFO, &info, sizeof info);
    }
    if (control_.ttl) {
      const int ttl = d.ttl;
      add(SOL_IP, IP_TTL, &ttl, sizeof ttl);
    }
    if (control_.tos) add(SOL_IP, IP_TOS, &d.traffic_class, 1);
    if (control_.original_destination) {
      const std::string address = FormatAddress({d.to, d.to_port}, AF_INET);
      add(SOL_IP, IP_ORIGDSTADDR, address.data(), address.size());
    }
  }
  if (is_v6()) {
    if (control_.packet_info6) {
      in6_pktinfo info = {};
      info.ipi6_ifindex = d.interface;
      memcpy(&info.ipi6_addr, d.to.v6_bytes(), 16);
      add(SOL_IPV6, IPV6_PKTINFO, &info, sizeof info);
    }
    if (!v4 && control_.hop_limit) {
      const int hops = d.ttl;
      add(SOL_IPV6, IPV6_HOPLIMIT, &hops, sizeof hops);
    }
    if (!v4 && control_.traffic_class) {
      const int tclass = d.traffic_class;
      add(SOL_IPV6, IPV6_TCLASS, &tclass, sizeof tclass);
    }
    if (control_.original_destination6) {
      const std::string address = FormatAddress({d.to, d.to_port}, AF_INET6);
      add(SOL_IPV6, IPV6_ORIGDSTADDR, address.data(), address.size());
    }
  }
}

Result<size_t> DatagramSocket::ReceiveError(ReceiveRequest& request) {
  net::QueuedError e = TRY(endpoint_->TakeQueuedError());
  const size_t copied = std::min(e.data.size(), request.data.remaining());
  const std::string bytes = e.data.ToString();
  if (copied) TRY(request.data.Put(bytes.data(), copied));
  if (copied < e.data.size()) request.message_flags |= MSG_TRUNC;
  request.message_flags |= MSG_ERRQUEUE;
  request.address = FormatAddress(e.destination, domain());
  sock_extended_err extended = {};
  extended.ee_errno = static_cast<uint32_t>(e.error.error);
  extended.ee_origin = e.origin;
  extended.ee_type = e.error.type;
  extended.ee_code = e.error.code;
  extended.ee_info = e.error.mtu;
  std::string data = OptionBytes(&extended, sizeof extended) + FormatAddress({e.error.offender, 0}, domain());
  request.control.push_back(
      {is_v6() ? int{SOL_IPV6} : int{SOL_IP}, is_v6() ? IPV6_RECVERR : IP_RECVERR, std::move(data)});
  return copied;
}

Result<size_t> DatagramSocket::Receive(ReceiveRequest& request) {
  if (request.flags & MSG_OOB) return Errno(EOPNOTSUPP);
  if (request.flags & MSG_ERRQUEUE) return ReceiveError(request);
  auto received = endpoint_->Receive(request.flags & MSG_PEEK);
  if (!received.ok()) {
    if (received.error() == Errno(EAGAIN) && endpoint_->IsReceiveShutdown() && !request.nonblocking) return size_t{0};
    return received.error();
  }
  const net::Datagram& d = *received;
  const size_t copied = std::min(d.data.size(), request.data.remaining());
  size_t left = copied;
  for (size_t i = 0; i < d.data.slice_count() && left; ++i) {
    const size_t n = std::min<size_t>(d.data.slice(i).length, left);
    if (TRY(request.data.Put(d.data.slice(i).data(), n)) < n) return Errno(EFAULT);
    left -= n;
  }
  request.address = FormatAddress(d.from, domain());
  AddControl(d, request);
  if (copied < d.data.size()) request.message_flags |= MSG_TRUNC;
  return request.flags & MSG_TRUNC ? d.data.size() : copied;
}

Result<int64_t> DatagramSocket::QueueSize(unsigned request) {
  switch (request) {
    case SIOCINQ:
      return static_cast<int64_t>(endpoint_->NextSize());
    case SIOCOUTQ:
      return 0;  // what is sent is with the receiver at once
    default:
      return Errno(ENOTTY);
  }
}

Result<void> DatagramSocket::SetProtocolOption(int level, int name, std::string_view value) {
  if ((level == SOL_UDP || level == kSolUdplite) && endpoint_->kind() == Kind::kUdp) {
    const int number = TRY(OptionInt(value));
    switch (name) {
      case kSendCoverage:
      case kReceiveCoverage:
        if (!endpoint_->is_lite()) return Errno(ENOPROTOOPT);
        Coverage(name) = number == 0 ? 0 : std::clamp(number, kUdpHeader, 65535);
        return OkResult();
      case UDP_CORK: {
        cork_ = number != 0;
        if (number) return OkResult();
        net::Buffer whole;
        {
          MutexLock lock(cork_mu_);
          whole = std::move(corked_);
        }
        if (!whole.empty()) (void)endpoint_->Send(std::move(whole), {}, BindOptionsNow()).ok();
        return OkResult();
      }
      case UDP_NO_CHECK6_TX:
      case UDP_NO_CHECK6_RX:
      case UDP_GRO:
        return OkResult();
      default:
        return Errno(ENOPROTOOPT);
    }
  }
  if (endpoint_->kind() == Kind::kRaw) {
    if ((level == SOL_RAW && !is_v6()) || (level == SOL_ICMPV6 && is_v6())) {
      if (name != kRawFilter) return Errno(ENOPROTOOPT);
      if (endpoint_->protocol() != (is_v6() ? int{IPPROTO_ICMPV6} : int{IPPROTO_ICMP})) return Errno(EOPNOTSUPP);
      std::array<uint32_t, 8> filter = {};
      memcpy(filter.data(), value.data(), std::min(value.size(), is_v6() ? sizeof filter : sizeof(uint32_t)));
      endpoint_->set_icmp_filter(filter);
      return OkResult();
    }
    if (name == IPV6_CHECKSUM && is_v6() && (level == SOL_IPV6 || level == SOL_RAW)) {
      const int offset = TRY(OptionInt(value));
      if (endpoint_->protocol() == IPPROTO_ICMPV6 || (offset > 0 && offset % 2)) return Errno(EINVAL);
      endpoint_->checksum_offset = std::max(offset, -1);
      return OkResult();
    }
  }
  return Errno(ENOPROTOOPT);
}

Result<std::string> DatagramSocket::GetProtocolOption(int level, int name) {
  if ((level == SOL_UDP || level == kSolUdplite) && endpoint_->kind() == Kind::kUdp) {
    switch (name) {
      case kSendCoverage:
      case kReceiveCoverage:
        return OptionBytes(std::max(Coverage(name).load(), 0));
      case UDP_CORK:
        return OptionBytes(cork_);
      case UDP_NO_CHECK6_TX:
      case UDP_NO_CHECK6_RX:
      case UDP_GRO:
        return OptionBytes(0);
      default:
        return Errno(ENOPROTOOPT);
    }
  }
  if (endpoint_->kind() == Kind::kRaw) {
    if ((level == SOL_RAW && !is_v6()) || (level == SOL_ICMPV6 && is_v6())) {
      if (name != kRawFilter) return Errno(ENOPROTOOPT);
      const auto filter = endpoint_->icmp_filter();
      return OptionBytes(filter.data(), is_v6() ? sizeof filter : sizeof(uint32_t));
    }
    if (name == IPV6_CHECKSUM && is_v6()) return OptionBytes(endpoint_->checksum_offset);
  }
  return Errno(ENOPROTOOPT);
}

// ping_group_range (icmp(7)).
bool MayPing(const net::Settings& settings) {
  const Credentials& creds = *Caller::Current().creds();
  const auto inside = [&](gid_t gid) { return gid >= settings.ping_group_low && gid <= settings.ping_group_high; };
  return inside(creds.egid) || std::any_of(creds.groups.begin(), creds.groups.end(), inside);
}

}  // namespace

Result<vfs::FileRef> NewDatagramSocket(int family, int type, int protocol, int flags) {
  RefPtr<net::Stack> stack = CallersStack();
  const bool udp = protocol == IPPROTO_UDP || protocol == IPPROTO_UDPLITE;
  const Kind kind = type == SOCK_RAW ? Kind::kRaw : udp ? Kind::kUdp : Kind::kPing;
  if (kind == Kind::kPing && !MayPing(stack->settings())) return Errno(EACCES);
  auto endpoint = MakeRef<DatagramEndpoint>(*stack, family == AF_INET6, kind, protocol);
  if (kind == Kind::kRaw && protocol == IPPROTO_RAW) endpoint->ip().header_included = family == AF_INET;
  return vfs::FileRef(new DatagramSocket(Socket::NewPath(), flags, family, type, std::move(endpoint)));
}

}  // namespace sentry::socket
