// SPDX-License-Identifier: Apache-2.0
// ptrace(2).
#include "sentry/kernel/ptrace.h"

#include "sentry/syscalls/handlers.h"

namespace sentry::syscalls {

SYSCALL_HANDLER(SysPtrace) { return kernel::Ptrace(task, args.Ulong(0), args.Int(1), args.Ulong(2), args.Ulong(3)); }

}  // namespace sentry::syscalls
