// SPDX-License-Identifier: Apache-2.0
// Host time in nanoseconds. Inline over the host's vDSO: no system call.
#ifndef BASE_CLOCK_H_
#define BASE_CLOCK_H_

#include <time.h>

#include <cstdint>

namespace base {

inline constexpr int64_t kNsPerSecond = 1'000'000'000;
// "Never", for absolute deadlines.
inline constexpr int64_t kNoDeadline = INT64_MAX;

inline int64_t ClockNs(clockid_t clock) {
  timespec ts;
  clock_gettime(clock, &ts);
  return ts.tv_sec * kNsPerSecond + ts.tv_nsec;
}
inline int64_t MonotonicNs() { return ClockNs(CLOCK_MONOTONIC); }
inline int64_t RealtimeNs() { return ClockNs(CLOCK_REALTIME); }
inline timespec ToTimespec(int64_t ns) { return {.tv_sec = ns / kNsPerSecond, .tv_nsec = ns % kNsPerSecond}; }

}  // namespace base

#endif  // BASE_CLOCK_H_
