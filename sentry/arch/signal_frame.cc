// SPDX-License-Identifier: Apache-2.0
#include "sentry/arch/signal_frame.h"

#include <cpuid.h>

#include <cstring>
#include <vector>

namespace sentry::arch {
namespace {

constexpr uint64_t kRedZone = 128;
constexpr size_t kLegacyFpuSize = 512;
constexpr size_t kSoftwareReserved = 464;  // struct _fpx_sw_bytes inside the FXSAVE area

struct FpxSoftwareBytes {
  uint32_t magic1;
  uint32_t extended_size;
  uint64_t features;
  uint32_t xstate_size;
  uint32_t padding[7];
};
static_assert(sizeof(FpxSoftwareBytes) == 48);

// The components of XCR0 and where each ends in an uncompacted image. Asked of the CPU once: under a hypervisor each
// CPUID costs tens of microseconds.
struct Components {
  uint64_t features = 3;  // x87 and SSE are in the legacy part
  uint64_t end[64] = {};

  Components() {
    uint32_t a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE)) return;
    uint32_t low, high;
    asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    features = (uint64_t{high} << 32) | low;
    for (int i = 2; i < 63; ++i) {
      if (!(features >> i & 1)) continue;
      uint32_t size, offset;
      bool known = __get_cpuid_count(0xd, i, &size, &offset, &c, &d);
      end[i] = known ? uint64_t{offset} + size : UINT64_MAX;
    }
  }
};

// Features of XCR0 whose component lies inside an uncompacted image of `size` bytes.
uint64_t FeaturesOf(size_t size) {
  static const Components components;
  uint64_t features = components.features;
  for (int i = 2; i < 63; ++i) {
    if (components.end[i] > size) features &= ~(uint64_t{1} << i);
  }
  return features;
}

bool Contains(const SignalStack& stack, uint64_t sp) { return sp > stack.sp && sp - stack.sp <= stack.size; }

// The lower half: what a return to user mode accepts.
bool CanonicalUser(uint64_t address) { return address < platform::kGuestAddressLimit; }

SigContext SaveContext(const platform::Registers& r, const FrameRequest& request, uint64_t fpstate) {
  SigContext c = {};
  c.r8 = r.r8, c.r9 = r.r9, c.r10 = r.r10, c.r11 = r.r11, c.r12 = r.r12, c.r13 = r.r13, c.r14 = r.r14, c.r15 = r.r15;
  c.rdi = r.rdi, c.rsi = r.rsi, c.rbp = r.rbp, c.rbx = r.rbx, c.rdx = r.rdx, c.rax = r.rax, c.rcx = r.rcx;
  c.rsp = r.rsp, c.rip = r.rip, c.eflags = r.eflags;
  c.cs = kUserCs, c.ss = kUserDs;
  c.err = request.trap.error, c.trapno = request.trap.number, c.cr2 = request.trap.address;
  c.oldmask = request.mask;
  c.fpstate = fpstate;
  return c;
}

// The vector image at `address`; the frame is the guest's, so every field is suspect.
Result<void> RestoreFpu(FrameMemory& memory, platform::Context& context, size_t fpu_size, uint64_t address) {
  if (address == 0) return context.ResetFpu();
  if (fpu_size < kLegacyFpuSize) return Errno(EFAULT);
  std::vector<uint8_t> image(fpu_size);
  TRY(memory.Read(address, image.data(), kLegacyFpuSize));
  FpxSoftwareBytes software;
  memcpy(&software, image.data() + kSoftwareReserved, sizeof software);
  memset(image.data() + kSoftwareReserved, 0, sizeof software);
  // A frame without (or with damaged) magic numbers carries only the legacy part, as Linux reads it.
  bool extended = software.magic1 == kFpXstateMagic1 && software.xstate_size >= kLegacyFpuSize + 64 &&
                  software.xstate_size <= fpu_size && software.extended_size >= software.xstate_size + sizeof(uint32_t);
  if (extended) {
    uint32_t magic2;
    TRY(memory.Read(address + software.xstate_size, &magic2, sizeof magic2));
    extended = magic2 == kFpXstateMagic2;
  }
  if (extended) {
    TRY(memory.Read(address + kLegacyFpuSize, image.data() + kLegacyFpuSize, software.xstate_size - kLegacyFpuSize));
    // Components that the frame doesn't name go to their initial state.
    uint64_t header;
    memcpy(&header, image.data() + kLegacyFpuSize, sizeof header);
    header &= software.features;
    memcpy(image.data() + kLegacyFpuSize, &header, sizeof header);
  } else if (fpu_size >= kLegacyFpuSize + 64) {
    uint64_t header = 3;  // x87 and SSE
    memcpy(image.data() + kLegacyFpuSize, &header, sizeof header);
  }
  return context.SetFpu(image);
}

}  // namespace

TrapInfo TrapFromSignal(const siginfo_t& info, bool write, bool exec) {
  if (info.si_code <= 0) return {};
  uint64_t address = reinterpret_cast<uint64_t>(info.si_addr);
  switch (info.si_signo) {
    case SIGSEGV:
      if (info.si_code == SI_KERNEL) return {.number = 13};  // #GP
      [[fallthrough]];
    case SIGBUS:
      if (info.si_code == BUS_ADRALN && info.si_signo == SIGBUS) return {.number = 17};
      return {.number = 14,
              .error = 4u | (write ? 2u : 0u) | (exec ? 16u : 0u) |
                       (info.si_signo == SIGSEGV && info.si_code == SEGV_ACCERR ? 1u : 0u),
              .address = address};
    case SIGILL:
      return {.number = 6};
    case SIGFPE:
      return {.number = info.si_code == FPE_INTDIV ? 0u : 19u};
    case SIGTRAP:
      return {.number = info.si_code == SI_KERNEL ? 3u : 1u};
    default:
      return {};
  }
}

