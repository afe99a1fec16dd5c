// SPDX-License-Identifier: Apache-2.0
// What every kind of internet socket has: options of the IP layer, a place in the table of ports, an observer. The
// options are atomics that output reads without a lock.
#ifndef SENTRY_NET_ENDPOINT_H_
#define SENTRY_NET_ENDPOINT_H_

#include <sys/types.h>

#include <atomic>
#include <vector>

#include "sentry/net/address.h"
#include "sentry/net/deferred.h"
#include "sentry/net/packet.h"
#include "sentry/net/timer.h"

namespace sentry::net {

class Endpoint;
class Stack;

// Ip(7) and ipv6(7) options; the values that Linux gives back.
struct IpOptions {
  std::atomic<int> ttl{-1};  // -1: the stack's default
  std::atomic<int> hop_limit{-1};
  std::atomic<int> tos{0};
  std::atomic<int> traffic_class{0};
  std::atomic<int> multicast_ttl{1}, multicast_hops{1};
  std::atomic<bool> multicast_loop{true}, multicast_loop6{true}, multicast_all{true}, multicast_all6{true};
  std::atomic<uint32_t> multicast_interface{0}, multicast_interface6{0};
  std::atomic<int> mtu_discover{1};  // IP_PMTUDISC_WANT
  std::atomic<int> mtu_discover6{1};
  std::atomic<uint32_t> device{0};  // SO_BINDTODEVICE
  std::atomic<bool> v6_only{false};
  std::atomic<bool> free_bind{false}, transparent{false};
  std::atomic<bool> header_included{false};
  std::atomic<bool> receive_errors{false}, receive_errors6{false};
  std::atomic<bool> broadcast{false};
  std::atomic<bool> bind_address_no_port{false};
  std::atomic<bool> timestamp{false};

  // What an accepted connection has of its listener.
  void InheritFrom(const IpOptions& other) {
    ttl = other.ttl.load();
    hop_limit = other.hop_limit.load();
    tos = other.tos.load();
    traffic_class = other.traffic_class.load();
    mtu_discover = other.mtu_discover.load();
    mtu_discover6 = other.mtu_discover6.load();
    device = other.device.load();
    v6_only = other.v6_only.load();
    free_bind = other.free_bind.load();
    transparent = other.transparent.load();
    receive_errors = other.receive_errors.load();
    receive_errors6 = other.receive_errors6.load();
  }
};

// A user of a port. Guarded by its table's lock once it is in there; its owner's before.
struct PortUser {
  Endpoint* endpoint = nullptr;  // null: a connection in TIME-WAIT
  IpAddress address;             // bound to
  bool dual = false;             // v6 any that takes IPv4 as well
  uint32_t device = 0;
  bool reuse_address = false, reuse_port = false, listening = false;
  bool automatic = false;  // the port was chosen for a connection, not asked for
  uid_t uid = 0;
  // Of a connected datagram socket: it takes from this peer only.
  bool connected = false;
  SocketAddress remote;
  uint16_t port = 0;  // 0: not in the table
  size_t index = 0;   // in its bucket

  // Whether packets to `destination` may be for it.
  bool Accepts(const IpAddress& destination) const {
    if (address == destination) return true;
    if (!address.IsAny()) return false;
    return destination.IsV4() ? address.IsV4() || dual : !address.IsV4();
  }
};

// An ICMP error that concerns a packet of an endpoint.
struct IcmpError {
  int error = 0;       // errno
  bool fatal = false;  // ends a connection attempt
  uint8_t type = 0, code = 0;
  bool is_v4 = true;
  uint32_t mtu = 0;  // of "packet too big"
  IpAddress offender;
  // The start of the offending packet's transport header, as much as came back.
  const uint8_t* transport = nullptr;
  size_t transport_size = 0;
};

class Endpoint : public Timed {
 public:
  // `v6`: made as AF_INET6.
  Endpoint(Stack& stack, bool v6);
  ~Endpoint() override;
  Stack& stack() const { return *stack_; }
  bool is_v6() const { return v6_; }
  IpOptions& ip() { return ip_; }
  const IpOptions& ip() const { return ip_; }
  // Before events are wanted; events that came earlier are seen by polling.
  virtual void set_observer(RefPtr<Observer> observer) = 0;
  virtual void OnIcmpError(const IcmpError& error, const SocketAddress& local, const SocketAddress& remote) = 0;
  void OnTimer(int64_t now_ns) override {}
  // Of the file, for listings; 0: it has none (any more).
  std::atomic<uint64_t> file_inode{0};
  std::atomic<uid_t> file_owner{0};

 protected:
  // TTL and traffic class for packets to `destination`.
  uint8_t TtlFor(const IpAddress& destination) const;
  uint8_t TrafficClassFor(const IpAddress& destination) const;
  // Checks an address to bind to: EADDRNOTAVAIL.
  Result<void> CheckLocal(const IpAddress& ip, uint32_t scope) const;

 private:
  const RefPtr<Stack> stack_;
  const bool v6_;
  IpOptions ip_;
};

}  // namespace sentry::net

#endif  // SENTRY_NET_ENDPOINT_H_
