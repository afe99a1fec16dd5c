// SPDX-License-Identifier: Apache-2.0
// What the sentry gives up before a guest runs: the file system, its capabilities, and all but the host calls it needs.
#ifndef SENTRY_BOOT_CONFINE_H_
#define SENTRY_BOOT_CONFINE_H_

#include <string>
#include <vector>

#include "absl/status/status.h"

namespace sentry {

// Pivots into an empty read-only tmpfs (needs CAP_SYS_ADMIN in its user namespace and a private mount namespace), drops
// all capabilities, sets no_new_privs. The caller is single-threaded. Irreversible.
absl::Status EnterEmptyRoot();
absl::Status DropPrivileges();

struct FilterOptions {
  bool debug = false;  // a forbidden call is named in the log before the process ends
  bool ptrace = true;  // the platform traces its stubs; else it orders their service threads by notifications
};
// Irreversible, for the calling thread and those it makes: install before the first one.
absl::Status InstallSentryFilter(const FilterOptions& options);
// Names of the allowed calls, for docs and tests.
std::vector<std::string> AllowedSentryCalls();

}  // namespace sentry

#endif  // SENTRY_BOOT_CONFINE_H_
