// SPDX-License-Identifier: Apache-2.0
// Endpoints that keep message boundaries: UDP and UDP-Lite, raw IP, and echo ("ping") sockets. Thread-safe; locks in
// stack.h.
#ifndef SENTRY_NET_DATAGRAM_H_
#define SENTRY_NET_DATAGRAM_H_

#include <optional>
#include <vector>

#include "sentry/net/config.h"
#include "sentry/net/endpoint.h"
#include "sentry/net/filter.h"
#include "sentry/net/ring.h"
#include "sentry/net/stack.h"

namespace sentry::net {

struct Datagram {
  Buffer data;
  SocketAddress from;
  IpAddress to;
  uint16_t to_port = 0;
  uint32_t interface = 0;
  uint8_t ttl = 0, traffic_class = 0;
  int64_t received_ns = 0;  // CLOCK_REALTIME
  size_t charge = 0;
};

// Of the error queue (IP_RECVERR): what became of a packet sent.
struct QueuedError {
  IcmpError error;     // without `transport`
  uint8_t origin = 0;  // SO_EE_ORIGIN_*
  SocketAddress destination;
  Buffer data;
};

class DatagramEndpoint final : public Endpoint {
 public:
  enum class Kind { kUdp, kRaw, kPing };
  // `protocol`: of a raw endpoint what it takes; of others their own.
  DatagramEndpoint(Stack& stack, bool v6, Kind kind, int protocol);
  ~DatagramEndpoint() override;
  Kind kind() const { return kind_; }
  int protocol() const { return protocol_; }

  // --- Names
  struct BindOptions {
    bool reuse_address = false, reuse_port = false;
    uid_t uid = 0;
  };
  // EINVAL (bound already), EADDRINUSE, EADDRNOTAVAIL. Port 0: any.
  Result<void> Bind(const SocketAddress& address, const BindOptions& options);
  // Sets the only peer, and a local address if there is none.
  Result<void> Connect(const SocketAddress& remote, const BindOptions& options);
  // connect(2) with AF_UNSPEC.
  void Disconnect();
  void OnOptionsChanged(const BindOptions& options);
  SocketAddress local() const;
  std::optional<SocketAddress> remote() const;
  bool is_bound() const;

  // --- Data
  struct SendOptions {
    std::optional<SocketAddress> to;
    // IP_PKTINFO, IP_TTL, IP_TOS of one message.
    std::optional<IpAddress> source;
    uint32_t interface = 0;
    int ttl = -1, traffic_class = -1;
    bool dont_route = false;
    bool confirm = false;
  };
  // EDESTADDRREQ, EACCES (broadcast), EMSGSIZE, ENETUNREACH, a pending error…
  Result<size_t> Send(Buffer data, const SendOptions& options, const BindOptions& bind);
  // The first message, taken or (`peek`) shared; EAGAIN, a pending error.
  Result<Datagram> Receive(bool peek);
  Result<QueuedError> TakeQueuedError();
  // Bytes of the first message; 0 if none.
  size_t NextSize() const;
  size_t QueuedBytes() const;
  // Whether a receiver that finds nothing is at the end.
  bool IsReceiveShutdown() const;

  // SHUT_*; ENOTCONN.
  Result<void> Shutdown(int how);
  // Leaves all tables.
  void Close();
  uint32_t Poll() const;
  int TakeError();
  void set_receive_limit(size_t bytes) { receive_limit_.store(bytes, std::memory_order_relaxed); }
  void set_observer(RefPtr<Observer> observer) override;
  void OnIcmpError(const IcmpError& error, const SocketAddress& local, const SocketAddress& remote) override;
  uint64_t drops() const { return drops_.load(std::memory_order_relaxed); }

  // --- Multicast: EADDRINUSE, EADDRNOTAVAIL, ENODEV, ENOBUFS.
  Result<void> JoinGroup(const IpAddress& group, uint32_t interface);
  Result<void> LeaveGroup(const IpAddress& group, uint32_t interface);

  // --- UDP-Lite only: how much of a message, with its header, the checksum covers (0: all of it; -1: the same, said by
  // its length), and how much of one that is taken it must cover (0: all of it; -1: whatever).
  bool is_lite() const { return kind_ == Kind::kUdp && protocol_ != kUdpProtocol; }
  std::atomic<int> send_coverage{-1}, receive_coverage{-1};

  // --- Raw only
  // ICMP_FILTER: a bit per type that is not wanted.
  void set_icmp_filter(const std::array<uint32_t, 8>& filter);
  std::array<uint32_t, 8> icmp_filter() const;
  // IPV6_CHECKSUM: the offset, -1: none.
  std::atomic<int> checksum_offset{-1};
  // A packet after its network header; whether this endpoint wants its protocol.
  bool ReceiveRaw(const Packet& packet);

  // Which messages are taken, and how much of them; null: all.
  void set_filter(RefPtr<Filter> filter);
  bool has_filter() const;

  // From the stack: a message for this endpoint. `data_at`: where in `packet.head` its first byte was; the transport
  // header, of `header` bytes, is before it unless it is part of the data (0).
  void Deliver(const Packet& packet, Buffer data, const SocketAddress& from, uint16_t to_port, size_t data_at,
               size_t header);
  bool IsMember(const IpAddress& group, uint32_t interface) const;

 private:
  static constexpr int kUdpProtocol = 17;
  struct Membership {
    IpAddress group;
    uint32_t interface;
  };
  PortTable* ports() const;
  Result<void> AutoBindLocked(const BindOptions& options) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  Result<Path> RouteLocked(const SocketAddress& to, const SendOptions& options) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  int TakeErrorLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  Result<void> SendIncluded(Buffer data, Path path, const SocketAddress& to);
  void AddHeader(Packet& packet, const SocketAddress& to, uint16_t port, bool checksum);

  const Kind kind_;
  const int protocol_;
  mutable Mutex mu_{LockRank::kSocket};
  RefPtr<Observer> observer_ ABSL_GUARDED_BY(mu_);
  PortUser user_;                            // its address and peer are also guarded by mu_
  bool bound_ ABSL_GUARDED_BY(mu_) = false;  // has a port, or (raw) an address
  bool address_by_connect_ ABSL_GUARDED_BY(mu_) = false;
  std::optional<SocketAddress> remote_ ABSL_GUARDED_BY(mu_);
  Ring<Datagram> queue_ ABSL_GUARDED_BY(mu_);
  Ring<QueuedError> errors_ ABSL_GUARDED_BY(mu_);
  size_t charged_ ABSL_GUARDED_BY(mu_) = 0;
  int error_ ABSL_GUARDED_BY(mu_) = 0;
  bool receive_shutdown_ ABSL_GUARDED_BY(mu_) = false, send_shutdown_ ABSL_GUARDED_BY(mu_) = false;
  bool closed_ ABSL_GUARDED_BY(mu_) = false;
  std::vector<Membership> memberships_ ABSL_GUARDED_BY(mu_);
  RefPtr<Filter> filter_ ABSL_GUARDED_BY(mu_);
  std::array<uint32_t, 8> icmp_filter_ ABSL_GUARDED_BY(mu_) = {};
  std::atomic<size_t> receive_limit_{212992};
  std::atomic<uint64_t> drops_{0};
};

// UDP or UDP-Lite.
void ReceiveUdp(Stack& stack, PacketPtr packet);
// An echo reply.
void ReceivePing(Stack& stack, const Packet& packet);

}  // namespace sentry::net

#endif  // SENTRY_NET_DATAGRAM_H_
