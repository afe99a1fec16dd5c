// SPDX-License-Identifier: Apache-2.0
// Timers of a process: setitimer(2), alarm(2) and timer_create(2). Timers on CPU clocks poll: they sleep as long as the
// process could take at the earliest to use the time, and look again. Thread-safe. Its mutex (kTimer) is taken under
// the signal mutex, so it is never held while a signal is sent.
#ifndef SENTRY_KERNEL_POSIX_TIMERS_H_
#define SENTRY_KERNEL_POSIX_TIMERS_H_

#include <map>
#include <memory>

#include "sentry/common.h"
#include "sentry/kernel/core/timer.h"
#include "sentry/kernel/signal.h"

namespace sentry::kernel {

class Task;
class ThreadGroup;

class PosixTimers {
 public:
  explicit PosixTimers(ThreadGroup& group);
  ~PosixTimers();

  struct Setting {  // relative, in ns; value 0: disarmed
    int64_t value_ns = 0, interval_ns = 0;
  };
  // ITIMER_REAL, ITIMER_VIRTUAL, ITIMER_PROF. EINVAL. The former setting.
  Result<Setting> SetInterval(int which, const Setting& setting);
  Result<Setting> GetInterval(int which);

  // `notify` is SIGEV_SIGNAL, SIGEV_NONE or SIGEV_THREAD_ID with `tid` (in the root namespace, checked by the caller).
  // `id_as_value`: the signal's value is the timer's id (no sigevent was given). EINVAL for an unknown clock, EAGAIN
  // beyond the limit.
  Result<int> Create(clockid_t clock, int notify, int signal, sigval value, pid_t tid, bool id_as_value);
  Result<Setting> Set(int id, bool absolute, const Setting& setting);  // the former one; EINVAL
  Result<Setting> Get(int id);
  Result<int> Overrun(int id);
  Result<void> Delete(int id);

  // S held. A SI_TIMER signal leaves the queue: its overrun count is filled in and later expiries queue anew.
  void OnSignalTaken(SignalInfo* info);
  // S held. Pending signals of these kinds were thrown away.
  void OnSignalsDiscarded(SignalSet which);

  // RLIMIT_CPU has changed, or was inherited: SIGXCPU at the soft limit and every second of CPU after it, SIGKILL at
  // the hard one. Cheap without a limit. Without locks.
  void EnforceCpuLimit();
  void OnExec();    // deletes timer_create's
  void Shutdown();  // no expiry any more; waits for running ones. Without locks
  // True for clocks that timer_create and clock_nanosleep know: REALTIME, MONOTONIC, BOOTTIME, TAI, their ALARM kinds,
  // CPU clocks.
  static bool IsKnownClock(clockid_t clock);

 private:
  struct Entry;
  Setting SetEntry(Entry& entry, bool absolute, const Setting& setting);
  Setting GetEntry(Entry& entry);
  std::shared_ptr<Entry> Find(int id);
  void Expire(Entry& entry, uint64_t count);
  int64_t ClockNow(clockid_t clock, pid_t owner) const;
  int64_t PollDelay(int64_t missing_ns) const;
  void Fire(Entry& entry, uint64_t count);

  void CheckCpuLimit();

  ThreadGroup& group_;
  Mutex mu_{LockRank::kTimer};
  std::map<int, std::shared_ptr<Entry>> entries_ ABSL_GUARDED_BY(mu_);
  std::shared_ptr<Entry> intervals_[3] ABSL_GUARDED_BY(mu_);
  int next_id_ ABSL_GUARDED_BY(mu_) = 0;
  bool shut_down_ ABSL_GUARDED_BY(mu_) = false;
  std::unique_ptr<Timer> cpu_limit_;  // made with mu_ held by the first limit, then stays
};

// Nanoseconds of a clock as the task sees it. EINVAL for unknown clocks (clock_gettime(2)), CPU clocks of other
// processes included.
Result<int64_t> ReadClock(Task& task, clockid_t clock);

}  // namespace sentry::kernel

#endif  // SENTRY_KERNEL_POSIX_TIMERS_H_
