// SPDX-License-Identifier: Apache-2.0
#include "sentry/kernel/ipc/budget.h"

#include <atomic>

namespace sentry::ipc {
namespace {
std::atomic<size_t> in_use{0};
}

Result<Charge> Charge::Take(size_t bytes) {
  if (bytes > kHeapBudget) return Errno(ENOMEM);
  if (in_use.fetch_add(bytes, std::memory_order_relaxed) + bytes > kHeapBudget) {
    in_use.fetch_sub(bytes, std::memory_order_relaxed);
    return Errno(ENOMEM);
  }
  return Charge(bytes);
}

Charge::~Charge() {
  if (bytes_) in_use.fetch_sub(bytes_, std::memory_order_relaxed);
}

}  // namespace sentry::ipc
