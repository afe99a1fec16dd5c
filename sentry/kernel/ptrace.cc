// SPDX-License-Identifier: Apache-2.0
// The tracer's side of ptrace(2). A tracee's registers and vector state are touched only while it is in a ptrace-stop
// and the TaskSet mutex is held: it cannot leave the stop without that mutex. Guest memory is copied outside the mutex.
#include "sentry/kernel/ptrace.h"

#include <elf.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/user.h>

#include <algorithm>
#include <cstring>

#include "sentry/kernel/ptrace_inspect.h"
#include "sentry/kernel/task_internal.h"

namespace sentry::kernel {
namespace {

constexpr uint64_t kSysemu = 31, kSysemuSinglestep = 32, kArchPrctl = 30;
constexpr uint32_t kSuspendSeccomp = 1 << 21;
constexpr uint32_t kAllOptions = 0xff | PTRACE_O_EXITKILL | kSuspendSeccomp;
constexpr uint64_t kUserFlags = 0x50dd5;  // eflags that a tracer may set
constexpr size_t kLegacyFpu = 512;
constexpr size_t kDebugOffset = offsetof(struct user, u_debugreg);
constexpr uint64_t kDebugControlReserved = 0xffff'ffff'0000'fc00;
constexpr uint64_t kDebugStatusUser = 0xe00f;  // four breakpoints, single step, task switch, debug registers touched

TaskSet& Tasks() { return Kernel::Get().tasks(); }

bool SameIds(const Credentials& by, const Credentials& its) {
  return by.ruid == its.euid && by.ruid == its.suid && by.ruid == its.ruid && by.rgid == its.egid &&
         by.rgid == its.sgid && by.rgid == its.rgid;
}

Result<RefPtr<Task>> Find(Task& task, pid_t pid) {
  RefPtr<Task> target = Tasks().FindTask(task.pid_ns(), pid);
  if (!target || target->IsExited()) return Errno(ESRCH);
  return target;
}

Result<void> CheckStopped(Task& task, Task& tracee) { return CheckPtraceStopped(task, tracee); }

// PTRACE_O_*: EINVAL for bits that are none, EPERM for who may not suspend seccomp.
Result<void> CheckOptions(Task& task, uint64_t options) {
  if (options & ~uint64_t{kAllOptions}) return Errno(EINVAL);
  if (!(options & kSuspendSeccomp)) return {};
  PtraceState& own = *task.ptrace();
  const bool suspended = own.tracer.load() && (own.options.load() & kSuspendSeccomp);
  const bool filtered = task.internal().seccomp.mode.load() != SECCOMP_MODE_DISABLED;
  if (!task.HasCapability(CAP_SYS_ADMIN) || filtered || suspended) return Errno(EPERM);
  return {};
}

void AttachLocked(Task& tracer, Task& tracee, bool seized, uint32_t options) {
  PtraceState& state = *tracee.ptrace();
  state.seized.store(seized);
  state.options.store(options);
  state.tracer.store(&tracer, std::memory_order_release);
  tracer.ptrace()->tracees.insert(&tracee);
}

void DetachLocked(Task& tracer, Task& tracee) {
  PtraceState& state = *tracee.ptrace();
  tracer.ptrace()->tracees.erase(&tracee);
  state.tracer.store(nullptr);
  state.options.store(0);
  state.interrupt = state.single_step = state.emulate = false;
  tracee.internal().trace_syscalls.store(false);
}

// landlock(7): a restricted thread may trace only what is restricted at least as it is.
bool InLandlockScope(const Task& by, const Task& target) {
  RefPtr<vfs::LandlockDomain> own = Task::Internal::LandlockOf(by);
  RefPtr<vfs::LandlockDomain> its = Task::Internal::LandlockOf(target);
  return !own || own->IsAncestorOf(its.get());
}

Result<int64_t> TraceMe(Task& task) {
  RefPtr<vfs::LandlockDomain> own = Task::Internal::LandlockOf(task), its;  // not to be let go under the lock
  MutexLock lock(Tasks().mu());
  Task* parent = task.group().state().parent;
  if (task.ptrace()->tracer.load() || !parent) return Errno(EPERM);
  its = Task::Internal::LandlockOf(*parent);
  if (its && !its->IsAncestorOf(own.get())) return Errno(EPERM);
  AttachLocked(*parent, task, false, 0);
  return 0;
}

Result<int64_t> Attach(Task& task, Task& target, bool seize, uint64_t address, uint64_t data) {
  if (seize && (address != 0 || (data & ~uint64_t{kAllOptions}))) return Errno(EIO);
  if (seize) TRY(CheckOptions(task, data));
  if (&target.group() == &task.group()) return Errno(EPERM);
  TRY(CheckPtraceAccess(task, target));
  {
    MutexLock lock(Tasks().mu());
    if (target.ptrace()->tracer.load() || target.IsExited()) return Errno(EPERM);
    AttachLocked(task, target, seize, seize ? static_cast<uint32_t>(data) : 0);
  }
  if (!seize) (void)target.SendSignal(UserSignal(SIGSTOP, 0, 0));
  // One that sleeps in a group stop reports it now.
  Task::Internal::Kick(target);
  return 0;
}

Result<int64_t> Interrupt(Task& task, Task& target) {
  MutexLock lock(Tasks().mu());
  PtraceState& state = *target.ptrace();
  if (state.tracer.load() != &task) return Errno(ESRCH);
  if (!state.seized.load()) return Errno(EIO);
  if (state.stopped && !state.listening) return 0;
  state.interrupt.store(true);
  Task::Internal::AddWork(target, kWorkStop);
  return 0;
}

Result<int64_t> Resume(Task& task, Task& target, uint64_t request, uint64_t data) {
  if (data > static_cast<uint64_t>(kSignalMax)) return Errno(EIO);
  MutexLock lock(Tasks().mu());
  TRY(CheckStopped(task, target));
  PtraceState& state = *target.ptrace();
  bool step = request == PTRACE_SINGLESTEP || request == kSysemuSinglestep;
  bool emulate = request == kSysemu || request == kSysemuSinglestep;
  state.single_step.store(step);
  state.emulate.store(emulate);
  target.internal().trace_syscalls.store(request == PTRACE_SYSCALL || emulate);
  state.resume_signal = static_cast<int>(data);
  if (request == PTRACE_DETACH) DetachLocked(task, target);
  state.stopped = state.waitable = false;
  Task::Internal::Kick(target);
  return 0;
}

Result<int64_t> Listen(Task& task, Task& target) {
  MutexLock lock(Tasks().mu());
  TRY(CheckStopped(task, target));
  PtraceState& state = *target.ptrace();
  if (!state.seized.load() || (state.status & ~0x7f) != kPtraceEventStop) return Errno(EIO);
  state.listening = true;
  Task::Internal::Kick(target);
  return 0;
}

// What a tracer may store; the rest of the machine state stays the kernel's.
Result<void> StoreRegisters(Task& target, const Registers& from) {
  if (from.fs_base >= platform::kGuestAddressLimit || from.gs_base >= platform::kGuestAddressLimit) return Errno(EIO);
  // set_segment_reg(): a selector is null or asks for ring 3, and code and stack need one.
  for (uint64_t selector : {from.cs, from.ss, from.ds, from.es, from.fs, from.gs}) {
    if ((selector & 0xffff) != 0 && (selector & 3) != 3) return Errno(EIO);
  }
  if ((from.cs & 0xffff) == 0 || (from.ss & 0xffff) == 0) return Errno(EIO);
  Registers& regs = target.regs();
  Registers checked = from;
  checked.cs = 0x33, checked.ss = 0x2b;
  checked.ds = regs.ds, checked.es = regs.es, checked.fs = regs.fs, checked.gs = regs.gs;
  checked.eflags = (regs.eflags & ~kUserFlags) | (from.eflags & kUserFlags);
  if (checked.rip >= platform::kGuestAddressLimit) return Errno(EIO);
  regs = checked;
  return {};
}

Result<uint64_t> PeekUser(Task& task, Task& target, uint64_t offset) {
  if (offset % 8 || offset >= sizeof(struct user)) return Errno(EIO);
  MutexLock lock(Tasks().mu());
  TRY(CheckStopped(task, target));
  if (offset >= kDebugOffset) return target.ptrace()->debug[(offset - kDebugOffset) / 8];
  if (offset >= sizeof(Registers)) return 0;
  uint64_t value;
  memcpy(&value, reinterpret_cast<const char*>(&target.regs()) + offset, sizeof value);
  return value;
}

// Nothing outside the guest's memory may be watched: the stub's code is above it. EINVAL, as the host's kernel says.
Result<void> CheckDebugRegisters(const std::array<uint64_t, 8>& debug) {
  for (unsigned i = 0; i < 4; ++i) {
    if (debug[i] >= platform::kGuestAddressLimit) return Errno(EINVAL);
    if (!(debug[7] >> (2 * i) & 3)) continue;
    const uint64_t control = debug[7] >> (16 + 4 * i), kind = control & 3, mask = control >> 2 & 3;
    // Kinds: 0 instruction, 1 write, 2 input and output (none here), 3 read or write. Lengths: 1, 2, 8, 4.
    const uint64_t length = mask == 2 ? 8 : mask + 1;
    if (kind == 2 || (kind == 0 && length != 1) || debug[i] % length) return Errno(EINVAL);
  }
  return {};
}

// T held, stopped.
Result<int64_t> StoreDebugRegister(PtraceState& state, size_t index, uint64_t value) {
  if (index == 4 || index == 5) return Errno(EIO);
  std::array<uint64_t, 8> debug = state.debug;
  debug[index] = index == 7 ? value & ~kDebugControlReserved : value;
  if (index == 6) debug[6] = (value & kDebugStatusUser) | (platform::kDebugStatusInitial & ~kDebugStatusUser);
  TRY(CheckDebugRegisters(debug));
  state.debug = debug;
  state.debug_changed = true;
  return 0;
}

Result<int64_t> PokeUser(Task& task, Task& target, uint64_t offset, uint64_t value) {
  if (offset % 8 || offset >= sizeof(struct user)) return Errno(EIO);
  if (offset == kDebugOffset + 7 * 8 && value != 0) {
    // Only the tracee's own thread can load its registers, when it leaves the stop. Whether the host has any is found
    // out on the tracer's own, which doesn't run meanwhile.
    static std::atomic<bool> host_works{false};
    if (!host_works.load(std::memory_order_relaxed)) {
      std::array<uint64_t, 8> probe = PtraceState::kDebugInitial;
      probe[0] = platform::kGuestAddressMin;
      probe[7] = 0x1'0001;  // the first: one byte, writes
      Result<void> probed = task.context().SetDebugRegisters(probe);
      std::array<uint64_t, 8> own;
      {
        MutexLock lock(Tasks().mu());
        own = task.ptrace()->debug;
      }
      (void)task.context().SetDebugRegisters(own);
      if (!probed.ok()) return Errno(EIO);
      host_works.store(true, std::memory_order_relaxed);
    }
  }
  MutexLock lock(Tasks().mu());
  TRY(CheckStopped(task, target));
  if (offset >= kDebugOffset) return StoreDebugRegister(*target.ptrace(), (offset - kDebugOffset) / 8, value);
  if (offset >= sizeof(Registers)) return Errno(EIO);
  Registers regs = target.regs();
  memcpy(reinterpret_cast<char*>(&regs) + offset, &value, sizeof value);
  TRY(StoreRegisters(target, regs));
  return 0;
}

Result<int64_t> GetRegisterSet(Task& task, Task& target, uint64_t kind, UserAddr vector_address) {
  auto vector = TRY(task.CopyIn<iovec>(vector_address));
  std::vector<uint8_t> image;
  {
    MutexLock lock(Tasks().mu());
    TRY(CheckStopped(task, target));
    PtraceState& state = *target.ptrace();
    switch (kind) {
      case NT_PRSTATUS:
        image.resize(sizeof(Registers));
        memcpy(image.data(), &target.regs(), sizeof(Registers));
        break;
      case NT_PRFPREG:
        image.assign(state.fpu.begin(), state.fpu.begin() + static_cast<long>(std::min(kLegacyFpu, state.fpu.size())));
        break;
      case NT_X86_XSTATE: {
        image = state.fpu;
        // Where debuggers look for XCR0 (the components in the image).
        uint64_t features = 3 | (state.fpu.size() > 576 ? 4 : 0);
        if (image.size() >= kLegacyFpu) memcpy(image.data() + 464, &features, sizeof features);
        break;
      }
      default:
        return Errno(EINVAL);
    }
  }
  if (image.empty()) return Errno(ENODEV);
  size_t length = std::min(image.size(), vector.iov_len);
  TRY(task.CopyOutBytes(UserAddr(reinterpret_cast<uint64_t>(vector.iov_base)), image.data(), length));
  vector.iov_len = length;
  TRY(task.CopyOut(vector_address, vector));
  return 0;
}

// T held, stopped.
Result<void> StoreFpu(Task& target, const std::vector<uint8_t>& image, bool legacy) {
  PtraceState& state = *target.ptrace();
  if (image.size() > state.fpu.size() || image.size() < kLegacyFpu) return Errno(EINVAL);
  std::copy(image.begin(), image.end(), state.fpu.begin());
  memset(state.fpu.data() + 464, 0, 48);
  if (legacy && state.fpu.size() >= 576) state.fpu[512] |= 3;
  state.fpu_changed = true;
  return {};
}

Result<int64_t> SetRegisterSet(Task& task, Task& target, uint64_t kind, UserAddr vector_address) {
  auto vector = TRY(task.CopyIn<iovec>(vector_address));
  size_t length = std::min<size_t>(vector.iov_len, 1 << 16);
  std::vector<uint8_t> image(length);
  if (length) TRY(task.CopyInBytes(UserAddr(reinterpret_cast<uint64_t>(vector.iov_base)), image.data(), length));
  MutexLock lock(Tasks().mu());
  TRY(CheckStopped(task, target));
  switch (kind) {
    case NT_PRSTATUS: {
      if (length % 8) return Errno(EINVAL);
      Registers regs = target.regs();
      memcpy(&regs, image.data(), std::min(length, sizeof regs));
      TRY(StoreRegisters(target, regs));
      return 0;
    }
    case NT_PRFPREG:
      if (length != kLegacyFpu) return Errno(EINVAL);
      TRY(StoreFpu(target, image, true));
      return 0;
    case NT_X86_XSTATE:
      TRY(StoreFpu(target, image, false));
      return 0;
    default:
      return Errno(EINVAL);
  }
}

Result<int64_t> Peek(Task& task, Task& target, uint64_t address, UserAddr to) {
  {
    MutexLock lock(Tasks().mu());
    TRY(CheckStopped(task, target));
  }
  RefPtr<mm::MemoryManager> mm = target.mm_ref();
  uint64_t value;
  if (!mm || mm->CopyIn(UserAddr(address), &value, sizeof value, true).value_or(0) != sizeof value) return Errno(EIO);
  TRY(task.CopyOut(to, value));
  return 0;
}

Result<int64_t> Poke(Task& task, Task& target, uint64_t address, uint64_t value) {
  {
    MutexLock lock(Tasks().mu());
    TRY(CheckStopped(task, target));
  }
  RefPtr<mm::MemoryManager> mm = target.mm_ref();
  if (!mm || mm->CopyOut(UserAddr(address), &value, sizeof value, true).value_or(0) != sizeof value) return Errno(EIO);
  return 0;
}

}  // namespace

Result<void> CheckPtraceAccess(const Task& by, Task& target) {
  if (&by.group() == &target.group()) return {};
  RefPtr<const Credentials> own = by.creds_ref();
  RefPtr<const Credentials> its = target.creds_ref();
  if (!own || !its) return Errno(ESRCH);
  if (!InLandlockScope(by, target)) return Errno(EPERM);
  if (own->HasCapabilityIn(its->user_ns, CAP_SYS_PTRACE)) return {};
  if (!SameIds(*own, *its)) return Errno(EPERM);
  RefPtr<mm::MemoryManager> mm = target.mm_ref();
  if (mm && mm->dumpable.load(std::memory_order_relaxed) != 1) return Errno(EPERM);
  // A tracer gets what its tracee may do.
  const bool same_ns = !own->user_ns || !its->user_ns || own->user_ns->IsSame(*its->user_ns);
  if (!same_ns || (its->permitted & ~own->permitted)) return Errno(EPERM);
  return {};
}

Result<int64_t> Ptrace(Task& task, uint64_t request, pid_t pid, uint64_t address, uint64_t data) {
  if (request == PTRACE_TRACEME) return TraceMe(task);
  RefPtr<Task> found = TRY(Find(task, pid));
  Task& target = *found;
  UserAddr to(data);
  switch (request) {
    case PTRACE_ATTACH:
      return Attach(task, target, false, 0, 0);
    case PTRACE_SEIZE:
      return Attach(task, target, true, address, data);
    case PTRACE_INTERRUPT:
      return Interrupt(task, target);
    case PTRACE_LISTEN:
      return Listen(task, target);
    case PTRACE_KILL: {
      {
        MutexLock lock(Tasks().mu());
        if (target.ptrace()->tracer.load() != &task) return Errno(ESRCH);
      }
      (void)target.SendSignal(KernelSignal(SIGKILL));
      return 0;
    }
    case PTRACE_CONT:
    case PTRACE_SYSCALL:
    case PTRACE_SINGLESTEP:
    case PTRACE_DETACH:
    case kSysemu:
    case kSysemuSinglestep:
      return Resume(task, target, request, data);
    case PTRACE_PEEKTEXT:
    case PTRACE_PEEKDATA:
      return Peek(task, target, address, to);
    case PTRACE_POKETEXT:
    case PTRACE_POKEDATA:
      return Poke(task, target, address, data);
    case PTRACE_PEEKUSER: {
      uint64_t value = TRY(PeekUser(task, target, address));
      TRY(task.CopyOut(to, value));
      return 0;
    }
    case PTRACE_POKEUSER:
      return PokeUser(task, target, address, data);
    case PTRACE_GETREGSET:
      return GetRegisterSet(task, target, address, to);
    case PTRACE_SETREGSET:
      return SetRegisterSet(task, target, address, to);
    default:
      if (IsPtraceInspection(request)) return PtraceInspect(task, target, request, address, data);
      break;
  }

  // The rest copies fixed structures: in before, out after the mutex.
  PtraceState& state = *target.ptrace();
  switch (request) {
    case PTRACE_GETREGS:
    case PTRACE_GETFPREGS:
    case PTRACE_GETSIGINFO:
    case PTRACE_GETEVENTMSG:
    case PTRACE_GETSIGMASK: {
      std::vector<uint8_t> out;
      auto give = [&](const void* from, size_t length) {
        out.assign(static_cast<const uint8_t*>(from), static_cast<const uint8_t*>(from) + length);
      };
      {
        MutexLock lock(Tasks().mu());
        TRY(CheckStopped(task, target));
        if (request == PTRACE_GETREGS) {
          give(&target.regs(), sizeof(Registers));
        } else if (request == PTRACE_GETFPREGS) {
          if (state.fpu.size() < kLegacyFpu) return Errno(EIO);
          give(state.fpu.data(), kLegacyFpu);
        } else if (request == PTRACE_GETSIGINFO) {
          if (!state.has_info) return Errno(EINVAL);
          give(&state.info, sizeof state.info);
        } else if (request == PTRACE_GETEVENTMSG) {
          give(&state.message, sizeof state.message);
        } else {
          if (address != sizeof(SignalSet)) return Errno(EINVAL);
          SignalSet mask = target.internal().saved_mask.value_or(target.signal_mask());
          give(&mask, sizeof mask);
        }
      }
      TRY(task.CopyOutBytes(to, out.data(), out.size()));
      return 0;
    }
    case PTRACE_SETREGS: {
      auto regs = TRY(task.CopyIn<Registers>(to));
      MutexLock lock(Tasks().mu());
      TRY(CheckStopped(task, target));
      TRY(StoreRegisters(target, regs));
      return 0;
    }
    case PTRACE_SETFPREGS: {
      std::vector<uint8_t> image(kLegacyFpu);
      TRY(task.CopyInBytes(to, image.data(), image.size()));
      MutexLock lock(Tasks().mu());
      TRY(CheckStopped(task, target));
      TRY(StoreFpu(target, image, true));
      return 0;
    }
    case PTRACE_SETSIGINFO: {
      auto info = TRY(task.CopyIn<SignalInfo>(to));
      MutexLock lock(Tasks().mu());
      TRY(CheckStopped(task, target));
      if (!state.has_info) return Errno(EINVAL);
      state.info = info;
      return 0;
    }
    case PTRACE_SETSIGMASK: {
      if (address != sizeof(SignalSet)) return Errno(EINVAL);
      auto mask = TRY(task.CopyIn<SignalSet>(to));
      MutexLock lock(Tasks().mu());
      TRY(CheckStopped(task, target));
      SignalLock signal_lock(target.group());
      Task::Internal::SetMaskLocked(target, mask);
      return 0;
    }
    case PTRACE_SETOPTIONS: {
      MutexLock lock(Tasks().mu());
      TRY(CheckStopped(task, target));
      TRY(CheckOptions(task, data));
      state.options.store(static_cast<uint32_t>(data));
      return 0;
    }
    case kArchPrctl: {
      constexpr uint64_t kSetGs = 0x1001, kSetFs = 0x1002, kGetFs = 0x1003, kGetGs = 0x1004;
      uint64_t value = 0;
      {
        MutexLock lock(Tasks().mu());
        TRY(CheckStopped(task, target));
        Registers& regs = target.regs();
        if (data == kSetFs || data == kSetGs) {
          if (address >= platform::kGuestAddressLimit) return Errno(EPERM);
          (data == kSetFs ? regs.fs_base : regs.gs_base) = address;
          return 0;
        }
        if (data != kGetFs && data != kGetGs) return Errno(EINVAL);
        value = data == kGetFs ? regs.fs_base : regs.gs_base;
      }
      TRY(task.CopyOut(UserAddr(address), value));
      return 0;
    }
    default: {
      MutexLock lock(Tasks().mu());
      TRY(CheckStopped(task, target));
      return Errno(EIO);
    }
  }
}

}  // namespace sentry::kernel
