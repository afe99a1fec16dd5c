// SPDX-License-Identifier: Apache-2.0
// Signals of the caller: actions, masks, waiting, stacks. sigaction(2), sigprocmask(2), sigsuspend(2), sigwaitinfo(2).
#include "sentry/arch/signal_frame.h"
#include "sentry/kernel/kernel.h"
#include "sentry/syscalls/handlers.h"

namespace sentry::syscalls {
namespace {

using kernel::SignalAction;
using kernel::SignalSet;

// Unknown flags are cleared, so that programs can probe for them (SA_UNSUPPORTED).
constexpr uint64_t kKnownFlags = SA_NOCLDSTOP | SA_NOCLDWAIT | SA_SIGINFO | SA_ONSTACK | SA_RESTART | SA_NODEFER |
                                 static_cast<uint32_t>(SA_RESETHAND) | 0x800 /* SA_EXPOSE_TAGBITS */ |
                                 arch::kSaRestorer;

}  // namespace

SYSCALL_HANDLER(SysRtSigaction) {
  int signal = args.Int(0);
  if (args.Size(3) != sizeof(SignalSet)) return Errno(EINVAL);
  if (signal < 1 || signal > kernel::kSignalMax) return Errno(EINVAL);
  SignalAction action;
  bool set = !args.Addr(1).IsNull();
  if (set) {
    if (kernel::SignalBit(signal) & kernel::kUnblockable) return Errno(EINVAL);
    action = TRY(task.CopyIn<SignalAction>(args.Addr(1)));
    action.mask &= ~kernel::kUnblockable;
    action.flags &= kKnownFlags;
  }
  SignalAction old = task.group().ExchangeAction(signal, set ? &action : nullptr);
  if (!args.Addr(2).IsNull()) TRY(task.CopyOut(args.Addr(2), old));
  return 0;
}

SYSCALL_HANDLER(SysRtSigprocmask) {
  if (args.Size(3) != sizeof(SignalSet)) return Errno(EINVAL);
  SignalSet old = task.signal_mask();
  if (!args.Addr(1).IsNull()) {
    SignalSet set = TRY(CopyInSignalSet(task, args.Addr(1), args.Size(3)));
    switch (args.Int(0)) {
      case SIG_BLOCK:
        task.set_signal_mask(old | set);
        break;
      case SIG_UNBLOCK:
        task.set_signal_mask(old & ~set);
        break;
      case SIG_SETMASK:
        task.set_signal_mask(set);
        break;
      default:
        return Errno(EINVAL);
    }
  }
  if (!args.Addr(2).IsNull()) TRY(task.CopyOut(args.Addr(2), old));
  return 0;
}

SYSCALL_HANDLER(SysRtSigpending) {
  uint64_t size = args.Size(1);
  if (size > sizeof(SignalSet)) return Errno(EINVAL);
  SignalSet pending = task.PendingSignals() & task.signal_mask();
  TRY(task.CopyOutBytes(args.Addr(0), &pending, size));
  return 0;
}

SYSCALL_HANDLER(SysRtSigsuspend) {
  SignalSet mask = TRY(CopyInSignalSet(task, args.Addr(0), args.Size(1)));
  task.SetTemporaryMask(mask);
  while (task.Block().ok()) {
  }
  return base::kErestartnohand;
}

SYSCALL_HANDLER(SysPause) {
  while (task.Block().ok()) {
  }
  return base::kErestartnohand;
}

SYSCALL_HANDLER(SysRtSigtimedwait) {
  SignalSet set = TRY(CopyInSignalSet(task, args.Addr(0), args.Size(3)));
  int64_t deadline = TRY(CopyInTimeoutDeadline(task, args.Addr(2)));
  Result<kernel::SignalInfo> taken = task.TakeSignal(set);
  if (!taken.ok() && deadline > base::MonotonicNs()) {
    task.SetWaitingFor(set);
    BlockerEntry entry(task.blocker());
    task.signal_queue().Add(entry, kEventIn);
    Result<void> blocked;
    for (;;) {
      taken = task.TakeSignal(set);
      if (taken.ok() || !blocked.ok()) break;
      blocked = task.Block(deadline);
    }
    task.SetWaitingFor(0);
    // Any other signal ends the wait even when its handler restarts calls (signal(7)).
    if (!taken.ok() && blocked.error() != Errno(ETIMEDOUT)) {
      return args.Addr(2).IsNull() ? base::kErestartnohand : Errno(EINTR);
    }
  }
  if (!taken.ok()) return Errno(EAGAIN);
  if (!args.Addr(1).IsNull()) TRY(task.CopyOut(args.Addr(1), *taken));
  return taken->si_signo;
}

SYSCALL_HANDLER(SysSigaltstack) {
  arch::SignalStack old{.sp = task.alt_stack.sp, .flags = task.alt_stack.flags, .size = task.alt_stack.size};
  uint32_t shown = old.flags & arch::kSsAutodisarm;
  if (old.size == 0) {
    shown |= SS_DISABLE;
  } else if (arch::OnSignalStack(old, task.regs().rsp)) {
    shown |= SS_ONSTACK;
  }
  if (!args.Addr(0).IsNull()) {
    auto stack = TRY(task.CopyIn<arch::SignalStack>(args.Addr(0)));
    TRY(task.SetAltStack({.sp = stack.sp, .size = stack.size, .flags = stack.flags}));
  }
  old.flags = shown;
  if (!args.Addr(1).IsNull()) TRY(task.CopyOut(args.Addr(1), old));
  return 0;
}

SYSCALL_HANDLER(SysRtSigreturn) { return task.ReturnFromSignal(); }

SYSCALL_HANDLER(SysRestartSyscall) {
  if (!task.restart_block) return Errno(EINTR);
  auto block = std::move(task.restart_block);
  task.restart_block = nullptr;
  return block(task);
}

}  // namespace sentry::syscalls
