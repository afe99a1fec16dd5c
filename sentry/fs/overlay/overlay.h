// SPDX-License-Identifier: Apache-2.0
// overlay: lower trees that are never written, and changes kept above them: in a tmpfs of the sandbox for its own
// roots, in a directory of the guest's choice for the mounts that guests make.
#ifndef SENTRY_FS_OVERLAY_OVERLAY_H_
#define SENTRY_FS_OVERLAY_OVERLAY_H_

#include "sentry/vfs/inode.h"
#include "sentry/vfs/vfs.h"

namespace sentry::fs {

// `upper` is an otherwise unused, empty tmpfs: it supplies the inodes and the memory of all that changes.
Result<RefPtr<vfs::Filesystem>> NewOverlay(RefPtr<vfs::Filesystem> lower, RefPtr<vfs::Filesystem> upper);

// mount(2) of the type "overlay" by a guest: lowerdir=a:b[,upperdir=u,workdir=w]. EINVAL for what Linux's overlayfs
// would refuse, and for features that are not there (redirect_dir=on, index=on, metacopy=on, nfs_export=on).
Result<RefPtr<vfs::Filesystem>> NewGuestOverlay(const vfs::MountSource& source);

}  // namespace sentry::fs

#endif  // SENTRY_FS_OVERLAY_OVERLAY_H_
