// SPDX-License-Identifier: Apache-2.0
// Shared by mount(2) and the calls of the new mount API.
#ifndef SENTRY_SYSCALLS_MOUNT_UTIL_H_
#define SENTRY_SYSCALLS_MOUNT_UTIL_H_

#include "sentry/syscalls/syscall.h"

namespace sentry::syscalls {

// may_mount(): CAP_SYS_ADMIN over the caller's mount namespace.
bool MayMount(const Task& task);
// MS_* of mount(2) as MountFlags, relatime by default.
uint32_t MountFlagsOf(unsigned long ms_flags);
// A new filesystem (superblock) for the caller: ENODEV (unknown type), EPERM (its user namespace may not, or proc and
// sysfs would show what is hidden from it), the type's own errors.
Result<RefPtr<vfs::Filesystem>> NewFilesystem(Task& task, const std::string& type, const std::string& source,
                                              const std::string& options);
// A mount of the whole of it.
RefPtr<vfs::Mount> NewMountOf(const RefPtr<vfs::Filesystem>& filesystem, uint32_t flags, const std::string& source);
// The path at (dirfd, address) with AT_SYMLINK_NOFOLLOW and AT_EMPTY_PATH of `at_flags`.
Result<vfs::Path> PathAt(Task& task, int dirfd, UserAddr address, int at_flags);

}  // namespace sentry::syscalls

#endif  // SENTRY_SYSCALLS_MOUNT_UTIL_H_
