// SPDX-License-Identifier: Apache-2.0
// futex(2): waiters hashed by key. The word is read after the waiter was queued, so no bucket lock is held over guest
// memory and a wake-up between the two is seen as one. Thread-safe.
//
// Lock order: pi_mu_ (kFutexPi; PI operations only, held across the word's access) → mm → bucket (kFutex; two by
// LockPair).
#ifndef SENTRY_KERNEL_FUTEX_H_
#define SENTRY_KERNEL_FUTEX_H_

#include <array>
#include <atomic>
#include <functional>
#include <optional>
#include <span>

#include "sentry/common.h"
#include "sentry/kernel/core/caller.h"
#include "sentry/mm/memory_manager.h"

namespace sentry::kernel {

class Task;

// The guest memory that futex words are in.
class FutexMemory {
 public:
  virtual Result<uint32_t> Load(UserAddr address) = 0;
  // The old value; `desired` is stored iff it equalled `expected`.
  virtual Result<uint32_t> CompareExchange(UserAddr address, uint32_t expected, uint32_t desired) = 0;
  virtual Result<mm::FutexKey> Key(UserAddr address, bool shared) = 0;

 protected:
  ~FutexMemory() = default;
};

class MmFutexMemory final : public FutexMemory {
 public:
  explicit MmFutexMemory(mm::MemoryManager& mm) : mm_(mm) {}
  Result<uint32_t> Load(UserAddr address) override { return mm_.Load32(address); }
  Result<uint32_t> CompareExchange(UserAddr address, uint32_t expected, uint32_t desired) override {
    return mm_.CompareExchange32(address, expected, desired);
  }
  Result<mm::FutexKey> Key(UserAddr address, bool shared) override { return mm_.GetFutexKey(address, shared); }

 private:
  mm::MemoryManager& mm_;
};

class FutexTable {
 public:
  static FutexTable& Get();

  struct WaitOn {
    UserAddr address;
    bool shared = false;
    uint32_t value = 0;
  };
  // EAGAIN: the word differs. ETIMEDOUT at the absolute CLOCK_MONOTONIC deadline. kErestartsys when interrupted.
  Result<void> Wait(Caller& caller, FutexMemory& memory, const WaitOn& on, uint32_t bitset, int64_t deadline_ns);
  // futex_waitv: the index of one that was woken.
  Result<int> WaitMany(Caller& caller, FutexMemory& memory, std::span<const WaitOn> on, int64_t deadline_ns);
  Result<int> Wake(FutexMemory& memory, UserAddr address, bool shared, int count, uint32_t bitset = ~0u);
  // Wakes `wake` and moves `move` waiters; with `expected`, EAGAIN when the word differs. The number woken and moved.
  Result<int> Requeue(FutexMemory& memory, UserAddr from, UserAddr to, bool shared, int wake, int move,
                      std::optional<uint32_t> expected);
  // FUTEX_WAKE_OP. ENOSYS for an unknown operation.
  Result<int> WakeOp(FutexMemory& memory, UserAddr first, UserAddr second, bool shared, int wake_first, int wake_second,
                     uint32_t operation);

  // FUTEX_LOCK_PI and so on. `self_tid` is what the guest writes,
  // `self` an identity of the task; `resolve` gives the identity of the task with an id, 0 when there is none, kDying
  // when it runs no guest code any more: its lock is free for the taking.
  static constexpr uint64_t kDying = ~uint64_t{0};
  struct PiRequest {
    UserAddr address;
    bool shared = false;
    uint32_t self_tid = 0;
    uint64_t self = 0;
    int priority = 0;  // of its real-time policy; 0: none. The highest gets the lock first
    std::function<uint64_t(uint32_t)> resolve;
  };
  // EDEADLK, ESRCH (the owner is gone), ETIMEDOUT, kErestartnointr; EAGAIN for a failed `try_only`.
  Result<void> LockPi(Caller& caller, FutexMemory& memory, const PiRequest& request, bool try_only,
                      int64_t deadline_ns);
  Result<void> UnlockPi(FutexMemory& memory, const PiRequest& request);  // EPERM
  // FUTEX_WAIT_REQUEUE_PI: waits at `on` to be moved to the lock of `request`; ok: it is the owner. EAGAIN, ETIMEDOUT,
  // EINVAL, kErestartnointr.
  Result<void> WaitRequeuePi(Caller& caller, FutexMemory& memory, const WaitOn& on, const PiRequest& request,
                             uint32_t bitset, int64_t deadline_ns);
  // FUTEX_CMP_REQUEUE_PI: the number of waiters that got the lock of `to` (whose self is nobody) or wait for it now.
  Result<int> RequeuePi(FutexMemory& memory, const WaitOn& from, const PiRequest& to, int wake, int move);
  // Gives the PI futexes of an exiting task to their first waiters, marked OWNER_DIED.
  void OwnerExited(uint64_t self);

