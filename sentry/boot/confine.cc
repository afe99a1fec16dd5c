// SPDX-License-Identifier: Apache-2.0
#include "sentry/boot/confine.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/unique_fd.h"

namespace sentry {
namespace {

absl::Status HostError(const char* what) {
  return absl::InternalError(absl::StrCat("confining the sentry: ", what, ": ", strerror(errno)));
}

}  // namespace

absl::Status EmptyRoot::Enter() {
  // Any directory serves as the place of the new root; it is hidden and then gone with the old one.
  constexpr char kPlace[] = "/proc";
  if (mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return HostError("making mounts private");
  if (mount("sentry", kPlace, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "size=4k,nr_inodes=2,mode=555") != 0)
    return HostError("mounting an empty root");
  base::UniqueFd old_root(open("/", O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!old_root.ok()) return HostError("opening the old root");
  if (chdir(kPlace) != 0) return HostError("chdir");
  if (syscall(SYS_pivot_root, ".", ".") != 0) return HostError("pivot_root");
  if (chdir("/") != 0) return HostError("chdir");
  if (mount("none", "/", nullptr, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, nullptr) != 0)
    return HostError("making the root read-only");
  thread_ = std::thread([this, old_root = std::move(old_root)]() mutable {
    // Its own working directory: nobody else's may be in the old root, not even for a moment.
    if (unshare(CLONE_FS) != 0 || fchdir(old_root.get()) != 0 || umount2(".", MNT_DETACH) != 0)
      detached_ = HostError("detaching the host's root");
  });
  return absl::OkStatus();
}

absl::Status EmptyRoot::Finish() {
  if (thread_.joinable()) thread_.join();
  return detached_;
}

absl::Status DropPrivileges(uint64_t keep) {
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return HostError("no_new_privs");
  for (int capability = 0; capability <= CAP_LAST_CAP; ++capability) {
    if (keep & (uint64_t{1} << capability)) continue;
    // A capability that this host's kernel doesn't know can't be dropped (EINVAL), nor had.
    if (prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) != 0 && errno != EINVAL)
      return HostError("dropping the bounding set");
  }
  if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) != 0 && errno != EINVAL)
    return HostError("clearing ambient capabilities");
  __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  __user_cap_data_struct kept[2] = {};
  if (keep && syscall(SYS_capget, &header, kept) != 0) return HostError("capget");
  for (int i = 0; i < 2; ++i) {
    kept[i].permitted &= static_cast<uint32_t>(keep >> (32 * i));
    kept[i].effective = kept[i].permitted;
    kept[i].inheritable = 0;
  }
  if (syscall(SYS_capset, &header, kept) != 0) return HostError("capset");
  rlimit no_core{};
  if (setrlimit(RLIMIT_CORE, &no_core) != 0) return HostError("RLIMIT_CORE");
  return absl::OkStatus();
}

}  // namespace sentry
