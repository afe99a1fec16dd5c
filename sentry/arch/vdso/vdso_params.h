/* SPDX-License-Identifier: Apache-2.0 */
/* The page that the sentry writes and the guest's vDSO code reads, directly below the image. C and C++. */
#ifndef SENTRY_ARCH_VDSO_VDSO_PARAMS_H_
#define SENTRY_ARCH_VDSO_VDSO_PARAMS_H_

#include <stdint.h>

/* Time is base_ns + ((tsc - tsc_base) * multiplier >> 32), while tsc - tsc_base <= max_delta. Readers that see an odd
   or changed `sequence`, or usable == 0, make the system call. */
struct VdsoParams {
  uint32_t sequence;
  uint32_t usable;
  uint64_t tsc_base;
  uint64_t max_delta;
  uint64_t multiplier; /* ns per tick, 32.32 */
  int64_t monotonic_ns;
  int64_t realtime_offset_ns; /* CLOCK_REALTIME - CLOCK_MONOTONIC */
};

#endif
