// SPDX-License-Identifier: Apache-2.0
// What Linux finds out about a buffer before it does anything: access_ok().
#ifndef SENTRY_SYSCALLS_ACCESS_OK_H_
#define SENTRY_SYSCALLS_ACCESS_OK_H_

#include "sentry/common.h"
#include "sentry/kernel/core/user_addr.h"

namespace sentry::syscalls {

// Whether a range is one of user space, mapped or not: EFAULT. The end is Linux's (TASK_SIZE_MAX), not the platform's.
inline Result<void> CheckRange(UserAddr address, uint64_t length) {
  constexpr uint64_t kTaskSize = 0x7fff'ffff'f000;
  if (length > kTaskSize || address.value() > kTaskSize - length) return Errno(EFAULT);
  return OkResult();
}

}  // namespace sentry::syscalls

#endif  // SENTRY_SYSCALLS_ACCESS_OK_H_
