// SPDX-License-Identifier: Apache-2.0
// containerd.task.v2.Task over the tasks of this shim. Thread-safe.
#ifndef SHIM_SERVICE_H_
#define SHIM_SERVICE_H_

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>

#include "absl/status/statusor.h"
#include "base/mutex.h"
#include "shim/publisher.h"
#include "shim/task.h"

namespace shim {

class Service {
 public:
  // `on_shutdown`: called once, when containerd has no more use for a shim without tasks.
  Service(std::string name_space, Publisher* publisher, std::function<void()> on_shutdown)
      : name_space_(std::move(name_space)), publisher_(publisher), on_shutdown_(std::move(on_shutdown)) {}

  // A ttrpc::Handler.
  absl::StatusOr<std::string> Call(const std::string& service, const std::string& method, const std::string& payload);

  absl::StatusOr<std::shared_ptr<Task>> Find(const std::string& id);
  absl::StatusOr<pb::CreateTaskResponse> Create(const pb::CreateTaskRequest& request);
  absl::StatusOr<pb::DeleteResponse> Delete(const pb::DeleteRequest& request);
  absl::StatusOr<pb::ConnectResponse> Connect(const pb::ConnectRequest& request);
  absl::StatusOr<pb::Empty> Shutdown(const pb::ShutdownRequest& request);

 private:
  // Kills and deletes a task that containerd does not want any more.
  static void End(Task& task);
  void ShutDownIfIdle(bool is_wanted);

  const std::string name_space_;
  Publisher* const publisher_;
  const std::function<void()> on_shutdown_;
  base::Mutex mu_;
  std::map<std::string, std::shared_ptr<Task>> tasks_ ABSL_GUARDED_BY(mu_);  // null: it is being made
  std::set<std::string> abandoned_ ABSL_GUARDED_BY(mu_);                     // deleted while they were made
  bool shutdown_is_wanted_ ABSL_GUARDED_BY(mu_) = false;                     // once those are gone
  bool shut_down_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace shim

#endif  // SHIM_SERVICE_H_
