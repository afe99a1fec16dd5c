// SPDX-License-Identifier: Apache-2.0
#include "shim/mounts.h"

#include <errno.h>
#include <sys/mount.h>
#include <unistd.h>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "runsc/errors.h"
#include "runsc/spec/mount_options.h"

namespace shim {
namespace {

// mount(2) takes a page of options, with the final 0.
constexpr size_t kMaxData = 4095;

// An overlay of many layers names more than fits: the layers' common directory becomes the current one and their names
// relative.
// "" when there is no such directory.
std::string Shorten(std::vector<std::string>* data) {
  for (std::string& option : *data) {
    if (!absl::StartsWith(option, "lowerdir=")) continue;
    std::vector<std::string> layers = absl::StrSplit(option.substr(strlen("lowerdir=")), ':');
    std::string common = layers[0].substr(0, layers[0].rfind('/') + 1);
    for (const std::string& layer : layers) {
      while (!absl::StartsWith(layer, common)) common = common.substr(0, common.rfind('/', common.size() - 2) + 1);
    }
    if (common.size() <= 1) return "";
    for (std::string& layer : layers) layer = layer.substr(common.size());
    option = "lowerdir=" + absl::StrJoin(layers, ":");
    return common;
  }
  return "";
}

absl::Status MountOne(const pb::Mount& mount, const std::string& target) {
  runsc::spec::Mount parsed;
  for (const std::string& option : mount.options()) {
    std::string wrong = runsc::spec::ApplyMountOption(option, &parsed);
    if (!wrong.empty()) return absl::InvalidArgumentError(absl::StrCat(option, ": ", wrong));
  }
  std::string directory;
  if (absl::StrJoin(parsed.data, ",").size() > kMaxData) directory = Shorten(&parsed.data);
  std::string data = absl::StrJoin(parsed.data, ",");
  if (data.size() > kMaxData) return absl::InvalidArgumentError("its options are longer than a page");
  const bool bind = mount.type() == "bind" || mount.type() == "rbind" || (parsed.flags & MS_BIND);
  uint64_t flags = parsed.flags | (bind ? MS_BIND : 0) | (mount.type() == "rbind" ? MS_REC : 0);
  if (!directory.empty() && chdir(directory.c_str()) != 0) {
    return absl::FailedPreconditionError(absl::StrCat(directory, ": ", runsc::ErrnoText(errno)));
  }
  int failed = ::mount(mount.source().c_str(), target.c_str(), mount.type().c_str(), flags, data.c_str());
  int error = errno;
  if (!directory.empty() && chdir("/") != 0) return absl::InternalError("chdir to /");
  if (failed) return absl::FailedPreconditionError(runsc::ErrnoText(error));
  constexpr uint64_t kRemounted = MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_NOATIME | MS_NODIRATIME;
  if (bind && (flags & kRemounted) &&
      ::mount(nullptr, target.c_str(), nullptr, MS_REMOUNT | MS_BIND | (flags & kRemounted), nullptr) != 0) {
    return absl::FailedPreconditionError(absl::StrCat("remount: ", runsc::ErrnoText(errno)));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status MountAll(const std::vector<pb::Mount>& mounts, const std::string& target) {
  for (const pb::Mount& mount : mounts) {
    absl::Status status = MountOne(mount, target);
    if (status.ok()) continue;
    UnmountAll(target);
    return runsc::Annotate(status, absl::StrCat("mounting ", mount.type(), " ", mount.source(), " at ", target));
  }
  return absl::OkStatus();
}

void UnmountAll(const std::string& target) {
  // EINVAL: nothing is mounted there any more.
  while (umount2(target.c_str(), UMOUNT_NOFOLLOW) == 0 ||
         (errno == EBUSY && umount2(target.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW) == 0)) {
  }
}

}  // namespace shim
