// SPDX-License-Identifier: Apache-2.0
// SystrapContext: one guest thread as one stub thread. See platform.h for who may call what.
#ifndef PLATFORM_SYSTRAP_CONTEXT_H_
#define PLATFORM_SYSTRAP_CONTEXT_H_

#include <errno.h>
#include <sys/syscall.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <iterator>
#include <memory>
#include <optional>
#include <span>

#include "base/mutex.h"
#include "platform/platform.h"
#include "platform/ptrace/placement.h"
#include "platform/systrap/address_space.h"
#include "platform/systrap/debug_registers.h"
#include "platform/systrap/spin_policy.h"
#include "platform/systrap/stub_thread.h"
#include "platform/systrap/systrap_platform.h"

namespace platform::systrap {

class SystrapContext final : public Context {
 public:
  explicit SystrapContext(SystrapPlatform& platform)
      : platform_(platform), spin_(platform.ticks_per_us()), debug_(platform.zygote()) {}
  ~SystrapContext() override;

  // Vector state is initial after a bind to another space.
  base::Result<void> Bind(AddressSpace& space) override;
  Event Switch(Registers& registers) override;
  base::Result<std::unique_ptr<Context>> CloneInSpace() override;
  void Interrupt() override ABSL_LOCKS_EXCLUDED(target_mu_);
  size_t GetFpu(std::span<uint8_t> buffer) override;
  base::Result<void> SetFpu(std::span<const uint8_t> image) override;
  base::Result<void> ResetFpu() override;
  base::Result<void> SetDebugRegisters(std::span<const uint64_t, 8> values) override;
  uint64_t DebugStatus() override;
  base::Result<void> SetRseq(const RseqArea& area) override;
  void SetAnswer(uint32_t number, std::optional<uint32_t> value) override ABSL_LOCKS_EXCLUDED(target_mu_);
  void SetAffinity(uint64_t cpus) override;
  void Release() override;

  // The context this thread bound last; null if none. Its owner's view only.
  static SystrapContext* Current();
  ptrace::Placement::Slot& slot() { return slot_; }
  // A kernel with rseq looks at the arguments (flags that there are not: EINVAL); one without answers ENOSYS.
  bool HostHasRseq() { return CallRseq({}, ~uint32_t{0}).error_number() == EINVAL; }
  StubThread* thread() { return thread_; }
  // Every so often, and after a sleep: goes to an idle CPU if this one is crowded.
  void Rebalance();
  // The owner goes to sleep; it has slept.
  void OnBlock();
  void OnUnblock();

 private:
  // Bits of state_.
  static constexpr uint32_t kInGuest = 1;    // between the check for interrupts and the stop of the stub thread
  static constexpr uint32_t kInterrupt = 2;  // sticky until reported

  // The calls that a stub can answer.
  static constexpr uint32_t kAnswered[] = {SYS_getpid, SYS_gettid,  SYS_getppid,       SYS_getuid,       SYS_geteuid,
                                           SYS_getgid, SYS_getegid, SYS_clock_gettime, SYS_gettimeofday, SYS_time};

  // Of these, those whose answer doesn't change by itself.
  static constexpr uint32_t kConstant[] = {SYS_getpid,  SYS_gettid, SYS_getppid, SYS_getuid,
                                           SYS_geteuid, SYS_getgid, SYS_getegid};

  // How one stay in guest code ended: an event for the sentry, or nothing but a kick.
  using Outcome = std::optional<Event>;

