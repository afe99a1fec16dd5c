// SPDX-License-Identifier: Apache-2.0
// The table of system calls as documents: docs/compatibility.md and `runsc help syscalls`.
#ifndef SENTRY_SYSCALLS_COMPATIBILITY_H_
#define SENTRY_SYSCALLS_COMPATIBILITY_H_

#include <string>

namespace sentry::syscalls {

// The whole of docs/compatibility.md.
std::string CompatibilityMarkdown();
// For a terminal: number, name, support, note; totals at the end.
std::string SyscallsText();

}  // namespace sentry::syscalls

#endif  // SENTRY_SYSCALLS_COMPATIBILITY_H_
