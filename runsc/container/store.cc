// SPDX-License-Identifier: Apache-2.0
#include "runsc/container/store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "runsc/errors.h"
#include "runsc/json_writer.h"
#include "runsc/spec/json_reader.h"

namespace runsc {
namespace {

constexpr int64_t kLockTimeoutNs = 30 * base::kNsPerSecond;
constexpr const char* kStatusNames[] = {"creating", "created", "running", "paused", "stopped"};

absl::Status DoesNotExist(const std::string& id) {
  return absl::NotFoundError(absl::StrCat("container does not exist: \"", id, "\""));
}

// mkdir -p, mode 0711 as runc's, for the parents of the containers.
absl::Status MakeRoot(const std::string& root) {
  for (size_t slash = 1; slash != std::string::npos;) {
    slash = root.find('/', slash);
    std::string directory = root.substr(0, slash);
    if (mkdir(directory.c_str(), 0711) != 0 && errno != EEXIST) {
      return absl::InvalidArgumentError(absl::StrCat("--root: ", directory, ": ", ErrnoText(errno)));
    }
    if (slash != std::string::npos) ++slash;
  }
  return absl::OkStatus();
}

}  // namespace

const char* StatusName(Status status) { return kStatusNames[static_cast<int>(status)]; }

std::string RecordToJson(const ContainerRecord& r) {
  JsonWriter w;
  w.BeginObject();
  w.String("id", r.id);
  w.String("bundle", r.bundle);
  w.String("rootfs", r.rootfs);
  w.String("ociVersion", r.oci_version);
  w.String("status", StatusName(r.status));
  if (!r.sandbox_id.empty()) w.String("sandboxId", r.sandbox_id);
  w.Number("sandboxPid", r.sandbox_pid);
  w.Number("sandboxStartTicks", static_cast<int64_t>(r.sandbox_start_ticks));
  w.Number("goferPid", r.gofer_pid);
  w.Number("goferStartTicks", static_cast<int64_t>(r.gofer_start_ticks));
  w.Number("createdNs", r.created_ns);
  w.Number("ownerUid", r.owner_uid);
  w.Bool("terminal", r.terminal);
  if (r.is_starting) w.Bool("isStarting", true);
  w.StringMap("annotations", r.annotations);
  w.Strings("cgroupPaths", r.cgroup_paths);
  if (!r.systemd_unit.empty()) w.String("systemdUnit", r.systemd_unit);
  w.EndObject();
  return w.text() + "\n";
}

absl::StatusOr<ContainerRecord> RecordFromJson(const std::string& text) {
  ContainerRecord record;
  std::string status;
  auto read = [&](spec::ObjectReader& r) {
    int64_t sandbox = 0, gofer = 0;
    r.String("id", &record.id, spec::Need::kRequired);
    r.String("bundle", &record.bundle);
    r.String("rootfs", &record.rootfs);
    r.String("ociVersion", &record.oci_version);
    r.String("status", &status, spec::Need::kRequired);
    r.String("sandboxId", &record.sandbox_id);
    r.Integer("sandboxPid", &sandbox, 0, INT32_MAX);
    r.Unsigned("sandboxStartTicks", &record.sandbox_start_ticks);
    r.Integer("goferPid", &gofer, 0, INT32_MAX);
    r.Unsigned("goferStartTicks", &record.gofer_start_ticks);
    r.Integer("createdNs", &record.created_ns, 0, INT64_MAX);
    r.Uint32("ownerUid", &record.owner_uid);
    r.Bool("terminal", &record.terminal);
    r.Bool("isStarting", &record.is_starting);
    r.StringMap("annotations", &record.annotations);
    r.Strings("cgroupPaths", &record.cgroup_paths);
    r.String("systemdUnit", &record.systemd_unit);
    record.sandbox_pid = static_cast<pid_t>(sandbox);
    record.gofer_pid = static_cast<pid_t>(gofer);
    auto name = std::find(std::begin(kStatusNames), std::end(kStatusNames), status);
    if (name == std::end(kStatusNames)) return r.Fail("status", "unknown status \"" + status + "\"");
    record.status = static_cast<Status>(name - std::begin(kStatusNames));
  };
  RETURN_IF_ERROR(spec::ReadJsonObject(text, "", read, nullptr));
  return record;
}

absl::Status ValidateId(const std::string& id) {
  // A file name, with room for suffixes.
  bool good = !id.empty() && id.size() <= 240 && id != "." && id != "..";
  for (unsigned char c : id) good = good && (isalnum(c) || strchr("_+.-", c));
  if (good) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("invalid container ID format: ", JsonString(id), ": use letters, digits and _ + . -"));
}

