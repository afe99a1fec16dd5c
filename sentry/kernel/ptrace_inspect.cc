// SPDX-License-Identifier: Apache-2.0
#include "sentry/kernel/ptrace_inspect.h"

#include <linux/audit.h>
#include <linux/ptrace.h>

#include <algorithm>
#include <cstring>

#include "sentry/kernel/ptrace.h"
#include "sentry/kernel/task_internal.h"

namespace sentry::kernel {
namespace {

TaskSet& Tasks() { return Kernel::Get().tasks(); }

// A tracer that never looks at more than this at once gets the rest by asking again, as it must with Linux's own limit
// of what is queued.
constexpr int32_t kMaxPeeked = 1024;

Result<int64_t> GetSyscallInfo(Task& task, Task& target, uint64_t size, UserAddr to) {
  ptrace_syscall_info info;
  memset(&info, 0, sizeof info);
  size_t length = offsetof(ptrace_syscall_info, entry);
  {
    MutexLock lock(Tasks().mu());
    TRY(CheckPtraceStopped(task, target));
    const Registers& regs = target.regs();
    const PtraceState& state = *target.ptrace();
    info.arch = AUDIT_ARCH_X86_64;
    info.instruction_pointer = regs.rip;
    info.stack_pointer = regs.rsp;
    // Without PTRACE_O_TRACESYSGOOD nothing tells a system call's stop from a SIGTRAP.
    const bool told = state.status == (SIGTRAP | 0x80);
    switch (state.syscall_stop) {
      case PtraceState::SyscallStop::kNone:
        break;
      case PtraceState::SyscallStop::kSeccomp:
      case PtraceState::SyscallStop::kEntry: {
        const bool seccomp = state.syscall_stop == PtraceState::SyscallStop::kSeccomp;
        if (!seccomp && !told) break;
        const uint64_t arguments[6] = {regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9};
        info.op = seccomp ? PTRACE_SYSCALL_INFO_SECCOMP : PTRACE_SYSCALL_INFO_ENTRY;
        info.seccomp.nr = regs.orig_rax;
        memcpy(info.seccomp.args, arguments, sizeof arguments);
        length = offsetof(ptrace_syscall_info, seccomp.ret_data);
        if (seccomp) {
          info.seccomp.ret_data = static_cast<uint32_t>(state.message);
          length += sizeof info.seccomp.ret_data;
        }
        break;
      }
      case PtraceState::SyscallStop::kExit:
        if (!told) break;
        info.op = PTRACE_SYSCALL_INFO_EXIT;
        info.exit.rval = static_cast<int64_t>(regs.rax);
        info.exit.is_error = info.exit.rval < 0 && info.exit.rval >= -4095;
        length = offsetof(ptrace_syscall_info, exit.is_error) + 1;
        break;
    }
  }
  TRY(task.CopyOutBytes(to, &info, std::min<size_t>(size, length)));
  return static_cast<int64_t>(length);
}

Result<int64_t> PeekSigInfo(Task& task, Task& target, UserAddr arguments, UserAddr to) {
  const auto wanted = TRY(task.CopyIn<ptrace_peeksiginfo_args>(arguments));
  if (wanted.flags & ~uint32_t{PTRACE_PEEKSIGINFO_SHARED} || wanted.nr < 0) return Errno(EINVAL);
  std::vector<SignalInfo> found;
  {
    MutexLock lock(Tasks().mu());
    TRY(CheckPtraceStopped(task, target));
    SignalLock signals(target.group());
    const bool shared = wanted.flags & PTRACE_PEEKSIGINFO_SHARED;
    const PendingSignals& pending = shared ? target.group().state().shared_pending : target.internal().pending;
    uint64_t index = 0;
    const size_t most = static_cast<size_t>(std::min(wanted.nr, kMaxPeeked));
    for (const SignalInfo& info : pending.queue()) {
      if (index++ >= wanted.off && found.size() < most) found.push_back(info);
    }
  }
  int64_t copied = 0;
  for (const SignalInfo& info : found) {
    Result<void> out = task.CopyOut(to + copied * sizeof info, info);
    if (!out.ok() && copied == 0) return out.error();
    if (!out.ok()) break;
    ++copied;
  }
  return copied;
}

// EACCES: only the privileged and unfiltered see other tasks' filters.
Result<RefPtr<SeccompFilter>> FilterOf(Task& task, Task& target, uint64_t index) {
  {
    MutexLock lock(Tasks().mu());
    TRY(CheckPtraceStopped(task, target));
  }
  if (!task.HasCapability(CAP_SYS_ADMIN) || task.internal().seccomp.mode.load() != SECCOMP_MODE_DISABLED) {
    return Errno(EACCES);
  }
  return NthSeccompFilter(target, index);
}

Result<int64_t> GetSeccompFilter(Task& task, Task& target, uint64_t index, UserAddr to) {
  RefPtr<SeccompFilter> filter = TRY(FilterOf(task, target, index));
  const std::vector<bpf::Instruction>& program = filter->program();
  if (!to.IsNull()) TRY(task.CopyOutBytes(to, program.data(), program.size() * sizeof(bpf::Instruction)));
  return static_cast<int64_t>(program.size());
}

Result<int64_t> GetSeccompMetadata(Task& task, Task& target, uint64_t size, UserAddr at) {
  {
    MutexLock lock(Tasks().mu());
    TRY(CheckPtraceStopped(task, target));
  }
  if (!task.HasCapability(CAP_SYS_ADMIN) || task.internal().seccomp.mode.load() != SECCOMP_MODE_DISABLED) {
    return Errno(EACCES);
  }
  seccomp_metadata data = {};
  size = std::min<uint64_t>(size, sizeof data);
  if (size < sizeof data.filter_off) return Errno(EINVAL);
  data.filter_off = TRY(task.CopyIn<uint64_t>(at));
  RefPtr<SeccompFilter> filter = TRY(FilterOf(task, target, data.filter_off));
  if (filter->log()) data.flags |= SECCOMP_FILTER_FLAG_LOG;
  TRY(task.CopyOutBytes(at, &data, size));
  return static_cast<int64_t>(size);
}

}  // namespace

Result<void> CheckPtraceStopped(Task& task, Task& tracee) {
  const PtraceState& state = *tracee.ptrace();
  if (state.tracer.load(std::memory_order_relaxed) != &task || !state.stopped || state.listening) return Errno(ESRCH);
  return OkResult();
}

Result<int64_t> PtraceInspect(Task& task, Task& target, uint64_t request, uint64_t address, uint64_t data) {
  switch (request) {
    case kPtraceGetSyscallInfo:
      return GetSyscallInfo(task, target, address, UserAddr(data));
    case kPtraceGetSeccompFilter:
      return GetSeccompFilter(task, target, address, UserAddr(data));
    case kPtraceGetSeccompMetadata:
      return GetSeccompMetadata(task, target, address, UserAddr(data));
    default: {
      {
        MutexLock lock(Tasks().mu());
        TRY(CheckPtraceStopped(task, target));
      }
      return PeekSigInfo(task, target, UserAddr(address), UserAddr(data));
    }
  }
}

}  // namespace sentry::kernel
