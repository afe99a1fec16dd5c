// SPDX-License-Identifier: Apache-2.0
#include "platform/ptrace/tracee.h"

#include <elf.h>
#include <errno.h>
#include <linux/audit.h>
#include <linux/rseq.h>
#include <linux/sched.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"

namespace platform::ptrace {
namespace {

constexpr uint64_t kUserCodeSelector = 0x33;
constexpr uint64_t kUserStackSelector = 0x2b;
constexpr uint64_t kInterruptFlag = 0x200;
constexpr int kMaxClearedSections = 16;
constexpr uint64_t kSyscallInstruction = 2;  // bytes of `syscall`
constexpr uint64_t kCloneThreadFlags =
    CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM | CLONE_UNTRACED;

// The raw call: glibc's wrapper is variadic and guesses what a peek returns.
long Ptrace(long request, pid_t tid, uint64_t address, uint64_t data) {
  return syscall(SYS_ptrace, request, tid, address, data);
}
template <typename T>
uint64_t Pointer(T* p) {
  return reinterpret_cast<uint64_t>(p);
}

}  // namespace

base::Result<void> Tracee::Attach() {
  CHECK_THAT(state_ == State::kUntraced);
  if (Ptrace(PTRACE_SEIZE, tid_, 0, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL) != 0) {
    base::Errno error = base::Errno::Last();
    if (error.number() == ESRCH) state_ = State::kDead;
    return error;
  }
  state_ = State::kAttached;
  if (Ptrace(PTRACE_INTERRUPT, tid_, 0, 0) != 0) {
    Lost();
    return base::Errno(ESRCH);
  }
  if (Wait().kind == Stop::Kind::kDead) return base::Errno(ESRCH);
  return base::OkResult();
}

void Tracee::Detach() {
  if (state_ != State::kAttached) return;
  Registers registers = {};
  SetCallRegisters(layout_.pause(), 0, {}, registers);
  if (!SetRegisters(registers).ok()) return;
  if (Ptrace(PTRACE_DETACH, tid_, 0, 0) != 0) {
    Lost();
    return;
  }
  state_ = State::kUntraced;
}

Stop Tracee::Wait() {
  for (;;) {
    int status;
    pid_t result = waitpid(tid_, &status, __WALL);
    if (result < 0 && errno == EINTR) continue;
    if (result < 0 || WIFEXITED(status) || WIFSIGNALED(status)) {
      state_ = State::kDead;
      killed_ = result < 0 || WIFSIGNALED(status);
      return {Stop::Kind::kDead};
    }
    if (!WIFSTOPPED(status)) continue;
    int signal = WSTOPSIG(status);
    if (signal == (SIGTRAP | 0x80)) return {Stop::Kind::kSyscall};
    if (status >> 16 != 0) return {Stop::Kind::kEvent};
    return {Stop::Kind::kSignal, signal};
  }
}

void Tracee::Lost() {
  // ESRCH means killed, not stopped: the exit status follows at once.
  while (state_ == State::kAttached) {
    if (Wait().kind == Stop::Kind::kDead) return;
    kill(pid_, SIGKILL);
  }
}

bool Tracee::GetRegisters(Registers& registers) {
  if (state_ != State::kAttached) return false;
  if (Ptrace(PTRACE_GETREGS, tid_, 0, Pointer(&registers)) == 0) [[likely]]
    return true;
  Lost();
  return false;
}

base::Result<void> Tracee::SetRegisters(const Registers& registers) {
  if (state_ != State::kAttached) return base::Errno(ESRCH);
  if (Ptrace(PTRACE_SETREGS, tid_, 0, Pointer(&registers)) == 0) [[likely]]
    return base::OkResult();
  base::Errno error = base::Errno::Last();
  if (error.number() == ESRCH) Lost();
  return error;
}

Stop Tracee::Resume(int request) {
  if (state_ != State::kAttached) return {Stop::Kind::kDead};
  if (Ptrace(request, tid_, 0, 0) != 0) {
    Lost();
    return {Stop::Kind::kDead};
  }
  return Wait();
}

bool Tracee::GetSignal(siginfo_t* info) {
  if (state_ != State::kAttached) return false;
  if (Ptrace(PTRACE_GETSIGINFO, tid_, 0, Pointer(info)) == 0) return true;
  if (errno == ESRCH) Lost();
  return false;
}

bool Tracee::IsCompatCall() {
  // Kernels before 5.3 lack the request: what can't be shown to be native is refused.
  __ptrace_syscall_info info = {};
  if (Ptrace(PTRACE_GET_SYSCALL_INFO, tid_, sizeof(info), Pointer(&info)) <= 0) return true;
  return info.arch != AUDIT_ARCH_X86_64;
}

bool Tracee::Peek(uint64_t address, uint64_t* value) {
  return Ptrace(PTRACE_PEEKDATA, tid_, address, Pointer(value)) == 0;
}

void Tracee::SetCallRegisters(uint64_t entry, uint64_t number, std::span<const uint64_t> arguments,
                              Registers& registers) {
  auto argument = [&](size_t i) { return i < arguments.size() ? arguments[i] : 0; };
  registers.cs = kUserCodeSelector;
  registers.ss = kUserStackSelector;
  registers.eflags = kInterruptFlag;
  registers.orig_rax = static_cast<uint64_t>(-1);  // no restart of an interrupted call
  registers.rip = entry;
  registers.rax = number;
  registers.rdi = argument(0);
  registers.rsi = argument(1);
  registers.rdx = argument(2);
  registers.r10 = argument(3);
  registers.r8 = argument(4);
  registers.r9 = argument(5);
}

base::Result<uint64_t> Tracee::Inject(uint64_t entry, uint64_t number, std::span<const uint64_t> arguments) {
  Registers registers = {};
  SetCallRegisters(entry, number, arguments, registers);
  if (!SetRegisters(registers).ok()) return base::Errno(ESRCH);
  stuck_ = false;
  int cleared = 0;
  for (;;) {
    Stop stop = Resume(rseq_.address != 0 ? PTRACE_SINGLESTEP : PTRACE_CONT);
    if (stop.kind == Stop::Kind::kDead) return base::Errno(ESRCH);
    if (stop.kind != Stop::Kind::kSignal) continue;
    if (stop.signal == SIGTRAP) {
      if (!GetRegisters(registers)) return base::Errno(ESRCH);
      if (!CallDone(entry, registers)) {
        if (rseq_.address == 0 || registers.rip == entry) continue;
        LOG_ERROR("ptrace platform: a guest moved its thread out of host call %lu by rseq; its process is killed",
                  number);
        KillProcess();
        return base::Errno(ESRCH);
      }
      if (registers.rax >= static_cast<uint64_t>(-4095)) return base::Errno(-static_cast<int>(registers.rax));
      return registers.rax;
    }
    // Kicks and signals sent by others are dropped; the call goes on or is restarted by the kernel. A synchronous one
    // can't come from the stub page: the stub is broken, and resuming would repeat it for ever.
    if (stop.signal == SIGSYS || stop.signal == SIGSEGV || stop.signal == SIGBUS || stop.signal == SIGILL) {
      siginfo_t info = {};
      if (GetSignal(&info) && info.si_code <= 0) continue;
      if (stop.signal == SIGSEGV && info.si_code == SI_KERNEL && rseq_.address != 0) {
        if (CheckStuck()) return base::Errno(EFAULT);
        // Another guest thread may put it back each time.
        if (++cleared <= kMaxClearedSections && ClearSection()) continue;
      }
      LOG_ERROR("ptrace platform: signal %d (code %d) in the stub during host call %lu", stop.signal, info.si_code,
                number);
      KillProcess();
      return base::Errno(ESRCH);
    }
  }
}

bool Tracee::CallDone(uint64_t entry, const Registers& registers) const {
  if (rseq_.address == 0) {
    return registers.rip == (entry == layout_.clone() ? layout_.clone_done() : layout_.call_done());
  }
  // A guest could jump there, but then rcx would not be what `syscall` leaves.
  return registers.rip == entry + kSyscallInstruction && registers.rcx == registers.rip;
}

base::Result<void> Tracee::SetRseq(const RseqArea& area) {
  const RseqArea old = rseq_;
  if (old.address != 0) {
    const uint64_t arguments[] = {old.address, old.length, RSEQ_FLAG_UNREGISTER, old.signature};
    // EFAULT: the fields could not be reset, and it stays registered.
    TRY(Call(SYS_rseq, arguments));
    rseq_ = {};
  }
  if (area.address == 0) return base::OkResult();
  const uint64_t arguments[] = {area.address, area.length, 0, area.signature};
  // From here on: at the end of this very call the thread may be in a critical section of the new area.
  rseq_ = area;
  base::Result<uint64_t> result = Call(SYS_rseq, arguments);
  if (result.ok()) return base::OkResult();
  rseq_ = {};
  return result.error();
}

bool Tracee::ClearSection() {
  return Ptrace(PTRACE_POKEDATA, tid_, rseq_.address + offsetof(struct rseq, rseq_cs), 0) == 0;
}

bool Tracee::CheckStuck() {
  stuck_ = false;
  if (rseq_.address == 0 || state_ != State::kAttached) return false;
  // The area's last word, which only the kernel writes, and it does not while the thread is stopped. Forced writes do
  // not get through a read-only shared mapping.
  const uint64_t last = rseq_.address + rseq_.length - sizeof(uint64_t);
  uint64_t word;
  stuck_ = !Peek(last, &word) || Ptrace(PTRACE_POKEDATA, tid_, last, word) != 0;
  return stuck_;
}

base::Result<pid_t> Tracee::CloneThread() {
  const uint64_t arguments[] = {kCloneThreadFlags};
  return static_cast<pid_t>(TRY(Inject(layout_.clone(), SYS_clone, arguments)));
}

void Tracee::Exit() {
  if (state_ != State::kAttached) return;
  // Linux kills a process one of whose threads has no writable area, too.
  if (rseq_.address != 0 && !SetRseq({}).ok()) {
    if (state_ == State::kAttached) KillProcess();
    return;
  }
  Registers registers = {};
  SetCallRegisters(layout_.call(), SYS_exit, {}, registers);
  if (!SetRegisters(registers).ok()) {
    if (state_ == State::kAttached) KillProcess();
    return;
  }
  while (Resume(PTRACE_CONT).kind != Stop::Kind::kDead) {
  }
}

void Tracee::KillProcess() {
  watch_.Remove(pid_);
  kill(pid_, SIGKILL);
  while (state_ == State::kAttached && Wait().kind != Stop::Kind::kDead) {
  }
}

size_t Tracee::GetVectorState(std::span<uint8_t> buffer) {
  if (state_ != State::kAttached) return 0;
  iovec iov = {.iov_base = buffer.data(), .iov_len = buffer.size()};
  if (Ptrace(PTRACE_GETREGSET, tid_, NT_X86_XSTATE, Pointer(&iov)) == 0) return iov.iov_len;
  // A CPU without XSAVE has the 512-byte FXSAVE image only.
  if (errno == ENODEV || errno == EINVAL) {
    if (buffer.size() >= 512 && Ptrace(PTRACE_GETFPREGS, tid_, 0, Pointer(buffer.data())) == 0) return 512;
  }
  if (errno == ESRCH) Lost();
  return 0;
}

base::Result<void> Tracee::SetVectorState(std::span<const uint8_t> image) {
  if (state_ != State::kAttached) return base::Errno(ESRCH);
  iovec iov = {.iov_base = const_cast<uint8_t*>(image.data()), .iov_len = image.size()};
  long result = Ptrace(PTRACE_SETREGSET, tid_, NT_X86_XSTATE, Pointer(&iov));
  if (result != 0 && errno == ENODEV && image.size() == 512) {
    result = Ptrace(PTRACE_SETFPREGS, tid_, 0, Pointer(image.data()));
  }
  if (result == 0) return base::OkResult();
  if (errno != ESRCH) return base::Errno(EINVAL);
  Lost();
  return base::Errno(ESRCH);
}

base::Result<void> Tracee::SetDebugRegisters(std::span<const uint64_t, 8> values) {
  if (state_ != State::kAttached) return base::Errno(EIO);
  auto poke = [&](size_t i, uint64_t value) {
    if (Ptrace(PTRACE_POKEUSER, tid_, offsetof(struct user, u_debugreg) + i * sizeof(uint64_t), value) != 0)
      return false;
    debug_[i] = value;
    return true;
  };
  // Off while addresses change: the kernel checks each against the kind and length that DR7 has for it then. An address
  // that was never set stays so, because setting one takes one of the CPU's registers.
  bool ok = debug_[7] == 0 || poke(7, 0);
  for (size_t i = 0; i < 4 && ok; ++i) ok = values[i] == debug_[i] || poke(i, values[i]);
  // The CPU has changed DR6 since.
  ok = ok && poke(6, values[6]) && (values[7] == 0 || poke(7, values[7]));
  if (ok) return base::OkResult();
  LOG_WARNING("ptrace platform: the host refuses debug registers (DR7 %#lx): %s", values[7],
              base::Errno::Last().Name());
  return base::Errno(EIO);
}

uint64_t Tracee::DebugStatus() {
  uint64_t value;
  if (state_ != State::kAttached ||
      Ptrace(PTRACE_PEEKUSER, tid_, offsetof(struct user, u_debugreg[6]), Pointer(&value)) != 0) {
    return kDebugStatusInitial;
  }
  return value;
}

}  // namespace platform::ptrace
