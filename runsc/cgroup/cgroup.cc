// SPDX-License-Identifier: Apache-2.0
#include "runsc/cgroup/cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <span>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/log.h"
#include "base/unique_fd.h"
#include "runsc/errors.h"
#include "runsc/spec/parse.h"

namespace runsc {
namespace {

// The first four take limits; the others are joined so that callers find the container's use in them.
constexpr const char* kV1Controllers[] = {"memory", "pids", "cpu", "cpuset", "cpuacct", "blkio", "freezer", "devices"};
constexpr size_t kV1Limiting = 4;

absl::Status WriteControl(const std::string& path, const std::string& value) {
  base::UniqueFd fd(open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (fd.ok() && write(fd.get(), value.data(), value.size()) == static_cast<ssize_t>(value.size())) {
    return absl::OkStatus();
  }
  return absl::InternalError(absl::StrCat("cgroup: writing \"", value, "\" to ", path, ": ", ErrnoText(errno)));
}

std::string ReadControl(const std::string& path) {
  base::UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  char text[4096];
  ssize_t n = fd.ok() ? read(fd.get(), text, sizeof text) : -1;
  return n > 0 ? std::string(text, n) : "";
}

std::string MaxOr(int64_t value) { return value < 0 ? "max" : absl::StrCat(value); }

// Makes `path` below `base` component by component; those that are new go to `made`. A v2 parent passes the
// controllers on; a new v1 cpuset inherits its parent's, without which no process may join.
absl::Status MakeDirectories(const std::string& base, const std::string& path, bool v2, bool cpuset,
                             std::vector<std::string>* made) {
  std::string at = base;
  for (absl::string_view part : absl::StrSplit(path, '/', absl::SkipEmpty())) {
    if (v2) {
      for (const char* controller : {"+memory", "+pids", "+cpu", "+cpuset"}) {
        WriteControl(at + "/cgroup.subtree_control", controller).IgnoreError();
      }
    }
    std::string parent = at;
    absl::StrAppend(&at, "/", part);
    if (mkdir(at.c_str(), 0755) == 0) {
      made->push_back(at);
    } else if (errno != EEXIST) {
      return absl::InternalError(absl::StrCat("cgroup: ", at, ": ", ErrnoText(errno)));
    }
    for (const char* file : {"/cpuset.cpus", "/cpuset.mems"}) {
      if (!cpuset || ReadControl(at + file).find_first_not_of(" \n") != std::string::npos) continue;
      WriteControl(at + file, ReadControl(parent + file)).IgnoreError();
    }
  }
  return absl::OkStatus();
}

absl::Status Apply(const std::string& directory, std::span<const CgroupSetting> settings) {
  for (const CgroupSetting& setting : settings) {
    RETURN_IF_ERROR(WriteControl(directory + "/" + setting.file, setting.value));
  }
  return absl::OkStatus();
}

// The directories of hierarchies that are mounted together (cpu,cpuacct) are one.
bool IsLink(const std::string& path) {
  struct stat st;
  return lstat(path.c_str(), &st) == 0 && S_ISLNK(st.st_mode);
}

}  // namespace

// v1's 2..262144 onto v2's 1..10000, as runc does.
uint64_t CgroupWeight(uint64_t shares) {
  shares = std::clamp<uint64_t>(shares, 2, 262144);
  return 1 + (shares - 2) * 9999 / 262142;
}

int64_t HostTaskLimit(int64_t pids_limit) {
  // The sentry holds the guests to the limit itself. On the host a guest thread is up to three tasks (itself, the
  // sentry's thread, a share of its stub), and the sentry and the gofer have some of their own: this bound is behind
  // the sentry's.
  const bool limited = pids_limit > 0 && pids_limit < (int64_t{1} << 32);
  return limited ? pids_limit * 4 + 64 : pids_limit;
}

bool IsUnified(const std::string& base) {
  // Every cgroup of v2 has it (cgroups(7)).
  return access((base + "/cgroup.controllers").c_str(), F_OK) == 0;
}

std::vector<CgroupSetting> CgroupSettings(const spec::Resources& r, const std::string& controller) {
  std::vector<CgroupSetting> s;
  const bool v2 = controller.empty();
  if (controller == "memory") {
    if (r.memory_limit) s.push_back({"memory.limit_in_bytes", absl::StrCat(*r.memory_limit)});
    if (r.memory_reservation) s.push_back({"memory.soft_limit_in_bytes", absl::StrCat(*r.memory_reservation)});
    if (r.memory_swap) s.push_back({"memory.memsw.limit_in_bytes", absl::StrCat(*r.memory_swap)});
  }
  if (v2) {
    if (r.memory_limit) s.push_back({"memory.max", MaxOr(*r.memory_limit)});
    if (r.memory_reservation) s.push_back({"memory.low", MaxOr(*r.memory_reservation)});
    // v2 counts swap alone, config.json memory and swap together.
    if (r.memory_swap && *r.memory_swap < 0) s.push_back({"memory.swap.max", "max"});
    if (r.memory_swap && *r.memory_swap > 0 && r.memory_limit && *r.memory_limit > 0) {
      s.push_back({"memory.swap.max", absl::StrCat(*r.memory_swap - *r.memory_limit)});
    }
  }
  if ((v2 || controller == "pids") && r.pids_limit) {
    s.push_back({"pids.max", MaxOr(HostTaskLimit(*r.pids_limit))});
  }
  if (controller == "cpu") {
    if (r.cpu_shares) s.push_back({"cpu.shares", absl::StrCat(*r.cpu_shares)});
    if (r.cpu_period) s.push_back({"cpu.cfs_period_us", absl::StrCat(*r.cpu_period)});
    if (r.cpu_quota) s.push_back({"cpu.cfs_quota_us", absl::StrCat(*r.cpu_quota)});
  }
  if (v2) {
    if (r.cpu_shares) s.push_back({"cpu.weight", absl::StrCat(CgroupWeight(*r.cpu_shares))});
    if (r.cpu_quota || r.cpu_period) {
      s.push_back({"cpu.max", absl::StrCat(MaxOr(r.cpu_quota.value_or(-1)), " ", r.cpu_period.value_or(100'000))});
    }
  }
  if (v2 || controller == "cpuset") {
    if (!r.cpuset_cpus.empty()) s.push_back({"cpuset.cpus", r.cpuset_cpus});
    if (!r.cpuset_mems.empty()) s.push_back({"cpuset.mems", r.cpuset_mems});
  }
  if (v2) {
    for (const auto& [file, value] : r.unified) s.push_back({file, value});
  }
  return s;
}

absl::StatusOr<std::string> CgroupPath(const std::string& cgroups_path, const std::string& id, bool systemd) {
  if (!systemd) return spec::CleanPath("/" + (cgroups_path.empty() ? "runsc/" + id : cgroups_path));
  std::vector<std::string> parts =
      absl::StrSplit(cgroups_path.empty() ? "system.slice:runsc:" + id : cgroups_path, ':');
  if (parts.size() != 3 || parts[2].empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "linux.cgroupsPath: with --systemd-cgroup it must look like slice:prefix:name, is \"", cgroups_path, "\""));
  }
  // a-b.slice is below a.slice (systemd.slice(5)).
  std::string slice = parts[0].empty() ? "system.slice" : parts[0];
  std::string path;
  for (size_t dash = slice.find('-'); dash != std::string::npos; dash = slice.find('-', dash + 1)) {
    absl::StrAppend(&path, "/", slice.substr(0, dash), ".slice");
  }
  absl::StrAppend(&path, "/", slice, "/", parts[1].empty() ? "" : parts[1] + "-", parts[2]);
  if (parts[2].size() < 6 || parts[2].substr(parts[2].size() - 6) != ".slice") path += ".scope";
  return spec::CleanPath(path);
}

std::vector<std::string> Cgroup::Plan(const std::string& base, const std::string& path) {
  if (IsUnified(base)) return {base + path};
  std::vector<std::string> planned;
  for (size_t i = 0; i < std::size(kV1Controllers); ++i) {
    const std::string hierarchy = absl::StrCat(base, "/", kV1Controllers[i]);
    struct stat st;
    if (stat((hierarchy + "/cgroup.procs").c_str(), &st) != 0 || (i >= kV1Limiting && IsLink(hierarchy))) continue;
    planned.push_back(hierarchy + path);
  }
  return planned;
}

absl::StatusOr<Cgroup> Cgroup::Create(const std::string& base, const std::string& path,
                                      const spec::Resources& resources) {
  std::vector<std::string> made;
  Cgroup cgroup({});
  absl::Status status;
  if (IsUnified(base)) {
    status = MakeDirectories(base, path, /*v2=*/true, /*cpuset=*/false, &made);
    if (status.ok()) status = Apply(base + path, CgroupSettings(resources, ""));
    cgroup.paths_.push_back(base + path);
  } else {
    struct stat st;
    for (size_t i = 0; i < std::size(kV1Controllers); ++i) {
      const char* controller = kV1Controllers[i];
      std::string hierarchy = absl::StrCat(base, "/", controller);
      auto settings = CgroupSettings(resources, controller);
      if (stat((hierarchy + "/cgroup.procs").c_str(), &st) != 0) {
        if (settings.empty()) continue;  // none for those that don't limit
        status = absl::FailedPreconditionError(
            absl::StrCat("linux.resources: the host has no ", controller, " cgroup at ", hierarchy));
        break;
      }
      if (i >= kV1Limiting && IsLink(hierarchy)) continue;
      status = MakeDirectories(hierarchy, path, /*v2=*/false, controller == std::string("cpuset"), &made);
      if (status.ok()) status = Apply(hierarchy + path, settings);
      // What only counts is not worth a container.
      if (!status.ok() && i >= kV1Limiting) {
        LOG_INFO("%s", std::string(status.message()).c_str());
        status = absl::OkStatus();
        continue;
      }
      if (!status.ok()) break;
      cgroup.paths_.push_back(hierarchy + path);
    }
    if (status.ok() && cgroup.paths_.empty()) {
      status = absl::FailedPreconditionError("no cgroup hierarchy is mounted at " + base);
    }
  }
  if (!status.ok()) {
    for (auto it = made.rbegin(); it != made.rend(); ++it) rmdir(it->c_str());
    return status;
  }
  return cgroup;
}

absl::Status Cgroup::Join(pid_t pid) const {
  for (const std::string& path : paths_) RETURN_IF_ERROR(WriteControl(path + "/cgroup.procs", absl::StrCat(pid)));
  return absl::OkStatus();
}

absl::Status Cgroup::Update(const std::string& base, const spec::Resources& resources) const {
  const bool v2 = IsUnified(base);
  size_t written = 0;
  for (const std::string& path : paths_) {
    if (path.compare(0, base.size() + 1, base + "/") != 0) continue;
    std::string controller = path.substr(base.size() + 1);
    controller.resize(std::min(controller.find('/'), controller.size()));
    auto settings = CgroupSettings(resources, v2 ? "" : controller);
    written += settings.size();
    if (Apply(path, settings).ok()) continue;
    // A memory limit can't pass that of memory and swap: when both rise, the other order is right.
    std::reverse(settings.begin(), settings.end());
    RETURN_IF_ERROR(Apply(path, settings));
  }
  if (written == 0 && resources.AnyLimit()) {
    return absl::FailedPreconditionError("the container has no cgroup whose limits could be changed");
  }
  return absl::OkStatus();
}

absl::Status Cgroup::Remove() const {
  for (const std::string& path : paths_) {
    // A process that was just killed leaves its cgroup a moment after it is reaped.
    for (int attempt = 0; rmdir(path.c_str()) != 0; ++attempt) {
      if (errno == ENOENT) break;
      if (errno != EBUSY || attempt == 100) {
        return absl::InternalError(absl::StrCat("cgroup: removing ", path, ": ", ErrnoText(errno)));
      }
      timespec pause{.tv_nsec = 10'000'000};
      nanosleep(&pause, nullptr);
    }
  }
  return absl::OkStatus();
}

}  // namespace runsc
