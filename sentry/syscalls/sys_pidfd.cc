// SPDX-License-Identifier: Apache-2.0
// pidfd_open(2), pidfd_send_signal(2), pidfd_getfd(2), kcmp(2).
#include <fcntl.h>
#include <linux/kcmp.h>

#include "sentry/fs/proc/proc.h"
#include "sentry/kernel/kernel.h"
#include "sentry/kernel/pidfd.h"
#include "sentry/kernel/ptrace.h"
#include "sentry/loader/loader.h"
#include "sentry/syscalls/syscall.h"

namespace sentry::syscalls {
namespace {

kernel::TaskSet& Tasks() { return kernel::Kernel::Get().tasks(); }

Result<RefPtr<kernel::ThreadGroup>> ProcessOf(Task& task, int fd) {
  vfs::FileRef file = TRY(GetFile(task, fd));
  RefPtr<kernel::ThreadGroup> group = kernel::ThreadGroupOfPidFile(*file);
  if (!group) return Errno(EBADF);
  return group;
}

// kcmp(2)'s order: of numbers that tell nothing about the sentry's memory.
int64_t Compare(const void* a, const void* b) {
  static const uint64_t kCookie = [] {
    uint64_t n;
    loader::FillRandom(&n, sizeof n);
    return n;
  }();
  uint64_t x = (reinterpret_cast<uint64_t>(a) ^ kCookie) * (kCookie | 1),
           y = (reinterpret_cast<uint64_t>(b) ^ kCookie) * (kCookie | 1);
  return x == y ? 0 : x < y ? 1 : 2;
}

}  // namespace

SYSCALL_HANDLER(SysPidfdOpen) {
  pid_t pid = args.Int(0);
  unsigned flags = args.Uint(1);
  if ((flags & ~static_cast<unsigned>(O_NONBLOCK)) || pid <= 0) return Errno(EINVAL);
  RefPtr<kernel::ThreadGroup> group = Tasks().FindThreadGroup(task.pid_ns(), pid);
  if (!group) return Errno(Tasks().FindTask(task.pid_ns(), pid) ? EINVAL : ESRCH);
  return InstallFile(task, kernel::NewPidFile(std::move(group), static_cast<int>(flags)), /*close_on_exec=*/true);
}

namespace {
uid_t UidSeenBy(const kernel::ThreadGroup& group, uid_t uid) {
  RefPtr<Task> leader = group.leader();
  RefPtr<const Credentials> its = leader ? leader->creds_ref() : nullptr;
  return its ? its->ShownUid(uid) : uid;
}
}  // namespace

SYSCALL_HANDLER(SysPidfdSendSignal) {
  int signal = args.Int(1);
  if (args.Uint(3) != 0) return Errno(EINVAL);
  vfs::FileRef file = TRY(GetFile(task, args.Int(0)));
  // As pidfds do not exist everywhere, the process's directory in /proc serves, too.
  RefPtr<kernel::ThreadGroup> group = fs::ProcessOfDirectory(*file);
  if (!group) group = kernel::ThreadGroupOfPidFile(*file);
  if (!group) return Errno(EBADF);
  if (signal < 0 || signal > kernel::kSignalMax) return Errno(EINVAL);
  // Only into the caller's own pid namespace or those below.
  if (!group->pid_ns()->IsSameOrDescendantOf(task.pid_ns())) return Errno(EINVAL);
  kernel::SignalInfo info =
      kernel::UserSignal(signal, task.group().TgidIn(*group->pid_ns()), UidSeenBy(*group, task.creds()->ruid));
  if (!args.Addr(2).IsNull()) {
    info = TRY(task.CopyIn<kernel::SignalInfo>(args.Addr(2)));
    if (info.si_signo != signal) return Errno(EINVAL);
    // Nobody may pretend to be the kernel, or kill(2), to others.
    if (group.get() != &task.group() && (info.si_code >= 0 || info.si_code == SI_TKILL)) return Errno(EPERM);
  }
  RefPtr<Task> leader = group->leader();
  if (!leader) return Errno(ESRCH);
  TRY(kernel::TaskSet::CheckKillPermission(task, *leader, signal));
  if (signal != 0) TRY(group->SendSignal(info));
  return 0;
}

SYSCALL_HANDLER(SysPidfdGetfd) {
  if (args.Uint(2) != 0) return Errno(EINVAL);
  RefPtr<kernel::ThreadGroup> group = TRY(ProcessOf(task, args.Int(0)));
  RefPtr<Task> leader = group->leader();
  if (!leader) return Errno(ESRCH);
  TRY(kernel::CheckPtraceAccess(task, *leader));
  RefPtr<kernel::FdTable> fds = leader->fds_ref();
  if (!fds) return Errno(ESRCH);
  return InstallFile(task, TRY(fds->Get(args.Int(1))), /*close_on_exec=*/true);
}

SYSCALL_HANDLER(SysKcmp) {
  RefPtr<Task> a = Tasks().FindTask(task.pid_ns(), args.Int(0));
  RefPtr<Task> b = Tasks().FindTask(task.pid_ns(), args.Int(1));
  if (!a || !b) return Errno(ESRCH);
  TRY(kernel::CheckPtraceAccess(task, *a));
  TRY(kernel::CheckPtraceAccess(task, *b));
  switch (args.Int(2)) {
    case KCMP_FILE: {
      RefPtr<kernel::FdTable> first = a->fds_ref(), second = b->fds_ref();
      if (!first || !second) return Errno(EBADF);
      vfs::FileRef x = TRY(first->Get(args.Int(3))), y = TRY(second->Get(args.Int(4)));
      return Compare(x.get(), y.get());
    }
    case KCMP_VM:
      return Compare(a->mm_ref().get(), b->mm_ref().get());
    case KCMP_FILES:
      return Compare(a->fds_ref().get(), b->fds_ref().get());
    case KCMP_FS:
      return Compare(a->fs_ref().get(), b->fs_ref().get());
    case KCMP_SIGHAND:
      return Compare(a->group().handlers().get(), b->group().handlers().get());
    case KCMP_IO:
    case KCMP_SYSVSEM:
      // I/O contexts, which nobody has here, and semaphore undo lists, which few have: nothing equals nothing. A list
      // is its thread's own and can't be looked at from here.
      return 0;
    case KCMP_EPOLL_TFD:
      return Errno(EOPNOTSUPP);
    default:
      return Errno(EINVAL);
  }
}

}  // namespace sentry::syscalls
