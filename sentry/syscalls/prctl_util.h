// SPDX-License-Identifier: Apache-2.0
// What of prctl(2) lives in the files of other calls.
#ifndef SENTRY_SYSCALLS_PRCTL_UTIL_H_
#define SENTRY_SYSCALLS_PRCTL_UTIL_H_

#include "sentry/syscalls/syscall.h"

namespace sentry::syscalls {

// PR_SET_SECCOMP.
Value PrctlSetSeccomp(Task& task, uint64_t mode, UserAddr filter);

}  // namespace sentry::syscalls

#endif  // SENTRY_SYSCALLS_PRCTL_UTIL_H_
