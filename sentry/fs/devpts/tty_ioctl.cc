// SPDX-License-Identifier: Apache-2.0
// ioctl_tty(2), and job control (credentials(7), termios(3) TOSTOP).
#include <string.h>

#include "sentry/fs/devpts/tty.h"
#include "sentry/kernel/kernel.h"

namespace sentry::fs {

using kernel::KernelSignal;
using kernel::ProcessGroup;
using kernel::Session;
using kernel::Task;

namespace {

constexpr unsigned kSpeeds[] = {0, 50, 75, 110, 134, 150, 200, 300, 600, 1200, 1800, 2400, 4800, 9600, 19200, 38400};
constexpr unsigned kFastSpeeds[] = {57600,   115200,  230400,  460800,  500000,  576000,  921600, 1000000,
                                    1152000, 1500000, 2000000, 2500000, 3000000, 3500000, 4000000};

// The speed that the bits of c_cflag name; the field is right already with BOTHER.
unsigned SpeedOf(unsigned bits, unsigned other) {
  bits &= CBAUD;
  if (bits == BOTHER) return other;
  if (bits & CBAUDEX) {
    const unsigned index = (bits & ~CBAUDEX) - 1;
    return index < std::size(kFastSpeeds) ? kFastSpeeds[index] : 0;
  }
  return kSpeeds[bits & 15];
}

bool IsIgnored(Task& task, int signal) {
  return (task.signal_mask() & kernel::SignalBit(signal)) ||
         task.group().ExchangeAction(signal, nullptr).handler == kernel::kSignalIgnore;
}

}  // namespace

bool Tty::IsControllingOf(Task& task) {
  RefPtr<Session> session = task.group().session();
  return session && session->terminal() == this;
}

// The rule for reading (SIGTTIN), and for writing and changing the terminal (SIGTTOU), outside its foreground process
// group.
Result<void> Tty::CheckBackground(int signal) {
  Task* task = Task::CurrentOrNull();
  if (!task) return OkResult();
  RefPtr<Session> session;
  RefPtr<ProcessGroup> foreground;
  {
    MutexLock lock(mu_);
    session = session_;
    foreground = foreground_;
  }
  if (!session || !foreground) return OkResult();
  RefPtr<ProcessGroup> own = task->group().process_group();
  if (!own || own == foreground || !(own->session() == session)) return OkResult();
  if (IsIgnored(*task, signal)) return signal == SIGTTIN ? Result<void>(Errno(EIO)) : OkResult();
  if (own->IsOrphaned()) return Errno(EIO);
  own->SendSignal(KernelSignal(signal));
  return base::kErestartsys;
}

Result<int64_t> Tty::GetTermios(uint64_t argument, size_t size) {
  Termios termios;
  {
    MutexLock lock(mu_);
    termios = line_.termios();
  }
  TRY(Caller::Current().CopyOutBytes(UserAddr(argument), &termios, size));
  return 0;
}

Result<int64_t> Tty::SetTermios(uint64_t argument, size_t size, bool flush_input) {
  TRY(CheckBackground(SIGTTOU));
  Termios termios;
  {
    MutexLock lock(mu_);
    termios = line_.termios();
  }
  TRY(Caller::Current().CopyInBytes(UserAddr(argument), &termios, size));
  ApplyTermios(termios, flush_input);
  return 0;
}

// System V's struct termio: 16 bits of each flag word, the first eight characters.
Result<int64_t> Tty::GetTermio(uint64_t argument) {
  Termios termios;
  {
    MutexLock lock(mu_);
    termios = line_.termios();
  }
  termio old = {};
  old.c_iflag = static_cast<uint16_t>(termios.c_iflag);
  old.c_oflag = static_cast<uint16_t>(termios.c_oflag);
  old.c_cflag = static_cast<uint16_t>(termios.c_cflag);
  old.c_lflag = static_cast<uint16_t>(termios.c_lflag);
  old.c_line = termios.c_line;
  memcpy(old.c_cc, termios.c_cc, NCC);
  TRY(Caller::Current().CopyOut(UserAddr(argument), old));
  return 0;
}

Result<int64_t> Tty::SetTermio(uint64_t argument, bool flush_input) {
  TRY(CheckBackground(SIGTTOU));
  const termio given = TRY(Caller::Current().CopyIn<termio>(UserAddr(argument)));
  Termios termios;
  {
    MutexLock lock(mu_);
    termios = line_.termios();
  }
  auto low = [](tcflag_t& word, uint16_t bits) { word = (word & 0xffff0000) | bits; };
  low(termios.c_iflag, given.c_iflag);
  low(termios.c_oflag, given.c_oflag);
  low(termios.c_cflag, given.c_cflag);
  low(termios.c_lflag, given.c_lflag);
  memcpy(termios.c_cc, given.c_cc, NCC);
  ApplyTermios(termios, flush_input);
  return 0;
}

Result<int64_t> Tty::GetTermiosLocks(uint64_t argument) {
  Termios locks;
  {
    MutexLock lock(mu_);
    locks = termios_locks_;
  }
  TRY(Caller::Current().CopyOutBytes(UserAddr(argument), &locks, sizeof(::termios)));
  return 0;
}

Result<int64_t> Tty::SetTermiosLocks(uint64_t argument) {
  if (!Caller::Current().creds()->HasCapability(CAP_SYS_ADMIN)) return Errno(EPERM);
  Termios locks = {};
  TRY(Caller::Current().CopyInBytes(UserAddr(argument), &locks, sizeof(::termios)));
  MutexLock lock(mu_);
  termios_locks_ = locks;
  return 0;
}

void Tty::ApplyTermios(Termios termios, bool flush_input) {
  {
    MutexLock lock(mu_);
    const Termios& old = line_.termios();
    auto keep = [](tcflag_t& word, tcflag_t was, tcflag_t locked) { word = (word & ~locked) | (was & locked); };
    keep(termios.c_iflag, old.c_iflag, termios_locks_.c_iflag);
    keep(termios.c_oflag, old.c_oflag, termios_locks_.c_oflag);
    keep(termios.c_cflag, old.c_cflag, termios_locks_.c_cflag);
    keep(termios.c_lflag, old.c_lflag, termios_locks_.c_lflag);
    for (size_t i = 0; i < NCCS; i++) {
      if (termios_locks_.c_cc[i]) termios.c_cc[i] = old.c_cc[i];
    }
    termios.c_ospeed = SpeedOf(termios.c_cflag, termios.c_ospeed);
    const unsigned input_bits = (termios.c_cflag & CIBAUD) >> IBSHIFT;
    termios.c_ispeed = input_bits == B0 ? termios.c_ospeed : SpeedOf(input_bits, termios.c_ispeed);
    // What a pseudo-terminal can't be otherwise (pty_set_termios).
    termios.c_cflag = (termios.c_cflag & ~static_cast<unsigned>(CSIZE | PARENB)) | CS8 | CREAD;
    termios.c_line = 0;
    if (flush_input) FlushInputLocked();
    auto xon = [](const Termios& t) { return (t.c_iflag & IXON) && t.c_cc[VSTOP] == 19 && t.c_cc[VSTART] == 17; };
    const bool before = xon(old);
    line_.SetTermios(termios);
    if (packet_ && before != xon(termios)) {
      packet_status_ &= static_cast<uint8_t>(~(TIOCPKT_DOSTOP | TIOCPKT_NOSTOP));
      packet_status_ |= before ? TIOCPKT_NOSTOP : TIOCPKT_DOSTOP;
    }
  }
  slave_queue_.Notify(kEventIn | kEventOut);
  master_queue_.Notify(kEventIn | kEventOut | EPOLLPRI);
}

Result<int64_t> Tty::Flush(uint64_t which, bool is_master) {
  TRY(CheckBackground(SIGTTOU));
  if (which > TCIOFLUSH) return Errno(EINVAL);
  // The master's input is the slave's output.
  const bool slave_input = which == TCIOFLUSH || which == (is_master ? TCOFLUSH : TCIFLUSH);
  const bool slave_output = which == TCIOFLUSH || which == (is_master ? TCIFLUSH : TCOFLUSH);
  {
    MutexLock lock(mu_);
    if (slave_input) FlushInputLocked();
    if (slave_output) FlushOutputLocked();
  }
  slave_queue_.Notify(kEventOut);
  master_queue_.Notify(kEventOut | (packet_mode() ? kEventIn | EPOLLPRI : 0));
  return 0;
}

Result<int64_t> Tty::FlowControl(uint64_t action, bool is_master) {
  TRY(CheckBackground(SIGTTOU));
  if (action > TCION) return Errno(EINVAL);
  {
    MutexLock lock(mu_);
    switch (action) {
      case TCOOFF:
        if (!is_master) line_.Stop();
        break;
      case TCOON:
        if (!is_master) line_.Start();
        break;
      default: {
        // Asks the other side to stop or go on, by its character.
        const uint8_t c = line_.termios().c_cc[action == TCIOFF ? VSTOP : VSTART];
        const char text = static_cast<char>(c);
        if (c && is_master) (void)line_.Type({&text, 1});
        if (c && !is_master) (void)line_.Print({&text, 1});
        break;
      }
    }
  }
  slave_queue_.Notify(kEventIn | kEventOut);
  master_queue_.Notify(kEventIn);
  return 0;
}

Result<void> Tty::Control(Task& task, bool steal) {
  RefPtr<Session> session = task.group().session();
  RefPtr<ProcessGroup> group = task.group().process_group();
  if (!session || !group) return Errno(EPERM);
  const bool leader = session->id() == task.group().tgid();
  RefPtr<Session> robbed;
  RefPtr<ProcessGroup> old_foreground;
  {
    MutexLock lock(mu_);
    if (hung_up_) return Errno(EIO);
    if (leader && session_ == session) return OkResult();
    if (!leader || session->terminal()) return Errno(EPERM);
    if (session_ && !steal) return Errno(EPERM);
    if (!session->SetTerminal(RefPtr<ControllingTerminal>(this))) return Errno(EPERM);
    robbed = std::exchange(session_, session);
    old_foreground = std::exchange(foreground_, group);
  }
  if (robbed) robbed->ClearTerminal();
  return OkResult();
}

Result<int64_t> Tty::TakeAsControlling(bool steal, vfs::FileDescription& file) {
  Task& task = Task::Current();
  const bool admin = task.HasCapability(CAP_SYS_ADMIN);
  // Without the right to read it is no terminal to work at (TIOCSCTTY of Linux).
  if (!file.IsReadable() && !admin) return Errno(EPERM);
  TRY(Control(task, steal && admin));
  return 0;
}

void Tty::OfferAsControlling() {
  if (Task* task = Task::CurrentOrNull()) (void)Control(*task, false).ok();
}

Result<int64_t> Tty::GiveUpControlling() {
  Task& task = Task::Current();
  RefPtr<Session> session = task.group().session();
  if (!session || !(session->terminal() == this)) return Errno(ENOTTY);
  // The terminal belongs to the session: a member other than the leader can't be without it alone.
  if (session->id() != task.group().tgid()) return 0;
  RefPtr<ProcessGroup> foreground = Foreground();
  RefPtr<Tty> keep(this);
  session->ClearTerminal();
  Disassociate();
  if (foreground) {
    foreground->SendSignal(KernelSignal(SIGHUP));
    foreground->SendSignal(KernelSignal(SIGCONT));
  }
  return 0;
}

Result<int64_t> Tty::GetForeground(uint64_t argument, bool is_master) {
  Task& task = Task::Current();
  if (!is_master && !IsControllingOf(task)) return Errno(ENOTTY);
  RefPtr<ProcessGroup> foreground = Foreground();
  TRY(task.CopyOut(UserAddr(argument), foreground ? foreground->IdIn(task.pid_ns()) : pid_t{0}));
  return 0;
}

Result<int64_t> Tty::SetForeground(uint64_t argument) {
  Task& task = Task::Current();
  TRY(CheckBackground(SIGTTOU));
  if (!IsControllingOf(task)) return Errno(ENOTTY);
  const pid_t id = TRY(task.CopyIn<pid_t>(UserAddr(argument)));
  if (id < 0) return Errno(EINVAL);
  kernel::TaskSet& tasks = kernel::Kernel::Get().tasks();
  RefPtr<ProcessGroup> group = tasks.FindProcessGroup(task.pid_ns(), id);
  if (!group) return Errno(tasks.FindTask(task.pid_ns(), id) ? EPERM : ESRCH);
  RefPtr<Session> session = task.group().session();
  if (!(group->session() == session)) return Errno(EPERM);
  MutexLock lock(mu_);
  if (!(session_ == session)) return Errno(ENOTTY);
  std::swap(foreground_, group);
  return 0;
}

Result<int64_t> Tty::GetSession(uint64_t argument, bool is_master) {
  Task& task = Task::Current();
  if (!is_master && !IsControllingOf(task)) return Errno(ENOTTY);
  RefPtr<Session> session;
  {
    MutexLock lock(mu_);
    session = session_;
  }
  if (!session) return Errno(ENOTTY);
  TRY(task.CopyOut(UserAddr(argument), session->IdIn(task.pid_ns())));
  return 0;
}

Result<int64_t> Tty::Ioctl(unsigned request, uint64_t argument, bool is_master, vfs::FileDescription& file) {
  Caller& caller = Caller::Current();
  const UserAddr to(argument);
  auto put_int = [&](int value) -> Result<int64_t> {
    TRY(caller.CopyOut(to, value));
    return 0;
  };
  switch (request) {
    case TCGETS:
      return GetTermios(argument, sizeof(::termios));
    case TCGETS2:
      return GetTermios(argument, sizeof(Termios));
    case TCSETS:
    case TCSETSW:
    case TCSETSF:
      return SetTermios(argument, sizeof(::termios), request == TCSETSF);
    case TCSETS2:
    case TCSETSW2:
    case TCSETSF2:
      return SetTermios(argument, sizeof(Termios), request == TCSETSF2);
    case TCGETA:
      return GetTermio(argument);
    case TCSETA:
    case TCSETAW:
    case TCSETAF:
      return SetTermio(argument, request == TCSETAF);
    case TIOCGLCKTRMIOS:
      return GetTermiosLocks(argument);
    case TIOCSLCKTRMIOS:
      return SetTermiosLocks(argument);
    case TIOCGWINSZ: {
      winsize size;
      {
        MutexLock lock(mu_);
        size = size_;
      }
      TRY(caller.CopyOut(to, size));
      return 0;
    }
    case TIOCSWINSZ:
      SetWindowSize(TRY(caller.CopyIn<winsize>(to)));
      return 0;
    case TIOCSCTTY:
      return TakeAsControlling(argument == 1, file);
    case TIOCNOTTY:
      return GiveUpControlling();
    case TIOCGPGRP:
      return GetForeground(argument, is_master);
    case TIOCSPGRP:
      return SetForeground(argument);
    case TIOCGSID:
      return GetSession(argument, is_master);
    case TCFLSH:
      return Flush(argument, is_master);
    case TCXONC:
      return FlowControl(argument, is_master);
    case TCSBRK:
    case TCSBRKP:
      // Output is with the master at once: there is nothing to drain, and no line to break.
      TRY(CheckBackground(SIGTTOU));
      return 0;
    case TIOCSBRK:
    case TIOCCBRK:
      return 0;
    case TIOCOUTQ:
      return put_int(0);
    case FIONREAD: {
      size_t bytes;
      {
        MutexLock lock(mu_);
        bytes = is_master ? line_.OutputBytes() : line_.InputBytes();
      }
      return put_int(static_cast<int>(bytes));
    }
    case TIOCGETD:
      return put_int(0);  // N_TTY
    case TIOCSETD:
      return TRY(caller.CopyIn<int>(to)) == 0 ? Result<int64_t>(0) : Errno(EINVAL);
    case TIOCEXCL:
    case TIOCNXCL: {
      MutexLock lock(mu_);
      exclusive_ = request == TIOCEXCL;
      return 0;
    }
    case TIOCGEXCL: {
      bool exclusive;
      {
        MutexLock lock(mu_);
        exclusive = exclusive_;
      }
      return put_int(exclusive);
    }
    case TIOCGDEV:
      return put_int(static_cast<int>(Device()));
    case TIOCSTI:
      return Errno(EIO);  // as with dev.tty.legacy_tiocsti=0
    case TIOCVHANGUP:
      if (!caller.creds()->HasCapability(CAP_SYS_ADMIN)) return Errno(EPERM);
      HangUp();
      return 0;
    default:
      return Errno(ENOTTY);
  }
}

}  // namespace sentry::fs
