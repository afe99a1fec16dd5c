// SPDX-License-Identifier: Apache-2.0
#include "platform/kvm/context.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>

#include <algorithm>
#include <iterator>

#include "base/log.h"
#include "platform/kvm/kvm_platform.h"

namespace platform::kvm {
namespace {

constexpr uint64_t kVsyscallPage = 0xffff'ffff'ff60'0000;
constexpr uint64_t kVsyscallStride = 0x400;
constexpr uint64_t kVsyscallNumbers[] = {SYS_gettimeofday, SYS_time, SYS_getcpu};
constexpr uint64_t kErrorWrite = 2, kErrorFetch = 16;
constexpr int kMaxHostFaults = 64;

constexpr size_t kLegacyFpuSize = 512, kSoftwareReserved = 464, kXsaveHeaderEnd = 576;
constexpr size_t kXmmOffset = 160, kXmmSize = 256, kMxcsrOffset = 24;
constexpr uint64_t kX87Component = 1, kSseComponent = 2;

bool IsCanonical(uint64_t address) {
  return static_cast<uint64_t>(static_cast<int64_t>(address << 16) >> 16) == address;
}

bool IsVsyscall(uint64_t address) {
  return address >= kVsyscallPage && address < kVsyscallPage + 3 * kVsyscallStride && address % kVsyscallStride == 0;
}

Event Signal(int signal, int code, uint64_t address = 0) {
  Event event = {.kind = Event::Kind::kSignal};
  event.info.si_signo = signal;
  event.info.si_code = code;
  event.info.si_addr = reinterpret_cast<void*>(address);
  return event;
}

Event Fault(int signal, int code, Access access, uint64_t address) {
  Event event = Signal(signal, code, address);
  event.kind = Event::Kind::kFault;
  event.access = access;
  event.address = address;
  return event;
}

}  // namespace

KvmContext::KvmContext(KvmPlatform& platform) : platform_(platform) { SetInitialFpu(); }

KvmContext::~KvmContext() { Release(); }

void KvmContext::SetInitialFpu() {
  fpu_ = {};
  fpu_.bytes[0] = 0x7f;  // FCW = 0x37f
  fpu_.bytes[1] = 0x03;
  fpu_.bytes[kMxcsrOffset] = 0x80;  // MXCSR = 0x1f80
  fpu_.bytes[kMxcsrOffset + 1] = 0x1f;
  fpu_.bytes[kLegacyFpuSize] = kX87Component | kSseComponent;
}

base::Result<void> KvmContext::Bind(AddressSpace& space) {
  auto& wanted = static_cast<KvmAddressSpace&>(space);
  if (space_.get() == &wanted) return base::OkResult();
  Release();
  space_ = base::RefPtr<KvmAddressSpace>(&wanted);
  return base::OkResult();
}

void KvmContext::Release() {
  platform_.pool().Evict(*this);
  SetInitialFpu();
  debug_on_ = false;
  fs_base_ = gs_base_ = 0;
  space_.Reset();
}

base::Result<std::unique_ptr<Context>> KvmContext::CloneInSpace() {
  if (!space_) return base::Errno(EINVAL);
  auto context = std::make_unique<KvmContext>(platform_);
  platform_.pool().Save(*this);
  context->fpu_ = fpu_;
  context->space_ = space_;
  return std::unique_ptr<Context>(std::move(context));
}

void KvmContext::Interrupt() {
  interrupted_.store(true, std::memory_order_seq_cst);
  if (Vcpu* cpu = running_.load(std::memory_order_seq_cst)) cpu->Kick();
}

bool KvmContext::Loadable(const Registers& r) const {
  auto base = [](uint64_t value, uint64_t own) {
    return IsCanonical(value) && (value == own || value < kGuestAddressLimit + 0x2000'0000);
  };
  return (r.cs == kUserCode || r.cs == kUserCode32) && r.ss == kUserData && IsCanonical(r.rip) &&
         base(r.fs_base, fs_base_) && base(r.gs_base, gs_base_);
}

Event KvmContext::Switch(Registers& registers) {
  if (!space_) return {.kind = Event::Kind::kDead};
  for (;;) {
    if (interrupted_.exchange(false)) return {.kind = Event::Kind::kInterrupted};
    if (!Loadable(registers)) return Signal(SIGSEGV, SI_KERNEL);
    platform_.PrepareThread();
    Vcpu* cpu = platform_.pool().Acquire(*this);
    if (cpu == nullptr) return {.kind = Event::Kind::kDead};
    running_.store(cpu, std::memory_order_seq_cst);
    Outcome outcome = RunOn(*cpu, registers);
    running_.store(nullptr, std::memory_order_seq_cst);
    platform_.pool().Return(cpu);
    if (outcome) return *outcome;
  }
}

KvmContext::Outcome KvmContext::RunOn(Vcpu& cpu, Registers& registers) {
  if (debug_dirty_ && (debug_on_ || cpu.debug_on)) {
    if (!cpu.SetDebug(debug_).ok()) LOG_ERROR("kvm platform: KVM_SET_DEBUGREGS failed");
    cpu.debug_on = debug_on_;
  }
  debug_dirty_ = false;
  for (;;) {
    cpu.Begin(space_.get());
    // After Begin: who sets one of these later finds the CPU running, and kicks it.
    if (interrupted_.load(std::memory_order_seq_cst) || cpu.wanted.load(std::memory_order_seq_cst)) {
      cpu.End();
      return std::nullopt;
    }
    const uint64_t generation = space_->generation();
    if (cpu.space_id != space_->id() || cpu.generation != generation) {
      // Not the one it came by, which may have been another space's before: loading a different one drops translations.
      cpu.root = space_->root(space_->root(0) == cpu.root ? 1 : 0);
      cpu.space_id = space_->id();
      cpu.generation = generation;
    }
    Exit exit = cpu.Run(registers, cpu.root);
    cpu.End();
    fs_base_ = registers.fs_base;
    gs_base_ = registers.gs_base;
    if (exit.kind != Exit::Kind::kHostFault) host_faults_ = 0;
    switch (exit.kind) {
      case Exit::Kind::kTrap:
        if (Outcome outcome = OnTrap(cpu, exit, registers)) return outcome;
        break;
      case Exit::Kind::kKicked:
        break;
      case Exit::Kind::kHostFault:
        // Where, the next fault tells.
        if (++host_faults_ > kMaxHostFaults) {
          LOG_ERROR("kvm platform: the host has no memory for a guest's page tables");
          return Event{.kind = Event::Kind::kDead};
        }
        space_->BeCareful();
        break;
      case Exit::Kind::kBroken:
        return Event{.kind = Event::Kind::kDead};
    }
  }
}

KvmContext::Outcome KvmContext::OnTrap(Vcpu& cpu, const Exit& exit, Registers& registers) {
  switch (exit.vector) {
    case kSyscallTrap:
      registers.orig_rax = registers.rax;
      registers.rax = static_cast<uint64_t>(-ENOSYS);
      return Event{.kind = Event::Kind::kSyscall};
    case kInt80:
      registers.orig_rax = registers.rax;
      return Event{.kind = Event::Kind::kCompatSyscall};
    case 14:
      return OnPageFault(exit, registers);
    case 6:
      return OnUndefined(registers);
    case 0:
      return Signal(SIGFPE, FPE_INTDIV, registers.rip);
    case 1: {
      debug_status_ = cpu.DebugStatus();
      cpu.debug_on = true;  // DR6 is to be cleared
      debug_dirty_ = true;
      if ((debug_status_ & 0xf) != 0 && debug_on_) return Signal(SIGTRAP, TRAP_HWBKPT, registers.rip);
      return Signal(SIGTRAP, TRAP_TRACE, registers.rip);
    }
    case 3:
      return Signal(SIGTRAP, SI_KERNEL);
    case 11:
    case 12:
      return Signal(SIGBUS, SI_KERNEL);
    case 16:
      return Signal(SIGFPE, FloatingPointCode(false), registers.rip);
    case 17:
      return Signal(SIGBUS, BUS_ADRALN);
    case 19:
      return Signal(SIGFPE, FloatingPointCode(true), registers.rip);
    default:
      return Signal(SIGSEGV, SI_KERNEL);
  }
}

KvmContext::Outcome KvmContext::OnPageFault(const Exit& exit, Registers& registers) {
  const uint64_t address = exit.address;
  const Access access = (exit.error & kErrorFetch) != 0   ? Access::kExec
                        : (exit.error & kErrorWrite) != 0 ? Access::kWrite
                                                          : Access::kRead;
  if (access == Access::kExec && address == registers.rip && IsVsyscall(address)) {
    uint64_t return_address;
    if (!space_->Peek(registers.rsp, &return_address, sizeof return_address)) {
      return Fault(SIGSEGV, SEGV_MAPERR, Access::kRead, registers.rsp);
    }
    registers.rip = return_address;
    registers.rsp += 8;
    registers.orig_rax = kVsyscallNumbers[(address - kVsyscallPage) / kVsyscallStride];
    registers.rax = static_cast<uint64_t>(-ENOSYS);
    return Event{.kind = Event::Kind::kSyscall};
  }
  switch (space_->Resolve(address, access)) {
    case KvmAddressSpace::Resolution::kRetry:
      return std::nullopt;
    case KvmAddressSpace::Resolution::kDenied:
      return Fault(SIGSEGV, SEGV_ACCERR, access, address);
    case KvmAddressSpace::Resolution::kNoMemory:
      return Fault(SIGBUS, BUS_ADRERR, access, address);
    case KvmAddressSpace::Resolution::kNotMapped:
      break;
  }
  return Fault(SIGSEGV, SEGV_MAPERR, access, address);
}

// A host that emulates ring 0 knows no software interrupts but int3, and says so by #UD.
KvmContext::Outcome KvmContext::OnUndefined(Registers& registers) {
  uint8_t code[2];
  if (space_->Peek(registers.rip, code, sizeof code) && code[0] == 0xcd) {
    if (code[1] != kInt80) return Signal(SIGSEGV, SI_KERNEL);
    registers.rip += 2;
    registers.orig_rax = registers.rax;
    return Event{.kind = Event::Kind::kCompatSyscall};
  }
  return Signal(SIGILL, ILL_ILLOPN, registers.rip);
}

int KvmContext::FloatingPointCode(bool simd) {
  platform_.pool().Save(*this);
  uint32_t raised;
  if (simd) {
    uint32_t mxcsr;
    memcpy(&mxcsr, fpu_.bytes + kMxcsrOffset, sizeof mxcsr);
    raised = ~(mxcsr >> 7) & mxcsr & 0x3f;
  } else {
    uint16_t control, status;
    memcpy(&control, fpu_.bytes, sizeof control);
    memcpy(&status, fpu_.bytes + 2, sizeof status);
    raised = status & ~control & 0x3fu;
  }
  if ((raised & 1) != 0) return FPE_FLTINV;
  if ((raised & 4) != 0) return FPE_FLTDIV;
  if ((raised & 8) != 0) return FPE_FLTOVF;
  if ((raised & 0x12) != 0) return FPE_FLTUND;
  return FPE_FLTRES;
}

size_t KvmContext::GetFpu(std::span<uint8_t> buffer) {
  if (!space_) return 0;
  platform_.pool().Save(*this);
  memset(fpu_.bytes + kSoftwareReserved, 0, kLegacyFpuSize - kSoftwareReserved);
  const uint64_t components = platform_.xcr0();
  memcpy(fpu_.bytes + kSoftwareReserved, &components, sizeof components);
  const size_t size = std::min(buffer.size(), platform_.FpuStateSize());
  memcpy(buffer.data(), fpu_.bytes, size);
  return size;
}

base::Result<void> KvmContext::SetFpu(std::span<const uint8_t> image) {
  if (image.size() < kLegacyFpuSize || image.size() > platform_.FpuStateSize()) return base::Errno(EINVAL);
  if (!space_) return base::Errno(EINVAL);
  XsaveArea full;
  memcpy(full.bytes, image.data(), image.size());
  uint32_t mxcsr;
  memcpy(&mxcsr, full.bytes + kMxcsrOffset, sizeof mxcsr);
  if ((mxcsr & ~platform_.mxcsr_mask()) != 0) return base::Errno(EINVAL);
  uint64_t header[8];
  memcpy(header, full.bytes + kLegacyFpuSize, sizeof header);
  if (image.size() < kXsaveHeaderEnd) {
    memset(full.bytes + kLegacyFpuSize, 0, sizeof full.bytes - kLegacyFpuSize);
    full.bytes[kLegacyFpuSize] = kX87Component | kSseComponent;
  } else {
    if ((header[0] & ~platform_.xcr0()) != 0) return base::Errno(EINVAL);
    if (std::any_of(header + 1, header + 8, [](uint64_t word) { return word != 0; })) return base::Errno(EINVAL);
    if ((header[0] & kSseComponent) == 0) {
      // XRSTOR takes MXCSR from an image without SSE state; KVM only with it.
      memset(full.bytes + kXmmOffset, 0, kXmmSize);
      full.bytes[kLegacyFpuSize] |= kSseComponent;
    }
  }
  platform_.pool().Evict(*this);
  fpu_ = full;
  return base::OkResult();
}

base::Result<void> KvmContext::ResetFpu() {
  platform_.pool().Evict(*this);
  SetInitialFpu();
  return base::OkResult();
}

void KvmContext::SetAnswer(uint32_t number, std::optional<uint32_t> value) {
  const auto* at = std::find(std::begin(kAnswerable), std::end(kAnswerable), number);
  if (at == std::end(kAnswerable)) return;
  platform_.pool().SetAnswer(*this, static_cast<size_t>(at - kAnswerable), value ? kAnswerValid | *value : 0);
}

base::Result<void> KvmContext::SetDebugRegisters(std::span<const uint64_t, 8> values) {
  if (!space_ || !platform_.has_debug()) return base::Errno(EIO);
  std::copy(values.begin(), values.end(), debug_);
  debug_[6] = debug_status_ = kDebugStatusInitial;
  debug_on_ = (values[7] & 0xff) != 0;
  debug_dirty_ = true;
  return base::OkResult();
}

}  // namespace platform::kvm
