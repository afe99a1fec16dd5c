// SPDX-License-Identifier: Apache-2.0
#include "sentry/socket/host/host_socket.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <string.h>
#include <unistd.h>

#include <algorithm>

#include "sentry/fs/host/host_poller.h"
#include "sentry/kernel/core/tunables.h"
#include "sentry/socket/environment.h"
#include "sentry/socket/host/host_options.h"
#include "sentry/socket/inet/inet_socket.h"
#include "sentry/socket/inet/stacks.h"

namespace sentry::socket {
namespace {

constexpr size_t kChunk = 65536;  // no datagram is larger
constexpr size_t kMaxControl = 2048;
constexpr int kSendFlags = MSG_OOB | MSG_DONTROUTE | MSG_MORE | MSG_CONFIRM;
constexpr int kReceiveFlags = MSG_OOB | MSG_PEEK | MSG_TRUNC | MSG_ERRQUEUE;
constexpr int kShownFlags = MSG_TRUNC | MSG_CTRUNC | MSG_EOR | MSG_OOB | MSG_ERRQUEUE;

const HostOption* FindOption(int level, int name, HostOption::Use use) {
  for (const HostOption& option : kHostOptions) {
    if (option.level == level && option.name == name && (option.use & use)) return &option;
  }
  return nullptr;
}

// A control message that a guest may send: nothing that names files or processes of the host.
bool IsPassed(const ControlMessage& m) {
  switch (m.level) {
    case IPPROTO_IP:
      return m.type == IP_PKTINFO || m.type == IP_TTL || m.type == IP_TOS;
    case IPPROTO_IPV6:
      return m.type == IPV6_PKTINFO || m.type == IPV6_HOPLIMIT || m.type == IPV6_TCLASS || m.type == IPV6_DONTFRAG;
    case IPPROTO_UDP:
      return m.type == UDP_SEGMENT;
  }
  return false;
}

Result<std::string> ControlBytes(const std::vector<ControlMessage>& messages) {
  std::string bytes;
  for (const ControlMessage& m : messages) {
    if (!IsPassed(m)) return Errno(EINVAL);
    const cmsghdr header = {.cmsg_len = CMSG_LEN(m.data.size()), .cmsg_level = m.level, .cmsg_type = m.type};
    bytes.append(reinterpret_cast<const char*>(&header), sizeof header);
    bytes += m.data;
    bytes.resize(CMSG_ALIGN(bytes.size()));
    if (bytes.size() > kMaxControl) return Errno(ENOBUFS);
  }
  return bytes;
}

// One per thread: a transfer of a moment.
uint8_t* Bounce() {
  static thread_local std::vector<uint8_t> bytes(kChunk);
  return bytes.data();
}

const sockaddr* AddressOf(std::string_view bytes) { return reinterpret_cast<const sockaddr*>(bytes.data()); }

// Never blocks: the descriptor is nonblocking and of nobody else.
class HostSocket final : public Socket {
 public:
  // Null: the host's poller takes no more.
  static RefPtr<HostSocket> New(int flags, const HostSocketKind& kind, UniqueFd fd) {
    RefPtr<HostSocket> socket(new HostSocket(Socket::NewPath(), flags, kind, std::move(fd)));
    return socket->polled_ ? socket : nullptr;
  }
  ~HostSocket() override {
    if (polled_) fs::HostPoller::Get().Remove(fd_.get());
  }

  Result<void> Bind(std::string_view address) override {
    if (address.size() >= 4) {
      uint16_t port;
      memcpy(&port, address.data() + 2, sizeof port);
      port = ntohs(port);
      if (port && port < tunables::ip_unprivileged_port_start && !HasNetCapability(CAP_NET_BIND_SERVICE))
        return Errno(EACCES);
    }
    return Done(bind(fd_.get(), AddressOf(address), Length(address)));
  }
  Result<void> Connect(std::string_view address, bool nonblocking, WaitOn*) override {
    // Tried again while the handshake goes on, the host answers EALREADY, and its outcome once.
    auto result = Done(connect(fd_.get(), AddressOf(address), Length(address)));
    if (!result.ok() && !nonblocking && (result.error() == Errno(EINPROGRESS) || result.error() == Errno(EALREADY)))
      return Errno(EAGAIN);
    return result;
  }
  Errno ConnectTimeoutError() const override { return Errno(EINPROGRESS); }
  Result<void> Listen(int backlog) override { return Done(listen(fd_.get(), backlog)); }
  Result<vfs::FileRef> Accept(int flags) override;
  Result<void> Shutdown(int how) override { return Done(shutdown(fd_.get(), how)); }
  Result<std::string> GetName() override { return Name(&getsockname); }
  Result<std::string> GetPeer() override { return Name(&getpeername); }
  Result<size_t> Send(SendRequest& request) override;
  Result<size_t> Receive(ReceiveRequest& request) override;
  EventMask Poll() override { return fs::PollHostFd(fd_.get()); }
  WaitQueue* wait_queue() override { return &queue_; }
  Result<int64_t> Ioctl(unsigned request, uint64_t argument) override;
  Result<void> SetOption(int level, int name, std::string_view value) override;
  Result<std::string> GetOption(int level, int name) override;