  void Adopt();
  // Takes `thread` of `space` over, in initial state.
  void SetThread(SystrapAddressSpace& space, StubThread* thread);
  Outcome RunGuest(Registers& registers);
  // Decides on which CPUs the two threads of the pair are at the next hand-over, and moves them there.
  void Arrange();
  // It sleeps so often that it never runs for long.
  bool IsBrief() const { return brief_runs_ >= kBriefRuns; }
  void Announce() const;
  // Both to one CPU, the sentry's if not `to_stub`.
  void Gather(bool to_stub);
  // Gives the stub thread its turn and waits for ours. False: the stub is dead.
  bool HandOver();
  // True: the turn is ours. `woken`: the stub thread was asleep.
  bool Spin(bool woken);
  bool WaitForEvent();
  // rseq(2) in the stub thread.
  base::Result<void> CallRseq(const RseqArea& area, uint32_t options);
  // Has the stub thread do what `flags` say; its result, which is the guest's word. ESRCH: the stub is dead.
  base::Result<uint64_t> Command(uint32_t flags);
  Outcome OnEvent(uint32_t signal, Registers& registers);
  Outcome OnSyscall(Registers& registers);
  // The call has trapped; maybe it need not any more.
  void CountCall(const Registers& registers);
  // If the thread is in the code of a patched call, shows it at the call's site instead. False: it is in code of ours,
  // but not by a call.
  bool LeaveGate(Registers& registers);
  // The call returns to `registers.rip`. If that is a gate's tail, it is shown at the site, and goes on at the tail
  // when it is resumed there: true.
  bool ShowReturn(Registers& registers);
  // Since the thread was resumed.
  bool PatchesUndone() const { return space_->patch_epoch() != resume_epoch_; }
  void TakeDetour(uint64_t shown, uint64_t actual);
  // Whether a SIGTRAP at `rip`, shown at `registers.rip`, is none of the guest's.
  bool IsOfPatch(uint64_t rip, Registers& registers);
  void Kick();
  Event Dead();
  // The guest tampered with what only the stub may touch.
  Event Inconsistent(const char* what);

  SystrapPlatform& platform_;
  base::RefPtr<SystrapAddressSpace> space_;
  StubThread* thread_ = nullptr;
  ptrace::Placement::Slot slot_;
  SpinPolicy spin_;
  bool apart_ = false;  // the stub thread is pinned to another CPU than the slot says
  uint32_t switches_ = 0;
  // What is to be resumed at `shown` goes to `actual`, in a gate, unless patches have been undone since.
  struct Detour {
    uint64_t shown = ~uint64_t{0};
    uint64_t actual = 0;
    uint32_t epoch = 0;
  };
  Detour detour_;
  // Where calls return to, recently, and what is shown of that.
  struct Return {
    uint64_t actual = 0;
    uint64_t shown = 0;
  };
  std::array<Return, 16> returns_;
  uint32_t returns_epoch_ = 0;
  uint32_t resume_epoch_ = 0;
  uint32_t returns_into_jumps_ = 0;
  bool vectors_live_ = false;  // the guest's vector registers are in its stub thread's CPU, not in the frame
  // From so many short runs between two sleeps on, the thread is one that waits for others and they for it: then a
  // wake-up of another CPU costs more than running at the same time gains.
  static constexpr uint32_t kBriefRuns = 8;
  static constexpr uint64_t kBriefRunUs = 50;
  uint32_t brief_runs_ = 0;
  uint64_t run_start_ = 0;
  uint64_t fs_base_ = 0;  // what the stub thread has
  uint64_t gs_base_ = 0;
  RseqArea rseq_;  // as registered with the host
  // How often calls trapped that returned there.
  struct Site {
    uint64_t return_address = 0;
    uint32_t count = 0;
  };
  Site hot_[16];
  DebugRegisters debug_;
  int trap_code_ = 0;  // si_code of the last SIGTRAP
  std::atomic<uint32_t> state_{0};

  base::Mutex target_mu_{base::LockRank::kLeaf};
  StubThread* target_ ABSL_GUARDED_BY(target_mu_) = nullptr;  // for Interrupt and SetAnswer
  pid_t target_pid_ ABSL_GUARDED_BY(target_mu_) = 0;
  int64_t answers_[std::size(kAnswered)] ABSL_GUARDED_BY(target_mu_) = {};  // words of Answers
};

}  // namespace platform::systrap

#endif  // PLATFORM_SYSTRAP_CONTEXT_H_
