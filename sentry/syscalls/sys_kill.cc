// SPDX-License-Identifier: Apache-2.0
// Signals to others: kill(2), tgkill(2), rt_sigqueueinfo(2).
#include "sentry/kernel/kernel.h"
#include "sentry/syscalls/handlers.h"

namespace sentry::syscalls {
namespace {

using kernel::SignalInfo;
using kernel::TaskSet;
using kernel::ThreadGroup;

bool IsSignal(int signal) { return signal >= 0 && signal <= kernel::kSignalMax; }

// The sender's ids as the receiver's namespaces see them.
SignalInfo InfoFrom(Task& task, const Task& receiver, int signal, int code) {
  RefPtr<const Credentials> its = receiver.creds_ref();
  const uid_t uid = task.creds()->ruid;
  SignalInfo info = kernel::UserSignal(signal, task.group().TgidIn(receiver.pid_ns()), its ? its->ShownUid(uid) : uid);
  info.si_code = code;
  return info;
}

Result<void> SendToGroup(Task& task, ThreadGroup& group, int signal) {
  RefPtr<Task> leader = group.leader();
  if (!leader) return Errno(ESRCH);
  TRY(TaskSet::CheckKillPermission(task, *leader, signal));
  if (signal == 0) return {};
  return group.SendSignal(InfoFrom(task, *leader, signal, SI_USER));
}

// kill of several: success if any could be sent; ESRCH when there is none.
template <typename F>
Result<void> SendToMatching(Task& task, int signal, F matches) {
  bool any = false, sent = false;
  Errno error(ESRCH);
  for (auto& [id, group] : kernel::Kernel::Get().tasks().ThreadGroups(task.pid_ns())) {
    if (group->HasExited() || !matches(id, *group)) continue;
    any = true;
    Result<void> result = SendToGroup(task, *group, signal);
    if (result.ok()) {
      sent = true;
    } else {
      error = result.error();
    }
  }
  if (sent) return {};
  return any ? error : Errno(ESRCH);
}

Result<void> SendToThread(Task& task, pid_t tgid, pid_t tid, int signal, const SignalInfo* info) {
  if (!IsSignal(signal)) return Errno(EINVAL);
  RefPtr<Task> target = kernel::Kernel::Get().tasks().FindTask(task.pid_ns(), tid);
  if (!target || target->IsExited()) return Errno(ESRCH);
  if (tgid > 0 && target->group().TgidIn(task.pid_ns()) != tgid) return Errno(ESRCH);
  TRY(TaskSet::CheckKillPermission(task, *target, signal));
  if (signal == 0) return {};
  return target->SendSignal(info ? *info : InfoFrom(task, *target, signal, SI_TKILL));
}

Result<SignalInfo> CopyInQueuedInfo(Task& task, UserAddr address, int signal, bool to_self) {
  SignalInfo info = TRY(task.CopyIn<SignalInfo>(address));
  info.si_signo = signal;
  // Nobody may pretend to be the kernel or kill(2) to another process.
  if ((info.si_code >= 0 || info.si_code == SI_TKILL) && !to_self) return Errno(EPERM);
  return info;
}

}  // namespace

SYSCALL_HANDLER(SysKill) {
  pid_t pid = args.Int(0);
  int signal = args.Int(1);
  if (!IsSignal(signal)) return Errno(EINVAL);
  TaskSet& tasks = kernel::Kernel::Get().tasks();
  if (pid > 0) {
    RefPtr<ThreadGroup> group = tasks.FindThreadGroup(task.pid_ns(), pid);
    if (!group) {
      // A thread's id names its process.
      RefPtr<Task> thread = tasks.FindTask(task.pid_ns(), pid);
      if (!thread) return Errno(ESRCH);
      group = thread->group_ref();
    }
    TRY(SendToGroup(task, *group, signal));
    return 0;
  }
  if (pid == -1) {
    TRY(SendToMatching(task, signal, [&](pid_t id, ThreadGroup& group) { return id > 1 && &group != &task.group(); }));
    return 0;
  }
  if (pid == INT32_MIN) return Errno(ESRCH);
  RefPtr<kernel::ProcessGroup> wanted =
      pid == 0 ? task.group().process_group() : tasks.FindProcessGroup(task.pid_ns(), -pid);
  if (!wanted) return Errno(ESRCH);
  TRY(SendToMatching(task, signal, [&](pid_t, ThreadGroup& group) { return group.process_group() == wanted; }));
  return 0;
}

SYSCALL_HANDLER(SysTkill) {
  if (args.Int(0) <= 0) return Errno(EINVAL);
  TRY(SendToThread(task, 0, args.Int(0), args.Int(1), nullptr));
  return 0;
}

SYSCALL_HANDLER(SysTgkill) {
  if (args.Int(0) <= 0 || args.Int(1) <= 0) return Errno(EINVAL);
  TRY(SendToThread(task, args.Int(0), args.Int(1), args.Int(2), nullptr));
  return 0;
}

SYSCALL_HANDLER(SysRtSigqueueinfo) {
  int signal = args.Int(1);
  pid_t pid = args.Int(0);
  if (!IsSignal(signal)) return Errno(EINVAL);
  SignalInfo info = TRY(CopyInQueuedInfo(task, args.Addr(2), signal, pid == task.CallerTgid()));
  RefPtr<ThreadGroup> group = kernel::Kernel::Get().tasks().FindThreadGroup(task.pid_ns(), pid);
  if (!group) return Errno(ESRCH);
  RefPtr<Task> leader = group->leader();
  if (!leader) return Errno(ESRCH);
  TRY(TaskSet::CheckKillPermission(task, *leader, signal));
  if (signal != 0) TRY(group->SendSignal(info));
  return 0;
}

SYSCALL_HANDLER(SysRtTgsigqueueinfo) {
  pid_t tgid = args.Int(0), tid = args.Int(1);
  int signal = args.Int(2);
  if (tgid <= 0 || tid <= 0 || !IsSignal(signal)) return Errno(EINVAL);
  SignalInfo info = TRY(CopyInQueuedInfo(task, args.Addr(3), signal, tid == task.CallerTid()));
  TRY(SendToThread(task, tgid, tid, signal, &info));
  return 0;
}

}  // namespace sentry::syscalls
