// SPDX-License-Identifier: Apache-2.0
// A container inside the sandbox: its mount tree, its init process, the processes that exec started, their exit
// statuses.
#ifndef SENTRY_BOOT_CONTAINER_H_
#define SENTRY_BOOT_CONTAINER_H_

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/mutex.h"
#include "runsc/control/server.h"
#include "runsc/spec/spec.h"
#include "sentry/boot/filesystems.h"
#include "sentry/boot/terminal_pump.h"
#include "sentry/kernel/cgroup.h"
#include "sentry/kernel/kernel.h"

namespace sentry {

struct ContainerOptions {
  std::string id;
  std::string bundle;
  runsc::spec::Spec spec;
  MountTree tree;
  RefPtr<kernel::PidNamespace> pid_ns;  // of its processes
  bool is_first = true;                 // of the sandbox
  // A paused sandbox stands still as a whole; else only this container's processes.
  bool is_alone = true;
};

// Thread-safe.
class Container : public std::enable_shared_from_this<Container> {
 public:
  // `stdio`: one host pty when spec.process.terminal, else three streams.
  Container(ContainerOptions options, std::vector<base::UniqueFd> stdio);

  const std::string& id() const { return options_.id; }
  bool is_first() const { return options_.is_first; }
  bool is_alone() const { return options_.is_alone; }
  // `on_exit` is called once, with init's wait status, after it and its waiters were served. Also when a created
  // container is ended by Kill before it started.
  void set_on_exit(std::function<void(int)> on_exit) { on_exit_ = std::move(on_exit); }

  absl::Status Start();
  absl::StatusOr<int32_t> Exec(runsc::control::ExecRequest request);
  void Wait(int32_t pid, runsc::control::WaitDone done);
  absl::Status Signal(int32_t pid, int signal, runsc::control::SignalScope scope);
  absl::StatusOr<std::vector<runsc::control::ProcessInfo>> Processes();
  runsc::control::ContainerInfo State();
  absl::Status ResizeTerminal(int32_t pid, uint16_t rows, uint16_t columns);
  absl::Status SetPaused(bool paused);
  // New limits of a container that is not the first.
  absl::Status Update(const runsc::control::ResourceUpdate& update);
  // What it uses by itself.
  runsc::control::Stats GetStats();
  // One of its processes was killed for want of memory.
  void CountOomKill();
  void WaitOom(uint64_t seen, runsc::control::CountDone done);
  absl::Status ExportUpper(bool oci_whiteouts, base::UniqueFd out);
  absl::Status ForwardPort(uint16_t port, base::UniqueFd connection);
  // Its gofer, or the sandbox, ends: SIGKILL to all, waiters get `wait_status` if init is still there.
  void End(int wait_status);
  // End; returns when its processes are gone (5 s at most).
  void Destroy();
  // No more requests to its gofer, which ends by that.
  void HangUp();
  // Calls `lost` when a gofer of it hangs up; once.
  void WatchGofers(std::function<void()> lost);

 private:
  struct Process {
    RefPtr<kernel::ThreadGroup> group;
    vfs::FileRef terminal_master;  // null without a terminal
    std::shared_ptr<TerminalPump> pump;
    bool exited = false;
    int wait_status = 0;
    std::vector<runsc::control::WaitDone> waiters;
  };

  struct Started {
    RefPtr<kernel::ThreadGroup> group;
    vfs::FileRef master;
    std::shared_ptr<TerminalPump> pump;
  };
  // All but its descriptors.
  absl::StatusOr<kernel::ProcessRequest> RequestFor(const runsc::spec::Process& process,
                                                    RefPtr<kernel::ThreadGroup> join);
  absl::StatusOr<Started> StartProcess(const runsc::spec::Process& process, std::vector<base::UniqueFd> stdio,
                                       RefPtr<kernel::ThreadGroup> join);
  // hooks.startContainer, in the namespaces of `init`, which waits.
  absl::Status RunStartHooks(const RefPtr<kernel::ThreadGroup>& init);
  absl::Status RunStartHook(const runsc::spec::Hook& hook, const RefPtr<kernel::ThreadGroup>& init);
  void Watch(int32_t pid, RefPtr<kernel::ThreadGroup> group);
  void OnExit(int32_t pid, int wait_status);
  // Ends a container whose init is not there any more (or never was).
  void Stopped(int wait_status);
  RefPtr<kernel::Cgroup> OwnCgroup() const;
  std::vector<RefPtr<kernel::ThreadGroup>> ThreadGroups() const;

  static constexpr size_t kMaxOomWaiters = 16;

  const ContainerOptions options_;
  const std::string& id_ = options_.id;
  const runsc::spec::Spec& spec_ = options_.spec;
  const MountTree& tree_ = options_.tree;
  std::function<void(int)> on_exit_;
  base::Mutex mu_{base::LockRank::kContainer};
  std::vector<base::UniqueFd> stdio_ ABSL_GUARDED_BY(mu_);
  runsc::control::ContainerState state_ ABSL_GUARDED_BY(mu_) = runsc::control::ContainerState::kCreated;
  bool starting_ ABSL_GUARDED_BY(mu_) = false;
  int init_status_ ABSL_GUARDED_BY(mu_) = 0;
  int32_t init_pid_ ABSL_GUARDED_BY(mu_) = 0;
  std::map<int32_t, Process> processes_ ABSL_GUARDED_BY(mu_);
  uint64_t oom_kills_ ABSL_GUARDED_BY(mu_) = 0;
  std::vector<runsc::control::CountDone> oom_waiters_ ABSL_GUARDED_BY(mu_);
};

}  // namespace sentry

#endif  // SENTRY_BOOT_CONTAINER_H_
