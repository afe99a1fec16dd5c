// SPDX-License-Identifier: Apache-2.0
// NETLINK_SOCK_DIAG of family AF_UNIX (sock_diag(7)): all sockets of the caller's network namespace, or one by its
// inode.
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <sys/socket.h>

#include "sentry/socket/netlink/netlink_socket.h"
#include "sentry/socket/unix/unix_socket.h"

namespace sentry::socket {
namespace {

std::string Describe(const UnixDiagnosis& d, const NetlinkRequest& request, const unix_diag_req& wanted,
                     uint32_t port) {
  unix_diag_msg body = {};
  body.udiag_family = AF_UNIX;
  body.udiag_type = static_cast<uint8_t>(d.type);
  body.udiag_state = d.state;
  body.udiag_ino = body.udiag_cookie[0] = static_cast<uint32_t>(d.inode);
  MessageBuilder m(SOCK_DIAG_BY_FAMILY, request.IsDump() ? NLM_F_MULTI : 0, request.header.nlmsg_seq, port, body);
  const auto asked = [&](uint32_t what) { return (wanted.udiag_show & what) != 0; };
  if (asked(UDIAG_SHOW_NAME) && !d.name.empty()) m.Put(UNIX_DIAG_NAME, d.name.data(), d.name.size());
  if (asked(UDIAG_SHOW_PEER) && d.peer_inode) m.Put(UNIX_DIAG_PEER, static_cast<uint32_t>(d.peer_inode));
  constexpr uint8_t kListening = 10;
  if (asked(UDIAG_SHOW_ICONS) && d.state == kListening && !d.pending.empty()) {
    const std::vector<uint32_t> inodes(d.pending.begin(), d.pending.end());
    m.Put(UNIX_DIAG_ICONS, inodes.data(), std::min<size_t>(inodes.size(), 8192) * sizeof(uint32_t));
  }
  if (asked(UDIAG_SHOW_RQLEN)) {
    const unix_diag_rqlen lengths = {.udiag_rqueue = static_cast<uint32_t>(d.receive_queue),
                                     .udiag_wqueue = static_cast<uint32_t>(d.send_queue)};
    m.Put(UNIX_DIAG_RQLEN, lengths);
  }
  if (asked(UDIAG_SHOW_MEMINFO)) {
    uint32_t memory[SK_MEMINFO_VARS] = {};
    if (d.state != kListening) memory[SK_MEMINFO_WMEM_ALLOC] = static_cast<uint32_t>(d.send_queue);
    m.Put(UNIX_DIAG_MEMINFO, memory, sizeof memory);
  }
  m.Put(UNIX_DIAG_SHUTDOWN, d.shutdown);
  return m.Finish();
}

}  // namespace

Result<void> HandleUnixDiag(NetlinkSocket& socket, const NetlinkRequest& request) {
  const auto wanted = TRY(request.Body<unix_diag_req>());
  std::vector<std::string> all;
  for (const UnixDiagnosis& d : DiagnoseUnixSockets()) {
    if (request.IsDump()) {
      if (wanted.udiag_states >> d.state & 1) all.push_back(Describe(d, request, wanted, socket.port()));
    } else if (d.inode && static_cast<uint32_t>(d.inode) == wanted.udiag_ino) {
      const bool any = wanted.udiag_cookie[0] == ~0u && wanted.udiag_cookie[1] == ~0u;
      if (!any && (wanted.udiag_cookie[0] != wanted.udiag_ino || wanted.udiag_cookie[1] != 0)) return Errno(ESTALE);
      socket.Queue(Describe(d, request, wanted, socket.port()));
      return OkResult();
    }
  }
  if (!request.IsDump()) return Errno(wanted.udiag_ino ? ENOENT : EINVAL);
  socket.AnswerDump(request, std::move(all));
  return OkResult();
}

}  // namespace sentry::socket
