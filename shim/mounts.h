// SPDX-License-Identifier: Apache-2.0
// The mounts of a Create call, which make a container's root file system.
#ifndef SHIM_MOUNTS_H_
#define SHIM_MOUNTS_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "shim/proto/types.pb.h"

namespace shim {

// Mounts them over `target`, each over the one before. On failure nothing is left mounted. Errors name the mount.
absl::Status MountAll(const std::vector<pb::Mount>& mounts, const std::string& target);
// Takes away all that is mounted at `target`. One that is busy is detached and goes when its last user does.
void UnmountAll(const std::string& target);

}  // namespace shim

#endif  // SHIM_MOUNTS_H_
