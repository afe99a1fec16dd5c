// SPDX-License-Identifier: Apache-2.0
// ptrace(2) state of a task, as tracee and as tracer. Made with the task. The TaskSet mutex guards it all but the
// atomics, which are read without it (by the tracee's own thread, /proc and the signal code) and written with it.
#ifndef SENTRY_KERNEL_PTRACE_H_
#define SENTRY_KERNEL_PTRACE_H_

#include <array>
#include <atomic>
#include <list>
#include <set>
#include <vector>

#include "sentry/kernel/task.h"

namespace sentry::kernel {

// PTRACE_EVENT_STOP in the place of an event in a stop's status.
inline constexpr int kPtraceEventStop = 128 << 8;

struct PtraceState {
  // As tracer. Threads, and processes that aren't its children, are reported by it alone when they end.
  struct DeadTracee {
    pid_t tid;  // root namespace
    pid_t tid_in_namespace;
    uid_t uid;
    ExitStatus status;
  };
  std::set<Task*> tracees;
  std::list<DeadTracee> dead;

  // As tracee.
  std::atomic<Task*> tracer{nullptr};
  std::atomic<uint32_t> options{0};  // PTRACE_O_*
  std::atomic<bool> seized{false};
  std::atomic<bool> interrupt{false};    // PTRACE_INTERRUPT, or a new tracee's first stop (seized)
  std::atomic<bool> single_step{false};  // run with the trap flag, and report system calls as steps
  std::atomic<bool> emulate{false};      // PTRACE_SYSEMU: skip system calls
  bool stopped = false;                  // in a ptrace-stop, its registers may be used by the tracer
  bool waitable = false;                 // the stop wasn't taken by wait(2) yet
  bool listening = false;                // PTRACE_LISTEN
  int status = 0;                        // signal | event << 8
  uint64_t message = 0;                  // PTRACE_GETEVENTMSG
  bool has_info = false;
  SignalInfo info = {};
  int resume_signal = 0;
  std::vector<uint8_t> fpu;  // the vector state in a stop: only the tracee's thread can reach the real one
  bool fpu_changed = false;
  // DR0-DR7, of this thread's alone; they outlive a detach and end with exec.
  static constexpr std::array<uint64_t, 8> kDebugInitial = {0, 0, 0, 0, 0, 0, platform::kDebugStatusInitial, 0};
  std::array<uint64_t, 8> debug = kDebugInitial;
  bool debug_changed = false;
  bool trap_flag_forced = false;  // (own) the trap flag in its registers is single_step's, not the program's
  enum class SyscallStop : uint8_t { kNone, kEntry, kExit, kSeccomp } syscall_stop = SyscallStop::kNone;
};

// Who may read and control `target` (ptrace(2), "Ptrace access mode checking"): same ids and dumpable, or
// CAP_SYS_PTRACE. EPERM.
Result<void> CheckPtraceAccess(const Task& by, Task& target);

// The system call itself, data as the kernel's raw interface has it. Errors per ptrace(2).
Result<int64_t> Ptrace(Task& task, uint64_t request, pid_t pid, uint64_t address, uint64_t data);

inline bool IsTraced(Task& task) {
  return task.ptrace() && task.ptrace()->tracer.load(std::memory_order_acquire) != nullptr;
}

// (own) Stops for the tracer with `status`; the signal it resumed with, 0 for none. -1 at once when there is no
// tracer or the task is being killed.
int PtraceStop(Task& task, int status, const SignalInfo* info, uint64_t message, PtraceState::SyscallStop syscall_stop);
// (own) The signal-delivery-stop: the tracer may change or swallow (si_signo = 0) the signal.
void PtraceSignal(Task& task, SignalInfo* info);

}  // namespace sentry::kernel

#endif  // SENTRY_KERNEL_PTRACE_H_
