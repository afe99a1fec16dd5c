// SPDX-License-Identifier: Apache-2.0
// Takes the interfaces of a network namespace over for the sandbox that lives in it.
#ifndef RUNSC_SANDBOX_HOST_NETWORK_H_
#define RUNSC_SANDBOX_HOST_NETWORK_H_

#include <sys/types.h>

#include <string>

#include "absl/status/statusor.h"
#include "runsc/control/network_config.h"

namespace runsc {

// Reads interfaces, addresses, routes and permanent neighbours of the network namespace of `pid`, opens a packet socket
// on each Ethernet interface that is up, and then takes the addresses from the interfaces: from now on the sandbox
// answers for them, not the host's stack. The calling thread enters the namespace meanwhile and is back in its own
// afterwards. Needs CAP_SYS_ADMIN, CAP_NET_ADMIN and CAP_NET_RAW there. Empty if the namespace is the caller's own: its
// interfaces stay. Errors name the interface and what failed; they leave no address taken.
// `resolver`: also connects a socket to the name server at 127.0.0.11:53 there.
absl::StatusOr<control::NetworkConfig> TakeNetwork(pid_t pid, bool resolver);

// The other way, once the sandbox is gone: addresses and routes return to the interfaces of the namespace at `path`, so
// that the next container there finds its network. What can't be set any more is left out.
absl::Status GiveBackNetwork(const std::string& path, const control::NetworkConfig& config);

}  // namespace runsc

#endif  // RUNSC_SANDBOX_HOST_NETWORK_H_
