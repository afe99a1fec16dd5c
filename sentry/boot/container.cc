// SPDX-License-Identifier: Apache-2.0
#include "sentry/boot/container.h"

#include <signal.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <thread>

#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/memory_trim.h"
#include "runsc/errors.h"
#include "sentry/boot/container_cgroup.h"
#include "sentry/boot/seccomp_profile.h"
#include "sentry/boot/terminal.h"
#include "sentry/fs/host/host_file.h"
#include "sentry/vfs/vfs.h"

namespace sentry {
namespace {

using runsc::control::ContainerState;
using runsc::control::SignalScope;

// Exited processes that nobody waited for yet are kept up to this many.
constexpr size_t kMaxUnclaimed = 1024;
constexpr int64_t kTrimAfterNs = base::kNsPerSecond / 2;

RefPtr<const Credentials> CredentialsOf(const runsc::spec::Process& process) {
  auto creds = MakeRef<Credentials>();
  creds->ruid = creds->euid = creds->suid = creds->fsuid = process.user.uid;
  creds->rgid = creds->egid = creds->sgid = creds->fsgid = process.user.gid;
  creds->groups.assign(process.user.additional_gids.begin(), process.user.additional_gids.end());
  std::sort(creds->groups.begin(), creds->groups.end());
  creds->user_ns = kernel::Kernel::Get().root_user_ns();
  if (process.capabilities) {
    const auto& c = *process.capabilities;
    creds->bounding = c.bounding & kAllCapabilities;
    creds->permitted = c.permitted & kAllCapabilities;
    creds->effective = c.effective & kAllCapabilities;
    creds->inheritable = c.inheritable & kAllCapabilities;
    creds->ambient = c.ambient & kAllCapabilities;
  }
  return creds;
}

// What exec's failure looks like to the users of runc.
absl::Status ExecError(const std::string& program, Errno error) {
  std::string text = absl::StrCat("exec: \"", program, "\": ", runsc::ErrnoText(error.number()));
  if (error == Errno(ENOENT) && program.find('/') == std::string::npos)
    text = absl::StrCat("exec: \"", program, "\": executable file not found in $PATH");
  if (error == Errno(ENOEXEC))
    text = absl::StrCat("exec: \"", program, "\": exec format error: not a program for x86-64 Linux");
  return absl::FailedPreconditionError(text);
}

}  // namespace

Container::Container(ContainerOptions options, std::vector<base::UniqueFd> stdio)
    : options_(std::move(options)), stdio_(std::move(stdio)) {}

RefPtr<kernel::Cgroup> Container::OwnCgroup() const { return ContainerCgroup(id_, spec_, is_first()); }

std::vector<RefPtr<kernel::ThreadGroup>> Container::ThreadGroups() const {
  kernel::Kernel& kernel = kernel::Kernel::Get();
  std::vector<RefPtr<kernel::ThreadGroup>> groups;
  for (auto& [pid, group] : kernel.tasks().ThreadGroups(*kernel.root_pid_ns())) {
    if (group->container_id() == id_) groups.push_back(std::move(group));
  }
  return groups;
}

absl::StatusOr<kernel::ProcessRequest> Container::RequestFor(const runsc::spec::Process& process,
                                                             RefPtr<kernel::ThreadGroup> join) {
  kernel::ProcessRequest request;
  request.creds = CredentialsOf(process);
  request.root = tree_.root;
  request.mounts = tree_.mounts;
  vfs::WalkContext walk{
      .root = tree_.root, .start = tree_.root, .creds = *request.creds, .mounts = tree_.mounts, .umask = 022};
  auto cwd = vfs::Resolve(walk, process.cwd, vfs::kFollowFinal | vfs::kDirectory);
  if (!cwd.ok() && !join && cwd.error() == Errno(ENOENT)) {
    // runc makes a missing working directory.
    RefPtr<Credentials> root = Credentials::Root(kAllCapabilities);
    vfs::WalkContext as_root{
        .root = tree_.root, .start = tree_.root, .creds = *root, .mounts = tree_.mounts, .umask = 022};
    for (size_t at = 1; at != std::string::npos;) {
      at = process.cwd.find('/', at);
      (void)vfs::Mkdir(as_root, process.cwd.substr(0, at), 0755).ok();
      if (at != std::string::npos) ++at;
    }
    cwd = vfs::Resolve(walk, process.cwd, vfs::kFollowFinal | vfs::kDirectory);
  }
  if (!cwd.ok())
    return absl::FailedPreconditionError(
        absl::StrCat("process.cwd: chdir to \"", process.cwd, "\": ", runsc::ErrnoText(cwd.error().number())));
  request.cwd = *cwd;
  request.argv = process.args;
  request.filename = process.args[0];
  request.envp = process.env;
  request.container_id = id_;
  request.cgroup = OwnCgroup();
  if (!join && spec_.linux.Find(runsc::spec::NamespaceType::kCgroup)) {
    request.cgroup_ns = kernel::Cgroups::Get().NewNamespace(nullptr, request.cgroup.get(),
                                                            kernel::Kernel::Get().root_user_ns(), UserCharge());
  }
  request.join = join;
  if (!join && !is_first()) request.pid_ns = options_.pid_ns;
  request.no_new_privs = process.no_new_privileges;
  request.umask = process.user.umask.value_or(022);
  for (const auto& limit : process.rlimits)
    request.limits.emplace_back(limit.resource, rlimit64{limit.soft, limit.hard});
  if (spec_.linux.seccomp) {
    auto filter = CompileSeccompProfile(*spec_.linux.seccomp);
    if (!filter.ok()) return filter.status();
    request.seccomp = *filter;
  }
  request.fds = MakeRef<kernel::FdTable>();
  return request;
}

absl::StatusOr<Container::Started> Container::StartProcess(const runsc::spec::Process& process,
                                                           std::vector<base::UniqueFd> stdio,
                                                           RefPtr<kernel::ThreadGroup> join) {
  kernel::ProcessRequest request = VALUE_OR_RETURN(RequestFor(process, join));
  absl::Status hooks;
  if (!join && !spec_.hooks.start_container.empty()) {
    request.before_start = [&](const RefPtr<kernel::ThreadGroup>& init) {
      hooks = RunStartHooks(init);
      // It has not run yet, and will not.
      if (!hooks.ok()) kernel::Kernel::Get().KillContainer(id_);
    };
  }
  Started started;
  constexpr uint64_t kNoLimit = 1 << 20;
  if (process.terminal) {
    if (stdio.empty() || !stdio[0].ok()) return absl::InvalidArgumentError("process.terminal: no console was given");
    auto terminal = NewContainerTerminal(tree_, *request.creds, process.console_size);
    if (!terminal.ok()) return terminal.status();
    for (int fd = 0; fd < 3; ++fd) (void)request.fds->Set(fd, terminal->slave, false, kNoLimit).ok();
    request.terminal = terminal->controlling;
    started.master = terminal->master;
    started.pump = TerminalPump::Start(std::move(stdio[0]), terminal->master);
  }
  // The console stands for three; behind the standard streams are those of --preserve-fds.
  const size_t shift = process.terminal ? 2 : 0;
  for (size_t i = process.terminal ? 1 : 0; i < stdio.size(); ++i) {
    if (!stdio[i].ok()) continue;
    auto file = fs::NewHostFile(std::move(stdio[i]), *request.creds);
    if (file.ok()) (void)request.fds->Set(static_cast<int>(i + shift), *file, false, kNoLimit).ok();
  }
  auto group = kernel::Kernel::Get().StartProcess(request);
  if (!group.ok()) return ExecError(process.args[0], group.error());
  RETURN_IF_ERROR(hooks);
  started.group = *group;
  if (process.oom_score_adj) started.group->oom_score_adj.store(*process.oom_score_adj);
  LOG_DEBUG("container %s: process %d starts: %s", id_.c_str(), started.group->tgid(), process.args[0].c_str());
  return started;
}

absl::Status Container::Start() {
  std::vector<base::UniqueFd> stdio;
  {
    base::MutexLock lock(mu_);
    if (state_ != ContainerState::kCreated || starting_)
      return absl::FailedPreconditionError("cannot start a container that is not in the created state");
    starting_ = true;
    stdio = std::move(stdio_);
  }
  auto started = StartProcess(spec_.process, std::move(stdio), nullptr);
  if (!started.ok()) {
    // runc's status for a program that can't be run.
    Stopped(127 << 8);
    return started.status();
  }
  int32_t pid = started->group->TgidIn(*started->group->pid_ns());
  {
    base::MutexLock lock(mu_);
    state_ = ContainerState::kRunning;
    init_pid_ = pid;
    // Those who waited for a container that was only created.
    std::vector<runsc::control::WaitDone> early = std::move(processes_[0].waiters);
    processes_.erase(0);
    processes_[pid] = {.group = started->group,
                       .terminal_master = started->master,
                       .pump = started->pump,
                       .waiters = std::move(early)};
  }
  Watch(pid, started->group);
  return absl::OkStatus();
}

absl::StatusOr<int32_t> Container::Exec(runsc::control::ExecRequest request) {
  RefPtr<kernel::ThreadGroup> init;
  {
    base::MutexLock lock(mu_);
    if (state_ != ContainerState::kRunning)
      return absl::FailedPreconditionError("cannot exec in a container that is not running");
    init = processes_[init_pid_].group;
  }
  runsc::spec::Process process = std::move(request.process);
  if (!process.capabilities) process.capabilities = spec_.process.capabilities;
  Started started = VALUE_OR_RETURN(StartProcess(process, std::move(request.fds), init));
  int32_t pid = started.group->TgidIn(*init->pid_ns());
  {
    base::MutexLock lock(mu_);
    size_t unclaimed =
        std::count_if(processes_.begin(), processes_.end(), [](const auto& p) { return p.second.exited; });
    for (auto it = processes_.begin(); unclaimed >= kMaxUnclaimed && it != processes_.end();) {
      bool drop = it->second.exited && it->first != init_pid_;
      it = drop ? processes_.erase(it) : std::next(it);
      unclaimed -= drop;
    }
    processes_[pid] = {.group = started.group, .terminal_master = started.master, .pump = started.pump};
  }
  Watch(pid, started.group);
  return pid;
}

void Container::Watch(int32_t pid, RefPtr<kernel::ThreadGroup> group) {
  std::thread([this, self = shared_from_this(), pid, group = std::move(group)] {
    // Most programs that are still there have got over their start.
    auto status = group->WaitForExit(base::MonotonicNs() + kTrimAfterNs);
    if (!status) {
      base::TrimMemory();
      status = group->WaitForExit(kNoDeadline);
    }
    OnExit(pid, status ? status->ToWaitStatus() : SIGKILL);
  }).detach();
}

void Container::OnExit(int32_t pid, int wait_status) {
  LOG_DEBUG("container %s: process %d ended with wait status %#x", id_.c_str(), pid,
            static_cast<unsigned>(wait_status));
  std::vector<runsc::control::WaitDone> waiters;
  std::shared_ptr<TerminalPump> pump;
  bool is_init;
  {
    base::MutexLock lock(mu_);
    is_init = pid == init_pid_;
    pump = processes_[pid].pump;
  }
  // What the process wrote last comes out before its end is told.
  if (pump) pump->Drain(base::kNsPerSecond);
  if (is_init) {
    kernel::Kernel::Get().KillContainer(id_);
    Stopped(wait_status);
    return;
  }
  {
    base::MutexLock lock(mu_);
    Process& process = processes_[pid];
    process.exited = true;
    process.wait_status = wait_status;
    process.group.Reset();
    process.terminal_master.Reset();
    process.pump.reset();
    waiters.swap(process.waiters);
    if (!waiters.empty()) processes_.erase(pid);
  }
  for (auto& done : waiters) done(wait_status);
}

void Container::Stopped(int wait_status) {
  std::vector<runsc::control::WaitDone> waiters;
  std::vector<runsc::control::CountDone> oom_waiters;
  {
    base::MutexLock lock(mu_);
    if (state_ == ContainerState::kStopped) return;
    state_ = ContainerState::kStopped;
    init_status_ = wait_status;
    stdio_.clear();
    oom_waiters.swap(oom_waiters_);
    for (auto& [pid, process] : processes_) {
      bool is_init = pid == init_pid_;
      for (auto& done : process.waiters) {
        waiters.push_back(
            [done = std::move(done), is_init, wait_status](auto) { done(is_init ? wait_status : SIGKILL); });
      }
      process.waiters.clear();
    }
  }
  for (auto& done : waiters) done(0);
  for (auto& done : oom_waiters) done(absl::NotFoundError("container not running"));
  if (on_exit_) on_exit_(wait_status);
}

void Container::End(int wait_status) {
  kernel::Kernel::Get().KillContainer(id_);
  Stopped(wait_status);
}

void Container::Wait(int32_t pid, runsc::control::WaitDone done) {
  std::optional<absl::StatusOr<int32_t>> answer;
  {
    base::MutexLock lock(mu_);
    if (pid == 0 && state_ == ContainerState::kStopped) {
      answer = init_status_;
    } else if (pid == 0 && state_ == ContainerState::kCreated) {
      // Kept under the number that init will not have; Start moves them.
      processes_[0].waiters.push_back(done);
      return;
    } else {
      auto it = processes_.find(pid == 0 ? init_pid_ : pid);
      if (it == processes_.end()) {
        answer = absl::NotFoundError(absl::StrCat("no process ", pid, " was started in container \"", id_, "\""));
      } else if (it->second.exited) {
        answer = it->second.wait_status;
        if (it->first != init_pid_) processes_.erase(it);
      } else {
        it->second.waiters.push_back(std::move(done));
        return;
      }
    }
  }
  done(*std::move(answer));
}

absl::Status Container::Signal(int32_t pid, int signal, SignalScope scope) {
  RefPtr<kernel::ThreadGroup> group;
  bool end_created = false;
  {
    base::MutexLock lock(mu_);
    if (state_ == ContainerState::kStopped) return absl::FailedPreconditionError("container not running");
    if (state_ == ContainerState::kCreated) {
      if (signal != SIGKILL && signal != SIGTERM)
        return signal == 0 ? absl::OkStatus() : absl::FailedPreconditionError("container not running");
      end_created = true;
    } else {
      auto it = processes_.find(pid == 0 ? init_pid_ : pid);
      if (it != processes_.end()) group = it->second.group;
    }
  }
  if (end_created) {
    Stopped(signal);
    return absl::OkStatus();
  }
  kernel::Kernel& kernel = kernel::Kernel::Get();
  if (!group) group = kernel.tasks().FindThreadGroup(*options_.pid_ns, pid);
  if (group && group->container_id() != id_) group.Reset();
  if (!group || group->HasExited()) return absl::NotFoundError("os: process already finished");
  if (signal == 0) return absl::OkStatus();
  kernel::SignalInfo info = kernel::UserSignal(signal, 0, 0);
  switch (scope) {
    case SignalScope::kProcess:
      (void)group->SendSignal(info).ok();
      break;
    case SignalScope::kProcessGroup:
    case SignalScope::kForegroundGroup: {
      RefPtr<kernel::ProcessGroup> target = group->process_group();
      if (scope == SignalScope::kForegroundGroup && group->session()) {
        if (auto terminal = group->session()->terminal()) {
          if (auto foreground = terminal->Foreground()) target = foreground;
        }
      }
      if (target) target->SendSignal(info);
      break;
    }
    case SignalScope::kAll:
      for (const auto& each : ThreadGroups()) (void)each->SendSignal(info).ok();
      break;
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<runsc::control::ProcessInfo>> Container::Processes() {
  {
    base::MutexLock lock(mu_);
    if (state_ == ContainerState::kStopped) return absl::FailedPreconditionError("container not running");
  }
  std::vector<runsc::control::ProcessInfo> out;
  const int64_t now = base::ClockNs(CLOCK_BOOTTIME), to_realtime = base::RealtimeNs() - now;
  for (const auto& group : ThreadGroups()) {
    if (group->HasExited()) continue;
    runsc::control::ProcessInfo info;
    info.pid = group->TgidIn(*options_.pid_ns);
    if (auto parent = group->parent()) info.ppid = parent->TgidIn(*options_.pid_ns);
    info.threads = group->thread_count();
    if (auto leader = group->leader()) {
      info.command = leader->name();
      if (auto creds = leader->creds_ref()) info.uid = creds->euid;
    }
    if (auto session = group->session()) {
      if (auto terminal = session->terminal()) info.tty = absl::StrCat("pts/", minor(terminal->Device()));
    }
    info.start_time_ns = group->start_time_ns() + to_realtime;
    kernel::CpuUsage usage = group->usage();
    info.cpu_time_ns = usage.user_ns + usage.system_ns;
    int64_t age = now - group->start_time_ns();
    if (age > 0) info.cpu_percent = static_cast<int>(info.cpu_time_ns * 100 / age);
    out.push_back(std::move(info));
  }
  return out;
}

runsc::control::ContainerInfo Container::State() {
  base::MutexLock lock(mu_);
  return {.state = state_, .init_wait_status = init_status_};
}

absl::Status Container::ResizeTerminal(int32_t pid, uint16_t rows, uint16_t columns) {
  vfs::FileRef master;
  {
    base::MutexLock lock(mu_);
    auto it = processes_.find(pid == 0 ? init_pid_ : pid);
    if (it == processes_.end()) return absl::NotFoundError("os: process already finished");
    master = it->second.terminal_master;
  }
  if (!master) return absl::FailedPreconditionError("the process has no terminal");
  SetTerminalSize(*master, rows, columns);
  return absl::OkStatus();
}

}  // namespace sentry
