// SPDX-License-Identifier: Apache-2.0
// A network namespace's TCP/IP stack: interfaces and routes, the way of packets in and out, and the tables of
// endpoints. It knows nothing of tasks or files. Thread-safe.
//
// Locks, outer first: an endpoint (kSocket) → a listener's queue (kNetListen) → tables, configuration (kNetTable) →
// timers (kNetTimer) → a link's queue (kNetDevice). One endpoint at a time: what concerns another is deferred
// (deferred.h).
#ifndef SENTRY_NET_STACK_H_
#define SENTRY_NET_STACK_H_

#include <array>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "sentry/net/config.h"
#include "sentry/net/endpoint.h"
#include "sentry/net/port_table.h"
#include "sentry/net/reassembly.h"
#include "sentry/net/statistics.h"
#include "sentry/net/timer.h"

namespace sentry::net {

class DatagramEndpoint;
class TcpTable;

// sysctl net.ipv4.*; written by the layer above at any time.
struct Settings {
  std::atomic<int> default_ttl{64}, default_hop_limit{64};
  std::atomic<int> port_low{32768}, port_high{60999};
  std::atomic<int> somaxconn{4096}, max_syn_backlog{512};
  std::atomic<int> tcp_syn_retries{6}, tcp_synack_retries{5}, tcp_retries2{15}, tcp_orphan_retries{8};
  std::atomic<int> tcp_keepalive_time{7200}, tcp_keepalive_interval{75}, tcp_keepalive_probes{9};
  std::atomic<int> tcp_fin_timeout{60};
  std::atomic<int> tcp_receive_default{131072}, tcp_receive_max{6291456};
  std::atomic<int> tcp_send_default{16384}, tcp_send_max{4194304};
  std::atomic<int> tcp_sack{1}, tcp_timestamps{1}, tcp_window_scaling{1}, tcp_reuse_time_wait{2};
  std::atomic<int> tcp_max_time_wait{16384};
  std::atomic<bool> tcp_default_reno{false};
  std::atomic<bool> echo_ignore_all{false};
  // Packets for others are passed on (net.ipv4.ip_forward, net.ipv6.conf.all.forwarding).
  std::atomic<bool> forwarding{false}, forwarding6{false};
  // net.ipv4.ping_group_range.
  std::atomic<uint32_t> ping_group_low{1}, ping_group_high{0};
};

// What IP output needs to know beside the packet's own bytes.
struct OutputOptions {
  uint8_t protocol = 0, ttl = 64, traffic_class = 0;
  bool dont_fragment = false;
  bool multicast_loop = false;
  uint32_t flow_label = 0;
};

// What is said of a frame beside its bytes.
struct FrameInfo {
  uint32_t interface = 0;
  uint16_t protocol = 0;       // ETH_P_*
  uint8_t type = 0;            // PACKET_HOST, PACKET_OUTGOING, … (linux/if_packet.h)
  uint16_t hardware_type = 1;  // ARPHRD_*
};

// Sees the frames of all links of a stack. Thread-safe.
class FrameTap : public RefCounted<FrameTap> {
 public:
  virtual ~FrameTap() = default;
  // `header`: Ethernet's. Possibly with an endpoint's lock held: it queues.
  virtual void OnFrame(const FrameInfo& info, std::span<const uint8_t> header, const Packet& packet) = 0;
};

// Something inside the stack that gets the datagrams to one address and port before sockets are asked. Thread-safe.
class UdpService : public RefCounted<UdpService> {
 public:
  virtual ~UdpService() = default;
  // Within no lock of the stack.
  virtual void Receive(const SocketAddress& from, Buffer data) = 0;
};

class Stack : public RefCounted<Stack> {
 public:
  // With an interface `lo`, which is down.
  explicit Stack(RefPtr<Environment> environment);
  ~Stack();

  // --- Configuration
  // A snapshot; cheap, as each thread keeps the last one it saw.
  std::shared_ptr<const Config> config() const;
  uint64_t config_generation() const { return generation_.load(std::memory_order_acquire); }
  // `change` works on a copy; an error leaves things as they were.
  Result<void> Change(const std::function<Result<void>(Config&)>& change);
  // From now on Change answers EPERM: the configuration is somebody else's.
  bool is_frozen() const { return frozen_.load(std::memory_order_relaxed); }
  void Freeze() { frozen_.store(true, std::memory_order_relaxed); }
  // The new interface's index.
  uint32_t AddInterface(Interface interface);

  // --- Packets in: from a link, starting with the IP header. Within no lock.
  void Receive(uint32_t interface, PacketPtr packet);

  // --- Packets out: adds the IP header to a transport header and payload. May be called with an endpoint's lock.
  // EMSGSIZE: larger than the path's MTU and not to be fragmented.
  Result<void> Send(PacketPtr packet, const Path& path, const OutputOptions& options);
  // A packet with its IP header (IP_HDRINCL).
  Result<void> SendRaw(PacketPtr packet, const Path& path);
  // A UDP datagram of no socket's.
  Result<void> SendUdp(const SocketAddress& from, const SocketAddress& to, Buffer data);
  // An ICMP error about a packet received, if one may be sent (RFC 1812, 4.3.2.7; RFC 4443, 2.4).
  void SendIcmpError(const Packet& about, uint8_t type, uint8_t code, uint32_t extra = 0);

