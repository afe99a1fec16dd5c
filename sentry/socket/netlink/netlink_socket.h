// SPDX-License-Identifier: Apache-2.0
// AF_NETLINK (netlink(7)): requests are answered at once into the socket's own queue. ROUTE and SOCK_DIAG are served;
// KOBJECT_UEVENT can be listened to and stays silent.
#ifndef SENTRY_SOCKET_NETLINK_NETLINK_SOCKET_H_
#define SENTRY_SOCKET_NETLINK_NETLINK_SOCKET_H_

#include <string>
#include <vector>

#include "sentry/net/ring.h"
#include "sentry/net/stack.h"
#include "sentry/socket/netlink/message.h"
#include "sentry/socket/socket.h"

namespace sentry::socket {

class NetlinkSocket final : public Socket {
 public:
  NetlinkSocket(vfs::Path path, int flags, int type, int protocol, RefPtr<net::Stack> stack);
  ~NetlinkSocket() override;

  Result<void> Bind(std::string_view address) override;
  Result<void> Connect(std::string_view address, bool nonblocking, WaitOn*) override;
  Result<std::string> GetName() override;
  Result<std::string> GetPeer() override;
  Result<size_t> Send(SendRequest& request) override;
  Result<size_t> Receive(ReceiveRequest& request) override;
  Result<void> SetOption(int level, int name, std::string_view value) override;
  Result<std::string> GetOption(int level, int name) override;
  EventMask Poll() override;
  WaitQueue* wait_queue() override { return &queue_; }
  Result<int64_t> Ioctl(unsigned request, uint64_t argument) override;
  bool RaisesSigpipe() const override { return false; }

  net::Stack& stack() { return *stack_; }
  uint32_t port() const {
    MutexLock lock(mu_);
    return port_;
  }
  // Packs a dump's messages into datagrams and ends it.
  void AnswerDump(const NetlinkRequest& request, std::vector<std::string> messages);
  // One message as one datagram, from the kernel. `group`: 0, or the one it was sent to.
  void Queue(std::string datagram, uint32_t group = 0);
  bool IsMember(uint32_t group) const {
    MutexLock lock(mu_);
    return group <= 32 && (groups_ >> (group - 1) & 1);
  }

 private:
  struct Message {
    std::string data;
    uint32_t group = 0;
  };
  int TakeError() override;
  Result<void> AutoBindLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Handle(const NetlinkRequest& request);
  void Acknowledge(const NetlinkRequest& request, int error);

  const RefPtr<net::Stack> stack_;
  WaitQueue queue_;
  mutable Mutex mu_{LockRank::kSocket};
  uint32_t port_ ABSL_GUARDED_BY(mu_) = 0;
  uint32_t groups_ ABSL_GUARDED_BY(mu_) = 0;
  net::Ring<Message> messages_ ABSL_GUARDED_BY(mu_);
  size_t queued_ ABSL_GUARDED_BY(mu_) = 0;
  int error_ ABSL_GUARDED_BY(mu_) = 0;
  std::atomic<bool> packet_info_{false}, capped_ack_{false}, extended_ack_{false}, strict_{false}, no_enobufs_{false};
};

// NETLINK_ROUTE, NETLINK_SOCK_DIAG: answers are queued; an error is for the caller to tell.
Result<void> HandleRoute(NetlinkSocket& socket, const NetlinkRequest& request);
Result<void> HandleDiag(NetlinkSocket& socket, const NetlinkRequest& request);
Result<void> HandleUnixDiag(NetlinkSocket& socket, const NetlinkRequest& request);  // of family AF_UNIX
// Tells the members of a multicast group of the stack's namespace.
void NotifyGroup(net::Stack& stack, uint32_t group, const std::string& message);

// At start.
void RegisterNetlinkSockets();

}  // namespace sentry::socket

#endif  // SENTRY_SOCKET_NETLINK_NETLINK_SOCKET_H_
