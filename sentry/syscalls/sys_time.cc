// SPDX-License-Identifier: Apache-2.0
// Clocks and sleeping: clock_gettime(2), clock_nanosleep(2), times(2). The sandbox has the host's time.
#include <sys/time.h>
#include <sys/times.h>
#include <sys/timex.h>

#include <algorithm>
#include <cstring>

#include "sentry/kernel/kernel.h"
#include "sentry/kernel/posix_timers.h"
#include "sentry/syscalls/handlers.h"

namespace sentry::syscalls {
namespace {

constexpr int64_t kNsPerTick = 10'000'000;  // USER_HZ = 100
constexpr int64_t kCpuClockPollNs = 1'000'000;

bool IsCoarse(clockid_t clock) { return clock == CLOCK_REALTIME_COARSE || clock == CLOCK_MONOTONIC_COARSE; }

// Sleeps to an absolute CLOCK_MONOTONIC deadline; a handler's EINTR leaves what remained at `remaining`.
Value SleepUntil(Task& task, int64_t deadline, UserAddr remaining) {
  for (;;) {
    int64_t now = base::MonotonicNs();
    if (now >= deadline) return 0;
    Result<void> blocked = task.Block(deadline);
    if (blocked.ok()) continue;
    if (blocked.error() == Errno(ETIMEDOUT)) return 0;
    if (!remaining.IsNull()) {
      int64_t left = std::max<int64_t>(deadline - base::MonotonicNs(), 0);
      TRY(task.CopyOut(remaining, base::ToTimespec(left)));
    }
    task.restart_block = [=](Task& self) { return SleepUntil(self, deadline, remaining); };
    return base::kErestartRestartblock;
  }
}

Value SleepUntilAbsolute(Task& task, clockid_t clock, int64_t at_ns) {
  for (;;) {
    int64_t left = at_ns - TRY(kernel::ReadClock(task, clock));
    if (left <= 0) return 0;
    Result<void> blocked = task.Block(DeadlineAfter(left));
    if (!blocked.ok() && blocked.error() != Errno(ETIMEDOUT)) return base::kErestartnohand;
  }
}

Value SleepOnCpuClock(Task& task, clockid_t clock, int64_t target_ns, UserAddr remaining, bool absolute) {
  for (;;) {
    int64_t left = target_ns - TRY(kernel::ReadClock(task, clock));
    if (left <= 0) return 0;
    Result<void> blocked =
        task.Block(DeadlineAfter(std::max(left / std::max(task.group().thread_count(), 1), kCpuClockPollNs)));
    if (blocked.ok() || blocked.error() == Errno(ETIMEDOUT)) continue;
    if (absolute) return base::kErestartnohand;
    if (!remaining.IsNull()) TRY(task.CopyOut(remaining, base::ToTimespec(left)));
    task.restart_block = [=](Task& self) { return SleepOnCpuClock(self, clock, target_ns, remaining, false); };
    return base::kErestartRestartblock;
  }
}

timex ReadTimex() {
  timex tx;
  memset(&tx, 0, sizeof tx);
  int64_t now = base::RealtimeNs();
  tx.time.tv_sec = now / base::kNsPerSecond;
  tx.time.tv_usec = now % base::kNsPerSecond / 1000;
  tx.tick = 10000;
  tx.maxerror = tx.esterror = 16'000'000;
  tx.status = STA_UNSYNC;
  tx.precision = 1;
  tx.tolerance = 32768000;
  return tx;
}

Value Adjtimex(Task& task, UserAddr address) {
  timex tx = TRY(task.CopyIn<timex>(address));
  if (tx.modes != 0 && tx.modes != ADJ_OFFSET_SS_READ) return Errno(EPERM);
  TRY(task.CopyOut(address, ReadTimex()));
  return TIME_ERROR;  // not synchronised, as far as the sandbox knows
}

}  // namespace

SYSCALL_HANDLER(SysClockGettime) {
  int64_t now = TRY(kernel::ReadClock(task, args.Int(0)));
  TRY(task.CopyOut(args.Addr(1), base::ToTimespec(now)));
  return 0;
}

SYSCALL_HANDLER(SysClockGetres) {
  clockid_t clock = args.Int(0);
  TRY(kernel::ReadClock(task, clock));
  if (!args.Addr(1).IsNull())
    TRY(task.CopyOut(args.Addr(1), timespec{.tv_sec = 0, .tv_nsec = IsCoarse(clock) ? 4'000'000 : 1}));
  return 0;
}

SYSCALL_HANDLER(SysClockSettime) {
  if (!kernel::PosixTimers::IsKnownClock(args.Int(0)) || args.Int(0) != CLOCK_REALTIME) return Errno(EINVAL);
  TRY(CopyInTimespecNs(task, args.Addr(1)));
  return Errno(EPERM);
}

SYSCALL_HANDLER(SysSettimeofday) { return Errno(EPERM); }

SYSCALL_HANDLER(SysGettimeofday) {
  if (!args.Addr(0).IsNull()) {
    int64_t now = base::RealtimeNs();
    TRY(task.CopyOut(args.Addr(0),
                     timeval{.tv_sec = now / base::kNsPerSecond, .tv_usec = now % base::kNsPerSecond / 1000}));
  }
  if (!args.Addr(1).IsNull()) {
    int32_t zone[2] = {};
    TRY(task.CopyOut(args.Addr(1), zone));
  }
  return 0;
}

SYSCALL_HANDLER(SysTime) {
  int64_t seconds = base::RealtimeNs() / base::kNsPerSecond;
  if (!args.Addr(0).IsNull()) TRY(task.CopyOut(args.Addr(0), seconds));
  return seconds;
}

SYSCALL_HANDLER(SysTimes) {
  if (!args.Addr(0).IsNull()) {
    kernel::CpuUsage own = task.group().usage();
    kernel::CpuUsage children = task.group().children_usage();
    int64_t ticks[4] = {own.user_ns / kNsPerTick, own.system_ns / kNsPerTick, children.user_ns / kNsPerTick,
                        children.system_ns / kNsPerTick};
    TRY(task.CopyOut(args.Addr(0), ticks));
  }
  return base::ClockNs(CLOCK_BOOTTIME) / kNsPerTick;
}

SYSCALL_HANDLER(SysNanosleep) {
  int64_t ns = TRY(CopyInTimespecNs(task, args.Addr(0)));
  return SleepUntil(task, DeadlineAfter(ns), args.Addr(1));
}

SYSCALL_HANDLER(SysClockNanosleep) {
  clockid_t clock = args.Int(0);
  bool absolute = args.Int(1) & TIMER_ABSTIME;
  UserAddr remaining = absolute ? UserAddr() : args.Addr(3);
  if (!kernel::PosixTimers::IsKnownClock(clock)) {
    // Known to clock_gettime, but nothing can wait for them.
    TRY(kernel::ReadClock(task, clock));
    return Errno(EOPNOTSUPP);
  }
  int64_t ns = TRY(CopyInTimespecNs(task, args.Addr(2)));
  if (clock == CLOCK_THREAD_CPUTIME_ID) return Errno(EINVAL);
  if (clock < 0 || clock == CLOCK_PROCESS_CPUTIME_ID) {
    int64_t now = TRY(kernel::ReadClock(task, clock));
    int64_t target = ns;
    if (!absolute && __builtin_add_overflow(now, ns, &target)) target = INT64_MAX;
    return SleepOnCpuClock(task, clock, target, remaining, absolute);
  }
  if (!absolute) return SleepUntil(task, DeadlineAfter(ns), remaining);
  return SleepUntilAbsolute(task, clock, ns);
}

SYSCALL_HANDLER(SysAdjtimex) { return Adjtimex(task, args.Addr(0)); }

SYSCALL_HANDLER(SysClockAdjtime) {
  TRY(kernel::ReadClock(task, args.Int(0)));
  if (args.Int(0) != CLOCK_REALTIME) return Errno(EOPNOTSUPP);
  return Adjtimex(task, args.Addr(1));
}

}  // namespace sentry::syscalls
