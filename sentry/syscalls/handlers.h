// SPDX-License-Identifier: Apache-2.0
// Declarations of every handler in the table.
#ifndef SENTRY_SYSCALLS_HANDLERS_H_
#define SENTRY_SYSCALLS_HANDLERS_H_

#include "sentry/syscalls/syscall.h"

namespace sentry::syscalls {

#define CALL(number, name, handler, arguments) SYSCALL_HANDLER(handler);
#define PART(number, name, handler, arguments, note) SYSCALL_HANDLER(handler);
#define NONE(number, name, error, reason)
#define GONE(number, name, reason)
#include "sentry/syscalls/table_x86_64.inc"
#undef CALL
#undef PART
#undef NONE
#undef GONE

}  // namespace sentry::syscalls

#endif  // SENTRY_SYSCALLS_HANDLERS_H_
