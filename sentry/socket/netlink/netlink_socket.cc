// SPDX-License-Identifier: Apache-2.0
#include "sentry/socket/netlink/netlink_socket.h"

#include <linux/capability.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <set>

#include "sentry/socket/environment.h"
#include "sentry/socket/inet/inet_socket.h"
#include "sentry/socket/inet/stacks.h"

namespace sentry::socket {
namespace {

// Datagrams of a dump: readers that follow libnetlink have more room, glibc has a page.
constexpr size_t kDumpDatagram = 3584;
constexpr size_t kMaxRequest = 1 << 20;

// Who has which port id, and who listens. A leaf but for the sockets' reference counts.
struct Registry {
  Mutex mu{LockRank::kNetTable};
  std::set<std::tuple<net::Stack*, int, uint32_t>> ports ABSL_GUARDED_BY(mu);
  std::set<NetlinkSocket*> sockets ABSL_GUARDED_BY(mu);
};
Registry& Get() {
  static auto* const registry = new Registry;
  return *registry;
}

std::string Address(uint32_t port, uint32_t groups) {
  sockaddr_nl address = {};
  address.nl_family = AF_NETLINK;
  address.nl_pid = port;
  address.nl_groups = groups;
  return OptionBytes(&address, sizeof address);
}

Result<sockaddr_nl> Parse(std::string_view bytes) {
  sockaddr_nl address;
  if (bytes.size() < sizeof address) return Errno(EINVAL);
  memcpy(&address, bytes.data(), sizeof address);
  if (address.nl_family != AF_NETLINK) return Errno(EINVAL);
  return address;
}

Result<vfs::FileRef> Create(int type, int protocol, int flags) {
  if (type != SOCK_RAW && type != SOCK_DGRAM) return Errno(ESOCKTNOSUPPORT);
  if (protocol < 0 || protocol >= MAX_LINKS) return Errno(EPROTONOSUPPORT);
  if (protocol != NETLINK_ROUTE && protocol != NETLINK_SOCK_DIAG && protocol != NETLINK_KOBJECT_UEVENT)
    return Errno(EPROTONOSUPPORT);
  return vfs::FileRef(new NetlinkSocket(Socket::NewPath(), flags, type, protocol, CallersStack()));
}

}  // namespace

NetlinkSocket::NetlinkSocket(vfs::Path path, int flags, int type, int protocol, RefPtr<net::Stack> stack)
    : Socket(std::move(path), flags, AF_NETLINK, type, protocol), stack_(std::move(stack)) {
  MutexLock lock(Get().mu);
  Get().sockets.insert(this);
}

NetlinkSocket::~NetlinkSocket() {
  const uint32_t port = this->port();
  MutexLock lock(Get().mu);
  Get().sockets.erase(this);
  if (port) Get().ports.erase({stack_.get(), protocol(), port});
}

void NotifyGroup(net::Stack& stack, uint32_t group, const std::string& message) {
  std::vector<vfs::FileRef> members;
  {
    MutexLock lock(Get().mu);
    for (NetlinkSocket* socket : Get().sockets) {
      if (&socket->stack() == &stack && socket->protocol() == NETLINK_ROUTE && socket->TryIncRef())
        members.push_back(vfs::FileRef::Adopt(socket));
    }
  }
  for (const vfs::FileRef& file : members) {
    auto& socket = static_cast<NetlinkSocket&>(*file);
    if (socket.IsMember(group)) socket.Queue(message, group);
  }
}

Result<void> NetlinkSocket::AutoBindLocked() {
  if (port_) return OkResult();
  auto wanted = static_cast<uint32_t>(Caller::Current().CallerTgid());
  MutexLock lock(Get().mu);
  // The process's first socket has its id; others get numbers that no process has.
  for (uint32_t i = 0; i < 1 << 16; ++i) {
    if (Get().ports.insert({stack_.get(), protocol(), wanted}).second) {
      port_ = wanted;
      return OkResult();
    }
    wanted = static_cast<uint32_t>(-4097 - static_cast<int32_t>(stack_->environment().Random() % (1u << 30)));
  }
  return Errno(EADDRINUSE);
}

Result<void> NetlinkSocket::Bind(std::string_view bytes) {
  const sockaddr_nl address = TRY(Parse(bytes));
  MutexLock lock(mu_);
  if (address.nl_groups && protocol() != NETLINK_ROUTE && protocol() != NETLINK_KOBJECT_UEVENT &&
      !HasNetCapability(CAP_NET_ADMIN)) {
    return Errno(EPERM);
  }
  if (port_ && address.nl_pid != port_) return Errno(EINVAL);
  if (!port_) {
    if (address.nl_pid == 0) {
      TRY(AutoBindLocked());
    } else {
      MutexLock registry(Get().mu);
      if (!Get().ports.insert({stack_.get(), protocol(), address.nl_pid}).second) return Errno(EADDRINUSE);
      port_ = address.nl_pid;
    }
  }
  groups_ = address.nl_groups;
  return OkResult();
}

Result<void> NetlinkSocket::Connect(std::string_view bytes, bool, WaitOn*) {
  if (bytes.size() < sizeof(sa_family_t)) return Errno(EINVAL);
  sa_family_t family;
  memcpy(&family, bytes.data(), sizeof family);
  if (family == AF_UNSPEC) return OkResult();
  const sockaddr_nl address = TRY(Parse(bytes));
  if (address.nl_groups || address.nl_pid) return Errno(EPERM);
  MutexLock lock(mu_);
  return AutoBindLocked();
}

Result<std::string> NetlinkSocket::GetName() {
  MutexLock lock(mu_);
  return Address(port_, groups_);
}

Result<std::string> NetlinkSocket::GetPeer() { return Address(0, 0); }

EventMask NetlinkSocket::Poll() {
  MutexLock lock(mu_);
  return kEventOut | (messages_.empty() ? EventMask{0} : kEventIn) | (error_ ? EventMask{EPOLLERR} : 0);
}

int NetlinkSocket::TakeError() {
  MutexLock lock(mu_);
  return std::exchange(error_, 0);
}

void NetlinkSocket::Queue(std::string datagram, uint32_t group) {
  {
    MutexLock lock(mu_);
    const size_t charge = datagram.size() + sizeof(Message) + 256;
    if (!messages_.empty() && queued_ + charge > static_cast<size_t>(options().receive_buffer) * 4) {
      if (!no_enobufs_) error_ = ENOBUFS;
    } else {
      queued_ += charge;
      messages_.push_back({std::move(datagram), group});
    }
  }
  queue_.Notify(kEventIn);
}

void NetlinkSocket::AnswerDump(const NetlinkRequest& request, std::vector<std::string> messages) {
  const uint32_t port = this->port();
  const int status = 0;
  messages.push_back(MessageBuilder(NLMSG_DONE, NLM_F_MULTI, request.header.nlmsg_seq, port, status).Finish());
  std::string datagram;
  for (std::string& message : messages) {
    if (!datagram.empty() && datagram.size() + message.size() > kDumpDatagram) Queue(std::exchange(datagram, {}));
    datagram += message;
    datagram.resize(NLMSG_ALIGN(datagram.size()), '\0');
  }
  Queue(std::move(datagram));
}

void NetlinkSocket::Acknowledge(const NetlinkRequest& request, int error) {
  nlmsgerr body = {.error = -error, .msg = request.header};
  MessageBuilder builder(NLMSG_ERROR, capped_ack_ || !error ? NLM_F_CAPPED : 0, request.header.nlmsg_seq, port(), body);
  std::string text = builder.Finish();
  // An error repeats the request.
  if (error && !capped_ack_) {
    text.append(request.body.data(), request.body.size());
    text.resize(NLMSG_ALIGN(text.size()), '\0');
    const auto length = static_cast<uint32_t>(text.size());
    memcpy(text.data(), &length, sizeof length);
  }
  Queue(std::move(text));
}

void NetlinkSocket::Handle(const NetlinkRequest& request) {
  Result<void> done = Errno(EOPNOTSUPP);
  if (protocol() == NETLINK_ROUTE) done = HandleRoute(*this, request);
  if (protocol() == NETLINK_SOCK_DIAG) done = HandleDiag(*this, request);
  if (!done.ok() || ((request.header.nlmsg_flags & NLM_F_ACK) && !request.IsDump()))
    Acknowledge(request, done.error_number());
}

Result<size_t> NetlinkSocket::Send(SendRequest& request) {
  if (request.flags & MSG_OOB) return Errno(EOPNOTSUPP);
  if (!request.address.empty()) {
    const sockaddr_nl to = TRY(Parse(request.address));
    if ((to.nl_groups || to.nl_pid) && !HasNetCapability(CAP_NET_ADMIN)) return Errno(EPERM);
    if (to.nl_pid) return Errno(ECONNREFUSED);  // sockets of other processes take nothing here
  }
  const size_t length = request.data.remaining();
  if (length > kMaxRequest || length > static_cast<size_t>(options().send_buffer) - 32) return Errno(EMSGSIZE);
  std::string bytes(length, '\0');
  if (length && TRY(request.data.Take(bytes.data(), length)) < length) return Errno(EFAULT);
  {
    MutexLock lock(mu_);
    TRY(AutoBindLocked());
  }
  std::string_view rest = bytes;
  while (rest.size() >= sizeof(nlmsghdr)) {
    NetlinkRequest message;
    memcpy(&message.header, rest.data(), sizeof message.header);
    const size_t size = message.header.nlmsg_len;
    if (size < sizeof(nlmsghdr) || size > rest.size()) break;
    message.body = rest.substr(NLMSG_HDRLEN, size - NLMSG_HDRLEN);
    // Control messages need no answer, nor does what isn't a request.
    if ((message.header.nlmsg_flags & NLM_F_REQUEST) && message.header.nlmsg_type >= NLMSG_MIN_TYPE)
      Handle(message);
    else if ((message.header.nlmsg_flags & NLM_F_ACK))
      Acknowledge(message, 0);
    rest.remove_prefix(std::min<size_t>(NLMSG_ALIGN(size), rest.size()));
  }
  return length;
}

Result<size_t> NetlinkSocket::Receive(ReceiveRequest& request) {
  if (request.flags & MSG_OOB) return Errno(EOPNOTSUPP);
  Message message;
  {
    MutexLock lock(mu_);
    if (error_) return Errno(std::exchange(error_, 0));
    if (messages_.empty()) return Errno(EAGAIN);
    if (request.flags & MSG_PEEK) {
      message = messages_.front();
    } else {
      message = std::move(messages_.front());
      messages_.pop_front();
      queued_ -= message.data.size() + sizeof(Message) + 256;
    }
  }
  const size_t copied = std::min(message.data.size(), request.data.remaining());
  if (copied) TRY(request.data.Put(message.data.data(), copied));
  if (copied < message.data.size()) request.message_flags |= MSG_TRUNC;
  request.address = Address(0, message.group ? 1u << (message.group - 1) : 0);
  if (packet_info_) {
    const nl_pktinfo info = {message.group};
    request.control.push_back({SOL_NETLINK, NETLINK_PKTINFO, OptionBytes(&info, sizeof info)});
  }
  if (options().pass_creds) request.creds = Identity{0, 0, 0};
  return request.flags & MSG_TRUNC ? message.data.size() : copied;
}

Result<void> NetlinkSocket::SetOption(int level, int name, std::string_view value) {
  if (level != SOL_NETLINK)
    return level == SOL_SOCKET ? Socket::SetOption(level, name, value) : Result<void>(Errno(ENOPROTOOPT));
  const int number = value.size() >= sizeof(int) ? *OptionInt(value) : 0;
  switch (name) {
    case NETLINK_PKTINFO:
      packet_info_ = number != 0;
      return OkResult();
    case NETLINK_CAP_ACK:
      capped_ack_ = number != 0;
      return OkResult();
    case NETLINK_EXT_ACK:
      extended_ack_ = number != 0;
      return OkResult();
    case NETLINK_GET_STRICT_CHK:
      strict_ = number != 0;
      return OkResult();
    case NETLINK_NO_ENOBUFS:
      no_enobufs_ = number != 0;
      return OkResult();
    case NETLINK_BROADCAST_ERROR:
    case NETLINK_LISTEN_ALL_NSID:
      return OkResult();
    case NETLINK_ADD_MEMBERSHIP:
    case NETLINK_DROP_MEMBERSHIP: {
      if (number < 1 || number > 64) return Errno(EINVAL);
      MutexLock lock(mu_);
      TRY(AutoBindLocked());
      if (number > 32) return OkResult();  // groups that nothing is sent to
      const uint32_t bit = 1u << (number - 1);
      groups_ = name == NETLINK_ADD_MEMBERSHIP ? groups_ | bit : groups_ & ~bit;
      return OkResult();
    }
    default:
      return Errno(ENOPROTOOPT);
  }
}

Result<std::string> NetlinkSocket::GetOption(int level, int name) {
  if (level != SOL_NETLINK) {
    if (level != SOL_SOCKET) return Errno(ENOPROTOOPT);
    return Socket::GetOption(level, name);
  }
  switch (name) {
    case NETLINK_PKTINFO:
      return OptionBytes(packet_info_);
    case NETLINK_CAP_ACK:
      return OptionBytes(capped_ack_);
    case NETLINK_EXT_ACK:
      return OptionBytes(extended_ack_);
    case NETLINK_GET_STRICT_CHK:
      return OptionBytes(strict_);
    case NETLINK_NO_ENOBUFS:
      return OptionBytes(no_enobufs_);
    case NETLINK_LIST_MEMBERSHIPS: {
      MutexLock lock(mu_);
      return OptionBytes(&groups_, sizeof groups_);
    }
    default:
      return Errno(ENOPROTOOPT);
  }
}

Result<int64_t> NetlinkSocket::Ioctl(unsigned request, uint64_t argument) {
  if (request != SIOCINQ) return InterfaceIoctl(*stack_, HasNetCapability(CAP_NET_ADMIN), request, argument);
  int value;
  {
    MutexLock lock(mu_);
    value = messages_.empty() ? 0 : static_cast<int>(messages_.front().data.size());
  }
  TRY(Caller::Current().CopyOut(UserAddr(argument), value));
  return 0;
}

void RegisterNetlinkSockets() { RegisterDomain(AF_NETLINK, {.create = &Create}); }

}  // namespace sentry::socket
