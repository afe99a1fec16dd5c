// SPDX-License-Identifier: Apache-2.0
#include "shim/task.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "base/log.h"
#include "runsc/boot_args.h"
#include "runsc/container/store.h"
#include "runsc/control/client.h"
#include "runsc/errors.h"
#include "runsc/spec/json_reader.h"
#include "runsc/spec/parse.h"
#include "shim/console_socket.h"
#include "shim/mounts.h"
#include "shim/proto/events.pb.h"
#include "shim/reaper.h"
#include "shim/thread.h"

namespace shim {
namespace {

constexpr int64_t kExecsEndNs = base::kNsPerSecond;

// `delete` of a later process needs them to find the container.
absl::Status SaveOptions(const pb::CreateTaskRequest& request) {
  const std::string path = request.bundle() + "/options.any", text = request.options().SerializeAsString();
  base::UniqueFd fd(open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  if (fd.ok() && write(fd.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size())) {
    return absl::OkStatus();
  }
  return absl::FailedPreconditionError(absl::StrCat(path, ": ", runsc::ErrnoText(errno)));
}

void SetTime(int64_t ns, pb::Timestamp* out) {
  out->set_seconds(ns / base::kNsPerSecond);
  out->set_nanos(static_cast<int32_t>(ns % base::kNsPerSecond));
}

}  // namespace

template <typename Event>
void Task::Publish(const char* topic, const char* type, const Event& event) {
  publisher_->Publish(topic, absl::StrCat("containerd.events.", type), event.SerializeAsString());
}

Task::Task(std::string id, std::string bundle, Runtime runtime, Publisher* publisher)
    : id_(std::move(id)), bundle_(std::move(bundle)), runtime_(std::move(runtime)), publisher_(publisher) {}

absl::StatusOr<std::shared_ptr<Task>> Task::Create(const pb::CreateTaskRequest& request, const std::string& name_space,
                                                   Publisher* publisher) {
  if (!request.checkpoint().empty()) {
    return absl::UnimplementedError("a container cannot be restored from a checkpoint yet");
  }
  if (request.bundle().empty() || request.bundle()[0] != '/') {
    return absl::InvalidArgumentError("bundle: must be an absolute path");
  }
  RuntimeOptions options = VALUE_OR_RETURN(ParseOptions(request.options()));
  RETURN_IF_ERROR(SaveOptions(request));
  std::shared_ptr<Task> task(
      new Task(request.id(), request.bundle(), Runtime(std::move(options), name_space, request.bundle()), publisher));
  const std::string rootfs = request.bundle() + "/rootfs";
  std::vector<pb::Mount> mounts(request.rootfs().begin(), request.rootfs().end());
  if (!mounts.empty()) mkdir(rootfs.c_str(), 0711);
  RETURN_IF_ERROR(MountAll(mounts, rootfs));
  absl::Status status = task->CreateContainer(request, name_space);
  if (!status.ok()) {
    if (!mounts.empty()) UnmountAll(rootfs);
    return status;
  }
  return task;
}

absl::Status Task::CreateContainer(const pb::CreateTaskRequest& request, const std::string& name_space) {
  base::MutexLock order(order_mu_);
  auto init = std::make_shared<Process>();
  init->paths = {.terminal = request.terminal(),
                 .in = request.stdin(),
                 .out = request.stdout(),
                 .err = request.stderr(),
                 .container_id = id_,
                 .name_space = name_space};
  init->io = VALUE_OR_RETURN(ProcessIo::Open(init->paths));
  const std::string pid_file = bundle_ + "/init.pid";
  RuntimeCall call{.arguments = {"create", "--bundle=" + bundle_, "--pid-file=" + pid_file}};
  ConsoleSocket console;
  if (request.terminal()) {
    console = VALUE_OR_RETURN(ConsoleSocket::Listen(bundle_));
    call.fds = {{ConsoleSocket::kChildFd, console.directory()}};
    call.arguments.push_back("--console-socket=" + ConsoleSocket::ChildPath());
  } else {
    std::vector<int> fds = init->io->ChildFds();
    for (int fd = 0; fd <= 2; ++fd) call.fds.emplace_back(fd, fds[fd]);
  }
  call.arguments.push_back(id_);
  RETURN_IF_ERROR(runtime_.Call(call));
  std::string text;
  int pid = 0;
  absl::Status status = runsc::spec::ReadSmallFile(pid_file, &text);
  if (status.ok() && (!absl::SimpleAtoi(text, &pid) || pid <= 0)) status = absl::InternalError(pid_file + ": no pid");
  if (status.ok() && request.terminal()) {
    auto master = console.Accept();
    status = master.ok() ? init->io->Attach(*std::move(master)) : master.status();
  }
  if (!status.ok()) {
    runtime_.Call({.arguments = {"delete", "--force", id_}}).IgnoreError();
    return status;
  }
  if (!request.terminal()) init->io->ChildStarted();
  init->pid = static_cast<uint32_t>(pid);
  {
    auto record = runsc::ContainerStore(runtime_.root()).Load(id_);
    base::MutexLock lock(mu_);
    processes_[""] = init;
    joined_ = record.ok() && !record->sandbox_id.empty();
  }
  pb::TaskCreate event;
  event.set_container_id(id_);
  event.set_bundle(bundle_);
  *event.mutable_rootfs() = request.rootfs();
  event.mutable_io()->set_stdin(request.stdin());
  event.mutable_io()->set_stdout(request.stdout());
  event.mutable_io()->set_stderr(request.stderr());
  event.mutable_io()->set_terminal(request.terminal());
  event.set_pid(init->pid);
  Publish("/tasks/create", "TaskCreate", event);
  WatchMemory();
  Reaper::Get().OnExit(pid, [self = shared_from_this(), init](int wait_status) {
    self->OnExit(init, static_cast<uint32_t>(runsc::ExitCodeOf(wait_status)));
  });
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<Task::Process>> Task::Find(const std::string& exec_id) {
  base::MutexLock lock(mu_);
  auto it = processes_.find(exec_id);
  if (it != processes_.end()) return it->second;
  return absl::NotFoundError(absl::StrCat("process \"", exec_id, "\" of container \"", id_, "\" does not exist"));
}

void Task::AwaitEndOfExecs() {
  const int64_t deadline = base::MonotonicNs() + kExecsEndNs;
  base::MutexLock lock(mu_);
  auto is_running = [](const auto& entry) {
    return !entry.first.empty() && entry.second->started && !entry.second->exited;
  };
  while (std::any_of(processes_.begin(), processes_.end(), is_running) && changed_.WaitUntil(mu_, deadline)) {
  }
}

void Task::OnExit(const std::shared_ptr<Process>& process, uint32_t status) {
  std::shared_ptr<ProcessIo> io;
  {
    base::MutexLock lock(mu_);
    io = process->io;
  }
  io->Drain();
  if (process->exec_id.empty()) AwaitEndOfExecs();
  // Behind the start that is being told of.
  base::MutexLock order(order_mu_);
  Exit exit{.status = status, .at_ns = base::RealtimeNs()};
  pb::TaskExit event;
  event.set_container_id(id_);
  event.set_id(process->exec_id.empty() ? id_ : process->exec_id);
  event.set_exit_status(status);
  SetTime(exit.at_ns, event.mutable_exited_at());
  {
    base::MutexLock lock(mu_);
    if (process->exited) return;
    process->exited = true;
    process->exit = exit;
    event.set_pid(process->pid);
    changed_.NotifyAll();
  }
  Publish("/tasks/exit", "TaskExit", event);
}

absl::StatusOr<uint32_t> Task::Start(const std::string& exec_id) {
  auto process = VALUE_OR_RETURN(Find(exec_id));
  base::MutexLock order(order_mu_);
  {
    base::MutexLock lock(mu_);
    if (process->started || process->exited) return absl::FailedPreconditionError("the process was started before");
  }
  if (exec_id.empty()) {
    RETURN_IF_ERROR(runtime_.Call({.arguments = {"start", id_}}));
  } else {
    RETURN_IF_ERROR(StartExec(*process));
  }
  uint32_t pid;
  {
    base::MutexLock lock(mu_);
    process->started = true;
    pid = process->pid;
  }
  if (exec_id.empty()) {
    pb::TaskStart event;
    event.set_container_id(id_);
    event.set_pid(pid);
    Publish("/tasks/start", "TaskStart", event);
    return pid;
  }
  pb::TaskExecStarted event;
  event.set_container_id(id_);
  event.set_exec_id(exec_id);
  event.set_pid(pid);
  Publish("/tasks/exec-started", "TaskExecStarted", event);
  RETURN_IF_ERROR(AwaitExec(process));
  return pid;
}

absl::StatusOr<pb::DeleteResponse> Task::Delete(const std::string& exec_id) {
  auto process = VALUE_OR_RETURN(Find(exec_id));
  {
    base::MutexLock lock(mu_);
    if (process->started && !process->exited) {
      return absl::FailedPreconditionError("cannot delete a running process");
    }
  }
  if (exec_id.empty()) {
    absl::Status deleted = runtime_.Call({.arguments = {"delete", "--force", id_}});
    if (!deleted.ok() && !absl::IsNotFound(deleted)) return deleted;
    // One that was never started ends by that.
    VALUE_OR_RETURN(Wait(""));
    UnmountAll(bundle_ + "/rootfs");
  }
  std::shared_ptr<ProcessIo> io;
  pb::DeleteResponse response;
  {
    base::MutexLock lock(mu_);
    processes_.erase(exec_id);
    io = process->io;
    response.set_pid(process->pid);
    response.set_exit_status(process->exit.status);
    SetTime(process->exit.at_ns, response.mutable_exited_at());
  }
  if (io) io->Close();
  pb::TaskDelete event;
  event.set_container_id(id_);
  event.set_id(exec_id);
  event.set_pid(response.pid());
  event.set_exit_status(response.exit_status());
  *event.mutable_exited_at() = response.exited_at();
  // As runc's shim: execs are deleted silently.
  if (exec_id.empty()) Publish("/tasks/delete", "TaskDelete", event);
  return response;
}

absl::StatusOr<pb::StateResponse> Task::State(const std::string& exec_id) {
  auto process = VALUE_OR_RETURN(Find(exec_id));
  base::MutexLock lock(mu_);
  pb::StateResponse response;
  response.set_id(id_);
  response.set_exec_id(exec_id);
  response.set_bundle(bundle_);
  response.set_pid(process->pid);
  response.set_stdin(process->paths.in);
  response.set_stdout(process->paths.out);
  response.set_stderr(process->paths.err);
  response.set_terminal(process->paths.terminal);
  response.set_status(pb::CREATED);
  if (process->started) response.set_status(paused_ && exec_id.empty() ? pb::PAUSED : pb::RUNNING);
  if (process->exited) {
    response.set_status(pb::STOPPED);
    response.set_exit_status(process->exit.status);
    SetTime(process->exit.at_ns, response.mutable_exited_at());
  }
  return response;
}

absl::Status Task::Kill(const std::string& exec_id, uint32_t signal, bool all) {
  auto process = VALUE_OR_RETURN(Find(exec_id));
  {
    base::MutexLock lock(mu_);
    if (process->exited) return absl::NotFoundError("process already finished");
    if (!exec_id.empty() && !process->started) return absl::FailedPreconditionError("process not started");
  }
  if (signal > 64) return absl::InvalidArgumentError(absl::StrCat("signal ", signal, ": not in 0..64"));
  if (exec_id.empty()) {
    RuntimeCall call{.arguments = {"kill"}};
    if (all) call.arguments.push_back("--all");
    call.arguments.insert(call.arguments.end(), {id_, absl::StrCat(signal)});
    return runtime_.Call(call);
  }
  auto client = VALUE_OR_RETURN(runsc::control::Client::Connect(runtime_.StateDirectory(id_), id_));
  return client.Signal(static_cast<int32_t>(process->pid), static_cast<int>(signal),
                       runsc::control::SignalScope::kProcess);
}

absl::Status Task::CloseIo(const std::string& exec_id, bool in) {
  auto process = VALUE_OR_RETURN(Find(exec_id));
  if (!in) return absl::OkStatus();
  std::shared_ptr<ProcessIo> io;
  {
    base::MutexLock lock(mu_);
    io = process->io;
    process->stdin_closed = true;
  }
  if (io) io->CloseStdin();
  return absl::OkStatus();
}

absl::Status Task::Pause() {
  base::MutexLock order(order_mu_);
  RETURN_IF_ERROR(runtime_.Call({.arguments = {"pause", id_}}));
  {
    base::MutexLock lock(mu_);
    paused_ = true;
  }
  pb::TaskPaused event;
  event.set_container_id(id_);
  Publish("/tasks/paused", "TaskPaused", event);
  return absl::OkStatus();
}

absl::Status Task::Resume() {
  base::MutexLock order(order_mu_);
  RETURN_IF_ERROR(runtime_.Call({.arguments = {"resume", id_}}));
  {
    base::MutexLock lock(mu_);
    paused_ = false;
  }
  pb::TaskResumed event;
  event.set_container_id(id_);
  Publish("/tasks/resumed", "TaskResumed", event);
  return absl::OkStatus();
}

absl::Status Task::Update(const std::string& resources_json) {
  return runtime_.Call({.arguments = {"update", "--resources=-", id_}, .input = resources_json});
}

absl::StatusOr<Task::Exit> Task::Wait(const std::string& exec_id) {
  auto process = VALUE_OR_RETURN(Find(exec_id));
  base::MutexLock lock(mu_);
  while (!process->exited) changed_.Wait(mu_);
  return process->exit;
}

uint32_t Task::pid() {
  base::MutexLock lock(mu_);
  auto init = processes_.find("");
  return init == processes_.end() ? 0 : init->second->pid;
}

}  // namespace shim
