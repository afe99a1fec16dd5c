// SPDX-License-Identifier: Apache-2.0
#include "shim/service.h"

#include <signal.h>
#include <unistd.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "runsc/errors.h"
#include "shim/thread.h"

namespace shim {
namespace {

constexpr char kServiceName[] = "containerd.task.v2.Task";
constexpr int kIdleMs = 10'000;

template <typename Request, typename Response>
using Method = absl::StatusOr<Response> (*)(Service&, const Request&);

// Parses, calls, serialises.
template <typename Request, typename Response, Method<Request, Response> method>
absl::StatusOr<std::string> Adapt(Service& service, const std::string& payload) {
  Request request;
  if (!request.ParseFromString(payload)) return absl::InvalidArgumentError("malformed request");
  auto response = method(service, request);
  if (!response.ok()) return response.status();
  return response->SerializeAsString();
}

absl::StatusOr<pb::Empty> EmptyOr(const absl::Status& status) {
  if (!status.ok()) return status;
  return pb::Empty();
}

absl::StatusOr<pb::CreateTaskResponse> Create(Service& s, const pb::CreateTaskRequest& r) { return s.Create(r); }
absl::StatusOr<pb::DeleteResponse> Delete(Service& s, const pb::DeleteRequest& r) { return s.Delete(r); }
absl::StatusOr<pb::ConnectResponse> Connect(Service& s, const pb::ConnectRequest& r) { return s.Connect(r); }
absl::StatusOr<pb::Empty> Shutdown(Service& s, const pb::ShutdownRequest& r) { return s.Shutdown(r); }

absl::StatusOr<pb::StartResponse> Start(Service& s, const pb::StartRequest& r) {
  auto task = VALUE_OR_RETURN(s.Find(r.id()));
  pb::StartResponse response;
  response.set_pid(VALUE_OR_RETURN(task->Start(r.exec_id())));
  return response;
}

absl::StatusOr<pb::Empty> Exec(Service& s, const pb::ExecProcessRequest& r) {
  return EmptyOr(VALUE_OR_RETURN(s.Find(r.id()))->Exec(r));
}

absl::StatusOr<pb::StateResponse> State(Service& s, const pb::StateRequest& r) {
  return VALUE_OR_RETURN(s.Find(r.id()))->State(r.exec_id());
}

absl::StatusOr<pb::Empty> Kill(Service& s, const pb::KillRequest& r) {
  return EmptyOr(VALUE_OR_RETURN(s.Find(r.id()))->Kill(r.exec_id(), r.signal(), r.all()));
}

absl::StatusOr<pb::Empty> ResizePty(Service& s, const pb::ResizePtyRequest& r) {
  return EmptyOr(VALUE_OR_RETURN(s.Find(r.id()))->ResizePty(r.exec_id(), r.height(), r.width()));
}

absl::StatusOr<pb::Empty> CloseIo(Service& s, const pb::CloseIORequest& r) {
  return EmptyOr(VALUE_OR_RETURN(s.Find(r.id()))->CloseIo(r.exec_id(), r.stdin()));
}

absl::StatusOr<pb::Empty> Pause(Service& s, const pb::PauseRequest& r) {
  return EmptyOr(VALUE_OR_RETURN(s.Find(r.id()))->Pause());
}

absl::StatusOr<pb::Empty> Resume(Service& s, const pb::ResumeRequest& r) {
  return EmptyOr(VALUE_OR_RETURN(s.Find(r.id()))->Resume());
}

absl::StatusOr<pb::Empty> Update(Service& s, const pb::UpdateTaskRequest& r) {
  return EmptyOr(VALUE_OR_RETURN(s.Find(r.id()))->Update(r.resources().value()));
}

absl::StatusOr<pb::WaitResponse> Wait(Service& s, const pb::WaitRequest& r) {
  auto task = VALUE_OR_RETURN(s.Find(r.id()));
  Task::Exit exit = VALUE_OR_RETURN(task->Wait(r.exec_id()));
  pb::WaitResponse response;
  response.set_exit_status(exit.status);
  response.mutable_exited_at()->set_seconds(exit.at_ns / 1'000'000'000);
  response.mutable_exited_at()->set_nanos(static_cast<int32_t>(exit.at_ns % 1'000'000'000));
  return response;
}

absl::StatusOr<pb::PidsResponse> Pids(Service& s, const pb::PidsRequest& r) {
  auto task = VALUE_OR_RETURN(s.Find(r.id()));
  pb::PidsResponse response;
  // Guests' processes have no pids on the host: the sandbox stands for them.
  if (uint32_t pid = task->pid()) response.add_processes()->set_pid(pid);
  return response;
}

absl::StatusOr<pb::StatsResponse> Stats(Service& s, const pb::StatsRequest& r) {
  auto task = VALUE_OR_RETURN(s.Find(r.id()));
  pb::StatsResponse response;
  response.mutable_stats()->set_type_url("io.containerd.cgroups.v1.Metrics");
  response.mutable_stats()->set_value(VALUE_OR_RETURN(task->Stats()));
  return response;
}

struct Row {
  const char* name;
  absl::StatusOr<std::string> (*call)(Service& service, const std::string& payload);
};

constexpr Row kMethods[] = {
    {"Create", &Adapt<pb::CreateTaskRequest, pb::CreateTaskResponse, &Create>},
    {"Start", &Adapt<pb::StartRequest, pb::StartResponse, &Start>},
    {"Delete", &Adapt<pb::DeleteRequest, pb::DeleteResponse, &Delete>},
    {"Exec", &Adapt<pb::ExecProcessRequest, pb::Empty, &Exec>},
    {"ResizePty", &Adapt<pb::ResizePtyRequest, pb::Empty, &ResizePty>},
    {"State", &Adapt<pb::StateRequest, pb::StateResponse, &State>},
    {"Pause", &Adapt<pb::PauseRequest, pb::Empty, &Pause>},
    {"Resume", &Adapt<pb::ResumeRequest, pb::Empty, &Resume>},
    {"Kill", &Adapt<pb::KillRequest, pb::Empty, &Kill>},
    {"Pids", &Adapt<pb::PidsRequest, pb::PidsResponse, &Pids>},
    {"CloseIO", &Adapt<pb::CloseIORequest, pb::Empty, &CloseIo>},
    {"Connect", &Adapt<pb::ConnectRequest, pb::ConnectResponse, &Connect>},
    {"Shutdown", &Adapt<pb::ShutdownRequest, pb::Empty, &Shutdown>},
    {"Stats", &Adapt<pb::StatsRequest, pb::StatsResponse, &Stats>},
    {"Update", &Adapt<pb::UpdateTaskRequest, pb::Empty, &Update>},
    {"Wait", &Adapt<pb::WaitRequest, pb::WaitResponse, &Wait>},
};

}  // namespace

absl::StatusOr<std::string> Service::Call(const std::string& service, const std::string& method,
                                          const std::string& payload) {
  if (service != kServiceName) return absl::UnimplementedError(absl::StrCat("service ", service, " is not served"));
  for (const Row& row : kMethods) {
    if (method != row.name) continue;
    auto result = row.call(*this, payload);
    LOG_DEBUG("%s: %s", row.name, result.ok() ? "ok" : std::string(result.status().message()).c_str());
    return result;
  }
  return absl::UnimplementedError(absl::StrCat(method, " is not there yet"));
}

absl::StatusOr<std::shared_ptr<Task>> Service::Find(const std::string& id) {
  base::MutexLock lock(mu_);
  auto it = tasks_.find(id);
  if (it != tasks_.end() && it->second) return it->second;
  return absl::NotFoundError(absl::StrCat("container \"", id, "\" has no task"));
}

absl::StatusOr<pb::CreateTaskResponse> Service::Create(const pb::CreateTaskRequest& request) {
  {
    base::MutexLock lock(mu_);
    if (shut_down_) return absl::UnavailableError("the shim is shutting down");
    if (!tasks_.try_emplace(request.id(), nullptr).second) {
      return absl::AlreadyExistsError(absl::StrCat("container \"", request.id(), "\" has a task already"));
    }
  }
  auto task = Task::Create(request, name_space_, publisher_);
  pb::CreateTaskResponse response;
  if (task.ok()) response.set_pid((*task)->pid());
  {
    base::MutexLock lock(mu_);
    const bool is_abandoned = abandoned_.erase(request.id()) > 0;
    if (task.ok() && !is_abandoned) {
      tasks_[request.id()] = *task;
      return response;
    }
  }
  if (task.ok()) End(**task);
  {
    base::MutexLock lock(mu_);
    tasks_.erase(request.id());
  }
  ShutDownIfIdle(/*is_wanted=*/false);
  // containerd asks for the shutdown of a shim that has nothing, unless it was killed meanwhile.
  if (!StartThread([this] {
        shim::Pause(kIdleMs);
        ShutDownIfIdle(/*is_wanted=*/true);
      }))
    LOG_WARNING("no thread to watch over an idle shim");
  if (!task.ok()) return task.status();
  return absl::CancelledError("the task was deleted while it was made");
}

void Service::End(Task& task) {
  absl::Status killed = task.Kill("", SIGKILL, true);
  if (killed.ok()) (void)task.Wait("").ok();
  auto deleted = task.Delete("");
  if (!deleted.ok()) LOG_WARNING("a task that nobody wants: %s", std::string(deleted.status().message()).c_str());
}

void Service::ShutDownIfIdle(bool is_wanted) {
  {
    base::MutexLock lock(mu_);
    if (!tasks_.empty() || shut_down_ || !(is_wanted || shutdown_is_wanted_)) return;
    shut_down_ = true;
  }
  on_shutdown_();
}

absl::StatusOr<pb::DeleteResponse> Service::Delete(const pb::DeleteRequest& request) {
  if (request.exec_id().empty()) {
    base::MutexLock lock(mu_);
    auto it = tasks_.find(request.id());
    // containerd has given up on its creation.
    if (it != tasks_.end() && !it->second) {
      abandoned_.insert(request.id());
      return absl::NotFoundError(absl::StrCat("container \"", request.id(), "\" has no task yet"));
    }
  }
  auto task = VALUE_OR_RETURN(Find(request.id()));
  auto response = VALUE_OR_RETURN(task->Delete(request.exec_id()));
  if (request.exec_id().empty()) {
    base::MutexLock lock(mu_);
    tasks_.erase(request.id());
  }
  return response;
}

absl::StatusOr<pb::ConnectResponse> Service::Connect(const pb::ConnectRequest& request) {
  pb::ConnectResponse response;
  response.set_shim_pid(static_cast<uint32_t>(getpid()));
  if (auto task = Find(request.id()); task.ok()) response.set_task_pid((*task)->pid());
  response.set_version("v2");
  return response;
}

absl::StatusOr<pb::Empty> Service::Shutdown(const pb::ShutdownRequest& request) {
  {
    base::MutexLock lock(mu_);
    if (shut_down_) return pb::Empty();
    // Those that are being made may come to nothing.
    shutdown_is_wanted_ = true;
    for (const auto& [id, task] : tasks_) shutdown_is_wanted_ &= !task && abandoned_.contains(id);
    if (!tasks_.empty() && !request.now()) return pb::Empty();
    shut_down_ = true;
  }
  on_shutdown_();
  return pb::Empty();
}

}  // namespace shim
