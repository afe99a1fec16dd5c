// SPDX-License-Identifier: Apache-2.0
#include "runsc/control/server.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mutex.h"
#include "runsc/control/control.pb.h"
#include "runsc/control/convert.h"
#include "runsc/control/wire.h"

namespace runsc::control {
namespace {

// An answer that the peer does not take within this time is dropped: a stopped CLI must not hold up the sentry.
constexpr int kSendTimeoutMs = 1000;
constexpr int64_t kStopTimeoutNs = base::kNsPerSecond;

// One peer. Outlives its thread while a Wait is pending on it.
class Connection {
 public:
  explicit Connection(base::UniqueFd socket) : socket_(std::move(socket)) {}
  int socket() const { return socket_.get(); }

  void Send(const pb::Response& response) {
    std::string payload;
    response.SerializeToString(&payload);
    base::MutexLock lock(mu_);
    if (dead_) return;
    auto status = SendFrame(socket_.get(), payload, {}, kSendTimeoutMs);
    if (status.ok()) return;
    dead_ = true;
    // The thread that reads notices.
    shutdown(socket_.get(), SHUT_RDWR);
  }

 private:
  const base::UniqueFd socket_;
  base::Mutex mu_{base::LockRank::kLeaf};
  bool dead_ ABSL_GUARDED_BY(mu_) = false;
};

void SetStatus(const absl::Status& status, pb::Response* response) {
  response->set_code(static_cast<int>(status.code()));
  response->set_message(std::string(status.message()));
}

absl::Status HandleExec(ControlHandler& handler, const std::string& id, const pb::ExecRequest& request,
                        std::vector<base::UniqueFd> fds, pb::Response* response) {
  auto process = FromProto(request.process());
  if (!process.ok()) return process.status();
  ExecRequest exec{.container_id = id, .process = *std::move(process)};
  const int wanted = exec.process.terminal ? 1 : 3;
  size_t next = 0;
  if (request.fd_present_size() < wanted) return absl::InvalidArgumentError("exec: wrong number of descriptors");
  for (bool present : request.fd_present()) {
    if (present && next == fds.size()) return absl::InvalidArgumentError("exec: a descriptor is missing");
    exec.fds.push_back(present ? std::move(fds[next++]) : base::UniqueFd());
  }
  if (next != fds.size()) return absl::InvalidArgumentError("exec: too many descriptors");
  auto pid = handler.Exec(std::move(exec));
  if (pid.ok()) response->set_pid(*pid);
  return pid.status();
}

absl::Status HandleCreate(ControlHandler& handler, const std::string& id, const pb::CreateContainerRequest& request,
                          std::vector<base::UniqueFd> fds) {
  CreateRequest create{.container_id = id,
                       .bundle = request.bundle(),
                       .spec_text = request.spec(),
                       .overlay_root = request.overlay_root(),
                       .overlay_all = request.overlay_all(),
                       .overlay_size = request.overlay_size(),
                       .root_shared = request.root_shared(),
                       .mounts_shared = request.mounts_shared()};
  size_t next = 0;
  if (fds.empty()) return absl::InvalidArgumentError("create: wrong descriptors");
  create.exit_status_fd = std::move(fds[next++]);
  for (bool present : request.stdio_present()) {
    if (present && next == fds.size()) return absl::InvalidArgumentError("create: a descriptor is missing");
    create.stdio.push_back(present ? std::move(fds[next++]) : base::UniqueFd());
  }
  for (; next < fds.size(); ++next) create.gofer_fds.push_back(std::move(fds[next]));
  return handler.CreateContainer(std::move(create));
}

absl::Status HandleLogging(ControlHandler& handler, const std::string& id, const pb::LoggingRequest& request) {
  LoggingChange change;
  if (request.has_level()) {
    if (request.level() < 0 || request.level() > static_cast<int>(base::LogLevel::kError))
      return absl::InvalidArgumentError("logging: unknown level");
    change.level = request.level();
  }
  if (request.has_strace()) change.strace = request.strace();
  change.strace_only.assign(request.strace_only().begin(), request.strace_only().end());
  return handler.SetLogging(id, change);
}

}  // namespace

class ControlServer::Impl : public std::enable_shared_from_this<ControlServer::Impl> {
 public:
  Impl(base::UniqueFd listen_fd, base::UniqueFd stop_fd, ControlHandler* handler)
      : listen_fd_(std::move(listen_fd)), stop_fd_(std::move(stop_fd)), handler_(*handler) {}

