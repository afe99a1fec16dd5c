// SPDX-License-Identifier: Apache-2.0
#include "sentry/kernel/posix_timers.h"

#include <sys/time.h>
#include <time.h>

#include <algorithm>

#include "sentry/kernel/task_internal.h"

namespace sentry::kernel {
namespace {

// Linux's CPU clock ids (posix-timers_types.h): ~pid << 3 | kind, with 4 for a thread.
constexpr int kCpuThread = 4, kCpuKindMask = 3, kCpuProf = 0, kCpuVirt = 1, kCpuSched = 2;
constexpr int64_t kPollMinimumNs = 1'000'000;
constexpr int kMaxTimers = 32768;

bool IsCpuClock(clockid_t clock) {
  return clock < 0 || clock == CLOCK_PROCESS_CPUTIME_ID || clock == CLOCK_THREAD_CPUTIME_ID;
}

int64_t OfKind(const CpuUsage& usage, int kind) {
  return kind == kCpuVirt ? usage.user_ns : usage.user_ns + usage.system_ns;
}

int64_t Saturated(int64_t a, int64_t b) {
  int64_t sum;
  return __builtin_add_overflow(a, b, &sum) ? INT64_MAX : sum;
}

// Of the calling task's time namespace.
int64_t ClockOffset(clockid_t clock) {
  const Task* task = Task::CurrentOrNull();
  return task ? task->namespaces().time->OffsetOf(clock) : 0;
}

}  // namespace

struct PosixTimers::Entry {
  Entry(PosixTimers& owner, int id, clockid_t clock)
      : id(id), clock(clock), timer([&owner, this](uint64_t n) { owner.Expire(*this, n); }) {}
  const int id;  // -1: an interval timer
  const clockid_t clock;
  int interval_signal = 0;  // of an interval timer
  int notify = SIGEV_NONE;
  int signal = 0;
  sigval value = {};
  pid_t owner_tid = 0;   // root namespace: of the creator, for its CPU clock
  pid_t target_tid = 0;  // root namespace, SIGEV_THREAD_ID
  int cpu_kind = kCpuSched;
  // Guarded by PosixTimers::mu_.
  int64_t cpu_target_ns = 0;  // of a CPU timer: the next expiry, 0 disarmed
  int64_t interval_ns = 0;
  bool signal_pending = false;
  uint64_t overrun = 0;  // expiries since the pending signal was queued
  int last_overrun = 0;
  Timer timer;  // last: its destructor waits for a callback that uses the rest
};

PosixTimers::PosixTimers(ThreadGroup& group) : group_(group) {}
PosixTimers::~PosixTimers() = default;

bool PosixTimers::IsKnownClock(clockid_t clock) {
  switch (clock) {
    case CLOCK_REALTIME:
    case CLOCK_MONOTONIC:
    case CLOCK_BOOTTIME:
    case CLOCK_TAI:
    case CLOCK_REALTIME_ALARM:
    case CLOCK_BOOTTIME_ALARM:
    case CLOCK_PROCESS_CPUTIME_ID:
    case CLOCK_THREAD_CPUTIME_ID:
      return true;
    default:
      return clock < 0 && (clock & kCpuKindMask) <= kCpuSched;
  }
}

int64_t PosixTimers::ClockNow(clockid_t clock, pid_t owner) const {
  switch (clock) {
    case CLOCK_REALTIME:
    case CLOCK_REALTIME_ALARM:
      return base::RealtimeNs();
    case CLOCK_TAI:
      return base::ClockNs(CLOCK_TAI);
    case CLOCK_MONOTONIC:
    case CLOCK_BOOTTIME:
    case CLOCK_BOOTTIME_ALARM:
      return base::ClockNs(clock == CLOCK_MONOTONIC ? CLOCK_MONOTONIC : CLOCK_BOOTTIME);
    default:
      break;
  }
  int kind = clock < 0 ? clock & kCpuKindMask : kCpuSched;
  bool thread = clock == CLOCK_THREAD_CPUTIME_ID || (clock < 0 && (clock & kCpuThread));
  if (!thread) return OfKind(group_.usage(), kind);
  Kernel& kernel = Kernel::Get();
  MutexLock lock(kernel.tasks().mu());
  for (const RefPtr<Task>& task : group_.state().threads) {
    if (task->tid() == owner) return OfKind(task->usage(), kind);
  }
  return 0;
}

// How long the process needs at least to use `missing_ns` of CPU.
int64_t PosixTimers::PollDelay(int64_t missing_ns) const {
  return std::max(missing_ns / std::max(group_.thread_count(), 1), kPollMinimumNs);
}

PosixTimers::Setting PosixTimers::GetEntry(Entry& entry) {
  if (!IsCpuClock(entry.clock)) {
    Timer::Setting setting = entry.timer.Get();
    if (setting.deadline_ns == 0) return {0, entry.interval_ns};
    return {std::max<int64_t>(setting.deadline_ns - base::MonotonicNs(), 1), entry.interval_ns};
  }
  int64_t target, interval;
  {
    MutexLock lock(mu_);
    target = entry.cpu_target_ns;
    interval = entry.interval_ns;
  }
  if (target == 0) return {0, interval};
  return {std::max<int64_t>(target - ClockNow(entry.clock, entry.owner_tid), 1), interval};
}

PosixTimers::Setting PosixTimers::SetEntry(Entry& entry, bool absolute, const Setting& setting) {
  Setting old = GetEntry(entry);
  int64_t now = ClockNow(entry.clock, entry.owner_tid);
  bool cpu = IsCpuClock(entry.clock);
  const int64_t offset = absolute ? ClockOffset(entry.clock) : 0;
  int64_t relative = absolute ? Saturated(setting.value_ns, -offset) - now : setting.value_ns;
  {
    MutexLock lock(mu_);
    if (shut_down_) return old;
    entry.interval_ns = setting.interval_ns;
    entry.overrun = 0;
    entry.signal_pending = false;
    entry.cpu_target_ns = cpu && setting.value_ns != 0 ? std::max<int64_t>(Saturated(now, relative), 1) : 0;
  }
  if (setting.value_ns == 0) {
    entry.timer.Disarm();
  } else if (cpu) {
    entry.timer.Arm(Saturated(base::MonotonicNs(), relative <= 0 ? 0 : PollDelay(relative)), 0);
  } else {
    entry.timer.Arm(std::max<int64_t>(Saturated(base::MonotonicNs(), relative), 1), setting.interval_ns);
  }
  return old;
}

void PosixTimers::Expire(Entry& entry, uint64_t count) {
  if (!IsCpuClock(entry.clock)) {
    Fire(entry, count);
    return;
  }
  int64_t now = ClockNow(entry.clock, entry.owner_tid);
  uint64_t expiries = 0;
  int64_t missing = 0;
  {
    MutexLock lock(mu_);
    if (shut_down_ || entry.cpu_target_ns == 0) return;
    missing = entry.cpu_target_ns - now;
    if (missing <= 0) {
      expiries = 1;
      if (entry.interval_ns > 0) {
        expiries += static_cast<uint64_t>(-missing) / entry.interval_ns;
        entry.cpu_target_ns = Saturated(entry.cpu_target_ns, static_cast<int64_t>(expiries) * entry.interval_ns);
        missing = entry.cpu_target_ns - now;
      } else {
        entry.cpu_target_ns = 0;
      }
    }
  }
  if (expiries) Fire(entry, expiries);
  if (missing > 0) entry.timer.Arm(Saturated(base::MonotonicNs(), PollDelay(missing)), 0);
}

void PosixTimers::Fire(Entry& entry, uint64_t count) {
  if (entry.interval_signal) {
    (void)group_.SendSignal(KernelSignal(entry.interval_signal));
    return;
  }
  if (entry.notify == SIGEV_NONE) return;
  {
    MutexLock lock(mu_);
    if (entry.signal_pending) {
      entry.overrun += count;
      return;
    }
    entry.signal_pending = true;
    entry.overrun = count - 1;
  }
  SignalInfo info = KernelSignal(entry.signal);
  info.si_code = SI_TIMER;
  info.si_timerid = entry.id;
  info.si_value = entry.value;
  SignalLock lock(group_);
  Task* target = nullptr;
  bool send = true;
  if (entry.notify == SIGEV_THREAD_ID) {
    for (const RefPtr<Task>& thread : group_.state().threads) {
      if (thread->tid() == entry.target_tid) target = thread.get();
    }
    send = target != nullptr;
  }
  Result<bool> queued = false;
  if (send) queued = Task::Internal::SendSignalLocked(group_, target, info, lock.handlers());
  if (!queued.ok() || !*queued) {
    MutexLock own(mu_);
    entry.signal_pending = false;
  }
}

void PosixTimers::OnSignalTaken(SignalInfo* info) {
  MutexLock lock(mu_);
  auto it = entries_.find(info->si_timerid);
  if (it == entries_.end()) return;
  Entry& entry = *it->second;
  entry.last_overrun = static_cast<int>(std::min<uint64_t>(entry.overrun, INT32_MAX));
  info->si_overrun = entry.last_overrun;
  entry.signal_pending = false;
  entry.overrun = 0;
}

void PosixTimers::OnSignalsDiscarded(SignalSet which) {
  MutexLock lock(mu_);
  for (auto& [id, entry] : entries_) {
    if (entry->signal > 0 && (which & SignalBit(entry->signal))) entry->signal_pending = false;
  }
}

Result<PosixTimers::Setting> PosixTimers::SetInterval(int which, const Setting& setting) {
  if (which < ITIMER_REAL || which > ITIMER_PROF) return Errno(EINVAL);
  std::shared_ptr<Entry> entry;
  {
    MutexLock lock(mu_);
    if (!intervals_[which]) {
      if (setting.value_ns == 0) return Setting{};
      static constexpr int kSignals[] = {SIGALRM, SIGVTALRM, SIGPROF};
      // The process's CPU clocks are written with pid 0 (kernel/time/posix-cpu-timers.c).
      static constexpr clockid_t kClocks[] = {CLOCK_MONOTONIC, ~0 << 3 | kCpuVirt, ~0 << 3 | kCpuProf};
      intervals_[which] = std::make_shared<Entry>(*this, -1, kClocks[which]);
      intervals_[which]->interval_signal = kSignals[which];
    }
    entry = intervals_[which];
  }
  return SetEntry(*entry, false, setting);
}

Result<PosixTimers::Setting> PosixTimers::GetInterval(int which) {
  if (which < ITIMER_REAL || which > ITIMER_PROF) return Errno(EINVAL);
  std::shared_ptr<Entry> entry;
  {
    MutexLock lock(mu_);
    entry = intervals_[which];
  }
  return entry ? GetEntry(*entry) : Setting{};
}

Result<int> PosixTimers::Create(clockid_t clock, int notify, int signal, sigval value, pid_t target_tid,
                                bool id_as_value) {
  if (!IsKnownClock(clock)) return Errno(EINVAL);
  pid_t self = Task::Current().tid();
  MutexLock lock(mu_);
  if (entries_.size() >= kMaxTimers || shut_down_) return Errno(EAGAIN);
  while (entries_.contains(next_id_)) next_id_ = next_id_ == INT32_MAX ? 0 : next_id_ + 1;
  int id = next_id_;
  next_id_ = next_id_ == INT32_MAX ? 0 : next_id_ + 1;
  auto entry = std::make_shared<Entry>(*this, id, clock);
  entry->notify = notify;
  entry->signal = signal;
  entry->value = value;
  if (id_as_value) entry->value.sival_int = id;
  entry->owner_tid = self;
  entry->target_tid = target_tid;
  entries_.emplace(id, std::move(entry));
  return id;
}

std::shared_ptr<PosixTimers::Entry> PosixTimers::Find(int id) {
  MutexLock lock(mu_);
  auto it = entries_.find(id);
  return it == entries_.end() ? nullptr : it->second;
}

Result<PosixTimers::Setting> PosixTimers::Set(int id, bool absolute, const Setting& setting) {
  std::shared_ptr<Entry> entry = Find(id);
  if (!entry) return Errno(EINVAL);
  return SetEntry(*entry, absolute, setting);
}

Result<PosixTimers::Setting> PosixTimers::Get(int id) {
  std::shared_ptr<Entry> entry = Find(id);
  if (!entry) return Errno(EINVAL);
  return GetEntry(*entry);
}

Result<int> PosixTimers::Overrun(int id) {
  MutexLock lock(mu_);
  auto it = entries_.find(id);
  if (it == entries_.end()) return Errno(EINVAL);
  return it->second->last_overrun;
}

Result<void> PosixTimers::Delete(int id) {
  std::shared_ptr<Entry> entry;  // destroyed without the lock: it waits for a running expiry
  MutexLock lock(mu_);
  auto it = entries_.find(id);
  if (it == entries_.end()) return Errno(EINVAL);
  entry = std::move(it->second);
  entries_.erase(it);
  return {};
}

void PosixTimers::EnforceCpuLimit() {
  if (group_.limits().Soft(RLIMIT_CPU) == RLIM64_INFINITY) return;
  {
    MutexLock lock(mu_);
    if (shut_down_) return;
    if (!cpu_limit_) cpu_limit_ = std::make_unique<Timer>([this](uint64_t) { CheckCpuLimit(); });
  }
  CheckCpuLimit();
}

// As check_process_timers() of the kernel.
void PosixTimers::CheckCpuLimit() {
  constexpr uint64_t kForever = 1ull << 32;  // seconds; keeps the products in range
  rlimit64 limit = group_.limits().Get(RLIMIT_CPU);
  if (limit.rlim_cur == RLIM64_INFINITY) return;
  int64_t used = OfKind(group_.usage(), kCpuSched);
  auto ns = [=](uint64_t seconds) { return static_cast<int64_t>(std::min(seconds, kForever)) * base::kNsPerSecond; };
  if (limit.rlim_max != RLIM64_INFINITY && used >= ns(limit.rlim_max)) {
    (void)group_.SendSignal(KernelSignal(SIGKILL));
    return;
  }
  if (used >= ns(limit.rlim_cur)) {
    (void)group_.SendSignal(KernelSignal(SIGXCPU));
    ++limit.rlim_cur;
    (void)group_.limits().Set(RLIMIT_CPU, limit, /*may_raise_hard=*/false);
  }
  int64_t wake = Saturated(base::MonotonicNs(), PollDelay(std::max<int64_t>(ns(limit.rlim_cur) - used, 0)));
  Timer* timer;
  {
    MutexLock lock(mu_);
    if (shut_down_) return;
    timer = cpu_limit_.get();
  }
  timer->Arm(wake, 0);
}

void PosixTimers::OnExec() {
  std::map<int, std::shared_ptr<Entry>> gone;
  MutexLock lock(mu_);
  std::swap(gone, entries_);
  next_id_ = 0;
}

void PosixTimers::Shutdown() {
  std::map<int, std::shared_ptr<Entry>> gone;
  std::shared_ptr<Entry> intervals[3];
  MutexLock lock(mu_);
  shut_down_ = true;
  std::swap(gone, entries_);
  for (int i = 0; i < 3; ++i) std::swap(intervals[i], intervals_[i]);
}

Result<int64_t> ReadClock(Task& task, clockid_t clock) {
  switch (clock) {
    case CLOCK_REALTIME:
    case CLOCK_REALTIME_COARSE:
    case CLOCK_REALTIME_ALARM:
      return base::RealtimeNs();
    case CLOCK_MONOTONIC:
    case CLOCK_MONOTONIC_RAW:
    case CLOCK_MONOTONIC_COARSE:
    case CLOCK_BOOTTIME:
    case CLOCK_BOOTTIME_ALARM:
    case CLOCK_TAI:
      return base::ClockNs(clock == CLOCK_BOOTTIME_ALARM ? CLOCK_BOOTTIME : clock) +
             task.namespaces().time->OffsetOf(clock);
    case CLOCK_PROCESS_CPUTIME_ID:
      return OfKind(task.group().usage(), kCpuSched);
    case CLOCK_THREAD_CPUTIME_ID:
      return OfKind(task.usage(), kCpuSched);
    default:
      break;
  }
  if (clock >= 0 || (clock & kCpuKindMask) > kCpuSched) return Errno(EINVAL);
  pid_t pid = ~(clock >> 3);
  int kind = clock & kCpuKindMask;
  TaskSet& tasks = Task::Internal::kernel(task).tasks();
  if (clock & kCpuThread) {
    if (pid == 0) return OfKind(task.usage(), kind);
    RefPtr<Task> thread = tasks.FindTask(task.pid_ns(), pid);
    if (!thread || &thread->group() != &task.group()) return Errno(EINVAL);
    return OfKind(thread->usage(), kind);
  }
  if (pid == 0) return OfKind(task.group().usage(), kind);
  RefPtr<ThreadGroup> group = tasks.FindThreadGroup(task.pid_ns(), pid);
  if (!group) return Errno(EINVAL);
  return OfKind(group->usage(), kind);
}

}  // namespace sentry::kernel
