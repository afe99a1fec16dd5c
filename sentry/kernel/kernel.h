// SPDX-License-Identifier: Apache-2.0
// Kernel: the sandbox's one kernel instance. Made by boot/ before any guest runs; lives until the process ends.
#ifndef SENTRY_KERNEL_KERNEL_H_
#define SENTRY_KERNEL_KERNEL_H_

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "platform/memory_file.h"
#include "platform/platform.h"
#include "sentry/common.h"
#include "sentry/kernel/cgroup.h"
#include "sentry/kernel/seccomp_filter.h"
#include "sentry/kernel/task_set.h"

namespace sentry::arch {
class Vdso;
}

namespace sentry::kernel {

struct KernelOptions {
  std::string host_name = "runsc";
  std::string release = "6.1.0";   // uname -r
  std::string version = "#1 SMP";  // uname -v
  uint64_t total_memory = 0;       // bytes shown by meminfo and enforced; 0: the host's
  unsigned cpus = 0;               // 0: the host's online count
  uint64_t max_tasks = 0;          // pids limit of the sandbox; 0: default
};

struct ProcessRequest {
  vfs::Path root, cwd;
  RefPtr<vfs::MountNamespace> mounts;
  RefPtr<const Credentials> creds;
  std::string filename;  // argv[0] searched in PATH of envp when it has no slash
  std::vector<std::string> argv, envp;
  RefPtr<FdTable> fds;
  std::string container_id;
  RefPtr<PidNamespace> pid_ns;        // of a new init; null: the root one for the first, else a new child of it
  RefPtr<CgroupNamespace> cgroup_ns;  // of a new init; null: the sandbox's
  RefPtr<Cgroup> cgroup;              // of a new init, v2; null: the root
  RefPtr<ThreadGroup> join;           // exec: same namespaces as this container's init; null: a new init
  bool no_new_privs = false;
  RefPtr<SeccompFilter> seccomp;  // the process's first filter, or null
  mode_t umask = 022;
  RefPtr<ControllingTerminal> terminal;  // becomes the new session's
  std::vector<std::pair<int, rlimit64>> limits;
  // Called once the process is there for others (`join`) and before it runs anything; without locks.
  std::function<void(const RefPtr<ThreadGroup>& group)> before_start;
};

// From now on every system call of every task is seen by the sentry (--strace). Before the first process.
void WatchCalls();

class Kernel {
 public:
  Kernel(std::unique_ptr<platform::Platform> platform, std::unique_ptr<platform::MemoryFile> memory_file,
         KernelOptions options);
  ~Kernel();
  static Kernel& Get();

  platform::Platform& platform() { return *platform_; }
  platform::MemoryFile& memory_file() { return *memory_file_; }
  TaskSet& tasks() { return tasks_; }
  const KernelOptions& options() const { return options_; }
  arch::Vdso* vdso() { return vdso_.get(); }  // null: none
  // Before the first process.
  void set_vdso(std::unique_ptr<arch::Vdso> vdso);
  const RefPtr<UserNamespace>& root_user_ns() const { return root_user_ns_; }
  const RefPtr<PidNamespace>& root_pid_ns() const { return root_pid_ns_; }
  // Namespaces of the first container, without mounts.
  RefPtr<Namespaces> NewNamespaces(RefPtr<vfs::MountNamespace> mounts);

  // Loads and starts a process. Its path, format and permission errors come back as errnos (ENOENT, EACCES, ENOEXEC…)
  // and nothing is left. Every call makes a session of its own.
  Result<RefPtr<ThreadGroup>> StartProcess(const ProcessRequest& request);
  // Kills all tasks of a container (or of the sandbox when empty) with SIGKILL.
  void KillContainer(const std::string& container_id);
  // Time-stamp-counter ticks since any earlier reading, in nanoseconds.
  int64_t TicksToNs(uint64_t ticks) const;
  // Parks every task at the top of its run loop (runsc pause) until Unpause; returns without waiting for them.
  void Pause();
  void Unpause();
  bool IsPaused() const { return paused_.load(std::memory_order_acquire); }
  // The handler that dispatches a system call; registered by syscalls/ so that the kernel doesn't depend on it.
  using SyscallHandler = void (*)(Task& task);
  void set_syscall_handler(SyscallHandler handler) { syscall_handler_ = handler; }
  SyscallHandler syscall_handler() const { return syscall_handler_; }
  // A pids-like limit over the sandbox: false when no more tasks may be made.
  uint64_t max_tasks() const { return max_tasks_.load(std::memory_order_relaxed); }
  // runsc update. What is there already stays.
  void set_max_tasks(uint64_t tasks) { max_tasks_.store(tasks, std::memory_order_relaxed); }

 private:
  Result<RefPtr<Namespaces>> NamespacesFor(const ProcessRequest& request);
  std::unique_ptr<platform::Platform> platform_;
  std::unique_ptr<platform::MemoryFile> memory_file_;
  KernelOptions options_;
  std::unique_ptr<arch::Vdso> vdso_;
  TaskSet tasks_;
  RefPtr<UserNamespace> root_user_ns_;
  RefPtr<PidNamespace> root_pid_ns_;
  std::atomic<uint64_t> max_tasks_;
  SyscallHandler syscall_handler_ = nullptr;
  std::atomic<bool> paused_{false};  // written with the TaskSet mutex held
  uint64_t first_tick_;
  int64_t first_tick_ns_;
  Mutex start_mu_{LockRank::kContainer};
  RefPtr<Namespaces> first_namespaces_ ABSL_GUARDED_BY(start_mu_);  // what the containers of a pod share
};

}  // namespace sentry::kernel

#endif  // SENTRY_KERNEL_KERNEL_H_
