// SPDX-License-Identifier: Apache-2.0
#include "runsc/control/client.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "runsc/control/control.pb.h"
#include "runsc/control/convert.h"
#include "runsc/control/wire.h"

namespace runsc::control {
namespace {

// Answers to everything but Wait are quick; Exec and Start load a program through the gofer.
constexpr int kCallTimeoutMs = 30'000;

// `holder` keeps the descriptor that a long path is reached through.
absl::StatusOr<sockaddr_un> AddressOf(const std::string& directory, const std::string& name, base::UniqueFd* holder) {
  sockaddr_un address = {.sun_family = AF_UNIX};
  std::string path = directory + "/" + name;
  if (path.size() >= sizeof address.sun_path) {
    holder->Reset(open(directory.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (!holder->ok()) {
      auto message = absl::StrCat(directory, ": ", strerror(errno));
      return errno == ENOENT ? absl::UnavailableError(message) : absl::InternalError(message);
    }
    path = absl::StrCat("/proc/self/fd/", holder->get(), "/", name);
  }
  if (path.size() >= sizeof address.sun_path) return absl::InternalError(absl::StrCat(name, ": name too long"));
  memcpy(address.sun_path, path.c_str(), path.size() + 1);
  return address;
}

}  // namespace

absl::StatusOr<base::UniqueFd> ListenOn(const std::string& directory, const std::string& name) {
  base::UniqueFd holder;
  auto address = AddressOf(directory, name, &holder);
  if (!address.ok()) return address.status();
  base::UniqueFd socket_fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket_fd.ok()) return absl::InternalError(absl::StrCat("socket(AF_UNIX): ", strerror(errno)));
  // The inode's mode: fchmod on the unbound socket is what bind(2) starts from on Linux.
  fchmod(socket_fd.get(), 0600);
  if (bind(socket_fd.get(), reinterpret_cast<sockaddr*>(&*address), sizeof *address) != 0 ||
      listen(socket_fd.get(), 64) != 0) {
    return absl::InternalError(
        absl::StrCat(directory, "/", name, ": cannot make the control socket: ", strerror(errno)));
  }
  return socket_fd;
}

Client::Client(base::UniqueFd socket, std::string container_id)
    : socket_(std::move(socket)), container_id_(std::move(container_id)) {}

absl::StatusOr<Client> Client::Connect(const std::string& directory, const std::string& container_id) {
  base::UniqueFd holder;
  auto address = AddressOf(directory, "control.sock", &holder);
  if (!address.ok()) return address.status();
  base::UniqueFd socket_fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket_fd.ok()) return absl::InternalError(absl::StrCat("socket(AF_UNIX): ", strerror(errno)));
  // A sandbox that is stopped (SIGSTOP) with a full backlog must not hang the caller.
  timeval timeout{.tv_sec = 10};
  setsockopt(socket_fd.get(), SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout);
  while (connect(socket_fd.get(), reinterpret_cast<sockaddr*>(&*address), sizeof *address) != 0) {
    if (errno == EINTR) continue;
    return absl::UnavailableError(absl::StrCat(directory, "/control.sock: ", strerror(errno)));
  }
  return Client(std::move(socket_fd), container_id);
}

absl::Status Client::Send(pb::Request& request, const std::vector<int>& fds) {
  request.set_id(next_id_++);
  request.set_container_id(container_id_);
  std::string payload;
  request.SerializeToString(&payload);
  return SendFrame(socket_.get(), payload, fds, kCallTimeoutMs);
}

absl::Status Client::Receive(pb::Response* response, int timeout_ms) {
  Frame frame;
  if (auto status = ReceiveFrame(socket_.get(), &frame, timeout_ms); !status.ok()) return status;
  if (!frame.fds.empty() || !response->ParseFromString(frame.payload)) {
    return absl::DataLossError("the sandbox sent a malformed answer");
  }
  if (response->id() != next_id_ - 1) return absl::DataLossError("the sandbox answered another request");
  if (response->code() == 0) return absl::OkStatus();
  return absl::Status(static_cast<absl::StatusCode>(response->code()), response->message());
}

absl::Status Client::Call(pb::Request& request, pb::Response* response, const std::vector<int>& fds) {
  if (auto status = Send(request, fds); !status.ok()) return status;
  return Receive(response, kCallTimeoutMs);
}

absl::Status Client::SetNetwork(const NetworkConfig& config) {
  pb::Request request;
  pb::Response response;
  ToProto(config, request.mutable_set_network());
  std::vector<int> sockets;
  for (const NetworkInterface& interface : config.interfaces) sockets.push_back(interface.socket.get());
  if (config.resolver.ok()) {
    request.mutable_set_network()->set_has_resolver(true);
    sockets.push_back(config.resolver.get());
  }
  return Call(request, &response, sockets);
}

absl::Status Client::CreateContainer(const CreateRequest& create) {
  pb::Request request;
  pb::Response response;
  pb::CreateContainerRequest* out = request.mutable_create_container();
  out->set_bundle(create.bundle);
  out->set_spec(create.spec_text);
  out->set_overlay_root(create.overlay_root);
  out->set_overlay_all(create.overlay_all);
  out->set_overlay_size(create.overlay_size);
  out->set_root_shared(create.root_shared);
  out->set_mounts_shared(create.mounts_shared);
  std::vector<int> fds = {create.exit_status_fd.get()};
  for (const base::UniqueFd& fd : create.stdio) {
    out->add_stdio_present(fd.ok());
    if (fd.ok()) fds.push_back(fd.get());
  }
  for (const base::UniqueFd& fd : create.gofer_fds) fds.push_back(fd.get());
  return Call(request, &response, fds);
}

absl::Status Client::DestroyContainer() {
  pb::Request request;
  pb::Response response;
  request.mutable_destroy_container();
  return Call(request, &response);
}

absl::Status Client::Start(int hooks_ms) {
  pb::Request request;
  pb::Response response;
  request.mutable_start();
  if (auto status = Send(request, {}); !status.ok()) return status;
  return Receive(&response, kCallTimeoutMs + hooks_ms);
}

absl::StatusOr<int32_t> Client::Exec(const spec::Process& process, const std::vector<int>& fds) {
  pb::Request request;
  pb::Response response;
  ToProto(process, request.mutable_exec()->mutable_process());
  std::vector<int> present;
  for (int fd : fds) {
    request.mutable_exec()->add_fd_present(fd >= 0);
    if (fd >= 0) present.push_back(fd);
  }
  if (auto status = Call(request, &response, present); !status.ok()) return status;
  return response.pid();
}

absl::Status Client::Signal(int32_t pid, int signal, SignalScope scope) {
  pb::Request request;
  pb::Response response;
  request.mutable_signal()->set_pid(pid);
  request.mutable_signal()->set_signal(signal);
  request.mutable_signal()->set_scope(static_cast<pb::SignalScope>(scope));
  return Call(request, &response);
}

absl::StatusOr<std::vector<ProcessInfo>> Client::Processes() {
  pb::Request request;
  pb::Response response;
  request.mutable_processes();
  if (auto status = Call(request, &response); !status.ok()) return status;
  std::vector<ProcessInfo> list;
  for (const auto& p : response.processes()) {
    list.push_back({.pid = p.pid(),
                    .ppid = p.ppid(),
                    .uid = p.uid(),
                    .threads = p.threads(),
                    .tty = p.tty(),
                    .start_time_ns = p.start_time_ns(),
                    .cpu_time_ns = p.cpu_time_ns(),
                    .cpu_percent = p.cpu_percent(),
                    .command = p.command()});
  }
  return list;
}

absl::StatusOr<ContainerInfo> Client::State() {
  pb::Request request;
  pb::Response response;
  request.mutable_state();
  if (auto status = Call(request, &response); !status.ok()) return status;
  if (response.state() < 0 || response.state() > static_cast<int>(ContainerState::kStopped)) {
    return absl::DataLossError("the sandbox sent an unknown state");
  }
  return ContainerInfo{.state = static_cast<ContainerState>(response.state()),
                       .init_wait_status = response.wait_status()};
}

absl::Status Client::ResizeTerminal(int32_t pid, uint16_t rows, uint16_t columns) {
  pb::Request request;
  pb::Response response;
  request.mutable_resize()->set_pid(pid);
  request.mutable_resize()->set_rows(rows);
  request.mutable_resize()->set_columns(columns);
  return Call(request, &response);
}

absl::Status Client::Pause() {
  pb::Request request;
  pb::Response response;
  request.mutable_pause();
  return Call(request, &response);
}

absl::Status Client::Resume() {
  pb::Request request;
  pb::Response response;
  request.mutable_resume();
  return Call(request, &response);
}

absl::StatusOr<Stats> Client::GetStats() {
  pb::Request request;
  pb::Response response;
  request.mutable_stats();
  if (auto status = Call(request, &response); !status.ok()) return status;
  return Stats{.memory_bytes = response.memory_bytes(),
               .memory_limit_bytes = response.memory_limit_bytes(),
               .cpu_ns = response.cpu_ns(),
               .pids = response.pids(),
               .oom_kills = response.oom_kills()};
}

absl::Status Client::Update(const ResourceUpdate& update) {
  pb::Request request;
  pb::Response response;
  pb::UpdateRequest* out = request.mutable_update();
  if (update.memory_limit_bytes) out->set_memory_limit_bytes(*update.memory_limit_bytes);
  if (update.max_tasks) out->set_max_tasks(*update.max_tasks);
  return Call(request, &response);
}

absl::StatusOr<uint64_t> Client::WaitOom(uint64_t seen) {
  pb::Request request;
  pb::Response response;
  request.mutable_oom()->set_seen(seen);
  if (auto status = Send(request, {}); !status.ok()) return status;
  if (auto status = Receive(&response, /*timeout_ms=*/-1); !status.ok()) return status;
  return response.oom_kills();
}

absl::Status Client::BeginExport(bool oci_whiteouts, int out) {
  pb::Request request;
  request.mutable_export_upper()->set_oci_whiteouts(oci_whiteouts);
  return Send(request, {out});
}

absl::Status Client::FinishExport() {
  pb::Response response;
  return Receive(&response, kCallTimeoutMs);
}

absl::Status Client::ForwardPort(uint16_t port, int connection) {
  pb::Request request;
  pb::Response response;
  request.mutable_forward()->set_port(port);
  return Call(request, &response, {connection});
}

absl::Status Client::SetLogging(const LoggingChange& change) {
  pb::Request request;
  pb::Response response;
  pb::LoggingRequest* out = request.mutable_logging();
  if (change.level) out->set_level(*change.level);
  if (change.strace) out->set_strace(*change.strace);
  for (const std::string& name : change.strace_only) out->add_strace_only(name);
  return Call(request, &response);
}

absl::Status Client::Shutdown() {
  pb::Request request;
  pb::Response response;
  request.mutable_shutdown();
  return Call(request, &response);
}

absl::Status Client::BeginWait(int32_t pid) {
  pb::Request request;
  request.mutable_wait()->set_pid(pid);
  return Send(request, {});
}

absl::StatusOr<int32_t> Client::FinishWait() {
  pb::Response response;
  if (auto status = Receive(&response, kCallTimeoutMs); !status.ok()) return status;
  return response.wait_status();
}

}  // namespace runsc::control
