// SPDX-License-Identifier: Apache-2.0
// The processes of exec: started and awaited by the sandbox's control socket, with no helper process on the host.
#include <signal.h>
#include <unistd.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "runsc/attach.h"
#include "runsc/boot_args.h"
#include "runsc/console.h"
#include "runsc/control/client.h"
#include "runsc/errors.h"
#include "runsc/spec/parse.h"
#include "shim/proto/events.pb.h"
#include "shim/task.h"
#include "shim/thread.h"

namespace shim {

absl::Status Task::Exec(const pb::ExecProcessRequest& request) {
  auto init = VALUE_OR_RETURN(Find(""));
  if (request.exec_id().empty()) return absl::InvalidArgumentError("exec_id: must not be empty");
  auto process = std::make_shared<Process>();
  process->exec_id = request.exec_id();
  process->paths = {.terminal = request.terminal(),
                    .in = request.stdin(),
                    .out = request.stdout(),
                    .err = request.stderr(),
                    .container_id = id_,
                    .name_space = init->paths.name_space};
  process->spec = VALUE_OR_RETURN(runsc::spec::ParseProcess(request.spec().value(), nullptr));
  process->spec.terminal = request.terminal();
  {
    base::MutexLock lock(mu_);
    if (!processes_.try_emplace(request.exec_id(), process).second) {
      return absl::AlreadyExistsError(absl::StrCat("process \"", request.exec_id(), "\" already exists"));
    }
  }
  pb::TaskExecAdded event;
  event.set_container_id(id_);
  event.set_exec_id(request.exec_id());
  publisher_->Publish("/tasks/exec-added", "containerd.events.TaskExecAdded", event.SerializeAsString());
  return absl::OkStatus();
}

absl::Status Task::StartExec(Process& process) {
  auto io = VALUE_OR_RETURN(ProcessIo::Open(process.paths));
  runsc::Pty pty;
  std::vector<int> fds = io->ChildFds();
  if (process.spec.terminal) {
    pty = VALUE_OR_RETURN(runsc::OpenPty());
    if (process.spec.console_size) {
      RETURN_IF_ERROR(runsc::SetWindowSize(pty.master.get(), *process.spec.console_size));
    }
    fds = {pty.slave.get()};
  }
  {
    base::MutexLock lock(mu_);
    if (paused_) return absl::FailedPreconditionError("cannot exec in a paused container");
  }
  auto client = VALUE_OR_RETURN(runsc::control::Client::Connect(runtime_.StateDirectory(id_), id_));
  int32_t pid = VALUE_OR_RETURN(client.Exec(process.spec, fds));
  pty.slave.Reset();
  if (process.spec.terminal) {
    RETURN_IF_ERROR(io->Attach(std::move(pty.master)));
  } else {
    io->ChildStarted();
  }
  base::MutexLock lock(mu_);
  if (process.stdin_closed) io->CloseStdin();
  process.io = std::move(io);
  process.pid = static_cast<uint32_t>(pid);
  return absl::OkStatus();
}

absl::Status Task::AwaitExec(const std::shared_ptr<Process>& process) {
  bool started = StartThread([self = shared_from_this(), process] {
    auto status = [&]() -> absl::StatusOr<int> {
      auto attachment =
          VALUE_OR_RETURN(runsc::Attachment::Begin({.state_directory = self->runtime_.StateDirectory(self->id_),
                                                    .container_id = self->id_,
                                                    .sandbox_pid = static_cast<pid_t>(self->pid()),
                                                    .pid = static_cast<int32_t>(process->pid)}));
      return attachment.RunWithoutSignals();
    }();
    // The sandbox ended and took the process along.
    if (!status.ok()) LOG_INFO("exec %s: %s", process->exec_id.c_str(), std::string(status.status().message()).c_str());
    self->OnExit(process, static_cast<uint32_t>(status.ok() ? runsc::ExitCodeOf(*status) : 128 + SIGKILL));
  });
  return started ? absl::OkStatus() : absl::ResourceExhaustedError("no thread to wait for the process");
}

absl::Status Task::ResizePty(const std::string& exec_id, uint32_t rows, uint32_t columns) {
  auto process = VALUE_OR_RETURN(Find(exec_id));
  if (rows > UINT16_MAX || columns > UINT16_MAX) return absl::InvalidArgumentError("no such size");
  std::shared_ptr<ProcessIo> io;
  bool is_controlling;
  {
    base::MutexLock lock(mu_);
    io = process->io;
    is_controlling = exec_id.empty() && !joined_;
    if (process->exited || !process->paths.terminal) return absl::OkStatus();
    if (!io) {
      // Before its start: what it starts with.
      process->spec.console_size = runsc::spec::ConsoleSize{};
      process->spec.console_size->rows = static_cast<uint16_t>(rows);
      process->spec.console_size->columns = static_cast<uint16_t>(columns);
      return absl::OkStatus();
    }
  }
  RETURN_IF_ERROR(io->Resize(static_cast<uint16_t>(rows), static_cast<uint16_t>(columns)));
  // The terminal of the sandbox's first process is the sandbox's controlling one, which sees it by itself.
  if (is_controlling) return absl::OkStatus();
  auto client = VALUE_OR_RETURN(runsc::control::Client::Connect(runtime_.StateDirectory(id_), id_));
  absl::Status resized = client.ResizeTerminal(exec_id.empty() ? 0 : static_cast<int32_t>(process->pid),
                                               static_cast<uint16_t>(rows), static_cast<uint16_t>(columns));
  return absl::IsNotFound(resized) ? absl::OkStatus() : resized;
}

}  // namespace shim
