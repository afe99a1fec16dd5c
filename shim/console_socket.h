// SPDX-License-Identifier: Apache-2.0
// Receives a terminal's master from `runsc create --console-socket`. The socket is in the bundle, whose path may be too
// long for an address, so both sides reach it through a descriptor of the directory.
#ifndef SHIM_CONSOLE_SOCKET_H_
#define SHIM_CONSOLE_SOCKET_H_

#include <string>

#include "absl/status/statusor.h"
#include "base/unique_fd.h"

namespace shim {

class ConsoleSocket {
 public:
  // Where the child has the directory.
  static constexpr int kChildFd = 3;
  static std::string ChildPath();

  static absl::StatusOr<ConsoleSocket> Listen(const std::string& directory);
  ConsoleSocket() = default;
  ConsoleSocket(ConsoleSocket&&) = default;
  ConsoleSocket& operator=(ConsoleSocket&&) = default;
  ~ConsoleSocket();

  int directory() const { return directory_.get(); }
  // The one descriptor that was sent. Does not wait for long: the sender has sent it before it ended.
  absl::StatusOr<base::UniqueFd> Accept();

 private:
  base::UniqueFd directory_;
  base::UniqueFd listener_;
};

}  // namespace shim

#endif  // SHIM_CONSOLE_SOCKET_H_
