// SPDX-License-Identifier: Apache-2.0
// Task: a guest thread, run by one sentry thread of its own. The life cycle is split over files: task_run.cc (the run
// loop and its stops), task_clone.cc, task_exec.cc, task_exit.cc (exit, reparenting, wait), task_signals.cc,
// task_block.cc, task_ptrace.cc.
//
// Run loop (a state machine written down so that a checkpoint can be taken at its top):
//   kRunning: pending work (stops, kill) → deliver signals → Context::Switch → event → handle → kRunning
//   handle(syscall): the handler may block only in Block(); an internal restart errno rewinds the registers at the top.
//
// Thread-safety: methods marked (own) are called by the task's thread only; others from anywhere.
#ifndef SENTRY_KERNEL_TASK_H_
#define SENTRY_KERNEL_TASK_H_

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "platform/platform.h"
#include "sentry/common.h"
#include "sentry/kernel/core/caller.h"
#include "sentry/kernel/fd_table.h"
#include "sentry/kernel/ipc/semaphore.h"
#include "sentry/kernel/keys/keys.h"
#include "sentry/kernel/namespaces.h"
#include "sentry/kernel/signal.h"
#include "sentry/kernel/thread_group.h"
#include "sentry/mm/memory_manager.h"
#include "sentry/vfs/path.h"

namespace sentry::kernel {

class Kernel;
class TaskSet;
struct PtraceState;
struct SyscallArguments;

using platform::Registers;

// nsproxy. Immutable once shared; unshare and setns make a copy.
struct Namespaces : public RefCounted<Namespaces> {
  RefPtr<UtsNamespace> uts;
  RefPtr<IpcNamespace> ipc;
  RefPtr<NetNamespace> net;
  RefPtr<vfs::MountNamespace> mounts;
  RefPtr<PidNamespace> pid_for_children;
  RefPtr<CgroupNamespace> cgroup;
  RefPtr<TimeNamespace> time, time_for_children;
  RefPtr<Namespaces> Clone() const;
};

struct AltStack {
  uint64_t sp = 0;
  uint64_t size = 0;
  uint32_t flags = SS_DISABLE;
};

struct CloneRequest {
  uint64_t flags = 0;  // CLONE_*, without the exit signal
  int exit_signal = 0;
  uint64_t stack = 0;  // top; 0: the parent's
  uint64_t tls = 0;
  UserAddr parent_tid, child_tid, pidfd;
  std::vector<pid_t> set_tid;
  Cgroup* into_cgroup = nullptr;  // CLONE_INTO_CGROUP; borrowed
};

class Task final : public Caller, public RefCounted<Task> {
 public:
  ~Task() override;
  static Task& Current() { return static_cast<Task&>(Caller::Current()); }
  static Task* CurrentOrNull() { return static_cast<Task*>(Caller::CurrentOrNull()); }

  // Identity.
  pid_t tid() const { return tid_; }          // root namespace
  pid_t TidIn(const PidNamespace& ns) const;  // 0: not visible
  ThreadGroup& group() const { return *group_; }
  const RefPtr<ThreadGroup>& group_ref() const { return group_; }
  PidNamespace& pid_ns() const { return *group_->pid_ns(); }
  std::string name() const;  // comm, ≤ 15 bytes
  void set_name(std::string_view name);

  // Resources. The own task reads its pointers without a lock; others use the *Ref() forms, which may give null for a
  // task that has exited.
  mm::MemoryManager& mm() const { return *mm_; }                 // (own)
  FdTable& fds() const { return *fds_; }                         // (own)
  vfs::FsContext& fs() const { return *fs_; }                    // (own)
  const Namespaces& namespaces() const { return *namespaces_; }  // (own)
  RefPtr<mm::MemoryManager> mm_ref() const;
  RefPtr<FdTable> fds_ref() const;
  RefPtr<vfs::FsContext> fs_ref() const;
  RefPtr<Namespaces> namespaces_ref() const;
  void set_fds(RefPtr<FdTable> fds);                // (own) unshare
  void set_fs(RefPtr<vfs::FsContext> fs);           // (own)
  void set_namespaces(RefPtr<Namespaces> value);    // (own)
  RefPtr<const Credentials> creds_ref() const;      // from any thread
  void set_creds(RefPtr<const Credentials> creds);  // (own)
  // The executable (prctl, /proc/PID/exe) of its mm; null for none.
  vfs::Path exe() const;