  void Serve();
  void Stop();

 private:
  struct ThreadArgs {
    std::shared_ptr<Impl> server;
    std::shared_ptr<Connection> connection;
  };
  static void* ThreadMain(void* argument);
  void ServeConnection(const std::shared_ptr<Connection>& connection);
  // False if the peer broke the protocol.
  bool Dispatch(const std::shared_ptr<Connection>& connection, Frame frame);
  void StartThread(base::UniqueFd socket);

  const base::UniqueFd listen_fd_;
  const base::UniqueFd stop_fd_;  // eventfd, set once and never read
  ControlHandler& handler_;
  base::Mutex mu_{base::LockRank::kLeaf};
  base::CondVar idle_;
  int connections_ ABSL_GUARDED_BY(mu_) = 0;
};

absl::StatusOr<std::unique_ptr<ControlServer>> ControlServer::Create(base::UniqueFd listen_fd,
                                                                     ControlHandler* handler) {
  base::UniqueFd stop(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!stop.ok()) return absl::InternalError(absl::StrCat("eventfd for the control server: ", strerror(errno)));
  return std::unique_ptr<ControlServer>(
      new ControlServer(std::make_shared<Impl>(std::move(listen_fd), std::move(stop), handler)));
}

ControlServer::ControlServer(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}
ControlServer::~ControlServer() { Stop(); }
void ControlServer::Serve() { impl_->Serve(); }
void ControlServer::Stop() { impl_->Stop(); }

void ControlServer::Impl::Serve() {
  while (true) {
    pollfd fds[2] = {{.fd = listen_fd_.get(), .events = POLLIN}, {.fd = stop_fd_.get(), .events = POLLIN}};
    int n = poll(fds, 2, -1);
    if (n < 0) {
      if (errno == EINTR) continue;
      LOG_ERROR("control server: poll: %s", strerror(errno));
      return;
    }
    if (fds[1].revents) return;
    if (!fds[0].revents) continue;
    base::UniqueFd socket(accept4(listen_fd_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (socket.ok()) {
      StartThread(std::move(socket));
      continue;
    }
    if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
      LOG_WARNING("control server: accept: %s", strerror(errno));
      // The pending connection stays readable: don't spin on it.
      poll(&fds[1], 1, 100);
    } else if (errno != EINTR && errno != EAGAIN && errno != ECONNABORTED) {
      LOG_ERROR("control server: accept: %s", strerror(errno));
      return;
    }
  }
}

void ControlServer::Impl::StartThread(base::UniqueFd socket) {
  {
    base::MutexLock lock(mu_);
    if (connections_ >= kMaxConnections) {
      LOG_WARNING("control server: over %d connections: one refused", kMaxConnections);
      return;
    }
    ++connections_;
  }
  auto* args = new ThreadArgs{shared_from_this(), std::make_shared<Connection>(std::move(socket))};
  // Host signals are for other threads.
  sigset_t all, old;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &old);
  pthread_attr_t attr;
  pthread_attr_init(&attr);
  pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
  pthread_t thread;
  int error = pthread_create(&thread, &attr, ThreadMain, args);
  pthread_attr_destroy(&attr);
  pthread_sigmask(SIG_SETMASK, &old, nullptr);
  if (error == 0) return;
  LOG_WARNING("control server: no thread for a connection: %s", strerror(error));
  delete args;
  base::MutexLock lock(mu_);
  --connections_;
}

void* ControlServer::Impl::ThreadMain(void* argument) {
  std::unique_ptr<ThreadArgs> args(static_cast<ThreadArgs*>(argument));
  args->server->ServeConnection(args->connection);
  args->connection.reset();
  std::shared_ptr<Impl> server = std::move(args->server);
  base::MutexLock lock(server->mu_);
  --server->connections_;
  server->idle_.NotifyAll();
  return nullptr;
}

void ControlServer::Impl::ServeConnection(const std::shared_ptr<Connection>& connection) {
  while (true) {
    Frame frame;
    absl::Status status = ReceiveFrame(connection->socket(), &frame, /*timeout_ms=*/-1, stop_fd_.get());
    if (status.ok() && !Dispatch(connection, std::move(frame))) status = absl::DataLossError("malformed request");
    if (status.ok()) continue;
    if (!absl::IsUnavailable(status) && !absl::IsCancelled(status)) {
      LOG_WARNING("control server: connection dropped: %s", std::string(status.message()).c_str());
    }
    // A pending Wait keeps the object, not the peer: it must see the end now, unless we are stopping (its answer may
    // be about to be sent by another thread).
    if (!absl::IsCancelled(status)) shutdown(connection->socket(), SHUT_RDWR);
    return;
  }
}

bool ControlServer::Impl::Dispatch(const std::shared_ptr<Connection>& connection, Frame frame) {
  pb::Request request;
  if (!request.ParseFromString(frame.payload)) return false;
  frame.payload = std::string();
  switch (request.kind_case()) {
    case pb::Request::kExec:
    case pb::Request::kSetNetwork:
    case pb::Request::kCreateContainer:
      break;
    case pb::Request::kExportUpper:
    case pb::Request::kForward:
      if (frame.fds.size() != 1) return false;
      break;
    default:
      if (!frame.fds.empty()) return false;
  }
  const std::string& id = request.container_id();
  pb::Response response;
  response.set_id(request.id());
  switch (request.kind_case()) {
    case pb::Request::kStart:
      SetStatus(handler_.Start(id), &response);
      break;
    case pb::Request::kCreateContainer:
      SetStatus(HandleCreate(handler_, id, request.create_container(), std::move(frame.fds)), &response);
      break;
    case pb::Request::kDestroyContainer:
      SetStatus(handler_.DestroyContainer(id), &response);
      break;
    case pb::Request::kSetNetwork: {
      auto config = FromProto(request.set_network());
      const bool resolver = request.set_network().has_resolver();
      if (config.ok() && config->interfaces.size() + resolver != frame.fds.size()) {
        config = absl::InvalidArgumentError("the network's description is malformed: one socket per interface");
      }
      if (config.ok()) {
        if (resolver) {
          config->resolver = std::move(frame.fds.back());
          frame.fds.pop_back();
        }
        for (size_t i = 0; i < frame.fds.size(); ++i) config->interfaces[i].socket = std::move(frame.fds[i]);
        SetStatus(handler_.SetNetwork(id, *std::move(config)), &response);
      } else {
        SetStatus(config.status(), &response);
      }
      break;
    }
    case pb::Request::kExec:
      SetStatus(HandleExec(handler_, id, request.exec(), std::move(frame.fds), &response), &response);
      break;
    case pb::Request::kWait: {
      WaitDone done = [connection, request_id = request.id()](absl::StatusOr<int32_t> wait_status) {
        pb::Response answer;
        answer.set_id(request_id);
        SetStatus(wait_status.status(), &answer);
        if (wait_status.ok()) answer.set_wait_status(*wait_status);
        connection->Send(answer);
      };
      handler_.Wait(id, request.wait().pid(), std::move(done));
      return true;
    }
    case pb::Request::kSignal: {
      const pb::SignalRequest& r = request.signal();
      if (r.signal() < 0 || r.signal() > 64 || r.scope() < 0 || r.scope() > pb::ALL) {
        SetStatus(absl::InvalidArgumentError(absl::StrCat("signal ", r.signal(), ": not in 0..64")), &response);
      } else {
        SetStatus(handler_.Signal(id, r.pid(), r.signal(), static_cast<SignalScope>(r.scope())), &response);
      }
      break;
    }
    case pb::Request::kProcesses: {
      auto processes = handler_.Processes(id);
      SetStatus(processes.status(), &response);
      if (!processes.ok()) break;
      for (const auto& process : *processes) {
        auto* p = response.add_processes();
        p->set_pid(process.pid);
        p->set_ppid(process.ppid);
        p->set_uid(process.uid);
        p->set_threads(process.threads);
        p->set_tty(process.tty);
        p->set_start_time_ns(process.start_time_ns);
        p->set_cpu_time_ns(process.cpu_time_ns);
        p->set_cpu_percent(process.cpu_percent);
        p->set_command(process.command);
      }
      break;
    }
    case pb::Request::kState: {
      auto info = handler_.State(id);
      SetStatus(info.status(), &response);
      if (!info.ok()) break;
      response.set_state(static_cast<int>(info->state));
      response.set_wait_status(info->init_wait_status);
      break;
    }
    case pb::Request::kResize: {
      const pb::ResizeRequest& r = request.resize();
      if (r.rows() > UINT16_MAX || r.columns() > UINT16_MAX) return false;
      SetStatus(handler_.ResizeTerminal(id, r.pid(), r.rows(), r.columns()), &response);
      break;
    }
    case pb::Request::kPause:
      SetStatus(handler_.Pause(id), &response);
      break;
    case pb::Request::kResume:
      SetStatus(handler_.Resume(id), &response);
      break;
    case pb::Request::kStats: {
      auto stats = handler_.GetStats(id);
      SetStatus(stats.status(), &response);
      if (!stats.ok()) break;
      response.set_memory_bytes(stats->memory_bytes);
      response.set_memory_limit_bytes(stats->memory_limit_bytes);
      response.set_cpu_ns(stats->cpu_ns);
      response.set_pids(stats->pids);
      response.set_oom_kills(stats->oom_kills);
      break;
    }
    case pb::Request::kUpdate: {
      ResourceUpdate update;
      if (request.update().has_memory_limit_bytes()) update.memory_limit_bytes = request.update().memory_limit_bytes();
      if (request.update().has_max_tasks()) update.max_tasks = request.update().max_tasks();
      SetStatus(handler_.Update(id, update), &response);
      break;
    }
    case pb::Request::kOom: {
      CountDone done = [connection, request_id = request.id()](absl::StatusOr<uint64_t> kills) {
        pb::Response answer;
        answer.set_id(request_id);
        SetStatus(kills.status(), &answer);
        if (kills.ok()) answer.set_oom_kills(*kills);
        connection->Send(answer);
      };
      handler_.WaitOom(id, request.oom().seen(), std::move(done));
      return true;
    }
    case pb::Request::kExportUpper:
      SetStatus(handler_.ExportUpper(id, request.export_upper().oci_whiteouts(), std::move(frame.fds[0])), &response);
      break;
    case pb::Request::kForward: {
      const uint32_t port = request.forward().port();
      if (port < 1 || port > UINT16_MAX) return false;
      SetStatus(handler_.ForwardPort(id, static_cast<uint16_t>(port), std::move(frame.fds[0])), &response);
      break;
    }
    case pb::Request::kLogging:
      SetStatus(HandleLogging(handler_, id, request.logging()), &response);
      break;
    case pb::Request::kShutdown:
      connection->Send(response);
      handler_.Shutdown();
      return true;
    case pb::Request::KIND_NOT_SET:
      return false;
  }
  connection->Send(response);
  return true;
}

void ControlServer::Impl::Stop() {
  uint64_t one = 1;
  [[maybe_unused]] ssize_t n = write(stop_fd_.get(), &one, sizeof one);
  int64_t deadline = base::MonotonicNs() + kStopTimeoutNs;
  base::MutexLock lock(mu_);
  while (connections_ > 0 && idle_.WaitUntil(mu_, deadline)) {
  }
}

}  // namespace runsc::control
