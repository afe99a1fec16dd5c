// SPDX-License-Identifier: Apache-2.0
#include "shim/ttrpc/server.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>

#include <atomic>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "base/mutex.h"
#include "shim/proto/ttrpc.pb.h"
#include "shim/thread.h"
#include "shim/ttrpc/frame.h"

namespace shim::ttrpc {

struct Server::State {
  base::UniqueFd listener;
  Handler handler;
  std::atomic<int> calls{0};
  std::atomic<int> connections{0};
};

struct Server::Connection {
  base::UniqueFd socket;
  base::Mutex write_mu;  // one frame at a time

  void Answer(uint32_t stream, const absl::StatusOr<std::string>& result) {
    pb::RpcResponse response;
    if (result.ok()) {
      response.set_payload(*result);
    } else {
      response.mutable_status()->set_code(static_cast<int>(result.status().code()));
      response.mutable_status()->set_message(std::string(result.status().message()));
    }
    Frame frame{.stream = stream, .type = FrameType::kResponse};
    response.SerializeToString(&frame.payload);
    base::MutexLock lock(write_mu);
    // A peer that has gone asks again, of a new connection.
    if (auto status = Write(socket.get(), frame); !status.ok()) {
      LOG_DEBUG("%s", std::string(status.message()).c_str());
    }
  }
};

Server::Server(base::UniqueFd listener, Handler handler) : state_(std::make_shared<State>()) {
  state_->listener = std::move(listener);
  state_->handler = std::move(handler);
}

void Server::Read(std::shared_ptr<State> state, std::shared_ptr<Connection> connection) {
  uint32_t last = 0;
  while (true) {
    Frame frame;
    absl::Status status = ttrpc::Read(connection->socket.get(), &frame);
    if (absl::IsResourceExhausted(status)) {
      connection->Answer(frame.stream, status);
      continue;
    }
    if (!status.ok()) {
      if (!absl::IsUnavailable(status)) LOG_WARNING("%s", std::string(status.message()).c_str());
      return;
    }
    // A stream's number is odd and above all before it.
    if (frame.type != FrameType::kRequest || frame.stream % 2 != 1 || (last != 0 && frame.stream <= last)) {
      connection->Answer(frame.stream, absl::InvalidArgumentError("ttrpc: not a new stream's request"));
      continue;
    }
    last = frame.stream;
    auto request = std::make_shared<pb::RpcRequest>();
    if (!request->ParseFromString(frame.payload)) {
      connection->Answer(frame.stream, absl::InvalidArgumentError("ttrpc: malformed request"));
      continue;
    }
    if (state->calls.fetch_add(1) >= kMaxCalls) {
      state->calls.fetch_sub(1);
      connection->Answer(frame.stream, absl::ResourceExhaustedError("ttrpc: too many calls at a time"));
      continue;
    }
    bool started = StartThread([state, connection, request, stream = frame.stream] {
      connection->Answer(stream, state->handler(request->service(), request->method(), request->payload()));
      state->calls.fetch_sub(1);
    });
    if (!started) {
      state->calls.fetch_sub(1);
      connection->Answer(frame.stream, absl::ResourceExhaustedError("ttrpc: no thread for the call"));
    }
  }
}

absl::Status Server::Serve() {
  while (true) {
    base::UniqueFd socket(accept4(state_->listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!socket.ok()) {
      if (errno == EINTR || errno == ECONNABORTED) continue;
      if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
        LOG_WARNING("accept: %s", strerror(errno));
        Pause(100);
        continue;
      }
      return absl::InternalError(absl::StrCat("accept: ", strerror(errno)));
    }
    if (state_->connections.fetch_add(1) >= kMaxConnections) {
      state_->connections.fetch_sub(1);
      LOG_WARNING("over %d connections: one refused", kMaxConnections);
      continue;
    }
    auto connection = std::make_shared<Connection>();
    connection->socket = std::move(socket);
    bool started = StartThread([state = state_, connection] {
      Read(state, connection);
      state->connections.fetch_sub(1);
    });
    if (!started) state_->connections.fetch_sub(1);
  }
}

}  // namespace shim::ttrpc
