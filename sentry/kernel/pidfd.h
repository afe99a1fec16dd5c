// SPDX-License-Identifier: Apache-2.0
// pidfd_open(2): a file that refers to a process; readable once the process has ended.
#ifndef SENTRY_KERNEL_PIDFD_H_
#define SENTRY_KERNEL_PIDFD_H_

#include "sentry/kernel/thread_group.h"
#include "sentry/vfs/file_description.h"

namespace sentry::kernel {

// `flags`: 0 or O_NONBLOCK (PIDFD_NONBLOCK: waitid answers EAGAIN instead of blocking).
vfs::FileRef NewPidFile(RefPtr<ThreadGroup> group, int flags);
// The process of a pidfd; null when the file is another kind.
RefPtr<ThreadGroup> ThreadGroupOfPidFile(vfs::FileDescription& file);

}  // namespace sentry::kernel

#endif  // SENTRY_KERNEL_PIDFD_H_
