// SPDX-License-Identifier: Apache-2.0
// A donated host descriptor as a guest file: a container's standard streams. The host's open file description is shared
// with the outside, so O_NONBLOCK is never set on it: reads and writes happen when poll(2) says that they won't block.
#ifndef SENTRY_FS_HOST_HOST_FILE_H_
#define SENTRY_FS_HOST_HOST_FILE_H_

#include "sentry/vfs/file_description.h"

namespace sentry::fs {

// Wraps `fd` (pipe, socket, regular file, character device). EBADF if it is closed. Owner of the inode: `creds`.
Result<vfs::FileRef> NewHostFile(UniqueFd fd, const Credentials& creds);

}  // namespace sentry::fs

#endif  // SENTRY_FS_HOST_HOST_FILE_H_
