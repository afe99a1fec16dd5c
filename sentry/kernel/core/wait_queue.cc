// SPDX-License-Identifier: Apache-2.0
#include "sentry/kernel/core/wait_queue.h"

#include "base/log.h"
#include "base/wake_hint.h"
#include "sentry/kernel/core/host_futex.h"

namespace sentry {

WaitEntry::~WaitEntry() {
  if (queue_) queue_->Remove(*this);
}

WaitQueue::~WaitQueue() { CHECK_THAT(Empty()); }

void WaitQueue::Add(WaitEntry& entry, EventMask mask, bool exclusive) {
  MutexLock lock(mu_);
  CHECK_THAT(entry.queue_ == nullptr);
  entry.queue_ = this;
  entry.mask_ = mask | EPOLLERR | EPOLLHUP;
  entry.exclusive_ = exclusive;
  entry.next_ = nullptr;
  entry.previous_ = tail_;
  if (tail_) {
    tail_->next_ = &entry;
  } else {
    head_.store(&entry, std::memory_order_release);
  }
  tail_ = &entry;
}

void WaitQueue::Remove(WaitEntry& entry) {
  MutexLock lock(mu_);
  if (entry.queue_ != this) return;
  if (entry.previous_) {
    entry.previous_->next_ = entry.next_;
  } else {
    head_.store(entry.next_, std::memory_order_release);
  }
  if (entry.next_) {
    entry.next_->previous_ = entry.previous_;
  } else {
    tail_ = entry.previous_;
  }
  entry.queue_ = nullptr;
}

void WaitQueue::Call(EventMask events, bool one_exclusive) {
  // The waiter adds itself, then checks the condition; the notifier changes the condition, then looks here.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if (Empty()) return;
  mu_.LockNested();
  bool woke = false;
  for (WaitEntry* entry = head_.load(std::memory_order_relaxed); entry; entry = entry->next_) {
    if (!(entry->mask_ & events)) continue;
    if (one_exclusive && entry->exclusive_) {
      if (woke || !entry->armed_.exchange(false, std::memory_order_seq_cst)) continue;
      woke = true;
    }
    entry->OnEvent(events);
  }
  mu_.Unlock();
}

void Blocker::Wake() {
  // Not zero, and where it came from.
  if (pending_.exchange(base::wake_hint << 1 | 1, std::memory_order_release) == 0) HostFutexWake(pending_, 1);
}

bool Blocker::Wait(int64_t deadline_ns) {
  auto take = [this] {
    const uint32_t pending = pending_.exchange(0, std::memory_order_acquire);
    base::waker_hint = pending >> 1;
    return pending != 0;
  };
  for (;;) {
    if (take()) return true;
    if (!HostFutexWait(pending_, 0, deadline_ns)) return take();
  }
}

}  // namespace sentry
