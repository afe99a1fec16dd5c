// SPDX-License-Identifier: Apache-2.0
#include "sentry/kernel/core/host_futex.h"

#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

namespace sentry {

bool HostFutexWait(std::atomic<uint32_t>& word, uint32_t expected, int64_t deadline_ns) {
  timespec ts{.tv_sec = deadline_ns / 1'000'000'000, .tv_nsec = deadline_ns % 1'000'000'000};
  timespec* timeout = deadline_ns == INT64_MAX ? nullptr : &ts;
  if (deadline_ns < 0) ts = {};
  long r = syscall(SYS_futex, &word, FUTEX_WAIT_BITSET_PRIVATE, expected, timeout, nullptr, FUTEX_BITSET_MATCH_ANY);
  return !(r < 0 && errno == ETIMEDOUT);
}

void HostFutexWake(std::atomic<uint32_t>& word, int count) {
  syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, count, nullptr, nullptr, 0);
}

}  // namespace sentry
