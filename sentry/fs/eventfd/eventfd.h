// SPDX-License-Identifier: Apache-2.0
// eventfd(2).
#ifndef SENTRY_FS_EVENTFD_EVENTFD_H_
#define SENTRY_FS_EVENTFD_EVENTFD_H_

#include "sentry/vfs/file_description.h"

namespace sentry::fs {

// `flags`: O_NONBLOCK; `semaphore`: EFD_SEMAPHORE.
vfs::FileRef NewEventFd(const Credentials& creds, uint64_t initial, bool semaphore, int flags);
bool IsEventFd(const vfs::FileDescription& file);

}  // namespace sentry::fs

#endif  // SENTRY_FS_EVENTFD_EVENTFD_H_
