// SPDX-License-Identifier: Apache-2.0
// O_ASYNC: the signal that tells the owner of a file (F_SETOWN, F_SETSIG of fcntl(2)) that the file has become ready.
// Works for whatever has a wait queue. An event may come under any lock, so the signal is sent by the retry thread of
// the process that turned O_ASYNC on (kernel/async_work.h); with that process the notifications end.
#ifndef SENTRY_SYSCALLS_ASYNC_NOTIFIER_H_
#define SENTRY_SYSCALLS_ASYNC_NOTIFIER_H_

#include "sentry/syscalls/syscall.h"

namespace sentry::syscalls {

// F_SETFL and FIOASYNC: sets the status flags; O_ASYNC starts or ends the notifications of `file` about `fd`.
Result<void> SetStatusFlags(Task& task, vfs::FileDescription& file, int fd, int flags);

}  // namespace sentry::syscalls

#endif  // SENTRY_SYSCALLS_ASYNC_NOTIFIER_H_
