// SPDX-License-Identifier: Apache-2.0
// What socket calls ask of a TCP endpoint, and its states.
#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>

#include "sentry/net/tcp/tcp_endpoint.h"

namespace sentry::net {
namespace {

constexpr uint32_t kIn = EPOLLIN | EPOLLRDNORM, kOut = EPOLLOUT | EPOLLWRNORM;
// What a change of state may mean to anybody who waits.
constexpr uint32_t kStateChange = kIn | kOut | EPOLLRDHUP | EPOLLHUP | EPOLLERR;

}  // namespace

TcpEndpoint::TcpEndpoint(Stack& stack, bool v6) : TcpHandler(stack, v6) {
  user_.endpoint = this;
  user_.address = IpAddress::Any(!v6);
  options_.reno = stack.settings().tcp_default_reno;
  congestion_.set_reno(options_.reno);
  send_buffer_ = stack.settings().tcp_send_default;
  receive_buffer_ = stack.settings().tcp_receive_default;
  stack.tcp().endpoint_count().fetch_add(1, std::memory_order_relaxed);
}

TcpEndpoint::~TcpEndpoint() {
  stack().timers().Cancel(*this);
  if (listen_ && state_ != TcpState::kListen) listen_->RemovePending(*this);
  ports().Unbind(user_);
  if (orphan_) stack().tcp().orphan_count().fetch_sub(1, std::memory_order_relaxed);
  stack().tcp().endpoint_count().fetch_sub(1, std::memory_order_relaxed);
}

void TcpEndpoint::set_observer(RefPtr<Observer> observer) {
  MutexLock lock(mu_);
  observer_ = observer;
  if (state_ == TcpState::kListen) listen_->set_observer(std::move(observer));
}

void TcpEndpoint::Events(uint32_t events) { DeferEvents(observer_, events); }

void TcpEndpoint::SetState(TcpState state) {
  TcpStatistics& stats = stack().statistics().tcp;
  const auto counts = [](TcpState s) { return s == TcpState::kEstablished || s == TcpState::kCloseWait; };
  if (counts(state) != counts(state_)) stats.current_established.fetch_add(counts(state) ? 1 : -1);
  state_ = state;
}

bool TcpEndpoint::IsSynchronized() const {
  return state_ != TcpState::kClosed && state_ != TcpState::kListen && state_ != TcpState::kSynSent;
}

bool TcpEndpoint::CanReceive() const {
  return state_ == TcpState::kEstablished || state_ == TcpState::kFinWait1 || state_ == TcpState::kFinWait2;
}

// --- Names

Result<void> TcpEndpoint::Bind(const SocketAddress& address) {
  MutexLock lock(mu_);
  if (state_ != TcpState::kClosed || user_.port || bound_by_user_) return Errno(EINVAL);
  if (address.ip.IsMulticast() || stack().config()->IsBroadcast(address.ip)) return Errno(EADDRNOTAVAIL);
  TRY(CheckLocal(address.ip, address.scope));
  const Settings& settings = stack().settings();
  const PortUser before = user_;
  user_.address = address.ip;
  user_.dual = is_v6() && !ip().v6_only && address.ip == IpAddress::AnyV6();
  user_.device = ip().device;
  user_.reuse_address = options_.reuse_address;
  user_.reuse_port = options_.reuse_port;
  user_.uid = options_.uid;
  scope_ = address.scope;
  if (address.port || !ip().bind_address_no_port) {
    auto done = ports().Bind(user_, address.port, static_cast<uint16_t>(settings.port_low),
                             static_cast<uint16_t>(settings.port_high), stack().environment().Random());
    if (!done.ok()) {
      user_ = before;
      return done;
    }
  }
  bound_by_user_ = true;
  return OkResult();
}

void TcpEndpoint::UpdatePort() {
  MutexLock lock(mu_);
  ports().Update(user_, [&](PortUser& user) {
    user.reuse_address = options_.reuse_address;
    user.reuse_port = options_.reuse_port;
    user.device = ip().device;
  });
}

SocketAddress TcpEndpoint::local() const {
  MutexLock lock(mu_);
  return {user_.address, user_.port ? user_.port : tuple_.local_port, scope_};
}

std::optional<SocketAddress> TcpEndpoint::remote() const {
  MutexLock lock(mu_);
  if (state_ == TcpState::kClosed || state_ == TcpState::kListen || state_ == TcpState::kSynSent) return std::nullopt;
  return SocketAddress{tuple_.remote, tuple_.remote_port, scope_};
}

TcpState TcpEndpoint::state() const {
  MutexLock lock(mu_);
  return state_;
}

// --- Connecting

Result<void> TcpEndpoint::Route() {
  const uint64_t generation = stack().config_generation();
  if (path_generation_ == generation) return OkResult();
  const uint32_t interface = ip().device ? ip().device.load() : tuple_.remote.IsLinkLocalV6() ? scope_ : 0;
  path_ = TRY(stack().config()->Lookup(tuple_.remote, tuple_.local, interface));
  path_generation_ = generation;
  return OkResult();
}

Result<void> TcpEndpoint::Connect(const SocketAddress& remote) {
  Section section(mu_);
  if (connecting_) {
    if (state_ == TcpState::kSynSent || state_ == TcpState::kSynReceived) return Errno(EALREADY);
    connecting_ = false;
    if (state_ == TcpState::kClosed) {
      const int error = std::exchange(error_, 0);
      return Errno(error ? error : ECONNABORTED);
    }
    return OkResult();
  }
  if (state_ != TcpState::kClosed) return Errno(EISCONN);
  TRY(StartConnect(remote));
  connecting_ = true;
  return Errno(EINPROGRESS);
}

Result<void> TcpEndpoint::StartConnect(const SocketAddress& remote) {
  SocketAddress to = remote;
  if (to.ip.IsAny()) to.ip = to.ip.IsV4() ? IpAddress::LoopbackV4() : IpAddress::LoopbackV6();
  if (to.ip.IsV4() && is_v6() && (ip().v6_only || (!user_.address.IsV4() && !user_.address.IsAny())))
    return Errno(ENETUNREACH);
  if (!to.ip.IsV4() && user_.address.IsV4()) return Errno(is_v6() ? EAFNOSUPPORT : EINVAL);
  std::shared_ptr<const Config> config = stack().config();
  if (to.ip.IsMulticast() || config->IsBroadcast(to.ip)) return Errno(ENETUNREACH);
  if (to.scope) scope_ = to.scope;
  const uint32_t interface = ip().device ? ip().device.load() : to.ip.IsLinkLocalV6() ? scope_ : 0;
  if (to.ip.IsLinkLocalV6() && !interface) return Errno(EINVAL);
  const IpAddress source = user_.address.IsAny() ? IpAddress::Any(to.ip.IsV4()) : user_.address;
  path_ = TRY(config->Lookup(to.ip, source, interface));
  path_generation_ = config->generation;
  if (path_.broadcast || path_.multicast) return Errno(ENETUNREACH);
  tuple_ = {path_.source, to.ip, user_.port, to.port};

  TcpTable& table = stack().tcp();
  RefPtr<TimeWait> replaced;
  const IpAddress address_before = user_.address;
  const bool dual_before = user_.dual;
  if (user_.port) {
    ports().Update(user_, [&](PortUser& user) {
      user.address = path_.source;
      user.dual = false;
    });
    if (!table.Insert(tuple_, *this, &replaced)) {
      ports().Update(user_, [&](PortUser& user) {
        user.address = address_before;
        user.dual = dual_before;
      });
      return Errno(EADDRNOTAVAIL);
    }
  } else {
    user_.address = path_.source;
    user_.dual = false;
    user_.reuse_address = options_.reuse_address;
    user_.reuse_port = options_.reuse_port;
    user_.uid = options_.uid;
    const Settings& settings = stack().settings();
    for (;;) {
      auto bound = ports().BindForConnect(user_, static_cast<uint16_t>(settings.port_low),
                                          static_cast<uint16_t>(settings.port_high), stack().environment().Random(),
                                          [&](uint16_t port) {
                                            FourTuple tuple = tuple_;
                                            tuple.local_port = port;
                                            return table.IsFree(tuple);
                                          });
      if (!bound.ok()) {
        user_.address = address_before;
        return bound;
      }
      tuple_.local_port = user_.port;
      if (table.Insert(tuple_, *this, &replaced)) break;
      ports().Unbind(user_);  // somebody was quicker
    }
  }
  in_table_ = true;
  iss_ = static_cast<uint32_t>(stack().environment().Random());
  if (replaced) {
    // Beyond all that the old incarnation sent (RFC 6191).
    iss_ = replaced->state().send_next + 65535 + 2;
    timestamp_offset_ = replaced->state().timestamp_offset;
    Count(stack().statistics().tcp.time_wait_reused);
    replaced->End();
  } else {
    timestamp_offset_ = static_cast<uint32_t>(stack().environment().Random());
  }
  una_ = next_ = iss_;
  error_ = soft_error_ = 0;
  send_shutdown_ = receive_shutdown_ = fin_queued_ = fin_sent_ = fin_received_ = false;
  SetState(TcpState::kSynSent);
  Count(stack().statistics().tcp.active_opens);
  SendSyn(kTcpSyn);
  ArmTimers();
  return OkResult();
}

Result<void> TcpEndpoint::Disconnect() {
  std::vector<RefPtr<TcpEndpoint>> children;
  {
    Section section(mu_);
    if (state_ == TcpState::kListen) {
      children = listen_->Close();
      listen_ = nullptr;
    } else if (state_ == TcpState::kEstablished || state_ == TcpState::kCloseWait || state_ == TcpState::kFinWait1 ||
               state_ == TcpState::kFinWait2 || state_ == TcpState::kSynReceived) {
      SendReset();
    }
    EnterClosed();
    connecting_ = false;
    ever_connected_ = false;
    error_ = 0;
    received_.Clear();
    unsent_.Clear();
    out_of_order_.clear();
    out_of_order_bytes_ = out_of_order_charge_ = 0;
    send_shutdown_ = receive_shutdown_ = fin_queued_ = fin_sent_ = fin_received_ = false;
    has_timestamps_ = has_sack_ = has_scaling_ = false;
    send_scale_ = receive_scale_ = 0;
    srtt_ns_ = rttvar_ns_ = 0;
    rto_ns_ = base::kNsPerSecond;
    backoff_ = probes_ = 0;
    if (!bound_by_user_) user_.address = IpAddress::Any(!is_v6());
    Events(kStateChange);
  }
  for (auto& child : children) child->AbortChild();
  return OkResult();
}

Result<void> TcpEndpoint::Listen(int backlog) {
  Section section(mu_);
  const int limit = stack().settings().somaxconn;
  if (static_cast<unsigned>(backlog) > static_cast<unsigned>(limit)) backlog = limit;
  if (state_ == TcpState::kListen) {
    listen_->set_backlog(backlog);
    return OkResult();
  }
  if (state_ != TcpState::kClosed || connecting_) return Errno(EINVAL);
  user_.reuse_address = options_.reuse_address;
  user_.reuse_port = options_.reuse_port;
  user_.uid = options_.uid;
  user_.dual = is_v6() && !ip().v6_only && user_.address == IpAddress::AnyV6();
  if (!user_.port) {
    const Settings& settings = stack().settings();
    TRY(ports().Bind(user_, 0, static_cast<uint16_t>(settings.port_low), static_cast<uint16_t>(settings.port_high),
                     stack().environment().Random()));
  }
  listen_ = MakeRef<ListenQueue>();
  listen_->set_backlog(backlog);
  listen_->set_observer(observer_);
  // From here on segments may come: the state first, they wait for the lock.
  SetState(TcpState::kListen);
  send_shutdown_ = receive_shutdown_ = false;
  auto listening = ports().Listen(user_);
  if (!listening.ok()) {
    SetState(TcpState::kClosed);
    listen_ = nullptr;
    return listening;
  }
  return OkResult();
}

Result<RefPtr<TcpEndpoint>> TcpEndpoint::Accept() {
  RefPtr<ListenQueue> queue;
  {
    MutexLock lock(mu_);
    if (state_ != TcpState::kListen) return Errno(EINVAL);
    queue = listen_;
  }
  RefPtr<TcpEndpoint> child = queue->Take();
  if (!child) return Errno(EAGAIN);
  return child;
}

// --- Ends

Result<void> TcpEndpoint::Shutdown(int how) {
  std::vector<RefPtr<TcpEndpoint>> children;
  Result<void> result;
  {
    Section section(mu_);
    const bool reading = how == SHUT_RD || how == SHUT_RDWR, writing = how == SHUT_WR || how == SHUT_RDWR;
    switch (state_) {
      case TcpState::kClosed:
        result = Errno(ENOTCONN);
        break;
      case TcpState::kListen:
        if (!reading) return OkResult();
        children = listen_->Close();
        listen_ = nullptr;
        EnterClosed();
        break;
      case TcpState::kSynSent:
        EnterClosed();
        connecting_ = false;
        error_ = 0;
        break;
      default:
        break;
    }
    if (state_ != TcpState::kClosed) {
      receive_shutdown_ |= reading;
      if (writing && !send_shutdown_) {
        send_shutdown_ = true;
        if (state_ == TcpState::kEstablished || state_ == TcpState::kSynReceived) SetState(TcpState::kFinWait1);
        if (state_ == TcpState::kCloseWait) SetState(TcpState::kLastAck);
        fin_queued_ = true;
        Push(true);
        ArmTimers();
      }
    } else if (result.error_number()) {
      receive_shutdown_ |= reading;
      send_shutdown_ |= writing;
    }
    Events(kStateChange);
  }
  for (auto& child : children) child->AbortChild();
  return result;
}

void TcpEndpoint::MarkOrphan() {
  if (orphan_) return;
  orphan_ = true;
  stack().tcp().orphan_count().fetch_add(1, std::memory_order_relaxed);
}

void TcpEndpoint::Close(bool abort) {
  std::vector<RefPtr<TcpEndpoint>> children;
  {
    RefPtr<TcpEndpoint> self(this);  // outlives the table's reference
    Section section(mu_);
    observer_ = nullptr;
    TcpStatistics& stats = stack().statistics().tcp;
    const bool unread = !received_.empty();
    switch (state_) {
      case TcpState::kClosed:
        ports().Unbind(user_);
        break;
      case TcpState::kListen:
        children = listen_->Close();
        EnterClosed();
        break;
      case TcpState::kSynSent:
        EnterClosed();
        break;
      default:
        if (unread || abort) {
          Count(unread ? stats.abort_on_close : stats.abort_on_data);
          // What was not sent is gone; after our FIN nobody needs a reset.
          if (state_ != TcpState::kLastAck && state_ != TcpState::kClosing && state_ != TcpState::kTimeWait)
            SendReset();
          EnterClosed();
          break;
        }
        MarkOrphan();
        send_shutdown_ = receive_shutdown_ = true;
        if (state_ == TcpState::kEstablished || state_ == TcpState::kSynReceived) SetState(TcpState::kFinWait1);
        if (state_ == TcpState::kCloseWait) SetState(TcpState::kLastAck);
        if (!fin_queued_) {
          fin_queued_ = true;
          Push(true);
        }
        if (state_ == TcpState::kFinWait2) {
          if (options_.linger2 < 0) {
            SendReset();
            EnterClosed();
            break;
          }
          const int seconds = options_.linger2 ? options_.linger2 : stack().settings().tcp_fin_timeout.load();
          end_at_ = stack().NowNs() + seconds * base::kNsPerSecond;
        }
        ArmTimers();
        break;
    }
    if (state_ == TcpState::kClosed) ports().Unbind(user_);
  }
  for (auto& child : children) child->AbortChild();
}

void TcpEndpoint::AbortChild() {
  RefPtr<TcpEndpoint> self(this);
  Section section(mu_);
  if (state_ == TcpState::kClosed) return;
  SendReset();
  EnterClosed();
  ports().Unbind(user_);
}

void TcpEndpoint::EnterClosed() {
  SetState(TcpState::kClosed);
  if (listen_) {
    listen_->RemovePending(*this);
    listen_ = nullptr;
  }
  rto_at_ = probe_at_ = ack_at_ = tlp_at_ = reorder_at_ = keep_at_ = end_at_ = cork_at_ = kNoDeadline;
  sent_.clear();
  sent_bytes_ = 0;
  sacked_count_ = lost_count_ = resent_count_ = 0;
  unsent_.Clear();
  if (!bound_by_user_ || orphan_) ports().Unbind(user_);
  ports().Update(user_, [](PortUser& user) { user.listening = false; });
  if (in_table_) {
    in_table_ = false;
    stack().tcp().Remove(tuple_, *this);
  }
}

void TcpEndpoint::Fail(int error) {
  if (error && !orphan_) error_ = error;
  if (listen_ && !ever_connected_) Count(stack().statistics().tcp.attempt_fails);
  send_shutdown_ = receive_shutdown_ = true;
  EnterClosed();
  Events(kStateChange);
}

void TcpEndpoint::EnterTimeWait() {
  TcpTable& table = stack().tcp();
  if (table.time_wait_count() < stack().settings().tcp_max_time_wait) {
    TimeWait::State state = {.tuple = tuple_,
                             .receive_next = receive_next_,
                             .send_next = next_,
                             .window = static_cast<uint16_t>(receive_window_ >> receive_scale_),
                             .has_timestamp = has_timestamps_,
                             .timestamp_recent = timestamp_recent_,
                             .timestamp_offset = timestamp_offset_,
                             .interface = tuple_.remote.IsLinkLocalV6() ? scope_ : 0,
                             .uid = user_.uid,
                             .reuse_address = user_.reuse_address,
                             .reuse_port = user_.reuse_port};
    auto wait = MakeRef<TimeWait>(stack(), is_v6(), state);
    table.ports().Join(wait->port_user(), tuple_.local_port);
    table.Replace(tuple_, *this, *wait);
    in_table_ = false;
    wait->Start();
  }
  receive_shutdown_ = send_shutdown_ = true;
  EnterClosed();
  Events(kStateChange);
}

// --- Events

uint32_t TcpEndpoint::PollLocked() const {
  if (state_ == TcpState::kListen) return listen_->ready() ? kIn : 0;
  uint32_t events = 0;
  if (state_ == TcpState::kClosed || (send_shutdown_ && receive_shutdown_)) events |= EPOLLHUP;
  if (receive_shutdown_) events |= kIn | EPOLLRDHUP;
  if (state_ != TcpState::kSynSent && state_ != TcpState::kSynReceived) {
    const size_t available = received_.size();
    if (available && available >= static_cast<size_t>(std::max(options_.receive_low_water, 1))) events |= kIn;
    if (send_shutdown_ && state_ != TcpState::kClosed) {
      events |= kOut;
    } else {
      const size_t queued = unsent_.size() + sent_bytes_;
      const bool low = !options_.not_sent_low_water || unsent_.size() < options_.not_sent_low_water;
      if (queued + queued / 2 <= static_cast<size_t>(send_buffer_) && low)
        events |= kOut;
      else
        const_cast<TcpEndpoint*>(this)->no_space_ = true;
    }
    if (urgent_in_ && has_urgent_byte_) events |= EPOLLPRI;
  }
  if (error_) events |= EPOLLERR;
  return events;
}

uint32_t TcpEndpoint::Poll() const {
  MutexLock lock(mu_);
  return PollLocked();
}

int TcpEndpoint::TakeError() {
  MutexLock lock(mu_);
  if (int error = std::exchange(error_, 0)) return error;
  return std::exchange(soft_error_, 0);
}

size_t TcpEndpoint::ReadyConnections() const {
  MutexLock lock(mu_);
  return state_ == TcpState::kListen ? listen_->ready() : 0;
}

// --- Data

Result<size_t> TcpEndpoint::ReserveSend(size_t wanted, bool* at_end) {
  MutexLock lock(mu_);
  if (state_ == TcpState::kSynSent || state_ == TcpState::kSynReceived) {
    if (error_) return Errno(std::exchange(error_, 0));
    if (!send_shutdown_) {
      no_space_ = true;
      return Errno(EAGAIN);
    }
  }
  if (error_) return Errno(std::exchange(error_, 0));
  if (send_shutdown_ || (state_ != TcpState::kEstablished && state_ != TcpState::kCloseWait)) return Errno(EPIPE);
  const size_t queued = unsent_.size() + sent_bytes_;
  const auto limit = static_cast<size_t>(send_buffer_);
  if (queued >= limit || (options_.not_sent_low_water && unsent_.size() >= options_.not_sent_low_water)) {
    no_space_ = true;
    return Errno(EAGAIN);
  }
  return std::min(wanted, std::max<size_t>(limit - queued, 1));
}

Result<void> TcpEndpoint::Append(Buffer data, bool more, bool urgent) {
  Section section(mu_);
  if (error_) return Errno(std::exchange(error_, 0));
  if (send_shutdown_ || (state_ != TcpState::kEstablished && state_ != TcpState::kCloseWait)) return Errno(EPIPE);
  // Small pieces share a block.
  if (!unsent_.empty() && data.size() <= 2048 && unsent_.TailRoom() >= data.size()) {
    data.CopyTo(0, unsent_.Tail(), data.size());
    const size_t length = data.size();
    const RefPtr<Block> block = unsent_.TailBlock();
    unsent_.AppendWritten(block, length);
  } else {
    unsent_.Append(std::move(data));
  }
  if (urgent) urgent_out_ = next_ + static_cast<uint32_t>(unsent_.size());
  more_ = more;
  Push();
  ArmTimers();
  return OkResult();
}

Result<Buffer> TcpEndpoint::Peek(size_t offset, size_t max, bool* at_mark) {
  MutexLock lock(mu_);
  *at_mark = false;
  // The urgent byte is not part of the stream, and reads go past it.
  if (urgent_in_ && *urgent_in_ == copied_ && !options_.oob_inline && !received_.empty()) {
    received_.TrimFront(1);
    ++copied_;
    urgent_in_.reset();
  }
  if (received_.size() > offset) {
    size_t available = received_.size() - offset;
    // A read stops before the urgent byte, and the next one goes past it.
    if (urgent_in_ && !options_.oob_inline) {
      const uint32_t mark = *urgent_in_ - copied_;
      if (mark > 0 && mark < received_.size() && offset < mark) {
        available = mark - offset;
        *at_mark = available <= max;
      }
    }
    return received_.Share(offset, std::min(available, max));
  }
  if (offset && !received_.empty()) return Errno(EAGAIN);
  if (state_ == TcpState::kListen) return Errno(ENOTCONN);
  if (error_) return Errno(std::exchange(error_, 0));
  if (receive_shutdown_) return Buffer();
  if (state_ == TcpState::kClosed) {
    if (!ever_connected_) return Errno(ENOTCONN);
    return Buffer();
  }
  return Errno(EAGAIN);
}

size_t TcpEndpoint::ReceiveQueued() const {
  MutexLock lock(mu_);
  return received_.size();
}

size_t TcpEndpoint::SendQueued() const {
  MutexLock lock(mu_);
  return unsent_.size() + sent_bytes_;
}

size_t TcpEndpoint::NotSent() const {
  MutexLock lock(mu_);
  return unsent_.size();
}

void TcpEndpoint::OnIcmpError(const IcmpError& error, const SocketAddress&, const SocketAddress&) {
  Section section(mu_);
  if (state_ == TcpState::kClosed || state_ == TcpState::kListen || error.transport_size < 8) return;
  uint32_t seq;
  memcpy(&seq, error.transport + 4, 4);
  seq = ntohl(seq);
  // Only about what is in flight (RFC 5927).
  if (Before(seq, una_) || After(seq, next_)) return;
  if (error.error == EMSGSIZE) {
    constexpr uint32_t kMinMtu4 = 552, kMinMtu6 = 1280;
    if (error.mtu == 0 || error.mtu >= path_.mtu) return;
    mtu_limit_ = std::max(error.mtu, error.is_v4 ? kMinMtu4 : kMinMtu6);
    for (size_t i = 0; i < sent_.size(); ++i) {
      if (sent_[i].data.size() > EffectiveMss()) MarkLost(sent_[i]);
    }
    Push();
    ArmTimers();
    return;
  }
  // No connection yet: any error ends the attempt, as in Linux's tcp_v4_err (RFC 1122, 4.2.3.9 would have it wait).
  if (state_ == TcpState::kSynSent || state_ == TcpState::kSynReceived) {
    Count(stack().statistics().tcp.attempt_fails);
    RefPtr<TcpEndpoint> self(this);
    Fail(error.error);
    return;
  }
  soft_error_ = error.error;
}

}  // namespace sentry::net
