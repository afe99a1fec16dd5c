// SPDX-License-Identifier: Apache-2.0
// linux.seccomp of config.json as a filter for the container's processes: what libseccomp and runc make of it.
#ifndef SENTRY_BOOT_SECCOMP_PROFILE_H_
#define SENTRY_BOOT_SECCOMP_PROFILE_H_

#include "absl/status/statusor.h"
#include "runsc/spec/spec.h"
#include "sentry/kernel/seccomp_filter.h"

namespace sentry {

// Names that are no system call of x86-64 are passed over. kInvalidArgument when the program gets too long.
absl::StatusOr<RefPtr<kernel::SeccompFilter>> CompileSeccompProfile(const runsc::spec::Seccomp& profile);

}  // namespace sentry

#endif  // SENTRY_BOOT_SECCOMP_PROFILE_H_
