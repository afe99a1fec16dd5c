// SPDX-License-Identifier: Apache-2.0
// A ttrpc client: one call at a time over one connection. Not thread-safe.
#ifndef SHIM_TTRPC_CLIENT_H_
#define SHIM_TTRPC_CLIENT_H_

#include <string>

#include "absl/status/statusor.h"
#include "base/unique_fd.h"

namespace shim::ttrpc {

class Client {
 public:
  // `address`: the path of an AF_UNIX socket, with or without "unix://" before it.
  static absl::StatusOr<Client> Connect(const std::string& address);
  explicit Client(base::UniqueFd socket) : socket_(std::move(socket)) {}

  // The response's payload, or the error that the server answered. kUnavailable, kDataLoss, kDeadlineExceeded: the
  // connection is of no more use.
  absl::StatusOr<std::string> Call(const std::string& service, const std::string& method, const std::string& payload,
                                   int timeout_ms);

 private:
  base::UniqueFd socket_;
  uint32_t next_stream_ = 1;
};

}  // namespace shim::ttrpc

#endif  // SHIM_TTRPC_CLIENT_H_