 private:
  HostSocket(vfs::Path path, int flags, const HostSocketKind& kind, UniqueFd fd)
      : Socket(std::move(path), flags, kind.family, kind.type, kind.protocol), fd_(std::move(fd)) {
    polled_ = fs::HostPoller::Get().Add(fd_.get(), queue_);
  }

  static Result<void> Done(int result) {
    if (result != 0) return Errno::Last();
    return OkResult();
  }
  static socklen_t Length(std::string_view address) { return static_cast<socklen_t>(address.size()); }
  bool IsStream() const { return type() == SOCK_STREAM; }
  Result<std::string> Name(int (*get)(int, sockaddr*, socklen_t*)) {
    sockaddr_storage address;
    socklen_t length = sizeof address;
    if (get(fd_.get(), reinterpret_cast<sockaddr*>(&address), &length) != 0) return Errno::Last();
    return OptionBytes(&address, std::min<size_t>(length, sizeof address));
  }

  const UniqueFd fd_;
  WaitQueue queue_;
  bool polled_ = false;
};

Result<vfs::FileRef> HostSocket::Accept(int flags) {
  UniqueFd fd(accept4(fd_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
  if (!fd) return Errno::Last();
  auto file = New(flags, {domain(), type(), protocol()}, std::move(fd));
  if (!file) return Errno(ENOBUFS);
  file->JoinNamespaceOf(*this);
  // What the sentry keeps of the listener's options; the rest the host handed on.
  file->options().linger_on = options().linger_on.load();
  file->options().linger_seconds = options().linger_seconds.load();
  file->options().receive_timeout_ns = options().receive_timeout_ns.load();
  file->options().send_timeout_ns = options().send_timeout_ns.load();
  return vfs::FileRef(std::move(file));
}

Result<size_t> HostSocket::Send(SendRequest& request) {
  if (request.flags & MSG_FASTOPEN) return Errno(EOPNOTSUPP);
  const int flags = request.flags & kSendFlags;
  // The bulk goes from the guest's pages. SIGPIPE is ignored in the sentry.
  if (IsStream() && !flags && request.control.empty() && request.address.empty() && request.data.remaining())
    return request.data.TakeToHost(fd_.get(), -1, request.data.remaining());
  std::string control = TRY(ControlBytes(request.control));
  if (!IsStream() && request.data.remaining() > kChunk) return Errno(EMSGSIZE);
  size_t taken = std::min(request.data.remaining(), kChunk);
  if (taken) {
    const size_t wanted = taken;
    taken = TRY(request.data.Take(Bounce(), wanted));
    // A datagram is whole or not at all.
    if (taken < wanted && !IsStream()) return Errno(EFAULT);
  }
  iovec data = {Bounce(), taken};
  msghdr header = {};
  header.msg_iov = &data;
  header.msg_iovlen = 1;
  if (!request.address.empty()) {
    header.msg_name = request.address.data();
    header.msg_namelen = Length(request.address);
  }
  if (!control.empty()) {
    header.msg_control = control.data();
    header.msg_controllen = control.size();
  }
  const ssize_t sent = sendmsg(fd_.get(), &header, flags | MSG_DONTWAIT | MSG_NOSIGNAL);
  const Errno error = sent < 0 ? Errno::Last() : Errno(0);
  const size_t done = sent < 0 ? 0 : static_cast<size_t>(sent);
  if (done < taken) request.data.Untake(taken - done);
  if (sent < 0) return error;
  return done;
}

Result<size_t> HostSocket::Receive(ReceiveRequest& request) {
  const int flags = request.flags & kReceiveFlags;
  if (IsStream() && !flags && request.data.remaining())
    return request.data.PutFromHost(fd_.get(), -1, request.data.remaining());
  const size_t room = std::min(request.data.remaining(), kChunk);
  sockaddr_storage address;
  alignas(cmsghdr) char control[kMaxControl];
  iovec data = {Bounce(), room};
  msghdr header = {};
  header.msg_name = &address;
  header.msg_namelen = sizeof address;
  header.msg_iov = &data;
  header.msg_iovlen = 1;
  header.msg_control = control;
  header.msg_controllen = sizeof control;
  const ssize_t n = recvmsg(fd_.get(), &header, flags | MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (n < 0) {
    const Errno error = Errno::Last();
    // Who waits for a datagram sees the end that shutdown(2) made; who does not, doesn't.
    const bool waits = error == Errno(EAGAIN) && !request.nonblocking && !IsStream();
    if (waits && (fs::PollHostFd(fd_.get()) & EPOLLRDHUP)) return size_t{0};
    return error;
  }
  const size_t length = static_cast<size_t>(n), here = std::min(length, room);
  // TCP throws away what MSG_TRUNC asks for.
  const bool thrown_away = IsStream() && (flags & MSG_TRUNC);
  if (thrown_away) request.at_boundary = true;
  if (here && !thrown_away && TRY(request.data.Put(Bounce(), here)) < here) return Errno(EFAULT);
  request.message_flags = header.msg_flags & kShownFlags;
  request.address = OptionBytes(&address, std::min<size_t>(header.msg_namelen, sizeof address));
  for (cmsghdr* c = CMSG_FIRSTHDR(&header); c; c = CMSG_NXTHDR(&header, c)) {
    // No descriptor of the host's becomes a guest's: these sockets carry none.
    if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) continue;
    request.control.push_back({c->cmsg_level, c->cmsg_type, OptionBytes(CMSG_DATA(c), c->cmsg_len - CMSG_LEN(0))});
  }
  return length;
}

Result<int64_t> HostSocket::Ioctl(unsigned request, uint64_t argument) {
  const bool passed = request == SIOCINQ || std::ranges::count(kHostSocketIoctls, request);
  if (!passed) return InterfaceIoctl(*CallersStack(), HasNetCapability(CAP_NET_ADMIN), request, argument);
  int value = 0;
  if (ioctl(fd_.get(), request, &value) != 0) return Errno::Last();
  TRY(Caller::Current().CopyOut(UserAddr(argument), value));
  return 0;
}

Result<void> HostSocket::SetOption(int level, int name, std::string_view value) {
  if (level == SOL_SOCKET && name == SO_LINGER) {
    TRY(Socket::SetOption(level, name, value));
    // A close that aborts is the host's; one that waits would stop a thread of the sentry.
    const linger setting = {options().linger_on && options().linger_seconds == 0, 0};
    return Done(setsockopt(fd_.get(), level, name, &setting, sizeof setting));
  }
  if (!FindOption(level, name, HostOption::kSet)) {
    if (level != SOL_SOCKET) return Errno(ENOPROTOOPT);
    return Socket::SetOption(level, name, value);
  }
  return Done(setsockopt(fd_.get(), level, name, value.data(), Length(value)));
}

Result<std::string> HostSocket::GetOption(int level, int name) {
  const HostOption* option = FindOption(level, name, HostOption::kGet);
  if (!option) {
    if (level != SOL_SOCKET) return Errno(ENOPROTOOPT);
    return Socket::GetOption(level, name);
  }
  std::string value(option->size, '\0');
  socklen_t length = Length(value);
  if (getsockopt(fd_.get(), level, name, value.data(), &length) != 0) return Errno::Last();
  value.resize(std::min<size_t>(length, value.size()));
  return value;
}

Domain own_stack[2];  // for the other namespaces

template <int kFamily>
Result<vfs::FileRef> Create(int type, int protocol, int flags) {
  const Environment& environment = GetEnvironment();
  const bool first = !environment.in_first_net_namespace || environment.in_first_net_namespace();
  if (!first) return own_stack[kFamily == AF_INET6].create(type, protocol, flags);
  if (protocol < 0 || protocol >= IPPROTO_MAX) return Errno(EINVAL);
  if (type == SOCK_RAW) {
    if (protocol == 0) return Errno(EPROTONOSUPPORT);
    return Errno(EPERM);  // the sentry has no CAP_NET_RAW over the host's network
  }
  if (type != SOCK_STREAM && type != SOCK_DGRAM) return Errno(ESOCKTNOSUPPORT);
  if (protocol == 0) protocol = type == SOCK_STREAM ? IPPROTO_TCP : IPPROTO_UDP;
  const HostSocketKind wanted = {kFamily, type, protocol};
  for (const HostSocketKind& kind : kHostSocketKinds) {
    if (kind.family != wanted.family || kind.type != wanted.type || kind.protocol != wanted.protocol) continue;
    UniqueFd fd(::socket(kind.family, kind.type | SOCK_NONBLOCK | SOCK_CLOEXEC, kind.protocol));
    if (!fd) return Errno::Last();
    auto file = HostSocket::New(flags, kind, std::move(fd));
    if (!file) return Errno(ENOBUFS);
    return vfs::FileRef(std::move(file));
  }
  return Errno(EPROTONOSUPPORT);
}

}  // namespace

void UseHostSockets() {
  own_stack[0] = *FindDomain(AF_INET);
  own_stack[1] = *FindDomain(AF_INET6);
  RegisterDomain(AF_INET, {.create = &Create<AF_INET>});
  RegisterDomain(AF_INET6, {.create = &Create<AF_INET6>});
}

}  // namespace sentry::socket
