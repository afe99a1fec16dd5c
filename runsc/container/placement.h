// SPDX-License-Identifier: Apache-2.0
// Where a container's processes are put on the host: its cgroup, made by us, or by systemd as a scope.
#ifndef RUNSC_CONTAINER_PLACEMENT_H_
#define RUNSC_CONTAINER_PLACEMENT_H_

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "runsc/cgroup/cgroup.h"
#include "runsc/cgroup/systemd.h"
#include "runsc/config.h"
#include "runsc/container/store.h"
#include "runsc/spec/spec.h"

namespace runsc {

class Placement {
 public:
  static absl::StatusOr<Placement> Plan(const Config& config, const std::string& id, const spec::Spec& spec);

  // Whether processes are to join anything.
  bool IsWanted() const { return !path_.empty(); }
  // What is to be cleared away later, also when we are killed from here on.
  void Record(ContainerRecord* record) const;
  // Makes the cgroup, unless it is systemd's to make: that wants a process. Not getting one is an error only where
  // limits depend on it.
  absl::Status Make();
  // The first one has systemd start the scope.
  absl::Status Join(pid_t pid);

 private:
  Placement() = default;
  absl::Status MakeDirectories();

  std::string id_, path_;
  spec::Resources resources_;
  std::optional<SystemdUnit> unit_;  // to be started
  std::string started_unit_;
  std::optional<Cgroup> cgroup_;
};

// Of a container that was placed before. What cannot be stopped by systemd is warned of.
absl::Status RemovePlacement(const ContainerRecord& record);
absl::Status UpdatePlacement(const ContainerRecord& record, const spec::Resources& resources);

}  // namespace runsc

#endif  // RUNSC_CONTAINER_PLACEMENT_H_
