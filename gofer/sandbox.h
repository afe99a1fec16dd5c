// SPDX-License-Identifier: Apache-2.0
// The gofer's confinement: it sees the trees it serves, and nothing else of the host.
#ifndef GOFER_SANDBOX_H_
#define GOFER_SANDBOX_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/unique_fd.h"

namespace gofer {

struct SandboxRoot {
  std::string path;
  bool read_only = false;
  bool submounts = true;
  bool devices = false;  // leave device nodes usable
};

// Irreversible. The caller is single-threaded, in its own user namespace or privileged, and already in its pid
// namespace. Does, in this order:
//   - new mount, IPC, network and UTS namespaces; all mounts made private; then `in_namespace`: what is mounted below a
//     root meanwhile is served
//   - binds each root below a small tmpfs (read-only where asked; nosuid, nodev unless `devices`) and pivots into it:
//     the old root is detached
//   - drops all capabilities but those that serving files needs, and the bounding and ambient sets
//   - no_new_privs, not dumpable, RLIMIT_CORE 0, umask 0
// Returns an O_PATH fd for each root, in order. fds that the caller has open stay open: it closes what it won't use.
absl::StatusOr<std::vector<base::UniqueFd>> ConfineGofer(const std::vector<SandboxRoot>& roots,
                                                         const std::function<absl::Status()>& in_namespace = {});

// The capabilities that are kept (CAP_* numbers).
const std::vector<int>& GoferCapabilities();

}  // namespace gofer

#endif  // GOFER_SANDBOX_H_
