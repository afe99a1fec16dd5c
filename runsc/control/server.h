// SPDX-License-Identifier: Apache-2.0
// The sentry's side of the control protocol: a server that turns requests on the container's control socket into calls
// of a ControlHandler. Framing and messages are in control/wire.h and control.proto.
//
// Threads: Serve() runs on the caller's thread until Stop; each connection gets one thread (at most
// kMaxConnections), on which the handler is called; so handler methods are called concurrently, may block (Exec loads
// a program), and must be bounded. A connection carries many requests, answered in the order they finish: Wait does
// not hold up a Signal behind it. Memory of a connection is bounded; a peer that breaks the framing is cut off.
//
// Host calls used after construction, for the seccomp allow-list: poll, accept4, recvmsg, sendmsg, close, shutdown,
// write (eventfd), and what pthread_create needs.
#ifndef RUNSC_CONTROL_SERVER_H_
#define RUNSC_CONTROL_SERVER_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/unique_fd.h"
#include "runsc/control/network_config.h"
#include "runsc/spec/spec.h"

namespace runsc::control {

struct ExecRequest {
  std::string container_id;
  spec::Process process;  // validated by the CLI; capabilities absent = those of the container's init
  // process.terminal: one host pty in raw mode, else stdin, stdout, stderr. -1 entries where the caller's was closed.
  // Then its 3, 4, ...
  std::vector<base::UniqueFd> fds;
};

// A further container of the sandbox. Its root and bind mounts are served by a gofer of its own.
struct CreateRequest {
  std::string container_id;
  std::string bundle;
  std::string spec_text;  // config.json; the CLI validated it, the sentry reads it anew
  // process.terminal: one host pty in raw mode, else stdin, stdout, stderr; -1 where the caller's was closed. Then its
  // 3, 4, ...
  std::vector<base::UniqueFd> stdio;
  base::UniqueFd exit_status_fd;          // as BootArgs::exit_status_fd
  std::vector<base::UniqueFd> gofer_fds;  // one per tree of spec::GoferMounts
  // Of the flags --overlay2, --file-access and --file-access-mounts, by which its gofer was started.
  bool overlay_root = true, overlay_all = false;
  uint64_t overlay_size = 0;
  bool root_shared = false, mounts_shared = true;
};

enum class SignalScope : uint8_t {
  kProcess,          // the thread group `pid`
  kProcessGroup,     // the process group of `pid`
  kForegroundGroup,  // the foreground group of the terminal of `pid`'s session; `pid`'s group if it has none
  kAll,              // every process of the container; `pid` is ignored
};

struct ProcessInfo {
  int32_t pid = 0;  // as seen in the container
  int32_t ppid = 0;
  uint32_t uid = 0;
  int32_t threads = 0;
  std::string tty = "?";      // "pts/0"
  int64_t start_time_ns = 0;  // CLOCK_REALTIME
  int64_t cpu_time_ns = 0;
  int cpu_percent = 0;
  std::string command;
};

enum class ContainerState : uint8_t { kCreated, kRunning, kPaused, kStopped };

struct ContainerInfo {
  ContainerState state = ContainerState::kCreated;
  int32_t init_wait_status = 0;  // valid when kStopped
};

struct Stats {
  uint64_t memory_bytes = 0;
  uint64_t memory_limit_bytes = 0;  // 0 = none
  uint64_t cpu_ns = 0;
  uint64_t pids = 0;
  uint64_t oom_kills = 0;  // processes killed for want of memory, since the start
};

// New limits; absent ones stay as they are.
struct ResourceUpdate {
  std::optional<uint64_t> memory_limit_bytes;  // UINT64_MAX: the host's memory
  std::optional<uint64_t> max_tasks;
};

// What a running sandbox logs from now on; absent: as it is.
struct LoggingChange {
  std::optional<int> level;              // base::LogLevel
  std::optional<bool> strace;            // lines of the info level
  std::vector<std::string> strace_only;  // names of calls; empty: all
};

// Called exactly once, from any thread (also after the peer has gone, or never if the sandbox ends first: then the
// connection closes). The value is a waitpid(2) status.
using WaitDone = std::function<void(absl::StatusOr<int32_t> wait_status)>;

// The same with a count.
using CountDone = std::function<void(absl::StatusOr<uint64_t> count)>;

// Implemented by sentry/boot. The message of a failed Status reaches the user as is, in one line. Codes with a
// meaning for the CLI: kNotFound (no such container or process: runc's "process already finished" family),
// kFailedPrecondition (wrong state), kInvalidArgument, kUnimplemented; the rest count as internal errors.
class ControlHandler {
 public:
  virtual ~ControlHandler() = default;

