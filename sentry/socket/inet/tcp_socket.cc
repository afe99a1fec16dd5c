// SPDX-License-Identifier: Apache-2.0
// SOCK_STREAM of AF_INET and AF_INET6 (tcp(7)).
#include <linux/capability.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <linux/tcp.h>
#include <string.h>
#include <sys/ioctl.h>

#include <algorithm>

#include "sentry/net/tcp/tcp_endpoint.h"
#include "sentry/socket/inet/inet_socket.h"
#include "sentry/socket/inet/stacks.h"

namespace sentry::socket {
namespace {

using net::TcpOptions;
using net::TcpState;

// How much of a write becomes one block.
constexpr size_t kChunk = 65536;
constexpr size_t kMinBlock = 512;
constexpr int kMaxKeepIdle = 32767, kMaxKeepInterval = 32767, kMaxKeepCount = 127, kMaxSynCount = 127;

class TcpSocket final : public InetSocket {
 public:
  TcpSocket(vfs::Path path, int flags, int family, RefPtr<net::TcpEndpoint> endpoint)
      : InetSocket(std::move(path), flags, family, SOCK_STREAM, IPPROTO_TCP, *endpoint),
        endpoint_(std::move(endpoint)) {}
  ~TcpSocket() override {
    Detach();
    endpoint_->Close(options().linger_on && options().linger_seconds == 0);
  }

  Result<void> Bind(std::string_view address) override;
  Result<void> Connect(std::string_view address, bool nonblocking, WaitOn*) override;
  Errno ConnectTimeoutError() const override { return Errno(EINPROGRESS); }
  Result<void> Listen(int backlog) override { return endpoint_->Listen(backlog); }
  Result<vfs::FileRef> Accept(int flags) override;
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
  Result<std::string> GetOption(int level, int name) override;

 private:
  void OnOptionSet(int name) override;
  int TakeError() override { return endpoint_->TakeError(); }
  bool IsListening() override { return endpoint_->state() == TcpState::kListen; }
  bool IsBound() override { return endpoint_->local().port != 0; }
  void OnDeviceChanged() override { endpoint_->UpdatePort(); }
  Result<int64_t> QueueSize(unsigned request) override;
  Result<void> SetProtocolOption(int level, int name, std::string_view value) override;
  Result<std::string> GetProtocolOption(int level, int name) override;
  Result<size_t> Copy(const net::Buffer& data, ReceiveRequest& request);
  Result<size_t> ReceiveUrgent(ReceiveRequest& request);

