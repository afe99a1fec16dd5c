// SPDX-License-Identifier: Apache-2.0
// unshare(2), setns(2).
#include <sched.h>

#include "sentry/fs/proc/ns_file.h"
#include "sentry/kernel/pidfd.h"
#include "sentry/kernel/ptrace.h"
#include "sentry/kernel/task_internal.h"
#include "sentry/syscalls/syscall.h"

namespace sentry::syscalls {
namespace {

using fs::NamespaceRef;

constexpr int kCloneNewTime = 0x80;
constexpr uint64_t kNamespaceFlags = CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET | CLONE_NEWPID |
                                     CLONE_NEWCGROUP | CLONE_NEWUSER | kCloneNewTime;
constexpr uint64_t kUnshareFlags =
    kNamespaceFlags | CLONE_THREAD | CLONE_FS | CLONE_SIGHAND | CLONE_VM | CLONE_FILES | CLONE_SYSVSEM;
constexpr int kJoinable[] = {CLONE_NEWUSER, CLONE_NEWUTS,    CLONE_NEWIPC,  CLONE_NEWNET,
                             CLONE_NEWPID,  CLONE_NEWCGROUP, kCloneNewTime, CLONE_NEWNS};

// What setns(2) prepares before anything changes (Linux's nsset).
struct Joined {
  RefPtr<const Credentials> creds;
  RefPtr<kernel::Namespaces> namespaces;  // a private copy
};

Result<void> JoinUser(Task& task, const RefPtr<UserNamespace>& ns, Joined& joined) {
  if (ns->IsSame(*joined.creds->user_ns)) return Errno(EINVAL);
  if (task.group().thread_count() > 1 || !task.fs().HasOneRef()) return Errno(EINVAL);
  if (!joined.creds->HasCapabilityIn(ns, CAP_SYS_ADMIN)) return Errno(EPERM);
  RefPtr<Credentials> creds = joined.creds->Clone();
  creds->EnterUserNamespace(ns);
  joined.creds = std::move(creds);
  return OkResult();
}

// Enters one namespace. EPERM without CAP_SYS_ADMIN over it and over the caller's own user namespace (after the change
// of that, where both are asked for).
Result<void> Join(Task& task, const NamespaceRef& handle, Joined& joined) {
  if (handle.clone_flag == CLONE_NEWUSER) return JoinUser(task, handle.user, joined);
  // Its memory holds the offsets.
  const bool alone = task.group().thread_count() == 1 && task.mm().task_count.load(std::memory_order_relaxed) == 1;
  if (handle.clone_flag == kCloneNewTime && !alone) return Errno(EUSERS);
  const Credentials& creds = *joined.creds;
  kernel::Namespaces& namespaces = *joined.namespaces;
  if (!creds.HasCapabilityIn(handle.Owner(), CAP_SYS_ADMIN) || !creds.HasOwnCapability(CAP_SYS_ADMIN))
    return Errno(EPERM);
  switch (handle.clone_flag) {
    case CLONE_NEWUTS:
      namespaces.uts = handle.uts;
      return OkResult();
    case CLONE_NEWIPC:
      namespaces.ipc = handle.ipc;
      return OkResult();
    case CLONE_NEWNET:
      namespaces.net = handle.net;
      return OkResult();
    case CLONE_NEWPID:
      if (!handle.pid->IsSameOrDescendantOf(task.pid_ns())) return Errno(EINVAL);
      namespaces.pid_for_children = handle.pid;
      return OkResult();
    case kCloneNewTime:
      namespaces.time = namespaces.time_for_children = handle.time;
      return OkResult();
    case CLONE_NEWCGROUP:
      namespaces.cgroup = handle.cgroup;
      return OkResult();
    case CLONE_NEWNS:
      if (!creds.HasOwnCapability(CAP_SYS_CHROOT)) return Errno(EPERM);
      // Others would be moved with it.
      if (!task.fs().HasOneRef()) return Errno(EINVAL);
      namespaces.mounts = handle.mounts;
      return OkResult();
    default:
      return Errno(EINVAL);
  }
}

void EnterMounts(Task& task, const RefPtr<vfs::MountNamespace>& mounts) {
  RefPtr<vfs::Mount> root = mounts->root();
  vfs::Path top = mounts->CrossMounts({root, root->root()});
  task.fs().set_root(top);
  task.fs().set_cwd(top);
}

// What setns(2) with a pidfd joins. ESRCH when the task has exited.
Result<NamespaceRef> NamespaceOfTask(const Task& task, int kind) {
  RefPtr<kernel::Namespaces> namespaces = task.namespaces_ref();
  if (!namespaces) return Errno(ESRCH);
  NamespaceRef ref{.clone_flag = kind};
  if (kind == CLONE_NEWUTS) ref.uts = namespaces->uts;
  if (kind == CLONE_NEWIPC) ref.ipc = namespaces->ipc;
  if (kind == CLONE_NEWNET) ref.net = namespaces->net;
  if (kind == CLONE_NEWCGROUP) ref.cgroup = namespaces->cgroup;
  if (kind == kCloneNewTime) ref.time = namespaces->time;
  if (kind == CLONE_NEWNS) ref.mounts = namespaces->mounts;
  if (kind == CLONE_NEWPID) ref.pid = task.group().pid_ns();
  if (kind == CLONE_NEWUSER) ref.user = task.creds_ref()->user_ns;
  return ref;
}

}  // namespace

SYSCALL_HANDLER(SysUnshare) {
  uint64_t flags = args.Ulong(0);
  if (flags & ~kUnshareFlags) return Errno(EINVAL);
  if (flags & CLONE_NEWUSER) flags |= CLONE_THREAD | CLONE_FS;
  if (flags & CLONE_VM) flags |= CLONE_SIGHAND;
  if (flags & CLONE_SIGHAND) flags |= CLONE_THREAD;
  if (flags & CLONE_NEWNS) flags |= CLONE_FS;
  if ((flags & CLONE_THREAD) && task.group().thread_count() > 1) return Errno(EINVAL);
  if ((flags & CLONE_VM) && task.mm().task_count.load(std::memory_order_relaxed) > 1) return Errno(EINVAL);
  if ((flags & kNamespaceFlags) && !(flags & CLONE_NEWUSER) && !task.HasOwnCapability(CAP_SYS_ADMIN))
    return Errno(EPERM);

  RefPtr<const Credentials> creds = TRY(Task::Internal::CopyCredentials(task, flags));
  const RefPtr<UserNamespace>& owner = creds ? creds->user_ns : task.creds()->user_ns;
  RefPtr<vfs::FsContext> fs = (flags & CLONE_FS) ? task.fs().Clone() : nullptr;
  RefPtr<kernel::Namespaces> namespaces;
  if (flags & kNamespaceFlags)
    namespaces = TRY(Task::Internal::CopyNamespaces(task, flags, fs ? *fs : task.fs(), owner));

  if (fs) task.set_fs(std::move(fs));
  // sysvipc(7): what was done with SEM_UNDO is given back before the sets are out of reach.
  if (flags & (CLONE_SYSVSEM | CLONE_NEWIPC)) task.LeaveSemaphoreUndo();
  if (namespaces) task.set_namespaces(std::move(namespaces));
  if (creds) task.set_creds(std::move(creds));
  if (flags & CLONE_FILES) task.set_fds(task.fds().Clone());
  return 0;
}

SYSCALL_HANDLER(SysSetns) {
  vfs::FileRef file = TRY(GetFile(task, args.Int(0)));
  const int kinds = args.Int(1);
  Joined joined{task.creds(), task.namespaces().Clone()};
  bool new_mounts = false;
  if (auto handle = fs::NamespaceOf(*file); handle.ok()) {
    if (kinds != 0 && kinds != handle->clone_flag) return Errno(EINVAL);
    TRY(Join(task, *handle, joined));
    new_mounts = handle->clone_flag == CLONE_NEWNS;
  } else if (RefPtr<kernel::ThreadGroup> process = kernel::ThreadGroupOfPidFile(*file)) {
    constexpr int kKnown = CLONE_NEWUSER | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET | CLONE_NEWPID | CLONE_NEWNS |
                           CLONE_NEWCGROUP | kCloneNewTime;
    if (kinds == 0 || (kinds & ~kKnown)) return Errno(EINVAL);
    RefPtr<Task> leader = process->leader();
    if (!leader) return Errno(ESRCH);
    TRY(kernel::CheckPtraceAccess(task, *leader));
    for (int kind : kJoinable) {
      if (kinds & kind) TRY(Join(task, TRY(NamespaceOfTask(*leader, kind)), joined));
    }
    new_mounts = kinds & CLONE_NEWNS;
  } else {
    return Errno(EINVAL);
  }
  RefPtr<vfs::MountNamespace> mounts = joined.namespaces->mounts;
  if (joined.namespaces->time != task.namespaces().time)
    joined.namespaces = TRY(Task::Internal::EnterTimeForChildren(*joined.namespaces, &task.mm()));
  if (joined.namespaces->ipc != task.namespaces().ipc) task.LeaveSemaphoreUndo();
  if (!(joined.creds == task.creds())) task.set_creds(std::move(joined.creds));
  task.set_namespaces(std::move(joined.namespaces));
  if (new_mounts) EnterMounts(task, mounts);
  return 0;
}

}  // namespace sentry::syscalls
