// SPDX-License-Identifier: Apache-2.0
// Tracee: ptrace(2) of one stub thread. Only the thread that called Attach may call anything else (the kernel's rule).
// Every wait ends: a stub thread stops, or it dies and is reaped here, once; after that all calls say so.
#ifndef PLATFORM_PTRACE_TRACEE_H_
#define PLATFORM_PTRACE_TRACEE_H_

#include <signal.h>
#include <sys/types.h>

#include <array>
#include <cstdint>
#include <span>

#include "base/result.h"
#include "platform/platform.h"
#include "platform/ptrace/stub_watch.h"
#include "platform/stub/stub_page.h"

namespace platform::ptrace {

// Sent to a stub thread to make it leave guest code. Ignored by default, so a late one can't hurt an untraced thread.
inline constexpr int kKickSignal = SIGURG;

struct Stop {
  enum class Kind : uint8_t { kSyscall, kSignal, kEvent, kDead };
  Kind kind;
  int signal = 0;  // kSignal only
};

class Tracee {
 public:
  // `watch` is told before the stub is killed from here: that is no loss of a stub.
  Tracee(const stub::StubLayout& layout, StubWatch& watch, pid_t pid, pid_t tid)
      : layout_(layout), watch_(watch), pid_(pid), tid_(tid) {}
  Tracee(const Tracee&) = delete;
  Tracee& operator=(const Tracee&) = delete;

  pid_t pid() const { return pid_; }
  pid_t tid() const { return tid_; }
  bool attached() const { return state_ == State::kAttached; }
  bool dead() const { return state_ == State::kDead; }
  // Dead by a signal, so the whole process is.
  bool killed() const { return killed_; }

  // Takes an untraced thread in the pause loop and stops it. ESRCH: it is dead. EPERM: the host forbids ptrace.
  base::Result<void> Attach();
  // Sends the stopped thread back to the pause loop, untraced.
  void Detach();

  // Both false if the thread is dead; SetRegisters also, with error EIO, for values the CPU can't hold.
  bool GetRegisters(Registers& registers);
  base::Result<void> SetRegisters(const Registers& registers);
  // Resumes with `request` (PTRACE_SYSEMU, PTRACE_CONT), dropping the signal of the last stop, and waits for the next.
  Stop Resume(int request);
  bool GetSignal(siginfo_t* info);
  // True if the call of a syscall stop was made by the i386 ABI (int 0x80, sysenter).
  bool IsCompatCall();
  // A word of guest memory; false if it isn't mapped.
  bool Peek(uint64_t address, uint64_t* value);

  // Runs a host call in the stopped thread; loses its general registers, not its vector state. Negative returns become
  // errors; ESRCH if the thread died. `entry` is layout.call() or layout.clone().
  base::Result<uint64_t> Inject(uint64_t entry, uint64_t number, std::span<const uint64_t> arguments);
  base::Result<uint64_t> Call(uint64_t number, std::span<const uint64_t> arguments) {
    return Inject(layout_.call(), number, arguments);
  }
  // Registers or (address 0) unregisters the thread's rseq area with the host. From then on a guest could make the host
  // move the thread out of an injected call into code of its own (a critical section around the stub page), so calls
  // are injected with single steps: at most one guest instruction runs before that is seen, and the process killed.
  base::Result<void> SetRseq(const RseqArea& area);
  const RseqArea& rseq() const { return rseq_; }
  // The host can't write the area: the thread executes nothing, not even injected calls (EFAULT), until another thread
  // has changed the mapping.
  bool stuck() const { return stuck_; }
  // Looks again. Call after a SIGSEGV without address; not while other threads change the mapping.
  bool CheckStuck();

  // A new untraced thread in the pause loop with a copy of this one's vector state.
  base::Result<pid_t> CloneThread();
  // Ends the thread and reaps it.
  void Exit();
  // Kills the whole stub process and reaps this thread.
  void KillProcess();

  // The XSAVE image; bytes written, 0 on failure.
  size_t GetVectorState(std::span<uint8_t> buffer);
  // EINVAL: refused by the kernel.
  base::Result<void> SetVectorState(std::span<const uint8_t> image);

  // EIO: refused by the kernel.
  base::Result<void> SetDebugRegisters(std::span<const uint64_t, 8> values);
  uint64_t DebugStatus();

 private:
  enum class State : uint8_t { kUntraced, kAttached, kDead };
  Stop Wait();
  // After a failed request: the thread is being killed. Reaps it.
  void Lost();
  // The guest has left a descriptor of a critical section that the kernel can't use, and gets SIGSEGV for it at every
  // step: takes it away. False when the area can't be written.
  bool ClearSection();
  // Whether an injected call has run, by the registers at a SIGTRAP; `entry` as for Inject.
  bool CallDone(uint64_t entry, const Registers& registers) const;
  void SetCallRegisters(uint64_t entry, uint64_t number, std::span<const uint64_t> arguments, Registers& registers);

  const stub::StubLayout layout_;
  StubWatch& watch_;
  const pid_t pid_;
  const pid_t tid_;
  State state_ = State::kUntraced;
  bool killed_ = false;
  bool stuck_ = false;
  RseqArea rseq_;                                                               // as registered with the host
  std::array<uint64_t, 8> debug_ = {0, 0, 0, 0, 0, 0, kDebugStatusInitial, 0};  // as set last; a thread inherits none
};

}  // namespace platform::ptrace

#endif  // PLATFORM_PTRACE_TRACEE_H_
