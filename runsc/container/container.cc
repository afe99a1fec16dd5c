// SPDX-License-Identifier: Apache-2.0
#include "runsc/container/container.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "runsc/console.h"
#include "runsc/container/hooks.h"
#include "runsc/container/placement.h"
#include "runsc/errors.h"
#include "runsc/json_writer.h"
#include "runsc/sandbox/host_network.h"
#include "runsc/spec/json_reader.h"
#include "runsc/spec/parse.h"

namespace runsc {
namespace {

constexpr int kKillTimeoutMs = 10'000;

absl::Status SaveFile(const std::string& path, const std::string& text) {
  base::UniqueFd fd(open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (fd.ok() && write(fd.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size())) {
    return absl::OkStatus();
  }
  return absl::InternalError(absl::StrCat(path, ": ", ErrnoText(errno)));
}

void AwaitEnd(pid_t pid) {
  base::UniqueFd pidfd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
  pollfd p{.fd = pidfd.get(), .events = POLLIN};
  if (pidfd.ok() && poll(&p, 1, kKillTimeoutMs) == 0) LOG_WARNING("the sandbox is slow to end");
}

}  // namespace

std::string FormatTime(int64_t realtime_ns) {
  time_t seconds = realtime_ns / base::kNsPerSecond;
  tm utc;
  gmtime_r(&seconds, &utc);
  char date[40], text[64];
  strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%S", &utc);
  snprintf(text, sizeof text, "%s.%09dZ", date, static_cast<int>(realtime_ns % base::kNsPerSecond));
  return text;
}

absl::Status WritePidFile(const std::string& path, pid_t pid) {
  std::string temporary = path + ".new";
  base::UniqueFd fd(open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
  std::string text = absl::StrCat(pid);
  if (fd.ok() && write(fd.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size()) &&
      rename(temporary.c_str(), path.c_str()) == 0) {
    return absl::OkStatus();
  }
  absl::Status status = absl::InvalidArgumentError(absl::StrCat("--pid-file: ", path, ": ", ErrnoText(errno)));
  if (fd.ok()) unlink(temporary.c_str());
  return status;
}

Container::Container(const Config& config, ContainerRecord record)
    : config_(config), store_(config.root), record_(std::move(record)) {}

absl::StatusOr<Container> Container::Create(CreateOptions options) {
  const spec::Process& process = options.spec.process;
  if (!options.attached && process.terminal && options.console_socket.empty()) {
    return absl::InvalidArgumentError(
        "process.terminal: a detached container needs --console-socket to hand its terminal to");
  }
  if (!process.terminal && !options.console_socket.empty()) {
    return absl::InvalidArgumentError("--console-socket: process.terminal is false");
  }
  RETURN_IF_ERROR(ValidateId(options.id));
  RETURN_IF_ERROR(spec::CheckHostPaths(options.spec));
  ContainerRecord record{.id = options.id,
                         .bundle = options.bundle,
                         .rootfs = options.spec.root_path,
                         .oci_version = options.spec.oci_version,
                         .created_ns = base::RealtimeNs(),
                         .owner_uid = geteuid(),
                         .terminal = process.terminal,
                         .annotations = options.spec.annotations};
  Container container(*options.config, std::move(record));
  auto lock = VALUE_OR_RETURN(container.store_.Create(options.id));
  absl::Status status = container.CreateLocked(options);
  if (status.ok()) return container;
  container.TearDown().IgnoreError();
  if (absl::Status removed = container.store_.Remove(options.id); !removed.ok()) {
    LOG_WARNING("%s", std::string(removed.message()).c_str());
  }
  return status;
}

absl::Status Container::CreateLocked(CreateOptions& options) {
  RETURN_IF_ERROR(SaveFile(Directory() + "/config.json", options.spec_text));
  RETURN_IF_ERROR(store_.Save(record_));
  const spec::Pod pod = spec::PodOf(options.spec.annotations);
  if (pod.role == spec::PodRole::kContainer) RETURN_IF_ERROR(PrepareToJoin(pod.sandbox_id));
  auto placement = VALUE_OR_RETURN(Placement::Plan(config_, options.id, options.spec));
  placement.Record(&record_);
  if (placement.IsWanted()) RETURN_IF_ERROR(store_.Save(record_));
  RETURN_IF_ERROR(placement.Make());
  placement.Record(&record_);

  SandboxOptions sandbox{.config = &config_,
                         .global_arguments = options.global_arguments,
                         .container_id = options.id,
                         .bundle = options.bundle,
                         .state_directory = Directory(),
                         .spec = &options.spec,
                         .spec_text = options.spec_text,
                         .attached = options.attached,
                         .is_do = options.is_do,
                         .cli_start_ns = options.cli_start_ns};
  Pty pty;
  if (options.spec.process.terminal) {
    pty = VALUE_OR_RETURN(OpenPty());
    spec::ConsoleSize size;
    if (options.spec.process.console_size) {
      RETURN_IF_ERROR(SetWindowSize(pty.master.get(), *options.spec.process.console_size));
    } else if (options.attached && GetWindowSize(STDIN_FILENO, &size)) {
      RETURN_IF_ERROR(SetWindowSize(pty.master.get(), size));
    }
    sandbox.stdio = {pty.slave.get()};
    if (!options.console_socket.empty()) RETURN_IF_ERROR(SendConsole(options.console_socket, pty));
  } else {
    for (int fd = 0; fd <= 2; ++fd) sandbox.stdio.push_back(fcntl(fd, F_GETFD) >= 0 ? fd : -1);
  }
  sandbox.stdio.insert(sandbox.stdio.end(), options.preserved_fds.begin(), options.preserved_fds.end());
  if (placement.IsWanted()) {
    sandbox.join_cgroup = [&](pid_t pid) -> absl::Status {
      absl::Status joined = placement.Join(pid);
      placement.Record(&record_);
      return joined;
    };
  }
  sandbox.record_pids = [&](pid_t sentry, pid_t gofer) {
    record_.sandbox_pid = sentry;
    record_.sandbox_start_ticks = ProcessStartTicks(sentry);
    record_.gofer_pid = gofer;
    record_.gofer_start_ticks = ProcessStartTicks(gofer);
    return store_.Save(record_);
  };
  const spec::Hooks& hooks = options.spec.hooks;
  // Those before the container's mounts are final, when there is one that may change them.
  if (!hooks.create_container.empty()) {
    sandbox.in_gofer_namespace = [&](pid_t gofer) -> absl::Status {
      RETURN_IF_ERROR(RunRuntimeHooks(hooks, options.bundle));
      return RunCreateContainerHooks(hooks, options.bundle, gofer);
    };
  }
  if (HasJoined()) {
    VALUE_OR_RETURN(JoinSandbox(sandbox, store_.DirectoryOf(record_.sandbox_id)));
  } else {
    VALUE_OR_RETURN(StartSandbox(sandbox));
  }
  if (options.console_socket.empty()) console_ = std::move(pty.master);

  if (hooks.create_container.empty()) RETURN_IF_ERROR(RunRuntimeHooks(hooks, options.bundle));
  record_.status = Status::kCreated;
  RETURN_IF_ERROR(store_.Save(record_));
  if (!options.pid_file.empty()) RETURN_IF_ERROR(WritePidFile(options.pid_file, record_.sandbox_pid));
  return absl::OkStatus();
}

// The state that hooks of this stage see is "creating" (runtime-spec, POSIX-platform hooks).
absl::Status Container::RunRuntimeHooks(const spec::Hooks& hooks, const std::string& bundle) const {
  const std::string state = StateJson(/*pretty=*/false);
  RETURN_IF_ERROR(RunHooks("prestart", hooks.prestart, state, bundle));
  return RunHooks("createRuntime", hooks.create_runtime, state, bundle);
}

absl::Status Container::RunCreateContainerHooks(const spec::Hooks& hooks, const std::string& bundle,
                                                pid_t gofer) const {
  base::UniqueFd user(open(absl::StrCat("/proc/", gofer, "/ns/user").c_str(), O_RDONLY | O_CLOEXEC));
  base::UniqueFd mount(open(absl::StrCat("/proc/", gofer, "/ns/mnt").c_str(), O_RDONLY | O_CLOEXEC));
  struct stat own, its;
  if (!user.ok() || !mount.ok() || stat("/proc/self/ns/user", &own) != 0 || fstat(user.get(), &its) != 0) {
    return absl::InternalError(absl::StrCat("hooks.createContainer: the gofer's namespaces: ", ErrnoText(errno)));
  }
  const HookNamespaces namespaces{.user = own.st_ino == its.st_ino ? -1 : user.get(), .mount = mount.get()};
  return RunHooks("createContainer", hooks.create_container, StateJson(/*pretty=*/false), bundle, namespaces);
}

absl::Status Container::PrepareToJoin(const std::string& sandbox_id) {
  auto bad = [&](absl::string_view why) {
    return absl::FailedPreconditionError(absl::StrCat("annotations: sandbox-id: ", JsonString(sandbox_id), ": ", why));
  };
  if (!ValidateId(sandbox_id).ok() || sandbox_id == record_.id) return bad("not the id of another container");
  auto sandbox = Open(config_, sandbox_id);
  if (absl::IsNotFound(sandbox.status())) return bad("there is no such sandbox");
  RETURN_IF_ERROR(sandbox.status());
  if (sandbox->HasJoined()) return bad("is itself a container of another sandbox");
  if (sandbox->record().status == Status::kStopped) return bad("the sandbox has stopped");
  record_.sandbox_id = sandbox_id;
  // Below one --root: whoever moves that moves both.
  const std::string target = absl::StrCat("../", sandbox_id, "/control.sock"), link = Directory() + "/control.sock";
  if (symlink(target.c_str(), link.c_str()) != 0)
    return absl::InternalError(absl::StrCat(link, ": ", ErrnoText(errno)));
  return store_.Save(record_);
}

absl::StatusOr<Container> Container::Open(const Config& config, const std::string& id) {
  ContainerRecord record;
  record.id = id;
  Container container(config, std::move(record));
  RETURN_IF_ERROR(container.Refresh());
  return container;
}

absl::Status Container::Refresh() {
  record_ = VALUE_OR_RETURN(store_.Load(record_.id));
  bool alive = record_.sandbox_pid > 0 && record_.sandbox_start_ticks != 0 &&
               ProcessStartTicks(record_.sandbox_pid) == record_.sandbox_start_ticks;
  // `creating` without a pid yet: the maker is at work.
  bool being_made = record_.status == Status::kCreating && record_.sandbox_pid == 0;
  if (!alive && !being_made) record_.status = Status::kStopped;
  // A start is under way, or was killed: the sandbox knows how far it came.
  if (record_.status == Status::kRunning && record_.is_starting) {
    auto client = Connect();
    if (client.ok()) {
      auto info = client->State();
      if (info.ok() && info->state == control::ContainerState::kCreated) record_.status = Status::kCreated;
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<control::Client> Container::Connect() const { return control::Client::Connect(Directory(), record_.id); }

std::optional<int> Container::ExitStatus() const { return store_.ExitStatus(record_.id); }

absl::StatusOr<spec::Spec> Container::LoadSpec() const {
  std::string text;
  RETURN_IF_ERROR(spec::ReadSmallFile(Directory() + "/config.json", &text));
  return spec::ParseSpec(text, record_.bundle, nullptr);
}

namespace {

// Whether the container's resolv.conf, which Docker mounts, names the server that Docker runs for user-defined
// networks.
bool AsksDockersResolver(const spec::Spec& spec) {
  for (const spec::Mount& mount : spec.mounts) {
    std::string text;
    if (mount.destination != "/etc/resolv.conf" || !spec::ReadSmallFile(mount.source, &text).ok()) continue;
    for (absl::string_view line : absl::StrSplit(text, '\n')) {
      if (absl::ConsumePrefix(&line, "nameserver") && absl::StripAsciiWhitespace(line) == "127.0.0.11") return true;
    }
  }
  return false;
}

}  // namespace

// Here and not in create: Docker puts the interfaces there in between, by a prestart hook or by name.
absl::Status Container::MoveNetwork(const spec::Spec& spec, control::Client& client) {
  // An ordinary user's sandbox is in a namespace that nobody put anything into.
  // A pod's is that of its first container.
  if (config_.network != NetworkMode::kSandbox || config_.rootless || geteuid() != 0 || HasJoined())
    return absl::OkStatus();
  auto network = VALUE_OR_RETURN(TakeNetwork(record_.sandbox_pid, AsksDockersResolver(spec)));
  if (network.interfaces.empty()) return absl::OkStatus();
  // A namespace with a name outlives the sandbox. Saved before anything can fail.
  if (const spec::Namespace* named = spec.linux.Find(spec::NamespaceType::kNetwork); named && !named->path.empty()) {
    RETURN_IF_ERROR(SaveFile(Directory() + "/network", control::SerializeNetwork(network)));
  }
  return client.SetNetwork(network);
}

absl::Status Container::ReturnNetwork(const spec::Spec& spec) {
  const spec::Namespace* named = spec.linux.Find(spec::NamespaceType::kNetwork);
  std::string text;
  if (HasJoined() || !named || named->path.empty() || !spec::ReadSmallFile(Directory() + "/network", &text).ok())
    return absl::OkStatus();
  return GiveBackNetwork(named->path, VALUE_OR_RETURN(control::ParseNetwork(text)));
}

absl::Status Container::Start() {
  auto lock = VALUE_OR_RETURN(store_.Lock(record_.id));
  RETURN_IF_ERROR(Refresh());
  switch (record_.status) {
    case Status::kCreated:
      break;
    case Status::kStopped:
      return absl::FailedPreconditionError("cannot start a container that has stopped");
    case Status::kRunning:
    case Status::kPaused:
      return absl::FailedPreconditionError("cannot start an already running container");
    case Status::kCreating:
      return absl::FailedPreconditionError("cannot start a container in the creating state");
  }
  auto spec = VALUE_OR_RETURN(LoadSpec());
  auto client = VALUE_OR_RETURN(Connect());
  // Before the answer: a container that ends at once must not be seen as created.
  record_.status = Status::kRunning;
  record_.is_starting = true;
  RETURN_IF_ERROR(store_.Save(record_));
  RETURN_IF_ERROR(MoveNetwork(spec, client));
  if (absl::Status started = client.Start(MillisecondsOf(spec.hooks.start_container)); !started.ok()) {
    // One that may not be started yet stays.
    if (auto info = client.State(); info.ok() && info->state == control::ContainerState::kCreated) {
      record_.status = Status::kCreated;
      record_.is_starting = false;
      RETURN_IF_ERROR(store_.Save(record_));
      return started;
    }
    // It ends because of that. Engines delete a container whose start failed at once, and only one that has ended.
    AwaitEnd(record_.sandbox_pid);
    return started;
  }
  record_.is_starting = false;
  RETURN_IF_ERROR(store_.Save(record_));
  RunLateHooks("poststart", spec.hooks.poststart, StateJson(false), record_.bundle);
  return absl::OkStatus();
}

absl::Status Container::Kill(int signal, bool all) {
  auto lock = VALUE_OR_RETURN(store_.Lock(record_.id));
  RETURN_IF_ERROR(Refresh());
  if (record_.status == Status::kStopped) {
    if (all) return absl::OkStatus();
    return absl::FailedPreconditionError("container not running");
  }
  auto client = Connect();
  absl::Status status = client.status();
  if (client.ok()) {
    status = client->Signal(0, signal, all ? control::SignalScope::kAll : control::SignalScope::kProcess);
    if (absl::IsNotFound(status)) status = absl::FailedPreconditionError("container not running");
  }
  // A sandbox that does not answer is still ended by SIGKILL.
  bool unanswered = absl::IsUnavailable(status) || absl::IsDeadlineExceeded(status) || absl::IsDataLoss(status);
  if (signal == SIGKILL && unanswered &&
      KillAndWait(record_.sandbox_pid, record_.sandbox_start_ticks, kKillTimeoutMs)) {
    return absl::OkStatus();
  }
  return status;
}

absl::Status Container::Update(const spec::Resources& resources) {
  auto lock = VALUE_OR_RETURN(store_.Lock(record_.id));
  RETURN_IF_ERROR(Refresh());
  if (record_.status == Status::kStopped) return absl::FailedPreconditionError("container not running");
  if (!HasJoined()) RETURN_IF_ERROR(UpdatePlacement(record_, resources));
  control::ResourceUpdate update;
  if (resources.memory_limit) {
    update.memory_limit_bytes = *resources.memory_limit > 0 ? *resources.memory_limit : UINT64_MAX;
  }
  if (resources.pids_limit) update.max_tasks = *resources.pids_limit > 0 ? *resources.pids_limit : 32'000;
  if (!update.memory_limit_bytes && !update.max_tasks) return absl::OkStatus();
  auto client = VALUE_OR_RETURN(Connect());
  return client.Update(update);
}

absl::Status Container::Pause() {
  auto lock = VALUE_OR_RETURN(store_.Lock(record_.id));
  RETURN_IF_ERROR(Refresh());
  if (record_.status != Status::kRunning) return absl::FailedPreconditionError("container not running");
  auto client = VALUE_OR_RETURN(Connect());
  // Before it stands still: whoever finds it paused can let it go on, whether it was or not.
  record_.status = Status::kPaused;
  RETURN_IF_ERROR(store_.Save(record_));
  absl::Status paused = client.Pause();
  if (paused.ok()) return paused;
  record_.status = Status::kRunning;
  RETURN_IF_ERROR(store_.Save(record_));
  return paused;
}

absl::Status Container::Resume() {
  auto lock = VALUE_OR_RETURN(store_.Lock(record_.id));
  RETURN_IF_ERROR(Refresh());
  if (record_.status != Status::kPaused) return absl::FailedPreconditionError("container not paused");
  auto client = VALUE_OR_RETURN(Connect());
  // It runs already where a pause or a resume was killed in between.
  auto info = VALUE_OR_RETURN(client.State());
  if (info.state == control::ContainerState::kPaused) RETURN_IF_ERROR(client.Resume());
  record_.status = Status::kRunning;
  return store_.Save(record_);
}

bool Container::HasEndedInside() const {
  auto client = Connect();
  if (!client.ok()) return false;
  auto info = client->State();
  return info.ok() && info->state == control::ContainerState::kStopped;
}

absl::Status Container::TearDown() {
  if (HasJoined() && record_.sandbox_start_ticks != 0) {
    // The sandbox forgets it, and its gofer ends with its status. Neither can be helped where the sandbox is gone.
    auto client = Connect();
    if (client.ok() && client->DestroyContainer().ok()) AwaitEnd(record_.sandbox_pid);
  }
  // Without a start time the process had ended when it was recorded. The sandbox first: it would complain of a lost
  // gofer.
  EndingProcess sandbox, gofer;
  if (record_.sandbox_start_ticks != 0) sandbox = EndingProcess(record_.sandbox_pid, record_.sandbox_start_ticks);
  if (record_.gofer_start_ticks != 0) gofer = EndingProcess(record_.gofer_pid, record_.gofer_start_ticks);
  if (!sandbox.Wait(kKillTimeoutMs)) {
    return absl::InternalError(absl::StrCat("the sandbox process ", record_.sandbox_pid, " does not end"));
  }
  if (!gofer.Wait(kKillTimeoutMs)) {
    return absl::InternalError(absl::StrCat("the gofer process ", record_.gofer_pid, " does not end"));
  }
  return RemovePlacement(record_);
}

absl::Status Container::Delete(bool force) {
  auto lock = VALUE_OR_RETURN(store_.Lock(record_.id));
  absl::Status loaded = Refresh();
  // Never completed, or damaged: nothing is known of processes.
  if (absl::IsDataLoss(loaded) && force) return store_.Remove(record_.id);
  RETURN_IF_ERROR(loaded);
  // It has ended, and its process is on its way out.
  if (record_.status == Status::kRunning && HasEndedInside()) {
    AwaitEnd(record_.sandbox_pid);
    record_.status = Status::kStopped;
  }
  // As runc: a created container is deleted without force.
  bool stopped = record_.status == Status::kStopped || record_.status == Status::kCreated;
  if (!stopped && !force) {
    return absl::FailedPreconditionError(
        absl::StrCat("cannot delete container ", record_.id, " that is not stopped: ", StatusName(record_.status)));
  }
  auto spec = LoadSpec();
  RETURN_IF_ERROR(TearDown());
  record_.status = Status::kStopped;
  if (spec.ok()) {
    if (absl::Status given = ReturnNetwork(*spec); !given.ok()) LOG_WARNING("%s", std::string(given.message()).c_str());
    RunLateHooks("poststop", spec->hooks.poststop, StateJson(false), record_.bundle);
  }
  return store_.Remove(record_.id);
}

std::string Container::StateJson(bool pretty) const {
  JsonWriter w(pretty ? "  " : "");
  w.BeginObject();
  w.String("ociVersion", record_.oci_version);
  w.String("id", record_.id);
  w.Number("pid", record_.status == Status::kStopped ? 0 : record_.sandbox_pid);
  w.String("status", StatusName(record_.status));
  w.String("bundle", record_.bundle);
  w.String("rootfs", record_.rootfs);
  w.String("created", FormatTime(record_.created_ns));
  if (!record_.annotations.empty()) w.StringMap("annotations", record_.annotations);
  w.String("owner", record_.owner_uid == 0 ? "root" : absl::StrCat(record_.owner_uid));
  w.EndObject();
  return w.text();
}

}  // namespace runsc
