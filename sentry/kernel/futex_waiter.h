// SPDX-License-Identifier: Apache-2.0
// One sleeper of the futex table. Private to futex*.cc.
#ifndef SENTRY_KERNEL_FUTEX_WAITER_H_
#define SENTRY_KERNEL_FUTEX_WAITER_H_

#include "sentry/kernel/futex.h"

namespace sentry::kernel {

struct FutexTable::Waiter {
  explicit Waiter(Blocker& b) : blocker(b) {}
  Blocker& blocker;
  mm::FutexKey key = {};
  uint32_t bitset = ~0u;
  uint64_t sequence = 0;
  std::atomic<Bucket*> bucket{nullptr};  // null: in none. Changed under the old bucket's mutex
  std::atomic<bool> woken{false};
  Waiter* next = nullptr;
  Waiter* previous = nullptr;
  // PI only. Who waits and for what; constant while it is queued.
  uint32_t tid = 0;
  int priority = 0;
  uint64_t self = 0;
  FutexMemory* memory = nullptr;
  UserAddr address;
  mm::FutexKey pi_key = {};
  // Changed with both pi_mu_ and the bucket's mutex, read with either. A waiter with one of the two flags leaves its
  // bucket with pi_mu_ held only.
  bool pi = false;          // waits for the lock at `key`
  bool requeue_pi = false;  // FUTEX_WAIT_REQUEUE_PI: waits at `key` to be moved to `pi_key`
  uint64_t owner = 0;
};

}  // namespace sentry::kernel

#endif  // SENTRY_KERNEL_FUTEX_WAITER_H_
