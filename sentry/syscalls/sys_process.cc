// SPDX-License-Identifier: Apache-2.0
// Birth, death and identity of processes: clone(2) and its kin, exit(2), getpid(2), setpgid(2), setsid(2).
#include <limits.h>
#include <linux/capability.h>
#include <linux/reboot.h>
#include <linux/sched.h>
#include <signal.h>
#include <string.h>

#include <algorithm>
#include <iterator>

#include "sentry/fs/cgroup/cgroup.h"
#include "sentry/kernel/kernel.h"
#include "sentry/syscalls/syscall.h"

namespace sentry::syscalls {
namespace {

using kernel::CloneRequest;

constexpr size_t kCloneArgsMinimum = 64;     // CLONE_ARGS_SIZE_VER0
constexpr size_t kCloneArgsWithCgroup = 88;  // CLONE_ARGS_SIZE_VER2
constexpr uint64_t kLegacyMask = 0xffffffff;

kernel::TaskSet& Tasks() { return kernel::Kernel::Get().tasks(); }

// The process with an id in the caller's namespace; 0: the caller's.
Result<RefPtr<kernel::ThreadGroup>> FindProcess(Task& task, pid_t pid) {
  if (pid == 0) return task.group_ref();
  RefPtr<Task> found = Tasks().FindTask(task.pid_ns(), pid);
  if (!found) return Errno(ESRCH);
  return found->group_ref();
}

// clone3's struct, whose size tells its version; what is beyond ours must be zero.
Result<clone_args> CopyInCloneArgs(Task& task, UserAddr address, uint64_t size) {
  if (size > kPageSize) return Errno(E2BIG);
  if (size < kCloneArgsMinimum) return Errno(EINVAL);
  std::vector<uint8_t> bytes(size);
  TRY(task.CopyInBytes(address, bytes.data(), size));
  for (size_t i = sizeof(clone_args); i < size; ++i) {
    if (bytes[i] != 0) return Errno(E2BIG);
  }
  clone_args args = {};
  memcpy(&args, bytes.data(), std::min<size_t>(size, sizeof args));
  return args;
}

Result<void> CheckCloneArgs(const clone_args& args, uint64_t size) {
  if (args.flags & ~(kLegacyMask | CLONE_CLEAR_SIGHAND | CLONE_INTO_CGROUP)) return Errno(EINVAL);
  if ((args.flags & CLONE_INTO_CGROUP) && (args.cgroup > INT_MAX || size < kCloneArgsWithCgroup)) return Errno(EINVAL);
  if (args.flags & (CLONE_DETACHED | (CSIGNAL & ~CLONE_NEWTIME))) return Errno(EINVAL);
  if (args.exit_signal > static_cast<uint64_t>(kernel::kSignalMax)) return Errno(EINVAL);
  if ((args.flags & (CLONE_THREAD | CLONE_PARENT)) && args.exit_signal) return Errno(EINVAL);
  if ((args.stack == 0) != (args.stack_size == 0)) return Errno(EINVAL);
  if (args.set_tid_size > kernel::kMaxPidLevel || (args.set_tid == 0) != (args.set_tid_size == 0)) return Errno(EINVAL);
  return OkResult();
}

}  // namespace

SYSCALL_HANDLER(SysClone) {
  uint64_t raw = args.Ulong(0) & kLegacyMask;
  CloneRequest request;
  request.flags = raw & ~uint64_t{CSIGNAL};
  request.exit_signal = static_cast<int>(raw & CSIGNAL);
  request.stack = args.Ulong(1);
  request.parent_tid = args.Addr(2);
  request.child_tid = args.Addr(3);
  request.tls = args.Ulong(4);
  if (request.flags & CLONE_PIDFD) {
    // One argument serves for both.
    if (request.flags & CLONE_PARENT_SETTID) return Errno(EINVAL);
    request.pidfd = request.parent_tid;
  }
  return TRY(task.Clone(request));
}

SYSCALL_HANDLER(SysClone3) {
  clone_args from = TRY(CopyInCloneArgs(task, args.Addr(0), args.Ulong(1)));
  TRY(CheckCloneArgs(from, args.Ulong(1)));
  CloneRequest request;
  request.flags = from.flags;
  request.exit_signal = static_cast<int>(from.exit_signal);
  request.stack = from.stack + from.stack_size;
  request.tls = from.tls;
  request.parent_tid = UserAddr(from.parent_tid);
  request.child_tid = UserAddr(from.child_tid);
  request.pidfd = UserAddr(from.pidfd);
  request.set_tid.resize(from.set_tid_size);
  if (from.set_tid_size) {
    TRY(task.CopyInBytes(UserAddr(from.set_tid), request.set_tid.data(), from.set_tid_size * sizeof(pid_t)));
  }
  RefPtr<kernel::Cgroup> into;
  if (from.flags & CLONE_INTO_CGROUP) {
    vfs::FileRef directory = TRY(GetAnyFile(task, static_cast<int>(from.cgroup)));
    into = TRY(fs::CgroupOfDirectory(*directory));
    MutexLock lock(kernel::Cgroups::mu());
    if (into->removed) return Errno(ENOENT);
    TRY(fs::MayMoveLocked(*task.creds(), kernel::Cgroups::Of(task, into->hierarchy()), *into));
  }
  request.into_cgroup = into.get();
  return TRY(task.Clone(request));
}

SYSCALL_HANDLER(SysFork) {
  CloneRequest request;
  request.exit_signal = SIGCHLD;
  return TRY(task.Clone(request));
}

SYSCALL_HANDLER(SysVfork) {
  CloneRequest request;
  request.flags = CLONE_VFORK | CLONE_VM;
  request.exit_signal = SIGCHLD;
  return TRY(task.Clone(request));
}

SYSCALL_HANDLER(SysExit) {
  task.RequestExit(args.Int(0) & 0xff);
  return 0;
}

SYSCALL_HANDLER(SysExitGroup) {
  task.group().Exit({.code = args.Int(0) & 0xff});
  return 0;
}

// Never the machine: as in any pid namespace but the host's first one, the namespace's init ends as if by a signal, and
// with it all others (pid_namespaces(7)).
SYSCALL_HANDLER(SysReboot) {
  constexpr unsigned kMagic2[] = {LINUX_REBOOT_MAGIC2, LINUX_REBOOT_MAGIC2A, LINUX_REBOOT_MAGIC2B,
                                  LINUX_REBOOT_MAGIC2C};
  if (!task.HasCapability(CAP_SYS_BOOT)) return Errno(EPERM);
  if (args.Uint(0) != LINUX_REBOOT_MAGIC1 || std::ranges::find(kMagic2, args.Uint(1)) == std::end(kMagic2)) {
    return Errno(EINVAL);
  }
  int signal;
  switch (args.Uint(2)) {
    case LINUX_REBOOT_CMD_RESTART:
    case LINUX_REBOOT_CMD_RESTART2:
      signal = SIGHUP;
      break;
    case LINUX_REBOOT_CMD_HALT:
    case LINUX_REBOOT_CMD_POWER_OFF:
      signal = SIGINT;
      break;
    default:
      return Errno(EINVAL);
  }
  RefPtr<kernel::ThreadGroup> init = kernel::Kernel::Get().tasks().FindThreadGroup(task.pid_ns(), 1);
  if (init) init->Exit({.signal = signal});
  return 0;
}

SYSCALL_HANDLER(SysGetpid) { return task.CallerTgid(); }

SYSCALL_HANDLER(SysGettid) { return task.CallerTid(); }

SYSCALL_HANDLER(SysGetppid) {
  RefPtr<kernel::ThreadGroup> parent = task.group().parent();
  return parent ? parent->TgidIn(task.pid_ns()) : 0;
}

SYSCALL_HANDLER(SysGetpgid) {
  RefPtr<kernel::ThreadGroup> process = TRY(FindProcess(task, args.Int(0)));
  RefPtr<kernel::ProcessGroup> group = process->process_group();
  if (!group) return Errno(ESRCH);
  return group->IdIn(task.pid_ns());
}

SYSCALL_HANDLER(SysGetpgrp) {
  RefPtr<kernel::ProcessGroup> group = task.group().process_group();
  return group ? group->IdIn(task.pid_ns()) : 0;
}

SYSCALL_HANDLER(SysSetpgid) {
  pid_t pid = args.Int(0), group = args.Int(1);
  if (group < 0 || (group == 0 && pid < 0)) return Errno(EINVAL);
  RefPtr<kernel::ThreadGroup> process = task.group_ref();
  if (pid != 0 && pid != task.CallerTgid()) {
    process = Tasks().FindThreadGroup(task.pid_ns(), pid);
    // A thread that is no leader.
    if (!process) return Errno(Tasks().FindTask(task.pid_ns(), pid) ? EINVAL : ESRCH);
  }
  TRY(process->SetProcessGroup(group, task.pid_ns(), task));
  return 0;
}

SYSCALL_HANDLER(SysSetsid) { return TRY(task.group().CreateSession()); }

SYSCALL_HANDLER(SysGetsid) {
  RefPtr<kernel::ThreadGroup> process = TRY(FindProcess(task, args.Int(0)));
  RefPtr<kernel::Session> session = process->session();
  if (!session) return Errno(ESRCH);
  return session->IdIn(task.pid_ns());
}

SYSCALL_HANDLER(SysSetTidAddress) {
  task.clear_child_tid = args.Addr(0);
  return task.CallerTid();
}

}  // namespace sentry::syscalls
