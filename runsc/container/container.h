// SPDX-License-Identifier: Apache-2.0
// A container's life: created -> running (-> paused) -> stopped, with the operations and errors of runc.
#ifndef RUNSC_CONTAINER_CONTAINER_H_
#define RUNSC_CONTAINER_CONTAINER_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/unique_fd.h"
#include "runsc/config.h"
#include "runsc/container/store.h"
#include "runsc/control/client.h"
#include "runsc/sandbox/sandbox.h"
#include "runsc/spec/spec.h"

namespace runsc {

struct CreateOptions {
  const Config* config = nullptr;
  std::vector<std::string> global_arguments;
  std::string id;
  std::string bundle;
  spec::Spec spec;
  std::string spec_text;
  bool attached = false;  // the sandbox dies with us
  bool is_do = false;
  std::vector<int> preserved_fds;  // 3, 4, ... of the container's process; borrowed
  std::string console_socket;
  std::string pid_file;
  int64_t cli_start_ns = 0;
};

class Container {
 public:
  // Everything up to `created`. Whatever fails, nothing is left: no process, state directory or cgroup.
  static absl::StatusOr<Container> Create(CreateOptions options);
  // An existing one; record().status is what is true now.
  static absl::StatusOr<Container> Open(const Config& config, const std::string& id);

  const ContainerRecord& record() const { return record_; }
  // The master of the container's terminal, when Create made one and nobody else got it.
  base::UniqueFd TakeConsole() { return std::move(console_); }

  absl::Status Start();
  absl::Status Kill(int signal, bool all);
  // New limits, on the host's cgroup and in the sandbox.
  absl::Status Update(const spec::Resources& resources);
  absl::Status Pause();
  absl::Status Resume();
  // Removes a stopped container; `force` stops it first.
  absl::Status Delete(bool force);

  absl::StatusOr<control::Client> Connect() const;
  // What the sentry recorded; absent if it was killed.
  std::optional<int> ExitStatus() const;
  absl::StatusOr<spec::Spec> LoadSpec() const;
  // The OCI state; `pretty` as `runsc state` prints it.
  std::string StateJson(bool pretty) const;

 private:
  Container(const Config& config, ContainerRecord record);
  // Brings record_ up to date from the disk and the processes.
  absl::Status Refresh();
  absl::Status ReturnNetwork(const spec::Spec& spec);
  absl::Status MoveNetwork(const spec::Spec& spec, control::Client& client);
  absl::Status CreateLocked(CreateOptions& options);
  // prestart and createRuntime.
  absl::Status RunRuntimeHooks(const spec::Hooks& hooks, const std::string& bundle) const;
  // In the mount namespace that the container's files are served from.
  absl::Status RunCreateContainerHooks(const spec::Hooks& hooks, const std::string& bundle, pid_t gofer) const;
  // For a container that joins a sandbox: its record is open to that, and the sandbox's control socket is ours too.
  absl::Status PrepareToJoin(const std::string& sandbox_id);
  bool HasEndedInside() const;
  bool HasJoined() const { return !record_.sandbox_id.empty(); }
  // Ends the processes and removes everything but the state directory.
  absl::Status TearDown();
  std::string Directory() const { return store_.DirectoryOf(record_.id); }

  Config config_;
  mutable ContainerStore store_;
  ContainerRecord record_;
  base::UniqueFd console_;
};

// "2026-11-23T14:35:08.123456789Z"
std::string FormatTime(int64_t realtime_ns);

// Replaces `path` with `pid`, atomically.
absl::Status WritePidFile(const std::string& path, pid_t pid);

}  // namespace runsc

#endif  // RUNSC_CONTAINER_CONTAINER_H_
