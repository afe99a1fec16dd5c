// SPDX-License-Identifier: Apache-2.0
// execve(2). The new image is loaded whole before anything of the old one is touched, so every error of the file leaves
// the caller as it was; after the other threads are gone there is no way back.
#include <sys/personality.h>

#include "base/log.h"
#include "sentry/kernel/exec_credentials.h"
#include "sentry/kernel/posix_timers.h"
#include "sentry/kernel/ptrace.h"
#include "sentry/kernel/task_internal.h"
#include "sentry/loader/loader.h"

namespace sentry::kernel {

namespace {
// What set-user-id programs don't inherit (PER_CLEAR_ON_SETID of the kernel).
constexpr uint32_t kClearedPersonality = READ_IMPLIES_EXEC | ADDR_NO_RANDOMIZE | ADDR_COMPAT_LAYOUT | MMAP_PAGE_ZERO;
}  // namespace

mm::MmLimits MmLimitsOf(const Limits& limits) {
  return {.address_space = limits.Soft(RLIMIT_AS),
          .data = limits.Soft(RLIMIT_DATA),
          .stack = limits.Soft(RLIMIT_STACK),
          .memlock = limits.Soft(RLIMIT_MEMLOCK)};
}

std::string_view BaseName(std::string_view path) {
  size_t slash = path.rfind('/');
  return slash == path.npos ? path : path.substr(slash + 1);
}

// Takes over the ids of the zombie leader. T held; all other threads are gone.
void Task::Internal::BecomeLeaderLocked(Task& task, Garbage& garbage) {
  ThreadGroup::State& state = task.group_->state();
  RefPtr<Task> former(state.leader);
  for (PidNamespace* ns = task.group_->pid_ns_.get(); ns; ns = ns->parent().get()) {
    std::atomic<pid_t>& mine = task.internal_->ids[ns->level()];
    std::atomic<pid_t>& theirs = former->internal_->ids[ns->level()];
    pid_t id = mine.load(std::memory_order_relaxed);
    mine.store(theirs.load(std::memory_order_relaxed), std::memory_order_relaxed);
    theirs.store(id, std::memory_order_relaxed);
    ns->tasks_[mine.load(std::memory_order_relaxed)] = &task;
    ns->tasks_[id] = former.get();
  }
  task.internal_->answers_stale.store(true, std::memory_order_relaxed);
  former->tid_.store(task.tid_.exchange(former->tid_.load()), std::memory_order_relaxed);
  {
    SignalLock lock(*task.group_);
    state.leader = &task;
  }
  ReleaseTaskLocked(*former, garbage);
  garbage.tasks.push_back(std::move(former));
}

Result<void> Task::Internal::DeThread(Task& task) {
  ThreadGroup::State& state = task.group_->state();
  Mutex& topology = task.kernel_.tasks().mu();
  {
    MutexLock lock(topology);
    SignalLock signals(*task.group_);
    if (state.exiting || state.exec_task) return base::kErestartnointr;
    if (state.threads.size() == 1) return OkResult();
    state.exec_task = &task;
    for (const RefPtr<Task>& thread : state.threads) {
      if (thread.get() != &task) AddWork(*thread, kWorkKill);
    }
  }
  for (;;) {
    Garbage garbage;
    {
      MutexLock lock(topology);
      bool killed = task.internal_->work.load(std::memory_order_acquire) & kWorkFatal;
      bool alone = true;
      for (const RefPtr<Task>& thread : state.threads) {
        alone = alone && (thread.get() == &task || (thread.get() == state.leader && thread->internal_->zombie));
      }
      if (killed || alone) {
        {
          SignalLock signals(*task.group_);
          state.exec_task = nullptr;
        }
        if (killed) return base::kErestartnointr;
        if (state.leader != &task) BecomeLeaderLocked(task, garbage);
        return OkResult();
      }
    }
    (void)task.BlockKillable();
  }
}

// Swaps the address space. False when the host gives no process for it.
bool Task::Internal::EnterImage(Task& task, RefPtr<mm::MemoryManager> mm, RefPtr<ExeFile> exe_file) {
  ReleaseMm(task);
  mm->task_count.fetch_add(1, std::memory_order_relaxed);
  vfs::Path exe = exe_file->file()->path();
  {
    MutexLock lock(task.mu_);
    std::swap(task.mm_, mm);
    std::swap(task.exe_, exe);
    std::swap(task.internal_->exe_file, exe_file);
  }
  auto bound = task.context_->Bind(task.mm_->address_space());
  if (mm && mm->task_count.fetch_sub(1, std::memory_order_acq_rel) == 1) mm->Clear();
  if (!bound.ok()) {
    LOG_WARNING("no host process for the new image of guest task %d: %s", task.tid(), bound.error().Name());
    return false;
  }
  task.internal_->map_eagerly = true;
  return task.context_->ResetFpu().ok();
}

Result<void> Task::Exec(const vfs::FileRef& executable, std::string filename, std::vector<std::string> argv,
                        std::vector<std::string> envp) {
  return Internal::Exec(*this, executable, std::move(filename), std::move(argv), std::move(envp), /*reachable=*/true);
}

Result<void> Task::Internal::Exec(Task& task, const vfs::FileRef& executable, std::string filename,
                                  std::vector<std::string> argv, std::vector<std::string> envp, bool reachable) {
  vfs::WalkContext context{.root = task.fs_->root(),
                           .start = task.fs_->cwd(),
                           .creds = *task.creds_,
                           .mounts = task.namespaces_->mounts,
                           .umask = task.umask()};
  loader::Program program = TRY(loader::FindProgram(context, executable, filename, std::move(argv), reachable));
  RefPtr<ExeFile> exe_file = TRY(ExeFile::Create(program.file));
  const bool no_privilege = task.no_new_privs.load(std::memory_order_relaxed) || IsTraced(task);
  ExecFile exec_file = TRY(InspectExecFile(*task.creds_, *program.file, no_privilege));
  ExecCredentials exec_creds = TRY(TransformCredentials(*task.creds_, exec_file));
  const uint32_t personality = task.personality.load(std::memory_order_relaxed);
  RefPtr<mm::MappedObject> clock_offsets = TRY(task.namespaces_->time_for_children->Enter());
  loader::Image image = TRY(loader::Load(task.kernel_.platform(), task.kernel_.memory_file(),
                                         {.context = context,
                                          .program = program,
                                          .filename = filename,
                                          .envp = envp,
                                          .new_creds = *exec_creds.creds,
                                          .secure = exec_creds.secure,
                                          .randomize = !(personality & ADDR_NO_RANDOMIZE),
                                          .limits = MmLimitsOf(task.group_->limits()),
                                          .vdso = task.kernel_.vdso(),
                                          .clock_offsets = std::move(clock_offsets)}));
  const pid_t former_tid = task.TidIn(task.pid_ns());
  TRY(DeThread(task));
  task.group_->async_work().CancelAll(task);

  // No way back from here.
  if (!EnterImage(task, std::move(image.mm), std::move(exe_file))) {
    task.group_->Exit({.signal = SIGKILL});
    return OkResult();
  }
  if (!task.fds_->HasOneRef()) task.set_fds(task.fds_->Clone());
  task.fds_->CloseOnExec();
  ResetSignalsForExec(task);
  task.group_->timers().OnExec();
  if (task.keyrings) keys::Keys::Get().OnExec(*task.keyrings);
  const Credentials& creds = *exec_creds.creds;
  bool plain = creds.euid == creds.ruid && creds.egid == creds.rgid && !exec_creds.secure;
  // An image that the caller could not have read must not be read through its memory either.
  bool readable = program.file->inode()->CheckPermission(*task.creds_, vfs::kMayRead).ok();
  task.mm_->dumpable.store(plain && readable ? 1 : 0, std::memory_order_relaxed);
  if (exec_creds.secure) task.parent_death_signal.store(0, std::memory_order_relaxed);
  if (exec_creds.secure) task.personality.fetch_and(~kClearedPersonality, std::memory_order_relaxed);
  if (task.namespaces_->time != task.namespaces_->time_for_children) {
    RefPtr<Namespaces> namespaces = task.namespaces_->Clone();
    namespaces->time = namespaces->time_for_children;
    task.set_namespaces(std::move(namespaces));
  }
  task.set_creds(exec_creds.creds);
  task.set_name(BaseName(filename));
  task.regs_ = image.registers;
  task.restart_block = nullptr;
  {
    MutexLock lock(task.kernel_.tasks().mu());
    ThreadGroup::State& state = task.group_->state();
    state.has_exec = true;
    state.exit_signal = SIGCHLD;
  }
  PtraceExec(task, former_tid);
  return OkResult();
}

}  // namespace sentry::kernel
