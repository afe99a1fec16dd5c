// SPDX-License-Identifier: Apache-2.0
#include "sentry/kernel/seccomp.h"

#include <asm/unistd.h>
#include <linux/audit.h>
#include <sys/ptrace.h>

#include <algorithm>

#include "base/log.h"
#include "sentry/kernel/ptrace.h"
#include "sentry/kernel/seccomp_listener.h"
#include "sentry/kernel/task_internal.h"

namespace sentry::kernel {
namespace {

constexpr int kMaxErrno = 4095;
constexpr uint32_t kSuspendOption = 1 << 21;  // PTRACE_O_SUSPEND_SECCOMP

TaskSet& Tasks() { return Kernel::Get().tasks(); }

bool IsAncestor(const SeccompFilter* ancestor, const SeccompFilter* of) {
  for (; of; of = of->previous()) {
    if (of == ancestor) return true;
  }
  return ancestor == nullptr;
}

bool HasOpenListener(const SeccompFilter* leaf) {
  for (; leaf; leaf = leaf->previous()) {
    if (leaf->listener() && !leaf->listener()->IsClosed()) return true;
  }
  return false;
}

// T held. What the task had is given back to the caller, to be let go without T.
RefPtr<SeccompFilter> InstallLocked(Task& task, const RefPtr<SeccompFilter>& filter) {
  SeccompState& state = task.internal().seccomp;
  filter->AddUser();
  RefPtr<SeccompFilter> former = std::exchange(state.owner, filter);
  state.filter.store(filter.get(), std::memory_order_release);
  state.mode.store(SECCOMP_MODE_FILTER, std::memory_order_release);
  Task::Internal::WithdrawAnswers(task);
  return former;
}

// T held: a thread that cannot take over the caller's filters, 0 when all can.
pid_t FirstUnsyncable(Task& task) {
  const SeccompFilter* own = task.internal().seccomp.filter.load(std::memory_order_relaxed);
  for (const RefPtr<Task>& thread : task.group().state().threads) {
    if (thread.get() == &task || thread->internal().signals_detached) continue;
    const SeccompState& its = thread->internal().seccomp;
    int mode = its.mode.load(std::memory_order_relaxed);
    if (mode == SECCOMP_MODE_DISABLED) continue;
    if (mode == SECCOMP_MODE_FILTER && IsAncestor(its.filter.load(std::memory_order_relaxed), own)) continue;
    return thread->TidIn(task.pid_ns());
  }
  return 0;
}

Result<pid_t> Attach(Task& task, uint64_t flags, const RefPtr<SeccompFilter>& filter) {
  std::vector<RefPtr<SeccompFilter>> former;
  pid_t failed = 0;
  {
    MutexLock lock(Tasks().mu());
    SeccompState& state = task.internal().seccomp;
    if (state.mode.load() == SECCOMP_MODE_STRICT) return Errno(EINVAL);
    if ((flags & SECCOMP_FILTER_FLAG_NEW_LISTENER) && HasOpenListener(state.owner.get())) return Errno(EBUSY);
    const bool sync = flags & SECCOMP_FILTER_FLAG_TSYNC;
    TRY(filter->Chain(state.owner));
    if (sync) failed = FirstUnsyncable(task);
    if (failed == 0) {
      // The task's use of its former leaf is the new filter's from now on.
      (void)InstallLocked(task, filter);
      for (const RefPtr<Task>& thread : task.group().state().threads) {
        if (!sync || thread.get() == &task || thread->internal().signals_detached) continue;
        if (task.no_new_privs.load()) thread->no_new_privs.store(true);
        former.push_back(InstallLocked(*thread, filter));
      }
    }
  }
  for (const RefPtr<SeccompFilter>& each : former) {
    if (each) each->RemoveUser();
  }
  if (failed != 0 && (flags & SECCOMP_FILTER_FLAG_TSYNC_ESRCH)) return Errno(ESRCH);
  return failed;
}

// As force_sig_seccomp(): SIGSYS that cannot be blocked or ignored.
void ForceSigsys(Task& task, const seccomp_data& data, uint32_t reason) {
  SignalInfo info = {};
  info.si_signo = SIGSYS;
  info.si_code = 1;  // SYS_SECCOMP
  info.si_errno = static_cast<int>(reason);
  info.si_call_addr = reinterpret_cast<void*>(data.instruction_pointer);
  info.si_syscall = data.nr;
  info.si_arch = data.arch;
  task.ForceSignal(info);
}

void Log(Task& task, const seccomp_data& data, const char* what) {
  LOG_INFO("seccomp: %s: task %d (%s), system call %d", what, task.tid(), task.name().c_str(), data.nr);
}

void KillThread(Task& task, int signal) {
  bool alone;
  {
    SignalLock lock(task.group());
    alone = task.group().state().live_threads == 1;
  }
  if (alone) {
    task.group().Exit({.signal = signal});
  } else {
    task.internal().exit_signal = signal;
    task.RequestExit(0);
  }
}

bool StrictAllows(Task& task, const seccomp_data& data) {
  for (int allowed : {__NR_read, __NR_write, __NR_exit, __NR_rt_sigreturn}) {
    if (data.nr == allowed) return true;
  }
  Log(task, data, "killed in strict mode");
  KillThread(task, SIGKILL);
  return false;
}

seccomp_data DataOf(const Registers& regs) {
  return {.nr = static_cast<int>(regs.orig_rax),
          .arch = AUDIT_ARCH_X86_64,
          .instruction_pointer = regs.rip,
          .args = {regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9}};
}

void SetResult(Registers& regs, int64_t result) { regs.rax = static_cast<uint64_t>(result); }

bool AskSupervisor(Task& task, const SeccompFilter& filter, const seccomp_data& data) {
  Registers& regs = task.regs();
  SetResult(regs, -ENOSYS);
  if (!filter.listener()) return false;
  auto reply = filter.listener()->Ask(task, data, filter.wait_killable());
  if (!reply.ok()) {
    SetResult(regs, -int64_t{reply.error().number()});
    return false;
  }
  if (reply->proceed) return true;
  SetResult(regs, reply->error ? reply->error : reply->value);
  return false;
}

bool FiltersAllow(Task& task, bool after_trace);

// PTRACE_EVENT_SECCOMP: the tracer may change the call, which is looked at again then.
bool AskTracer(Task& task, uint32_t message) {
  Registers& regs = task.regs();
  SetResult(regs, -ENOSYS);
  const PtraceState& ptrace = *task.ptrace();
  if (!IsTraced(task) || !(ptrace.options.load(std::memory_order_relaxed) & PTRACE_O_TRACESECCOMP)) return false;
  Task::Internal::PtraceEvent(task, PTRACE_EVENT_SECCOMP, message);
  if (task.internal().work.load(std::memory_order_acquire) & kWorkFatal) return false;
  if (static_cast<int>(regs.orig_rax) < 0) return false;
  return FiltersAllow(task, true);
}

bool FiltersAllow(Task& task, bool after_trace) {
  Registers& regs = task.regs();
  const SeccompFilter* leaf = task.internal().seccomp.filter.load(std::memory_order_acquire);
  if (leaf->AlwaysAllows(static_cast<uint32_t>(regs.orig_rax))) return true;
  const seccomp_data data = DataOf(regs);
  const SeccompFilter* by = nullptr;
  const uint32_t verdict = leaf->Run(data, &by);
  const uint32_t reason = verdict & SECCOMP_RET_DATA;
  switch (verdict & SECCOMP_RET_ACTION_FULL) {
    case SECCOMP_RET_ALLOW:
      return true;
    case SECCOMP_RET_LOG:
      Log(task, data, "logged");
      return true;
    case SECCOMP_RET_ERRNO:
      SetResult(regs, -int64_t{std::min<int>(static_cast<int>(reason), kMaxErrno)});
      return false;
    case SECCOMP_RET_TRAP:
      // The handler finds the call's number in rax, and may make the call itself.
      regs.rax = regs.orig_rax;
      ForceSigsys(task, data, reason);
      return false;
    case SECCOMP_RET_TRACE:
      return after_trace || AskTracer(task, reason);
    case SECCOMP_RET_USER_NOTIF:
      return AskSupervisor(task, *by, data);
    case SECCOMP_RET_KILL_THREAD:
      Log(task, data, "thread killed");
      KillThread(task, SIGSYS);
      return false;
    default:
      Log(task, data, "process killed");
      task.group().Exit({.signal = SIGSYS});
      return false;
  }
}

}  // namespace

Result<void> SetSeccompStrict(Task& task) {
  MutexLock lock(Tasks().mu());
  SeccompState& state = task.internal().seccomp;
  if (state.mode.load() == SECCOMP_MODE_FILTER) return Errno(EINVAL);
  state.mode.store(SECCOMP_MODE_STRICT);
  Task::Internal::WithdrawAnswers(task);
  return OkResult();
}

Result<void> CheckMayAddSeccompFilter(const Task& task) {
  if (task.no_new_privs.load(std::memory_order_relaxed) || task.HasOwnCapability(CAP_SYS_ADMIN)) return OkResult();
  return Errno(EACCES);
}

Result<int64_t> AddSeccompFilter(Task& task, uint64_t flags, std::vector<bpf::Instruction> program) {
  RefPtr<SeccompFilter> filter = TRY(SeccompFilter::Create(std::move(program), flags));
  if (!(flags & SECCOMP_FILTER_FLAG_NEW_LISTENER)) return TRY(Attach(task, flags, filter));
  auto listener = MakeRef<SeccompListener>();
  filter->SetListener(listener);
  int fd = TRY(task.fds().Add(NewSeccompListenerFile(listener), /*close_on_exec=*/true, task.SoftLimit(RLIMIT_NOFILE)));
  Result<pid_t> attached = Attach(task, flags, filter);
  if (attached.ok() && *attached == 0) return fd;
  (void)task.fds().Close(fd);
  return TRY(attached);
}

bool SeccompAllows(Task& task) {
  const PtraceState& ptrace = *task.ptrace();
  if (IsTraced(task) && (ptrace.options.load(std::memory_order_relaxed) & kSuspendOption)) return true;
  if (task.internal().seccomp.mode.load(std::memory_order_acquire) == SECCOMP_MODE_STRICT) {
    return StrictAllows(task, DataOf(task.regs()));
  }
  return FiltersAllow(task, false);
}

void StartWithSeccompFilter(Task& task, RefPtr<SeccompFilter> filter) { (void)InstallLocked(task, filter); }

void InheritSeccomp(Task& parent, Task& child) {
  SeccompState& from = parent.internal().seccomp;
  // Another thread may have synchronised the parent since the child was made.
  child.no_new_privs.store(parent.no_new_privs.load());
  if (from.owner) (void)InstallLocked(child, from.owner);
  child.internal().seccomp.mode.store(from.mode.load());
}

void ReleaseSeccomp(Task& task) {
  RefPtr<SeccompFilter> former;
  {
    MutexLock lock(Tasks().mu());
    SeccompState& state = task.internal().seccomp;
    state.filter.store(nullptr);
    former = std::move(state.owner);
  }
  if (former) former->RemoveUser();
}

SeccompStatus SeccompStatusOf(Task& task) {
  MutexLock lock(Tasks().mu());
  const SeccompState& state = task.internal().seccomp;
  return {.mode = state.mode.load(), .filters = state.owner ? state.owner->depth() : 0};
}

Result<RefPtr<SeccompFilter>> NthSeccompFilter(Task& task, uint64_t index) {
  MutexLock lock(Tasks().mu());
  const SeccompState& state = task.internal().seccomp;
  if (state.mode.load() != SECCOMP_MODE_FILTER) return Errno(EINVAL);
  RefPtr<SeccompFilter> at = state.owner;
  if (!at || index >= at->depth()) return Errno(ENOENT);
  while (at->depth() != index + 1) at = RefPtr<SeccompFilter>(const_cast<SeccompFilter*>(at->previous()));
  return at;
}

}  // namespace sentry::kernel
