// SPDX-License-Identifier: Apache-2.0
// Service: the sentry's side of a stub's service thread, which makes host calls in the stub on the sentry's order.
// Orders go by a page that is read-only in the stub; results come in registers, by seccomp's user notification: guest
// code that shares the address space can neither change the ones nor forge the others. Not thread-safe.
#ifndef PLATFORM_SYSTRAP_SERVICE_H_
#define PLATFORM_SYSTRAP_SERVICE_H_

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <span>

#include "base/result.h"
#include "base/unique_fd.h"
#include "platform/systrap/stub_memory.h"

namespace platform::systrap {

class Service {
 public:
  // Of a stub process just forked; `control` is its page. Waits until the thread is ready. ESRCH: it died.
  base::Result<void> Start(Control* control, pid_t pid);

  struct Outcome {
    size_t done = 0;       // orders that succeeded
    uint64_t result = 0;   // of the last one
    base::Errno error{0};  // of the one that failed, or 0
  };
  // Runs at most MAX_ORDERS orders up to the first that fails. ESRCH: the stub is dead.
  base::Result<Outcome> Run(std::span<const Order> orders);

  // Waits for the notification of another thread of the process: `tid`, with `argument`, from the instruction before
  // `ip`; others of guests are left unanswered. Gives up when `*state` is an event, or after a moment. The thread is
  // held in the kernel until LetGo. ETIMEDOUT, ESRCH.
  base::Result<uint64_t> AwaitThread(pid_t tid, uint64_t ip, uint64_t argument, const std::atomic<uint32_t>& state);
  // ENOENT: something else has taken the thread out of there.
  base::Result<void> LetGo(uint64_t notification);

 private:
  base::Result<void> Receive();

  Control* control_ = nullptr;
  pid_t pid_ = 0;
  base::UniqueFd listener_;
  uint64_t pending_ = 0;  // the notification that the thread sleeps in
  uint64_t result_ = 0;
  uint64_t done_ = 0;
};

}  // namespace platform::systrap

#endif  // PLATFORM_SYSTRAP_SERVICE_H_
