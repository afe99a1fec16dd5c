// SPDX-License-Identifier: Apache-2.0
#include "sentry/syscalls/uring.h"

namespace sentry::syscalls {

SqThread::SqThread(RefPtr<Ring> ring, Task& task)
    : ring_(std::move(ring)), group_(task.group_ref()), identity_(kernel::TaskIdentity::Of(task)) {}

void SqThread::Run(Task& worker) {
  UringQueues& queues = ring_->queues();
  BlockerEntry entry(worker.blocker());
  ring_->sq_queue().Add(entry, kEventIn);
  while (!ring_->IsClosed() && !stopped_.load(std::memory_order_acquire)) {
    if (ring_->Submit(worker, UINT32_MAX).ok() && queues.Submitted() > 0) continue;
    queues.SetSqFlags(IORING_SQ_NEED_WAKEUP, 0);
    // The guest fills in, then looks at the flag; here the flag is set, then the queue looked at.
    auto slept = queues.Submitted() ? OkResult() : worker.Block();
    queues.SetSqFlags(0, IORING_SQ_NEED_WAKEUP);
    ring_->queue().Notify(kEventOut);
    if (!slept.ok()) break;
  }
}

void SqThread::Stop() {
  stopped_.store(true, std::memory_order_release);
  (void)group_->async_work().Interrupt(*this);
  ring_->sq_queue().Notify(kEventIn);
}

Result<void> Ring::WakeSqThread(Task& task) {
  bool running;
  {
    MutexLock lock(mu_);
    running = static_cast<bool>(sq_thread_);
  }
  auto fresh = running ? nullptr : MakeRef<SqThread>(RefPtr<Ring>(this), task);
  if (fresh) {
    MutexLock lock(mu_);
    running = static_cast<bool>(sq_thread_);
    if (!running) sq_thread_ = fresh;
  }
  if (running) {
    sq_queue_.Notify(kEventIn);
    return OkResult();
  }
  KnowGroup(task.group());
  return task.group().async_work().RunBlocking(fresh);
}

}  // namespace sentry::syscalls
