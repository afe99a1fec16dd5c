// SPDX-License-Identifier: Apache-2.0
// What the sentry gives up before a guest runs: the file system, its capabilities, and all but the host calls it needs.
#ifndef SENTRY_BOOT_CONFINE_H_
#define SENTRY_BOOT_CONFINE_H_

#include <cstdint>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"

namespace sentry {

// Pivots into an empty read-only tmpfs (needs CAP_SYS_ADMIN in its user namespace and a private mount namespace). From
// then on no path leads to the host's files. The kernel takes a millisecond to let go of the old root's mounts (it
// waits for an RCU grace period): that happens on a thread, which Finish joins. The caller is otherwise
// single-threaded. Irreversible.
class EmptyRoot {
 public:
  ~EmptyRoot() { (void)Finish(); }
  absl::Status Enter();
  // To be called before DropPrivileges counts, and before any guest: the thread has the capabilities that it needs.
  absl::Status Finish();

 private:
  std::thread thread_;
  absl::Status detached_;
};
// Drops the capabilities of the calling thread but those of the mask `keep` that it has, sets no_new_privs.
// Irreversible.
absl::Status DropPrivileges(uint64_t keep = 0);

struct FilterOptions {
  bool debug = false;  // a forbidden call is named in the log before the process ends
  int kvm_vm = -1;     // the virtual machine whose CPUs run the guests
  // AF_INET sockets of the host, as sentry/socket/host/host_options.h lists what may be done with them.
  bool host_network = false;
  bool ptrace = true;  // the platform traces its stubs; else it orders their service threads by notifications
};
// Irreversible, for the calling thread and those it makes: install before the first one.
absl::Status InstallSentryFilter(const FilterOptions& options);
// Names of the allowed calls, for docs and tests.
std::vector<std::string> AllowedSentryCalls();

}  // namespace sentry

#endif  // SENTRY_BOOT_CONFINE_H_
