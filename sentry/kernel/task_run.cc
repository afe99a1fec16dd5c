// SPDX-License-Identifier: Apache-2.0
// The run loop of a task, and the start of its thread.
#include <pthread.h>
#include <signal.h>
#include <x86intrin.h>

#include "base/log.h"
#include "sentry/arch/store_decoder.h"
#include "sentry/arch/vdso.h"
#include "sentry/kernel/cgroup.h"
#include "sentry/kernel/ptrace.h"
#include "sentry/kernel/task_internal.h"

namespace sentry::kernel {
namespace {

// Enough for the deepest handler (path walks with 16 KiB bounce buffers) with room; the guard page catches the rest.
constexpr size_t kThreadStack = 256 << 10;

// Signals that the sentry's own code may raise and handle synchronously (SafeCopy).
void BlockHostSignals(sigset_t* set) {
  sigfillset(set);
  for (int signal : {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGABRT, SIGSYS}) sigdelset(set, signal);
}

uint64_t Since(uint64_t start, uint64_t now) { return start && now > start ? now - start : 0; }

void Accumulate(std::atomic<uint64_t>& counter, uint64_t ticks) {
  counter.store(counter.load(std::memory_order_relaxed) + ticks, std::memory_order_relaxed);
}

bool HasRestartErrno(const Registers& regs) {
  auto rax = static_cast<int64_t>(regs.rax);
  return static_cast<int64_t>(regs.orig_rax) >= 0 && rax <= -512 && rax >= -516;
}

// What of a host siginfo a guest may see: the number, a fault code and an address in its own space.
SignalInfo SanitizedFault(const siginfo_t& host, const Registers& regs) {
  SignalInfo info = {};
  switch (host.si_signo) {
    case SIGILL:
    case SIGFPE:
    case SIGTRAP:
    case SIGSEGV:
    case SIGBUS:
      info.si_signo = host.si_signo;
      break;
    default:
      info.si_signo = SIGSEGV;
  }
  bool known_code = host.si_signo == info.si_signo && host.si_code > 0 && host.si_code < 32;
  info.si_code = known_code ? host.si_code : SI_KERNEL;
  if (known_code) info.si_addr = reinterpret_cast<void*>(regs.rip);
  return info;
}

}  // namespace

bool Task::Internal::StartThread(RefPtr<Task> task) {
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  pthread_attr_setstacksize(&attributes, kThreadStack);
  sigset_t blocked;
  BlockHostSignals(&blocked);
  pthread_attr_setsigmask_np(&attributes, &blocked);
  pthread_t thread;
  Task* raw = task.Release();
  auto body = [](void* argument) -> void* {
    RefPtr<Task> self = RefPtr<Task>::Adopt(static_cast<Task*>(argument));
    Internal& internal = *self->internal_;
    // Parked until the maker has linked the task, or has given it up.
    while (internal.start.load(std::memory_order_acquire) == StartState::kWaiting)
      (void)self->blocker_.Wait(kNoDeadline);
    if (internal.start.load(std::memory_order_acquire) == StartState::kGo) {
      if (internal.worker_body) {
        SetCurrent(self.get());
        internal.worker_body(*self);
      } else {
        self->Run();
      }
    } else if (!internal.worker_body) {
      Abandon(*self);
    }
    SetCurrent(nullptr);
    return nullptr;
  };
  int error = pthread_create(&thread, &attributes, body, raw);
  pthread_attr_destroy(&attributes);
  if (error != 0) {
    raw->DecRef();
    return false;
  }
  return true;
}

void Task::Internal::OpenStartGate(Task& task, bool go) {
  task.internal_->start.store(go ? StartState::kGo : StartState::kAbandoned, std::memory_order_release);
  task.blocker_.Wake();
}

// Brings the host side of a new task up: the stub thread, vector state, and what clone(2) stores in the child.
bool Task::Internal::PrepareThread(Task& task) {
  Internal& internal = *task.internal_;
  internal.kernel_entry_tick.store(__rdtsc(), std::memory_order_relaxed);
  auto bound = task.context_->Bind(task.mm_->address_space());
  if (!bound.ok()) {
    LOG_WARNING("no host process or thread for guest task %d: %s", task.tid(), bound.error().Name());
    return false;
  }
  // A child's registration of rseq and its thread id are written to its memory.
  if (internal.map_eagerly) {
    internal.map_eagerly = false;
    task.mm_->MapEagerly();
  }
  if (!internal.fpu_image.empty()) {
    (void)task.context_->SetFpu(internal.fpu_image);
    internal.fpu_image = {};
  }
  if (internal.rseq.address != 0 && !RegisterRseq(task).ok()) internal.rseq = {};
  if (!internal.set_child_tid.IsNull()) {
    (void)task.CopyOut(internal.set_child_tid, static_cast<int32_t>(task.TidIn(task.pid_ns())));
  }
  return true;
}

void Task::Run() {
  Internal& internal = *internal_;
  SetCurrent(this);
  vfs::LandlockDomain::SetCurrent(internal.landlock.get());
  if (!Internal::PrepareThread(*this)) group_->Exit({.signal = SIGKILL});
  for (;;) {
    uint32_t work = internal.work.load(std::memory_order_acquire);
    if (work & kWorkFatal) break;
    if (work & kWorkPark) {
      Internal::Park(*this);
      continue;
    }
    if ((work & (kWorkSignal | kWorkStop)) || internal.saved_mask || HasRestartErrno(regs_)) {
      Internal::DeliverSignals(*this);
      if (internal.work.load(std::memory_order_acquire) & kWorkFatal) break;
    }
    if (internal.map_eagerly) {
      internal.map_eagerly = false;
      mm_->MapEagerly();
    }
    if (arch::Vdso* vdso = kernel_.vdso()) vdso->UpdateParams();
    if (internal.answers_stale.load(std::memory_order_relaxed) ||
        internal.trace_syscalls.load(std::memory_order_relaxed) != internal.answers_traced) [[unlikely]] {
      Internal::PublishAnswers(*this);
    }
    regs_.orig_rax = ~uint64_t{0};
    // Pairs with Kick.
    internal.run_state.store(RunState::kGuest, std::memory_order_seq_cst);
    if (internal.work.load(std::memory_order_seq_cst) != 0) {
      internal.run_state.store(RunState::kKernel, std::memory_order_relaxed);
      continue;
    }
    uint64_t affinity = cpu_affinity.load(std::memory_order_relaxed);
    if (affinity != internal.affinity) [[unlikely]] {
      internal.affinity = affinity;
      context_->SetAffinity(affinity);
    }
    if (ptrace_->single_step.load(std::memory_order_relaxed) != ptrace_->trap_flag_forced) [[unlikely]] {
      Internal::ForceTrapFlag(*this);
    }
    uint64_t enter = __rdtsc();
    Accumulate(internal.system_ticks, Since(internal.kernel_entry_tick.load(std::memory_order_relaxed), enter));
    internal.kernel_entry_tick.store(0, std::memory_order_relaxed);
    internal.guest_entry_tick.store(enter, std::memory_order_relaxed);
    platform::Event event = context_->Switch(regs_);
    uint64_t leave = __rdtsc();
    Accumulate(internal.user_ticks, Since(enter, leave));
    internal.guest_entry_tick.store(0, std::memory_order_relaxed);
    internal.kernel_entry_tick.store(leave, std::memory_order_relaxed);
    internal.run_state.store(RunState::kKernel, std::memory_order_relaxed);
    Internal::HandleEvent(*this, event);
  }
  Internal::ExitTask(*this);
}

void Task::Internal::HandleEvent(Task& task, const platform::Event& event) {
  Internal& internal = *task.internal_;
  switch (event.kind) {
    case platform::Event::Kind::kSyscall: {
      bool traced = internal.trace_syscalls.load(std::memory_order_relaxed);
      task.current_syscall.store(static_cast<int>(task.regs_.orig_rax), std::memory_order_relaxed);
      const bool filtered = internal.seccomp.mode.load(std::memory_order_relaxed) != SECCOMP_MODE_DISABLED;
      if ((!traced || PtraceSyscallEnter(task)) && (!filtered || SeccompAllows(task))) [[likely]]
        task.kernel_.syscall_handler()(task);
      task.current_syscall.store(-1, std::memory_order_relaxed);
      if (traced || internal.trace_syscalls.load(std::memory_order_relaxed) ||
          task.ptrace_->single_step.load(std::memory_order_relaxed)) {
        PtraceSyscallExit(task);
      }
      return;
    }
    case platform::Event::Kind::kFault: {
      task.regs_.orig_rax = ~uint64_t{0};
      internal.fault_access = event.access;
      internal.minor_faults.fetch_add(1, std::memory_order_relaxed);
      const uint64_t rip = task.regs_.rip;
      // What the platform does in the stub thread to mend the fault may take the host's view of the section away: it
      // would go on unprotected. A bad descriptor is the host's to find.
      if (internal.rseq.address != 0) (void)AbortRseq(task);
      mm::MemoryManager::FaultSignal signal = task.mm_->HandleFault(event.address, event.access, event.info.si_signo);
      if (signal.signal == 0) return;
      SignalInfo info = {};
      info.si_signo = signal.signal;
      info.si_code = signal.code;
      info.si_addr = reinterpret_cast<void*>(event.address);
      internal.fault_access = event.access;
      if (event.access == platform::Access::kUnknown) {
        uint8_t code[arch::kMaxInstruction];
        auto got = task.mm_->CopyIn(UserAddr(rip), code, sizeof code);
        if (got.ok() && arch::StoresToMemory({code, *got})) internal.fault_access = platform::Access::kWrite;
      }
      task.ForceSignal(info);
      return;
    }
    case platform::Event::Kind::kCompatSyscall: {
      // As a kernel without IA32 emulation: the instruction is a general protection fault.
      task.regs_.orig_rax = ~uint64_t{0};
      task.ForceSignal(KernelSignal(SIGSEGV));
      return;
    }
    case platform::Event::Kind::kSignal:
      task.regs_.orig_rax = ~uint64_t{0};
      if (event.info.si_signo == SIGTRAP) RecordDebugTrap(task);
      task.ForceSignal(SanitizedFault(event.info, task.regs_));
      return;
    case platform::Event::Kind::kInterrupted:
      task.regs_.orig_rax = ~uint64_t{0};
      return;
    case platform::Event::Kind::kDead:
      LOG_WARNING("the host process of guest task %d was lost", task.tid());
      // The kernel's own way to end a process that misuses rseq(2), for one.
      task.group_->Exit({.signal = event.info.si_signo == SIGSEGV ? SIGSEGV : SIGKILL});
      return;
  }
}

void Task::Internal::Park(Task& task) {
  Internal& internal = *task.internal_;
  // Pairs with who clears a bit, then looks at `parked` (Cgroups::UpdateStops).
  internal.parked.store(true, std::memory_order_seq_cst);
  for (;;) {
    uint32_t work = internal.work.load(std::memory_order_seq_cst);
    if (!(work & kWorkPark) || (work & kWorkFatal)) break;
    if (work & kWorkFreeze) Cgroups::OnParked(task);
    SleepOnce(task, work & kWorkPause ? RunState::kStopped : RunState::kSleeping);
  }
  internal.parked.store(false, std::memory_order_relaxed);
}

}  // namespace sentry::kernel
