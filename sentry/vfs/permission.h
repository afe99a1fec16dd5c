// SPDX-License-Identifier: Apache-2.0
// Permission rules shared by the operations (Linux's fs/namei.c and fs/attr.c), and rules that filesystems need too.
#ifndef SENTRY_VFS_PERMISSION_H_
#define SENTRY_VFS_PERMISSION_H_

#include <optional>
#include <string_view>

#include "sentry/kernel/core/credentials.h"
#include "sentry/vfs/path.h"
#include "sentry/vfs/vfs.h"

namespace sentry::vfs {

// A capability over this file: in a child user namespace only over files whose owner and group are mapped there
// (capable_wrt_inode_uidgid).
bool CapableOver(const Credentials& creds, const InodeStat& stat, int capability);
bool IsOwnerOrCapable(const Credentials& creds, const InodeStat& stat);
Result<void> GenericPermission(const Credentials& creds, const InodeStat& stat, int mask);

// Adding a name: EACCES, ENOENT in a removed directory.
Result<void> MayCreate(const WalkContext& context, const Dentry& directory);
// Removing `victim`: EACCES, EPERM (sticky), ENOTDIR, EISDIR.
Result<void> MayDelete(const WalkContext& context, const Dentry& directory, Inode& victim, bool want_directory);

// Owner, group and mode of a new file in `directory` (setgid directories; inode_init_owner). `mode` has the type's
// permission bits before the umask.
Result<CreateAttributes> NewFileAttributes(const WalkContext& context, Inode& directory, mode_t mode,
                                           bool is_directory);

// The mode without set-id bits after a write or truncate by `creds` (file_remove_privs); nothing to change: empty.
// Null: a kernel write.
std::optional<mode_t> ModeAfterWrite(const InodeStat& stat, const Credentials* creds);
// The mode after a change of owner.
mode_t ModeAfterChown(const InodeStat& stat);

// Whether a read through `path` with the open(2) `flags` changes atime (relatime as the default policy, mount(8)).
bool WantsAtime(const Path& path, int flags, const InodeStat& stat, const Timestamp& now);

}  // namespace sentry::vfs

#endif  // SENTRY_VFS_PERMISSION_H_
