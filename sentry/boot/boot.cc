// SPDX-License-Identifier: Apache-2.0
// Wires a sandbox together. Order matters: what needs files or privileges first, then the pivot and the drop of
// capabilities, then the platform's zygote (while single-threaded), the gofer's connections, the seccomp filter, and
// only then threads and guests.
#include "sentry/boot/boot.h"

#include <malloc.h>
#include <signal.h>
#include <sys/poll.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <atomic>
#include <string_view>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/log.h"
#include "platform/safe_copy.h"
#include "platform/select.h"
#include "runsc/control/server.h"
#include "runsc/errors.h"
#include "sentry/arch/vdso/clock_vdso.h"
#include "sentry/boot/confine.h"
#include "sentry/boot/container.h"
#include "sentry/boot/filesystems.h"
#include "sentry/boot/host_info.h"
#include "sentry/boot/memory_watch.h"
#include "sentry/boot/network.h"
#include "sentry/fs/host/host_poller.h"
#include "sentry/fs/tmpfs/tmpfs.h"
#include "sentry/kernel/cgroup.h"
#include "sentry/kernel/kernel.h"
#include "sentry/mm/memory_manager.h"
#include "sentry/syscalls/table.h"
#include "sentry/trace/strace.h"

namespace sentry {
namespace {

using runsc::control::ContainerInfo;
using runsc::control::ProcessInfo;

// The sandbox's one container, as the control server sees it; and the end of the sandbox.
class Sandbox final : public runsc::control::ControlHandler {
 public:
  explicit Sandbox(runsc::BootArgs& args) : exit_status_fd_(args.exit_status_fd.get()) {}

  void SetMemoryLimits(uint64_t bytes) {
    uint64_t limit = std::min(bytes, host_memory_);
    memory_limit_ = limit;
    mm::MemoryManager::SetMemoryLimit(limit);
    // What the sentry and the stubs need comes out of the same limit when it is a cgroup's, and the host needs some for
    // itself.
    SetMemoryWatchLimit(limit - limit / 16);
  }
  void set_host_memory(uint64_t bytes) { host_memory_ = bytes; }
  void set_container(std::unique_ptr<Container> container) {
    container_ = std::move(container);
    container_->set_on_exit([this](int wait_status) { Finish(wait_status); });
  }
  // From any thread, the first call counts.
  void Finish(int wait_status) {
    base::MutexLock lock(mu_);
    if (finished_) return;
    finished_ = true;
    wait_status_ = wait_status;
    runsc::RecordExitStatus(exit_status_fd_, wait_status);
    changed_.NotifyAll();
  }
  int WaitForEnd() {
    base::MutexLock lock(mu_);
    while (!finished_) changed_.Wait(mu_);
    return wait_status_;
  }
  // A part of the sandbox was lost: nothing can go on.
  void Lost(const char* what) {
    {
      // The loss of the gofer is seen by its client and by WatchGofer.
      base::MutexLock lock(mu_);
      if (finished_ || std::exchange(lost_, true)) return;
    }
    LOG_ERROR("%s: the container ends", what);
    kernel::Kernel::Get().KillContainer("");
    if (container_) container_->End(SIGKILL);
    Finish(SIGKILL);
  }

