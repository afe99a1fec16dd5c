// SPDX-License-Identifier: Apache-2.0
// overlay: a lower tree that is never written, and changes kept above it in a tmpfs of the sandbox.
#ifndef SENTRY_FS_OVERLAY_OVERLAY_H_
#define SENTRY_FS_OVERLAY_OVERLAY_H_

#include "sentry/vfs/inode.h"

namespace sentry::fs {

// `upper` is an otherwise unused, empty tmpfs: it supplies the inodes and the memory of all that changes.
Result<RefPtr<vfs::Filesystem>> NewOverlay(RefPtr<vfs::Filesystem> lower, RefPtr<vfs::Filesystem> upper);

}  // namespace sentry::fs

#endif  // SENTRY_FS_OVERLAY_OVERLAY_H_
