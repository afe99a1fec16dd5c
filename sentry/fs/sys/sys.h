// SPDX-License-Identifier: Apache-2.0
// sysfs(5): the processors, one memory node, the loopback interface, and the empty directories that programs look into.
// Read-only.
#ifndef SENTRY_FS_SYS_SYS_H_
#define SENTRY_FS_SYS_SYS_H_

#include "sentry/vfs/vfs.h"

namespace sentry::fs {

// The factory for RegisterFilesystemType("sysfs", NewSysfs). The machine is as told to SetProcHostInfo. Takes no
// options (EINVAL).
Result<RefPtr<vfs::Filesystem>> NewSysfs(const vfs::MountSource& source);

}  // namespace sentry::fs

#endif  // SENTRY_FS_SYS_SYS_H_
