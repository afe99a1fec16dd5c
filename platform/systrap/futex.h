// SPDX-License-Identifier: Apache-2.0
// futex(2) on words shared between processes.
#ifndef PLATFORM_SYSTRAP_FUTEX_H_
#define PLATFORM_SYSTRAP_FUTEX_H_

#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>

#include "base/clock.h"

namespace platform::systrap {

// Sleeps while the word is `value`; returns early at any time. `timeout_ns` < 0: none.
inline void FutexWait(std::atomic<uint32_t>* word, uint32_t value, int64_t timeout_ns) {
  timespec timeout = {.tv_sec = timeout_ns / base::kNsPerSecond, .tv_nsec = timeout_ns % base::kNsPerSecond};
  syscall(SYS_futex, word, FUTEX_WAIT, value, timeout_ns < 0 ? nullptr : &timeout, nullptr, 0);
}
inline void FutexWake(std::atomic<uint32_t>* word) { syscall(SYS_futex, word, FUTEX_WAKE, 1, nullptr, nullptr, 0); }

}  // namespace platform::systrap

#endif  // PLATFORM_SYSTRAP_FUTEX_H_
