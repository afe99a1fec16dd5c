// SPDX-License-Identifier: Apache-2.0
// What the internal subcommands run. The runsc binary links entry_points.cc (the sentry and the gofer); the tests of
// the front end link a program that runs containers natively instead.
#ifndef RUNSC_CMD_ENTRY_POINTS_H_
#define RUNSC_CMD_ENTRY_POINTS_H_

#include "runsc/boot_args.h"

namespace runsc {

// The exit code of the process.
int BootEntryPoint(BootArgs args);
int GoferEntryPoint(GoferArgs args);

}  // namespace runsc

#endif  // RUNSC_CMD_ENTRY_POINTS_H_
