// SPDX-License-Identifier: Apache-2.0
// timerfd_create(2) and its settings.
#ifndef SENTRY_FS_TIMERFD_TIMERFD_H_
#define SENTRY_FS_TIMERFD_TIMERFD_H_

#include <time.h>

#include "sentry/kernel/core/timer.h"
#include "sentry/vfs/file_description.h"

namespace sentry::fs {

class TimerFd final : public vfs::FileDescription {
 public:
  // `clock` is CLOCK_REALTIME, _MONOTONIC, _BOOTTIME or an _ALARM form of them; `flags`: O_NONBLOCK.
  static RefPtr<TimerFd> Create(const Credentials& creds, clockid_t clock, int flags);
  // Null when the file is another one.
  static TimerFd* From(vfs::FileDescription& file);

  // Remaining time and period, in ns; 0 remaining = disarmed.
  struct Setting {
    int64_t value_ns = 0, interval_ns = 0;
  };
  // `absolute`: value_ns is a time of the clock. Returns the old setting.
  Setting Set(const Setting& setting, bool absolute);
  Setting Get();
  clockid_t clock() const { return clock_; }

  Result<size_t> Read(IoTarget& target) override;
  Result<int64_t> Seek(int64_t, int) override { return Errno(ESPIPE); }
  EventMask Poll() override;
  WaitQueue* wait_queue() override { return &queue_; }
  std::string FdInfo() const override;

 private:
  TimerFd(vfs::Path path, clockid_t clock, int flags);
  void OnExpiry(uint64_t count);

  const clockid_t clock_;
  mutable Mutex mu_{LockRank::kLeaf};
  uint64_t expirations_ ABSL_GUARDED_BY(mu_) = 0;
  WaitQueue queue_;
  Timer timer_;  // last: its destructor waits for OnExpiry
};

}  // namespace sentry::fs

#endif  // SENTRY_FS_TIMERFD_TIMERFD_H_
