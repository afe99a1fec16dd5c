// SPDX-License-Identifier: Apache-2.0
#include "runsc/container/placement.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "runsc/errors.h"
#include "runsc/spec/parse.h"

namespace runsc {
namespace {

constexpr char kCgroupBase[] = "/sys/fs/cgroup";

}  // namespace

absl::StatusOr<Placement> Placement::Plan(const Config& config, const std::string& id, const spec::Spec& spec) {
  Placement placement;
  spec::Resources resources = spec.linux.resources;
  const spec::PodRole role = spec::PodOf(spec.annotations).role;
  // The sentry keeps the limits of a container that joins its sandbox; what is in its group on the host is its gofer.
  if (role == spec::PodRole::kContainer) resources = {};
  // A pod's first container is given the share of a program that sleeps. Its group holds all of the pod.
  if (role == spec::PodRole::kSandbox) resources.cpu_shares.reset();
  if (config.ignore_cgroups || (spec.linux.cgroups_path.empty() && !resources.AnyLimit())) return placement;
  placement.id_ = id;
  placement.resources_ = std::move(resources);
  placement.path_ = VALUE_OR_RETURN(CgroupPath(spec.linux.cgroups_path, id, config.systemd_cgroup));
  if (config.systemd_cgroup) placement.unit_ = VALUE_OR_RETURN(SystemdUnitOf(spec.linux.cgroups_path, id));
  return placement;
}

absl::Status Placement::Make() { return unit_ || path_.empty() ? absl::OkStatus() : MakeDirectories(); }

absl::Status Placement::MakeDirectories() {
  auto cgroup = Cgroup::Create(kCgroupBase, path_, resources_);
  if (cgroup.ok()) {
    cgroup_ = *std::move(cgroup);
    return absl::OkStatus();
  }
  if (resources_.AnyLimit())
    return Annotate(cgroup.status(), "linux.resources: limits cannot be set (--ignore-cgroups runs without)");
  LOG_WARNING("no cgroup: %s", std::string(cgroup.status().message()).c_str());
  path_.clear();
  return absl::OkStatus();
}

absl::Status Placement::Join(pid_t pid) {
  if (unit_) {
    const SystemdUnit unit = *std::exchange(unit_, std::nullopt);
    auto systemd = Systemd::Connect();
    if (systemd.ok()) {
      RETURN_IF_ERROR(
          systemd->StartScope(unit, absl::StrCat("runsc container ", id_), pid, resources_, IsUnified(kCgroupBase)));
      started_unit_ = unit.name;
    } else {
      LOG_WARNING("%s: the cgroup is made without it", std::string(systemd.status().message()).c_str());
    }
    RETURN_IF_ERROR(MakeDirectories());
  }
  return cgroup_ ? cgroup_->Join(pid) : absl::OkStatus();
}

void Placement::Record(ContainerRecord* record) const {
  record->systemd_unit = started_unit_;
  record->cgroup_paths.clear();
  if (!path_.empty()) record->cgroup_paths = cgroup_ ? cgroup_->paths() : Cgroup::Plan(kCgroupBase, path_);
}

absl::Status RemovePlacement(const ContainerRecord& record) {
  if (!record.systemd_unit.empty()) {
    auto systemd = Systemd::Connect();
    absl::Status stopped = systemd.ok() ? systemd->StopUnit(record.systemd_unit) : systemd.status();
    if (!stopped.ok()) LOG_WARNING("%s", std::string(stopped.message()).c_str());
  }
  return Cgroup::FromPaths(record.cgroup_paths).Remove();
}

absl::Status UpdatePlacement(const ContainerRecord& record, const spec::Resources& resources) {
  // systemd would undo by and by what it did not do itself.
  if (!record.systemd_unit.empty()) {
    auto systemd = VALUE_OR_RETURN(Systemd::Connect());
    RETURN_IF_ERROR(systemd.SetLimits(record.systemd_unit, resources, IsUnified(kCgroupBase)));
  }
  return Cgroup::FromPaths(record.cgroup_paths).Update(kCgroupBase, resources);
}

}  // namespace runsc
