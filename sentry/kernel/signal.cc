// SPDX-License-Identifier: Apache-2.0
#include "sentry/kernel/signal.h"

#include <bit>
#include <cstring>

namespace sentry::kernel {

namespace {
// Delivered before the others, so that the handler sees the faulting state (kernel/signal.c, SYNCHRONOUS_MASK).
constexpr SignalSet kSynchronous = SignalBit(SIGSEGV) | SignalBit(SIGBUS) | SignalBit(SIGILL) | SignalBit(SIGTRAP) |
                                   SignalBit(SIGFPE) | SignalBit(SIGSYS);
}  // namespace

SignalInfo UserSignal(int signal, pid_t pid, uid_t uid) {
  SignalInfo info;
  memset(&info, 0, sizeof info);
  info.si_signo = signal;
  info.si_code = SI_USER;
  info.si_pid = pid;
  info.si_uid = uid;
  return info;
}

SignalInfo KernelSignal(int signal) {
  SignalInfo info;
  memset(&info, 0, sizeof info);
  info.si_signo = signal;
  info.si_code = SI_KERNEL;
  return info;
}

DefaultAction DefaultActionOf(int signal) {
  switch (signal) {
    case SIGCHLD:
    case SIGURG:
    case SIGWINCH:
      return DefaultAction::kIgnore;
    case SIGCONT:
      return DefaultAction::kContinue;
    case SIGSTOP:
    case SIGTSTP:
    case SIGTTIN:
    case SIGTTOU:
      return DefaultAction::kStop;
    case SIGQUIT:
    case SIGILL:
    case SIGTRAP:
    case SIGABRT:
    case SIGFPE:
    case SIGSEGV:
    case SIGBUS:
    case SIGSYS:
    case SIGXCPU:
    case SIGXFSZ:
      return DefaultAction::kCore;
    default:
      return DefaultAction::kTerminate;
  }
}

bool PendingSignals::Add(const SignalInfo& info) {
  SignalSet bit = SignalBit(info.si_signo);
  if (info.si_signo < kFirstRealTime && (set_ & bit)) return false;
  queue_.push_back(info);
  set_ |= bit;
  return true;
}

bool PendingSignals::Take(SignalSet allowed, SignalInfo* info) {
  SignalSet candidates = set_ & allowed;
  if (candidates == 0) return false;
  if (candidates & kSynchronous) candidates &= kSynchronous;
  int signal = std::countr_zero(candidates) + 1;
  bool found = false, more = false;
  for (auto it = queue_.begin(); it != queue_.end();) {
    if (it->si_signo != signal) {
      ++it;
    } else if (!found) {
      *info = *it;
      it = queue_.erase(it);
      found = true;
    } else {
      more = true;
      break;
    }
  }
  if (!more) set_ &= ~SignalBit(signal);
  return found;
}

void PendingSignals::Discard(SignalSet which) {
  if ((set_ & which) == 0) return;
  set_ &= ~which;
  queue_.remove_if([&](const SignalInfo& info) { return (SignalBit(info.si_signo) & which) != 0; });
}

}  // namespace sentry::kernel
