// SPDX-License-Identifier: Apache-2.0
// Task::Internal: a task's state and the calls between the kernel layer's own files. Guards as in thread_group_state.h
// (T, S, TS); "own" = the task's thread only. Owners of the functions: [run] task_*.cc, [sig] task_signals.cc and
// thread_group_signals.cc, [ptrace] task_ptrace.cc.
#ifndef SENTRY_KERNEL_TASK_INTERNAL_H_
#define SENTRY_KERNEL_TASK_INTERNAL_H_

#include <atomic>
#include <functional>
#include <optional>
#include <vector>

#include "sentry/kernel/async_work.h"
#include "sentry/kernel/kernel.h"
#include "sentry/kernel/seccomp.h"
#include "sentry/kernel/task.h"
#include "sentry/kernel/task_set.h"
#include "sentry/kernel/thread_group_state.h"
#include "sentry/vfs/file_description.h"
#include "sentry/vfs/landlock.h"

namespace sentry::kernel {

// Why a task must come back to the top of its run loop.
enum WorkBits : uint32_t {
  kWorkSignal = 1,     // a deliverable signal may be pending (Linux's TIF_SIGPENDING); kept by [sig] under S
  kWorkStop = 2,       // take part in a group stop, or a ptrace stop was asked for; kept by [sig]/[ptrace] under S
  kWorkKill = 4,       // end now: group exit, or exec by another thread. Never cleared.
  kWorkExit = 8,       // exit(2) by itself (own). Never cleared.
  kWorkPause = 16,     // the sandbox is paused or being saved (Kernel::Pause)
  kWorkFreeze = 32,    // its cgroup is frozen; T
  kWorkThrottle = 64,  // its cgroup has used its CPU time of this period; T. Sleepers are left alone.
};
inline constexpr uint32_t kWorkInterruptsBlock =
    kWorkSignal | kWorkStop | kWorkKill | kWorkExit | kWorkPause | kWorkFreeze;
inline constexpr uint32_t kWorkPark = kWorkPause | kWorkFreeze | kWorkThrottle;
inline constexpr uint32_t kWorkFatal = kWorkKill | kWorkExit;

// The executable of an address space: nobody may write to it meanwhile (ETXTBSY).
class ExeFile : public RefCounted<ExeFile> {
 public:
  // ETXTBSY while somebody has it open for writing.
  static Result<RefPtr<ExeFile>> Create(vfs::FileRef file);
  ~ExeFile();
  const vfs::FileRef& file() const { return file_; }

 private:
  explicit ExeFile(vfs::FileRef file) : file_(std::move(file)) {}
  vfs::FileRef file_;
};

// What a vfork(2) parent sleeps on.
struct VforkDone : public RefCounted<VforkDone> {
  std::atomic<bool> done{false};
  WaitQueue queue;
};

struct TaskCgroups;  // cgroup.h

// Where a task is, for /proc and for Kick.
enum class RunState : uint8_t { kKernel, kGuest, kSleeping, kDiskSleep, kStopped, kTraced, kZombie, kDead };

enum class StartState : uint8_t { kWaiting, kGo, kAbandoned };

mm::MmLimits MmLimitsOf(const Limits& limits);
std::string_view BaseName(std::string_view path);

struct Task::Internal {
  // Any thread.
  std::atomic<StartState> start{StartState::kWaiting};
  std::atomic<uint32_t> work{0};
  std::atomic<RunState> run_state{RunState::kKernel};
  std::atomic<bool> parked{false};  // sleeps in Park
  // Ids by pid-namespace level; [0] is the root's. Written with T (birth, exec by a non-leader).
  std::atomic<pid_t> ids[kMaxPidLevel + 1] = {};

  // S.
  kernel::PendingSignals pending;
  bool stopped = false;           // sleeps in a group stop
  bool counted_in_stop = false;   // is one of GroupStop::pending_threads
  SignalSet waiting_for = 0;      // sigtimedwait: these count as blocked when they are sent
  bool signals_detached = false;  // exiting: no signal is directed here any more

