// SPDX-License-Identifier: Apache-2.0
// The interfaces that the CLI hands over become those of the sandbox's first network namespace.
#ifndef SENTRY_BOOT_NETWORK_H_
#define SENTRY_BOOT_NETWORK_H_

#include "absl/status/statusor.h"
#include "runsc/control/network_config.h"

namespace sentry {

// Adds them, with their addresses, routes and permanent neighbours, under the names and numbers that they have outside,
// and starts to receive. Called at most once; errors name the interface or the route.
absl::Status SetUpNetwork(runsc::control::NetworkConfig config);

// --network=host: all interfaces of the namespace that the sentry is in.
absl::StatusOr<runsc::control::NetworkConfig> ReadHostNetwork();
// They are what guests see, and can't change, in the sandbox's first network namespace, whose sockets are the host's
// from now on. Within the limits that host_options.h sets.
absl::Status UseHostNetwork(const runsc::control::NetworkConfig& config);

}  // namespace sentry

#endif  // SENTRY_BOOT_NETWORK_H_
