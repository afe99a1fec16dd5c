// SPDX-License-Identifier: Apache-2.0
// PtraceContext: one guest thread as one traced stub thread. See platform.h for who may call what.
#ifndef PLATFORM_PTRACE_CONTEXT_H_
#define PLATFORM_PTRACE_CONTEXT_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "platform/platform.h"
#include "platform/ptrace/address_space.h"
#include "platform/ptrace/placement.h"
#include "platform/ptrace/ptrace_platform.h"
#include "platform/ptrace/tracee.h"

namespace platform::ptrace {

class PtraceContext final : public Context {
 public:
  explicit PtraceContext(PtracePlatform& platform) : platform_(platform) {}
  // Releases a context that no thread has taken over yet; one that a thread owns must have been released by it.
  ~PtraceContext() override;

  // Vector state is initial after a bind to another space.
  base::Result<void> Bind(AddressSpace& space) override;
  Event Switch(Registers& registers) override;
  base::Result<std::unique_ptr<Context>> CloneInSpace() override;
  void Interrupt() override;
  size_t GetFpu(std::span<uint8_t> buffer) override;
  base::Result<void> SetFpu(std::span<const uint8_t> image) override;
  base::Result<void> ResetFpu() override;
  base::Result<void> SetDebugRegisters(std::span<const uint64_t, 8> values) override;
  uint64_t DebugStatus() override;
  base::Result<void> SetRseq(const RseqArea& area) override;
  void SetAffinity(uint64_t cpus) override;
  void Release() override;

  // The context this thread bound last; null if none. Its owner's view only.
  static PtraceContext* Current();
  bool BoundTo(const AddressSpace& space) const { return space_.get() == &space && tracee_ && tracee_->attached(); }
  bool OwnedByCaller() const;
  // Valid while bound.
  Tracee& tracee() { return *tracee_; }
  Placement::Slot& slot() { return slot_; }
  // Every so often, and after a sleep: goes to an idle CPU if this one is crowded.
  void Rebalance();

 private:
  // Bits of state_.
  static constexpr uint32_t kInGuest = 1;    // between the check for interrupts and the stop of the stub thread
  static constexpr uint32_t kInterrupt = 2;  // sticky until reported

  // How one stay in guest code ended: an event for the sentry, or nothing but a kick.
  using Outcome = std::optional<Event>;

  // Makes the caller the owner and tracer. ESRCH if the stub is dead.
  base::Result<void> Adopt();
  Outcome RunGuest(Registers& registers);
  Outcome OnSignal(int signal, Registers& registers);
  Outcome OnFault(const siginfo_t& info, Registers& registers);
  // A call of the vsyscall page at `slot`; the return address is already popped if `returned`.
  Event OnVsyscall(uint64_t slot, bool returned, const siginfo_t& info, Registers& registers);
  Event Dead();
  // Registers the area again that a change of its mapping took from the host, if there is memory by now.
  void RestoreRseq();

  PtracePlatform& platform_;
  base::RefPtr<PtraceAddressSpace> space_;
  std::optional<Tracee> tracee_;
  std::atomic<const void*> owner_{nullptr};
  Placement::Slot slot_;
  uint32_t switches_ = 0;
  RseqArea rseq_;  // what the guest registered; the host has it but for changes of the mapping below it
  std::atomic<uint32_t> state_{0};
  std::atomic<uint64_t> target_{0};  // stub pid << 32 | tid for Interrupt; 0: none
};

}  // namespace platform::ptrace

#endif  // PLATFORM_PTRACE_CONTEXT_H_
