// SPDX-License-Identifier: Apache-2.0
// StubProcess: what an address space has of the host. Once its guest is gone and nothing of it is left, the next space
// may have it: that costs a tenth of a new one.
#ifndef PLATFORM_SYSTRAP_STUB_PROCESS_H_
#define PLATFORM_SYSTRAP_STUB_PROCESS_H_

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "platform/systrap/service.h"
#include "platform/systrap/stub_thread.h"

namespace platform::systrap {

struct StubProcess {
  pid_t pid = 0;
  uint64_t control = 0;  // unit of the shared file
  Service service;
  int service_cpu = -1;                              // index of the placement that the service thread was pinned to
  std::vector<uint64_t> areas;                       // units of the shared file, one per guest thread
  std::vector<std::unique_ptr<StubThread>> threads;  // of a pooled process: parked

  std::vector<uint64_t> Units() const {
    std::vector<uint64_t> units = areas;
    units.push_back(control);
    return units;
  }
};

}  // namespace platform::systrap

#endif  // PLATFORM_SYSTRAP_STUB_PROCESS_H_
