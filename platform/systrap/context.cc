// SPDX-License-Identifier: Apache-2.0
#include "platform/systrap/context.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/rseq.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <x86intrin.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "base/log.h"
#include "base/wake_hint.h"
#include "platform/systrap/futex.h"
#include "platform/systrap/registers.h"

namespace platform::systrap {
namespace {

constexpr uint32_t kSwitchesPerRebalance = 64;
constexpr int kMaxLateKicks = 1000;
// The host calls that patch a site cost some twenty traps.
constexpr uint32_t kHotCalls = 100;
constexpr uint32_t kAnswersPerEvent = 64;
// Threads that were in a call when its site was patched, and some signals.
constexpr uint32_t kMaxReturnsIntoJumps = 1000;
// A kick that a guest in the stub's code managed to lose is sent again.
constexpr int64_t kKickPeriodNs = base::kNsPerSecond / 50;
// Without a watch for dead stubs.
constexpr int64_t kDeathPollNs = base::kNsPerSecond / 10;

thread_local SystrapContext* current_context = nullptr;

}  // namespace

SystrapContext* SystrapContext::Current() { return current_context; }

SystrapContext::~SystrapContext() {
  Release();
  if (current_context == this) current_context = nullptr;
}

base::Result<void> SystrapContext::Bind(AddressSpace& space) {
  auto& wanted = static_cast<SystrapAddressSpace&>(space);
  if (space_.get() == &wanted) {
    if (space_->dead()) return base::Errno(EAGAIN);
    Adopt();
    return base::OkResult();
  }
  Release();
  platform_.placement().Enter(slot_);
  platform_.placement().Pin(slot_, 0);
  Announce();
  current_context = this;
  base::Result<StubThread*> thread = wanted.TakeThread();
  if (!thread.ok()) {
    platform_.placement().Leave(slot_);
    return thread.error_number() == ENOMEM ? thread.error() : base::Errno(EAGAIN);
  }
  SetThread(wanted, *thread);
  platform_.placement().PinOther(slot_, thread_->tid);
  return base::OkResult();
}

void SystrapContext::SetThread(SystrapAddressSpace& space, StubThread* thread) {
  space_ = base::RefPtr<SystrapAddressSpace>(&space);
  thread_ = thread;
  // What it has now does not matter: set at the next Switch.
  fs_base_ = gs_base_ = ~uint64_t{0};
  memcpy(thread_->fpu().data(), platform_.initial_fpu().data(), platform_.initial_fpu().size());
  vectors_live_ = false;
  detour_ = {};
  returns_ = {};
  base::MutexLock lock(target_mu_);
  target_ = thread;
  target_pid_ = space.pid();
  thread->mailbox().answers_left = kAnswersPerEvent;
  // Those of the one that had the thread before are replaced.
  for (size_t i = 0; i < std::size(kAnswered); ++i) {
    thread->answers()[kAnswered[i]].store(answers_[i], std::memory_order_relaxed);
  }
}

void SystrapContext::SetAnswer(uint32_t number, std::optional<uint32_t> value) {
  const auto* found = std::find(std::begin(kAnswered), std::end(kAnswered), number);
  if (found == std::end(kAnswered)) return;
  int64_t word = value ? int64_t{*value} + 1 : 0;
  if (value && number == SYS_clock_gettime) word = ANSWER_CLOCK_GETTIME;
  if (value && number == SYS_gettimeofday) word = ANSWER_GETTIMEOFDAY;
  if (value && number == SYS_time) word = ANSWER_TIME;
  base::MutexLock lock(target_mu_);
  answers_[found - kAnswered] = word;
  if (target_ != nullptr) target_->answers()[number].store(word, std::memory_order_release);
}

void SystrapContext::Adopt() {
  if (current_context == this) [[likely]]
    return;
  current_context = this;
  platform_.placement().Enter(slot_);
  platform_.placement().Pin(slot_, thread_->tid);
  Announce();
}

void SystrapContext::Release() {
  if (!space_) return;
  // Linux kills a process one of whose threads has no writable area, too.
  if (rseq_.address != 0 && !space_->dead() && !SetRseq({}).ok()) space_->Kill("an rseq area that is gone");
  rseq_ = {};
  if (!space_->dead() && !debug_.Clear(thread_->tid).ok()) space_->Kill("debug registers that stay set");
  {
    base::MutexLock lock(target_mu_);
    target_ = nullptr;
  }
  if (slot_.stub_index >= 0 || apart_) Gather(false);
  spin_.OnGathered();
  space_->ParkThread(thread_);
  platform_.placement().Leave(slot_);
  thread_ = nullptr;
  space_.Reset();
  if (current_context == this) current_context = nullptr;
}

base::Result<std::unique_ptr<Context>> SystrapContext::CloneInSpace() {
  if (!space_) return base::Errno(EINVAL);
  Adopt();
  base::Result<StubThread*> thread = space_->TakeThread();
  if (!thread.ok()) return thread.error_number() == ENOMEM ? thread.error() : base::Errno(EAGAIN);
  auto context = std::make_unique<SystrapContext>(platform_);
  context->SetThread(*space_, *thread);
  std::vector<uint8_t> image(platform_.initial_fpu().size());
  GetFpu(image);
  // Refused if a sibling scribbled over it.
  if (!context->SetFpu(image).ok()) (void)context->ResetFpu();
  return std::unique_ptr<Context>(std::move(context));
}

void SystrapContext::Interrupt() {
  uint32_t old = state_.fetch_or(kInterrupt);
  if ((old & kInGuest) == 0 || (old & kInterrupt) != 0) return;
  base::MutexLock lock(target_mu_);
  if (target_ == nullptr) return;
  // May come after the thread has stopped for another reason: the next Switch drops a kick without cause.
  syscall(SYS_tgkill, target_pid_, target_->tid, KICK_SIGNAL);
  // The owner shall not sleep for ever: see HandOver.
  FutexWake(&target_->mailbox().state);
}

void SystrapContext::Kick() { syscall(SYS_tgkill, space_->pid(), thread_->tid, KICK_SIGNAL); }

void SystrapContext::Announce() const { base::wake_hint = static_cast<uint32_t>(slot_.index + 1); }

void SystrapContext::Rebalance() {
  if (thread_ == nullptr || !platform_.placement().Rebalance(slot_)) return;
  platform_.placement().Pin(slot_, thread_->tid);
  Announce();
}

void SystrapContext::OnUnblock() {
  ptrace::Placement& placement = platform_.placement();
  run_start_ = __rdtsc();
  if (!IsBrief()) {
    placement.Enter(slot_);
    return Rebalance();
  }
  if (thread_ != nullptr && placement.Follow(slot_, static_cast<int>(base::waker_hint) - 1)) {
    placement.Pin(slot_, thread_->tid);
    apart_ = false;
    Announce();
  }
  placement.Enter(slot_);
}

void SystrapContext::OnBlock() {
  const bool brief = __rdtsc() - run_start_ < kBriefRunUs * platform_.ticks_per_us();
  brief_runs_ = brief ? std::min(brief_runs_ + 1, 4 * kBriefRuns) : brief_runs_ / 2;
  // The stub thread follows when it is needed, and asleep: moving it while it spins would cost more.
  if (slot_.stub_index >= 0) apart_ = true;
  spin_.OnGathered();
  platform_.placement().Leave(slot_);
}

void SystrapContext::Gather(bool to_stub) {
  platform_.placement().Gather(slot_, to_stub);
  platform_.placement().PinOther(slot_, to_stub ? 0 : thread_->tid);
  apart_ = false;
  Announce();
}

void SystrapContext::Arrange() {
  ptrace::Placement& placement = platform_.placement();
  if (slot_.stub_index >= 0 && placement.IsCrowded(slot_)) {
    spin_.OnGathered();
    Gather(/*to_stub=*/placement.Pairs(slot_.index) > 1);
    return;
  }
  if (apart_) Gather(false);
  const uint64_t now = __rdtsc();
  const bool asleep = (thread_->mailbox().state.load(std::memory_order_relaxed) & STATE_SLEEP) != 0;
  switch (spin_.BeforeHandOver(now, asleep)) {
    case SpinPolicy::Move::kStay:
      return;
    case SpinPolicy::Move::kGather:
      return Gather(false);
    case SpinPolicy::Move::kSpread:
      // Asleep, the stub thread is moved without anybody's help.
      if (!asleep) return;
      if (!platform_.may_spin() || !placement.Spread(slot_)) return spin_.OnNoCpu(now);
      placement.PinStub(slot_, thread_->tid);
      return spin_.OnSpread(now);
  }
}

Event SystrapContext::Dead() {
  Event event = {.kind = Event::Kind::kDead};
  event.info.si_signo = space_ ? space_->death_signal() : 0;
  return event;
}

Event SystrapContext::Inconsistent(const char* what) {
  space_->Kill(what);
  return Dead();
}

Event SystrapContext::Switch(Registers& registers) {
  if (!space_ || space_->dead()) return Dead();
  Adopt();
  if (++switches_ % kSwitchesPerRebalance == 0 &&
      !(IsBrief() && __rdtsc() - run_start_ < kBriefRunUs * platform_.ticks_per_us())) {
    Rebalance();
  }
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

bool SystrapContext::HandOver() {
  std::atomic<uint32_t>& word = thread_->mailbox().state;
  uint32_t old = word.exchange(STATE_GUEST, std::memory_order_seq_cst);
  const bool woken = (old & STATE_SLEEP) != 0;
  if (woken) FutexWake(&word);
  // A kick that came while it was our turn was dropped.
  if (state_.load(std::memory_order_seq_cst) == (kInGuest | kInterrupt)) Kick();
  if (spin_.spread() && Spin(woken)) return !space_->dead();
  return WaitForEvent();
}

bool SystrapContext::Spin(bool woken) {
  constexpr int kLooks = 32;
  std::atomic<uint32_t>& word = thread_->mailbox().state;
  const uint64_t start = __rdtsc();
  for (uint64_t last = start;;) {
    for (int i = 0; i < kLooks; ++i) {
      if (word.load(std::memory_order_acquire) != STATE_GUEST) return true;
      _mm_pause();
    }
    const uint64_t now = __rdtsc();
    const bool preempted = now - last > spin_.PreemptionTicks();
    last = now;
    if (!preempted && now - start < spin_.SpinTicks(woken)) continue;
    // Nothing is known of the other CPU if nothing came from there yet.
    const bool to_stub = !spin_.untried();
    spin_.OnSpinFailed(now, preempted);
    Gather(to_stub);
    return false;
  }
}

bool SystrapContext::WaitForEvent() {
  std::atomic<uint32_t>& word = thread_->mailbox().state;
  bool was_interrupted = false;
  for (;;) {
    if (space_->dead()) return false;
    uint32_t state = STATE_GUEST;
    if (!word.compare_exchange_strong(state, STATE_GUEST | STATE_SLEEP, std::memory_order_seq_cst) &&
        state != (STATE_GUEST | STATE_SLEEP)) {
      return !space_->dead();
    }
    // A command (rseq) takes no time either.
    uint32_t own = state_.load(std::memory_order_seq_cst);
    bool interrupted = (own & kInterrupt) != 0 || (own & kInGuest) == 0;
    int64_t timeout = interrupted ? kKickPeriodNs : platform_.watching() ? -1 : kDeathPollNs;
    FutexWait(&word, STATE_GUEST | STATE_SLEEP, timeout);
    if ((word.load(std::memory_order_seq_cst) & ~STATE_SLEEP) != STATE_GUEST) continue;
    if (interrupted && was_interrupted) {
      // Stopped by somebody outside, it would outlive its own end.
      kill(space_->pid(), SIGCONT);
      if ((own & kInGuest) != 0) Kick();
    }
    was_interrupted = interrupted;
    if (timeout == kDeathPollNs && kill(space_->pid(), 0) != 0) space_->OnDeath();
  }
}

SystrapContext::Outcome SystrapContext::RunGuest(Registers& registers) {
  Mailbox& mailbox = thread_->mailbox();
  SignalContext context;
  // Where patched calls find their area, if the guest doesn't use it.
  const uint64_t gs_base =
      registers.gs_base == 0 && space_->patched() ? thread_->address() : static_cast<uint64_t>(registers.gs_base);
  bool set_bases = registers.fs_base != fs_base_ || gs_base != gs_base_;
  if (!LoadableRegisters(registers, fs_base_, gs_base_)) [[unlikely]] {
    // What the hardware does to a bad iret.
    Event event = {.kind = Event::Kind::kSignal};
    event.info.si_signo = SIGSEGV;
    event.info.si_code = SI_KERNEL;
    return event;
  }
  ToContext(registers, &context);
  // Steps are shown the text as it is.
  if ((registers.eflags & TRAP_FLAG) != 0 && space_->patched()) [[unlikely]]
    space_->StopPatching();
  resume_epoch_ = space_->patch_epoch();
  if (registers.rip == detour_.shown && detour_.epoch == resume_epoch_) {
    if (context.rcx == context.rip) context.rcx = detour_.actual;
    context.rip = detour_.actual;
  }
  thread_->WriteContext(context);
  Arrange();
  mailbox.flags =
      (set_bases ? FLAG_SET_BASES : 0) | (spin_.spread() ? FLAG_SPIN : 0) | (vectors_live_ ? FLAG_KEEP_VECTORS : 0);
  if (set_bases) {
    mailbox.fs_base = fs_base_ = registers.fs_base;
    mailbox.gs_base = gs_base_ = gs_base;
  }
  if (!HandOver()) return Dead();
  spin_.OnEvent(__rdtsc());
  if ((mailbox.state.load(std::memory_order_acquire) & ~STATE_SLEEP) != STATE_EVENT) {
    return space_->dead() ? Dead() : Inconsistent("a mailbox in no known state");
  }
  if (!thread_->FindFrame()) return Inconsistent("a signal frame outside its stack");
  volatile Mailbox* read = &mailbox;
  uint32_t signal = read->signal;
  fs_base_ = read->fs_base;
  gs_base_ = read->gs_base;
  FromContext(thread_->ReadContext(), &registers);
  registers.fs_base = fs_base_;
  registers.gs_base = gs_base_ == thread_->address() ? 0 : gs_base_;
  return OnEvent(signal, registers);
}

void SystrapContext::CountCall(const Registers& registers) {
  Site& site = hot_[registers.rip / 2 % std::size(hot_)];
  if (site.return_address != registers.rip) site = {.return_address = registers.rip};
  uint32_t weight = 1;
  if (std::find(std::begin(kConstant), std::end(kConstant), registers.orig_rax) != std::end(kConstant)) {
    weight = kAnswersPerEvent;
    thread_->mailbox().answers_left = kAnswersPerEvent;
  }
  const uint32_t before = site.count;
  site.count += weight;
  // Again later: the text may have been about to change.
  if (before / kHotCalls != site.count / kHotCalls) space_->PatchSite(registers.rip, registers.orig_rax);
}

void SystrapContext::TakeDetour(uint64_t shown, uint64_t actual) {
  detour_ = {.shown = shown, .actual = actual, .epoch = space_->patch_epoch()};
}

bool SystrapContext::ShowReturn(Registers& registers) {
  if (!space_->patched()) return false;
  if (const uint32_t epoch = space_->patch_epoch(); epoch != returns_epoch_) {
    returns_ = {};
    returns_epoch_ = epoch;
  }
  const uint64_t rip = registers.rip;
  Return& known = returns_[rip * 0x9e37'79b9'7f4a'7c15u >> 60];
  static_assert(std::tuple_size_v<decltype(returns_)> == 16);
  if (known.actual != rip) {
    const std::optional<CallSites::Gate> gate = space_->GateReturningTo(rip, PatchesUndone());
    known = {.actual = rip, .shown = gate ? gate->site.return_address() : rip};
  }
  if (known.shown == rip) return false;
  if (registers.rcx == rip) registers.rcx = known.shown;
  registers.rip = known.shown;
  TakeDetour(known.shown, rip);
  return true;
}

bool SystrapContext::LeaveGate(Registers& registers) {
  const uint64_t offset = registers.rip - platform_.zygote().layout().page;
  if (offset == StubOffset(kSystrapReturn) || offset == StubOffset(kSystrapAnswerReturn)) {
    registers.rip = registers.rcx;
    ShowReturn(registers);
    return true;
  }
  if (!space_->patched()) return true;
  auto is_past = [&](const uint8_t* label) { return offset >= StubOffset(label); };
  if (is_past(kSystrapGate) && !is_past(kSystrapGateCall)) {
    const bool on_stack = is_past(kSystrapGateStack) && !is_past(kSystrapGateLeave);
    if (on_stack && is_past(kSystrapGateFlags)) registers.eflags = thread_->ReadGateFlags();
    if (on_stack) registers.rsp = static_cast<volatile Mailbox&>(thread_->mailbox()).guest_rsp;
    if (is_past(kSystrapGateAnswered)) {
      registers.rip = registers.rcx;
      registers.r11 = registers.eflags;
      ShowReturn(registers);
      return true;
    }
    const std::optional<CallSites::Gate> gate = space_->GateReturningTo(registers.rcx, PatchesUndone());
    if (!gate) return false;
    registers.rip = gate->site.syscall();
    return true;
  }
  if (registers.rip >= kGuestAddressLimit) return true;
  const std::optional<CallSites::Gate> gate = space_->GateAt(registers.rip, PatchesUndone());
  if (!gate) return true;
  const CallSite& site = gate->site;
  const uint64_t in_tail = registers.rip - gate->tail();
  if (!site.moved && (in_tail == 0 || in_tail == site.tail_length)) {
    if (registers.rcx == gate->tail()) registers.rcx = site.return_address();
    registers.rip = site.return_address() + in_tail;
    if (in_tail == 0) TakeDetour(registers.rip, gate->tail());
    return true;
  }
  registers.rip = site.syscall();
  if (site.moved) registers.rax = site.number;
  return true;
}

SystrapContext::Outcome SystrapContext::OnEvent(uint32_t signal, Registers& registers) {
  // Not resumed at all: nothing has changed.
  if (signal == (KICK_SIGNAL | SIGNAL_NOT_RESUMED)) {
    ShowReturn(registers);
    return std::nullopt;
  }
  vectors_live_ = signal == SIGNAL_GATE_CALL;
  if (signal == SIGNAL_GATE_CALL) {
    ShowReturn(registers);
    registers.orig_rax = registers.rax;
    registers.rax = static_cast<uint64_t>(-ENOSYS);
    return Event{.kind = Event::Kind::kSyscall};
  }
  if (signal == SIGSYS) {
    // `syscall` leaves its return address in rcx and the flags in r11; the other ways in don't.
    if (registers.rcx == registers.rip && registers.r11 == registers.eflags) [[likely]] {
      registers.orig_rax = registers.rax;
      registers.rax = static_cast<uint64_t>(-ENOSYS);
      // A gate makes it itself if %gs is the guest's.
      if (!ShowReturn(registers)) CountCall(registers);
      return Event{.kind = Event::Kind::kSyscall};
    }
    return OnSyscall(registers);
  }
  const uint64_t rip = registers.rip;
  if (!LeaveGate(registers)) return Inconsistent("a fault in the stub's code");
  if ((signal & SIGNAL_IN_GATE) != 0) {
    signal &= ~uint32_t{SIGNAL_IN_GATE};
    if (registers.rip == rip) return Inconsistent("a fault in the stub's code");
  }
  if (signal == KICK_SIGNAL) return std::nullopt;
  if ((signal & SIGNAL_IN_STUB) != 0) return Inconsistent("a fault in the stub's code");
  Event event = {.kind = Event::Kind::kSignal};
  event.info = thread_->ReadInfo();
  // Sent by someone outside, not raised by an instruction: no business of the guest.
  if (event.info.si_code <= 0) return std::nullopt;
  // The code of a patched call met something that the call itself doesn't: it is made in the other way.
  if (registers.rip != rip && signal != SIGTRAP) {
    const std::optional<CallSites::Gate> gate = space_->GateAt(rip, PatchesUndone());
    // The tail is the guest's own.
    if (!gate || gate->site.moved || rip != gate->tail()) {
      if (gate && registers.rip == gate->site.address) TakeDetour(registers.rip, gate->own_syscall());
      return std::nullopt;
    }
  }
  event.info.si_signo = static_cast<int>(signal);
  switch (signal) {
    case SIGSEGV:
      if (event.info.si_code == SI_KERNEL) return event;
      break;
    case SIGBUS:
      if (event.info.si_code == BUS_ADRALN) return event;
      break;
    case SIGTRAP:
      if (space_->patched() && IsOfPatch(rip, registers)) return std::nullopt;
      trap_code_ = event.info.si_code;
      return event;
    case SIGILL:
    case SIGFPE:
      return event;
    default:
      return Inconsistent("a signal that the stub doesn't handle");
  }
  event.kind = Event::Kind::kFault;
  event.address = reinterpret_cast<uint64_t>(event.info.si_addr);
  event.access = FaultAccess(thread_->ReadContext());
  return event;
}

bool SystrapContext::IsOfPatch(uint64_t rip, Registers& registers) {
  if (registers.rip != rip) {
    // A step over the jump of a site that has nothing before the call: on to the call itself.
    const std::optional<CallSites::Gate> gate = space_->GateAt(rip, PatchesUndone());
    if (!gate || registers.rip != gate->site.address || gate->site.moved) return false;
    space_->StopPatching();
    return true;
  }
  // The int3 that a thread finds which was in the call when its site was patched, or returned from a signal.
  const std::optional<CallSites::Gate> gate = space_->RelocatedEndingAt(rip - 1);
  if (!gate && !PatchesUndone()) return false;
  registers.rip = rip - 1;
  if (!gate) return true;  // perhaps: the next look will show
  // Code that goes there without the call would pay a trap each time.
  if (++returns_into_jumps_ % kMaxReturnsIntoJumps == 0) {
    space_->RefuseSite(registers.rip);
    return true;
  }
  TakeDetour(registers.rip, gate->tail());
  return true;
}

SystrapContext::Outcome SystrapContext::OnSyscall(Registers& registers) {
  siginfo_t info = thread_->ReadInfo();
  if (info.si_code <= 0) return std::nullopt;
  if (info.si_arch != AUDIT_ARCH_X86_64) return Event{.kind = Event::Kind::kCompatSyscall, .info = info};
  uint64_t from = reinterpret_cast<uint64_t>(info.si_call_addr);
  if (IsVsyscall(from)) {
    // The kernel has returned to the caller already.
    registers.orig_rax = VsyscallNumber(from);
  } else {
    // Numbers that look like the kernel's restart codes are taken for such on the way to the handler.
    registers.rip = from;
    registers.orig_rax = static_cast<uint32_t>(registers.rax) == static_cast<uint32_t>(info.si_syscall)
                             ? registers.rax
                             : static_cast<uint64_t>(int64_t{info.si_syscall});
  }
  registers.rax = static_cast<uint64_t>(-ENOSYS);
  return Event{.kind = Event::Kind::kSyscall};
}

size_t SystrapContext::GetFpu(std::span<uint8_t> buffer) {
  if (!space_) return 0;
  if (vectors_live_) {
    Adopt();
    if (!Command(FLAG_SAVE_VECTORS).ok()) return 0;
  }
  std::span<uint8_t> image = thread_->fpu();
  size_t size = std::min(buffer.size(), image.size());
  memcpy(buffer.data(), image.data(), size);
  CleanFpu(buffer.first(size), platform_.xfeatures());
  return size;
}

base::Result<void> SystrapContext::SetFpu(std::span<const uint8_t> image) {
  if (!space_) return base::Errno(EINVAL);
  std::vector<uint8_t> full(platform_.initial_fpu().size());
  TRY(CheckFpu(image, platform_.xfeatures(), platform_.mxcsr_mask(), full));
  memcpy(thread_->fpu().data(), full.data(), full.size());
  vectors_live_ = false;
  return base::OkResult();
}

base::Result<void> SystrapContext::ResetFpu() {
  if (!space_) return base::OkResult();
  return SetFpu(platform_.initial_fpu());
}

base::Result<void> SystrapContext::SetDebugRegisters(std::span<const uint64_t, 8> values) {
  if (!space_ || space_->dead()) return base::Errno(EIO);
  Adopt();
  // The guest's own breakpoints are in its own text.
  if (values[7] != 0) space_->StopPatching();
  platform_.PinZygote();
  base::Result<void> set = debug_.Set(thread_->tid, values);
  if (set.ok() || set.error_number() == EIO) return set;
  space_->Kill("a thread that can't be stopped to set its debug registers");
  return base::Errno(EIO);
}

uint64_t SystrapContext::DebugStatus() {
  constexpr uint64_t kSingleStep = 1 << 14;
  if (space_ && !space_->dead() && debug_.used()) {
    platform_.PinZygote();
    return debug_.Status(thread_->tid);
  }
  return kDebugStatusInitial | (trap_code_ == TRAP_TRACE ? kSingleStep : 0);
}

base::Result<void> SystrapContext::SetRseq(const RseqArea& area) {
  if (!platform_.SupportsRseq()) return base::Errno(ENOSYS);
  if (!space_) return base::Errno(EINVAL);
  Adopt();
  if (rseq_.address != 0) {
    TRY(CallRseq(rseq_, RSEQ_FLAG_UNREGISTER));
    rseq_ = {};
  }
  if (area.address == 0) return base::OkResult();
  TRY(CallRseq(area, 0));
  rseq_ = area;
  return base::OkResult();
}

base::Result<void> SystrapContext::CallRseq(const RseqArea& area, uint32_t options) {
  Mailbox& mailbox = thread_->mailbox();
  mailbox.rseq_address = area.address;
  mailbox.rseq_length = area.length;
  mailbox.rseq_options = options;
  mailbox.rseq_signature = area.signature;
  // Forged or not: the area is the guest's affair.
  const auto result = static_cast<int64_t>(TRY(Command(FLAG_RSEQ)));
  if (result == 0) return base::OkResult();
  return base::Errno(result < 0 && result > -4096 ? static_cast<int>(-result) : EINVAL);
}

base::Result<uint64_t> SystrapContext::Command(uint32_t flags) {
  if (space_->dead()) return base::Errno(ESRCH);
  Mailbox& mailbox = thread_->mailbox();
  constexpr uint64_t kNone = 1;
  volatile uint64_t& slot = mailbox.result;
  slot = kNone;
  // A late kick makes an event before the command, and may leave its flag.
  for (int i = 0;; ++i) {
    const uint64_t result = slot;
    if (result != kNone) return result;
    if (i == kMaxLateKicks) {
      Inconsistent("no answer to a command");
      return base::Errno(ESRCH);
    }
    mailbox.flags = flags;
    if (!HandOver()) return base::Errno(ESRCH);
  }
}

void SystrapContext::SetAffinity(uint64_t cpus) {
  spin_.OnGathered();
  apart_ = false;
  platform_.placement().Restrict(slot_, cpus);
  if (thread_ != nullptr) platform_.placement().Pin(slot_, thread_->tid);
}

}  // namespace platform::systrap