  Environment& environment() { return *environment_; }
  int64_t NowNs() { return environment_->NowNs(); }
  TimerQueue& timers() { return timers_; }
  void RunTimers();
  Settings& settings() { return settings_; }
  Statistics& statistics() { return statistics_; }
  IpStatistics& ip_statistics(bool v4) { return v4 ? statistics_.ip4 : statistics_.ip6; }
  UdpStatistics& udp_statistics(bool v4, bool lite) {
    return lite ? v4 ? statistics_.udplite4 : statistics_.udplite6 : v4 ? statistics_.udp4 : statistics_.udp6;
  }
  PortTable& udp_ports() { return udp_ports_; }
  PortTable& udplite_ports() { return udplite_ports_; }
  PortTable& ping_ports() { return ping_ports_; }
  TcpTable& tcp() { return *tcp_; }
  uint64_t hash_secret() const { return hash_secret_; }
  // Never used again, unlike the address.
  uint64_t id() const { return id_; }
  // What this stack calls another one's namespace (NETNSA_NSID), if it has a number for it or `assign`; else -1.
  int NumberOf(uint64_t other_stack, bool assign);

  // At most one; before packets come.
  void SetUdpService(const SocketAddress& at, RefPtr<UdpService> service) {
    udp_service_at_ = at;
    udp_service_ = std::move(service);
    has_udp_service_.store(true, std::memory_order_release);
  }
  // Null: none there.
  UdpService* FindUdpService(const IpAddress& ip, uint16_t port) const {
    const bool found = has_udp_service_.load(std::memory_order_acquire) && udp_service_at_ == SocketAddress{ip, port};
    return found ? udp_service_.get() : nullptr;
  }

  void AddTap(RefPtr<FrameTap> tap);
  void RemoveTap(FrameTap& tap);
  bool has_taps() const { return tap_count_.load(std::memory_order_relaxed) != 0; }
  // All but `sender`.
  void TellTaps(const FrameInfo& info, std::span<const uint8_t> header, const Packet& packet,
                const FrameTap* sender = nullptr);

  // Raw endpoints, by their own protocol.
  void AddRaw(DatagramEndpoint& endpoint);
  void RemoveRaw(DatagramEndpoint& endpoint);
  std::vector<RefPtr<DatagramEndpoint>> RawEndpoints() const;

 private:
  friend class LoopbackLink;
  void ReceiveV4(PacketPtr packet);
  void ReceiveV6(PacketPtr packet);
  // A packet for somebody else, at its IP header (ip_forward.cc).
  void Forward(PacketPtr packet, const Config& config);
  // To raw endpoints and the protocol; the packet starts with the transport header.
  void Deliver(PacketPtr packet);
  bool DeliverRaw(const Packet& packet);
  void DeliverIcmp(PacketPtr packet);
  void DeliverIcmp6(PacketPtr packet);
  void DeliverIcmpError(Packet& packet, IcmpError error);
  void Reply(const Packet& to, PacketPtr packet, uint8_t protocol);
  Result<void> Fragment(PacketPtr packet, const Path& path, const OutputOptions& options, const Interface& out);
  void ForwardInPieces(PacketPtr packet, const Path& path, const Interface& out);
  void ForwardSegments(PacketPtr packet, const Path& path, const Interface& out);
  void PushIpHeader(Packet& packet, const Path& path, const OutputOptions& options, uint16_t id, uint16_t fragment);
  bool TakeIcmpToken();

  const RefPtr<Environment> environment_;
  const uint64_t hash_secret_;
  const uint64_t id_;  // never used again, unlike the address
  mutable Mutex config_mu_{LockRank::kNetTable};
  std::shared_ptr<const Config> config_ ABSL_GUARDED_BY(config_mu_);
  std::atomic<uint64_t> generation_{1};
  std::atomic<bool> frozen_{false};
  Mutex numbers_mu_;
  std::map<uint64_t, int> numbers_ ABSL_GUARDED_BY(numbers_mu_);
  TimerQueue timers_;
  Settings settings_;
  Statistics statistics_;
  PortTable udp_ports_, udplite_ports_, ping_ports_;
  std::unique_ptr<TcpTable> tcp_;
  Reassembler reassembler_;
  std::atomic<uint32_t> next_id_;
  std::atomic<bool> has_udp_service_{false};  // the two below are written before
  SocketAddress udp_service_at_;
  RefPtr<UdpService> udp_service_;
  std::atomic<int> raw_count_{0};
  mutable Mutex raw_mu_{LockRank::kNetTable};
  std::vector<DatagramEndpoint*> raw_ ABSL_GUARDED_BY(raw_mu_);
  std::atomic<int> tap_count_{0};
  Mutex taps_mu_{LockRank::kNetTable};
  std::vector<RefPtr<FrameTap>> taps_ ABSL_GUARDED_BY(taps_mu_);
  Mutex icmp_mu_{LockRank::kNetTable};
  int64_t icmp_tokens_ns_ ABSL_GUARDED_BY(icmp_mu_) = 0;
};

}  // namespace sentry::net

#endif  // SENTRY_NET_STACK_H_
