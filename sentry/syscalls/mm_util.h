// SPDX-License-Identifier: Apache-2.0
// What the calls that make or change mappings share.
#ifndef SENTRY_SYSCALLS_MM_UTIL_H_
#define SENTRY_SYSCALLS_MM_UTIL_H_

#include "sentry/syscalls/syscall.h"

namespace sentry::syscalls {

// PROT_* as the hardware does them.
mm::Protection ProtectionOf(int prot);
// Tells the address space the caller's present limits.
void RefreshLimits(Task& task);

}  // namespace sentry::syscalls

#endif  // SENTRY_SYSCALLS_MM_UTIL_H_
