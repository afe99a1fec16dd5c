// SPDX-License-Identifier: Apache-2.0
// What rtnetlink(7) says of a network namespace of the host.
#ifndef RUNSC_SANDBOX_RTNETLINK_H_
#define RUNSC_SANDBOX_RTNETLINK_H_

#include <linux/netlink.h>

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "base/unique_fd.h"
#include "runsc/control/network_config.h"

namespace runsc {

// In the namespace that the thread is in when it is opened. After an error that the kernel answered errno has it.
class Rtnetlink {
 public:
  absl::Status Open();
  // All messages of a dump.
  absl::Status Dump(uint16_t type, const std::function<void(const nlmsghdr*)>& each);
  // A request that is only acknowledged; its length is filled in.
  absl::Status Tell(std::string message);

 private:
  absl::Status Exchange(const void* request, size_t size, const std::function<void(const nlmsghdr*)>& each);

  base::UniqueFd socket_;
};

// kEthernet: interfaces of Ethernet's kind that are up, which can move into a sandbox; kAll: every one.
enum class Interfaces : uint8_t { kEthernet, kAll };

// Interfaces without their sockets, and the addresses, routes of the main table and permanent neighbours of these.
absl::Status ReadNetwork(Rtnetlink& rtnetlink, Interfaces which, control::NetworkConfig* config);

}  // namespace runsc

#endif  // RUNSC_SANDBOX_RTNETLINK_H_
