// SPDX-License-Identifier: Apache-2.0
#include "sentry/net/tcp/tcp_table.h"

#include <netinet/in.h>

#include "sentry/net/stack.h"
#include "sentry/net/tcp/tcp_endpoint.h"

namespace sentry::net {

TcpTable::Shard& TcpTable::ShardOf(const FourTuple& tuple) const {
  return shards_[tuple.Hash(stack_.hash_secret()) % kShards];
}

RefPtr<TcpHandler> TcpTable::Find(const FourTuple& tuple) const {
  Shard& shard = ShardOf(tuple);
  MutexLock lock(shard.mu);
  auto it = shard.map.find(tuple);
  return it == shard.map.end() ? nullptr : it->second;
}

bool TcpTable::MayReplace(TcpHandler& handler) const {
  TimeWait* old = handler.AsTimeWait();
  if (!old) return false;
  const int reuse = stack_.settings().tcp_reuse_time_wait;
  if (reuse == 0 || (reuse == 2 && !old->state().tuple.remote.IsLoopback())) return false;
  return old->MayReuse(stack_.NowNs());
}

bool TcpTable::Insert(const FourTuple& tuple, TcpHandler& handler, RefPtr<TimeWait>* replaced) {
  Shard& shard = ShardOf(tuple);
  MutexLock lock(shard.mu);
  auto [it, inserted] = shard.map.try_emplace(tuple, RefPtr<TcpHandler>(&handler));
  if (inserted) return true;
  if (!replaced || !MayReplace(*it->second)) return false;
  *replaced = RefPtr<TimeWait>(it->second->AsTimeWait());
  it->second = RefPtr<TcpHandler>(&handler);
  return true;
}

void TcpTable::Remove(const FourTuple& tuple, TcpHandler& handler) {
  RefPtr<TcpHandler> dropped;
  Shard& shard = ShardOf(tuple);
  MutexLock lock(shard.mu);
  auto it = shard.map.find(tuple);
  if (it == shard.map.end() || it->second.get() != &handler) return;
  dropped = std::move(it->second);
  shard.map.erase(it);
}

bool TcpTable::IsFree(const FourTuple& tuple) const {
  Shard& shard = ShardOf(tuple);
  MutexLock lock(shard.mu);
  auto it = shard.map.find(tuple);
  return it == shard.map.end() || MayReplace(*it->second);
}

void TcpTable::Replace(const FourTuple& tuple, TcpHandler& previous, TcpHandler& next) {
  RefPtr<TcpHandler> dropped;
  Shard& shard = ShardOf(tuple);
  MutexLock lock(shard.mu);
  auto it = shard.map.find(tuple);
  if (it == shard.map.end() || it->second.get() != &previous) return;
  dropped = std::exchange(it->second, RefPtr<TcpHandler>(&next));
}

void TcpTable::ForEach(const std::function<void(TcpHandler&)>& visit) const {
  for (Shard& shard : shards_) {
    std::vector<RefPtr<TcpHandler>> list;
    {
      MutexLock lock(shard.mu);
      for (const auto& [tuple, handler] : shard.map) list.push_back(handler);
    }
    for (const auto& handler : list) visit(*handler);
  }
}

void TcpTable::Receive(PacketPtr packet) {
  TcpStatistics& stats = stack_.statistics().tcp;
  Count(stats.in_segments);
  TcpHeader header;
  if (!header.Parse(*packet)) return Count(stats.in_errors);
  if (!packet->trusted_checksums && !IsTcpChecksumRight(*packet)) {
    Count(stats.in_checksum_errors);
    return Count(stats.in_errors);
  }
  if (packet->source.IsAny() || packet->source.IsMulticast()) return;
  const FourTuple tuple{packet->destination, packet->source, header.destination_port, header.source_port};
  RefPtr<TcpHandler> handler = Find(tuple);
  if (TimeWait* old = handler ? handler->AsTimeWait() : nullptr) {
    // A new incarnation (RFC 6191, RFC 9293 3.10.7.4): the listener takes it.
    const TimeWait::State& s = old->state();
    const bool newer = After(header.seq, s.receive_next) ||
                       (s.has_timestamp && header.has_timestamp && After(header.timestamp, s.timestamp_recent));
    if (header.Has(kTcpSyn) && !header.Has(kTcpRst | kTcpAck) && newer) {
      RefPtr<Endpoint> listener = ports_.Find(tuple.local, tuple.local_port, {tuple.remote, tuple.remote_port},
                                              packet->interface, true, tuple.Hash(stack_.hash_secret()));
      if (listener) {
        old->End();
        handler = RefPtr<TcpHandler>(static_cast<TcpHandler*>(listener.get()));
      }
    }
  }
  if (!handler) {
    RefPtr<Endpoint> listener = ports_.Find(tuple.local, tuple.local_port, {tuple.remote, tuple.remote_port},
                                            packet->interface, true, tuple.Hash(stack_.hash_secret()));
    if (listener) handler = RefPtr<TcpHandler>(static_cast<TcpHandler*>(listener.get()));
  }
  if (!handler) {
    if (!header.Has(kTcpRst)) SendReset(*packet, header);
    return;
  }
  handler->OnSegment(std::move(packet), header);
}

void TcpTable::OnIcmpError(const IcmpError& error, const SocketAddress& local, const SocketAddress& remote) {
  RefPtr<TcpHandler> handler = Find({local.ip, remote.ip, local.port, remote.port});
  if (handler) handler->OnIcmpError(error, local, remote);
}

void TcpTable::SendReset(const Packet& about, const TcpHeader& header) {
  const FourTuple tuple{about.destination, about.source, header.destination_port, header.source_port};
  TcpHeader reset;
  if (header.Has(kTcpAck)) {
    reset.seq = header.ack;
    reset.flags = kTcpRst;
  } else {
    const size_t data = about.size() - header.header_size;
    reset.ack =
        header.seq + static_cast<uint32_t>(data) + (header.Has(kTcpSyn) ? 1 : 0) + (header.Has(kTcpFin) ? 1 : 0);
    reset.flags = kTcpRst | kTcpAck;
  }
  Count(stack_.statistics().tcp.out_resets);
  SendControl(tuple, reset, tuple.remote.IsLinkLocalV6() ? about.interface : 0);
}

void TcpTable::SendControl(const FourTuple& tuple, TcpHeader header, uint32_t interface) {
  auto path = stack_.config()->Lookup(tuple.remote, tuple.local, interface);
  if (!path.ok()) return;
  auto packet = std::make_unique<Packet>();
  packet->source = tuple.local;
  packet->destination = tuple.remote;
  packet->trusted_checksums = path->local;
  header.source_port = tuple.local_port;
  header.destination_port = tuple.remote_port;
  header.Push(*packet);
  if (!path->local) SetTcpChecksum(*packet);
  OutputOptions options;
  options.protocol = IPPROTO_TCP;
  options.dont_fragment = true;
  options.ttl = static_cast<uint8_t>(stack_.settings().default_ttl);
  Count(stack_.statistics().tcp.out_segments);
  (void)stack_.Send(std::move(packet), *path, options).ok();
}

TimeWait::TimeWait(Stack& stack, bool v6, const State& state) : TcpHandler(stack, v6), state_(state) {
  user_.address = state.tuple.local;
  user_.reuse_address = state.reuse_address;
  user_.reuse_port = state.reuse_port;
  user_.uid = state.uid;
  user_.automatic = true;
  stack.tcp().time_wait_count().fetch_add(1, std::memory_order_relaxed);
}

TimeWait::~TimeWait() {
  stack().timers().Cancel(*this);
  stack().tcp().ports().Unbind(user_);
  stack().tcp().time_wait_count().fetch_sub(1, std::memory_order_relaxed);
}

void TimeWait::Start() {
  Count(stack().statistics().tcp.time_wait);
  const int64_t now = stack().NowNs();
  started_ns_ = now;
  expires_ns_ = now + kLengthNs;
  stack().timers().Arm(*this, now + kLengthNs);
}

void TimeWait::End() {
  if (ended_.exchange(true)) return;
  RefPtr<TimeWait> self(this);
  stack().timers().Cancel(*this);
  stack().tcp().Remove(state_.tuple, *this);
  stack().tcp().ports().Unbind(user_);
}

void TimeWait::OnTimer(int64_t now_ns) {
  const int64_t expires = expires_ns_;
  if (now_ns >= expires)
    End();
  else
    stack().timers().Arm(*this, expires);
}

bool TimeWait::MayReuse(int64_t now_ns) const {
  return state_.has_timestamp && now_ns - started_ns_ > base::kNsPerSecond;
}

void TimeWait::OnSegment(PacketPtr packet, const TcpHeader& header) {
  const auto length = static_cast<uint32_t>(packet->size() - header.header_size);
  if (header.Has(kTcpRst)) {
    // RFC 1337: a stray one doesn't end it early unless it is exact.
    if (header.seq == state_.receive_next) End();
    return;
  }
  const bool old = state_.has_timestamp && header.has_timestamp && Before(header.timestamp, state_.timestamp_recent);
  const uint32_t end = header.seq + length + (header.Has(kTcpSyn) ? 1 : 0) + (header.Has(kTcpFin) ? 1 : 0);
  if (!old && header.Has(kTcpFin)) {
    const int64_t now = stack().NowNs();
    expires_ns_ = now + kLengthNs;
  }
  if (!header.Has(kTcpAck) && !header.Has(kTcpSyn)) return;
  // An ACK that brings nothing needs no answer; all else is told where we are.
  if (end == header.seq && header.seq == state_.receive_next && !old) return;
  TcpHeader answer;
  answer.seq = state_.send_next;
  answer.ack = state_.receive_next;
  answer.flags = kTcpAck;
  answer.window = state_.window;
  if (state_.has_timestamp) {
    answer.has_timestamp = true;
    answer.timestamp = static_cast<uint32_t>(stack().NowNs() / kNsPerMs) + state_.timestamp_offset;
    answer.timestamp_echo = state_.timestamp_recent;
  }
  stack().tcp().SendControl(state_.tuple, answer, state_.interface);
}

}  // namespace sentry::net
