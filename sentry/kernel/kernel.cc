// SPDX-License-Identifier: Apache-2.0
#include "sentry/kernel/kernel.h"

#include <x86intrin.h>

#include <set>

#include "base/log.h"
#include "sentry/arch/vdso.h"
#include "sentry/kernel/cgroup.h"
#include "sentry/kernel/task_internal.h"

namespace sentry::kernel {
namespace {

Kernel* g_kernel = nullptr;

// Linux's default of a 32-CPU host, less what threads of the sentry's own may take.
constexpr uint64_t kDefaultMaxTasks = 32768 - 256;

}  // namespace

Kernel::Kernel(std::unique_ptr<platform::Platform> platform, std::unique_ptr<platform::MemoryFile> memory_file,
               KernelOptions options)
    : platform_(std::move(platform)),
      memory_file_(std::move(memory_file)),
      options_(std::move(options)),
      root_user_ns_(MakeRef<UserNamespace>()),
      root_pid_ns_(MakeRef<PidNamespace>(nullptr, root_user_ns_)),
      max_tasks_(options_.max_tasks ? options_.max_tasks : kDefaultMaxTasks),
      first_tick_(__rdtsc()),
      first_tick_ns_(base::MonotonicNs()) {
  CHECK_THAT(g_kernel == nullptr);
  g_kernel = this;
}

void Kernel::set_vdso(std::unique_ptr<arch::Vdso> vdso) { vdso_ = std::move(vdso); }

Kernel::~Kernel() { g_kernel = nullptr; }

Kernel& Kernel::Get() { return *g_kernel; }

int64_t Kernel::TicksToNs(uint64_t ticks) const {
  uint64_t elapsed_ticks = __rdtsc() - first_tick_;
  int64_t elapsed_ns = base::MonotonicNs() - first_tick_ns_;
  if (elapsed_ticks == 0 || elapsed_ns <= 0) return 0;
  return static_cast<int64_t>(static_cast<double>(ticks) *
                              (static_cast<double>(elapsed_ns) / static_cast<double>(elapsed_ticks)));
}

RefPtr<Namespaces> Kernel::NewNamespaces(RefPtr<vfs::MountNamespace> mounts) {
  MutexLock lock(start_mu_);
  if (!first_namespaces_) {
    first_namespaces_ = MakeRef<Namespaces>();
    first_namespaces_->uts = MakeRef<UtsNamespace>(options_.host_name, "(none)", root_user_ns_);
    first_namespaces_->ipc = MakeRef<IpcNamespace>(*memory_file_, root_user_ns_);
    first_namespaces_->net = MakeRef<NetNamespace>(root_user_ns_, UserCharge(), /*is_first=*/true);
    first_namespaces_->pid_for_children = root_pid_ns_;
    first_namespaces_->cgroup = Cgroups::Get().root_namespace();
    first_namespaces_->time = MakeRef<TimeNamespace>(ClockOffsets(), root_user_ns_, UserCharge(), /*is_first=*/true);
    first_namespaces_->time_for_children = first_namespaces_->time;
  }
  RefPtr<Namespaces> namespaces = first_namespaces_->Clone();
  namespaces->mounts = std::move(mounts);
  return namespaces;
}

void Kernel::KillContainer(const std::string& container_id) {
  MutexLock lock(tasks_.mu());
  std::set<ThreadGroup*> groups;
  for (const auto& [id, task] : root_pid_ns_->tasks_) {
    if (container_id.empty() || task->group().container_id() == container_id) groups.insert(&task->group());
  }
  for (ThreadGroup* group : groups) {
    SignalLock signals(*group);
    Task::Internal::ExitGroupLocked(*group, {.signal = SIGKILL});
  }
}

void Kernel::Pause() {
  MutexLock lock(tasks_.mu());
  paused_.store(true, std::memory_order_release);
  for (const auto& [id, task] : root_pid_ns_->tasks_) Task::Internal::AddWork(*task, kWorkPause);
}

void Kernel::Unpause() {
  MutexLock lock(tasks_.mu());
  paused_.store(false, std::memory_order_release);
  for (const auto& [id, task] : root_pid_ns_->tasks_) {
    task->internal().work.fetch_and(~uint32_t{kWorkPause}, std::memory_order_seq_cst);
    Task::Internal::Kick(*task);
  }
}

}  // namespace sentry::kernel