  // Own. The mask to put back on the way to the guest (SetTemporaryMask); written by [sig].
  std::optional<SignalSet> saved_mask;
  platform::Access fault_access = platform::Access::kUnknown;  // of the last fault, for the signal frame's error code
  int exit_code = 0;                                           // RequestExit
  int exit_signal = 0;                                         // > 0: this thread alone is killed by it (seccomp)
  bool map_eagerly = false;
  std::vector<uint8_t> fpu_image;    // to be loaded by the new thread (fork)
  UserAddr set_child_tid;            // CLONE_CHILD_SETTID, stored by the new thread
  RefPtr<VforkDone> vfork_done;      // of the child; signalled at exec and exit
  platform::RseqArea rseq;           // as registered; address 0: not
  mm::PinnedPages rseq_pin;          // so that fork copies the area's page: the host's kernel must be able to write it
  uint64_t affinity = ~uint64_t{0};  // as the platform knows it
  bool ptrace_clone_stop = false;    // [ptrace]: a new tracee that starts with SIGSTOP / a trace stop
  // Set while another task traces system calls of this one: the run loop then calls PtraceSyscallEnter/Exit.
  std::atomic<bool> trace_syscalls{false};
  // What PublishAnswers looks at has changed. Any thread.
  std::atomic<bool> answers_stale{true};
  bool answers_traced = false;  // own: trace_syscalls as it was then

  SeccompState seccomp;

  // Guarded by Task::mu_.
  RefPtr<ExeFile> exe_file;
  RefPtr<vfs::LandlockDomain> landlock;  // written by the own thread, which uses vfs::LandlockDomain::Current()

  // Set for the workers of AsyncWork: run instead of the guest. They get no signals (RaiseSelf does nothing).
  std::function<void(Task&)> worker_body;
  bool no_sleep = false;  // own: a NoSleep scope is open

  // T.
  bool zombie = false;                   // ended; only the leader stays so
  bool released = false;                 // out of all tables
  std::unique_ptr<TaskCgroups> cgroups;  // cgroup.h; null for workers
  uid_t counted_uid = 0;                 // whose RLIMIT_NPROC count it is in

  // CPU time in time-stamp-counter ticks; written by the own thread.
  std::atomic<uint64_t> user_ticks{0}, system_ticks{0};
  std::atomic<uint64_t> guest_entry_tick{0};   // non-zero inside Context::Switch
  std::atomic<uint64_t> kernel_entry_tick{0};  // non-zero when running in the sentry
  std::atomic<uint64_t> voluntary_switches{0}, minor_faults{0}, major_faults{0}, max_rss_kb{0};

  static Kernel& kernel(Task& task) { return task.kernel_; }
  static RefPtr<vfs::LandlockDomain> LandlockOf(const Task& task) {
    MutexLock lock(task.mu_);
    return task.internal_->landlock;
  }
  static void SetLandlock(Task& task, RefPtr<vfs::LandlockDomain> domain) {  // (own)
    vfs::LandlockDomain::SetCurrent(domain.get());
    MutexLock lock(task.mu_);
    std::swap(task.internal_->landlock, domain);
  }
  static RefPtr<ExeFile> exe(const Task& task) {
    MutexLock lock(task.mu_);
    return task.internal_->exe_file;
  }