  absl::Status SetNetwork(const std::string& id, runsc::control::NetworkConfig config) override {
    RETURN_IF_ERROR(Check(id));
    if (network_is_set_.exchange(true)) return absl::FailedPreconditionError("the sandbox has its network already");
    return SetUpNetwork(std::move(config));
  }
  absl::Status Start(const std::string& id) override {
    RETURN_IF_ERROR(Check(id));
    return container_->Start();
  }
  absl::StatusOr<int32_t> Exec(runsc::control::ExecRequest request) override {
    RETURN_IF_ERROR(Check(request.container_id));
    return container_->Exec(std::move(request));
  }
  void Wait(const std::string& id, int32_t pid, runsc::control::WaitDone done) override {
    absl::Status known = Check(id);
    if (!known.ok()) return done(known);
    container_->Wait(pid, std::move(done));
  }
  absl::Status Signal(const std::string& id, int32_t pid, int signal, runsc::control::SignalScope scope) override {
    RETURN_IF_ERROR(Check(id));
    return container_->Signal(pid, signal, scope);
  }
  absl::StatusOr<std::vector<ProcessInfo>> Processes(const std::string& id) override {
    RETURN_IF_ERROR(Check(id));
    return container_->Processes();
  }
  absl::StatusOr<ContainerInfo> State(const std::string& id) override {
    RETURN_IF_ERROR(Check(id));
    return container_->State();
  }
  absl::Status ResizeTerminal(const std::string& id, int32_t pid, uint16_t rows, uint16_t columns) override {
    RETURN_IF_ERROR(Check(id));
    return container_->ResizeTerminal(pid, rows, columns);
  }
  absl::Status Pause(const std::string& id) override {
    RETURN_IF_ERROR(Check(id));
    return container_->SetPaused(true);
  }
  absl::Status Resume(const std::string& id) override {
    RETURN_IF_ERROR(Check(id));
    return container_->SetPaused(false);
  }
  absl::StatusOr<runsc::control::Stats> GetStats(const std::string& id) override {
    RETURN_IF_ERROR(Check(id));
    kernel::Kernel& kernel = kernel::Kernel::Get();
    runsc::control::Stats stats;
    stats.memory_bytes = kernel.memory_file().UsedBytes();
    stats.memory_limit_bytes = memory_limit_;
    stats.oom_kills = OomKills();
    stats.pids = kernel.tasks().task_count();
    for (const auto& [pid, group] : kernel.tasks().ThreadGroups(*kernel.root_pid_ns())) {
      kernel::CpuUsage usage = group->usage();
      stats.cpu_ns += static_cast<uint64_t>(usage.user_ns + usage.system_ns);
    }
    return stats;
  }
  absl::Status Update(const std::string& id, const runsc::control::ResourceUpdate& update) override {
    RETURN_IF_ERROR(Check(id));
    if (update.max_tasks) kernel::Kernel::Get().set_max_tasks(*update.max_tasks);
    if (update.memory_limit_bytes) SetMemoryLimits(*update.memory_limit_bytes);
    return absl::OkStatus();
  }
  void WaitOom(const std::string& id, uint64_t seen, runsc::control::CountDone done) override {
    absl::Status known = Check(id);
    if (!known.ok()) return done(known);
    {
      base::MutexLock lock(mu_);
      if (OomKills() <= seen) {
        // Of callers that have gone, too: bounded.
        if (oom_waiters_.size() >= kMaxOomWaiters) oom_waiters_.erase(oom_waiters_.begin());
        oom_waiters_.push_back(std::move(done));
        return;
      }
    }
    done(OomKills());
  }
  void OomKilled(uint64_t kills) {
    std::vector<runsc::control::CountDone> waiters;
    {
      base::MutexLock lock(mu_);
      waiters.swap(oom_waiters_);
    }
    for (auto& done : waiters) done(kills);
  }
  void Shutdown() override {
    kernel::Kernel::Get().KillContainer("");
    container_->End(SIGKILL);
    Finish(SIGKILL);
  }

 private:
  absl::Status Check(const std::string& id) const {
    if (!container_ || (!id.empty() && id != container_->id()))
      return absl::NotFoundError(absl::StrCat("container \"", id, "\" does not exist"));
    return absl::OkStatus();
  }

  static constexpr size_t kMaxOomWaiters = 16;

