// SPDX-License-Identifier: Apache-2.0
// The directory of containers, --root. A container is --root/<id>/ with state.json (replaced by rename), config.json
// (the spec it was made from), control.sock, exit_status and lock. The lock (flock) serialises commands that change the
// container; it is held by one process and dies with it. The directory's mkdir(2) decides who owns an id.
#ifndef RUNSC_CONTAINER_STORE_H_
#define RUNSC_CONTAINER_STORE_H_

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/unique_fd.h"

namespace runsc {

enum class Status : uint8_t { kCreating, kCreated, kRunning, kPaused, kStopped };
const char* StatusName(Status status);

// state.json.
struct ContainerRecord {
  std::string id;
  std::string bundle;
  std::string rootfs;
  std::string oci_version;
  Status status = Status::kCreating;
  std::string sandbox_id;            // of the container whose sandbox this one joined; "" = it has its own
  pid_t sandbox_pid = 0;             // joined: its gofer, which ends with it
  uint64_t sandbox_start_ticks = 0;  // with the pid: the identity of a process
  pid_t gofer_pid = 0;
  uint64_t gofer_start_ticks = 0;
  int64_t created_ns = 0;  // CLOCK_REALTIME
  uint32_t owner_uid = 0;
  bool terminal = false;
  bool is_starting = false;  // `running` was written before the sandbox was asked
  std::map<std::string, std::string> annotations;
  std::vector<std::string> cgroup_paths;  // directories that we made
  std::string systemd_unit;               // the scope that systemd made of it; "" = none
};

std::string RecordToJson(const ContainerRecord& record);
absl::StatusOr<ContainerRecord> RecordFromJson(const std::string& text);

// OK for [A-Za-z0-9_+.-]{1,255} but "." and "..".
absl::Status ValidateId(const std::string& id);

class ContainerStore {
 public:
  explicit ContainerStore(std::string root) : root_(std::move(root)) {}

  std::string DirectoryOf(const std::string& id) const { return root_ + "/" + id; }

  // Makes --root/<id> and locks it. kAlreadyExists with runc's words.
  absl::StatusOr<base::UniqueFd> Create(const std::string& id);
  // Locks an existing container; waits while another command works on it, at most 30 s. kNotFound with runc's words.
  absl::StatusOr<base::UniqueFd> Lock(const std::string& id);
  absl::Status Save(const ContainerRecord& record);
  // kNotFound "container does not exist"; kDataLoss if it was never completed (the maker was killed).
  absl::StatusOr<ContainerRecord> Load(const std::string& id);
  // The wait status that the sentry left; absent if it left none.
  std::optional<int> ExitStatus(const std::string& id);
  // Removes the directory and what we put there. Idempotent.
  absl::Status Remove(const std::string& id);
  // Sorted; [] if the root does not exist.
  absl::StatusOr<std::vector<std::string>> List();

 private:
  absl::StatusOr<base::UniqueFd> TakeLock(const std::string& id);
  std::string root_;
};

}  // namespace runsc

#endif  // RUNSC_CONTAINER_STORE_H_
