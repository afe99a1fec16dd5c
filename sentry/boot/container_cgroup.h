// SPDX-License-Identifier: Apache-2.0
// A container's control group inside the sandbox.
#ifndef SENTRY_BOOT_CONTAINER_CGROUP_H_
#define SENTRY_BOOT_CONTAINER_CGROUP_H_

#include <string>

#include "runsc/spec/spec.h"
#include "sentry/kernel/cgroup.h"

namespace sentry {

// The v2 group of linux.cgroupsPath (else of the container's id) with the limits of linux.resources, made when it is
// not there. Of a sandbox's first container (`outside`) the host's group around the sandbox enforces CPU time and the
// sandbox's watch memory: here they are only shown.
RefPtr<kernel::Cgroup> ContainerCgroup(const std::string& id, const runsc::spec::Spec& spec, bool outside);
// Its container is gone. A group that still has tasks stays.
void RemoveContainerCgroup(RefPtr<kernel::Cgroup> group);

}  // namespace sentry

#endif  // SENTRY_BOOT_CONTAINER_CGROUP_H_
