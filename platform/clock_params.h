/* SPDX-License-Identifier: Apache-2.0 */
/* What guests' clocks go by: written by the sentry, read by the code of the guest's vDSO, directly above the page, and
   by stubs. C, C++, and (the offsets) assembly. */
#ifndef PLATFORM_CLOCK_PARAMS_H_
#define PLATFORM_CLOCK_PARAMS_H_

#define CLOCK_SEQUENCE 0
#define CLOCK_USABLE 4
#define CLOCK_TSC_BASE 8
#define CLOCK_MAX_DELTA 16
#define CLOCK_MULTIPLIER 24
#define CLOCK_MONOTONIC_NS 32
#define CLOCK_REALTIME_OFFSET_NS 40

#ifndef __ASSEMBLER__
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
namespace platform {
#endif

/* Time is base_ns + ((tsc - tsc_base) * multiplier >> 32), while tsc - tsc_base <= max_delta. Readers that see an odd
   or changed `sequence`, or usable == 0, make the system call. */
struct ClockParams {
  uint32_t sequence;
  uint32_t usable;
  uint64_t tsc_base;
  uint64_t max_delta;
  uint64_t multiplier; /* ns per tick, 32.32 */
  int64_t monotonic_ns;
  int64_t realtime_offset_ns; /* CLOCK_REALTIME - CLOCK_MONOTONIC */
};

/* On the page below the vDSO's parameters: what the reader's time namespace adds. */
struct VdsoOffsets {
  int64_t monotonic_ns;
};

#ifdef __cplusplus
static_assert(offsetof(ClockParams, sequence) == CLOCK_SEQUENCE && offsetof(ClockParams, usable) == CLOCK_USABLE &&
              offsetof(ClockParams, tsc_base) == CLOCK_TSC_BASE &&
              offsetof(ClockParams, max_delta) == CLOCK_MAX_DELTA &&
              offsetof(ClockParams, multiplier) == CLOCK_MULTIPLIER &&
              offsetof(ClockParams, monotonic_ns) == CLOCK_MONOTONIC_NS &&
              offsetof(ClockParams, realtime_offset_ns) == CLOCK_REALTIME_OFFSET_NS);
}  // namespace platform
#endif
#endif

#endif