bool OnSignalStack(const SignalStack& stack, uint64_t sp) {
  return !(stack.flags & kSsAutodisarm) && Contains(stack, sp);
}

Result<void> PushSignalFrame(FrameMemory& memory, platform::Context& context, size_t fpu_size,
                             const FrameRequest& request, SignalStack* stack, platform::Registers* registers) {
  if (!(request.flags & kSaRestorer)) return Errno(EFAULT);
  bool nested = OnSignalStack(*stack, registers->rsp);
  bool entering = false;
  uint64_t sp = registers->rsp - kRedZone;
  if ((request.flags & SA_ONSTACK) && stack->size != 0 && !OnSignalStack(*stack, sp)) {
    sp = stack->sp + stack->size;
    entering = true;
  }

  std::vector<uint8_t> image(fpu_size + sizeof kFpXstateMagic2);
  size_t fpu_used = context.GetFpu({image.data(), fpu_size});
  uint64_t fpstate = 0;
  bool extended = fpu_used >= kLegacyFpuSize + 64;
  if (fpu_used >= kLegacyFpuSize) {
    FpxSoftwareBytes software = {};
    size_t length = fpu_used;
    if (extended) {
      software.magic1 = kFpXstateMagic1;
      software.xstate_size = fpu_used;
      software.extended_size = fpu_used + sizeof kFpXstateMagic2;
      software.features = FeaturesOf(fpu_used);
      memcpy(image.data() + fpu_used, &kFpXstateMagic2, sizeof kFpXstateMagic2);
      length += sizeof kFpXstateMagic2;
    }
    memcpy(image.data() + kSoftwareReserved, &software, sizeof software);
    sp = (sp - length) & ~uint64_t{63};
    fpstate = sp;
    image.resize(length);
  }
  sp = ((sp - sizeof(RtSignalFrame)) & ~uint64_t{15}) - 8;  // the ABI's alignment, as after a call
  // Overflowing the alternate stack must not damage what lies below it.
  if ((nested || entering) && !Contains(*stack, sp)) return Errno(EFAULT);

  RtSignalFrame frame = {};
  frame.restorer = request.restorer;
  frame.context.flags = kUcSigcontextSs | kUcStrictRestoreSs | (extended ? kUcFpXstate : 0);
  frame.context.stack = *stack;
  frame.context.context = SaveContext(*registers, request, fpstate);
  frame.context.mask = request.mask;
  size_t length = sizeof frame;
  if (request.flags & SA_SIGINFO) {
    frame.info = request.info;
  } else {
    length = offsetof(RtSignalFrame, info);
  }
  if (fpstate) TRY(memory.Write(fpstate, image.data(), image.size()));
  TRY(memory.Write(sp, &frame, length));
  TRY(context.ResetFpu());

  if (stack->flags & kSsAutodisarm) *stack = SignalStack{};
  registers->rdi = request.info.si_signo;
  registers->rsi = sp + offsetof(RtSignalFrame, info);
  registers->rdx = sp + offsetof(RtSignalFrame, context);
  registers->rax = 0;
  registers->rip = request.handler;
  registers->rsp = sp;
  registers->cs = kUserCs;
  registers->ss = kUserDs;
  registers->orig_rax = ~uint64_t{0};
  registers->eflags &= ~(kEflagsDirection | kEflagsResume | kEflagsTrap);
  return {};
}

Result<ReturnState> PopSignalFrame(FrameMemory& memory, platform::Context& context, size_t fpu_size,
                                   platform::Registers* registers) {
  UserContext uc;
  TRY(memory.Read(registers->rsp - 8 + offsetof(RtSignalFrame, context), &uc, sizeof uc));
  const SigContext& c = uc.context;
  if (!CanonicalUser(c.rip)) return Errno(EFAULT);
  if (!RestoreFpu(memory, context, fpu_size, c.fpstate).ok()) {
    (void)context.ResetFpu();
    return Errno(EFAULT);
  }
  platform::Registers& r = *registers;
  r.r8 = c.r8, r.r9 = c.r9, r.r10 = c.r10, r.r11 = c.r11, r.r12 = c.r12, r.r13 = c.r13, r.r14 = c.r14, r.r15 = c.r15;
  r.rdi = c.rdi, r.rsi = c.rsi, r.rbp = c.rbp, r.rbx = c.rbx, r.rdx = c.rdx, r.rax = c.rax, r.rcx = c.rcx;
  r.rsp = c.rsp, r.rip = c.rip;
  r.eflags = (r.eflags & ~kUserEflags) | (c.eflags & kUserEflags) | kEflagsInterrupt;
  r.cs = kUserCs;
  r.ss = kUserDs;
  r.orig_rax = ~uint64_t{0};
  return ReturnState{.mask = uc.mask, .stack = uc.stack};
}

}  // namespace sentry::arch
