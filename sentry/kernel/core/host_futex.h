// SPDX-License-Identifier: Apache-2.0
// The host's futex(2), process-private: the only sleeping primitive of guest-driven threads.
#ifndef SENTRY_KERNEL_CORE_HOST_FUTEX_H_
#define SENTRY_KERNEL_CORE_HOST_FUTEX_H_

#include <atomic>
#include <cstdint>

namespace sentry {

// Sleeps while `word` equals `expected`. False when `deadline_ns` (absolute CLOCK_MONOTONIC; INT64_MAX = never) passed.
bool HostFutexWait(std::atomic<uint32_t>& word, uint32_t expected, int64_t deadline_ns);
void HostFutexWake(std::atomic<uint32_t>& word, int count);

}  // namespace sentry

#endif  // SENTRY_KERNEL_CORE_HOST_FUTEX_H_
