// SPDX-License-Identifier: Apache-2.0
// Starts a sandbox: the gofer and the sentry of one container, side by side, and waits until both are ready. Or a
// further container of a sandbox that is there: its gofer.
#ifndef RUNSC_SANDBOX_SANDBOX_H_
#define RUNSC_SANDBOX_SANDBOX_H_

#include <sys/types.h>

#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/unique_fd.h"
#include "runsc/config.h"
#include "runsc/sandbox/launch.h"
#include "runsc/spec/spec.h"

namespace runsc {

struct SandboxOptions {
  const Config* config = nullptr;
  // The global flags as given, for the children.
  std::vector<std::string> global_arguments;
  std::string container_id;
  std::string bundle;
  std::string state_directory;
  const spec::Spec* spec = nullptr;
  std::string spec_text;
  // [console] or [stdin, stdout, stderr], -1 where closed; then what is passed on as 3, 4, ... Borrowed.
  std::vector<int> stdio;
  bool attached = false;  // the sandbox dies with us, and may use our stderr
  bool is_do = false;
  int64_t cli_start_ns = 0;
  // Joins a process to the container's cgroup.
  std::function<absl::Status(pid_t)> join_cgroup;
  // Called with the pids before the sandbox runs anything: so that a killed CLI leaves a trace.
  std::function<absl::Status(pid_t sandbox, pid_t gofer)> record_pids;
  // Called when both processes are there and the gofer is in its mount namespace, before it serves from there. Null:
  // the gofer does not wait.
  std::function<absl::Status(pid_t gofer)> in_gofer_namespace;
};

struct Sandbox {
  LaunchedProcess sentry;
  LaunchedProcess gofer;
};

// On failure nothing is left running. The error is the first clear one: the gofer's before the sentry's.
absl::StatusOr<Sandbox> StartSandbox(const SandboxOptions& options);

// The container joins the sandbox behind the control socket of `sandbox_directory`. Its gofer is what the host sees of
// it: it ends when the container does, with the container's exit status (128 + signal). `record_pids` gets its pid
// twice. On failure nothing is left.
absl::StatusOr<LaunchedProcess> JoinSandbox(const SandboxOptions& options, const std::string& sandbox_directory);

// A process of ours that was sent SIGKILL. By pid and start time, so that a reused pid is never hit; `start_ticks` = 0
// skips the check (our own unreaped child). A process's namespaces take the kernel milliseconds: send the signals to
// all, then wait for each.
class EndingProcess {
 public:
  EndingProcess() = default;  // none: nothing to wait for
  EndingProcess(pid_t pid, uint64_t start_ticks);
  // Until it is gone, up to `timeout_ms`; reaps it if it is a child of ours.
  bool Wait(int timeout_ms);

 private:
  pid_t pid_ = -1;
  base::UniqueFd pidfd_;
  bool failed_ = false;
};
bool KillAndWait(pid_t pid, uint64_t start_ticks, int timeout_ms);
// Field 22 of /proc/PID/stat; 0 if there is no such process, or it is a zombie.
uint64_t ProcessStartTicks(pid_t pid);

}  // namespace runsc

#endif  // RUNSC_SANDBOX_SANDBOX_H_
