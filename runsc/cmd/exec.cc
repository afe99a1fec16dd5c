// SPDX-License-Identifier: Apache-2.0
// runsc exec. Detached, a copy of this process stays as the exec's visible end: it lives as long as the process in the
// sandbox and ends with its exit status, so --pid-file names something that a caller can wait for.
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/log.h"
#include "runsc/attach.h"
#include "runsc/boot_args.h"
#include "runsc/cmd/command.h"
#include "runsc/console.h"
#include "runsc/errors.h"
#include "runsc/sandbox/launch.h"
#include "runsc/spec/json_reader.h"
#include "runsc/spec/parse.h"

namespace runsc {
namespace {

using enum FlagType;

constexpr FlagDef kExecFlags[] = {
    {"cwd", "", kString, "", "working directory"},
    {"env", "e", kList, "", "NAME=value to add"},
    {"user", "u", kString, "", "UID[:GID]"},
    {"additional-gids", "g", kList, "", "supplementary groups, separated by commas"},
    {"cap", "c", kList, "", "capability to add"},
    {"tty", "t", kBool, "false", "give the process a terminal"},
    {"detach", "d", kBool, "false", "return when the process is running"},
    {"process", "p", kString, "", "file with the process object, as in config.json"},
    {"pid-file", "", kString, "", "file for the pid of the host process that ends with this one"},
    {"internal-pid-file", "", kString, "", "file for the pid in the container"},
    {"console-socket", "", kString, "", "AF_UNIX socket that gets the master of the terminal"},
    {"no-new-privs", "", kBool, "false", "set no_new_privs"},
    {"user-log", "", kString, "", "", "messages for users go to --log"},
    {"process-label", "", kString, "", "", "the guest kernel has no SELinux"},
    {"apparmor", "", kString, "", "", "the guest kernel has no AppArmor"},
    {"preserve-fds", "", kInteger, "0", "pass on this many more descriptors, from 3"},
    {"ignore-paused", "", kBool, "false", "", "a process started in a paused container waits with the rest"},
};

absl::Status ParseId(const char* flag, const std::string& text, uint32_t* id) {
  if (absl::SimpleAtoi(text, id) && *id != UINT32_MAX) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("--", flag, ": \"", text, "\" is not a numeric id"));
}

absl::Status ApplyFlags(const ParsedFlags& flags, spec::Process* process) {
  process->terminal = flags.GetBool("tty");
  process->console_size.reset();
  if (flags.Has("cwd")) {
    process->cwd = flags.Get("cwd");
    if (process->cwd.empty() || process->cwd[0] != '/') {
      return absl::InvalidArgumentError(absl::StrCat("--cwd: must be an absolute path, is \"", process->cwd, "\""));
    }
  }
  for (const std::string& variable : flags.GetAll("env")) {
    if (variable.find('=') == std::string::npos || variable[0] == '=') {
      return absl::InvalidArgumentError(absl::StrCat("--env: must look like NAME=value, is \"", variable, "\""));
    }
    process->env.push_back(variable);
  }
  if (flags.Has("user")) {
    std::vector<std::string> parts = absl::StrSplit(flags.Get("user"), absl::MaxSplits(':', 1));
    RETURN_IF_ERROR(ParseId("user", parts[0], &process->user.uid));
    if (parts.size() > 1) RETURN_IF_ERROR(ParseId("user", parts[1], &process->user.gid));
  }
  for (const std::string& list : flags.GetAll("additional-gids")) {
    for (absl::string_view text : absl::StrSplit(list, ',')) {
      uint32_t gid;
      RETURN_IF_ERROR(ParseId("additional-gids", std::string(text), &gid));
      process->user.additional_gids.push_back(gid);
    }
  }
  for (const std::string& name : flags.GetAll("cap")) {
    int number = spec::CapabilityNumber(name);
    if (number < 0) return absl::InvalidArgumentError(absl::StrCat("--cap: unknown capability \"", name, "\""));
    if (!process->capabilities) process->capabilities.emplace();
    uint64_t bit = uint64_t{1} << number;
    process->capabilities->bounding |= bit;
    process->capabilities->effective |= bit;
    process->capabilities->permitted |= bit;
    process->capabilities->ambient |= bit;
  }
  if (flags.GetBool("no-new-privs")) process->no_new_privileges = true;
  return absl::OkStatus();
}

absl::StatusOr<spec::Process> BuildProcess(CommandContext& context, const Container& container) {
  const ParsedFlags& flags = context.flags;
  spec::Process process;
  if (flags.Has("process")) {
    std::string text;
    RETURN_IF_ERROR(spec::ReadSmallFile(flags.Get("process"), &text));
    auto parsed = spec::ParseProcess(text, nullptr);
    if (!parsed.ok()) return Annotate(parsed.status(), flags.Get("process"));
    process = *std::move(parsed);
    if (flags.Has("tty")) process.terminal = flags.GetBool("tty");
    return process;
  }
  if (context.args().size() < 2) return absl::InvalidArgumentError("exec: needs a command, or --process");
  auto spec = VALUE_OR_RETURN(container.LoadSpec());
  process = std::move(spec.process);
  process.args.assign(context.args().begin() + 1, context.args().end());
  RETURN_IF_ERROR(ApplyFlags(flags, &process));
  return process;
}

void ReleaseStreams() {
  base::UniqueFd null(open("/dev/null", O_RDWR | O_CLOEXEC));
  for (int fd = 0; null.ok() && fd <= 2; ++fd) dup2(null.get(), fd);
}

// SIGKILL ends the visible process before it could tell the sandbox: a child of it that outlives it does. The process
// in the sandbox lives no longer than what callers see of it. What is returned is written to when all is over.
absl::StatusOr<base::UniqueFd> StartWatcher(const std::string& state_directory, const std::string& id, int32_t pid) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return absl::InternalError(absl::StrCat("pipe: ", ErrnoText(errno)));
  base::UniqueFd read_end(ends[0]), write_end(ends[1]);
  pid_t watcher = fork();
  if (watcher < 0) return absl::InternalError(absl::StrCat("fork: ", ErrnoText(errno)));
  if (watcher > 0) return write_end;
  setsid();
  constexpr int kPipe = 3;
  dup2(read_end.get(), kPipe);
  close_range(kPipe + 1, ~0u, 0);
  char over;
  ssize_t n;
  do {
    n = read(kPipe, &over, 1);
  } while (n < 0 && errno == EINTR);
  if (n == 0) {
    auto client = control::Client::Connect(state_directory, id);
    if (client.ok()) client->Signal(pid, SIGKILL, control::SignalScope::kProcess).IgnoreError();
  }
  _exit(0);
}

