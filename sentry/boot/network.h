// SPDX-License-Identifier: Apache-2.0
// The interfaces that the CLI hands over become those of the sandbox's first network namespace.
#ifndef SENTRY_BOOT_NETWORK_H_
#define SENTRY_BOOT_NETWORK_H_

#include "absl/status/status.h"
#include "runsc/control/network_config.h"

namespace sentry {

// Adds them, with their addresses, routes and permanent neighbours, under the names and numbers that they have outside,
// and starts to receive. Called at most once; errors name the interface or the route.
absl::Status SetUpNetwork(runsc::control::NetworkConfig config);

}  // namespace sentry

#endif  // SENTRY_BOOT_NETWORK_H_
