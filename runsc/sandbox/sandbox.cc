// SPDX-License-Identifier: Apache-2.0
#include "runsc/sandbox/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "runsc/boot_args.h"
#include "runsc/control/client.h"
#include "runsc/control/wire.h"
#include "runsc/errors.h"
#include "runsc/global_flags.h"
#include "runsc/sandbox/id_maps.h"

namespace runsc {
namespace {

// A sandbox that has not come up after this long never will; a loaded host gets its share of patience.
// Each tree takes a descriptor number below launch.cc's staging area.
constexpr size_t kMaxTrees = 300;
constexpr int64_t kStartTimeoutNs = 30 * base::kNsPerSecond;

absl::Status SystemError(const char* what) { return absl::InternalError(absl::StrCat(what, ": ", ErrnoText(errno))); }

absl::StatusOr<base::UniqueFd> SealedMemfd(const std::string& text) {
  base::UniqueFd fd(memfd_create("runsc-spec", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd.ok()) return SystemError("memfd_create");
  for (size_t done = 0; done < text.size();) {
    ssize_t n = write(fd.get(), text.data() + done, text.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return SystemError("writing config.json to a memfd");
    done += n;
  }
  if (fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) != 0) {
    return SystemError("sealing a memfd");
  }
  return fd;
}

struct Pipe {
  base::UniqueFd read_end, write_end;
};

absl::StatusOr<Pipe> MakePipe() {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return SystemError("pipe");
  return Pipe{base::UniqueFd(ends[0]), base::UniqueFd(ends[1])};
}

struct GoferSockets {
  std::vector<base::UniqueFd> sentry_ends, gofer_ends;
};

absl::StatusOr<GoferSockets> MakeGoferSockets(size_t count) {
  GoferSockets sockets;
  for (size_t i = 0; i < count; ++i) {
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) return SystemError("socketpair");
    sockets.sentry_ends.emplace_back(ends[0]);
    sockets.gofer_ends.emplace_back(ends[1]);
  }
  return sockets;
}

// Namespaces, id maps and the network both processes share a policy for.
absl::Status SetNamespaces(const SandboxOptions& options, bool is_sentry, LaunchOptions* launch,
                           base::UniqueFd* netns) {
  // The gofer enters the rest by itself (gofer/sandbox.h).
  launch->namespaces = is_sentry ? CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS : CLONE_NEWPID;
  const spec::Linux& linux = options.spec->linux;
  const spec::Namespace* network = linux.Find(spec::NamespaceType::kNetwork);
  const bool named = network && !network->path.empty();
  const NetworkMode mode = options.config->network;
  // --network=host: the host's network is the caller's, unless config.json asks for another one.
  const bool is_host = mode == NetworkMode::kHost && !network;
  if (is_sentry && (mode == NetworkMode::kNone || (!named && !is_host))) {
    launch->namespaces |= CLONE_NEWNET;
  } else if (is_sentry && named) {
    netns->Reset(open(network->path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!netns->ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat("linux.namespaces (network): ", network->path, ": ", ErrnoText(errno)));
    }
    launch->netns_fd = netns->get();
  }
  const spec::Namespace* user = linux.Find(spec::NamespaceType::kUser);
  bool maps = user && user->path.empty();
  if (maps || options.config->rootless || geteuid() != 0) {
    launch->namespaces |= CLONE_NEWUSER;
    if (geteuid() == 0 || !is_sentry) {
      // The ids of files are the gofer's to see and set: of an ordinary user's processes it alone is given more than
      // one.
      if (maps) {
        launch->uid_map = linux.uid_mappings;
        launch->gid_map = linux.gid_mappings;
      } else if (geteuid() != 0) {
        IdMaps own = OwnIdMaps();
        launch->uid_map = std::move(own.uid);
        launch->gid_map = std::move(own.gid);
        launch->maps_are_optional = true;
      }
    }
  }
  return absl::OkStatus();
}

std::vector<std::string> Arguments(const SandboxOptions& options, const char* name, const char* command) {
  std::vector<std::string> arguments = {name};
  arguments.insert(arguments.end(), options.global_arguments.begin(), options.global_arguments.end());
  // Last, so that it wins: what was given may be relative to our directory, not the child's.
  arguments.push_back("--root=" + options.config->root);
  arguments.insert(arguments.end(), {command, "--id=" + options.container_id, "--bundle=" + options.bundle,
                                     absl::StrCat("--gofer-fds=", spec::GoferMounts(*options.spec).size())});
  return arguments;
}

int StderrOf(const SandboxOptions& options) {
  return options.attached && fcntl(STDERR_FILENO, F_GETFD) >= 0 ? STDERR_FILENO : -1;
}

// A socket pair by which the gofer waits for `in_gofer_namespace`; none without it.
struct HookGate {
  base::UniqueFd ours, gofers;
};

absl::StatusOr<HookGate> MakeHookGate(const SandboxOptions& options) {
  HookGate gate;
  if (!options.in_gofer_namespace) return gate;
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) return SystemError("socketpair");
  gate.ours.Reset(ends[0]);
  gate.gofers.Reset(ends[1]);
  return gate;
}

// A gofer that ends, or does not get there, is left to who waits for its report.
absl::Status PassGate(const SandboxOptions& options, HookGate gate, pid_t gofer) {
  if (!gate.ours.ok()) return absl::OkStatus();
  gate.gofers.Reset();
  pollfd p{.fd = gate.ours.get(), .events = POLLIN};
  char byte;
  int n;
  do {
    n = poll(&p, 1, static_cast<int>(kStartTimeoutNs / 1'000'000));
  } while (n < 0 && errno == EINTR);
  if (n <= 0 || read(gate.ours.get(), &byte, 1) != 1) return absl::OkStatus();
  RETURN_IF_ERROR(options.in_gofer_namespace(gofer));
  send(gate.ours.get(), "g", 1, MSG_NOSIGNAL);
  return absl::OkStatus();
}

absl::StatusOr<LaunchOptions> GoferLaunch(const SandboxOptions& options, int spec_fd, int report_fd, int log_fd,
                                          const GoferSockets& sockets, const HookGate& gate) {
  LaunchOptions gofer;
  base::UniqueFd netns;
  gofer.argv = Arguments(options, "runsc-gofer", "gofer");
  RETURN_IF_ERROR(SetNamespaces(options, /*is_sentry=*/false, &gofer, &netns));
  gofer.fds = {{2, StderrOf(options)}, {kReportFd, report_fd}, {kLogFd, log_fd}, {kSpecFd, spec_fd}};
  gofer.fds.emplace_back(kHookGateFd, gate.gofers.get());
  for (size_t i = 0; i < sockets.gofer_ends.size(); ++i)
    gofer.fds.emplace_back(kFirstGoferFd + i, sockets.gofer_ends[i].get());
  gofer.die_with_parent = options.attached;
  gofer.before_exec = options.join_cgroup;
  return gofer;
}

// What a dead child's wait status tells the user.
std::string DeathOf(const LaunchedProcess& process) {
  siginfo_t info = {};
  if (waitid(P_PID, process.pid, &info, WEXITED | WNOWAIT | WNOHANG) != 0 || info.si_pid == 0) return "died";
  if (info.si_code == CLD_EXITED) return absl::StrCat("exited with status ", info.si_status);
  return absl::StrCat("was killed by signal ", info.si_status);
}

void Destroy(LaunchedProcess& process) {
  if (process.pid <= 0) return;
  kill(process.pid, SIGKILL);
  waitpid(process.pid, nullptr, 0);
  process.pid = -1;
}

std::string LogHint(const Config& config) {
  return config.debug_log.empty() ? "; --debug --debug-log=FILE shows more" : "; see " + config.debug_log;
}

// Both report pipes until the sentry is ready, or one of the two has failed.
absl::Status AwaitReady(const SandboxOptions& options, const Sandbox& sandbox, int sentry_report, int gofer_report) {
  int64_t deadline = base::MonotonicNs() + kStartTimeoutNs;
  std::string sentry_text, gofer_text;
  absl::Status sentry_status = absl::UnknownError("");
  bool gofer_silent = false;
  while (true) {
    int64_t left_ms = (deadline - base::MonotonicNs()) / 1'000'000;
    if (left_ms <= 0)
      return absl::DeadlineExceededError("the sandbox did not start within 30 s" + LogHint(*options.config));
    pollfd fds[2] = {{.fd = gofer_silent ? -1 : gofer_report, .events = POLLIN},
                     {.fd = sentry_report, .events = POLLIN}};
    // A sentry that failed may have done so because of the gofer: give that one's words a moment to arrive.
    bool sentry_done = !absl::IsUnknown(sentry_status);
    if (sentry_done) {
      fds[1].fd = -1;
      left_ms = std::min<int64_t>(left_ms, 100);
    }
    int n = poll(fds, 2, static_cast<int>(left_ms));
    if (n < 0 && errno != EINTR) return SystemError("poll");
    if (n < 0) continue;
    if (n == 0 && sentry_done) break;
    if (fds[0].revents) {
      absl::Status status = ReadReport(gofer_report, &gofer_text);
      if (absl::IsFailedPrecondition(status)) return status;
      pollfd alive{.fd = sandbox.gofer.pidfd.get(), .events = POLLIN};
      if (!status.ok() && poll(&alive, 1, 50) > 0) {
        // It ends when the sentry does: then the sentry knows why.
        pollfd words{.fd = sentry_report, .events = POLLIN};
        if (!sentry_done && poll(&words, 1, 500) > 0) sentry_status = ReadReport(sentry_report, &sentry_text);
        if (absl::IsFailedPrecondition(sentry_status)) return sentry_status;
        if (absl::IsUnavailable(sentry_status)) break;
        return absl::InternalError("the gofer " + DeathOf(sandbox.gofer) + LogHint(*options.config));
      }
      // It closed the pipe and lives on: only the sentry's word counts now.
      gofer_silent = true;
      if (sentry_done) break;
    }
    if (fds[1].revents) {
      sentry_status = ReadReport(sentry_report, &sentry_text);
      if (sentry_status.ok()) return sentry_status;
      if (gofer_silent) break;
    }
  }
  if (absl::IsUnavailable(sentry_status)) {
    pollfd dead{.fd = sandbox.sentry.pidfd.get(), .events = POLLIN};
    poll(&dead, 1, 1000);
    return absl::InternalError("the sandbox " + DeathOf(sandbox.sentry) + " while it started" +
                               LogHint(*options.config));
  }
  return sentry_status;
}

}  // namespace

