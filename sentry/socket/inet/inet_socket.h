// SPDX-License-Identifier: Apache-2.0
// What TCP, UDP and raw sockets have in common: addresses, IP-level options, interface ioctls, events.
#ifndef SENTRY_SOCKET_INET_INET_SOCKET_H_
#define SENTRY_SOCKET_INET_INET_SOCKET_H_

#include <string>

#include "sentry/net/endpoint.h"
#include "sentry/net/stack.h"
#include "sentry/socket/socket.h"

namespace sentry::socket {

// --- Addresses
// A sockaddr_in or sockaddr_in6 of a socket of `family`: EINVAL (too short), EAFNOSUPPORT.
Result<net::SocketAddress> ParseAddress(std::string_view bytes, int family, bool v4_allowed_on_v6);
std::string FormatAddress(const net::SocketAddress& address, int family);
inline int FamilyOf(std::string_view address) {
  sa_family_t family;
  if (address.size() < sizeof family) return -1;
  memcpy(&family, address.data(), sizeof family);
  return family;
}

// The wait queue of a socket, which an endpoint may tell after the file is gone.
class SocketEvents final : public net::Observer {
 public:
  void OnEvents(uint32_t events) override;
  WaitQueue& queue() { return queue_; }
  void set_file(vfs::FileDescription* file);
  void set_async(bool on) { async_.store(on, std::memory_order_relaxed); }

 private:
  WaitQueue queue_;
  std::atomic<bool> async_{false};
  Mutex mu_;
  vfs::FileDescription* file_ ABSL_GUARDED_BY(mu_) = nullptr;
};

class InetSocket : public Socket {
 public:
  EventMask Poll() override = 0;
  WaitQueue* wait_queue() override { return &events_->queue(); }
  Result<int64_t> Ioctl(unsigned request, uint64_t argument) override;
  Result<void> SetOption(int level, int name, std::string_view value) override;
  Result<std::string> GetOption(int level, int name) override;
  Result<void> OnSetFlags(int flags) override;
  uint64_t inode_number() const { return inode_number_; }

 protected:
  InetSocket(vfs::Path path, int flags, int family, int type, int protocol, net::Endpoint& endpoint);
  ~InetSocket() override = default;
  // The first thing that a destructor of a derived class does: no more events reach a file that comes apart, and
  // nothing of the base class touches the endpoint afterwards, which goes with the derived class.
  void Detach();
  bool is_v6() const { return domain() == AF_INET6; }
  net::IpOptions& ip() { return endpoint_.ip(); }
  net::Stack& stack() { return endpoint_.stack(); }
  const RefPtr<SocketEvents>& events() { return events_; }
  // Which control messages a receiver gets.
  struct ReceiveControl {
    std::atomic<bool> packet_info{false}, ttl{false}, tos{false}, original_destination{false}, options{false};
    std::atomic<bool> packet_info6{false}, hop_limit{false}, traffic_class{false}, original_destination6{false};
  };
  ReceiveControl control_;
  // EACCES: a port below 1024 for a caller without CAP_NET_BIND_SERVICE.
  Result<void> CheckPort(uint16_t port);
  // Options of the own protocol (SOL_TCP, SOL_UDP, SOL_RAW…).
  virtual Result<void> SetProtocolOption(int level, int name, std::string_view value) { return Errno(ENOPROTOOPT); }
  virtual Result<std::string> GetProtocolOption(int level, int name) { return Errno(ENOPROTOOPT); }
  virtual Result<void> ChangeMembership(const net::IpAddress& group, uint32_t interface, bool join) {
    return Errno(EPROTO);
  }
  // After SO_BINDTODEVICE.
  virtual void OnDeviceChanged() {}
  // For IPV6_V6ONLY.
  virtual bool IsBound() = 0;
  virtual Result<int64_t> QueueSize(unsigned request) = 0;

 private:
  Result<void> SetIpOption(int name, std::string_view value);
  Result<std::string> GetIpOption(int name);
  Result<void> SetIpv6Option(int name, std::string_view value);
  Result<std::string> GetIpv6Option(int name);
  Result<void> SetDevice(std::string_view name);

  net::Endpoint& endpoint_;  // the derived class's, which lives as long
  const RefPtr<SocketEvents> events_;
  const uint64_t inode_number_;
};

// SIOCGIF…, SIOCSIF… (EPERM unless `may_change`); ENOTTY: none of these.
Result<int64_t> InterfaceIoctl(net::Stack& stack, bool may_change, unsigned request, uint64_t argument);

Result<vfs::FileRef> NewTcpSocket(int family, int flags);
Result<vfs::FileRef> NewDatagramSocket(int family, int type, int protocol, int flags);

// AF_INET and AF_INET6, at start.
void RegisterInetSockets();

}  // namespace sentry::socket

#endif  // SENTRY_SOCKET_INET_INET_SOCKET_H_
