// SPDX-License-Identifier: Apache-2.0
// ptrace(2) requests that only look at a stopped tracee: its system call, its pending signals, its seccomp filters.
#ifndef SENTRY_KERNEL_PTRACE_INSPECT_H_
#define SENTRY_KERNEL_PTRACE_INSPECT_H_

#include "sentry/kernel/task.h"

namespace sentry::kernel {

inline constexpr uint64_t kPtracePeekSigInfo = 0x4209, kPtraceGetSyscallInfo = 0x420e;
inline constexpr uint64_t kPtraceGetSeccompFilter = 0x420c, kPtraceGetSeccompMetadata = 0x420d;

// T held: ESRCH unless `tracee` is the tracee of `task` and in a stop.
Result<void> CheckPtraceStopped(Task& task, Task& tracee);

// `address` and `data` as ptrace(2) has them.
Result<int64_t> PtraceInspect(Task& task, Task& target, uint64_t request, uint64_t address, uint64_t data);
constexpr bool IsPtraceInspection(uint64_t request) {
  return request == kPtracePeekSigInfo || request == kPtraceGetSyscallInfo || request == kPtraceGetSeccompFilter ||
         request == kPtraceGetSeccompMetadata;
}

}  // namespace sentry::kernel

#endif  // SENTRY_KERNEL_PTRACE_INSPECT_H_
