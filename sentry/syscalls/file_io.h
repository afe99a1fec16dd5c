// SPDX-License-Identifier: Apache-2.0
// Blocking reads and writes over non-blocking file operations; shared by the read/write family, splice and sendfile.
#ifndef SENTRY_SYSCALLS_FILE_IO_H_
#define SENTRY_SYSCALLS_FILE_IO_H_

#include "sentry/syscalls/syscall.h"

namespace sentry::syscalls {

// `offset` -1: the file's position. Checks access modes (EBADF). Blocks unless O_NONBLOCK or `nonblocking`.
Result<size_t> ReadFile(Task& task, vfs::FileDescription& file, IoTarget& target, int64_t offset,
                        bool nonblocking = false);
Result<size_t> WriteFile(Task& task, vfs::FileDescription& file, IoSource& source, int64_t offset,
                         bool nonblocking = false, bool append = false);

}  // namespace sentry::syscalls

#endif  // SENTRY_SYSCALLS_FILE_IO_H_
