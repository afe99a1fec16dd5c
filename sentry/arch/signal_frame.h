// SPDX-License-Identifier: Apache-2.0
// The x86-64 real-time signal frame (arch/x86/kernel/signal_64.c, asm/sigcontext.h), as the kernel lays it out on the
// guest's stack, and its undoing by rt_sigreturn(2). Everything read back from the guest is validated here.
#ifndef SENTRY_ARCH_SIGNAL_FRAME_H_
#define SENTRY_ARCH_SIGNAL_FRAME_H_

#include <signal.h>

#include <cstddef>
#include <cstdint>

#include "platform/platform.h"
#include "sentry/common.h"

namespace sentry::arch {

// struct sigcontext of the kernel (glibc's mcontext_t has its layout).
struct SigContext {
  uint64_t r8, r9, r10, r11, r12, r13, r14, r15;
  uint64_t rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip, eflags;
  uint16_t cs, gs, fs, ss;
  uint64_t err, trapno, oldmask, cr2;
  uint64_t fpstate;  // guest address
  uint64_t reserved[8];
};
static_assert(sizeof(SigContext) == 256);

struct SignalStack {  // stack_t
  uint64_t sp = 0;
  uint32_t flags = SS_DISABLE;
  uint32_t padding = 0;
  uint64_t size = 0;
};

struct UserContext {
  uint64_t flags, link;
  SignalStack stack;
  SigContext context;
  uint64_t mask;
};
static_assert(sizeof(UserContext) == 304);

struct RtSignalFrame {
  uint64_t restorer;  // the handler's return address
  UserContext context;
  siginfo_t info;
};
static_assert(sizeof(RtSignalFrame) == 440);

inline constexpr uint64_t kUcFpXstate = 1, kUcSigcontextSs = 2, kUcStrictRestoreSs = 4;
inline constexpr uint32_t kSsAutodisarm = 1u << 31;
inline constexpr uint64_t kSaRestorer = 0x04000000;
inline constexpr uint32_t kFpXstateMagic1 = 0x46505853, kFpXstateMagic2 = 0x46505845;
inline constexpr uint64_t kUserCs = 0x33, kUserDs = 0x2b;
// Flags that user code may set for itself; sigreturn and ptrace keep the others.
inline constexpr uint64_t kUserEflags = 0x50dd5;  // AC OF DF TF SF ZF AF PF CF RF
inline constexpr uint64_t kEflagsTrap = 0x100, kEflagsDirection = 0x400, kEflagsResume = 0x10000,
                          kEflagsInterrupt = 0x200;

// Guest memory of the task whose frame it is. EFAULT.
class FrameMemory {
 public:
  virtual Result<void> Read(uint64_t from, void* to, size_t length) = 0;
  virtual Result<void> Write(uint64_t to, const void* from, size_t length) = 0;

 protected:
  ~FrameMemory() = default;
};

// What caused the signal, for sigcontext; zero when it wasn't a trap.
struct TrapInfo {
  uint64_t number = 0, error = 0, address = 0;
};
// As far as a siginfo tells; `write` and `exec` qualify a page fault.
TrapInfo TrapFromSignal(const siginfo_t& info, bool write, bool exec);

struct FrameRequest {
  uint64_t handler = 0, flags = 0, restorer = 0;  // of the sigaction
  siginfo_t info;
  uint64_t mask = 0;  // to be restored by sigreturn
  TrapInfo trap;
};

// True when `sp` is on `stack` and the stack counts as in use (SS_AUTODISARM never does).
bool OnSignalStack(const SignalStack& stack, uint64_t sp);

// Puts a frame below the stack pointer (or on the alternate stack) and points `registers` at the handler. Updates
// `stack` for SS_AUTODISARM. EFAULT when it can't be written or there is no restorer: the caller forces SIGSEGV.
// Nothing changed then.
Result<void> PushSignalFrame(FrameMemory& memory, platform::Context& context, size_t fpu_size,
                             const FrameRequest& request, SignalStack* stack, platform::Registers* registers);

struct ReturnState {
  uint64_t mask = 0;
  SignalStack stack;  // as stored in the frame; the caller applies sigaltstack's checks
};
// rt_sigreturn: restores registers and vector state from the frame above the stack pointer. EFAULT: the frame is bad
// and the caller forces SIGSEGV; the registers are unchanged (the vector state may be the initial one).
Result<ReturnState> PopSignalFrame(FrameMemory& memory, platform::Context& context, size_t fpu_size,
                                   platform::Registers* registers);

}  // namespace sentry::arch

#endif  // SENTRY_ARCH_SIGNAL_FRAME_H_
