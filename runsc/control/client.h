// SPDX-License-Identifier: Apache-2.0
// The CLI's side of the control protocol. One object is one connection; requests are answered in the order sent unless
// a Wait is among them, so Wait gets a connection of its own. Not thread-safe.
#ifndef RUNSC_CONTROL_CLIENT_H_
#define RUNSC_CONTROL_CLIENT_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/unique_fd.h"
#include "runsc/control/server.h"

namespace runsc::control {

namespace pb {
class Request;
class Response;
}  // namespace pb

// An AF_UNIX address for `directory`/`name`, whatever its length: through /proc/self/fd when over sun_path's 107 bytes.
// Listens with mode 0600. Errors name the path.
absl::StatusOr<base::UniqueFd> ListenOn(const std::string& directory, const std::string& name);

class Client {
 public:
  // kUnavailable if nobody listens at `directory`/control.sock.
  static absl::StatusOr<Client> Connect(const std::string& directory, const std::string& container_id);

  absl::Status SetNetwork(const NetworkConfig& config);
  // `request.container_id` is the client's.
  absl::Status CreateContainer(const CreateRequest& request);
  absl::Status DestroyContainer();
  // `hooks_ms`: how long the container's startContainer hooks may take.
  absl::Status Start(int hooks_ms = 0);
  absl::StatusOr<int32_t> Exec(const spec::Process& process, const std::vector<int>& fds);
  absl::Status Signal(int32_t pid, int signal, SignalScope scope);
  absl::StatusOr<std::vector<ProcessInfo>> Processes();
  absl::StatusOr<ContainerInfo> State();
  absl::Status ResizeTerminal(int32_t pid, uint16_t rows, uint16_t columns);
  absl::Status Pause();
  absl::Status Resume();
  absl::StatusOr<Stats> GetStats();
  absl::Status Update(const ResourceUpdate& update);
  // Blocks until more than `seen` processes were killed for want of memory: how many. kUnavailable when the sandbox
  // ends.
  absl::StatusOr<uint64_t> WaitOom(uint64_t seen);
  // `out` is a stream socket, whose other end somebody must read meanwhile: ask, read to its end, then take the answer.
  absl::Status BeginExport(bool oci_whiteouts, int out);
  absl::Status FinishExport();
  absl::Status ForwardPort(uint16_t port, int connection);
  absl::Status SetLogging(const LoggingChange& change);
  absl::Status Shutdown();

  // Asks for the wait status of `pid` (0 = init); then fd() becomes readable when the answer is there, or the sandbox
  // is gone, and FinishWait takes it. Nothing else may be asked in between.
  absl::Status BeginWait(int32_t pid);
  int fd() const { return socket_.get(); }
  absl::StatusOr<int32_t> FinishWait();

 private:
  Client(base::UniqueFd socket, std::string container_id);
  absl::Status Send(pb::Request& request, const std::vector<int>& fds);
  absl::Status Receive(pb::Response* response, int timeout_ms);
  absl::Status Call(pb::Request& request, pb::Response* response, const std::vector<int>& fds = {});

  base::UniqueFd socket_;
  std::string container_id_;
  uint64_t next_id_ = 1;
};

}  // namespace runsc::control

#endif  // RUNSC_CONTROL_CLIENT_H_
