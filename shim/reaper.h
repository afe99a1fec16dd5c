// SPDX-License-Identifier: Apache-2.0
// Child processes: starting them, and learning how each one ended. The shim is a subreaper, so the sandboxes'
// processes, whose parent (runsc create) is gone, are its children too; an exit is kept until somebody asks for it.
// Thread-safe.
#ifndef SHIM_REAPER_H_
#define SHIM_REAPER_H_

#include <sys/types.h>

#include <deque>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "base/mutex.h"

namespace shim {

struct SpawnOptions {
  std::vector<std::string> argv;         // argv[0] is looked up in PATH
  std::vector<std::string> extra_env;    // NAME=value, beside the shim's own
  std::vector<std::pair<int, int>> fds;  // {number in the child, ours}; 0, 1, 2 default to /dev/null
  std::string directory;                 // "" = the shim's
};

class Reaper {
 public:
  // Becomes a subreaper and starts to reap. Once, before any other thread is there: SIGCHLD must be blocked in all.
  static absl::Status Start();
  static Reaper& Get();

  // kUnavailable if the program can't be run.
  absl::StatusOr<pid_t> Spawn(const SpawnOptions& options);
  // The wait status of a process of Spawn; kDeadlineExceeded after `timeout_ms` (it then is still there).
  absl::StatusOr<int> Wait(pid_t pid, int timeout_ms);
  // `done` is called once, in a thread of its own, with the wait status of this child. Also if it has ended already.
  void OnExit(pid_t pid, std::function<void(int wait_status)> done);

 private:
  void Run(int signals);
  void Record(pid_t pid, int wait_status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  // Exits that nobody has asked for yet: the newest ones.
  static constexpr size_t kMaxUnclaimed = 256;

  base::Mutex mu_;
  base::CondVar changed_;
  std::map<pid_t, int> ended_ ABSL_GUARDED_BY(mu_);  // of Spawn, -1 while it runs
  std::map<pid_t, std::function<void(int)>> watched_ ABSL_GUARDED_BY(mu_);
  std::deque<std::pair<pid_t, int>> unclaimed_ ABSL_GUARDED_BY(mu_);
};

}  // namespace shim

#endif  // SHIM_REAPER_H_
