// SPDX-License-Identifier: Apache-2.0
// The memory devices (null(4), full(4), random(4)) and the usual contents of a container's /dev. Terminals are
// fs/devpts's.
#ifndef SENTRY_FS_DEV_DEV_H_
#define SENTRY_FS_DEV_DEV_H_

#include <string>

#include "sentry/vfs/path.h"

namespace sentry::fs {

// Registers major 1 with the vfs; once, at start. ConfigureTmpfs must have been called before a guest maps /dev/zero.
void RegisterDevices();

// Fills an empty writable directory (the root of a fresh tmpfs mount): null zero full random urandom tty, the links fd
// stdin stdout stderr core ptmx, the directories pts shm mqueue. What is there already stays. `failed`, if given, names
// the entry of an error.
Result<void> PopulateDev(const RefPtr<vfs::MountNamespace>& mounts, const vfs::Path& dev_root,
                         std::string* failed = nullptr);

}  // namespace sentry::fs

#endif  // SENTRY_FS_DEV_DEV_H_
