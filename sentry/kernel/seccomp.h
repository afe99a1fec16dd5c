// SPDX-License-Identifier: Apache-2.0
// seccomp(2) of a task: its mode and its chain of filters, and what their verdicts do. Guards: the TaskSet mutex (T).
#ifndef SENTRY_KERNEL_SECCOMP_H_
#define SENTRY_KERNEL_SECCOMP_H_

#include <atomic>

#include "sentry/kernel/seccomp_filter.h"

namespace sentry::kernel {

class Task;

struct SeccompState {
  std::atomic<int> mode{SECCOMP_MODE_DISABLED};
  // The leaf. Read without T by the own thread: it is only ever replaced by one that has it as an ancestor, until the
  // thread itself gives it up.
  std::atomic<const SeccompFilter*> filter{nullptr};
  RefPtr<SeccompFilter> owner;  // T: keeps `filter`
};

// (own) SECCOMP_SET_MODE_STRICT; EINVAL when filters are there.
Result<void> SetSeccompStrict(Task& task);
// (own) SECCOMP_SET_MODE_FILTER: 0, the listener's descriptor, or the thread that could not be synchronised. The rule
// of no_new_privs is checked here (EACCES). EINVAL, EMFILE, EBUSY, ENOMEM, ESRCH.
Result<int64_t> AddSeccompFilter(Task& task, uint64_t flags, std::vector<bpf::Instruction> program);
// Linux looks at this before the program.
Result<void> CheckMayAddSeccompFilter(const Task& task);

// (own) The call in the registers, when the mode is not 0. False: it is not made; rax holds its result, or a signal
// or the end of the task is on its way.
bool SeccompAllows(Task& task);

// T held: the first filter of a task that does not run yet.
void StartWithSeccompFilter(Task& task, RefPtr<SeccompFilter> filter);
// T held: the (not yet running) child of clone(2) has what the parent has.
void InheritSeccomp(Task& parent, Task& child);
// (own, no locks) At the task's end.
void ReleaseSeccomp(Task& task);

// For /proc/PID/status. No locks held.
struct SeccompStatus {
  int mode = 0;
  uint32_t filters = 0;
};
SeccompStatus SeccompStatusOf(Task& task);
// The filters of a task from the oldest on (PTRACE_SECCOMP_GET_FILTER). EINVAL: the task has none; ENOENT.
Result<RefPtr<SeccompFilter>> NthSeccompFilter(Task& task, uint64_t index);

}  // namespace sentry::kernel

#endif  // SENTRY_KERNEL_SECCOMP_H_
