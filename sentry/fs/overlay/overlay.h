// SPDX-License-Identifier: Apache-2.0
// overlay: lower trees that are never written, and changes kept above them: in a tmpfs of the sandbox for its own
// roots, in a directory of the guest's choice for the mounts that guests make.
#ifndef SENTRY_FS_OVERLAY_OVERLAY_H_
#define SENTRY_FS_OVERLAY_OVERLAY_H_

#include <functional>
#include <string>

#include "sentry/vfs/inode.h"
#include "sentry/vfs/vfs.h"

namespace sentry::fs {

// `upper` is an otherwise unused, empty tmpfs: it supplies the inodes and the memory of all that changes.
Result<RefPtr<vfs::Filesystem>> NewOverlay(RefPtr<vfs::Filesystem> lower, RefPtr<vfs::Filesystem> upper);

// How an archive of changes says that a name of the lower tree is gone.
enum class WhiteoutForm {
  kOverlay,  // as overlayfs stores it: a character device 0:0; trusted.overlay.opaque=y on a directory that replaces
             // one
  kOci,      // as image layers: an empty file .wh.NAME; .wh..wh..opq in such a directory
};

// Takes the next bytes of an archive. An error ends it.
using TarSink = std::function<Result<void>(const void* data, size_t length)>;

// What differs from the lower tree of `overlay`, which NewOverlay made, as a tar archive (tar_writer.h): made, changed
// and moved files, whiteouts, and the directories on the way to them. Sockets are left out. Walks the merged tree until
// all that was changed in place is found. Guests may run meanwhile: each file is as it was when the walk came by, and
// one that shrinks under it is filled with zeroes. On an error `at` is where the walk was.
Result<void> WriteUpperTar(vfs::Filesystem& overlay, WhiteoutForm form, const TarSink& sink, std::string* at);

// mount(2) of the type "overlay" by a guest: lowerdir=a:b[,upperdir=u,workdir=w]. EINVAL for what Linux's overlayfs
// would refuse, and for features that are not there (redirect_dir=on, index=on, metacopy=on, nfs_export=on).
Result<RefPtr<vfs::Filesystem>> NewGuestOverlay(const vfs::MountSource& source);

}  // namespace sentry::fs

#endif  // SENTRY_FS_OVERLAY_OVERLAY_H_
