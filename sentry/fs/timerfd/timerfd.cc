// SPDX-License-Identifier: Apache-2.0
#include "sentry/fs/timerfd/timerfd.h"

#include <fcntl.h>

#include <algorithm>
#include <cstdio>

#include "sentry/vfs/special_files.h"

namespace sentry::fs {
namespace {

constexpr char kName[] = "anon_inode:[timerfd]";

bool IsRealtime(clockid_t clock) { return clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_ALARM; }

}  // namespace

TimerFd::TimerFd(vfs::Path path, clockid_t clock, int flags)
    : FileDescription(std::move(path), O_RDWR | (flags & O_NONBLOCK)),
      clock_(clock),
      timer_([this](uint64_t count) { OnExpiry(count); }) {}

RefPtr<TimerFd> TimerFd::Create(const Credentials& creds, clockid_t clock, int flags) {
  return RefPtr<TimerFd>(new TimerFd(vfs::NewAnonymousPath(kName, 0600, creds), clock, flags));
}

TimerFd* TimerFd::From(vfs::FileDescription& file) {
  if (file.path().dentry->parent() || file.path().dentry->name() != kName) return nullptr;
  return static_cast<TimerFd*>(&file);
}

void TimerFd::OnExpiry(uint64_t count) {
  {
    MutexLock lock(mu_);
    expirations_ += count;
  }
  queue_.Notify(kEventIn);
}

TimerFd::Setting TimerFd::Get() {
  Timer::Setting now = timer_.Get();
  if (now.deadline_ns == 0) return {0, now.period_ns};
  return {std::max<int64_t>(now.deadline_ns - base::MonotonicNs(), 1), now.period_ns};
}

TimerFd::Setting TimerFd::Set(const Setting& setting, bool absolute) {
  Setting old = Get();
  timer_.Disarm();
  {
    MutexLock lock(mu_);
    expirations_ = 0;
  }
  if (setting.value_ns == 0) return old;
  int64_t now = base::MonotonicNs(), deadline;
  // A jump of the host's wall clock after this moment is not followed.
  int64_t clock_now = IsRealtime(clock_) ? base::RealtimeNs()
                                         : base::ClockNs(clock_ == CLOCK_MONOTONIC ? CLOCK_MONOTONIC : CLOCK_BOOTTIME);
  int64_t wait = absolute ? setting.value_ns - clock_now : setting.value_ns;
  if (__builtin_add_overflow(now, wait, &deadline)) deadline = INT64_MAX - 1;
  if (deadline <= now && setting.interval_ns > 0) {
    // Due already, perhaps since before the monotonic clock began: a read at once sees all that was missed.
    int64_t missed = (now - deadline) / setting.interval_ns + 1;
    if (__builtin_add_overflow(deadline, missed * setting.interval_ns, &deadline)) deadline = INT64_MAX - 1;
    MutexLock lock(mu_);
    expirations_ = missed;
  }
  timer_.Arm(std::max<int64_t>(deadline, 1), setting.interval_ns);
  return old;
}

Result<size_t> TimerFd::Read(IoTarget& target) {
  if (target.remaining() < sizeof(uint64_t)) return Errno(EINVAL);
  uint64_t count;
  {
    MutexLock lock(mu_);
    if (expirations_ == 0) return Errno(EAGAIN);
    count = std::exchange(expirations_, 0);
  }
  return target.Put(&count, sizeof count);
}

EventMask TimerFd::Poll() {
  MutexLock lock(mu_);
  return expirations_ ? kEventIn : 0;
}

std::string TimerFd::FdInfo() const {
  Timer::Setting setting = timer_.Get();
  int64_t left = setting.deadline_ns ? std::max<int64_t>(setting.deadline_ns - base::MonotonicNs(), 0) : 0;
  uint64_t ticks;
  {
    MutexLock lock(mu_);
    ticks = expirations_;
  }
  char text[200];
  snprintf(text, sizeof text,
           "clockid: %d\nticks: %lu\nsettime flags: 00\nit_value: (%ld, %ld)\nit_interval: (%ld, %ld)\n", clock_,
           static_cast<unsigned long>(ticks), static_cast<long>(left / base::kNsPerSecond),
           static_cast<long>(left % base::kNsPerSecond), static_cast<long>(setting.period_ns / base::kNsPerSecond),
           static_cast<long>(setting.period_ns % base::kNsPerSecond));
  return text;
}

}  // namespace sentry::fs
