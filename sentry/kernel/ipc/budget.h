// SPDX-License-Identifier: Apache-2.0
// What guests may make the sentry keep on its heap through IPC objects and keys, over all namespaces: their Linux
// limits (1,024,000,000 semaphores, 32,000 queues) are higher than a sandbox's memory. Thread-safe.
#ifndef SENTRY_KERNEL_IPC_BUDGET_H_
#define SENTRY_KERNEL_IPC_BUDGET_H_

#include <cstddef>
#include <utility>

#include "sentry/common.h"

namespace sentry::ipc {

inline constexpr size_t kHeapBudget = size_t{128} << 20;

// A number of bytes taken from the budget, given back at the end.
class Charge {
 public:
  // ENOMEM.
  static Result<Charge> Take(size_t bytes);
  Charge() = default;
  Charge(Charge&& other) noexcept : bytes_(std::exchange(other.bytes_, 0)) {}
  Charge& operator=(Charge&& other) noexcept {
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~Charge();

 private:
  explicit Charge(size_t bytes) : bytes_(bytes) {}
  size_t bytes_ = 0;
};

}  // namespace sentry::ipc

#endif  // SENTRY_KERNEL_IPC_BUDGET_H_
