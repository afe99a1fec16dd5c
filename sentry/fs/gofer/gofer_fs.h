// SPDX-License-Identifier: Apache-2.0
// The gofer client filesystem: a host tree served by the container's gofer process. Attributes and names are cached in
// the sentry (file access "exclusive"); file data goes straight to donated host fds.
#ifndef SENTRY_FS_GOFER_GOFER_FS_H_
#define SENTRY_FS_GOFER_GOFER_FS_H_

#include <memory>

#include "gofer/protocol/client.h"
#include "sentry/vfs/inode.h"

namespace sentry::fs {

struct GoferOptions {
  bool shared =
      false;  // --file-access=shared: others change the tree too; attributes and names are asked for each time
};

// Takes a connected client. The root may be a directory or a single file.
RefPtr<vfs::Filesystem> NewGoferFilesystem(std::unique_ptr<::gofer::Client> client, GoferOptions options);

}  // namespace sentry::fs

#endif  // SENTRY_FS_GOFER_GOFER_FS_H_
