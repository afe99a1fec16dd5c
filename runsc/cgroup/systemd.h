// SPDX-License-Identifier: Apache-2.0
// --systemd-cgroup: the container's processes are a transient scope of systemd's, which makes and owns the cgroup
// (org.freedesktop.systemd1(5)). With Delegate=yes what is below, and limits that systemd has no property for, are
// ours.
#ifndef RUNSC_CGROUP_SYSTEMD_H_
#define RUNSC_CGROUP_SYSTEMD_H_

#include <sys/types.h>

#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "runsc/cgroup/dbus.h"
#include "runsc/spec/spec.h"

namespace runsc {

struct SystemdUnit {
  std::string name;   // prefix-name.scope
  std::string slice;  // a-b.slice
};

// Of linux.cgroupsPath, "slice:prefix:name"; the path of its cgroup is CgroupPath's.
absl::StatusOr<SystemdUnit> SystemdUnitOf(const std::string& cgroups_path, const std::string& id);

// The limits as properties of a unit, marshalled as an array of (name, variant). `v2`: of a host with the unified
// hierarchy alone. What has no property (and cpuset on v1) is left to the control files.
void WriteProperties(const spec::Resources& resources, bool v2, dbus::Writer* out);

class Systemd {
 public:
  // The system's, or an ordinary user's own: by DBUS_SYSTEM_BUS_ADDRESS or DBUS_SESSION_BUS_ADDRESS, else where they
  // listen. kUnavailable: none is running.
  static absl::StatusOr<Systemd> Connect();

  // Starts the scope with one process in it, and waits until it has its cgroup.
  absl::Status StartScope(const SystemdUnit& unit, const std::string& description, pid_t pid,
                          const spec::Resources& resources, bool v2);
  absl::Status SetLimits(const std::string& unit, const spec::Resources& resources, bool v2);
  // OK also for one that is gone.
  absl::Status StopUnit(const std::string& unit);

 private:
  explicit Systemd(dbus::Connection bus) : bus_(std::move(bus)) {}
  absl::StatusOr<dbus::Message> Call(const char* member, const char* signature, dbus::Writer body);
  // Calls what starts a job, and waits for its end.
  absl::Status RunJob(const char* member, const char* signature, dbus::Writer body);

  dbus::Connection bus_;
};

}  // namespace runsc

#endif  // RUNSC_CGROUP_SYSTEMD_H_