  std::atomic<bool> network_is_set_{false};
  const int exit_status_fd_;
  uint64_t host_memory_ = 0;
  std::atomic<uint64_t> memory_limit_{0};
  std::unique_ptr<Container> container_;
  base::Mutex mu_{base::LockRank::kBoot};
  base::CondVar changed_;
  std::vector<runsc::control::CountDone> oom_waiters_ ABSL_GUARDED_BY(mu_);
  bool finished_ ABSL_GUARDED_BY(mu_) = false;
  bool lost_ ABSL_GUARDED_BY(mu_) = false;
  int wait_status_ ABSL_GUARDED_BY(mu_) = 0;
};

// Ends the container when the gofer hangs up while no request is on its way.
void WatchGofer(std::vector<int> sockets, Sandbox& sandbox) {
  std::thread([sockets = std::move(sockets), &sandbox] {
    std::vector<pollfd> polled;
    for (int fd : sockets) polled.push_back({.fd = fd, .events = 0, .revents = 0});
    for (;;) {
      if (poll(polled.data(), polled.size(), -1) < 0) {
        if (errno == EINTR) continue;
        FATAL("gofer watch: poll: %s", Errno::Last().Name());
      }
      for (const pollfd& p : polled) {
        if (p.revents & (POLLHUP | POLLERR)) return sandbox.Lost("the gofer process ended");
      }
    }
  }).detach();
}

absl::Status Boot(runsc::BootArgs& args, Sandbox& sandbox, std::unique_ptr<runsc::control::ControlServer>* server) {
  const runsc::spec::Spec& spec = args.spec;
  HostInfo host = ReadHostInfo();
  // Further arenas would open files of /proc and /sys to learn how to behave.
  mallopt(M_ARENA_MAX, 1);
  platform::InstallSafeCopyHandler();
  BlockResizes();
  auto memory_file = platform::MemoryFile::Create();
  if (!memory_file.ok())
    return absl::ResourceExhaustedError(
        absl::StrCat("guest memory: memfd: ", runsc::ErrnoText(memory_file.error_number())));
  auto vdso = arch::ClockVdso::Create(**memory_file);  // reads sysfs
  if (!vdso.ok())
    return absl::ResourceExhaustedError(absl::StrCat("guest memory: vDSO: ", runsc::ErrnoText(vdso.error_number())));
  EmptyRoot empty_root;
  RETURN_IF_ERROR(empty_root.Enter());
  RETURN_IF_ERROR(DropPrivileges());
  if (args.die_with_parent) prctl(PR_SET_PDEATHSIG, SIGKILL);

  auto platform = platform::MakePlatform(args.config.platform);
  if (!platform.ok()) return runsc::Annotate(platform.status(), absl::StrCat("--platform=", args.config.platform));
  RETURN_IF_ERROR(empty_root.Finish());

  kernel::KernelOptions options;
  if (!spec.hostname.empty()) options.host_name = spec.hostname;
  options.cpus = host.cpus;
  options.total_memory = host.total_memory;
  const auto& resources = spec.linux.resources;
  if (resources.memory_limit && *resources.memory_limit > 0) {
    options.total_memory = std::min<uint64_t>(options.total_memory, static_cast<uint64_t>(*resources.memory_limit));
  }
  if (resources.pids_limit && *resources.pids_limit > 0)
    options.max_tasks = static_cast<uint64_t>(*resources.pids_limit);
  static kernel::Kernel* kernel = new kernel::Kernel(*std::move(platform), *std::move(memory_file), options);
  if (platform::ClockParams* copy = kernel->platform().clock_params()) (*vdso)->Mirror(copy);
  kernel->set_vdso(*std::move(vdso));
  kernel->platform().AllowSpinning(!host.cpu_quota && resources.cpu_quota.value_or(0) <= 0);
  kernel->set_syscall_handler(&syscalls::Dispatch);
  kernel::Cgroups::CountSharedMemory();
  tmpfs::ConfigureTmpfs(kernel->memory_file(), options.total_memory);
  RegisterFilesystems(host, options.total_memory);
  auto poller = fs::HostPoller::Start();
  if (!poller.ok()) return absl::InternalError(absl::StrCat("epoll: ", runsc::ErrnoText(poller.error_number())));
  *server = VALUE_OR_RETURN(runsc::control::ControlServer::Create(std::move(args.control_fd), &sandbox));

  RefPtr<Credentials> root = Credentials::Root(kAllCapabilities);
  root->user_ns = kernel->root_user_ns();
  MountTreeRequest request{.args = &args,
                           .gofer_fds = std::move(args.gofer_fds),
                           .on_gofer_lost = [&sandbox] { sandbox.Lost("the gofer process ended"); },
                           .creds = root.get()};
  MountTree tree = VALUE_OR_RETURN(BuildMountTree(std::move(request)));
  std::vector<int> gofer_sockets = tree.gofer_sockets;
  sandbox.set_container(std::make_unique<Container>(args.container_id, spec, std::move(tree), std::move(args.stdio)));

  if (args.config.strace) {
    std::vector<std::string> only = absl::StrSplit(args.config.strace_syscalls, ',', absl::SkipEmpty());
    trace::EnableStrace(std::move(only), static_cast<size_t>(args.config.strace_log_size));
  }
  RETURN_IF_ERROR(InstallSentryFilter(
      {.debug = args.config.debug, .ptrace = std::string_view(kernel->platform().Name()) == "ptrace"}));
  WatchGofer(std::move(gofer_sockets), sandbox);
  kernel->platform().OnStubLost([&sandbox] { sandbox.Lost("a stub process was killed"); });
  sandbox.set_host_memory(host.total_memory);
  sandbox.SetMemoryLimits(options.total_memory);
  OnOomKill([&sandbox](uint64_t kills) { sandbox.OomKilled(kills); });
  StartMemoryWatch();
  LOG_DEBUG("the sandbox is confined: %u processors, %lu MiB of memory, at most %lu tasks", options.cpus,
            static_cast<unsigned long>(options.total_memory >> 20), static_cast<unsigned long>(kernel->max_tasks()));
  return absl::OkStatus();
}

}  // namespace

int BootMain(runsc::BootArgs args) {
  static Sandbox* sandbox = new Sandbox(args);
  std::unique_ptr<runsc::control::ControlServer> server;
  base::UniqueFd report = std::move(args.report_fd);
  absl::Status status = Boot(args, *sandbox, &server);
  if (!status.ok()) {
    runsc::ReportFailure(std::move(report), std::string(status.message()));
    _exit(1);
  }
  std::thread serving([&server] { server->Serve(); });
  runsc::ReportReady(std::move(report));
  int wait_status = sandbox->WaitForEnd();
  server->Stop();
  serving.join();
  // No destructor: guests' threads may still be on their way out, and the host takes everything back faster.
  _exit(runsc::ExitCodeOf(wait_status));
}

}  // namespace sentry
