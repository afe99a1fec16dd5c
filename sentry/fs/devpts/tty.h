// SPDX-License-Identifier: Apache-2.0
// Tty: one pseudo-terminal: the line discipline, both ends' wait queues, the session it controls, and job control.
#ifndef SENTRY_FS_DEVPTS_TTY_H_
#define SENTRY_FS_DEVPTS_TTY_H_

#include <sys/ioctl.h>

#include <string>

#include "sentry/fs/devpts/line_discipline.h"
#include "sentry/kernel/core/timer.h"
#include "sentry/kernel/core/wait_queue.h"
#include "sentry/kernel/session.h"
#include "sentry/vfs/file_description.h"

namespace sentry::kernel {
class Task;
}

namespace sentry::fs {

class Tty final : public kernel::ControllingTerminal {
 public:
  explicit Tty(unsigned index);
  ~Tty() override;

  unsigned index() const { return index_; }
  WaitQueue& slave_queue() { return slave_queue_; }
  WaitQueue& master_queue() { return master_queue_; }

  // kernel::ControllingTerminal.
  dev_t Device() const override;
  RefPtr<kernel::ProcessGroup> Foreground() override;
  void Associate(RefPtr<kernel::Session> session, RefPtr<kernel::ProcessGroup> foreground) override;
  void Disassociate() override;

  // The ends. EAGAIN instead of waiting.
  Result<size_t> SlaveRead(IoTarget& target, bool nonblocking);
  Result<size_t> SlaveWrite(IoSource& source);
  EventMask SlavePoll();
  Result<size_t> MasterRead(IoTarget& target);
  Result<size_t> MasterWrite(IoSource& source);
  EventMask MasterPoll();

  // Opening and closing. `check_lock`: through /dev/pts (EIO while TIOCSPTLCK holds). EBUSY: TIOCEXCL.
  Result<void> OpenSlave(bool check_lock);
  void CloseSlave();
  void SetLocked(bool locked);
  bool IsLocked();
  // The master was closed, or TIOCVHANGUP.
  void HangUp();
  bool IsHungUp();

  // The calls of ioctl_tty(2) that both ends have; ENOTTY for others. `file`: for TIOCSCTTY's access mode.
  Result<int64_t> Ioctl(unsigned request, uint64_t argument, bool is_master, vfs::FileDescription& file);
  void SetWindowSize(const winsize& size);
  // open(2) without O_NOCTTY.
  void OfferAsControlling();
  // TIOCPKT, of the master.
  void SetPacketMode(bool on);
  bool packet_mode();
  void SignalForeground(int signal);

 private:
  struct Aftermath;  // what is to be done once the lock is released
  void Collect(Aftermath& aftermath) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Finish(const Aftermath& aftermath);
  void OnTimer();
  void FlushInputLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void FlushOutputLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  // tty_ioctl.cc
  Result<void> CheckBackground(int signal);
  Result<int64_t> GetTermios(uint64_t argument, size_t size);
  Result<int64_t> SetTermios(uint64_t argument, size_t size, bool flush_input);
  Result<int64_t> GetTermio(uint64_t argument);
  Result<int64_t> SetTermio(uint64_t argument, bool flush_input);
  Result<int64_t> GetTermiosLocks(uint64_t argument);
  Result<int64_t> SetTermiosLocks(uint64_t argument);
  // Of both speeds only what the flags name counts; locked bits stay as they are.
  void ApplyTermios(Termios termios, bool flush_input);
  Result<int64_t> Flush(uint64_t which, bool is_master);
  Result<int64_t> FlowControl(uint64_t action, bool is_master);
  Result<int64_t> TakeAsControlling(bool steal, vfs::FileDescription& file);
  Result<int64_t> GiveUpControlling();
  Result<int64_t> GetForeground(uint64_t argument, bool is_master);
  Result<int64_t> SetForeground(uint64_t argument);
  Result<int64_t> GetSession(uint64_t argument, bool is_master);
  Result<void> Control(kernel::Task& task, bool steal);
  bool IsControllingOf(kernel::Task& task);

  const unsigned index_;
  WaitQueue slave_queue_, master_queue_;
  mutable Mutex mu_{LockRank::kTty};
  LineDiscipline line_ ABSL_GUARDED_BY(mu_);
  winsize size_ ABSL_GUARDED_BY(mu_) = {};
  RefPtr<kernel::Session> session_ ABSL_GUARDED_BY(mu_);
  RefPtr<kernel::ProcessGroup> foreground_ ABSL_GUARDED_BY(mu_);
  int slave_opens_ ABSL_GUARDED_BY(mu_) = 0;
  bool slave_closed_ ABSL_GUARDED_BY(mu_) = false;  // was open, and isn't now
  bool locked_ ABSL_GUARDED_BY(mu_) = true;
  bool exclusive_ ABSL_GUARDED_BY(mu_) = false;
  bool hung_up_ ABSL_GUARDED_BY(mu_) = false;
  Termios termios_locks_ ABSL_GUARDED_BY(mu_) = {};  // TIOCSLCKTRMIOS: bits that no change reaches
  bool packet_ ABSL_GUARDED_BY(mu_) = false;
  uint8_t packet_status_ ABSL_GUARDED_BY(mu_) = 0;
  // VTIME: the timer is armed for the slave's reader, or has expired and the next read ends.
  bool timer_armed_ ABSL_GUARDED_BY(mu_) = false;
  bool timed_out_ ABSL_GUARDED_BY(mu_) = false;
  Timer timer_;
};

}  // namespace sentry::fs

#endif  // SENTRY_FS_DEVPTS_TTY_H_