uint64_t ProcessStartTicks(pid_t pid) {
  char path[64], text[1024];
  snprintf(path, sizeof path, "/proc/%d/stat", pid);
  base::UniqueFd fd(open(path, O_RDONLY | O_CLOEXEC));
  if (!fd.ok()) return 0;
  ssize_t n = read(fd.get(), text, sizeof text - 1);
  if (n <= 0) return 0;
  text[n] = 0;
  // The command in parentheses may hold anything: fields are counted from its end. proc(5).
  const char* at = strrchr(text, ')');
  if (!at || strlen(at) < 4 || at[2] == 'Z' || at[2] == 'X') return 0;
  for (int field = 2; at && field < 22; ++field) at = strchr(at + 1, ' ');
  return at ? strtoull(at + 1, nullptr, 10) : 0;
}

EndingProcess::EndingProcess(pid_t pid, uint64_t start_ticks) {
  if (pid <= 0) return;
  // A child of ours that has ended already.
  waitpid(pid, nullptr, WNOHANG);
  pidfd_.Reset(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
  failed_ = !pidfd_.ok() && errno != ESRCH;
  if (!pidfd_.ok()) return;
  // The pidfd pins the process that is looked at now.
  // 0: its leader thread has ended, others may be on their way.
  uint64_t ticks = ProcessStartTicks(pid);
  if (start_ticks != 0 && ticks != 0 && ticks != start_ticks) {
    pidfd_.Reset();
    return;
  }
  pid_ = pid;
  syscall(SYS_pidfd_send_signal, pidfd_.get(), SIGKILL, nullptr, 0);
}

bool EndingProcess::Wait(int timeout_ms) {
  if (!pidfd_.ok()) return !failed_;
  pollfd p{.fd = pidfd_.get(), .events = POLLIN};
  int n;
  do {
    n = poll(&p, 1, timeout_ms);
  } while (n < 0 && errno == EINTR);
  // Ours: reap it. Another's: its parent does.
  waitpid(pid_, nullptr, WNOHANG);
  return n > 0;
}

bool KillAndWait(pid_t pid, uint64_t start_ticks, int timeout_ms) {
  return EndingProcess(pid, start_ticks).Wait(timeout_ms);
}

absl::StatusOr<Sandbox> StartSandbox(const SandboxOptions& options) {
  const size_t trees = spec::GoferMounts(*options.spec).size();
  if (trees > kMaxTrees)
    return absl::InvalidArgumentError(absl::StrCat("mounts: more than ", kMaxTrees - 1, " bind mounts"));
  auto spec_fd = VALUE_OR_RETURN(SealedMemfd(options.spec_text));
  auto sockets = VALUE_OR_RETURN(MakeGoferSockets(trees));
  auto sentry_report = VALUE_OR_RETURN(MakePipe());
  auto gofer_report = VALUE_OR_RETURN(MakePipe());
  auto control = VALUE_OR_RETURN(control::ListenOn(options.state_directory, "control.sock"));
  base::UniqueFd status_file(
      open((options.state_directory + "/exit_status").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!status_file.ok()) return SystemError("exit_status");
  auto sentry_log = VALUE_OR_RETURN(OpenDebugLog(*options.config, "boot", options.container_id));
  auto gofer_log = VALUE_OR_RETURN(OpenDebugLog(*options.config, "gofer", options.container_id));
  base::UniqueFd upper_dir;
  const std::string& medium = options.config->overlay_medium;
  if (options.config->overlay_root && medium[0] == '/') {
    upper_dir.Reset(open(medium.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (!upper_dir.ok()) {
      return absl::InvalidArgumentError(absl::StrCat("--overlay2: ", medium, ": ", ErrnoText(errno)));
    }
  }

  Sandbox sandbox;
  base::UniqueFd netns;
  HookGate gate = VALUE_OR_RETURN(MakeHookGate(options));
  sandbox.gofer = VALUE_OR_RETURN(Launch(VALUE_OR_RETURN(
      GoferLaunch(options, spec_fd.get(), gofer_report.write_end.get(), gofer_log.get(), sockets, gate))));

  LaunchOptions sentry;
  sentry.argv = Arguments(options, "runsc-sandbox", "boot");
  absl::Status status = SetNamespaces(options, /*is_sentry=*/true, &sentry, &netns);
  if (options.spec->process.terminal) sentry.argv.push_back("--terminal");
  if (options.attached) sentry.argv.push_back("--die-with-parent");
  if (options.is_do) sentry.argv.push_back("--do");
  sentry.argv.push_back(absl::StrCat("--cli-start-ns=", options.cli_start_ns));
  sentry.fds = {{2, StderrOf(options)},        {kReportFd, sentry_report.write_end.get()},
                {kLogFd, sentry_log.get()},    {kSpecFd, spec_fd.get()},
                {kControlFd, control.get()},   {kExitStatusFd, status_file.get()},
                {kUpperDirFd, upper_dir.get()}};
  const size_t standard = options.spec->process.terminal ? 1 : 3;
  for (size_t i = 0; i < standard; ++i) sentry.fds.emplace_back(kStdioFd + i, options.stdio[i]);
  // Behind the gofer's.
  for (size_t i = standard; i < options.stdio.size(); ++i)
    sentry.fds.emplace_back(kFirstGoferFd + trees + i - standard, options.stdio[i]);
  sentry.argv.push_back(absl::StrCat("--preserved-fds=", options.stdio.size() - standard));
  for (size_t i = 0; i < trees; ++i) sentry.fds.emplace_back(kFirstGoferFd + i, sockets.sentry_ends[i].get());
  sentry.die_with_parent = options.attached;
  if (options.spec->process.terminal) sentry.controlling_terminal = kConsoleFd;
  // Recorded before it may go on: whenever the CLI is killed, the sandbox is known or ends by itself.
  sentry.before_exec = [&](pid_t pid) -> absl::Status {
    if (options.join_cgroup) RETURN_IF_ERROR(options.join_cgroup(pid));
    return options.record_pids ? options.record_pids(pid, sandbox.gofer.pid) : absl::OkStatus();
  };
  if (status.ok()) {
    auto launched = Launch(sentry);
    status = launched.status();
    if (launched.ok()) sandbox.sentry = *std::move(launched);
  }
  // Ours must go, so that the end of the other process is seen.
  sentry_report.write_end.Reset();
  gofer_report.write_end.Reset();
  sockets = {};
  control.Reset();
  if (status.ok()) status = PassGate(options, std::move(gate), sandbox.gofer.pid);
  if (status.ok()) {
    status = AwaitReady(options, sandbox, sentry_report.read_end.get(), gofer_report.read_end.get());
  }
  if (!status.ok()) {
    Destroy(sandbox.sentry);
    Destroy(sandbox.gofer);
    return status;
  }
  return sandbox;
}

absl::StatusOr<LaunchedProcess> JoinSandbox(const SandboxOptions& options, const std::string& sandbox_directory) {
  const size_t trees = spec::GoferMounts(*options.spec).size();
  const size_t others = 1 + options.stdio.size();
  if (trees + others > control::kMaxFrameFds) {
    return absl::InvalidArgumentError(absl::StrCat("mounts: more than ", control::kMaxFrameFds - others - 1,
                                                   " bind mounts in a container that joins a sandbox"));
  }
  const Config& config = *options.config;
  auto spec_fd = VALUE_OR_RETURN(SealedMemfd(options.spec_text));
  auto sockets = VALUE_OR_RETURN(MakeGoferSockets(trees));
  auto report = VALUE_OR_RETURN(MakePipe());
  auto log = VALUE_OR_RETURN(OpenDebugLog(config, "gofer", options.container_id));
  const std::string status_path = options.state_directory + "/exit_status";
  control::CreateRequest request{.bundle = options.bundle,
                                 .spec_text = options.spec_text,
                                 .overlay_root = config.overlay_root,
                                 .overlay_all = config.overlay_all,
                                 .overlay_size = config.overlay_size,
                                 .root_shared = config.file_access == FileAccess::kShared,
                                 .mounts_shared = config.file_access_mounts == FileAccess::kShared};
  request.exit_status_fd.Reset(open(status_path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  base::UniqueFd status_file(open(status_path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!request.exit_status_fd.ok() || !status_file.ok() ||
      ftruncate(request.exit_status_fd.get(), kExitStatusSize) != 0)
    return SystemError("exit_status");
  for (int fd : options.stdio) request.stdio.emplace_back(fd >= 0 ? fcntl(fd, F_DUPFD_CLOEXEC, 3) : -1);
  auto client = VALUE_OR_RETURN(control::Client::Connect(sandbox_directory, options.container_id));

  HookGate gate = VALUE_OR_RETURN(MakeHookGate(options));
  LaunchOptions launch =
      VALUE_OR_RETURN(GoferLaunch(options, spec_fd.get(), report.write_end.get(), log.get(), sockets, gate));
  launch.fds.emplace_back(kExitStatusFd, status_file.get());
  launch.before_exec = [&](pid_t pid) -> absl::Status {
    if (options.join_cgroup) RETURN_IF_ERROR(options.join_cgroup(pid));
    return options.record_pids ? options.record_pids(pid, pid) : absl::OkStatus();
  };
  LaunchedProcess gofer = VALUE_OR_RETURN(Launch(launch));
  report.write_end.Reset();
  sockets.gofer_ends.clear();
  request.gofer_fds = std::move(sockets.sentry_ends);
  if (absl::Status passed = PassGate(options, std::move(gate), gofer.pid); !passed.ok()) {
    Destroy(gofer);
    return passed;
  }
  absl::Status status = client.CreateContainer(request);
  if (status.ok()) return gofer;
  // The gofer may know better.
  request.gofer_fds.clear();
  std::string text;
  pollfd words{.fd = report.read_end.get(), .events = POLLIN};
  if (poll(&words, 1, 500) > 0) {
    absl::Status reported = ReadReport(report.read_end.get(), &text);
    if (absl::IsFailedPrecondition(reported)) status = reported;
  }
  Destroy(gofer);
  return status;
}

}  // namespace runsc
