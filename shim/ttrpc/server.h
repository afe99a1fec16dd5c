// SPDX-License-Identifier: Apache-2.0
// A ttrpc server of unary calls. Each connection has a thread that reads, each call one that answers, so a call may
// block (Wait) without holding up others. At most kMaxCalls at a time per server; more are answered with
// RESOURCE_EXHAUSTED.
#ifndef SHIM_TTRPC_SERVER_H_
#define SHIM_TTRPC_SERVER_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "base/unique_fd.h"

namespace shim::ttrpc {

inline constexpr int kMaxCalls = 4096;
inline constexpr int kMaxConnections = 256;

// From any thread, several at a time. The codes of absl::Status are those of ttrpc.
using Handler = std::function<absl::StatusOr<std::string>(const std::string& service, const std::string& method,
                                                          const std::string& payload)>;

class Server {
 public:
  // `listener`: a listening AF_UNIX stream socket. The handler outlives the server, which is never destroyed: its
  // threads may be in a handler when the process ends.
  Server(base::UniqueFd listener, Handler handler);
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  // Accepts until the listener fails.
  absl::Status Serve();

 private:
  struct State;
  struct Connection;
  static void Read(std::shared_ptr<State> state, std::shared_ptr<Connection> connection);
  std::shared_ptr<State> state_;
};

}  // namespace shim::ttrpc

#endif  // SHIM_TTRPC_SERVER_H_
