// SPDX-License-Identifier: Apache-2.0
// The guest's vDSO (vdso(7)): runs in guest processes, at any address, without relocations or writable data.
#include <sys/syscall.h>
#include <time.h>

#include "platform/clock_params.h"

struct timeval_guest {
  int64_t seconds, microseconds;
};

// The page below the image; as assembly, for to the compiler it lies outside of every object.
static inline const volatile struct ClockParams* Params(void) {
  const volatile struct ClockParams* params;
  __asm__(".hidden __ehdr_start\n\tlea __ehdr_start-4096(%%rip), %0" : "=r"(params));
  return params;
}

static inline const volatile struct VdsoOffsets* Offsets(void) {
  const volatile struct VdsoOffsets* offsets;
  __asm__(".hidden __ehdr_start\n\tlea __ehdr_start-8192(%%rip), %0" : "=r"(offsets));
  return offsets;
}

static inline long Call2(long number, long a, long b) {
  long result;
  __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b) : "rcx", "r11", "memory");
  return result;
}

static inline uint64_t Ticks(void) {
  uint32_t low, high;
  __asm__ volatile("lfence\n\trdtsc\n\tlfence" : "=a"(low), "=d"(high)::"memory");
  return ((uint64_t)high << 32) | low;
}

// 0 when the parameters are of no use now.
static inline int Read(int realtime, int64_t* ns) {
  const volatile struct ClockParams* p = Params();
  uint32_t sequence = __atomic_load_n(&p->sequence, __ATOMIC_ACQUIRE);
  if (sequence & 1 || !p->usable) return 0;
  uint64_t base = p->tsc_base, max = p->max_delta, multiplier = p->multiplier;
  int64_t result = p->monotonic_ns + (realtime ? p->realtime_offset_ns : Offsets()->monotonic_ns);
  uint64_t now = Ticks();
  __atomic_thread_fence(__ATOMIC_ACQUIRE);
  if (__atomic_load_n(&p->sequence, __ATOMIC_RELAXED) != sequence) return 0;
  // Another CPU's counter may be a few ticks behind.
  uint64_t delta = now > base ? now - base : 0;
  if (delta > max) return 0;
  *ns = result + (int64_t)(uint64_t)(((unsigned __int128)delta * multiplier) >> 32);
  return 1;
}

int __vdso_clock_gettime(clockid_t clock, struct timespec* ts) {
  int64_t ns;
  if ((clock == CLOCK_REALTIME || clock == CLOCK_MONOTONIC) && Read(clock == CLOCK_REALTIME, &ns)) {
    ts->tv_sec = (uint64_t)ns / 1000000000u;
    ts->tv_nsec = (uint64_t)ns % 1000000000u;
    return 0;
  }
  return Call2(SYS_clock_gettime, clock, (long)ts);
}

int __vdso_gettimeofday(struct timeval_guest* tv, void* zone) {
  int64_t ns;
  if (tv && !zone && Read(1, &ns)) {
    tv->seconds = (uint64_t)ns / 1000000000u;
    tv->microseconds = (uint64_t)ns % 1000000000u / 1000u;
    return 0;
  }
  return Call2(SYS_gettimeofday, (long)tv, (long)zone);
}

time_t __vdso_time(time_t* at) {
  int64_t ns;
  if (!Read(1, &ns)) return Call2(SYS_time, (long)at, 0);
  time_t seconds = (uint64_t)ns / 1000000000u;
  if (at) *at = seconds;
  return seconds;
}

int __vdso_clock_getres(clockid_t clock, struct timespec* ts) { return Call2(SYS_clock_getres, clock, (long)ts); }

// The CPU the guest is told is the sentry's choice, so there is nothing to read here.
int __vdso_getcpu(unsigned* cpu, unsigned* node, void* unused) { return Call2(SYS_getcpu, (long)cpu, (long)node); }

int clock_gettime(clockid_t, struct timespec*) __attribute__((weak, alias("__vdso_clock_gettime")));
int gettimeofday(struct timeval_guest*, void*) __attribute__((weak, alias("__vdso_gettimeofday")));
time_t time(time_t*) __attribute__((weak, alias("__vdso_time")));
int clock_getres(clockid_t, struct timespec*) __attribute__((weak, alias("__vdso_clock_getres")));
int getcpu(unsigned*, unsigned*, void*) __attribute__((weak, alias("__vdso_getcpu")));