// Starts the process and stays until it ends. `started` (may be closed) gets "R\n" once it runs.
absl::StatusOr<int> ExecAttached(CommandContext& context, Container& container, spec::Process process,
                                 const std::vector<int>& preserved, base::UniqueFd started) {
  const ParsedFlags& flags = context.flags;
  Pty pty;
  std::vector<int> fds;
  if (process.terminal) {
    pty = VALUE_OR_RETURN(OpenPty());
    spec::ConsoleSize size;
    if (!process.console_size && GetWindowSize(STDIN_FILENO, &size) && size.rows > 0) process.console_size = size;
    if (process.console_size) RETURN_IF_ERROR(SetWindowSize(pty.master.get(), *process.console_size));
    fds = {pty.slave.get()};
    // Of a session of our own: the terminal's new sizes come as SIGWINCH, which must not be missed.
    if (started.ok()) {
      BlockForwardedSignals();
      ioctl(pty.slave.get(), TIOCSCTTY, 0);
    }
    if (flags.Has("console-socket")) RETURN_IF_ERROR(SendConsole(flags.Get("console-socket"), pty));
  } else {
    for (int fd = 0; fd <= 2; ++fd) fds.push_back(fcntl(fd, F_GETFD) >= 0 ? fd : -1);
  }
  fds.insert(fds.end(), preserved.begin(), preserved.end());
  auto client = VALUE_OR_RETURN(container.Connect());
  int32_t pid = VALUE_OR_RETURN(client.Exec(process, fds));
  for (int fd : preserved) close(fd);
  base::UniqueFd window;
  if (flags.Has("console-socket")) {
    pty.master.Reset();
    if (started.ok()) window = std::move(pty.slave);
  }
  pty.slave.Reset();
  const ContainerRecord& record = container.record();
  auto attachment = VALUE_OR_RETURN(Attachment::Begin({.state_directory = context.config.root + "/" + record.id,
                                                       .container_id = record.id,
                                                       .sandbox_pid = record.sandbox_pid,
                                                       .pid = pid,
                                                       .console = std::move(pty.master),
                                                       .window = std::move(window)}));
  if (flags.Has("internal-pid-file")) RETURN_IF_ERROR(WritePidFile(flags.Get("internal-pid-file"), pid));
  if (flags.Has("pid-file")) RETURN_IF_ERROR(WritePidFile(flags.Get("pid-file"), getpid()));
  base::UniqueFd watcher;
  if (started.ok()) {
    // The helper outlives the command: a caller that reads our output to its end must not wait for it.
    ReleaseStreams();
    watcher = VALUE_OR_RETURN(StartWatcher(context.config.root + "/" + record.id, record.id, pid));
    ReportReady(std::move(started));
  }
  absl::StatusOr<int> status = attachment.Run();
  if (watcher.ok() && write(watcher.get(), "", 1) != 1) LOG_WARNING("exec: the watcher is gone");
  return ExitCodeOf(VALUE_OR_RETURN(std::move(status)));
}