  // Caller.
  const RefPtr<const Credentials>& creds() const override { return creds_; }  // (own)
  Blocker& blocker() override { return blocker_; }
  Result<void> Block(int64_t deadline_ns = kNoDeadline) override;
  Result<void> BlockKillable(int64_t deadline_ns = kNoDeadline) override;
  Result<void> CopyInBytes(UserAddr from, void* to, size_t length) override;
  Result<void> CopyOutBytes(UserAddr to, const void* from, size_t length) override;
  Result<std::string> CopyInString(UserAddr from, size_t limit) override;
  uint64_t SoftLimit(int resource) const override { return group_->limits().Soft(resource); }
  pid_t CallerTgid() const override;
  pid_t CallerTid() const override { return TidIn(pid_ns()); }
  uint64_t CallerPidNamespace() const override { return pid_ns().inode_number(); }
  const void* LockOwner() const override { return fds_.get(); }
  void RaiseSelf(int signal) override;
  mode_t umask() const override { return fs_->umask(); }
  // (own) See Credentials: over the sandbox, over the own user namespace, over another.
  bool HasCapability(int capability) const { return creds_->HasCapability(capability); }
  bool HasOwnCapability(int capability) const { return creds_->HasOwnCapability(capability); }
  bool HasCapabilityIn(const RefPtr<UserNamespace>& ns, int capability) const {
    return creds_->HasCapabilityIn(ns, capability);
  }

  // Registers (own; others while the task is stopped).
  Registers& regs() { return regs_; }
  platform::Context& context() { return *context_; }

  // Signals.
  Result<void> SendSignal(const SignalInfo& info);  // thread-directed; permission was checked
  SignalSet signal_mask() const { return mask_.load(std::memory_order_relaxed); }
  void set_signal_mask(SignalSet mask);  // (own)
  // For sigsuspend, ppoll, pselect, epoll_pwait: installs `mask` until the next return to the guest, where the old one
  // comes back (after a handler was set up with the old one in its frame).
  void SetTemporaryMask(SignalSet mask);  // (own)
  SignalSet PendingSignals() const;       // of the task and its group
  bool HasDeliverableSignal() const;
  // sigtimedwait: takes a pending signal in `set`, or EAGAIN.
  Result<SignalInfo> TakeSignal(SignalSet set);  // (own)
  // sigtimedwait: notified whenever a signal is queued to the task or its group.
  WaitQueue& signal_queue() { return signal_queue_; }
  AltStack alt_stack;  // (own)
  // sigaltstack(2): EPERM while on it, EINVAL, ENOMEM when too small. (own)
  Result<void> SetAltStack(const AltStack& stack);
  // rt_sigreturn(2): the restored rax; a bad frame forces SIGSEGV. (own)
  int64_t ReturnFromSignal();
  // sigtimedwait sleeps for these: sent meanwhile, they are kept as if they were blocked. (own)
  void SetWaitingFor(SignalSet set);
  // A synchronous fault of the own task: cannot be ignored or blocked.
  void ForceSignal(const SignalInfo& info);  // (own)

  // Life cycle.
  // clone(2): the child's tid in the caller's namespace. (own)
  Result<pid_t> Clone(const CloneRequest& request);
  // execve(2): on success the registers are the new image's. (own)
  Result<void> Exec(const vfs::FileRef& executable, std::string filename, std::vector<std::string> argv,
                    std::vector<std::string> envp);
  // exit(2): leaves the run loop soon. (own)
  void RequestExit(int code);
  bool IsExited() const;

