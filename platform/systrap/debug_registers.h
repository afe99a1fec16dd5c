// SPDX-License-Identifier: Apache-2.0
// DebugRegisters: breakpoints of the hardware in a guest thread. Only ptrace(2) sets them for another thread; the
// zygote, the stubs' parent, does that on the sentry's order, so that the sentry itself needs no ptrace. They outlast
// the detach. One per Context, used by its owner while the thread is the sentry's.
#ifndef PLATFORM_SYSTRAP_DEBUG_REGISTERS_H_
#define PLATFORM_SYSTRAP_DEBUG_REGISTERS_H_

#include <sys/types.h>

#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"
#include "platform/platform.h"
#include "platform/stub/zygote.h"
#include "platform/systrap/stub_memory.h"

namespace platform::systrap {

class DebugRegisters {
 public:
  explicit DebugRegisters(stub::Zygote& zygote) : zygote_(zygote) {}

  // Whether any may be set in the thread.
  bool used() const { return used_; }
  // Gives `tid` the values as Context::SetDebugRegisters has them. EIO: the host refuses. ETIMEDOUT: the thread does
  // not stop; what is set is undefined, and it may stay traced.
  base::Result<void> Set(pid_t tid, std::span<const uint64_t, 8> values);
  // None are set in the thread, or an error as above.
  base::Result<void> Clear(pid_t tid);
  // DR6.
  uint64_t Status(pid_t tid);

 private:
  // Makes the calls of `orders` while `tid` is stopped.
  base::Result<void> WhileStopped(pid_t tid, std::vector<Order>& orders);
  base::Result<void> Call(std::span<Order> orders);

  stub::Zygote& zygote_;
  bool used_ = false;
  uint64_t values_[8] = {0, 0, 0, 0, 0, 0, kDebugStatusInitial, 0};  // as set last
};

}  // namespace platform::systrap

#endif  // PLATFORM_SYSTRAP_DEBUG_REGISTERS_H_
