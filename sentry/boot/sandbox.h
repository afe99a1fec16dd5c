// SPDX-License-Identifier: Apache-2.0
// The containers of a sandbox, as the control server sees them: the first one, whose end is the sandbox's, and those
// that joined it (a pod).
#ifndef SENTRY_BOOT_SANDBOX_H_
#define SENTRY_BOOT_SANDBOX_H_

#include <atomic>
#include <map>
#include <memory>
#include <string>

#include "base/mutex.h"
#include "runsc/boot_args.h"
#include "runsc/control/server.h"
#include "sentry/boot/container.h"

namespace sentry {

// Thread-safe once the first container is set.
class Sandbox final : public runsc::control::ControlHandler {
 public:
  explicit Sandbox(const runsc::BootArgs& args) : config_(args.config), exit_status_fd_(args.exit_status_fd.get()) {}

  void SetMemoryLimits(uint64_t bytes);
  void set_host_memory(uint64_t bytes) { host_memory_ = bytes; }
  // Once, before the control server serves.
  void set_first(std::shared_ptr<Container> container);
  Container& first() { return *first_; }

  // From any thread, the first call counts.
  void Finish(int wait_status);
  int WaitForEnd();
  // A part of the sandbox was lost: nothing can go on.
  void Lost(const char* what);
  void OomKilled(const std::string& id);

  // ControlHandler.
  absl::Status SetNetwork(const std::string& id, runsc::control::NetworkConfig config) override;
  absl::Status CreateContainer(runsc::control::CreateRequest request) override;
  absl::Status DestroyContainer(const std::string& id) override;
  absl::Status Start(const std::string& id) override;
  absl::StatusOr<int32_t> Exec(runsc::control::ExecRequest request) override;
  void Wait(const std::string& id, int32_t pid, runsc::control::WaitDone done) override;
  absl::Status Signal(const std::string& id, int32_t pid, int signal, runsc::control::SignalScope scope) override;
  absl::StatusOr<std::vector<runsc::control::ProcessInfo>> Processes(const std::string& id) override;
  absl::StatusOr<runsc::control::ContainerInfo> State(const std::string& id) override;
  absl::Status ResizeTerminal(const std::string& id, int32_t pid, uint16_t rows, uint16_t columns) override;
  absl::Status Pause(const std::string& id) override;
  absl::Status Resume(const std::string& id) override;
  absl::StatusOr<runsc::control::Stats> GetStats(const std::string& id) override;
  absl::Status Update(const std::string& id, const runsc::control::ResourceUpdate& update) override;
  void WaitOom(const std::string& id, uint64_t seen, runsc::control::CountDone done) override;
  absl::Status ExportUpper(const std::string& id, bool oci_whiteouts, base::UniqueFd out) override;
  absl::Status ForwardPort(const std::string& id, uint16_t port, base::UniqueFd connection) override;
  absl::Status SetLogging(const std::string& id, const runsc::control::LoggingChange& change) override;
  void Shutdown() override;

 private:
  // Containers beside the first.
  static constexpr size_t kMaxJoined = 128;

  absl::StatusOr<std::shared_ptr<Container>> Find(const std::string& id) const;
  absl::StatusOr<std::shared_ptr<Container>> Build(runsc::control::CreateRequest request);
  void ContainerLost(const std::string& id);
  // No more containers, and an end to those that joined.
  void EndJoined();

  const runsc::Config config_;
  std::atomic<bool> network_is_set_{false};
  const int exit_status_fd_;
  uint64_t host_memory_ = 0;
  std::atomic<uint64_t> memory_limit_{0};
  std::shared_ptr<Container> first_;
  mutable base::Mutex mu_{base::LockRank::kBoot};
  base::CondVar changed_;
  std::map<std::string, std::shared_ptr<Container>> joined_ ABSL_GUARDED_BY(mu_);  // null: it is being made
  bool ending_ ABSL_GUARDED_BY(mu_) = false;
  bool finished_ ABSL_GUARDED_BY(mu_) = false;
  bool lost_ ABSL_GUARDED_BY(mu_) = false;
  int wait_status_ ABSL_GUARDED_BY(mu_) = 0;
};

}  // namespace sentry

#endif  // SENTRY_BOOT_SANDBOX_H_
