// SPDX-License-Identifier: Apache-2.0
// Shared by the handlers that change credentials.
#ifndef SENTRY_SYSCALLS_CRED_UTIL_H_
#define SENTRY_SYSCALLS_CRED_UTIL_H_

#include "sentry/syscalls/syscall.h"

namespace sentry::syscalls {

// Puts new credentials in place; a change of identity makes the process undumpable and clears its parent-death signal,
// as Linux's commit_creds does.
void InstallCredentials(Task& task, RefPtr<Credentials> creds);

}  // namespace sentry::syscalls

#endif  // SENTRY_SYSCALLS_CRED_UTIL_H_
