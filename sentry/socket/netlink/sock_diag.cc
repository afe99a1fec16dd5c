// SPDX-License-Identifier: Apache-2.0
// NETLINK_SOCK_DIAG (sock_diag(7)): what `ss` asks about TCP and UDP.
#include <linux/inet_diag.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>

#include "sentry/net/datagram.h"
#include "sentry/net/tcp/tcp_endpoint.h"
#include "sentry/socket/netlink/netlink_socket.h"

namespace sentry::socket {
namespace {

struct Subject {
  bool v6;
  uint8_t state;
  net::SocketAddress local, remote;
  uint64_t inode = 0;
  uid_t uid = 0;
  size_t receive_queue = 0, send_queue = 0;
  uint8_t timer = 0, retransmits = 0;
  uint32_t expires_ms = 0;
  const net::TcpEndpoint* tcp = nullptr;
};

std::string Message(const Subject& s, const inet_diag_req_v2& wanted, uint32_t sequence, uint32_t port) {
  inet_diag_msg body = {};
  body.idiag_family = s.v6 ? AF_INET6 : AF_INET;
  body.idiag_state = s.state;
  body.idiag_timer = s.timer;
  body.idiag_retrans = s.retransmits;
  body.id.idiag_sport = htons(s.local.port);
  body.id.idiag_dport = htons(s.remote.port);
  memcpy(body.id.idiag_src, s.v6 ? s.local.ip.v6_bytes() : s.local.ip.v4_bytes(), s.v6 ? 16 : 4);
  memcpy(body.id.idiag_dst, s.v6 ? s.remote.ip.v6_bytes() : s.remote.ip.v4_bytes(), s.v6 ? 16 : 4);
  body.id.idiag_cookie[0] = static_cast<uint32_t>(s.inode);
  body.idiag_expires = s.expires_ms;
  body.idiag_rqueue = static_cast<uint32_t>(s.receive_queue);
  body.idiag_wqueue = static_cast<uint32_t>(s.send_queue);
  body.idiag_uid = s.uid;
  body.idiag_inode = static_cast<uint32_t>(s.inode);
  MessageBuilder m(SOCK_DIAG_BY_FAMILY, NLM_F_MULTI, sequence, port, body);
  const auto asked = [&](int extension) { return wanted.idiag_ext >> (extension - 1) & 1; };
  m.Put(INET_DIAG_SHUTDOWN, uint8_t{0});
  if (asked(INET_DIAG_MEMINFO)) {
    const inet_diag_meminfo info = {.idiag_rmem = body.idiag_rqueue, .idiag_wmem = body.idiag_wqueue};
    m.Put(INET_DIAG_MEMINFO, info);
  }
  if (asked(INET_DIAG_SKMEMINFO)) {
    uint32_t memory[SK_MEMINFO_VARS] = {};
    memory[SK_MEMINFO_RMEM_ALLOC] = body.idiag_rqueue;
    memory[SK_MEMINFO_WMEM_QUEUED] = body.idiag_wqueue;
    m.Put(INET_DIAG_SKMEMINFO, memory, sizeof memory);
  }
  if (s.tcp && asked(INET_DIAG_CONG)) m.PutString(INET_DIAG_CONG, s.tcp->options().reno ? "reno" : "cubic");
  if (s.tcp && asked(INET_DIAG_INFO)) m.Put(INET_DIAG_INFO, s.tcp->Info());
  return m.Finish();
}

void Tcp(net::Stack& stack, const std::function<void(const Subject&)>& add) {
  const auto connection = [&](const net::TcpEndpoint& e) {
    const net::TcpEndpoint::Snapshot s = e.TakeSnapshot();
    if (s.state == net::TcpState::kClosed) return;
    add({.v6 = e.is_v6(),
         .state = static_cast<uint8_t>(s.state),
         .local = s.local,
         .remote = s.remote,
         .inode = e.file_inode,
         .uid = e.file_owner,
         .receive_queue = s.receive_queue,
         .send_queue = s.send_queue,
         .timer = static_cast<uint8_t>(s.timer),
         .retransmits = static_cast<uint8_t>(s.retransmits),
         .expires_ms = static_cast<uint32_t>(s.timer_ns / net::kNsPerMs),
         .tcp = &e});
  };
  for (const auto& e : stack.tcp().ports().All(true)) connection(static_cast<net::TcpEndpoint&>(*e));
  stack.tcp().ForEach([&](net::TcpHandler& h) {
    if (const net::TcpEndpoint* e = h.AsConnection()) return connection(*e);
    const net::FourTuple& t = h.AsTimeWait()->state().tuple;
    add({.v6 = h.is_v6(),
         .state = static_cast<uint8_t>(net::TcpState::kTimeWait),
         .local = {t.local, t.local_port},
         .remote = {t.remote, t.remote_port},
         .timer = 3});
  });
}

void Udp(net::Stack& stack, const std::function<void(const Subject&)>& add) {
  for (const auto& endpoint : stack.udp_ports().All(false)) {
    const auto& e = static_cast<net::DatagramEndpoint&>(*endpoint);
    const auto remote = e.remote();
    add({.v6 = e.is_v6(),
         .state = static_cast<uint8_t>(remote ? 1 : 7),
         .local = e.local(),
         .remote = remote.value_or(net::SocketAddress{net::IpAddress::Any(!e.is_v6()), 0}),
         .inode = e.file_inode,
         .uid = e.file_owner,
         .receive_queue = e.QueuedBytes()});
  }
}

}  // namespace

Result<void> HandleDiag(NetlinkSocket& socket, const NetlinkRequest& request) {
  if (request.header.nlmsg_type != SOCK_DIAG_BY_FAMILY) return Errno(EINVAL);
  // Each family's request has a length of its own; of those without a handler ss(8) reads /proc/net.
  const auto any = TRY(request.Body<sock_diag_req>());
  if (any.sdiag_family == AF_UNIX) return HandleUnixDiag(socket, request);
  if (any.sdiag_family != AF_INET && any.sdiag_family != AF_INET6) return Errno(ENOENT);
  const auto wanted = TRY(request.Body<inet_diag_req_v2>());
  if (wanted.sdiag_protocol != IPPROTO_TCP && wanted.sdiag_protocol != IPPROTO_UDP) return Errno(ENOENT);
  if (!request.IsDump()) return Errno(EOPNOTSUPP);
  std::vector<std::string> all;
  const bool v6 = wanted.sdiag_family == AF_INET6;
  const auto add = [&](const Subject& s) {
    if (s.v6 != v6 || !(wanted.idiag_states >> s.state & 1)) return;
    if (wanted.id.idiag_sport && ntohs(wanted.id.idiag_sport) != s.local.port) return;
    if (wanted.id.idiag_dport && ntohs(wanted.id.idiag_dport) != s.remote.port) return;
    all.push_back(Message(s, wanted, request.header.nlmsg_seq, socket.port()));
  };
  if (wanted.sdiag_protocol == IPPROTO_TCP)
    Tcp(socket.stack(), add);
  else
    Udp(socket.stack(), add);
  socket.AnswerDump(request, std::move(all));
  return OkResult();
}

}  // namespace sentry::socket
