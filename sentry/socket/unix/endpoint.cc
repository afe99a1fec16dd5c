// SPDX-License-Identifier: Apache-2.0
// Names, connections and the end of an AF_UNIX endpoint (unix(7), net/unix/af_unix.c); data is in endpoint_io.cc.
#include "sentry/socket/unix/endpoint.h"

#include <stddef.h>
#include <string.h>
#include <sys/un.h>

#include <algorithm>
#include <cstdio>

#include "sentry/socket/environment.h"
#include "sentry/socket/unix/in_flight.h"
#include "sentry/socket/unix/names.h"
#include "sentry/socket/unix/unix_socket.h"

namespace sentry::socket {
namespace {

std::string UnnamedAddress() {
  sa_family_t family = AF_UNIX;
  return OptionBytes(&family, sizeof family);
}

}  // namespace

PeerCredentials PeerCredentials::OfCaller() {
  const Credentials& creds = *Caller::Current().creds();
  return {.known = true, .id = {GetEnvironment().caller_pid(), creds.euid, creds.egid}, .groups = creds.groups};
}

UnixEndpoint::UnixEndpoint(int type, uint64_t net_namespace) : type_(type), net_namespace_(net_namespace) {}

UnixEndpoint::UnixEndpoint(const UnixEndpoint& listener, UnixEndpoint& peer, PeerCredentials credentials)
    : UnixEndpoint(peer.type_, peer.net_namespace_) {
  state_ = State::kConnected;
  peer_ = RefPtr<UnixEndpoint>(&peer);
  address_ = listener.address_;
  peer_credentials_ = std::move(credentials);
}

UnixEndpoint::~UnixEndpoint() = default;

void UnixEndpoint::Pair(UnixEndpoint& a, UnixEndpoint& b) {
  UnixEndpoint* ends[] = {&a, &b};
  for (int i = 0; i < 2; ++i) {
    MutexLock lock(ends[i]->mu_);
    ends[i]->peer_ = RefPtr<UnixEndpoint>(ends[1 - i]);
    ends[i]->state_ = State::kConnected;
    ends[i]->peer_credentials_ = PeerCredentials::OfCaller();
  }
}

void UnixEndpoint::Notify(EventMask events) {
  queue_.Notify(events);
  if (!async_.load(std::memory_order_relaxed)) return;
  RefPtr<UnixSocket> file;
  {
    // ~UnixSocket takes the pointer away under mu_, and the count of a file that is on its way there is zero.
    MutexLock lock(mu_);
    UnixSocket* raw = file_.load(std::memory_order_acquire);
    if (raw && raw->TryIncRef()) file = RefPtr<UnixSocket>::Adopt(raw);
  }
  if (file) file->NotifyEvents(events);
}

// --- Names

Result<void> UnixEndpoint::Bind(std::string_view address) {
  ParsedUnixName name = TRY(ParseUnixName(address));
  switch (name.kind) {
    case ParsedUnixName::Kind::kUnnamed:
      return Autobind();
    case ParsedUnixName::Kind::kAbstract:
      return BindAbstract(std::move(name.bytes));
    case ParsedUnixName::Kind::kPath:
      return BindPath(name.path);
  }
  return Errno(EINVAL);
}

Result<void> UnixEndpoint::BindAbstract(std::string bytes) {
  auto address = MakeRef<const UnixAddress>(std::move(bytes));
  MutexLock lock(mu_);
  if (address_ || binding_ || dead_) return Errno(EINVAL);
  if (!UnixNames::Get().AddAbstract(net_namespace_, type_, address->bytes, *this)) return Errno(EADDRINUSE);
  address_ = std::move(address);
  return OkResult();
}

Result<void> UnixEndpoint::Autobind() {
  // Five hexadecimal digits, as Linux's: 2^20 names per namespace and type.
  constexpr uint32_t kNames = 1 << 20;
  static std::atomic<uint32_t> next{0x1d};
  for (uint32_t tries = 0; tries < kNames; ++tries) {
    {
      MutexLock lock(mu_);
      if (address_) return OkResult();
    }
    char digits[8];
    snprintf(digits, sizeof digits, "%05x", next.fetch_add(1, std::memory_order_relaxed) % kNames);
    auto bound = BindAbstract(UnnamedAddress() + std::string(1, '\0') + digits);
    if (bound.ok() || bound.error() != Errno(EADDRINUSE)) return bound;
  }
  return Errno(ENOSPC);
}

Result<void> UnixEndpoint::BindPath(const std::string& path) {
  {
    MutexLock lock(mu_);
    if (address_ || binding_ || dead_) return Errno(EINVAL);
    binding_ = true;  // the file is made without the lock
  }
  auto made = vfs::MknodSocket(GetEnvironment().walk(), path, 0777);
  auto address = MakeRef<const UnixAddress>(UnnamedAddress() + path + '\0');
  MutexLock lock(mu_);
  binding_ = false;
  if (!made.ok()) return made.error();
  made->inode()->set_special(MakeRef<BoundName>(RefPtr<UnixEndpoint>(this)));
  path_ = std::move(*made);
  address_ = std::move(address);
  return OkResult();
}

std::string UnixEndpoint::Name() const {
  MutexLock lock(mu_);
  return address_ ? address_->bytes : UnnamedAddress();
}

Result<std::string> UnixEndpoint::PeerName() const {
  RefPtr<UnixEndpoint> peer;
  {
    MutexLock lock(mu_);
    peer = peer_;
  }
  if (!peer) return Errno(ENOTCONN);
  return peer->Name();
}

// --- Connections

Result<void> UnixEndpoint::Connect(std::string_view address, WaitOn* wait_on) {
  if (address.size() < sizeof(sa_family_t)) return Errno(EINVAL);
  if (type_ == SOCK_DGRAM) return ConnectDatagram(address);
  return ConnectStream(address, wait_on);
}

Result<void> UnixEndpoint::ConnectDatagram(std::string_view address) {
  sa_family_t family;
  memcpy(&family, address.data(), sizeof family);
  if (family == AF_UNSPEC) {
    SetDatagramPeer(nullptr);
    return OkResult();
  }
  ParsedUnixName name = TRY(ParseUnixName(address));
  if (name.kind == ParsedUnixName::Kind::kUnnamed) return Errno(EINVAL);
  if (pass_creds_.load(std::memory_order_relaxed)) TRY(Autobind());
  RefPtr<UnixEndpoint> other = TRY(UnixNames::Get().Find(*this, name));
  {
    MutexLock lock(other->mu_);
    if (other->dead_) return Errno(ECONNREFUSED);
    if (other->peer_ && other->peer_ != this) return Errno(EPERM);
  }
  SetDatagramPeer(std::move(other));
  return OkResult();
}

void UnixEndpoint::SetDatagramPeer(RefPtr<UnixEndpoint> peer) {
  RefPtr<UnixEndpoint> old;
  RefPtr<EventSource> old_source;
  MessageList dropped;
  {
    MutexLock lock(mu_);
    if (peer_ == peer) return;
    if (relay_.queue()) relay_.queue()->Remove(relay_);
    old_source = std::move(relay_source_);
    old = std::exchange(peer_, peer);
    state_ = peer ? State::kConnected : State::kUnconnected;
    if (peer) {
      relay_source_ = peer->room_;
      relay_source_->queue.Add(relay_, kEventOut);
    }
    // What the former peer sent is lost, and it hears of that if it was connected to us.
    if (old) {
      dropped.Swap(messages_);
      for (Message* m = dropped.front(); m; m = MessageList::Next(m)) InFlight::Get().Remove(*this, *m);
    }
  }
  if (!old || dropped.empty()) return;
  room_->queue.Notify(kEventOut);
  bool reset = false;
  {
    MutexLock lock(old->mu_);
    if (!old->dead_ && old->peer_ == this) {
      old->error_ = ECONNRESET;
      reset = true;
    }
  }
  if (reset) old->Notify(EPOLLERR | kEventIn | kEventOut);
}

bool UnixEndpoint::IsFullLocked() const {
  return (state_ == State::kListening ? connections_.size() : messages_.count()) > backlog_;
}

Result<void> UnixEndpoint::ConnectStream(std::string_view address, WaitOn* wait_on) {
  ParsedUnixName name = TRY(ParseUnixName(address));
  if (name.kind == ParsedUnixName::Kind::kUnnamed) return Errno(EINVAL);
  if (pass_creds_.load(std::memory_order_relaxed)) TRY(Autobind());
  RefPtr<UnixEndpoint> listener = TRY(UnixNames::Get().Find(*this, name));
  PeerCredentials mine = PeerCredentials::OfCaller();
  {
    base::LockPair lock(mu_, listener->mu_);
    if (listener->dead_ || listener->state_ != State::kListening || (listener->shutdown_ & kReceive))
      return Errno(ECONNREFUSED);
    if (listener->IsFullLocked()) {
      *wait_on = listener->room_;
      return Errno(EAGAIN);
    }
    if (state_ == State::kConnected) return Errno(EISCONN);
    if (state_ != State::kUnconnected || dead_) return Errno(EINVAL);
    auto accepted = MakeRef<UnixEndpoint>(*listener, *this, std::move(mine));
    state_ = State::kConnected;
    peer_ = accepted;
    peer_credentials_ = listener->peer_credentials_;
    InFlight::Get().SetListener(*accepted, listener.get());
    listener->connections_.push_back(std::move(accepted));
  }
  listener->Notify(kEventIn);
  Notify(kEventOut);
  return OkResult();
}

Result<void> UnixEndpoint::Listen(int backlog) {
  if (!IsConnectionBased()) return Errno(EOPNOTSUPP);
  PeerCredentials mine = PeerCredentials::OfCaller();
  bool more;
  {
    MutexLock lock(mu_);
    if (!address_ || state_ == State::kConnected) return Errno(EINVAL);
    size_t limit = static_cast<size_t>(std::min<unsigned>(static_cast<unsigned>(backlog), kMaxBacklog));
    more = limit > backlog_;
    backlog_ = limit;
    state_ = State::kListening;
    peer_credentials_ = std::move(mine);  // what connecting sockets see as SO_PEERCRED
  }
  if (more) room_->queue.Notify(kEventOut);
  return OkResult();
}

Result<RefPtr<UnixEndpoint>> UnixEndpoint::Accept() {
  if (!IsConnectionBased()) return Errno(EOPNOTSUPP);
  RefPtr<UnixEndpoint> accepted;
  {
    MutexLock lock(mu_);
    if (state_ != State::kListening) return Errno(EINVAL);
    if (connections_.empty()) return Errno(shutdown_ & kReceive ? EINVAL : EAGAIN);
    accepted = std::move(connections_.front());
    connections_.pop_front();
    InFlight::Get().SetListener(*accepted, nullptr);
  }
  room_->queue.Notify(kEventOut);
  return accepted;
}

Result<void> UnixEndpoint::Shutdown(int how) {
  if (how < SHUT_RD || how > SHUT_RDWR) return Errno(EINVAL);
  const int mode = how + 1;
  RefPtr<UnixEndpoint> peer;
  {
    MutexLock lock(mu_);
    shutdown_ |= mode;
    if (IsConnectionBased()) peer = peer_;
  }
  if (peer) {
    MutexLock lock(peer->mu_);
    if (mode & kReceive) peer->shutdown_ |= kSend;
    if (mode & kSend) peer->shutdown_ |= kReceive;
  }
  constexpr EventMask kChange = kEventIn | kEventOut | EPOLLRDHUP;
  Notify(mode == kBoth ? kChange | EPOLLHUP : kChange);
  if (peer) peer->Notify(mode == kBoth ? kChange | EPOLLHUP : kChange);
  room_->queue.Notify(kEventOut);  // those who wait to connect
  return OkResult();
}

void UnixEndpoint::OnPeerReleased(bool reset) {
  {
    MutexLock lock(mu_);
    shutdown_ = kBoth;
    if (reset) error_ = ECONNRESET;
  }
  Notify(kEventIn | kEventOut | EPOLLRDHUP | EPOLLHUP | (reset ? EventMask{EPOLLERR} : 0));
}

void UnixEndpoint::Release() {
  RefPtr<UnixEndpoint> peer;
  RefPtr<const UnixAddress> address;
  RefPtr<EventSource> source;
  vfs::Path path;
  MessageList dropped;
  std::deque<RefPtr<UnixEndpoint>> connections;
  bool was_accepted;
  {
    MutexLock lock(mu_);
    if (dead_) return;
    dead_ = true;
    was_accepted = file_.load(std::memory_order_relaxed) != nullptr;
    file_.store(nullptr, std::memory_order_release);
    shutdown_ = kBoth;
    state_ = State::kUnconnected;
    if (relay_.queue()) relay_.queue()->Remove(relay_);
    source = std::move(relay_source_);
    peer = std::move(peer_);
    address = address_;  // messages that are on their way keep showing it
    path = std::move(path_);
    dropped.Swap(messages_);
    connections.swap(connections_);
    for (Message* m = dropped.front(); m; m = MessageList::Next(m)) InFlight::Get().Remove(*this, *m);
    for (auto& connection : connections) InFlight::Get().SetListener(*connection, nullptr);
    if (!was_accepted) InFlight::Get().SetListener(*this, nullptr);
  }
  if (path) {
    if (RefPtr<vfs::SpecialObject> special = path.inode()->special()) static_cast<BoundName*>(special.get())->Clear();
  } else if (address && was_accepted) {
    // An accepted connection shares its listener's name without having it: only the owner's entry goes.
    if (UnixNames::Get().FindAbstract(net_namespace_, type_, address->bytes) == this) {
      UnixNames::Get().RemoveAbstract(net_namespace_, type_, address->bytes);
    }
  }
  room_->queue.Notify(kEventOut | EPOLLHUP);
  Notify(kEventIn | kEventOut | EPOLLHUP);
  if (peer && IsConnectionBased()) peer->OnPeerReleased(!dropped.empty() || !was_accepted);
  for (auto& connection : connections) connection->Release();
}

// --- State

int UnixEndpoint::TakeError() {
  MutexLock lock(mu_);
  return TakeErrorLocked();
}

bool UnixEndpoint::IsListening() const {
  MutexLock lock(mu_);
  return state_ == State::kListening;
}

PeerCredentials UnixEndpoint::peer_credentials() const {
  MutexLock lock(mu_);
  return peer_credentials_;
}

Result<int> UnixEndpoint::QueuedBytes() const {
  MutexLock lock(mu_);
  if (state_ == State::kListening) return Errno(EINVAL);
  auto& messages = const_cast<MessageList&>(messages_);
  if (IsConnectionBased()) return static_cast<int>(std::min<size_t>(messages.bytes(), INT32_MAX));
  return static_cast<int>(messages.empty() ? 0 : messages.front()->size());
}

void UnixEndpoint::set_send_buffer(size_t bytes) {
  send_buffer_.store(bytes, std::memory_order_relaxed);
  if (IsWritable()) Notify(kEventOut);
}

EventMask UnixEndpoint::Poll() {
  EventMask mask = 0;
  RefPtr<UnixEndpoint> peer;
  {
    MutexLock lock(mu_);
    if (error_) mask |= EPOLLERR;
    if (shutdown_ == kBoth) mask |= EPOLLHUP;
    if (shutdown_ & kReceive) mask |= EPOLLRDHUP | kEventIn;
    if (!messages_.empty() || !connections_.empty()) mask |= kEventIn;
    if (IsConnectionBased() && state_ == State::kUnconnected) mask |= EPOLLHUP;
    if (state_ == State::kListening || !IsWritable()) return mask;
    if (type_ == SOCK_DGRAM) peer = peer_;
  }
  if (peer && peer != this) {
    // A datagram socket is writable when its peer has room, too.
    MutexLock lock(peer->mu_);
    if (peer->peer_ != this && peer->IsFullLocked()) return mask;
  }
  return mask | kEventOut | EPOLLWRBAND;
}

size_t UnixEndpoint::FileReferences() const {
  UnixSocket* file = file_.load(std::memory_order_acquire);
  return file ? static_cast<size_t>(file->RefCountForDebug()) : 0;
}

}  // namespace sentry::socket
