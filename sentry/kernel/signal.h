// SPDX-License-Identifier: Apache-2.0
// Signal sets, infos, actions and pending queues (signal(7)). No locking here: the owner's (see thread_group.h).
#ifndef SENTRY_KERNEL_SIGNAL_H_
#define SENTRY_KERNEL_SIGNAL_H_

#include <signal.h>

#include <array>
#include <cstdint>
#include <deque>
#include <list>

#include "sentry/common.h"

namespace sentry::kernel {

inline constexpr int kSignalMax = 64;
inline constexpr int kFirstRealTime = 32;  // of the kernel's ABI

using SignalSet = uint64_t;  // bit n-1 = signal n, as in the kernel's sigset_t
constexpr SignalSet SignalBit(int signal) { return uint64_t{1} << (signal - 1); }
// SIGKILL and SIGSTOP: cannot be blocked, caught or ignored.
inline constexpr SignalSet kUnblockable = SignalBit(SIGKILL) | SignalBit(SIGSTOP);
inline constexpr SignalSet kStopSignals =
    SignalBit(SIGSTOP) | SignalBit(SIGTSTP) | SignalBit(SIGTTIN) | SignalBit(SIGTTOU);

// The kernel's siginfo (128 bytes); glibc's type has its layout.
using SignalInfo = siginfo_t;
// SI_USER from the given ids (as the receiver's namespace sees them); SI_KERNEL.
SignalInfo UserSignal(int signal, pid_t pid, uid_t uid);
SignalInfo KernelSignal(int signal);

// struct sigaction as the x86-64 kernel takes it.
struct SignalAction {
  uint64_t handler = 0;  // SIG_DFL = 0, SIG_IGN = 1
  uint64_t flags = 0;
  uint64_t restorer = 0;
  SignalSet mask = 0;
};
inline constexpr uint64_t kSignalDefault = 0;
inline constexpr uint64_t kSignalIgnore = 1;

enum class DefaultAction : uint8_t { kTerminate, kCore, kIgnore, kStop, kContinue };
DefaultAction DefaultActionOf(int signal);

// Pending signals of a task or of a thread group: standard signals once, real-time ones queued in order.
class PendingSignals {
 public:
  SignalSet set() const { return set_; }
  // False when it was dropped as already pending (standard signals) — not an error. `limit_left` false: EAGAIN for
  // queued rt signals.
  bool Add(const SignalInfo& info);
  // Takes the lowest-numbered signal in `allowed` (synchronous ones first as Linux does: SIGSEGV, SIGBUS, SIGILL,
  // SIGTRAP, SIGFPE, SIGSYS).
  bool Take(SignalSet allowed, SignalInfo* info);
  void Discard(SignalSet which);
  size_t queued() const { return queue_.size(); }
  const std::list<SignalInfo>& queue() const { return queue_; }

 private:
  SignalSet set_ = 0;
  std::list<SignalInfo> queue_;
};

}  // namespace sentry::kernel

#endif  // SENTRY_KERNEL_SIGNAL_H_