  static constexpr uint32_t kWaiters = 0x80000000, kOwnerDied = 0x40000000, kTidMask = 0x3fffffff;

 private:
  struct Waiter;
  struct Bucket {
    Mutex mu{LockRank::kFutex};
    Waiter* head ABSL_GUARDED_BY(mu) = nullptr;
    Waiter* tail ABSL_GUARDED_BY(mu) = nullptr;
    void PushBack(Waiter& waiter) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
    void Unlink(Waiter& waiter) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  };
  static constexpr size_t kBuckets = 256;

  Bucket& BucketOf(const mm::FutexKey& key);
  void Enqueue(Waiter& waiter, const mm::FutexKey& key);
  // Leaves its bucket; true when it had been woken. Afterwards nothing refers to it.
  bool Remove(Waiter& waiter);
  static void WakeLocked(Bucket& bucket, Waiter& waiter) ABSL_EXCLUSIVE_LOCKS_REQUIRED(bucket.mu);
  Result<int> WakeKey(const mm::FutexKey& key, int count, uint32_t bitset);
  // Hands the futex of `waiter`, the first of its key, over to it. The word loses its owner for the waiter's id.
  Result<void> HandOver(Waiter& first, bool owner_died) ABSL_EXCLUSIVE_LOCKS_REQUIRED(pi_mu_);
  Waiter* FirstPi(const mm::FutexKey& key, bool* more) ABSL_EXCLUSIVE_LOCKS_REQUIRED(pi_mu_);
  // `plain`: others than FUTEX_WAIT_REQUEUE_PI's wait there as well.
  Waiter* FirstRequeue(const mm::FutexKey& key, bool* plain) ABSL_EXCLUSIVE_LOCKS_REQUIRED(pi_mu_);
  // Makes the request's task the owner (0), or marks the word for waiters and gives the owner's identity.
  Result<uint64_t> TakeOrMark(FutexMemory& memory, const PiRequest& request, const mm::FutexKey& key, bool try_only,
                              bool mark_waiters) ABSL_EXCLUSIVE_LOCKS_REQUIRED(pi_mu_);
  // `self` would wait for `owner`, who waits for `self`, perhaps over others.
  bool WouldDeadlock(uint64_t self, uint64_t owner) ABSL_EXCLUSIVE_LOCKS_REQUIRED(pi_mu_);
  void RecheckOwner(FutexMemory& memory, const PiRequest& request, Waiter& waiter)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(pi_mu_);

  std::array<Bucket, kBuckets> buckets_;
  std::atomic<uint64_t> next_sequence_{1};
  Mutex pi_mu_{LockRank::kFutexPi};
  std::atomic<int> pi_waiters_{0};
};

// At exit and exec of the calling task: walks its robust list (get_robust_list(2)), then releases its PI futexes.
void ExitFutexes(Task& task);
// PiRequest::resolve for ids in the task's namespace.
uint64_t FutexOwner(Task& task, uint32_t tid);
// Stores 0 at the task's clear_child_tid address and wakes one waiter there (set_tid_address(2)). By the task itself,
// with its mm.
void ClearChildTid(Task& task);

}  // namespace sentry::kernel

#endif  // SENTRY_KERNEL_FUTEX_H_
