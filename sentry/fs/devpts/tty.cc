// SPDX-License-Identifier: Apache-2.0
// Moving bytes, opening, closing, hanging up.
#include "sentry/fs/devpts/tty.h"

#include <string.h>
#include <sys/sysmacros.h>

#include <algorithm>

#include "sentry/kernel/kernel.h"

namespace sentry::fs {

using kernel::KernelSignal;
using kernel::ProcessGroup;
using kernel::Session;

namespace {
constexpr unsigned kSlaveMajor = 136;  // UNIX98_PTY_SLAVE_MAJOR
constexpr size_t kChunk = 4096;
constexpr int64_t kVtimeUnitNs = 100'000'000;
}  // namespace

// Signals and wake-ups: the queues' waiters may look at the terminal at once.
struct Tty::Aftermath {
  std::string signals;
  RefPtr<ProcessGroup> foreground;
};

Tty::Tty(unsigned index) : index_(index), timer_([this](uint64_t) { OnTimer(); }) {}
Tty::~Tty() = default;

dev_t Tty::Device() const { return makedev(kSlaveMajor, index_); }

RefPtr<ProcessGroup> Tty::Foreground() {
  MutexLock lock(mu_);
  return foreground_;
}

void Tty::Associate(RefPtr<Session> session, RefPtr<ProcessGroup> foreground) {
  MutexLock lock(mu_);
  std::swap(session_, session);
  std::swap(foreground_, foreground);
}

void Tty::Disassociate() { Associate(nullptr, nullptr); }

void Tty::Collect(Aftermath& aftermath) {
  aftermath.signals = line_.TakeSignals();
  if (!aftermath.signals.empty()) {
    aftermath.foreground = foreground_;
    if (packet_ && !(line_.termios().c_lflag & NOFLSH)) packet_status_ |= TIOCPKT_FLUSHREAD | TIOCPKT_FLUSHWRITE;
  }
}

void Tty::Finish(const Aftermath& aftermath) {
  if (aftermath.foreground) {
    for (char signal : aftermath.signals) aftermath.foreground->SendSignal(KernelSignal(signal));
  }
  slave_queue_.Notify(kEventIn | kEventOut);
  master_queue_.Notify(kEventIn | kEventOut | EPOLLPRI);
}

Result<size_t> Tty::SlaveRead(IoTarget& target, bool nonblocking) {
  const size_t wanted = std::min(target.remaining(), kChunk);
  if (wanted == 0) return size_t{0};
  if (IsHungUp()) return size_t{0};
  TRY(CheckBackground(SIGTTIN));
  uint8_t buffer[kChunk];
  size_t n = 0;
  Aftermath aftermath;
  {
    MutexLock lock(mu_);
    if (hung_up_) return size_t{0};
    // Nobody is asleep here: this is a read's first look, and a time-out is an earlier one's.
    if (slave_queue_.Empty()) timed_out_ = timer_armed_ = false;
    switch (line_.CanRead(wanted, nonblocking)) {
      case LineDiscipline::ReadState::kReady:
        break;
      case LineDiscipline::ReadState::kWait:
        return Errno(EAGAIN);
      case LineDiscipline::ReadState::kTimedWait:
        if (timed_out_) break;
        if (nonblocking) return Errno(EAGAIN);
        if (!timer_armed_) timer_.Arm(base::MonotonicNs() + line_.termios().c_cc[VTIME] * kVtimeUnitNs, 0);
        timer_armed_ = true;
        return Errno(EAGAIN);
    }
    timed_out_ = timer_armed_ = false;
    n = line_.Read(buffer, wanted);
    Collect(aftermath);
  }
  Result<size_t> put = n ? target.Put(buffer, n) : size_t{0};
  const size_t stored = put.ok() ? *put : 0;
  if (stored < n) {
    MutexLock lock(mu_);
    line_.Unread({reinterpret_cast<char*>(buffer) + stored, n - stored});
  }
  Finish(aftermath);
  return put;
}

Result<size_t> Tty::SlaveWrite(IoSource& source) {
  bool tostop;
  {
    MutexLock lock(mu_);
    if (hung_up_) return Errno(EIO);
    tostop = line_.termios().c_lflag & TOSTOP;
  }
  if (tostop) TRY(CheckBackground(SIGTTOU));
  if (source.remaining() == 0) return size_t{0};
  char buffer[kChunk];
  {
    MutexLock lock(mu_);
    if (!line_.CanPrint()) return Errno(EAGAIN);
  }
  const size_t got = TRY(source.Take(buffer, std::min(source.remaining(), sizeof buffer)));
  size_t n;
  {
    MutexLock lock(mu_);
    n = hung_up_ ? 0 : line_.Print({buffer, got});
  }
  if (n < got) source.Untake(got - n);
  if (n == 0) return Errno(IsHungUp() ? EIO : EAGAIN);
  master_queue_.Notify(kEventIn);
  return n;
}

EventMask Tty::SlavePoll() {
  MutexLock lock(mu_);
  if (hung_up_) return kEventIn | kEventOut | EPOLLHUP | EPOLLERR;
  EventMask events = 0;
  if (line_.HasInput()) events |= kEventIn;
  if (line_.CanPrint()) events |= kEventOut;
  return events;
}

Result<size_t> Tty::MasterRead(IoTarget& target) {
  const size_t wanted = std::min(target.remaining(), size_t{4} * kChunk);
  if (wanted == 0) return size_t{0};
  std::string data;
  bool packet;
  {
    MutexLock lock(mu_);
    packet = packet_;
    if (packet && packet_status_) {
      data.push_back(static_cast<char>(packet_status_));
      packet_status_ = 0;
    } else if (line_.OutputBytes() == 0) {
      return Errno(slave_closed_ ? EIO : EAGAIN);
    } else {
      if (packet) data.push_back(TIOCPKT_DATA);
      data += line_.TakeOutput(wanted - data.size());
    }
  }
  Result<size_t> put = target.Put(data.data(), data.size());
  const size_t stored = std::max(put.ok() ? *put : 0, size_t{packet});
  if (stored < data.size()) {
    MutexLock lock(mu_);
    line_.UntakeOutput(std::string_view(data).substr(stored));
  }
  slave_queue_.Notify(kEventOut);
  return put;
}

Result<size_t> Tty::MasterWrite(IoSource& source) {
  if (source.remaining() == 0) return size_t{0};
  {
    MutexLock lock(mu_);
    if (!line_.CanType()) return Errno(EAGAIN);
  }
  char buffer[kChunk];
  const size_t got = TRY(source.Take(buffer, std::min(source.remaining(), sizeof buffer)));
  size_t n;
  Aftermath aftermath;
  {
    MutexLock lock(mu_);
    const bool was_stopped = line_.stopped();
    n = line_.Type({buffer, got});
    if (packet_ && line_.stopped() != was_stopped) packet_status_ |= was_stopped ? TIOCPKT_START : TIOCPKT_STOP;
    Collect(aftermath);
    // Between bytes, VTIME counts from the last one.
    if (line_.TakeArrived() && timer_armed_)
      timer_.Arm(base::MonotonicNs() + line_.termios().c_cc[VTIME] * kVtimeUnitNs, 0);
  }
  if (n < got) source.Untake(got - n);
  if (n == 0) return Errno(EAGAIN);
  Finish(aftermath);
  return n;
}

EventMask Tty::MasterPoll() {
  MutexLock lock(mu_);
  EventMask events = 0;
  if (line_.OutputBytes() || (packet_ && packet_status_)) events |= kEventIn;
  if (packet_ && packet_status_) events |= EPOLLPRI;
  if (line_.CanType()) events |= kEventOut;
  if (slave_closed_) events |= EPOLLHUP;
  return events;
}

void Tty::OnTimer() {
  {
    MutexLock lock(mu_);
    if (!timer_armed_) return;
    timer_armed_ = false;
    timed_out_ = true;
  }
  slave_queue_.Notify(kEventIn);
}

Result<void> Tty::OpenSlave(bool check_lock) {
  Caller* caller = Caller::CurrentOrNull();
  const bool admin = !caller || caller->creds()->HasCapability(CAP_SYS_ADMIN);
  MutexLock lock(mu_);
  if (hung_up_ || (check_lock && locked_)) return Errno(EIO);
  if (exclusive_ && !admin) return Errno(EBUSY);
  ++slave_opens_;
  slave_closed_ = false;
  return OkResult();
}

void Tty::CloseSlave() {
  {
    MutexLock lock(mu_);
    if (--slave_opens_ > 0) return;
    slave_closed_ = true;
    exclusive_ = false;
  }
  master_queue_.Notify(kEventIn | EPOLLHUP);
}

void Tty::SetLocked(bool locked) {
  MutexLock lock(mu_);
  locked_ = locked;
}

bool Tty::IsLocked() {
  MutexLock lock(mu_);
  return locked_;
}

bool Tty::IsHungUp() {
  MutexLock lock(mu_);
  return hung_up_;
}

// Only the leader hears of it; what it leaves behind when it ends on that is the kernel's business (credentials(7),
// tty_signal_session_leader).
void Tty::HangUp() {
  RefPtr<Session> session;
  RefPtr<ProcessGroup> foreground;
  {
    MutexLock lock(mu_);
    hung_up_ = true;
    line_.FlushInput();
    line_.FlushOutput();
    session = std::move(session_);
    foreground = std::move(foreground_);
  }
  if (session) {
    session->ClearTerminal();
    kernel::Kernel& kernel = kernel::Kernel::Get();
    RefPtr<kernel::ThreadGroup> leader = kernel.tasks().FindThreadGroup(*kernel.root_pid_ns(), session->id());
    if (leader && leader->session() == session) {
      (void)leader->SendSignal(KernelSignal(SIGHUP)).ok();
      (void)leader->SendSignal(KernelSignal(SIGCONT)).ok();
    }
  }
  slave_queue_.Notify(kEventIn | kEventOut | EPOLLHUP | EPOLLERR);
}

void Tty::FlushInputLocked() {
  line_.FlushInput();
  if (packet_) packet_status_ |= TIOCPKT_FLUSHREAD;
}

void Tty::FlushOutputLocked() {
  line_.FlushOutput();
  if (packet_) packet_status_ |= TIOCPKT_FLUSHWRITE;
}

void Tty::SetPacketMode(bool on) {
  MutexLock lock(mu_);
  if (on && !packet_) packet_status_ = 0;
  packet_ = on;
}

bool Tty::packet_mode() {
  MutexLock lock(mu_);
  return packet_;
}

void Tty::SetWindowSize(const winsize& size) {
  RefPtr<ProcessGroup> foreground;
  {
    MutexLock lock(mu_);
    if (memcmp(&size, &size_, sizeof size) == 0) return;
    size_ = size;
    foreground = foreground_;
  }
  if (foreground) foreground->SendSignal(KernelSignal(SIGWINCH));
}

void Tty::SignalForeground(int signal) {
  if (RefPtr<ProcessGroup> foreground = Foreground()) foreground->SendSignal(KernelSignal(signal));
}

}  // namespace sentry::fs
