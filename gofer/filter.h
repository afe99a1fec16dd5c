// SPDX-License-Identifier: Apache-2.0
// The gofer's seccomp allow-list: the calls of protocol/host_transport.cc, server/host_fs.cc, threads, memory and the
// log. Everything else kills the process.
#ifndef GOFER_FILTER_H_
#define GOFER_FILTER_H_

#include <string>
#include <vector>

#include "absl/status/status.h"

namespace gofer {

struct FilterOptions {
  int proc_fd = -1;    // HostFs::proc_fd()
  bool debug = false;  // a forbidden call is named on stderr, then the process exits with status 159
};

// Irreversible, for the calling thread and those it starts: call while single-threaded. Sets no_new_privs.
absl::Status InstallGoferFilter(const FilterOptions& options);

// Names of the allowed calls, for documentation and audits.
std::vector<std::string> AllowedGoferCalls();

}  // namespace gofer

#endif  // GOFER_FILTER_H_
