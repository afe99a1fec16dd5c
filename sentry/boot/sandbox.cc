// SPDX-License-Identifier: Apache-2.0
#include "sentry/boot/sandbox.h"

#include <signal.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "base/log_level.h"
#include "runsc/errors.h"
#include "runsc/spec/parse.h"
#include "sentry/boot/filesystems.h"
#include "sentry/boot/memory_watch.h"
#include "sentry/boot/network.h"
#include "sentry/kernel/kernel.h"
#include "sentry/mm/memory_manager.h"
#include "sentry/trace/strace.h"

namespace sentry {

using runsc::control::ContainerState;

void Sandbox::SetMemoryLimits(uint64_t bytes) {
  uint64_t limit = std::min(bytes, host_memory_);
  memory_limit_ = limit;
  mm::MemoryManager::SetMemoryLimit(limit);
  // What the sentry and the stubs need comes out of the same limit when it is a cgroup's, and the host needs some for
  // itself.
  SetMemoryWatchLimit(limit - limit / 16);
}

void Sandbox::set_first(std::shared_ptr<Container> container) {
  first_ = std::move(container);
  first_->set_on_exit([this](int wait_status) {
    EndJoined();
    Finish(wait_status);
  });
}

void Sandbox::Finish(int wait_status) {
  base::MutexLock lock(mu_);
  if (finished_) return;
  finished_ = true;
  wait_status_ = wait_status;
  runsc::RecordExitStatus(exit_status_fd_, wait_status);
  changed_.NotifyAll();
}

int Sandbox::WaitForEnd() {
  base::MutexLock lock(mu_);
  while (!finished_) changed_.Wait(mu_);
  return wait_status_;
}

void Sandbox::Lost(const char* what) {
  {
    // The loss of the gofer is seen by its client and by the watch.
    base::MutexLock lock(mu_);
    if (finished_ || std::exchange(lost_, true)) return;
  }
  LOG_ERROR("%s: the container ends", what);
  kernel::Kernel::Get().KillContainer("");
  EndJoined();
  if (first_) first_->End(SIGKILL);
  Finish(SIGKILL);
}

void Sandbox::EndJoined() {
  std::map<std::string, std::shared_ptr<Container>> joined;
  {
    base::MutexLock lock(mu_);
    ending_ = true;
    joined = joined_;
  }
  for (const auto& [id, container] : joined) {
    if (container) container->End(SIGKILL);
  }
}

void Sandbox::ContainerLost(const std::string& id) {
  auto container = Find(id);
  if (!container.ok() || (*container)->State().state == ContainerState::kStopped) return;
  LOG_ERROR("container %s: the gofer process ended: the container ends", id.c_str());
  (*container)->End(SIGKILL);
}

void Sandbox::OomKilled(const std::string& id) {
  auto container = Find(id);
  if (container.ok()) (*container)->CountOomKill();
}

absl::StatusOr<std::shared_ptr<Container>> Sandbox::Find(const std::string& id) const {
  if (first_ && (id.empty() || id == first_->id())) return first_;
  base::MutexLock lock(mu_);
  auto it = joined_.find(id);
  if (it != joined_.end() && it->second) return it->second;
  return absl::NotFoundError(absl::StrCat("container \"", id, "\" does not exist"));
}

absl::Status Sandbox::SetNetwork(const std::string& id, runsc::control::NetworkConfig config) {
  RETURN_IF_ERROR(Find(id).status());
  if (network_is_set_.exchange(true)) return absl::FailedPreconditionError("the sandbox has its network already");
  return SetUpNetwork(std::move(config));
}

absl::StatusOr<std::shared_ptr<Container>> Sandbox::Build(runsc::control::CreateRequest request) {
  const std::string id = request.container_id;
  runsc::BootArgs args;
  args.container_id = id;
  args.bundle = request.bundle;
  args.config = config_;
  args.config.overlay_root = request.overlay_root;
  args.config.overlay_all = args.upper_on_all_mounts = request.overlay_all;
  args.config.overlay_size = request.overlay_size;
  args.config.file_access = request.root_shared ? runsc::FileAccess::kShared : runsc::FileAccess::kExclusive;
  args.config.file_access_mounts = request.mounts_shared ? runsc::FileAccess::kShared : runsc::FileAccess::kExclusive;
  args.upper = request.overlay_root ? runsc::UpperLayer::kMemory : runsc::UpperLayer::kNone;
  args.spec = VALUE_OR_RETURN(runsc::spec::ParseSpec(request.spec_text, request.bundle, nullptr));
  if (request.stdio.size() < (args.spec.process.terminal ? 1u : 3u))
    return absl::InvalidArgumentError("create: wrong number of standard streams");
  if (request.gofer_fds.size() != runsc::spec::GoferMounts(args.spec).size())
    return absl::InvalidArgumentError("create: the number of gofer sockets does not fit the spec");
  kernel::Kernel& kernel = kernel::Kernel::Get();
  const runsc::spec::Namespace* pid = args.spec.linux.Find(runsc::spec::NamespaceType::kPid);
  // A path is another container's of the sandbox, and they share but one; without the namespace it is the "host's".
  RefPtr<kernel::PidNamespace> pid_ns = pid && pid->path.empty()
                                            ? MakeRef<kernel::PidNamespace>(kernel.root_pid_ns(), kernel.root_user_ns())
                                            : kernel.root_pid_ns();
  RefPtr<Credentials> root = Credentials::Root(kAllCapabilities);
  root->user_ns = kernel.root_user_ns();
  MountTreeRequest tree_request{.args = &args,
                                .gofer_fds = std::move(request.gofer_fds),
                                .on_gofer_lost = [this, id] { ContainerLost(id); },
                                .creds = root.get(),
                                .pid_ns = pid_ns,
                                .is_first = false};
  MountTree tree = VALUE_OR_RETURN(BuildMountTree(std::move(tree_request)));
  auto container = std::make_shared<Container>(ContainerOptions{.id = id,
                                                                .bundle = args.bundle,
                                                                .spec = std::move(args.spec),
                                                                .tree = std::move(tree),
                                                                .pid_ns = std::move(pid_ns),
                                                                .is_first = false,
                                                                .is_alone = false},
                                               std::move(request.stdio));
  auto status_file = std::make_shared<base::UniqueFd>(std::move(request.exit_status_fd));
  container->set_on_exit([status_file, weak = std::weak_ptr<Container>(container)](int wait_status) {
    runsc::RecordExitStatus(status_file->get(), wait_status);
    if (auto self = weak.lock()) self->HangUp();
  });
  return container;
}

absl::Status Sandbox::CreateContainer(runsc::control::CreateRequest request) {
  const std::string id = request.container_id;
  if (id.empty() || id == first_->id()) return absl::AlreadyExistsError("the sandbox's first container has this id");
  {
    base::MutexLock lock(mu_);
    if (ending_) return absl::FailedPreconditionError("the sandbox is ending");
    if (joined_.size() >= kMaxJoined)
      return absl::ResourceExhaustedError(absl::StrCat("the sandbox has ", kMaxJoined, " containers already"));
    if (!joined_.try_emplace(id, nullptr).second)
      return absl::AlreadyExistsError(absl::StrCat("container \"", id, "\" already exists in the sandbox"));
  }
  auto container = Build(std::move(request));
  bool too_late = false;
  {
    base::MutexLock lock(mu_);
    too_late = ending_;
    if (container.ok() && !too_late) {
      joined_[id] = *container;
    } else {
      joined_.erase(id);
    }
  }
  RETURN_IF_ERROR(container.status());
  if (too_late) return absl::FailedPreconditionError("the sandbox is ending");
  // Also of one that was lost before it was known.
  (*container)->WatchGofers([this, id] { ContainerLost(id); });
  LOG_DEBUG("container %s joined the sandbox", id.c_str());
  return absl::OkStatus();
}

absl::Status Sandbox::DestroyContainer(const std::string& id) {
  auto container = VALUE_OR_RETURN(Find(id));
  if (container == first_) return absl::FailedPreconditionError("the sandbox's first container ends with the sandbox");
  container->Destroy();
  base::MutexLock lock(mu_);
  joined_.erase(id);
  return absl::OkStatus();
}

absl::Status Sandbox::Start(const std::string& id) {
  auto container = VALUE_OR_RETURN(Find(id));
  if (container != first_ && first_->State().state == ContainerState::kCreated)
    return absl::FailedPreconditionError(
        absl::StrCat("the sandbox's first container, \"", first_->id(), "\", has not been started"));
  return container->Start();
}

absl::StatusOr<int32_t> Sandbox::Exec(runsc::control::ExecRequest request) {
  auto container = VALUE_OR_RETURN(Find(request.container_id));
  return container->Exec(std::move(request));
}

void Sandbox::Wait(const std::string& id, int32_t pid, runsc::control::WaitDone done) {
  auto container = Find(id);
  if (!container.ok()) return done(container.status());
  (*container)->Wait(pid, std::move(done));
}

absl::Status Sandbox::Signal(const std::string& id, int32_t pid, int signal, runsc::control::SignalScope scope) {
  return VALUE_OR_RETURN(Find(id))->Signal(pid, signal, scope);
}

absl::StatusOr<std::vector<runsc::control::ProcessInfo>> Sandbox::Processes(const std::string& id) {
  return VALUE_OR_RETURN(Find(id))->Processes();
}

absl::StatusOr<runsc::control::ContainerInfo> Sandbox::State(const std::string& id) {
  return VALUE_OR_RETURN(Find(id))->State();
}

absl::Status Sandbox::ResizeTerminal(const std::string& id, int32_t pid, uint16_t rows, uint16_t columns) {
  return VALUE_OR_RETURN(Find(id))->ResizeTerminal(pid, rows, columns);
}

absl::Status Sandbox::Pause(const std::string& id) { return VALUE_OR_RETURN(Find(id))->SetPaused(true); }
absl::Status Sandbox::Resume(const std::string& id) { return VALUE_OR_RETURN(Find(id))->SetPaused(false); }

absl::StatusOr<runsc::control::Stats> Sandbox::GetStats(const std::string& id) {
  auto container = VALUE_OR_RETURN(Find(id));
  runsc::control::Stats stats = container->GetStats();
  if (container->is_alone()) {
    // The limit is the sandbox's: so is what counts against it.
    kernel::Kernel& kernel = kernel::Kernel::Get();
    stats.memory_bytes = kernel.memory_file().UsedBytes();
    stats.pids = kernel.tasks().task_count();
    stats.memory_limit_bytes = memory_limit_;
  }
  if (stats.memory_limit_bytes == 0) stats.memory_limit_bytes = memory_limit_;
  return stats;
}

absl::Status Sandbox::Update(const std::string& id, const runsc::control::ResourceUpdate& update) {
  auto container = VALUE_OR_RETURN(Find(id));
  if (container != first_) return container->Update(update);
  if (update.max_tasks) kernel::Kernel::Get().set_max_tasks(*update.max_tasks);
  if (update.memory_limit_bytes) SetMemoryLimits(*update.memory_limit_bytes);
  return absl::OkStatus();
}

void Sandbox::WaitOom(const std::string& id, uint64_t seen, runsc::control::CountDone done) {
  auto container = Find(id);
  if (!container.ok()) return done(container.status());
  (*container)->WaitOom(seen, std::move(done));
}

absl::Status Sandbox::ExportUpper(const std::string& id, bool oci_whiteouts, base::UniqueFd out) {
  return VALUE_OR_RETURN(Find(id))->ExportUpper(oci_whiteouts, std::move(out));
}

absl::Status Sandbox::ForwardPort(const std::string& id, uint16_t port, base::UniqueFd connection) {
  return VALUE_OR_RETURN(Find(id))->ForwardPort(port, std::move(connection));
}

absl::Status Sandbox::SetLogging(const std::string& id, const runsc::control::LoggingChange& change) {
  RETURN_IF_ERROR(Find(id).status());
  if (config_.debug_log.empty() && !config_.also_log_to_stderr)
    return absl::FailedPreconditionError("the sandbox has no log: it was started without --debug-log");
  if (change.level) base::SetLogLevel(static_cast<base::LogLevel>(*change.level));
  if (change.strace && *change.strace)
    trace::EnableStrace(change.strace_only, static_cast<size_t>(config_.strace_log_size));
  if (change.strace && !*change.strace) trace::DisableStrace();
  return absl::OkStatus();
}

void Sandbox::Shutdown() {
  kernel::Kernel::Get().KillContainer("");
  EndJoined();
  first_->End(SIGKILL);
  Finish(SIGKILL);
}

}  // namespace sentry
