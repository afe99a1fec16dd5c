// SPDX-License-Identifier: Apache-2.0
// alarm(2), setitimer(2), timer_create(2).
#include <sys/time.h>

#include <algorithm>

#include "sentry/kernel/kernel.h"
#include "sentry/kernel/posix_timers.h"
#include "sentry/syscalls/handlers.h"

namespace sentry::syscalls {
namespace {

using Setting = kernel::PosixTimers::Setting;

constexpr int64_t kMaxSeconds = INT64_MAX / base::kNsPerSecond;

Result<int64_t> FromTimeval(const timeval& tv) {
  if (tv.tv_sec < 0 || tv.tv_usec < 0 || tv.tv_usec >= 1'000'000) return Errno(EINVAL);
  if (tv.tv_sec >= kMaxSeconds) return INT64_MAX;
  return tv.tv_sec * base::kNsPerSecond + tv.tv_usec * 1000;
}

Result<int64_t> FromTimespec(const timespec& ts) {
  if (ts.tv_sec < 0 || ts.tv_nsec < 0 || ts.tv_nsec >= base::kNsPerSecond) return Errno(EINVAL);
  if (ts.tv_sec >= kMaxSeconds) return INT64_MAX;
  return ts.tv_sec * base::kNsPerSecond + ts.tv_nsec;
}

// Rounded up, so that an armed timer never reads as disarmed.
timeval ToTimeval(int64_t ns) {
  int64_t us = ns / 1000 + (ns % 1000 != 0);
  return {.tv_sec = us / 1'000'000, .tv_usec = us % 1'000'000};
}

itimerval ToItimerval(const Setting& s) {
  return {.it_interval = ToTimeval(s.interval_ns), .it_value = ToTimeval(s.value_ns)};
}
itimerspec ToItimerspec(const Setting& s) {
  return {.it_interval = base::ToTimespec(s.interval_ns), .it_value = base::ToTimespec(s.value_ns)};
}

}  // namespace

SYSCALL_HANDLER(SysAlarm) {
  Setting old =
      TRY(task.group().timers().SetInterval(ITIMER_REAL, {.value_ns = int64_t{args.Uint(0)} * base::kNsPerSecond}));
  if (old.value_ns == 0) return 0;
  // To the nearest second, but never 0 while armed.
  return std::max<int64_t>((old.value_ns + base::kNsPerSecond / 2) / base::kNsPerSecond, 1);
}

SYSCALL_HANDLER(SysGetitimer) {
  Setting setting = TRY(task.group().timers().GetInterval(args.Int(0)));
  TRY(task.CopyOut(args.Addr(1), ToItimerval(setting)));
  return 0;
}

SYSCALL_HANDLER(SysSetitimer) {
  Setting setting;
  if (!args.Addr(1).IsNull()) {
    auto value = TRY(task.CopyIn<itimerval>(args.Addr(1)));
    setting = {.value_ns = TRY(FromTimeval(value.it_value)), .interval_ns = TRY(FromTimeval(value.it_interval))};
  }
  Setting old = TRY(task.group().timers().SetInterval(args.Int(0), setting));
  if (!args.Addr(2).IsNull()) TRY(task.CopyOut(args.Addr(2), ToItimerval(old)));
  return 0;
}

SYSCALL_HANDLER(SysTimerCreate) {
  struct KernelSigevent {
    sigval value;
    int32_t signal, notify;
    int32_t tid;
    int32_t padding[11];
  };
  static_assert(sizeof(KernelSigevent) == 64);
  int notify = SIGEV_SIGNAL, signal = SIGALRM;
  sigval value = {};
  bool default_value = args.Addr(1).IsNull();
  pid_t target = 0;
  if (!default_value) {
    auto event = TRY(task.CopyIn<KernelSigevent>(args.Addr(1)));
    notify = event.notify;
    signal = event.signal;
    value = event.value;
    if (notify == SIGEV_THREAD_ID) {
      RefPtr<Task> thread = kernel::Kernel::Get().tasks().FindTask(task.pid_ns(), event.tid);
      if (!thread || &thread->group() != &task.group()) return Errno(EINVAL);
      target = thread->tid();
    } else if (notify != SIGEV_SIGNAL && notify != SIGEV_NONE && notify != SIGEV_THREAD) {
      return Errno(EINVAL);
    }
    if (notify != SIGEV_NONE && (signal < 1 || signal > kernel::kSignalMax)) return Errno(EINVAL);
  }
  kernel::PosixTimers& timers = task.group().timers();
  int id = TRY(timers.Create(args.Int(0), notify, signal, value, target, default_value));
  Result<void> copied = task.CopyOut(args.Addr(2), int32_t{id});
  if (!copied.ok()) {
    (void)timers.Delete(id);
    return copied.error();
  }
  return 0;
}

SYSCALL_HANDLER(SysTimerSettime) {
  if (args.Addr(2).IsNull()) return Errno(EINVAL);
  auto value = TRY(task.CopyIn<itimerspec>(args.Addr(2)));
  Setting setting{.value_ns = TRY(FromTimespec(value.it_value)), .interval_ns = TRY(FromTimespec(value.it_interval))};
  Setting old = TRY(task.group().timers().Set(args.Int(0), args.Int(1) & TIMER_ABSTIME, setting));
  if (!args.Addr(3).IsNull()) TRY(task.CopyOut(args.Addr(3), ToItimerspec(old)));
  return 0;
}

SYSCALL_HANDLER(SysTimerGettime) {
  Setting setting = TRY(task.group().timers().Get(args.Int(0)));
  TRY(task.CopyOut(args.Addr(1), ToItimerspec(setting)));
  return 0;
}

SYSCALL_HANDLER(SysTimerGetoverrun) { return TRY(task.group().timers().Overrun(args.Int(0))); }

SYSCALL_HANDLER(SysTimerDelete) {
  TRY(task.group().timers().Delete(args.Int(0)));
  return 0;
}

}  // namespace sentry::syscalls
