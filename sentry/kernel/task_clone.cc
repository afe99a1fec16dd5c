// SPDX-License-Identifier: Apache-2.0
// clone(2), clone3(2), fork(2), vfork(2).
#include <sched.h>
#include <sys/ptrace.h>
#include <x86intrin.h>

#include "sentry/arch/signal_frame.h"
#include "sentry/arch/vdso.h"
#include "sentry/kernel/cgroup.h"
#include "sentry/kernel/load_average.h"
#include "sentry/kernel/pidfd.h"
#include "sentry/kernel/posix_timers.h"
#include "sentry/kernel/ptrace.h"
#include "sentry/kernel/task_internal.h"

#ifndef CLONE_CLEAR_SIGHAND
#define CLONE_CLEAR_SIGHAND 0x100000000ULL
#endif
#ifndef SCHED_RESET_ON_FORK
#define SCHED_RESET_ON_FORK 0x40000000
#endif
#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x00000080
#endif

namespace sentry::kernel {
namespace {

constexpr uint64_t kNewNamespaceFlags = CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET | CLONE_NEWPID |
                                        CLONE_NEWCGROUP | CLONE_NEWUSER | CLONE_NEWTIME;

// The combinations that clone(2) answers EINVAL.
Result<void> CheckFlags(Task& task, const CloneRequest& request) {
  const uint64_t flags = request.flags;
  auto both = [flags](uint64_t a, uint64_t b) { return (flags & a) && (flags & b); };
  bool invalid = both(CLONE_NEWNS, CLONE_FS) || both(CLONE_NEWUSER, CLONE_FS) ||
                 ((flags & CLONE_THREAD) && !(flags & CLONE_SIGHAND)) ||
                 ((flags & CLONE_SIGHAND) && !(flags & CLONE_VM)) || both(CLONE_THREAD, CLONE_NEWUSER | CLONE_NEWPID) ||
                 both(CLONE_NEWIPC, CLONE_SYSVSEM) || both(CLONE_SIGHAND, CLONE_CLEAR_SIGHAND) ||
                 both(CLONE_PIDFD, CLONE_DETACHED | CLONE_THREAD) ||
                 ((flags & CLONE_PARENT) && task.group().IsInit()) ||
                 ((flags & CLONE_THREAD) && task.namespaces().pid_for_children != task.group().pid_ns());
  if (invalid) return Errno(EINVAL);
  // In a new user namespace the child has all capabilities.
  if ((flags & kNewNamespaceFlags) && !(flags & CLONE_NEWUSER) && !task.HasOwnCapability(CAP_SYS_ADMIN))
    return Errno(EPERM);
  if (!request.set_tid.empty()) {
    const RefPtr<UserNamespace>& owner = task.namespaces().pid_for_children->owner();
    if (!task.HasCapabilityIn(owner, CAP_SYS_ADMIN) && !task.HasCapabilityIn(owner, CAP_CHECKPOINT_RESTORE))
      return Errno(EPERM);
  }
  return OkResult();
}

// SCHED_RESET_ON_FORK (sched(7)): neither a real-time policy nor a negative nice value is inherited, nor the flag.
void ResetSchedule(Task& child) {
  const int policy = child.sched_policy.load(std::memory_order_relaxed) & ~SCHED_RESET_ON_FORK;
  const bool real_time = policy == SCHED_FIFO || policy == SCHED_RR;
  child.sched_policy.store(real_time ? SCHED_OTHER : policy, std::memory_order_relaxed);
  child.sched_priority.store(0, std::memory_order_relaxed);
  if (real_time || child.nice.load(std::memory_order_relaxed) < 0) child.nice.store(0, std::memory_order_relaxed);
}

void MoveToNewMounts(vfs::FsContext& fs,
                     const std::vector<std::pair<RefPtr<vfs::Mount>, RefPtr<vfs::Mount>>>& translate) {
  vfs::Path root = fs.root(), cwd = fs.cwd();
  for (const auto& [from, to] : translate) {
    if (root.mount == from) fs.set_root({to, root.dentry});
    if (cwd.mount == from) fs.set_cwd({to, cwd.dentry});
  }
}

Result<void> CheckProcessLimit(Task& task) {
  const Credentials& creds = *task.creds();
  if (creds.ruid == 0 || creds.HasCapability(CAP_SYS_RESOURCE) || creds.HasCapability(CAP_SYS_ADMIN)) return OkResult();
  if (task.kernel().tasks().TasksOfUser(creds.ruid) >= task.SoftLimit(RLIMIT_NPROC)) return Errno(EAGAIN);
  return OkResult();
}

// CLONE_CLEAR_SIGHAND: what is not ignored gets its default action.
void ClearHandlers(SignalHandlers& handlers) {
  MutexLock lock(handlers.mu);
  for (SignalAction& action : handlers.actions) {
    if (action.handler != kSignalIgnore) action = SignalAction();
  }
}

}  // namespace

Result<RefPtr<Namespaces>> Task::Internal::CopyNamespaces(Task& task, uint64_t flags, vfs::FsContext& fs,
                                                          const RefPtr<UserNamespace>& owner) {
  RefPtr<Namespaces> copy = task.namespaces().Clone();
  auto charge = [&](UserCount kind) { return UserCharge::Take(owner, task.creds_->euid, kind); };
  if (flags & CLONE_NEWUTS) copy->uts = copy->uts->Clone(owner, TRY(charge(UserCount::kUts)));
  if (flags & CLONE_NEWIPC)
    copy->ipc = MakeRef<IpcNamespace>(task.kernel().memory_file(), owner, TRY(charge(UserCount::kIpc)));
  if (flags & CLONE_NEWNET) copy->net = MakeRef<NetNamespace>(owner, TRY(charge(UserCount::kNet)));
  if (flags & CLONE_NEWPID) {
    const RefPtr<PidNamespace>& parent = copy->pid_for_children;
    if (!owner->IsSameOrDescendantOf(*parent->owner())) return Errno(EINVAL);
    if (parent->level() >= kMaxPidLevel) return Errno(ENOSPC);
    copy->pid_for_children = MakeRef<PidNamespace>(parent, owner, TRY(charge(UserCount::kPid)));
  }
  if (flags & CLONE_NEWCGROUP)
    copy->cgroup = Cgroups::Get().NewNamespace(&task, nullptr, owner, TRY(charge(UserCount::kCgroup)));
  if (flags & CLONE_NEWTIME) {
    copy->time_for_children = MakeRef<TimeNamespace>(copy->time_for_children->offsets(), owner,
                                                     TRY(charge(UserCount::kTime)), /*is_first=*/false);
  }
  if (flags & CLONE_NEWNS) {
    std::vector<std::pair<RefPtr<vfs::Mount>, RefPtr<vfs::Mount>>> translate;
    copy->mounts = TRY(copy->mounts->Clone(owner, TRY(charge(UserCount::kMount)), &translate));
    MoveToNewMounts(fs, translate);
  }
  return copy;
}

Result<RefPtr<Namespaces>> Task::Internal::EnterTimeForChildren(const Namespaces& namespaces, mm::MemoryManager* mm) {
  RefPtr<Namespaces> copy = namespaces.Clone();
  copy->time = copy->time_for_children;
  RefPtr<mm::MappedObject> page = TRY(copy->time->Enter());
  arch::Vdso* vdso = Kernel::Get().vdso();
  if (vdso && mm) TRY(vdso->SetOffsets(*mm, std::move(page)));
  return copy;
}

Result<RefPtr<const Credentials>> Task::Internal::CopyCredentials(Task& task, uint64_t flags) {
  if (!(flags & CLONE_NEWUSER)) return RefPtr<const Credentials>();
  const Credentials& old = *task.creds_;
  if (old.user_ns->level() >= UserNamespace::kMaxLevel) return Errno(ENOSPC);
  auto charge = std::make_unique<UserCharge>(TRY(UserCharge::Take(old.user_ns, old.euid, UserCount::kUser)));
  // A process in a chroot could leave it with the capabilities it gets (user_namespaces(7), EPERM).
  const vfs::MountNamespace& mounts = *task.namespaces_->mounts;
  const RefPtr<vfs::Mount> top = mounts.root();
  if (task.fs_->root() != mounts.CrossMounts({top, top->root()})) return Errno(EPERM);
  if (old.FromKernel(IdKind::kUser, old.euid) == kInvalidId || old.FromKernel(IdKind::kGroup, old.egid) == kInvalidId)
    return Errno(EPERM);
  RefPtr<Credentials> creds = old.Clone();
  auto ns = MakeRef<UserNamespace>(old.user_ns, old.euid, old.egid, old.HasOwnCapability(CAP_SETFCAP));
  ns->set_charge(std::move(charge));
  creds->EnterUserNamespace(std::move(ns));
  return RefPtr<const Credentials>(std::move(creds));
}

Result<RefPtr<Task>> Task::Internal::MakeChild(Task& task, const CloneRequest& request) {
  const uint64_t flags = request.flags;
  RefPtr<const Credentials> creds = TRY(CopyCredentials(task, flags));
  if (!creds) creds = task.creds_;

  RefPtr<vfs::FsContext> fs = (flags & CLONE_FS) ? task.fs_ : task.fs_->Clone();
  RefPtr<Namespaces> namespaces = task.namespaces_;
  if (flags & kNewNamespaceFlags) namespaces = TRY(CopyNamespaces(task, flags, *fs, creds->user_ns));

  RefPtr<ThreadGroup> group = task.group_;
  if (!(flags & CLONE_THREAD)) {
    RefPtr<SignalHandlers> handlers = task.group_->handlers();
    if (!(flags & CLONE_SIGHAND)) handlers = handlers->Clone();
    if (flags & CLONE_CLEAR_SIGHAND) ClearHandlers(*handlers);
    group = MakeRef<ThreadGroup>(namespaces->pid_for_children, std::move(handlers), request.exit_signal);
    group->limits_.CopyFrom(task.group_->limits_);
    group->container_id_ = task.group_->container_id_;
    group->oom_score_adj.store(task.group_->oom_score_adj.load(std::memory_order_relaxed), std::memory_order_relaxed);
  }

  std::unique_ptr<platform::Context> context;
  std::vector<uint8_t> fpu_image;
  RefPtr<mm::MemoryManager> mm;
  if (flags & CLONE_VM) {
    mm = task.mm_;
    context = TRY(task.context_->CloneInSpace());
  } else {
    // Both sides go on where they are: on this stack, with this thread's data.
    const uint64_t written[] = {task.regs_.rsp, task.regs_.fs_base};
    const bool alone = task.mm_->task_count.load(std::memory_order_relaxed) == 1;
    mm = TRY(task.mm_->Fork(alone ? std::span<const uint64_t>(written) : std::span<const uint64_t>()));
    if (namespaces->time != namespaces->time_for_children)
      namespaces = TRY(EnterTimeForChildren(*namespaces, mm.get()));
    context = task.kernel_.platform().NewContext();
    fpu_image.resize(task.kernel_.platform().FpuStateSize());
    fpu_image.resize(task.context_->GetFpu(fpu_image));
  }

  RefPtr<Task> child(new Task(task.kernel_, std::move(group)));
  Internal& internal = *child->internal_;
  mm->task_count.fetch_add(1, std::memory_order_relaxed);
  child->mm_ = std::move(mm);
  child->context_ = std::move(context);
  internal.fpu_image = std::move(fpu_image);
  internal.map_eagerly = !(flags & CLONE_VM);
  child->creds_ = std::move(creds);
  child->fs_ = std::move(fs);
  child->fds_ = (flags & CLONE_FILES) ? task.fds_ : task.fds_->Clone();
  child->namespaces_ = std::move(namespaces);
  std::string name;
  vfs::Path exe;
  {
    MutexLock lock(task.mu_);
    name = task.name_;
    exe = task.exe_;
    internal.exe_file = task.internal_->exe_file;
    internal.landlock = task.internal_->landlock;
  }
  {
    MutexLock lock(child->mu_);
    child->name_ = std::move(name);
    child->exe_ = std::move(exe);
  }

  child->regs_ = task.regs_;
  if (task.ptrace_->trap_flag_forced) child->regs_.eflags &= ~arch::kEflagsTrap;
  child->regs_.rax = 0;
  child->regs_.orig_rax = ~uint64_t{0};
  if (request.stack != 0) child->regs_.rsp = request.stack;
  if (flags & CLONE_SETTLS) child->regs_.fs_base = request.tls;
  if (flags & CLONE_CHILD_CLEARTID) child->clear_child_tid = request.child_tid;
  if (flags & CLONE_CHILD_SETTID) internal.set_child_tid = request.child_tid;
  if (flags & CLONE_VFORK) internal.vfork_done = MakeRef<VforkDone>();
  if (flags & CLONE_SYSVSEM) {
    if (!task.semaphore_undo) task.semaphore_undo = MakeRef<ipc::SemaphoreUndo>();
    child->semaphore_undo = task.semaphore_undo;
    child->semaphore_undo->users.fetch_add(1, std::memory_order_relaxed);
  }
  child->keyrings = keys::Keys::Get().Inherit(task.keyrings, flags & CLONE_THREAD);
  InheritSignals(task, *child, flags);
  if (!(flags & CLONE_VM)) internal.rseq = task.internal_->rseq;
  auto copy = [](auto& to, const auto& from) {
    to.store(from.load(std::memory_order_relaxed), std::memory_order_relaxed);
  };
  copy(child->no_new_privs, task.no_new_privs);
  copy(child->timer_slack_ns, task.timer_slack_ns);
  copy(child->nice, task.nice);
  copy(child->sched_policy, task.sched_policy);
  copy(child->sched_priority, task.sched_priority);
  copy(child->cpu_affinity, task.cpu_affinity);
  copy(child->personality, task.personality);
  copy(child->io_priority, task.io_priority);
  if (child->sched_policy.load(std::memory_order_relaxed) & SCHED_RESET_ON_FORK) ResetSchedule(*child);
  return child;
}

Result<pid_t> Task::Clone(const CloneRequest& request) {
  const uint64_t flags = request.flags;
  // A signal that arrived before is handled before: it must not be lost to, or duplicated in, the child.
  if (internal_->work.load(std::memory_order_acquire) & kWorkInterruptsBlock) return base::kErestartnointr;
  TRY(CheckFlags(*this, request));
  TRY(CheckProcessLimit(*this));
  // A robust early answer; the binding check is at the link.
  if (kernel_.tasks().task_count() >= kernel_.max_tasks()) return Errno(EAGAIN);

  LoadAverage::OnChange(kernel_, __rdtsc());
  // Host resources that run out show as EAGAIN.
  auto made = Internal::MakeChild(*this, request);
  if (!made.ok()) return made.error();
  RefPtr<Task> child = std::move(*made);
  RefPtr<VforkDone> vfork_done = child->internal_->vfork_done;

  int pidfd = -1;
  if (!Internal::StartThread(child)) {
    Internal::Abandon(*child);
    return Errno(EAGAIN);
  }
  auto give_up = [&](Errno error) -> Result<pid_t> {
    Internal::OpenStartGate(*child, false);
    if (pidfd >= 0) (void)fds_->Close(pidfd);
    return error;
  };
  if (flags & CLONE_PIDFD) {
    auto fd = fds_->Add(NewPidFile(child->group_, 0), /*close_on_exec=*/true, SoftLimit(RLIMIT_NOFILE));
    if (!fd.ok()) return give_up(fd.error());
    pidfd = *fd;
    if (!CopyOut(request.pidfd, static_cast<int32_t>(pidfd)).ok()) return give_up(Errno(EFAULT));
  }

  Internal::LinkRequest link;
  link.new_group = !(flags & CLONE_THREAD);
  link.set_tid = request.set_tid;
  Result<void> linked;
  {
    MutexLock lock(kernel_.tasks().mu());
    link.parent = this;
    if (link.new_group) {
      link.process_group = group_->state_->process_group;
      if (flags & CLONE_PARENT) {
        link.parent = group_->state_->parent;
        child->group_->state_->exit_signal = group_->state_->exit_signal;
      }
    }
    linked = Cgroups::Get().CheckForkLocked(this, request.into_cgroup, flags & CLONE_THREAD);
    if (linked.ok()) linked = Internal::LinkLocked(*child, link);
    if (linked.ok()) {
      Cgroups::Get().ForkLocked(*child, this, request.into_cgroup);
      if (kernel_.IsPaused()) child->internal_->work.fetch_or(kWorkPause, std::memory_order_relaxed);
      InheritSeccomp(*this, *child);
      Internal::PtraceCloneLocked(*this, *child, request);
    }
  }
  if (!linked.ok()) return give_up(linked.error());
  if (link.new_group) child->group_->timers().EnforceCpuLimit();

  pid_t tid = child->TidIn(pid_ns());
  if (flags & CLONE_PARENT_SETTID) (void)CopyOut(request.parent_tid, static_cast<int32_t>(tid));
  Internal::OpenStartGate(*child, true);

  int event = (flags & CLONE_VFORK)              ? PTRACE_EVENT_VFORK
              : (request.exit_signal != SIGCHLD) ? PTRACE_EVENT_CLONE
                                                 : PTRACE_EVENT_FORK;
  child.Reset();
  if (!(flags & CLONE_UNTRACED)) Internal::PtraceEvent(*this, event, tid);
  if (vfork_done) {
    BlockerEntry entry(blocker_);
    vfork_done->queue.Add(entry, kEventIn);
    while (!vfork_done->done.load(std::memory_order_acquire)) {
      if (!BlockKillable().ok()) break;
    }
    if (!(flags & CLONE_UNTRACED)) Internal::PtraceEvent(*this, PTRACE_EVENT_VFORK_DONE, tid);
  }
  return tid;
}

}  // namespace sentry::kernel