  // [run] Wakes the task from Block and interrupts its Switch, so that it looks at `work`. Any locks up to kBlocker.
  static void Kick(Task& task);
  // [run] Sets bits, then kicks.
  static void AddWork(Task& task, uint32_t bits);
  // [run] kWorkThrottle: as AddWork, but who sleeps goes on sleeping.
  static void AddThrottle(Task& task);
  // [run] (own) Sleeps on the blocker once in the given state, until any Kick or wake; the caller loops on its
  // condition and must look at kWorkKill. For stops.
  static void SleepOnce(Task& task, RunState state);
  // [run] Sends the exit signal / SIGCHLD for `group` to its parent with the CLD_* code (unless SA_NOCLDSTOP for stops
  // and continues) and wakes the parent's waiters. T held, S of no group held. The wait_stopped/wait_continued flags
  // are the caller's.
  static void NotifyParentLocked(ThreadGroup& group, int cld_code, int status);
  // [run] The body of ThreadGroup::Exit with S of the group held: sets the status, kWorkKill on all threads.
  static void ExitGroupLocked(ThreadGroup& group, ExitStatus status);
  // [run] Makes the (parked) sentry thread; false when the host gives none. OpenStartGate then lets it run or gives it
  // up.
  static bool StartThread(RefPtr<Task> task);
  static void OpenStartGate(Task& task, bool go);
  static bool PrepareThread(Task& task);
  // [run] An unlinked task without a guest thread, for AsyncWork; StartThread runs `body`. And whose resources it uses.
  static RefPtr<Task> NewWorker(ThreadGroup& group, std::function<void(Task&)> body);
  static void Assume(Task& worker, TaskIdentity identity);
  static void HandleEvent(Task& task, const platform::Event& event);
  // [answers] (own, no locks) Tells the platform which calls need no event: those that always give the same, while
  // nobody looks at the task's calls.
  static void PublishAnswers(Task& task);
  // [answers] Any thread, locks of any rank but leaves: from now on the task's calls (or this one) make events, until
  // it publishes again.
  static void WithdrawAnswers(Task& task);
  static void WithdrawAnswer(Task& task, uint32_t number);
  // [run] (own) Stands still while any of kWorkPark is set.
  static void Park(Task& task);
  // [rseq] (own, bound) Gives the platform the area of `internal.rseq`, which fork may have copied.
  static Result<void> RegisterRseq(Task& task);
  // [rseq] (own) Before a signal frame is built: leaves a critical section for its abort handler. False for a bad
  // descriptor: the signal can't be delivered.
  static bool AbortRseq(Task& task);
  // [run] Life cycle. "Garbage" collects references that must not be dropped under a lock.
  struct Garbage {
    std::vector<RefPtr<Task>> tasks;
    std::vector<RefPtr<ThreadGroup>> groups;
    std::vector<RefPtr<ProcessGroup>> process_groups;
  };
  struct LinkRequest {
    Task* parent = nullptr;              // of a new group; null: none in the guest
    RefPtr<ProcessGroup> process_group;  // of a new group; null: a new session with a group
    bool new_group = true;
    std::vector<pid_t> set_tid;  // innermost namespace first
  };
  // Gives the child its ids and makes it visible. T held. EAGAIN (limits), ENOMEM (dying namespace), EEXIST, EINVAL
  // (set_tid), kErestartnointr (the group is ending or stopping).
  static Result<void> LinkLocked(Task& child, const LinkRequest& request);
  static Result<void> PickIdsLocked(PidNamespace& ns, const std::vector<pid_t>& set_tid, std::vector<pid_t>* ids);
  // CLONE_NEW* of clone(2) and unshare(2): the caller's namespaces, with new ones for the flags. `fs` is moved into a
  // new mount namespace. Capabilities were checked.
  static Result<RefPtr<Namespaces>> CopyNamespaces(Task& task, uint64_t flags, vfs::FsContext& fs,
                                                   const RefPtr<UserNamespace>& owner);
  // The same namespaces, in the time namespace for children, whose offsets `mm` (null: none) gets. ENOMEM.
  static Result<RefPtr<Namespaces>> EnterTimeForChildren(const Namespaces& namespaces, mm::MemoryManager* mm);
  // CLONE_NEWUSER: credentials in a new user namespace, or null when the flag is not there. ENOSPC, EPERM (chroot, or
  // an effective id without a mapping).
  static Result<RefPtr<const Credentials>> CopyCredentials(Task& task, uint64_t flags);
  // An unlinked copy of the task per clone(2), without its thread.
  static Result<RefPtr<Task>> MakeChild(Task& task, const CloneRequest& request);
  static void ExitTask(Task& task);
  static void LeaveResources(Task& task);
  static void Abandon(Task& task);  // of a task that never ran
  static void LeaveTerminal(Task& task);
  static void ReleaseTaskLocked(Task& task, Garbage& garbage);
  static void ReleaseGroupLocked(ThreadGroup& group, Garbage& garbage);  // the zombie was waited for
  static void ExitNotify(Task& task);
  // The last thread is gone: tells the parent. True when nobody will wait for it.
  static bool NotifyParentOfExitLocked(ThreadGroup& group);
  static void ReparentChildrenLocked(Task& task, Garbage& garbage);
  // SIGHUP and SIGCONT when `group`'s process group has become orphaned, with stopped members, by this group's end or
  // re-parenting.
  static void HangUpOrphansLocked(ThreadGroup& group, const ThreadGroup* parent, bool exiting);
  static void KillPidNamespace(Task& init);
  // One look for wait(2). False: nothing to report now; `candidates`: but there may be.
  static bool WaitScanLocked(Task& caller, const WaitRequest& request, bool* candidates, WaitResult* result,
                             Garbage& garbage);
  // execve(2): see Task::Exec. `reachable` as in loader::FindProgram.
  static Result<void> Exec(Task& task, const vfs::FileRef& executable, std::string filename,
                           std::vector<std::string> argv, std::vector<std::string> envp, bool reachable);
  // Ends all other threads of the group and makes the task its leader. kErestartnointr when it is itself to end.
  static Result<void> DeThread(Task& task);
  static void BecomeLeaderLocked(Task& task, Garbage& garbage);
  static bool EnterImage(Task& task, RefPtr<mm::MemoryManager> mm, RefPtr<ExeFile> exe_file);
  // [run] exec and exit: robust futexes, clear_child_tid, vfork parent; then the address space is left.
  static void ReleaseMm(Task& task);

