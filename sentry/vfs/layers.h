// SPDX-License-Identifier: Apache-2.0
// Names of one filesystem as another one that is stacked on it changes them: by dentry, without walks, permissions or
// mount flags. The caller may hold locks of its own directories (Filesystem::directory_rank()), none of the layer's.
#ifndef SENTRY_VFS_LAYERS_H_
#define SENTRY_VFS_LAYERS_H_

#include <string_view>

#include "sentry/vfs/path.h"

namespace sentry::vfs {

// The dentry of a name; its inode is null when there is no such file. Nothing that is mounted there is seen.
Result<RefPtr<Dentry>> LayerLookup(Dentry& directory, std::string_view name);

// Whether `ancestor` is `dentry` or above it in one filesystem's tree.
bool LayerIsAncestor(const Dentry& ancestor, const Dentry& dentry);

struct LayerNode {
  mode_t type = S_IFREG;
  dev_t device = 0;
  std::string_view target;  // of a symbolic link
  CreateAttributes attributes;
};
// EEXIST.
Result<RefPtr<Dentry>> LayerCreate(Dentry& directory, std::string_view name, const LayerNode& node);
Result<RefPtr<Inode>> LayerCreateUnnamed(Dentry& directory, const CreateAttributes& attributes);
// A name for a file of the same filesystem, also for one without any. EEXIST.
Result<RefPtr<Dentry>> LayerLink(Dentry& directory, std::string_view name, Inode& inode);
// Removes a file or an empty directory. ENOENT, EBUSY (a mount point).
Result<void> LayerRemove(Dentry& directory, std::string_view name);
// As rename(2), replacing what is there, or with RENAME_EXCHANGE. Between two directories: the caller is in an
// operation that holds the one lock of renames.
Result<void> LayerRename(Dentry& from, std::string_view old_name, Dentry& to, std::string_view new_name,
                         unsigned flags);

}  // namespace sentry::vfs

#endif  // SENTRY_VFS_LAYERS_H_