absl::StatusOr<base::UniqueFd> ContainerStore::Create(const std::string& id) {
  RETURN_IF_ERROR(ValidateId(id));
  RETURN_IF_ERROR(MakeRoot(root_));
  std::string directory = DirectoryOf(id);
  if (mkdir(directory.c_str(), 0700) != 0) {
    if (errno == EEXIST) {
      return absl::AlreadyExistsError(absl::StrCat("container with given ID already exists: \"", id, "\""));
    }
    return absl::InvalidArgumentError(absl::StrCat("--root: ", directory, ": ", ErrnoText(errno)));
  }
  base::UniqueFd lock(open((directory + "/lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (lock.ok() && flock(lock.get(), LOCK_EX) == 0) return lock;
  absl::Status status = absl::InternalError(absl::StrCat(directory, "/lock: ", ErrnoText(errno)));
  Remove(id).IgnoreError();
  return status;
}

absl::StatusOr<base::UniqueFd> ContainerStore::Lock(const std::string& id) {
  RETURN_IF_ERROR(ValidateId(id));
  std::string directory = DirectoryOf(id);
  int64_t deadline = base::MonotonicNs() + kLockTimeoutNs;
  while (true) {
    base::UniqueFd lock(open((directory + "/lock").c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW));
    if (!lock.ok()) {
      struct stat st;
      // The maker died between mkdir and the lock: without the file there is nothing to race with.
      if (errno == ENOENT && lstat(directory.c_str(), &st) == 0) {
        lock.Reset(open((directory + "/lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
      } else if (errno == ENOENT) {
        return DoesNotExist(id);
      }
    }
    if (!lock.ok()) return absl::InternalError(absl::StrCat(directory, "/lock: ", ErrnoText(errno)));
    if (flock(lock.get(), LOCK_EX | LOCK_NB) == 0) {
      // The holder before us may have removed the container.
      struct stat held, named;
      if (fstat(lock.get(), &held) == 0 && stat((directory + "/lock").c_str(), &named) == 0 &&
          held.st_ino == named.st_ino && held.st_dev == named.st_dev) {
        return lock;
      }
      continue;
    }
    if (errno != EWOULDBLOCK && errno != EINTR) {
      return absl::InternalError(absl::StrCat(directory, "/lock: ", ErrnoText(errno)));
    }
    if (base::MonotonicNs() > deadline) {
      return absl::DeadlineExceededError(
          absl::StrCat("container \"", id, "\" is in use by another command for over 30 s: try again later"));
    }
    timespec pause{.tv_nsec = 5'000'000};
    nanosleep(&pause, nullptr);
  }
}

absl::Status ContainerStore::Save(const ContainerRecord& record) {
  std::string path = DirectoryOf(record.id) + "/state.json";
  std::string temporary = path + ".new";
  std::string text = RecordToJson(record);
  base::UniqueFd fd(open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!fd.ok() || write(fd.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size()) ||
      rename(temporary.c_str(), path.c_str()) != 0) {
    return absl::InternalError(absl::StrCat(path, ": ", ErrnoText(errno)));
  }
  return absl::OkStatus();
}

absl::StatusOr<ContainerRecord> ContainerStore::Load(const std::string& id) {
  RETURN_IF_ERROR(ValidateId(id));
  std::string path = DirectoryOf(id) + "/state.json";
  std::string text;
  absl::Status status = spec::ReadSmallFile(path, &text);
  if (absl::IsNotFound(status)) {
    struct stat st;
    if (lstat(DirectoryOf(id).c_str(), &st) != 0) return DoesNotExist(id);
    return absl::DataLossError(
        absl::StrCat("container \"", id, "\" was never completed: remove it with delete --force"));
  }
  RETURN_IF_ERROR(status);
  auto record = RecordFromJson(text);
  if (!record.ok()) return absl::DataLossError(absl::StrCat(path, ": ", record.status().message()));
  return record;
}

std::optional<int> ContainerStore::ExitStatus(const std::string& id) {
  std::string text;
  if (!spec::ReadSmallFile(DirectoryOf(id) + "/exit_status", &text).ok() || text.empty()) return std::nullopt;
  char* end = nullptr;
  long value = strtol(text.c_str(), &end, 10);
  if (end == text.c_str() || value < 0 || value > 0xffff) return std::nullopt;
  return static_cast<int>(value);
}

absl::Status ContainerStore::Remove(const std::string& id) {
  RETURN_IF_ERROR(ValidateId(id));
  std::string directory = DirectoryOf(id);
  // Only our own files: what else somebody put there is not ours to delete. state.json goes first: from then on the
  // container does not exist for readers.
  for (const char* name :
       {"state.json", "state.json.new", "config.json", "network", "control.sock", "exit_status", "lock"}) {
    if (unlink((directory + "/" + name).c_str()) != 0 && errno != ENOENT) {
      return absl::InternalError(absl::StrCat(directory, "/", name, ": ", ErrnoText(errno)));
    }
  }
  if (rmdir(directory.c_str()) != 0 && errno != ENOENT) {
    return absl::InternalError(absl::StrCat(directory, ": ", ErrnoText(errno)));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::string>> ContainerStore::List() {
  std::vector<std::string> ids;
  DIR* directory = opendir(root_.c_str());
  if (!directory) {
    if (errno == ENOENT) return ids;
    return absl::InvalidArgumentError(absl::StrCat("--root: ", root_, ": ", ErrnoText(errno)));
  }
  while (dirent* entry = readdir(directory)) {
    std::string id = entry->d_name;
    struct stat st;
    if (ValidateId(id).ok() && lstat(DirectoryOf(id).c_str(), &st) == 0 && S_ISDIR(st.st_mode)) ids.push_back(id);
  }
  closedir(directory);
  std::sort(ids.begin(), ids.end());
  return ids;
}

}  // namespace runsc
