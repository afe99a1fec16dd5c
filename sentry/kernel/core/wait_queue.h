// SPDX-License-Identifier: Apache-2.0
// Event queues. A file, a socket, a futex bucket, a thread group… owns a WaitQueue and notifies it; a waiter adds a
// WaitEntry, checks its condition, and sleeps in Caller::Block. Order of use, which loses no wake-up:
//
//   BlockerEntry entry(caller.blocker());  queue.Add(entry, EPOLLIN);   (removed by its destructor)
//   for (;;) { if (condition) break; TRY(caller.Block(deadline)); }
//
// Thread-safe. Callbacks run under the queue's lock: they may only wake a Blocker or notify another WaitQueue
// (epoll in epoll nests by LockNested; its depth is bounded by EPOLL_CTL_ADD).
#ifndef SENTRY_KERNEL_CORE_WAIT_QUEUE_H_
#define SENTRY_KERNEL_CORE_WAIT_QUEUE_H_

#include <sys/epoll.h>

#include <atomic>
#include <cstdint>

#include "sentry/common.h"

namespace sentry {

// EPOLLIN, EPOLLOUT, EPOLLPRI, EPOLLERR, EPOLLHUP, EPOLLRDHUP, EPOLLRDNORM, ...
using EventMask = uint32_t;
inline constexpr EventMask kEventIn = EPOLLIN | EPOLLRDNORM;
inline constexpr EventMask kEventOut = EPOLLOUT | EPOLLWRNORM;
inline constexpr EventMask kAllEvents = ~0u;

class WaitQueue;

// Entries are called in the order in which they were added. An exclusive one stands for a waiter that takes what there
// is for itself: of those NotifyOne calls just one, the first that is armed, which is then no longer armed.
class WaitEntry {
 public:
  WaitEntry() = default;
  WaitEntry(const WaitEntry&) = delete;
  WaitEntry& operator=(const WaitEntry&) = delete;
  // Removes itself from its queue, which must still live.
  virtual ~WaitEntry();
  virtual void OnEvent(EventMask events) = 0;
  WaitQueue* queue() const { return queue_; }
  // (Exclusive entries.) Before each check of the condition that may be followed by sleeping.
  void Arm() { armed_.store(true, std::memory_order_seq_cst); }

 private:
  friend class WaitQueue;
  std::atomic<bool> armed_{false};
  bool exclusive_ = false;
  WaitQueue* queue_ = nullptr;
  WaitEntry* next_ = nullptr;
  WaitEntry* previous_ = nullptr;
  EventMask mask_ = 0;
};

class WaitQueue {
 public:
  WaitQueue() = default;
  ~WaitQueue();
  WaitQueue(const WaitQueue&) = delete;
  WaitQueue& operator=(const WaitQueue&) = delete;

  // `entry` must be in no queue. EPOLLERR and EPOLLHUP are always of interest.
  void Add(WaitEntry& entry, EventMask mask, bool exclusive = false);
  void Remove(WaitEntry& entry);
  // Calls every entry interested in any of `events`.
  void Notify(EventMask events) { Call(events, false); }
  // The same, but of the exclusive entries one.
  void NotifyOne(EventMask events) { Call(events, true); }
  bool Empty() const { return head_.load(std::memory_order_acquire) == nullptr; }

 private:
  void Call(EventMask events, bool one_exclusive);
  mutable Mutex mu_{LockRank::kWaitQueue};
  std::atomic<WaitEntry*> head_{nullptr};
  WaitEntry* tail_ ABSL_GUARDED_BY(mu_) = nullptr;
};

// One sleeping place per sentry thread: a counter that Wake increments.
class Blocker {
 public:
  void Wake();
  // Clears the pending wake-up.
  void Clear() { pending_.store(0, std::memory_order_relaxed); }
  // Sleeps until Wake (true; consumes it) or `deadline_ns` of CLOCK_MONOTONIC (false).
  bool Wait(int64_t deadline_ns);

 private:
  std::atomic<uint32_t> pending_{0};
};

class BlockerEntry final : public WaitEntry {
 public:
  explicit BlockerEntry(Blocker& blocker) : blocker_(blocker) {}
  // Here and not in the base: a notifier must not meet an entry whose OnEvent is gone already. So in every derived
  // class.
  ~BlockerEntry() override {
    if (queue()) queue()->Remove(*this);
  }
  void OnEvent(EventMask) override { blocker_.Wake(); }

 private:
  Blocker& blocker_;
};

}  // namespace sentry

#endif  // SENTRY_KERNEL_CORE_WAIT_QUEUE_H_