  const RefPtr<net::TcpEndpoint> endpoint_;
  // One call's data stays together.
  Mutex write_mu_{LockRank::kNetIo}, read_mu_{LockRank::kNetIo};
};

Result<void> TcpSocket::Bind(std::string_view address) {
  if (domain() == AF_INET && FamilyOf(address) == AF_UNSPEC && address.size() >= sizeof(sockaddr_in)) {
    // bind(2) of old programs that leave the family out, if the address is any.
    std::string fixed(address);
    const sa_family_t family = AF_INET;
    memcpy(fixed.data(), &family, sizeof family);
    auto parsed = TRY(ParseAddress(fixed, AF_INET, false));
    if (!parsed.ip.IsAny()) return Errno(EAFNOSUPPORT);
    TRY(CheckPort(parsed.port));
    return endpoint_->Bind(parsed);
  }
  auto parsed = TRY(ParseAddress(address, domain(), false));
  TRY(CheckPort(parsed.port));
  return endpoint_->Bind(parsed);
}

Result<void> TcpSocket::Connect(std::string_view address, bool nonblocking, WaitOn*) {
  if (FamilyOf(address) < 0) return Errno(EINVAL);
  if (FamilyOf(address) == AF_UNSPEC) return endpoint_->Disconnect();
  auto remote = TRY(ParseAddress(address, domain(), false));
  auto result = endpoint_->Connect(remote);
  if (result.ok() || nonblocking) return result;
  // A handshake over the loopback is over already.
  if (result.error() == Errno(EINPROGRESS)) result = endpoint_->Connect(remote);
  if (!result.ok() && result.error() == Errno(EALREADY)) return Errno(EAGAIN);
  return result;
}

Result<vfs::FileRef> TcpSocket::Accept(int flags) {
  RefPtr<net::TcpEndpoint> child = TRY(endpoint_->Accept());
  auto file = RefPtr<TcpSocket>(new TcpSocket(Socket::NewPath(), flags, domain(), std::move(child)));
  file->JoinNamespaceOf(*this);
  // SOL_SOCKET values that read back are the listener's.
  Options& to = file->options();
  Options& from = options();
  to.reuse_address = from.reuse_address.load();
  to.reuse_port = from.reuse_port.load();
  to.keep_alive = from.keep_alive.load();
  to.linger_on = from.linger_on.load();
  to.linger_seconds = from.linger_seconds.load();
  to.oob_inline = from.oob_inline.load();
  to.receive_timeout_ns = from.receive_timeout_ns.load();
  to.send_timeout_ns = from.send_timeout_ns.load();
  to.receive_low_water = from.receive_low_water.load();
  to.priority = from.priority.load();
  to.mark = from.mark.load();
  return vfs::FileRef(std::move(file));
}

Result<size_t> TcpSocket::Send(SendRequest& request) {
  if (!request.address.empty() && (request.flags & MSG_FASTOPEN)) return Errno(EOPNOTSUPP);
  const bool urgent = request.flags & MSG_OOB;
  const bool more = request.flags & MSG_MORE;
  MutexLock lock(write_mu_);
  size_t total = 0;
  do {
    bool end = false;
    auto room = endpoint_->ReserveSend(std::min(request.data.remaining(), kChunk), &end);
    if (!room.ok()) {
      if (total) return total;
      return room.error();
    }
    const size_t want = *room;
    if (want == 0 || request.data.remaining() == 0) break;
    RefPtr<net::Block> block = net::Block::New(std::max(want, kMinBlock));
    if (!block) {
      if (total) return total;
      return Errno(ENOBUFS);
    }
    auto taken = request.data.Take(block->data(), want);
    if (!taken.ok()) {
      if (total) return total;
      return taken.error();
    }
    net::Buffer data;
    data.AppendWritten(block, *taken);
    const bool last = request.data.remaining() == 0 || *taken < want;
    auto appended = endpoint_->Append(std::move(data), more, urgent && last);
    if (!appended.ok()) {
      if (total) return total;
      return appended.error();
    }
    total += *taken;
    if (*taken < want) break;
  } while (request.data.remaining());
  return total;
}

Result<size_t> TcpSocket::Copy(const net::Buffer& data, ReceiveRequest& request) {
  size_t done = 0;
  for (size_t i = 0; i < data.slice_count(); ++i) {
    const net::Slice& slice = data.slice(i);
    auto n = request.data.Put(slice.data(), slice.length);
    if (!n.ok()) {
      if (done) return done;
      return n.error();
    }
    done += *n;
    if (*n < slice.length) break;
  }
  return done;
}

Result<size_t> TcpSocket::ReceiveUrgent(ReceiveRequest& request) {
  auto byte = endpoint_->TakeUrgent(request.flags & MSG_PEEK);
  if (!byte.ok()) {
    // Nothing urgent yet doesn't block (tcp(7)).
    return byte.error();
  }
  request.message_flags |= MSG_OOB;
  if (request.data.remaining() == 0) {
    request.message_flags |= MSG_TRUNC;
    return size_t{0};
  }
  if (request.flags & MSG_TRUNC) return size_t{1};
  return request.data.Put(&*byte, 1);
}

Result<size_t> TcpSocket::Receive(ReceiveRequest& request) {
  if (request.flags & MSG_ERRQUEUE) return Errno(EAGAIN);
  if (request.flags & MSG_OOB) return ReceiveUrgent(request);
  const bool peek = request.flags & MSG_PEEK;
  const bool discard = request.flags & MSG_TRUNC;
  MutexLock lock(read_mu_);
  const size_t low = std::min<size_t>(static_cast<size_t>(options().receive_low_water), request.data.remaining());
  if (low > 1 && !request.nonblocking && endpoint_->ReceiveQueued() < low &&
      !(endpoint_->Poll() & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))) {
    return Errno(EAGAIN);
  }
  size_t total = 0, offset = 0;
  if (request.data.remaining() == 0) {
    // Whether it would block, or is at an error, shows even so.
    bool mark;
    auto data = endpoint_->Peek(0, 0, &mark);
    if (!data.ok() && data.error() != Errno(EAGAIN)) return data.error();
    return size_t{0};
  }
  while (total == 0 || request.data.remaining()) {
    bool at_mark;
    const size_t wanted = discard ? request.data.remaining() - total : request.data.remaining();
    if (wanted == 0) break;
    auto data = endpoint_->Peek(offset, wanted, &at_mark);
    if (!data.ok()) {
      if (total) break;
      return data.error();
    }
    if (data->empty()) break;
    size_t done = data->size();
    if (!discard) {
      auto n = Copy(*data, request);
      if (!n.ok()) {
        if (total) break;
        return n.error();
      }
      done = *n;
    }
    const bool partial = done < data->size();
    data->Clear();
    if (peek)
      offset += done;
    else
      endpoint_->Consume(done);
    total += done;
    // What was thrown away doesn't count in the caller's buffer, so MSG_WAITALL can't go on with it.
    if (at_mark || discard) request.at_boundary = true;
    if (partial || at_mark) break;
  }
  return total;
}

Result<int64_t> TcpSocket::QueueSize(unsigned request) {
  if (IsListening()) {
    if (request == SIOCATMARK) return 0;
    return Errno(EINVAL);
  }
  switch (request) {
    case SIOCINQ:
      return static_cast<int64_t>(endpoint_->ReceiveQueued());
    case SIOCOUTQ:
      return static_cast<int64_t>(endpoint_->SendQueued());
    case SIOCOUTQNSD:
      return static_cast<int64_t>(endpoint_->NotSent());
    default:
      return endpoint_->AtMark() ? 1 : 0;
  }
}

void TcpSocket::OnOptionSet(int name) {
  Options& o = options();
  const uid_t uid = Caller::Current().creds()->euid;
  endpoint_->ChangeOptions([&](TcpOptions& t) {
    t.uid = uid;
    t.reuse_address = o.reuse_address != 0;
    t.reuse_port = o.reuse_port != 0;
    t.keep_alive = o.keep_alive != 0;
    t.oob_inline = o.oob_inline != 0;
    t.receive_low_water = o.receive_low_water;
    if (name == SO_SNDBUF || name == SO_SNDBUFFORCE) t.send_buffer = o.send_buffer;
    if (name == SO_RCVBUF || name == SO_RCVBUFFORCE) t.receive_buffer = o.receive_buffer;
  });
  if (name == SO_REUSEADDR || name == SO_REUSEPORT) endpoint_->UpdatePort();
}

Result<std::string> TcpSocket::GetOption(int level, int name) {
  if (level == SOL_SOCKET && name == SO_SNDBUF) return OptionBytes(endpoint_->SendBuffer());
  if (level == SOL_SOCKET && name == SO_RCVBUF) return OptionBytes(endpoint_->ReceiveBuffer());
  return InetSocket::GetOption(level, name);
}

// Options that are one int in a range.
struct RangeOption {
  int name;
  int TcpOptions::*value;
  int low, high;
};
constexpr RangeOption kRangeOptions[] = {
    {TCP_KEEPIDLE, &TcpOptions::keep_idle, 1, kMaxKeepIdle},
    {TCP_KEEPINTVL, &TcpOptions::keep_interval, 1, kMaxKeepInterval},
    {TCP_KEEPCNT, &TcpOptions::keep_count, 1, kMaxKeepCount},
    {TCP_SYNCNT, &TcpOptions::syn_count, 1, kMaxSynCount},
    {TCP_USER_TIMEOUT, &TcpOptions::user_timeout_ms, 0, INT32_MAX},
};

Result<void> TcpSocket::SetProtocolOption(int level, int name, std::string_view value) {
  if (level != IPPROTO_TCP) return Errno(ENOPROTOOPT);
  if (name == TCP_CONGESTION) {
    const std::string algorithm(value.substr(0, strnlen(value.data(), std::min<size_t>(value.size(), 15))));
    if (value.empty()) return Errno(EINVAL);
    if (algorithm != "cubic" && algorithm != "reno") return Errno(ENOENT);
    endpoint_->ChangeOptions([&](TcpOptions& t) { t.reno = algorithm == "reno"; });
    return OkResult();
  }
  const int number = TRY(OptionInt(value));
  for (const RangeOption& option : kRangeOptions) {
    if (option.name != name) continue;
    if (number < option.low || number > option.high) return Errno(EINVAL);
    endpoint_->ChangeOptions([&](TcpOptions& t) { t.*option.value = number; });
    return OkResult();
  }
  switch (name) {
    case TCP_NODELAY:
      endpoint_->ChangeOptions([&](TcpOptions& t) { t.no_delay = number != 0; });
      return OkResult();
    case TCP_CORK:
      endpoint_->ChangeOptions([&](TcpOptions& t) { t.cork = number != 0; });
      return OkResult();
    case TCP_MAXSEG:
      if (number && (number < 88 || number > 32767)) return Errno(EINVAL);
      endpoint_->ChangeOptions([&](TcpOptions& t) { t.max_segment = number; });
      return OkResult();
    case TCP_LINGER2:
      endpoint_->ChangeOptions([&](TcpOptions& t) { t.linger2 = number < 0 ? -1 : std::min(number, 120); });
      return OkResult();
    case TCP_DEFER_ACCEPT:
      endpoint_->ChangeOptions([&](TcpOptions& t) { t.defer_accept = std::max(number, 0); });
      return OkResult();
    case TCP_WINDOW_CLAMP:
      if (number == 0 && endpoint_->state() != TcpState::kClosed) return Errno(EINVAL);
      endpoint_->ChangeOptions([&](TcpOptions& t) { t.window_clamp = number ? std::max(number, 1152) : 0; });
      return OkResult();
    case TCP_QUICKACK:
      endpoint_->set_quick_ack(number != 0);
      return OkResult();
    case TCP_NOTSENT_LOWAT:
      endpoint_->ChangeOptions([&](TcpOptions& t) { t.not_sent_low_water = static_cast<uint32_t>(number); });
      return OkResult();
    case TCP_FASTOPEN:
      if (number < 0) return Errno(EINVAL);
      if (endpoint_->state() != TcpState::kClosed && endpoint_->state() != TcpState::kListen) return Errno(EINVAL);
      return OkResult();
    case TCP_FASTOPEN_CONNECT:
      if (number < 0 || number > 1) return Errno(EINVAL);
      return OkResult();
    case TCP_THIN_LINEAR_TIMEOUTS:
    case TCP_SAVE_SYN:
    case TCP_INQ:
    case TCP_TX_DELAY:
    case TCP_FASTOPEN_NO_COOKIE:
      return OkResult();
    case TCP_THIN_DUPACK:
      return number < 0 || number > 1 ? Result<void>(Errno(EINVAL)) : OkResult();
    case TCP_REPAIR:
      return Errno(EPERM);
    case TCP_ULP:
      return Errno(ENOENT);
    default:
      return Errno(ENOPROTOOPT);
  }
}

Result<std::string> TcpSocket::GetProtocolOption(int level, int name) {
  if (level != IPPROTO_TCP) return Errno(level == IPPROTO_UDP ? EOPNOTSUPP : ENOPROTOOPT);
  const TcpOptions o = endpoint_->options();
  const net::Settings& s = stack().settings();
  switch (name) {
    case TCP_NODELAY:
      return OptionBytes(o.no_delay);
    case TCP_CORK:
      return OptionBytes(o.cork);
    case TCP_MAXSEG:
      return OptionBytes(endpoint_->Mss());
    case TCP_KEEPIDLE:
      return OptionBytes(o.keep_idle ? o.keep_idle : s.tcp_keepalive_time.load());
    case TCP_KEEPINTVL:
      return OptionBytes(o.keep_interval ? o.keep_interval : s.tcp_keepalive_interval.load());
    case TCP_KEEPCNT:
      return OptionBytes(o.keep_count ? o.keep_count : s.tcp_keepalive_probes.load());
    case TCP_SYNCNT:
      return OptionBytes(o.syn_count ? o.syn_count : s.tcp_syn_retries.load());
    case TCP_LINGER2:
      return OptionBytes(o.linger2 < 0 ? -1 : o.linger2 ? o.linger2 : s.tcp_fin_timeout.load());
    case TCP_DEFER_ACCEPT:
      return OptionBytes(o.defer_accept);
    case TCP_WINDOW_CLAMP:
      return OptionBytes(o.window_clamp);
    case TCP_USER_TIMEOUT:
      return OptionBytes(o.user_timeout_ms);
    case TCP_QUICKACK:
      return OptionBytes(endpoint_->quick_ack());
    case TCP_NOTSENT_LOWAT:
      return OptionBytes(static_cast<int>(o.not_sent_low_water ? o.not_sent_low_water : ~0u));
    case TCP_CONGESTION: {
      char text[16] = {};
      memcpy(text, o.reno ? "reno" : "cubic", o.reno ? 4 : 5);
      return OptionBytes(text, sizeof text);
    }
    case TCP_INFO: {
      const tcp_info info = endpoint_->Info();
      return OptionBytes(&info, sizeof info);
    }
    case TCP_CC_INFO:
      return std::string();
    case TCP_FASTOPEN:
    case TCP_FASTOPEN_CONNECT:
    case TCP_FASTOPEN_NO_COOKIE:
    case TCP_THIN_LINEAR_TIMEOUTS:
    case TCP_THIN_DUPACK:
    case TCP_SAVE_SYN:
    case TCP_INQ:
    case TCP_TX_DELAY:
    case TCP_REPAIR:
      return OptionBytes(0);
    case TCP_TIMESTAMP:
      return OptionBytes(static_cast<int>(base::MonotonicNs() / net::kNsPerMs));
    case TCP_ULP:
      return std::string();
    default:
      return Errno(ENOPROTOOPT);
  }
}

}  // namespace

Result<vfs::FileRef> NewTcpSocket(int family, int flags) {
  RefPtr<net::Stack> stack = CallersStack();
  auto endpoint = MakeRef<net::TcpEndpoint>(*stack, family == AF_INET6);
  const uid_t uid = Caller::Current().creds()->euid;
  endpoint->ChangeOptions([&](TcpOptions& o) { o.uid = uid; });
  return vfs::FileRef(new TcpSocket(Socket::NewPath(), flags, family, std::move(endpoint)));
}

}  // namespace sentry::socket
