// SPDX-License-Identifier: Apache-2.0
// The host cgroup that the processes of a container are put in. Version 1, version 2 and hybrid hosts behind one class.
#ifndef RUNSC_CGROUP_CGROUP_H_
#define RUNSC_CGROUP_CGROUP_H_

#include <sys/types.h>

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "runsc/spec/spec.h"

namespace runsc {

// A value of one control file.
struct CgroupSetting {
  std::string file;
  std::string value;
};

// What `resources` asks of one v1 controller ("memory", "pids", "cpu", "cpuset"), or of v2 (controller "").
std::vector<CgroupSetting> CgroupSettings(const spec::Resources& resources, const std::string& controller);

// linux.cgroupsPath as a path below a hierarchy: absolute ones as they are, relative ones below /, with
// `systemd` slice:prefix:name as /slice/prefix-name.scope. Never leaves the hierarchy.
absl::StatusOr<std::string> CgroupPath(const std::string& cgroups_path, const std::string& id, bool systemd);

// v1's shares of CPU time as a weight of v2.
uint64_t CgroupWeight(uint64_t shares);
// How many tasks of the host a container may have whose guests may have `pids_limit`; below 0: any number.
int64_t HostTaskLimit(int64_t pids_limit);
// Whether `base` is the unified hierarchy, not a directory of hierarchies.
bool IsUnified(const std::string& base);

class Cgroup {
 public:
  // Makes the directories and sets the limits. On failure nothing is left. `base` is where the hierarchies are mounted
  // (/sys/fs/cgroup).
  static absl::StatusOr<Cgroup> Create(const std::string& base, const std::string& path,
                                       const spec::Resources& resources);
  // The directories that Create makes or joins. To be written down before: a Create that is killed leaves some of them.
  static std::vector<std::string> Plan(const std::string& base, const std::string& path);
  // For a container that was made before.
  static Cgroup FromPaths(std::vector<std::string> made) { return Cgroup(std::move(made)); }

  absl::Status Join(pid_t pid) const;
  // Sets what `resources` names; the rest stays.
  absl::Status Update(const std::string& base, const spec::Resources& resources) const;
  // Directories that we made or joined, deepest last.
  const std::vector<std::string>& paths() const { return paths_; }
  // Removes them; those that still hold processes are tried again for up to a second. Idempotent.
  absl::Status Remove() const;

 private:
  explicit Cgroup(std::vector<std::string> paths) : paths_(std::move(paths)) {}
  std::vector<std::string> paths_;
};

}  // namespace runsc

#endif  // RUNSC_CGROUP_CGROUP_H_