absl::StatusOr<int> ExecDetached(CommandContext& context, Container& container, spec::Process process,
                                 const std::vector<int>& preserved) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return absl::InternalError(absl::StrCat("pipe: ", ErrnoText(errno)));
  base::UniqueFd read_end(ends[0]), write_end(ends[1]);
  pid_t pid = fork();
  if (pid < 0) return absl::InternalError(absl::StrCat("fork: ", ErrnoText(errno)));
  if (pid == 0) {
    read_end.Reset();
    setsid();
    base::UniqueFd report(fcntl(write_end.get(), F_DUPFD_CLOEXEC, 3));
    auto code = ExecAttached(context, container, std::move(process), preserved, std::move(write_end));
    if (!code.ok()) ReportFailure(std::move(report), std::string(code.status().message()));
    _exit(code.ok() ? *code : kErrorExitCode);
  }
  write_end.Reset();
  std::string buffer;
  absl::Status status = ReadReport(read_end.get(), &buffer);
  if (absl::IsUnavailable(status)) status = absl::InternalError("exec: the helper process died");
  RETURN_IF_ERROR(status);
  return 0;
}

}  // namespace

std::span<const FlagDef> ExecFlags() { return kExecFlags; }

absl::StatusOr<int> RunExec(CommandContext& context) {
  Container container = VALUE_OR_RETURN(Container::Open(context.config, context.args()[0]));
  switch (container.record().status) {
    case Status::kRunning:
      break;
    case Status::kStopped:
      return absl::FailedPreconditionError("cannot exec in a stopped container");
    case Status::kPaused:
      return absl::FailedPreconditionError("cannot exec in a paused container");
    default:
      return absl::FailedPreconditionError("cannot exec in a container that was not started");
  }
  const std::vector<int> preserved = VALUE_OR_RETURN(PreservedFds(context.flags));
  spec::Process process = VALUE_OR_RETURN(BuildProcess(context, container));
  const bool detach = context.flags.GetBool("detach");
  const bool socket = context.flags.Has("console-socket");
  if (detach && process.terminal && !socket) {
    return absl::InvalidArgumentError("exec: --detach with a terminal needs --console-socket");
  }
  if (socket && !process.terminal) return absl::InvalidArgumentError("--console-socket: needs --tty");
  if (detach) return ExecDetached(context, container, std::move(process), preserved);
  BlockForwardedSignals();
  return ExecAttached(context, container, std::move(process), preserved, base::UniqueFd());
}

}  // namespace runsc
