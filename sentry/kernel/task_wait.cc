// SPDX-License-Identifier: Apache-2.0
// wait4(2) and waitid(2).
#include <sys/wait.h>

#include "sentry/kernel/ptrace.h"
#include "sentry/kernel/task_internal.h"

namespace sentry::kernel {
namespace {

bool IsWanted(ThreadGroup& child, Task& caller, const WaitRequest& request) {
  switch (request.who) {
    case WaitRequest::Who::kAny:
      break;
    case WaitRequest::Who::kPid:
      if (child.TgidIn(caller.pid_ns()) != request.id) return false;
      break;
    case WaitRequest::Who::kGroup: {
      const RefPtr<ProcessGroup>& group = child.state().process_group;
      if (!group || group->IdIn(caller.pid_ns()) != request.id) return false;
      break;
    }
    case WaitRequest::Who::kPidfd:
      if (&child != request.target.get()) return false;
      break;
  }
  if ((request.options & __WNOTHREAD) && child.state().parent != &caller) return false;
  // A "clone" child is one that doesn't send SIGCHLD.
  if (request.options & __WALL) return true;
  return (child.state().exit_signal != SIGCHLD) == ((request.options & __WCLONE) != 0);
}

uid_t UidOf(const ThreadGroup::State& state) {
  RefPtr<const Credentials> creds = state.leader ? state.leader->creds_ref() : nullptr;
  return creds ? creds->ruid : 0;
}

// Exited: fills the result. T held.
void DescribeExit(ThreadGroup& child, WaitResult* result) {
  ThreadGroup::State& state = child.state();
  {
    SignalLock lock(child);
    const ExitStatus& exit = state.exit_status;
    result->wait_status = exit.ToWaitStatus();
    result->code = !exit.signal ? CLD_EXITED : exit.core ? CLD_DUMPED : CLD_KILLED;
    result->status = exit.signal ? exit.signal : exit.code & 0xff;
  }
  result->usage = state.dead_usage;
  for (const RefPtr<Task>& thread : state.threads) result->usage += thread->usage();
  result->usage += state.children_usage;
}

// Stopped or continued and not reported yet. T held.
bool TakeJobControlChange(ThreadGroup& child, int options, WaitResult* result) {
  ThreadGroup::State& state = child.state();
  SignalLock lock(child);
  bool keep = options & WNOWAIT;
  if ((options & WSTOPPED) && state.stop.complete && state.stop.wait_stopped) {
    result->wait_status = (state.stop.signal << 8) | 0x7f;
    result->code = CLD_STOPPED;
    result->status = state.stop.signal;
    if (!keep) state.stop.wait_stopped = false;
    return true;
  }
  if ((options & WCONTINUED) && state.stop.wait_continued) {
    result->wait_status = 0xffff;
    result->code = CLD_CONTINUED;
    result->status = SIGCONT;
    if (!keep) state.stop.wait_continued = false;
    return true;
  }
  return false;
}

}  // namespace

bool Task::Internal::WaitScanLocked(Task& caller, const WaitRequest& request, bool* candidates, WaitResult* result,
                                    Garbage& garbage) {
  ThreadGroup::State& own = caller.group_->state();
  for (const RefPtr<ThreadGroup>& entry : own.children) {
    ThreadGroup& child = *entry;
    if (!IsWanted(child, caller, request)) continue;
    *candidates = true;
    ThreadGroup::State& state = child.state();
    bool exited = state.zombie && (request.options & WEXITED);
    if (exited) {
      DescribeExit(child, result);
    } else if (state.zombie || (state.leader && IsTraced(*state.leader)) ||
               !TakeJobControlChange(child, request.options, result)) {
      continue;
    }
    result->pid = child.TgidIn(caller.pid_ns());
    result->uid = caller.creds()->ShownUid(UidOf(state));
    if (exited && !(request.options & WNOWAIT)) {
      own.children_usage += result->usage;
      ReleaseGroupLocked(child, garbage);
    }
    return true;
  }
  return PtraceWaitLocked(caller, request, candidates, result);
}

Result<WaitResult> TaskSet::Wait(Task& caller, const WaitRequest& request) {
  BlockerEntry entry(caller.blocker());
  caller.group().child_queue().Add(entry, kEventIn);
  // After an interruption the children are looked at once more: the SIGCHLD of the awaited one must not turn into
  // EINTR.
  Result<void> blocked;
  for (;;) {
    WaitResult result;
    bool candidates = false;
    {
      Task::Internal::Garbage garbage;
      MutexLock lock(mu_);
      if (Task::Internal::WaitScanLocked(caller, request, &candidates, &result, garbage)) return result;
    }
    if (!candidates) return Errno(ECHILD);
    if (request.options & WNOHANG) return WaitResult();
    TRY(std::move(blocked));
    blocked = caller.Block();
  }
}

}  // namespace sentry::kernel
