// SPDX-License-Identifier: Apache-2.0
// What the operations of vfs.h share. Private to vfs/.
#ifndef SENTRY_VFS_OPERATIONS_H_
#define SENTRY_VFS_OPERATIONS_H_

#include <string_view>

#include "sentry/vfs/dentry_cache.h"
#include "sentry/vfs/permission.h"
#include "sentry/vfs/vfs.h"
#include "sentry/vfs/walk.h"

namespace sentry::vfs {

// IN_CREATE, IN_DELETE, IN_MOVED_*: to the directory's watches only. No directory lock held.
// `child`: what the name stands or stood for.
void NotifyDirectory(const Dentry& directory, uint32_t mask, const Dentry& child, std::string_view name,
                     uint32_t cookie = 0);
// After a name of `inode` went: IN_ATTRIB, and IN_DELETE_SELF if it was the last.
void NotifyNameRemoved(Inode& inode);
// The object's own, without a name: IN_ATTRIB, IN_MOVE_SELF.
void NotifySelf(Inode& inode, uint32_t mask, const Dentry* dentry = nullptr);
// EROFS when the mount is read-only and the file's type is one that it covers.
Result<void> CheckMountWritable(const Path& path);
// Truncation with its permissions checked: clears set-id bits. ETXTBSY while the file is executed.
Result<void> TruncateInode(const Credentials* creds, Inode& inode, uint64_t size);

}  // namespace sentry::vfs

#endif  // SENTRY_VFS_OPERATIONS_H_
