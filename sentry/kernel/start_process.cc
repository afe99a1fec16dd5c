// SPDX-License-Identifier: Apache-2.0
// Processes that come from outside: a container's init, and `exec` into a container.
#include "base/log.h"
#include "sentry/kernel/exec_credentials.h"
#include "sentry/kernel/cgroup.h"
#include "sentry/kernel/posix_timers.h"
#include "sentry/kernel/task_internal.h"
#include "sentry/loader/loader.h"

namespace sentry::kernel {
namespace {

constexpr std::string_view kDefaultSearchPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

std::string_view SearchPath(const std::vector<std::string>& envp) {
  for (const std::string& variable : envp) {
    if (variable.starts_with("PATH=")) return std::string_view(variable).substr(5);
  }
  return kDefaultSearchPath;
}

struct Found {
  vfs::FileRef file;
  std::string filename;
};

// As execvp(3): a name without a slash is looked for in PATH; EACCES wins over ENOENT when something was there.
Result<Found> FindFile(const vfs::WalkContext& context, const std::string& filename,
                       const std::vector<std::string>& envp) {
  if (filename.empty()) return Errno(ENOENT);
  if (filename.find('/') != filename.npos) {
    return Found{TRY(loader::OpenExecutable(context, filename, vfs::kFollowFinal)), filename};
  }
  Errno error(ENOENT);
  std::string_view rest = SearchPath(envp);
  for (;;) {
    size_t colon = rest.find(':');
    std::string directory(rest.substr(0, colon));
    std::string candidate = (directory.empty() ? "." : directory) + "/" + filename;
    auto file = loader::OpenExecutable(context, candidate, vfs::kFollowFinal);
    if (file.ok()) return Found{std::move(*file), candidate};
    if (file.error() == Errno(EACCES)) error = file.error();
    if (colon == rest.npos) return error;
    rest.remove_prefix(colon + 1);
  }
}

}  // namespace

Result<RefPtr<Namespaces>> Kernel::NamespacesFor(const ProcessRequest& request) {
  RefPtr<Namespaces> namespaces;
  if (request.join) {
    RefPtr<Task> leader = request.join->leader();
    RefPtr<Namespaces> joined = leader ? leader->namespaces_ref() : nullptr;
    if (!joined) return Errno(ESRCH);
    namespaces = joined->Clone();
    if (request.mounts) namespaces->mounts = request.mounts;
    namespaces->pid_for_children = request.join->pid_ns();
    return namespaces;
  }
  namespaces = NewNamespaces(request.mounts);
  if (request.cgroup_ns) namespaces->cgroup = request.cgroup_ns;
  if (request.pid_ns) {
    namespaces->pid_for_children = request.pid_ns;
    return namespaces;
  }
  MutexLock lock(tasks_.mu());
  bool is_first = root_pid_ns_->last_pid_ == 0 && !root_pid_ns_->dying_;
  if (!is_first) namespaces->pid_for_children = MakeRef<PidNamespace>(root_pid_ns_, root_user_ns_);
  return namespaces;
}

Result<RefPtr<ThreadGroup>> Kernel::StartProcess(const ProcessRequest& request) {
  RefPtr<Namespaces> namespaces = TRY(NamespacesFor(request));
  vfs::WalkContext context{.root = request.root,
                           .start = request.cwd,
                           .creds = *request.creds,
                           .mounts = namespaces->mounts,
                           .umask = request.umask};
  Found found = TRY(FindFile(context, request.filename, request.envp));
  loader::Program program = TRY(loader::FindProgram(context, found.file, found.filename, request.argv));
  RefPtr<ExeFile> exe_file = TRY(ExeFile::Create(program.file));
  ExecFile exec_file = TRY(InspectExecFile(*request.creds, *program.file, request.no_new_privs));
  ExecCredentials creds = TRY(TransformCredentials(*request.creds, exec_file));

  auto group = MakeRef<ThreadGroup>(namespaces->pid_for_children, MakeRef<SignalHandlers>(), SIGCHLD);
  group->set_container_id(request.container_id);
  if (request.join) group->limits().CopyFrom(request.join->limits());
  for (const auto& [resource, limit] : request.limits)
    TRY(group->limits().Set(resource, limit, /*may_raise_hard=*/true));

  loader::Image image = TRY(loader::Load(*platform_, *memory_file_,
                                         {.context = context,
                                          .program = program,
                                          .filename = found.filename,
                                          .envp = request.envp,
                                          .new_creds = *creds.creds,
                                          .secure = creds.secure,
                                          .limits = MmLimitsOf(group->limits()),
                                          .vdso = vdso_.get()}));

  RefPtr<Task> task(new Task(*this, group));
  image.mm->task_count.fetch_add(1, std::memory_order_relaxed);
  task->mm_ = std::move(image.mm);
  task->context_ = platform_->NewContext();
  task->regs_ = image.registers;
  task->creds_ = creds.creds;
  task->fds_ = request.fds;
  task->fs_ = MakeRef<vfs::FsContext>(request.root, request.cwd, request.umask);
  task->namespaces_ = std::move(namespaces);
  task->set_name(BaseName(found.filename));
  {
    MutexLock lock(task->mu_);
    task->exe_ = exe_file->file()->path();
    task->internal_->exe_file = std::move(exe_file);
  }
  task->no_new_privs.store(request.no_new_privs, std::memory_order_relaxed);
  task->internal_->map_eagerly = true;

  if (!Task::Internal::StartThread(task)) {
    Task::Internal::Abandon(*task);
    return Errno(EAGAIN);
  }
  Result<void> linked;
  RefPtr<ProcessGroup> process_group;
  {
    MutexLock lock(tasks_.mu());
    // exec joins the place of the container's init.
    const Task* init = request.join ? request.join->state().leader : nullptr;
    linked = Task::Internal::LinkLocked(*task, {});
    if (linked.ok()) {
      Cgroups::Get().ForkLocked(*task, init, init ? nullptr : request.cgroup.get());
      process_group = group->state().process_group;
      if (request.seccomp) StartWithSeccompFilter(*task, request.seccomp);
      if (IsPaused()) task->internal_->work.fetch_or(kWorkPause, std::memory_order_relaxed);
    }
  }
  if (!linked.ok()) {
    Task::Internal::OpenStartGate(*task, false);
    return linked.error();
  }
  if (request.terminal && process_group->session()->SetTerminal(request.terminal)) {
    request.terminal->Associate(process_group->session(), process_group);
  }
  group->timers().EnforceCpuLimit();
  if (request.before_start) request.before_start(group);
  Task::Internal::OpenStartGate(*task, true);
  return group;
}

}  // namespace sentry::kernel
