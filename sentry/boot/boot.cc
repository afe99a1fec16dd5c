// SPDX-License-Identifier: Apache-2.0
// Wires a sandbox together. Order matters: what needs files or privileges first, then the pivot and the drop of
// capabilities, then the platform's zygote (while single-threaded), the gofer's connections, the seccomp filter, and
// only then threads and guests.
#include "sentry/boot/boot.h"

#include <linux/capability.h>
#include <malloc.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <string_view>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/log.h"
#include "platform/kvm/kvm_platform.h"
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
#include "sentry/boot/sandbox.h"
#include "sentry/fs/host/host_poller.h"
#include "sentry/fs/tmpfs/tmpfs.h"
#include "sentry/kernel/cgroup.h"
#include "sentry/kernel/kernel.h"
#include "sentry/mm/memory_manager.h"
#include "sentry/syscalls/table.h"
#include "sentry/trace/strace.h"

namespace sentry {
namespace {

// Of the host's, for --network=host: what the container may do anyhow.
uint64_t KeptCapabilities(const runsc::BootArgs& args) {
  const auto& capabilities = args.spec.process.capabilities;
  if (args.config.network != runsc::NetworkMode::kHost || !capabilities) return 0;
  return capabilities->bounding & (uint64_t{1} << CAP_NET_BIND_SERVICE);
}

absl::Status Boot(runsc::BootArgs& args, Sandbox& sandbox, std::unique_ptr<runsc::control::ControlServer>* server) {
  const runsc::spec::Spec& spec = args.spec;
  HostInfo host = ReadHostInfo();
  const bool host_network = args.config.network == runsc::NetworkMode::kHost;
  runsc::control::NetworkConfig network;
  if (host_network) network = VALUE_OR_RETURN(ReadHostNetwork());
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
  base::UniqueFd device = VALUE_OR_RETURN(platform::OpenDevice(args.config.platform));
  EmptyRoot empty_root;
  RETURN_IF_ERROR(empty_root.Enter());
  RETURN_IF_ERROR(DropPrivileges(KeptCapabilities(args)));
  if (args.die_with_parent) prctl(PR_SET_PDEATHSIG, SIGKILL);

  auto platform = platform::MakePlatform(args.config.platform, std::move(device));
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
  kernel->platform().AllowPatching(args.config.patch_calls);
  kernel->set_syscall_handler(&syscalls::Dispatch);
  kernel::Cgroups::CountSharedMemory();
  tmpfs::ConfigureTmpfs(kernel->memory_file(), options.total_memory);
  RegisterFilesystems(host, options.total_memory);
  auto poller = fs::HostPoller::Start();
  if (!poller.ok()) return absl::InternalError(absl::StrCat("epoll: ", runsc::ErrnoText(poller.error_number())));
  if (host_network) RETURN_IF_ERROR(UseHostNetwork(network));
  *server = VALUE_OR_RETURN(runsc::control::ControlServer::Create(std::move(args.control_fd), &sandbox));

  RefPtr<Credentials> root = Credentials::Root(kAllCapabilities);
  root->user_ns = kernel->root_user_ns();
  MountTreeRequest request{.args = &args,
                           .gofer_fds = std::move(args.gofer_fds),
                           .on_gofer_lost = [&sandbox] { sandbox.Lost("the gofer process ended"); },
                           .creds = root.get()};
  MountTree tree = VALUE_OR_RETURN(BuildMountTree(std::move(request)));
  const bool is_pod = runsc::spec::PodOf(spec.annotations).role == runsc::spec::PodRole::kSandbox;
  sandbox.set_first(std::make_shared<Container>(ContainerOptions{.id = args.container_id,
                                                                 .bundle = args.bundle,
                                                                 .spec = spec,
                                                                 .tree = std::move(tree),
                                                                 .pid_ns = kernel->root_pid_ns(),
                                                                 .is_alone = !is_pod},
                                                std::move(args.stdio)));

  if (args.config.strace) {
    std::vector<std::string> only = absl::StrSplit(args.config.strace_syscalls, ',', absl::SkipEmpty());
    trace::EnableStrace(std::move(only), static_cast<size_t>(args.config.strace_log_size));
  }
  const std::string_view platform_name = kernel->platform().Name();
  FilterOptions filter = {.debug = args.config.debug, .ptrace = platform_name == "ptrace"};
  filter.host_network = host_network;
  if (platform_name == "kvm") filter.kvm_vm = static_cast<platform::kvm::KvmPlatform&>(kernel->platform()).vm_fd();
  RETURN_IF_ERROR(InstallSentryFilter(filter));
  sandbox.first().WatchGofers([&sandbox] { sandbox.Lost("the gofer process ended"); });
  kernel->platform().OnStubLost([&sandbox] { sandbox.Lost("a stub process was killed"); });
  sandbox.set_host_memory(host.total_memory);
  sandbox.SetMemoryLimits(options.total_memory);
  OnOomKill([&sandbox](const std::string& id) { sandbox.OomKilled(id); });
  static Sandbox* of_hook = &sandbox;
  kernel::Cgroups::SetOomHook([](const std::string& id) { of_hook->OomKilled(id); });
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
