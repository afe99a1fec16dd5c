// SPDX-License-Identifier: Apache-2.0
// The cgroup and cgroup2 filesystems (cgroups(7)): kernel/cgroup.h as directories and files.
#ifndef SENTRY_FS_CGROUP_CGROUP_H_
#define SENTRY_FS_CGROUP_CGROUP_H_

#include "sentry/kernel/cgroup.h"
#include "sentry/vfs/vfs.h"

namespace sentry::fs {

// mount -t cgroup, -t cgroup2. EINVAL: options; EBUSY: controllers that another hierarchy has; EPERM: a new hierarchy
// outside the first cgroup namespace. Without a calling task (a container's mounts) `source.options` must be empty.
Result<RefPtr<vfs::Filesystem>> NewCgroup1(const vfs::MountSource& source);
Result<RefPtr<vfs::Filesystem>> NewCgroup2(const vfs::MountSource& source);
// cgroup2 with `root` as its top: what a container's config.json mounts.
RefPtr<vfs::Filesystem> NewCgroup2At(RefPtr<kernel::Cgroup> root);

// The v2 group whose directory `file` is (clone3(2) CLONE_INTO_CGROUP); EBADF for other files.
Result<RefPtr<kernel::Cgroup>> CgroupOfDirectory(vfs::FileDescription& file);
// Whether the calling task may move processes between the two groups of one hierarchy: EACCES. T held.
Result<void> MayMoveLocked(const Credentials& creds, const kernel::Cgroup& from, const kernel::Cgroup& to);

}  // namespace sentry::fs

#endif  // SENTRY_FS_CGROUP_CGROUP_H_
