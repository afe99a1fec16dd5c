// SPDX-License-Identifier: Apache-2.0
// A container as containerd's task service sees it: init and the processes of exec, their streams, states and exits.
// Thread-safe. An exit is told after the start of the same process and never twice.
//
// Locks: `order_mu_` (held over one change of life cycle, so that events come in order) before `mu_` (short).
#ifndef SHIM_TASK_H_
#define SHIM_TASK_H_

#include <map>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "base/mutex.h"
#include "runsc/spec/spec.h"
#include "shim/io.h"
#include "shim/proto/task.pb.h"
#include "shim/publisher.h"
#include "shim/runtime.h"

namespace shim {

class Task : public std::enable_shared_from_this<Task> {
 public:
  struct Exit {
    uint32_t status = 0;
    int64_t at_ns = 0;  // CLOCK_REALTIME
  };

  // Makes the container. On failure nothing of it is left.
  static absl::StatusOr<std::shared_ptr<Task>> Create(const pb::CreateTaskRequest& request,
                                                      const std::string& name_space, Publisher* publisher);

  // `exec_id` "" is init, here and below. kNotFound for one that is not known.
  absl::StatusOr<uint32_t> Start(const std::string& exec_id);
  absl::Status Exec(const pb::ExecProcessRequest& request);
  absl::StatusOr<pb::DeleteResponse> Delete(const std::string& exec_id);
  absl::StatusOr<pb::StateResponse> State(const std::string& exec_id);
  absl::Status Kill(const std::string& exec_id, uint32_t signal, bool all);
  absl::Status ResizePty(const std::string& exec_id, uint32_t rows, uint32_t columns);
  absl::Status CloseIo(const std::string& exec_id, bool in);
  absl::Status Pause();
  absl::Status Resume();
  absl::Status Update(const std::string& resources_json);
  // Blocks until it has ended.
  absl::StatusOr<Exit> Wait(const std::string& exec_id);
  // A serialised pb::Metrics.
  absl::StatusOr<std::string> Stats();
  uint32_t pid();

 private:
  struct Process {
    std::string exec_id;  // "" = init
    IoRequest paths;
    std::shared_ptr<ProcessIo> io;  // null before its start
    bool stdin_closed = false;
    runsc::spec::Process spec;  // of exec
    uint32_t pid = 0;           // init: the sandbox's on the host; exec: in the container
    bool started = false;
    bool exited = false;
    Exit exit;
  };

  Task(std::string id, std::string bundle, Runtime runtime, Publisher* publisher);
  absl::Status CreateContainer(const pb::CreateTaskRequest& request, const std::string& name_space);
  absl::StatusOr<std::shared_ptr<Process>> Find(const std::string& exec_id);
  absl::Status StartExec(Process& process);
  // Tells of processes that are killed for want of memory, by the sandbox or by the host, until the container ends.
  void WatchMemory();
  absl::Status AwaitExec(const std::shared_ptr<Process>& process);
  // Those of a container whose init has ended are on their way out. dockerd forgets them with the container: it must
  // hear of their ends first, or whoever attached to one waits for ever. 1 s at most.
  void AwaitEndOfExecs();
  // `status`: what containerd shows.
  void OnExit(const std::shared_ptr<Process>& process, uint32_t status);
  template <typename Event>
  void Publish(const char* topic, const char* type, const Event& event);

  const std::string id_;
  const std::string bundle_;
  const Runtime runtime_;
  Publisher* const publisher_;

  base::Mutex order_mu_{base::LockRank::kBoot};
  base::Mutex mu_{base::LockRank::kContainer};
  base::CondVar changed_;
  std::map<std::string, std::shared_ptr<Process>> processes_ ABSL_GUARDED_BY(mu_);
  bool paused_ ABSL_GUARDED_BY(mu_) = false;
  bool joined_ ABSL_GUARDED_BY(mu_) = false;  // another container's sandbox
};

}  // namespace shim

#endif  // SHIM_TASK_H_
