// SPDX-License-Identifier: Apache-2.0
// RunGofer: serves a container's trees until the sentry has hung up.
#ifndef GOFER_SERVER_SERVER_H_
#define GOFER_SERVER_SERVER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "base/unique_fd.h"
#include "gofer/server/connection.h"

namespace gofer {

struct ServedTree {
  base::UniqueFd socket;  // AF_UNIX SOCK_SEQPACKET; the other end is for gofer::Client
  std::string root_path;  // on the host: a directory, or one file of any kind; symbolic links are followed
  // settings.max_fds = 0: an even share of RLIMIT_NOFILE.
  Connection::Settings settings{.max_fds = 0};
};

struct GoferConfig {
  std::vector<ServedTree> trees;
  // Namespaces, pivot_root, capabilities, seccomp: irreversible for the process, which must be single-threaded and
  // have CAP_SYS_ADMIN in its user namespace. False only for tests that serve from their own process, and for
  // --TESTONLY-unsafe-nonroot.
  bool confine = true;
  // Called in the gofer's new mount namespace, which still has all of the host's mounts (gofer/sandbox.h).
  std::function<absl::Status()> in_namespace;
  // Forbidden calls are logged with their number before the process dies.
  bool debug_filter = false;
};

// Returns when every connection is closed: OK, or what kept the gofer from serving. Threads that a host filesystem
// holds up beyond a short grace are left behind (DeadlineExceeded): the caller must exit the process at once.
absl::Status RunGofer(GoferConfig config);

}  // namespace gofer

#endif  // GOFER_SERVER_SERVER_H_
