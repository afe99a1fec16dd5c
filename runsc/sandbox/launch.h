// SPDX-License-Identifier: Apache-2.0
// Starts one of our own internal processes (sentry, gofer) in new namespaces with a clean state: only the given
// descriptors at their fixed numbers, no environment, empty signal mask, cwd "/", umask 0.
#ifndef RUNSC_SANDBOX_LAUNCH_H_
#define RUNSC_SANDBOX_LAUNCH_H_

#include <sys/types.h>

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "base/unique_fd.h"
#include "runsc/spec/spec.h"

namespace runsc {

struct LaunchOptions {
  std::vector<std::string> argv;
  // {number in the child, fd here}; a source of -1 leaves the number closed. Numbers 0-2 not named are /dev/null.
  std::vector<std::pair<int, int>> fds;
  // CLONE_NEW* flags.
  int namespaces = 0;
  // With CLONE_NEWUSER: the maps to write. Empty = our own user and group as 0.
  std::vector<spec::IdMapping> uid_map, gid_map;
  // Where those maps are but offered: our own user and group alone if they cannot be had.
  bool maps_are_optional = false;
  // A network namespace to start in (setns), instead of CLONE_NEWNET; -1 = none.
  int netns_fd = -1;
  // SIGKILL for the child when the calling thread's process dies.
  bool die_with_parent = false;
  // The number in the child of a terminal to become the controlling one; -1 = none.
  int controlling_terminal = -1;
  // Called with the child's pid before it runs: joins it to cgroups. An error ends the child.
  std::function<absl::Status(pid_t)> before_exec;
};

struct LaunchedProcess {
  pid_t pid = -1;
  base::UniqueFd pidfd;
  // Its closing tells a child that has not asked for PDEATHSIG yet that we are gone: keep it until the child is ready.
  base::UniqueFd life_line;
};

// The child is ours to reap. Errors of the child before its exec come back through `report_fd` (the write end's number
// in the child is kReportFd) in the form of ReportFailure.
absl::StatusOr<LaunchedProcess> Launch(const LaunchOptions& options);

// Reads a report pipe (see ReportReady) until a line or the end: "" = ready; kUnavailable = the writer ended without
// a word; kDeadlineExceeded; else the reported failure. Consumes what it returns.
absl::Status ReadReport(int fd, std::string* buffer);

}  // namespace runsc

#endif  // RUNSC_SANDBOX_LAUNCH_H_