  // [sig] (own, no locks) At the top of the run loop when `work` has kWorkSignal or kWorkStop, when a temporary mask is
  // installed, or when regs.rax holds a restart errno with orig_rax >= 0. Takes part in stops; takes signals until none
  // is deliverable: sets up frames (converting the restart errno by SA_RESTART first; after that orig_rax = -1),
  // ignores, or ends the group through ThreadGroup::Exit. Without any handler run: rewinds the registers for a restart
  // (rip -= 2, rax = orig_rax; restart_syscall's number for 516) and puts the saved mask back. Returns at once when
  // kWorkFatal shows up.
  static void DeliverSignals(Task& task);
  // [sig] Task::SendSignal and ThreadGroup::SendSignal are called with T held or with no lock: they take S only.
  // [sig] S held: the thread leaves. No more signals for it; pending shared ones are offered to the other threads; a
  // group stop that waited for it may be complete: true then, and the caller tells the parent (CLD_STOPPED) under T.
  static bool DetachSignalsLocked(Task& task);
  // [sig] S held: queues `info` to `thread`, or to the process when null. False: dropped (ignored, pending already,
  // exiting). EAGAIN: RLIMIT_SIGPENDING, for signals that may fail.
  static Result<bool> SendSignalLocked(ThreadGroup& group, Task* thread, const SignalInfo& info,
                                       SignalHandlers& handlers);
  // [sig] (own, no locks) Sleeps through a group stop, if the task is to take part in one.
  static void TakePartInStop(Task& task);
  // [sig] S held: starts a group stop.
  static void StartGroupStopLocked(ThreadGroup& group, int signal);
  // [sig] S held: the next signal outside `blocked`.
  static bool TakeSignalLocked(Task& task, SignalSet allowed, SignalInfo* info);
  // [sig] (own, no locks) False: the frame could not be made, SIGSEGV was forced.
  static bool SetUpHandler(Task& task, const SignalAction& action, const SignalInfo& info);
  // [sig] S held: a new mask for the task, by its own thread or (ptrace) while it is stopped.
  static void SetMaskLocked(Task& task, SignalSet mask);
  // [sig] S held: recomputes kWorkSignal (mask or pending changed). Kicks when it became set.
  static void UpdateSignalWorkLocked(Task& task);
  // [sig] exec: caught signals to default, ignored ones stay; also the alternate stack, and a private SignalHandlers
  // (no sharing with other groups any more). Called with no locks, as the only thread. Posix timers are deleted through
  // timers().OnExec().
  static void ResetSignalsForExec(Task& task);
  // [sig] clone: what a new task inherits: mask, alt_stack unless CLONE_VM without CLONE_VFORK. Called by the parent on
  // the unlinked child.
  static void InheritSignals(Task& parent, Task& child, uint64_t clone_flags);

  // [ptrace] All are no-ops without a tracer.
  static void PtraceCloneLocked(Task& parent, Task& child,
                                const CloneRequest& request);  // T held, child linked, not yet running
  static void PtraceEvent(Task& task, int event,
                          uint64_t message);             // (own) PTRACE_EVENT_* stop when the tracer asked for it
  static void PtraceExec(Task& task, pid_t former_tid);  // (own) PTRACE_EVENT_EXEC or the legacy SIGTRAP
  static bool PtraceSyscallEnter(Task& task);            // (own) false: skip the call
  static void PtraceSyscallExit(Task& task);             // (own) the exit stop, or the SIGTRAP of a step over the call
  static void PtraceHandlerEntered(Task& task);          // (own) a step stops before a handler's first instruction
  static void RecordDebugTrap(Task& task);               // (own) DR6 of a trap; a tracer's stop records it itself
  static void ForceTrapFlag(Task& task);                 // (own) sets or clears the trap flag, as single_step says
  static void PtraceExitLocked(Task& task);              // T held: lets go of its tracees and its tracer
  // T held: looks for a tracee of the caller to report. True: *result is filled. Sets *candidates when there is any
  // eligible.
  static bool PtraceWaitLocked(Task& caller, const WaitRequest& request, bool* candidates, WaitResult* result);
};

}  // namespace sentry::kernel

#endif  // SENTRY_KERNEL_TASK_INTERNAL_H_
