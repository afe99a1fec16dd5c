// SPDX-License-Identifier: Apache-2.0
// The connections of a stack, its ports, and what answers segments that belong to none. Thread-safe.
#ifndef SENTRY_NET_TCP_TCP_TABLE_H_
#define SENTRY_NET_TCP_TCP_TABLE_H_

#include <array>
#include <functional>
#include <unordered_map>

#include "sentry/net/endpoint.h"
#include "sentry/net/port_table.h"
#include "sentry/net/tcp/tcp_header.h"

namespace sentry::net {

class TcpEndpoint;
class TimeWait;

// An entry of the table: a connection or its TIME-WAIT.
class TcpHandler : public Endpoint {
 public:
  using Endpoint::Endpoint;
  // The packet starts with the TCP header. Without locks.
  virtual void OnSegment(PacketPtr packet, const TcpHeader& header) = 0;
  virtual TimeWait* AsTimeWait() { return nullptr; }
  virtual TcpEndpoint* AsConnection() { return nullptr; }
};

class TcpTable {
 public:
  explicit TcpTable(Stack& stack) : stack_(stack) {}
  void Receive(PacketPtr packet);
  void OnIcmpError(const IcmpError& error, const SocketAddress& local, const SocketAddress& remote);
  PortTable& ports() { return ports_; }

  RefPtr<TcpHandler> Find(const FourTuple& tuple) const;
  // False: the tuple is taken. `replaced`: a TIME-WAIT that stood there and may be replaced goes here.
  bool Insert(const FourTuple& tuple, TcpHandler& handler, RefPtr<TimeWait>* replaced);
  // Only if `handler` is what is there.
  void Remove(const FourTuple& tuple, TcpHandler& handler);
  // Whether a connection could take the tuple now.
  bool IsFree(const FourTuple& tuple) const;
  // Puts `next` in the place of `previous`.
  void Replace(const FourTuple& tuple, TcpHandler& previous, TcpHandler& next);
  void ForEach(const std::function<void(TcpHandler&)>& visit) const;

  // A RST that answers a segment nobody wants (RFC 9293, 3.10.7.1).
  void SendReset(const Packet& about, const TcpHeader& header);
  // A segment without data, outside of a connection's own output.
  void SendControl(const FourTuple& tuple, TcpHeader header, uint32_t interface);

  std::atomic<int>& time_wait_count() { return time_wait_count_; }
  std::atomic<int>& orphan_count() { return orphan_count_; }
  std::atomic<int>& endpoint_count() { return endpoint_count_; }

 private:
  struct Hasher {
    size_t operator()(const FourTuple& tuple) const { return tuple.Hash(0); }
  };
  struct Shard {
    mutable Mutex mu{LockRank::kNetTable};
    std::unordered_map<FourTuple, RefPtr<TcpHandler>, Hasher> map ABSL_GUARDED_BY(mu);
  };
  static constexpr size_t kShards = 64;
  Shard& ShardOf(const FourTuple& tuple) const;
  bool MayReplace(TcpHandler& handler) const;

  Stack& stack_;
  PortTable ports_;
  mutable std::array<Shard, kShards> shards_;
  std::atomic<int> time_wait_count_{0}, orphan_count_{0}, endpoint_count_{0};
};

// TIME-WAIT (RFC 9293, 3.10.7.4; RFC 6191), without the weight of a connection.
class TimeWait final : public TcpHandler {
 public:
  struct State {
    FourTuple tuple;
    uint32_t receive_next = 0, send_next = 0;
    uint16_t window = 0;
    bool has_timestamp = false;
    uint32_t timestamp_recent = 0, timestamp_offset = 0;
    uint32_t interface = 0;
    uid_t uid = 0;
    uint16_t port_owner = 0;  // the local port whose user is taken over
    bool reuse_address = false, reuse_port = false;
  };
  static constexpr int64_t kLengthNs = 60'000'000'000;

  TimeWait(Stack& stack, bool v6, const State& state);
  ~TimeWait() override;
  // After it is in the table.
  void Start();
  void OnSegment(PacketPtr packet, const TcpHeader& header) override;
  void OnTimer(int64_t now_ns) override;
  TimeWait* AsTimeWait() override { return this; }
  void set_observer(RefPtr<Observer>) override {}
  void OnIcmpError(const IcmpError&, const SocketAddress&, const SocketAddress&) override {}
  // Leaves the table and the port.
  void End();
  const State& state() const { return state_; }
  PortUser& port_user() { return user_; }
  // A new connection may take over (RFC 6191): `age_ns` at least.
  bool MayReuse(int64_t now_ns) const;

 private:
  const State state_;
  PortUser user_;
  std::atomic<int64_t> expires_ns_{0}, started_ns_{0};
  std::atomic<bool> ended_{false};
};

}  // namespace sentry::net

#endif  // SENTRY_NET_TCP_TCP_TABLE_H_
