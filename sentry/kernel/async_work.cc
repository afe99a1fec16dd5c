// SPDX-License-Identifier: Apache-2.0
#include "sentry/kernel/async_work.h"

#include <algorithm>

#include "base/log.h"
#include "sentry/kernel/cgroup.h"
#include "sentry/kernel/task_internal.h"

namespace sentry::kernel {
namespace {

constexpr size_t kMaxQueued = 65536;  // blocking jobs of one process that wait for a thread
constexpr int64_t kIdleNs = 2 * base::kNsPerSecond;
std::atomic<int> thread_count{0};

}  // namespace

TaskIdentity TaskIdentity::Of(Task& task) {
  return {.mm = task.mm_ref(),
          .fds = task.fds_ref(),
          .fs = task.fs_ref(),
          .namespaces = task.namespaces_ref(),
          .creds = task.creds(),
          .landlock = Task::Internal::LandlockOf(task)};
}

NoSleep::NoSleep(Task& task, bool on) : task_(task), before_(std::exchange(task.internal().no_sleep, on)) {}
NoSleep::~NoSleep() { task_.internal().no_sleep = before_; }

AsyncWork::~AsyncWork() { CHECK_THAT(workers_.empty()); }

void Task::Internal::Assume(Task& worker, TaskIdentity identity) {
  SetLandlock(worker, std::move(identity.landlock));
  // The former values are let go of after the lock: a last reference may close files.
  MutexLock lock(worker.mu_);
  std::swap(worker.mm_, identity.mm);
  std::swap(worker.fds_, identity.fds);
  std::swap(worker.fs_, identity.fs);
  std::swap(worker.namespaces_, identity.namespaces);
  std::swap(worker.creds_, identity.creds);
}

RefPtr<Task> Task::Internal::NewWorker(ThreadGroup& group, std::function<void(Task&)> body) {
  RefPtr<Task> worker(new Task(Kernel::Get(), RefPtr<ThreadGroup>(&group)));
  worker->internal_->worker_body = std::move(body);
  worker->set_name("iou-wrk");
  // What it puts into memory is counted where its process's is.
  worker->internal_->cgroups = std::make_unique<TaskCgroups>();
  RefPtr<mm::MemoryCharge> charge = mm::MemoryCharge::Current();
  MutexLock lock(worker->internal_->cgroups->charge_mu);
  worker->internal_->cgroups->charge = std::move(charge);
  return worker;
}

RefPtr<Task> AsyncWork::NewWorker(bool is_retry, RefPtr<AsyncJob> first) {
  if (thread_count.fetch_add(1, std::memory_order_relaxed) >= kMaxThreads) {
    thread_count.fetch_sub(1, std::memory_order_relaxed);
    return nullptr;
  }
  RefPtr<Task> task = Task::Internal::NewWorker(group_, [this](Task& self) { Main(self); });
  bool started = Task::Internal::StartThread(task);
  bool taken = false;
  if (started) {
    MutexLock lock(mu_);
    if (!stopping_) {
      workers_.push_back({task, std::move(first), is_retry});
      taken = true;
    }
  }
  if (started) Task::Internal::OpenStartGate(*task, taken);
  if (!taken) {
    thread_count.fetch_sub(1, std::memory_order_relaxed);
    return nullptr;
  }
  return task;
}

Result<void> AsyncWork::Prepare() {
  {
    MutexLock lock(mu_);
    if (stopping_) return Errno(EAGAIN);
    if (retry_) return OkResult();
  }
  MutexLock preparing(prepare_mu_);
  {
    MutexLock lock(mu_);
    if (retry_) return OkResult();
  }
  RefPtr<Task> task = NewWorker(true, nullptr);
  if (!task) return Errno(EAGAIN);
  MutexLock lock(mu_);
  retry_ = std::move(task);
  return OkResult();
}

void AsyncWork::Retry(RefPtr<AsyncJob> job) {
  MutexLock lock(mu_);
  if (stopping_ || !retry_) return;
  retry_jobs_.push_back(std::move(job));
  retry_->blocker().Wake();
}

Result<void> AsyncWork::RunBlocking(RefPtr<AsyncJob> job) {
  {
    MutexLock lock(mu_);
    if (stopping_) return Errno(EAGAIN);
    int blocking = 0;
    for (Worker& worker : workers_) {
      if (worker.is_retry) continue;
      ++blocking;
      if (worker.job) continue;
      worker.job = std::move(job);
      worker.task->blocker().Wake();
      return OkResult();
    }
    if (blocking >= kMaxBlocking) {
      if (blocking_jobs_.size() >= kMaxQueued) return Errno(EAGAIN);
      blocking_jobs_.push_back(std::move(job));
      return OkResult();
    }
  }
  if (!NewWorker(false, std::move(job))) return Errno(EAGAIN);
  return OkResult();
}

bool AsyncWork::Interrupt(const AsyncJob& job) {
  RefPtr<AsyncJob> dropped;
  MutexLock lock(mu_);
  for (Worker& worker : workers_) {
    if (worker.job == &job && !worker.is_retry) Task::Internal::AddWork(*worker.task, kWorkSignal);
  }
  auto it = std::find_if(blocking_jobs_.begin(), blocking_jobs_.end(), [&](const auto& j) { return j == &job; });
  if (it == blocking_jobs_.end()) return false;
  dropped = std::move(*it);
  blocking_jobs_.erase(it);
  return true;
}

AsyncWork::Worker* AsyncWork::FindLocked(const Task& task) {
  for (Worker& worker : workers_) {
    if (worker.task == &task) return &worker;
  }
  return nullptr;
}

bool AsyncWork::IdleLocked() const {
  for (const Worker& worker : workers_) {
    if (worker.job) return false;
  }
  return retry_jobs_.empty() && blocking_jobs_.empty();
}

// False: the thread is to end, and is forgotten.
bool AsyncWork::NextJob(Task& self, RefPtr<AsyncJob>* job) {
  int64_t deadline = kNoDeadline;
  for (;;) {
    {
      MutexLock lock(mu_);
      Worker& worker = *FindLocked(self);
      if (!worker.job && !stopping_) {
        auto& queue = worker.is_retry ? retry_jobs_ : blocking_jobs_;
        if (!queue.empty()) {
          worker.job = std::move(queue.front());
          queue.pop_front();
        }
      }
      if (worker.job && !stopping_) {
        *job = worker.job;
        return true;
      }
      if (stopping_ || (deadline != kNoDeadline && base::MonotonicNs() >= deadline)) return false;
      if (!worker.is_retry && deadline == kNoDeadline) deadline = base::MonotonicNs() + kIdleNs;
    }
    (void)self.blocker().Wait(deadline);
  }
}

void AsyncWork::Main(Task& self) {
  for (;;) {
    RefPtr<AsyncJob> job;
    if (!NextJob(self, &job)) break;
    Task::Internal::Assume(self, job->identity());
    job->Run(self);
    Task::Internal::Assume(self, {});
    MutexLock lock(mu_);
    FindLocked(self)->job = nullptr;  // not the last reference: `job` goes after the lock
    self.internal().work.fetch_and(~uint32_t{kWorkSignal}, std::memory_order_relaxed);
    if (waiter_) waiter_->blocker().Wake();
  }
  RefPtr<AsyncJob> dropped;
  RefPtr<Task> own;  // nor is this one: the thread's own
  MutexLock lock(mu_);
  Worker& worker = *FindLocked(self);
  dropped = std::move(worker.job);
  own = std::move(worker.task);
  std::swap(worker, workers_.back());
  workers_.pop_back();
  thread_count.fetch_sub(1, std::memory_order_relaxed);
  if (waiter_) waiter_->blocker().Wake();
}

void AsyncWork::AddClient(AsyncClient& client) {
  MutexLock lock(mu_);
  if (std::find(clients_.begin(), clients_.end(), &client) == clients_.end()) clients_.push_back(&client);
}

void AsyncWork::RemoveClient(AsyncClient& client) {
  MutexLock lock(mu_);
  std::erase(clients_, &client);
}

void AsyncWork::WaitUntil(Task& task, bool (AsyncWork::*condition)() const) {
  for (;;) {
    {
      MutexLock lock(mu_);
      if ((this->*condition)()) {
        waiter_ = nullptr;
        return;
      }
      waiter_ = &task;
    }
    // Not Task::Block: a dying task would not sleep there. Jobs end soon: they are interrupted, or don't sleep.
    (void)task.blocker().Wait(kNoDeadline);
  }
}

void AsyncWork::CancelAll(Task& task) {
  // What was cancelled may have had a successor that starts now: until there is none.
  for (;;) {
    std::vector<RefPtr<AsyncClient>> clients;
    {
      MutexLock lock(mu_);
      for (AsyncClient* client : clients_) {
        if (client->TryIncRef()) clients.push_back(RefPtr<AsyncClient>::Adopt(client));
      }
      if (clients.empty() && IdleLocked()) return;
    }
    size_t cancelled = 0;
    for (const auto& client : clients) cancelled += client->CancelRequestsOf(group_);
    WaitUntil(task, &AsyncWork::IdleLocked);
    if (cancelled == 0) return;
  }
}

void AsyncWork::Shutdown(Task& task) {
  CancelAll(task);
  std::deque<RefPtr<AsyncJob>> dropped_retries, dropped_jobs;
  {
    MutexLock lock(mu_);
    stopping_ = true;
    dropped_retries.swap(retry_jobs_);
    dropped_jobs.swap(blocking_jobs_);
    for (Worker& worker : workers_) Task::Internal::AddWork(*worker.task, kWorkKill);
  }
  WaitUntil(task, &AsyncWork::EndedLocked);
  RefPtr<Task> retry;
  MutexLock lock(mu_);
  retry = std::move(retry_);
}

}  // namespace sentry::kernel