  // rseq(2). (own)
  Result<void> SetRseq(const platform::RseqArea& area, int flags);

  // Used by the syscall layer (own).
  std::function<Result<int64_t>(Task&)> restart_block;
  UserAddr clear_child_tid;
  UserAddr robust_list_head;
  uint64_t robust_list_length = 0;

  // SEM_UNDO of semop(2); made when first needed, shared by CLONE_SYSVSEM. (own)
  RefPtr<ipc::SemaphoreUndo> semaphore_undo;
  void LeaveSemaphoreUndo();  // gives back what it must when no other task shares the list

  // Null until keys are used. (own)
  RefPtr<keys::TaskKeyrings> keyrings;

  // prctl and sched state, read by /proc.
  std::atomic<bool> no_new_privs{false};
  std::atomic<int> parent_death_signal{0};
  std::atomic<uint64_t> timer_slack_ns{50000};
  std::atomic<int> nice{0};
  std::atomic<int> sched_policy{0}, sched_priority{0};
  std::atomic<uint64_t> cpu_affinity{~uint64_t{0}};  // of the first 64 CPUs; masked by those online
  // Takes effect before the task executes another guest instruction. Any thread.
  void SetAffinity(uint64_t cpus);
  std::atomic<uint32_t> personality{0};
  std::atomic<int> io_priority{0};

  // 'R', 'S', 'D', 'T', 't', 'Z', 'X' of /proc/PID/stat.
  char StateLetter() const;
  // The syscall being handled, -1 in the guest (/proc/PID/syscall, wchan).
  std::atomic<int> current_syscall{-1};
  CpuUsage usage() const;
  // One call of the read(2) or write(2) kind that moved so many bytes, for usage(). (own)
  void CountRead(uint64_t bytes) { CountIo(io_read_, bytes); }
  void CountWrite(uint64_t bytes) { CountIo(io_written_, bytes); }
  int64_t start_time_ns() const { return start_time_ns_; }  // CLOCK_BOOTTIME
  PtraceState* ptrace() { return ptrace_.get(); }

  // The kernel layer's own files reach further; see task_internal.h.
  struct Internal;
  Internal& internal() const { return *internal_; }
  Kernel& kernel() const { return kernel_; }

 private:
  friend struct Internal;
  friend class TaskSet;
  friend class ThreadGroup;
  friend class Kernel;
  Task(Kernel& kernel, RefPtr<ThreadGroup> group);

  void Run();  // the sentry thread's body
  struct IoCount {
    std::atomic<uint64_t> calls{0}, bytes{0};  // the own thread writes
  };
  static void CountIo(IoCount& count, uint64_t bytes) {
    count.calls.store(count.calls.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
    count.bytes.store(count.bytes.load(std::memory_order_relaxed) + bytes, std::memory_order_relaxed);
  }

  Kernel& kernel_;
  RefPtr<ThreadGroup> group_;
  std::atomic<pid_t> tid_{0};
  const int64_t start_time_ns_;
  Blocker blocker_;
  Registers regs_ = {};
  std::unique_ptr<platform::Context> context_;
  std::atomic<SignalSet> mask_{0};
  WaitQueue signal_queue_;
  IoCount io_read_, io_written_;

  mutable Mutex mu_{
      LockRank::kTask};  // guards the pointers below against other threads' readers; the own thread writes
  RefPtr<mm::MemoryManager> mm_;
  RefPtr<FdTable> fds_;
  RefPtr<vfs::FsContext> fs_;
  RefPtr<Namespaces> namespaces_;
  RefPtr<const Credentials> creds_;
  std::string name_ ABSL_GUARDED_BY(mu_);
  vfs::Path exe_ ABSL_GUARDED_BY(mu_);
  std::unique_ptr<PtraceState> ptrace_;
  std::unique_ptr<Internal> internal_;
};

}  // namespace sentry::kernel

#endif  // SENTRY_KERNEL_TASK_H_
