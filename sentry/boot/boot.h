// SPDX-License-Identifier: Apache-2.0
// The sentry process: `runsc boot`.
#ifndef SENTRY_BOOT_BOOT_H_
#define SENTRY_BOOT_BOOT_H_

#include "runsc/boot_args.h"

namespace sentry {

// Confines the process, makes the kernel, serves the control socket, runs the container, and returns its exit code
// (128 + signal). Single-threaded at the call. What must be done, and what the process was given: runsc/boot_args.h.
int BootMain(runsc::BootArgs args);

}  // namespace sentry

#endif  // SENTRY_BOOT_BOOT_H_
