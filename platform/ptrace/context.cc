// SPDX-License-Identifier: Apache-2.0
#include "platform/ptrace/context.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <utility>
#include <vector>

#include "base/log.h"

namespace platform::ptrace {
namespace {

constexpr uint32_t kSwitchesPerRebalance = 64;
// x86-64's longest instruction is 15 bytes.
constexpr uint64_t kMaxInstruction = 15;
constexpr size_t kLegacyFpuSize = 512;
constexpr size_t kXsaveHeaderEnd = 576;
constexpr size_t kXmmOffset = 160;
constexpr size_t kXmmSize = 256;
constexpr uint8_t kX87Component = 1;
constexpr uint8_t kSseComponent = 2;

// arch/x86/entry/vsyscall: three entries, 1 KiB apart.
constexpr uint64_t kVsyscallPage = 0xffff'ffff'ff60'0000;
constexpr uint64_t kVsyscallStride = 0x400;
constexpr uint64_t kVsyscallNumbers[] = {SYS_gettimeofday, SYS_time, SYS_getcpu};

bool IsVsyscall(uint64_t address) {
  return address >= kVsyscallPage && address < kVsyscallPage + 3 * kVsyscallStride && address % kVsyscallStride == 0;
}

thread_local PtraceContext* current_context = nullptr;

const void* ThisThread() { return &current_context; }

}  // namespace

PtraceContext* PtraceContext::Current() { return current_context; }

bool PtraceContext::OwnedByCaller() const {
  return owner_.load(std::memory_order_relaxed) == ThisThread() && tracee_ && tracee_->attached();
}

PtraceContext::~PtraceContext() {
  if (space_) {
    if (owner_ == nullptr || owner_ == ThisThread()) {
      Release();
    } else {
      // The tracer is another thread: the stub thread can't be ended one by one.
      LOG_ERROR("ptrace platform: context of stub thread %d destroyed before its owner released it", tracee_->tid());
      if (!space_->dead()) kill(space_->pid(), SIGKILL);
      target_ = 0;
      space_->Unregister(*this);
      platform_.placement().Leave(slot_);
    }
  }
  if (current_context == this) current_context = nullptr;
}

base::Result<void> PtraceContext::Bind(AddressSpace& space) {
  auto& wanted = static_cast<PtraceAddressSpace&>(space);
  if (space_.get() == &wanted) {
    if (tracee_->dead()) return base::Errno(EAGAIN);
    base::Result<void> adopted = Adopt();
    return adopted.error_number() == ESRCH ? base::Errno(EAGAIN) : adopted;
  }
  Release();
  platform_.placement().Enter(slot_);
  platform_.placement().Pin(slot_, 0);
  base::Result<pid_t> tid = wanted.NewThread(slot_);
  if (!tid.ok()) {
    platform_.placement().Leave(slot_);
    return tid.error_number() == ENOMEM ? tid.error() : base::Errno(EAGAIN);
  }
  tracee_.emplace(platform_.layout(), platform_.watch(), wanted.pid(), *tid);
  space_ = base::RefPtr<PtraceAddressSpace>(&wanted);
  wanted.Register(*this);
  if (base::Result<void> adopted = Adopt(); !adopted.ok()) {
    Release();
    return base::Errno(EAGAIN);
  }
  return base::OkResult();
}

base::Result<void> PtraceContext::Adopt() {
  if (tracee_->attached()) [[likely]] {
    current_context = this;
    return base::OkResult();
  }
  if (tracee_->dead()) return base::Errno(ESRCH);
  platform_.placement().Enter(slot_);
  platform_.placement().Pin(slot_, tracee_->tid());
  base::Result<void> attached = tracee_->Attach();
  if (!attached.ok()) {
    if (tracee_->dead()) space_->MarkDead();
    return attached;
  }
  owner_ = ThisThread();
  current_context = this;
  target_ = static_cast<uint64_t>(tracee_->pid()) << 32 | static_cast<uint32_t>(tracee_->tid());
  return base::OkResult();
}

void PtraceContext::Release() {
  if (!space_) return;
  if (!tracee_->attached() && !tracee_->dead()) {
    // Handed over but never run. A thread that can't be attached to dies with its process.
    if (!tracee_->Attach().ok()) LOG_DEBUG("ptrace platform: stub thread %d is gone", tracee_->tid());
  }
  target_ = 0;
  tracee_->Exit();
  if (tracee_->killed()) space_->MarkDead();
  space_->Unregister(*this);
  platform_.placement().Leave(slot_);
  tracee_.reset();
  space_.Reset();
  rseq_ = {};
  owner_ = nullptr;
  if (current_context == this) current_context = nullptr;
}

base::Result<std::unique_ptr<Context>> PtraceContext::CloneInSpace() {
  if (!space_) return base::Errno(EINVAL);
  TRY(Adopt());
  base::Result<pid_t> tid = tracee_->CloneThread();
  if (!tid.ok()) {
    if (tracee_->dead()) space_->MarkDead();
    return tid.error_number() == ENOMEM ? tid.error() : base::Errno(EAGAIN);
  }
  auto context = std::make_unique<PtraceContext>(platform_);
  context->tracee_.emplace(platform_.layout(), platform_.watch(), space_->pid(), *tid);
  context->space_ = space_;
  space_->Register(*context);
  return std::unique_ptr<Context>(std::move(context));
}

void PtraceContext::Interrupt() {
  uint32_t old = state_.fetch_or(kInterrupt);
  if ((old & kInGuest) == 0 || (old & kInterrupt) != 0) return;
  uint64_t target = target_.load();
  if (target == 0) return;
  // May come after the thread has stopped for another reason: the next Switch drops a kick without cause.
  syscall(SYS_tgkill, static_cast<pid_t>(target >> 32), static_cast<pid_t>(target & 0xffff'ffff), kKickSignal);
}

void PtraceContext::Rebalance() {
  if (!tracee_ || !tracee_->attached()) return;
  if (platform_.placement().Rebalance(slot_)) platform_.placement().Pin(slot_, tracee_->tid());
}

Event PtraceContext::Dead() {
  if (space_) space_->MarkDead();
  return {.kind = Event::Kind::kDead};
}

Event PtraceContext::Switch(Registers& registers) {
  if (!space_ || !Adopt().ok()) return Dead();
  if (++switches_ % kSwitchesPerRebalance == 0) Rebalance();
  if (rseq_.address != tracee_->rseq().address) [[unlikely]]
    RestoreRseq();
  for (;;) {
    uint32_t old = state_.fetch_or(kInGuest);
    if ((old & kInterrupt) != 0) {
      state_.fetch_and(~(kInGuest | kInterrupt));
      return {.kind = Event::Kind::kInterrupted};
    }
    Outcome outcome = RunGuest(registers);
    state_.fetch_and(~kInGuest);
    if (outcome) return *outcome;
  }
}

PtraceContext::Outcome PtraceContext::RunGuest(Registers& registers) {
  Registers entry = registers;
  entry.orig_rax = static_cast<uint64_t>(-1);  // the host must not restart a call of its own
  if (base::Result<void> set = tracee_->SetRegisters(entry); !set.ok()) [[unlikely]] {
    if (set.error_number() == ESRCH) return Dead();
    // Values a CPU can't load (a selector of ring 0, a non-canonical FS base): what the hardware does to a bad iret.
    Event event = {.kind = Event::Kind::kSignal};
    event.info.si_signo = SIGSEGV;
    event.info.si_code = SI_KERNEL;
    return event;
  }
  for (;;) {
    Stop stop = tracee_->Resume(PTRACE_SYSEMU);
    switch (stop.kind) {
      case Stop::Kind::kSyscall: {
        if (!tracee_->GetRegisters(registers)) return Dead();
        // `syscall` leaves its return address in rcx and the flags in r11; the other ways in don't.
        bool native = registers.rcx == registers.rip && registers.r11 == registers.eflags;
        if (!native && tracee_->IsCompatCall()) return Event{.kind = Event::Kind::kCompatSyscall};
        return Event{.kind = Event::Kind::kSyscall};
      }
      case Stop::Kind::kSignal:
        if (stop.signal == kKickSignal) {
          if (!tracee_->GetRegisters(registers)) return Dead();
          return std::nullopt;
        }
        if (Outcome outcome = OnSignal(stop.signal, registers)) return outcome;
        break;
      case Stop::Kind::kEvent:
        break;
      case Stop::Kind::kDead:
        return Dead();
    }
  }
}

PtraceContext::Outcome PtraceContext::OnSignal(int signal, Registers& registers) {
  siginfo_t info = {};
  if (!tracee_->GetSignal(&info)) return tracee_->dead() ? Outcome(Dead()) : std::nullopt;
  // Sent by someone outside, not raised by an instruction: no business of the guest.
  if (info.si_code <= 0) return std::nullopt;
  switch (signal) {
    case SIGSEGV:
    case SIGBUS:
    case SIGILL:
    case SIGFPE:
    case SIGTRAP:
    case SIGSYS:
      break;
    default:
      return std::nullopt;
  }
  if (!tracee_->GetRegisters(registers)) return Dead();
  if (signal == SIGSYS) {
    uint64_t from = reinterpret_cast<uint64_t>(info.si_call_addr);
    if (IsVsyscall(from)) return OnVsyscall(from, registers.rip != from, info, registers);
    return Event{.kind = Event::Kind::kCompatSyscall, .info = info};
  }
  if (signal == SIGSEGV && info.si_code == SI_KERNEL && tracee_->CheckStuck()) {
    return Event{.kind = Event::Kind::kFault, .access = Access::kWrite, .address = rseq_.address, .info = info};
  }
  bool memory = (signal == SIGSEGV && info.si_code != SI_KERNEL) || (signal == SIGBUS && info.si_code != BUS_ADRALN);
  if (memory) return OnFault(info, registers);
  return Event{.kind = Event::Kind::kSignal, .info = info};
}

PtraceContext::Outcome PtraceContext::OnFault(const siginfo_t& info, Registers& registers) {
  Event event = {.kind = Event::Kind::kFault};
  event.info = info;
  event.address = reinterpret_cast<uint64_t>(info.si_addr);
  if (event.address == registers.rip && IsVsyscall(event.address)) {
    return OnVsyscall(event.address, false, info, registers);  // a host with vsyscall=none
  }
  // The host doesn't tell. A fetch faults at the instruction, or on the next page when it crosses into it.
  uint64_t ahead = event.address - registers.rip;
  if (ahead == 0 || (event.address % kPageSize == 0 && ahead < kMaxInstruction)) event.access = Access::kExec;
  return event;
}

Event PtraceContext::OnVsyscall(uint64_t slot, bool returned, const siginfo_t& info, Registers& registers) {
  if (!returned) {
    uint64_t return_address;
    if (!tracee_->Peek(registers.rsp, &return_address)) {
      Event event = {.kind = Event::Kind::kFault, .access = Access::kRead, .address = registers.rsp, .info = info};
      event.info.si_signo = SIGSEGV;
      event.info.si_code = SEGV_MAPERR;
      event.info.si_addr = reinterpret_cast<void*>(registers.rsp);
      return event;
    }
    registers.rip = return_address;
    registers.rsp += 8;
  }
  registers.orig_rax = kVsyscallNumbers[(slot - kVsyscallPage) / kVsyscallStride];
  registers.rax = static_cast<uint64_t>(-ENOSYS);
  return {.kind = Event::Kind::kSyscall};
}

size_t PtraceContext::GetFpu(std::span<uint8_t> buffer) {
  if (!space_ || !Adopt().ok()) return 0;
  return tracee_->GetVectorState(buffer);
}

base::Result<void> PtraceContext::SetFpu(std::span<const uint8_t> image) {
  const std::vector<uint8_t>& initial = platform_.initial_fpu();
  if (image.size() < kLegacyFpuSize || image.size() > initial.size()) return base::Errno(EINVAL);
  if (!space_) return base::Errno(EINVAL);
  TRY(Adopt());
  // The kernel takes the full size only. What the image lacks is in its initial state.
  std::vector<uint8_t> full(initial.size());
  memcpy(full.data(), image.data(), image.size());
  if (image.size() < kXsaveHeaderEnd && full.size() >= kXsaveHeaderEnd) {
    memset(full.data() + kLegacyFpuSize, 0, full.size() - kLegacyFpuSize);
    full[kLegacyFpuSize] = kX87Component | kSseComponent;  // XSTATE_BV
  } else if (full.size() >= kXsaveHeaderEnd && (full[kLegacyFpuSize] & kSseComponent) == 0) {
    // XRSTOR takes MXCSR from an image without SSE state; ptrace doesn't unless the component is present.
    memset(full.data() + kXmmOffset, 0, kXmmSize);
    full[kLegacyFpuSize] |= kSseComponent;
  }
  return tracee_->SetVectorState(full);
}

base::Result<void> PtraceContext::ResetFpu() {
  if (!space_) return base::OkResult();
  TRY(Adopt());
  return tracee_->SetVectorState(platform_.initial_fpu());
}

base::Result<void> PtraceContext::SetDebugRegisters(std::span<const uint64_t, 8> values) {
  if (!space_ || !Adopt().ok()) return base::Errno(EIO);
  return tracee_->SetDebugRegisters(values);
}

base::Result<void> PtraceContext::SetRseq(const RseqArea& area) {
  if (!platform_.SupportsRseq()) return base::Errno(ENOSYS);
  if (!space_) return base::Errno(EINVAL);
  TRY(Adopt());
  TRY(tracee_->SetRseq(area));
  rseq_ = area;
  return base::OkResult();
}

void PtraceContext::RestoreRseq() {
  uint64_t word;
  if (!tracee_->Peek(rseq_.address, &word)) return;
  base::Result<void> set = tracee_->SetRseq(rseq_);
  if (!set.ok()) LOG_DEBUG("ptrace platform: rseq in stub thread %d: errno %d", tracee_->tid(), set.error_number());
}

void PtraceContext::SetAffinity(uint64_t cpus) {
  platform_.placement().Restrict(slot_, cpus);
  if (tracee_ && tracee_->attached()) platform_.placement().Pin(slot_, tracee_->tid());
}

uint64_t PtraceContext::DebugStatus() { return space_ && Adopt().ok() ? tracee_->DebugStatus() : kDebugStatusInitial; }

}  // namespace platform::ptrace
