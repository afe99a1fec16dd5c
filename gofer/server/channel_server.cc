// SPDX-License-Identifier: Apache-2.0
#include "gofer/server/channel_server.h"

#include <pthread.h>

#include <utility>

#include "base/cleanup.h"
#include "base/log.h"
#include "gofer/protocol/host_transport.h"

namespace gofer {

using base::Errno;
using base::MutexLock;
using base::OkResult;
using base::Result;
using base::UniqueFd;

namespace {

constexpr size_t kStackSize = 512 << 10;  // deepest: a directory read (32 KiB)

struct ThreadStart {
  std::shared_ptr<ChannelServer> server;
  int socket;
  bool primary;
};

}  // namespace

ChannelServer::ChannelServer(std::shared_ptr<const HostFs> fs, UniqueFd root, const Connection::Settings& settings)
    : fs_(std::move(fs)), connection_(fs_.get(), std::move(root), settings) {}

int ChannelServer::primary_fd() const {
  MutexLock lock(mu_);
  return sockets_.empty() ? -1 : sockets_[0].get();
}

Result<void> ChannelServer::AddChannel(UniqueFd socket) {
  auto start = std::make_unique<ThreadStart>(ThreadStart{shared_from_this(), socket.get(), false});
  MutexLock lock(mu_);
  if (sockets_.size() >= static_cast<size_t>(kMaxChannels) || shut_down_) return Errno(ENFILE);
  start->primary = sockets_.empty();
  pthread_attr_t attr;
  pthread_attr_init(&attr);
  pthread_attr_setstacksize(&attr, kStackSize);
  pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
  pthread_t thread;
  int error = pthread_create(&thread, &attr, ThreadMain, start.get());
  pthread_attr_destroy(&attr);
  if (error != 0) return Errno(error);
  (void)start.release();  // the thread's now
  ++live_threads_;
  sockets_.push_back(std::move(socket));
  return OkResult();
}

void ChannelServer::Shutdown() {
  MutexLock lock(mu_);
  shut_down_ = true;
  for (UniqueFd& socket : sockets_) ShutdownSocket(socket.get());
}

bool ChannelServer::WaitUntil(int64_t deadline_ns) {
  MutexLock lock(mu_);
  while (live_threads_ > 0) {
    if (!ended_.WaitUntil(mu_, deadline_ns)) return live_threads_ == 0;
  }
  return true;
}

void* ChannelServer::ThreadMain(void* argument) {
  std::unique_ptr<ThreadStart> start(static_cast<ThreadStart*>(argument));
  ChannelServer& server = *start->server;
  Result<void> entered = server.fs_->EnterThread();
  if (entered.ok()) {
    server.Serve(start->socket, start->primary);
  } else {
    LOG_ERROR("gofer: a channel's thread can't have its own working directory: %s", entered.error().Name());
    server.Shutdown();
  }
  MutexLock lock(server.mu_);
  --server.live_threads_;
  server.ended_.NotifyAll();
  return nullptr;
}

Result<void> ChannelServer::OpenChannel(Connection::Reply* out) {
  auto [mine, theirs] = TRY(MakeSocketPair());
  TRY(AddChannel(std::move(mine)));
  out->fds.push_back(std::move(theirs));
  return OkResult();
}

void ChannelServer::Serve(int socket, bool primary) {
  std::unique_ptr<uint8_t[]> request(new uint8_t[kMaxMessage]);
  std::unique_ptr<uint8_t[]> body(new uint8_t[kMaxPayload]);
  uint64_t at = 0, wanted = 0;  // CPUs plus 1
  for (;;) {
    Result<Packet> packet = ReceivePacket(socket, {request.get(), kMaxMessage}, /*accept_fds=*/false);
    if (!packet.ok()) {
      bool hung_up = packet.error() == Errno(ECONNRESET);
      if (!hung_up) LOG_WARNING("gofer: connection closed, bad packet from the sentry: %s", packet.error().Name());
      if (primary || !hung_up) break;
      return;
    }
    // Followed when it was the same twice: a client's thread that the host moves about must not drag this one along
    // each time.
    const uint64_t hint = packet->header.tag >> kTagCpuShift;
    if (hint != 0 && hint != at && hint == wanted) {
      fs_->RunOnCpu(static_cast<int>(hint - 1));
      at = hint;
    }
    wanted = hint;
    Op op = static_cast<Op>(packet->header.code);
    Connection::Reply reply({body.get(), kMaxPayload});
    Reader in(packet->payload);
    Result<void> done = op == Op::kOpenChannel ? OpenChannel(&reply) : connection_.Handle(op, in, &reply);
    uint16_t code = done.ok() ? 0 : static_cast<uint16_t>(done.error().number());
    if (done.ok() && !reply.body.ok()) code = E2BIG;
    int fds[kMaxFdsPerMessage];
    size_t fd_count = 0;
    for (size_t i = 0; code == 0 && i < reply.fds.size(); ++i) fds[fd_count++] = reply.fds[i].get();
    auto payload = code == 0 ? reply.body.written() : std::span<const uint8_t>();
    Result<void> sent = SendPacket(socket, code, packet->header.tag, payload, {fds, fd_count});
    if (!sent.ok() && sent.error() == Errno(ETOOMANYREFS)) {
      // The sentry doesn't take its fds out of the sockets: unix(7), too many in flight.
      sent = SendPacket(socket, ETOOMANYREFS, packet->header.tag, {}, {});
    }
    if (!sent.ok()) break;
  }
  Shutdown();
}

}  // namespace gofer
