// SPDX-License-Identifier: Apache-2.0
// What /proc/net/unix and sock_diag(7) show of an endpoint.
#include <stddef.h>
#include <sys/un.h>

#include <algorithm>

#include "sentry/socket/unix/endpoint.h"
#include "sentry/socket/unix/unix_socket.h"

namespace sentry::socket {

uint64_t UnixEndpoint::InodeLocked() const {
  UnixSocket* file = file_.load(std::memory_order_acquire);
  return file ? file->inode_number() : 0;
}

std::string UnixEndpoint::ProcLine() const {
  MutexLock lock(mu_);
  // SS_UNCONNECTED, SS_CONNECTED; __SO_ACCEPTCON.
  char line[96];
  snprintf(line, sizeof line, "%016x: %08X %08X %08X %04X %02X %5lu", 0, 2, 0,
           state_ == State::kListening ? 0x10000u : 0u, static_cast<unsigned>(type_),
           state_ == State::kConnected ? 3 : 1, InodeLocked());
  std::string text = line;
  if (address_) {
    std::string name = address_->bytes.substr(offsetof(sockaddr_un, sun_path));
    const bool is_abstract = name.front() == '\0';
    if (!is_abstract) name.pop_back();
    std::replace(name.begin(), name.end(), '\0', '@');
    text += ' ' + name;
  }
  return text + '\n';
}

UnixDiagnosis UnixEndpoint::Diagnose() const {
  constexpr uint8_t kEstablished = 1, kClosed = 7, kListening = 10;  // of TCP
  UnixDiagnosis d;
  RefPtr<UnixEndpoint> peer;
  std::vector<RefPtr<UnixEndpoint>> pending;
  d.type = type_;
  d.send_queue = SentBytes();
  {
    MutexLock lock(mu_);
    d.state = state_ == State::kListening ? kListening : state_ == State::kConnected ? kEstablished : kClosed;
    d.inode = InodeLocked();
    d.shutdown = static_cast<uint8_t>(shutdown_);
    if (address_) d.name = address_->bytes.substr(offsetof(sockaddr_un, sun_path));
    peer = peer_;
    if (state_ == State::kListening) {
      pending.assign(connections_.begin(), connections_.end());
      d.receive_queue = pending.size();
      d.send_queue = backlog_;
    } else {
      auto& messages = const_cast<MessageList&>(messages_);
      d.receive_queue = IsConnectionBased() ? messages.bytes() : messages.empty() ? 0 : messages.front()->size();
    }
  }
  auto inode_of = [](const RefPtr<UnixEndpoint>& endpoint) {
    if (!endpoint) return uint64_t{0};
    MutexLock lock(endpoint->mu_);
    return endpoint->InodeLocked();
  };
  d.peer_inode = inode_of(peer);
  for (const RefPtr<UnixEndpoint>& connection : pending) {
    RefPtr<UnixEndpoint> client;
    {
      MutexLock lock(connection->mu_);
      client = connection->peer_;
    }
    d.pending.push_back(inode_of(client));
  }
  return d;
}

}  // namespace sentry::socket
