// SPDX-License-Identifier: Apache-2.0
// AsyncWork: what a process has handed over to be done while it goes on (aio, io_uring), run on sentry threads that act
// as the process: an unlinked Task with its group, memory, descriptors and credentials, so that every system call
// handler works there as it is. One per thread group, lives as long.
//
// Two kinds of threads: one *retry* thread, for jobs that never sleep (a file has become ready: try again), and up to
// kMaxBlocking others, each for one job that may sleep in Task::Block. None is made before the first job. A process
// that ends, or executes a program, cancels its clients' requests and waits until no job runs. Thread-safe.
#ifndef SENTRY_KERNEL_ASYNC_WORK_H_
#define SENTRY_KERNEL_ASYNC_WORK_H_

#include <deque>
#include <vector>

#include "sentry/common.h"
#include "sentry/kernel/core/credentials.h"
#include "sentry/kernel/fd_table.h"
#include "sentry/kernel/namespaces.h"
#include "sentry/mm/memory_manager.h"
#include "sentry/vfs/landlock.h"
#include "sentry/vfs/path.h"

namespace sentry::kernel {

class Task;
class ThreadGroup;
struct Namespaces;

// As whom a job acts; references, so that it is whole even while the submitting thread ends.
struct TaskIdentity {
  RefPtr<mm::MemoryManager> mm;
  RefPtr<FdTable> fds;
  RefPtr<vfs::FsContext> fs;
  RefPtr<Namespaces> namespaces;
  RefPtr<const Credentials> creds;
  RefPtr<vfs::LandlockDomain> landlock;
  static TaskIdentity Of(Task& task);  // of the calling task
};

// What Task::Block answers inside a NoSleep scope: the call would sleep here. Never reaches a guest.
inline constexpr Errno kWouldSleep{530};

// While it lives, calls that the thread makes as `task` don't sleep but end with kWouldSleep where they would.
class NoSleep {
 public:
  explicit NoSleep(Task& task, bool on = true);
  ~NoSleep();
  NoSleep(const NoSleep&) = delete;

 private:
  Task& task_;
  const bool before_;
};

class AsyncJob : public RefCounted<AsyncJob> {
 public:
  virtual ~AsyncJob() = default;
  virtual const TaskIdentity& identity() const = 0;
  // On a worker. A retry job must not sleep. After the process's end it is not called any more.
  virtual void Run(Task& worker) = 0;
};

// What has requests of processes under way: an aio context, a ring.
class AsyncClient : public RefCounted<AsyncClient> {
 public:
  virtual ~AsyncClient() = default;
  // Completes, or at least interrupts, every request of the process; how many. Called without locks, again until none
  // is left.
  virtual size_t CancelRequestsOf(const ThreadGroup& group) = 0;
};

class AsyncWork {
 public:
  static constexpr int kMaxBlocking = 16;   // of one process
  static constexpr int kMaxThreads = 1024;  // of the sandbox

  explicit AsyncWork(ThreadGroup& group) : group_(group) {}
  ~AsyncWork();

  // There is a retry thread from now on; EAGAIN when the host or the sandbox's limit gives none. By the process itself
  // or its workers.
  Result<void> Prepare();
  // Runs the job on the retry thread soon. Under any lock below kLeaf; after Prepare.
  void Retry(RefPtr<AsyncJob> job);
  // Runs the job on a thread of its own, or when one is free. EAGAIN when there is none at all.
  Result<void> RunBlocking(RefPtr<AsyncJob> job);
  // The job, when it runs on a blocking thread, has its sleep interrupted (kErestartsys); when it still waits for a
  // thread it is dropped. True when it was dropped: it will not run.
  bool Interrupt(const AsyncJob& job);

  // Clients remove themselves in their destructor.
  void AddClient(AsyncClient& client);
  void RemoveClient(AsyncClient& client);

  // exec(2): cancels all, and waits until no job runs. By a task of the group.
  void CancelAll(Task& task);
  // The same, and ends the threads; no job is taken any more. By the last task of the group.
  void Shutdown(Task& task);

 private:
  struct Worker {
    RefPtr<Task> task;
    RefPtr<AsyncJob> job;
    bool is_retry = false;
  };
  RefPtr<Task> NewWorker(bool is_retry, RefPtr<AsyncJob> first);
  void Main(Task& self);
  bool NextJob(Task& self, RefPtr<AsyncJob>* job);
  void WaitUntil(Task& task, bool (AsyncWork::*condition)() const);
  bool IdleLocked() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  bool EndedLocked() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return workers_.empty(); }
  Worker* FindLocked(const Task& task) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  ThreadGroup& group_;
  Mutex prepare_mu_{LockRank::kTimer};  // one retry thread only: held while it is made
  mutable Mutex mu_{LockRank::kLeaf};
  std::vector<Worker> workers_ ABSL_GUARDED_BY(mu_);
  RefPtr<Task> retry_ ABSL_GUARDED_BY(mu_);
  std::deque<RefPtr<AsyncJob>> retry_jobs_ ABSL_GUARDED_BY(mu_), blocking_jobs_ ABSL_GUARDED_BY(mu_);
  std::vector<AsyncClient*> clients_ ABSL_GUARDED_BY(mu_);
  Task* waiter_ ABSL_GUARDED_BY(mu_) = nullptr;  // in CancelAll or Shutdown
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace sentry::kernel

#endif  // SENTRY_KERNEL_ASYNC_WORK_H_