  // Makes a further container, up to `created`. It lives until it is destroyed, or the sandbox ends.
  // kAlreadyExists, kFailedPrecondition (the sandbox is ending).
  virtual absl::Status CreateContainer(CreateRequest request) {
    return absl::UnimplementedError("this sandbox takes one container only");
  }
  // Ends what runs in a container of CreateContainer and forgets it.
  virtual absl::Status DestroyContainer(const std::string& container_id) {
    return absl::UnimplementedError("this sandbox takes one container only");
  }

  // Runs the container's init process. Returns when exec(2) of its program has succeeded or failed; the error then
  // says why ("exec: \"/bin/nope\": no such file or directory") and the container counts as stopped.
  // kFailedPrecondition if it was started before.
  virtual absl::Status Start(const std::string& container_id) = 0;

  // The interfaces of the sandbox, once, before Start.
  virtual absl::Status SetNetwork(const std::string& container_id, NetworkConfig config) {
    return absl::UnimplementedError("this sandbox takes no network");
  }

  // Starts a process in a running container and returns its pid there, after its exec succeeded. Its exit status is
  // kept until the first Wait on it (bounded: the oldest unclaimed ones may be dropped after 1024).
  virtual absl::StatusOr<int32_t> Exec(ExecRequest request) = 0;

  // pid 0 = the container's init, also before Start. For a process that has exited already, `done` may be called before
  // this returns. kNotFound for pids that are neither init nor from Exec.
  virtual void Wait(const std::string& container_id, int32_t pid, WaitDone done) = 0;

  // pid 0 = init. kNotFound if the process is gone; kFailedPrecondition if the container is not running. Before Start,
  // SIGKILL and SIGTERM end the created container (it becomes stopped, status 128+signal).
  virtual absl::Status Signal(const std::string& container_id, int32_t pid, int signal, SignalScope scope) = 0;

  virtual absl::StatusOr<std::vector<ProcessInfo>> Processes(const std::string& container_id) = 0;
  virtual absl::StatusOr<ContainerInfo> State(const std::string& container_id) = 0;

  // The window of the terminal that init (pid 0) or an Exec with a terminal was given; SIGWINCH follows in the guest.
  virtual absl::Status ResizeTerminal(const std::string& container_id, int32_t pid, uint16_t rows,
                                      uint16_t columns) = 0;

  virtual absl::Status Pause(const std::string& container_id) = 0;
  virtual absl::Status Resume(const std::string& container_id) = 0;
  virtual absl::StatusOr<Stats> GetStats(const std::string& container_id) = 0;

  // What is in use already stays in use.
  virtual absl::Status Update(const std::string& container_id, const ResourceUpdate& update) = 0;

  // `done` gets the number of processes that were killed for want of memory, once it is above `seen`.
  virtual void WaitOom(const std::string& container_id, uint64_t seen, CountDone done) = 0;

  // Writes what the container changed below its root, as a tar archive, to a stream socket, whose SO_SNDTIMEO bounds
  // how long a reader may stand still. `oci_whiteouts`: removed names as in image layers, else as overlayfs stores
  // them. kFailedPrecondition where the root has no upper layer.
  virtual absl::Status ExportUpper(const std::string& container_id, bool oci_whiteouts, base::UniqueFd out) {
    return absl::UnimplementedError("this sandbox has no upper layer");
  }

  // Joins a connected stream socket to a new TCP connection to a port of the container's loopback. kUnavailable where
  // nobody listens.
  virtual absl::Status ForwardPort(const std::string& container_id, uint16_t port, base::UniqueFd connection) {
    return absl::UnimplementedError("this sandbox has no network of its own");
  }

  // kFailedPrecondition where the sandbox has no log.
  virtual absl::Status SetLogging(const std::string& container_id, const LoggingChange& change) {
    return absl::UnimplementedError("this sandbox has no log");
  }

  // Ends the sandbox whatever its state: SIGKILL to everything. The process exits soon after the answer was sent.
  virtual void Shutdown() = 0;
};

class ControlServer {
 public:
  static constexpr int kMaxConnections = 256;

  // `listen_fd`: a listening AF_UNIX SOCK_STREAM socket (BootArgs::control_fd). The handler is borrowed. Opens the fds
  // it needs later (an eventfd); call before the seccomp filter goes in. kInternal if that fails.
  static absl::StatusOr<std::unique_ptr<ControlServer>> Create(base::UniqueFd listen_fd, ControlHandler* handler);
  ~ControlServer();

  // Accepts and serves until Stop(). Who may connect is decided by the socket's path: mode 0600 below a 0700 directory.
  void Serve();
  // From any thread, idempotent. Waits until answers that are being sent are out (at most about a second), so that
  // waiters get their status before the process exits, then Serve returns.
  void Stop();

 private:
  class Impl;
  explicit ControlServer(std::shared_ptr<Impl> impl);
  std::shared_ptr<Impl> impl_;
};

}  // namespace runsc::control

#endif  // RUNSC_CONTROL_SERVER_H_
