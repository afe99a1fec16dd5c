// SPDX-License-Identifier: Apache-2.0
// Futexes with an owner (FUTEX_LOCK_PI and its kin). Waiters get the lock by their real-time priority, then in order;
// the owner is not boosted, for the host schedules.
#include <linux/futex.h>

#include "sentry/kernel/futex.h"
#include "sentry/kernel/futex_waiter.h"

namespace sentry::kernel {
namespace {

// A chain of owners that wait longer than this is taken for no deadlock (Linux's max_lock_depth).
constexpr int kMaxChain = 1024;

}  // namespace

FutexTable::Waiter* FutexTable::FirstPi(const mm::FutexKey& key, bool* more) {
  Bucket& bucket = BucketOf(key);
  MutexLock lock(bucket.mu);
  Waiter* first = nullptr;
  *more = false;
  for (Waiter* waiter = bucket.head; waiter; waiter = waiter->next) {
    if (!waiter->pi || !(waiter->key == key)) continue;
    if (first) *more = true;
    if (!first || waiter->priority > first->priority) first = waiter;
  }
  return first;
}

FutexTable::Waiter* FutexTable::FirstRequeue(const mm::FutexKey& key, bool* plain) {
  Bucket& bucket = BucketOf(key);
  MutexLock lock(bucket.mu);
  Waiter* first = nullptr;
  for (Waiter* waiter = bucket.head; waiter; waiter = waiter->next) {
    if (!(waiter->key == key)) continue;
    if (!waiter->requeue_pi) *plain = true;
    if (waiter->requeue_pi && (!first || waiter->priority > first->priority)) first = waiter;
  }
  return first;
}

bool FutexTable::WouldDeadlock(uint64_t self, uint64_t owner) {
  if (pi_waiters_.load() == 0) return false;
  for (int depth = 0; depth < kMaxChain; ++depth) {
    uint64_t next = 0;
    for (Bucket& bucket : buckets_) {
      MutexLock lock(bucket.mu);
      for (Waiter* waiter = bucket.head; waiter && !next; waiter = waiter->next) {
        if (waiter->pi && waiter->self == owner) next = waiter->owner;
      }
      if (next) break;
    }
    if (next == 0) return false;
    if (next == self) return true;
    owner = next;
  }
  return false;
}

Result<void> FutexTable::HandOver(Waiter& first, bool owner_died) {
  bool more;
  mm::FutexKey key = first.key;
  (void)FirstPi(key, &more);
  uint32_t desired = first.tid | (more ? kWaiters : 0) | (owner_died ? kOwnerDied : 0);
  uint32_t old = TRY(first.memory->Load(first.address));
  for (;;) {
    uint32_t seen = TRY(first.memory->CompareExchange(first.address, old, desired));
    if (seen == old) break;
    old = seen;
  }
  uint64_t owner = first.self;
  Bucket& bucket = BucketOf(key);
  MutexLock lock(bucket.mu);
  WakeLocked(bucket, first);
  for (Waiter* waiter = bucket.head; waiter; waiter = waiter->next) {
    if (waiter->pi && waiter->key == key) waiter->owner = owner;
  }
  return {};
}

Result<uint64_t> FutexTable::TakeOrMark(FutexMemory& memory, const PiRequest& request, const mm::FutexKey& key,
                                        bool try_only, bool mark_waiters) {
  uint32_t word = TRY(memory.Load(request.address));
  for (;;) {
    uint32_t owner = word & kTidMask;
    if (owner == request.self_tid) return Errno(EDEADLK);
    uint64_t owner_identity = owner ? request.resolve(owner) : 0;
    bool free = owner == 0 || owner_identity == kDying;
    uint32_t desired;
    if (free) {
      bool more;
      bool waiters = FirstPi(key, &more) != nullptr || mark_waiters;
      desired = request.self_tid | (word & kOwnerDied) | (owner ? kOwnerDied : 0) | (waiters ? kWaiters : 0);
    } else if (try_only) {
      return Errno(EAGAIN);
    } else {
      if (owner_identity == 0) return Errno(ESRCH);
      if (WouldDeadlock(request.self, owner_identity)) return Errno(EDEADLK);
      desired = word | kWaiters;
    }
    uint32_t seen = desired == word ? word : TRY(memory.CompareExchange(request.address, word, desired));
    if (seen == word) return free ? 0 : owner_identity;
    word = seen;
  }
}

void FutexTable::RecheckOwner(FutexMemory& memory, const PiRequest& request, Waiter& waiter) {
  Result<uint32_t> word = memory.Load(request.address);
  if (word.ok() && request.resolve(*word & kTidMask) != waiter.owner) (void)HandOver(waiter, true);
}

Result<void> FutexTable::LockPi(Caller& caller, FutexMemory& memory, const PiRequest& request, bool try_only,
                                int64_t deadline_ns) {
  mm::FutexKey key = TRY(memory.Key(request.address, request.shared));
  Waiter waiter(caller.blocker());
  {
    MutexLock lock(pi_mu_);
    waiter.owner = TRY(TakeOrMark(memory, request, key, try_only, false));
    if (waiter.owner == 0) return {};
    waiter.pi = true;
    waiter.tid = request.self_tid;
    waiter.priority = request.priority;
    waiter.self = request.self;
    waiter.memory = &memory;
    waiter.address = request.address;
    pi_waiters_.fetch_add(1);
    Enqueue(waiter, key);
    // An owner that exited before it could see this waiter does not hand over.
    RecheckOwner(memory, request, waiter);
  }
  Result<void> blocked;
  while (blocked.ok() && !waiter.woken.load(std::memory_order_acquire)) blocked = caller.Block(deadline_ns);
  MutexLock lock(pi_mu_);
  pi_waiters_.fetch_sub(1);
  if (Remove(waiter)) return {};
  return blocked.error() == base::kErestartsys ? base::kErestartnointr : blocked.error();
}

Result<void> FutexTable::UnlockPi(FutexMemory& memory, const PiRequest& request) {
  mm::FutexKey key = TRY(memory.Key(request.address, request.shared));
  MutexLock lock(pi_mu_);
  uint32_t word = TRY(memory.Load(request.address));
  if ((word & kTidMask) != request.self_tid) return Errno(EPERM);
  bool more;
  if (Waiter* first = FirstPi(key, &more)) return HandOver(*first, false);
  for (;;) {
    uint32_t seen = TRY(memory.CompareExchange(request.address, word, 0));
    if (seen == word) return {};
    word = seen;
  }
}

Result<void> FutexTable::WaitRequeuePi(Caller& caller, FutexMemory& memory, const WaitOn& on, const PiRequest& request,
                                       uint32_t bitset, int64_t deadline_ns) {
  if (on.address == request.address) return Errno(EINVAL);
  mm::FutexKey key = TRY(memory.Key(on.address, on.shared));
  Waiter waiter(caller.blocker());
  waiter.pi_key = TRY(memory.Key(request.address, request.shared));
  if (waiter.pi_key == key) return Errno(EINVAL);
  waiter.bitset = bitset;
  waiter.requeue_pi = true;
  waiter.tid = request.self_tid;
  waiter.priority = request.priority;
  waiter.self = request.self;
  waiter.memory = &memory;
  waiter.address = request.address;
  Enqueue(waiter, key);
  Result<void> blocked;
  Result<uint32_t> word = memory.Load(on.address);
  if (!word.ok() || *word != on.value) {
    blocked = word.ok() ? Errno(EAGAIN) : word.error();
  }
  while (blocked.ok() && !waiter.woken.load(std::memory_order_acquire)) blocked = caller.Block(deadline_ns);
  MutexLock lock(pi_mu_);
  const bool moved = waiter.pi;
  if (moved) pi_waiters_.fetch_sub(1);
  // Woken means that it owns the lock: nobody else wakes such a waiter.
  if (Remove(waiter)) return {};
  if (blocked.error() != base::kErestartsys) return blocked;
  // Once moved, the call cannot begin again: the caller's own lock is long given up.
  return moved ? Errno(EAGAIN) : base::kErestartnointr;
}

Result<int> FutexTable::RequeuePi(FutexMemory& memory, const WaitOn& from, const PiRequest& to, int wake, int move) {
  if (wake < 0 || move < 0 || wake != 1 || from.address == to.address) return Errno(EINVAL);
  mm::FutexKey from_key = TRY(memory.Key(from.address, from.shared));
  mm::FutexKey to_key = TRY(memory.Key(to.address, to.shared));
  if (from_key == to_key) return Errno(EINVAL);
  MutexLock lock(pi_mu_);
  if (TRY(memory.Load(from.address)) != from.value) return Errno(EAGAIN);
  int done = 0;
  while (done - wake < move) {
    bool plain = false;
    Waiter* first = FirstRequeue(from_key, &plain);
    // Waiters of another kind, or for another lock, are the program's mistake.
    if (plain || (first && !(first->pi_key == to_key))) return Errno(EINVAL);
    if (!first) break;
    PiRequest request = to;
    request.self_tid = first->tid;
    request.self = first->self;
    Result<uint64_t> owner = TakeOrMark(memory, request, to_key, false, move > 0);
    if (!owner.ok()) {
      if (done > 0) return done;
      return owner.error();
    }
    Bucket& source = BucketOf(from_key);
    Bucket& target = BucketOf(to_key);
    if (*owner == 0) {
      MutexLock bucket_lock(source.mu);
      WakeLocked(source, *first);
    } else {
      {
        base::LockPair buckets(source.mu, target.mu);
        source.Unlink(*first);
        first->requeue_pi = false;
        first->pi = true;
        first->owner = *owner;
        first->key = to_key;
        first->sequence = next_sequence_.fetch_add(1, std::memory_order_relaxed);
        first->bucket.store(&target, std::memory_order_release);
        target.PushBack(*first);
      }
      pi_waiters_.fetch_add(1);
      RecheckOwner(memory, request, *first);
    }
    ++done;
  }
  return done;
}

void FutexTable::OwnerExited(uint64_t self) {
  if (pi_waiters_.load() == 0) return;
  MutexLock lock(pi_mu_);
  for (Bucket& bucket : buckets_) {
    for (;;) {
      Waiter* first = nullptr;
      {
        MutexLock bucket_lock(bucket.mu);
        for (first = bucket.head; first && !(first->pi && first->owner == self); first = first->next) {
        }
      }
      if (!first) break;
      bool more;
      first = FirstPi(mm::FutexKey(first->key), &more);
      // A futex word that can't be written leaves its waiter to its time-out; it must not be found again.
      if (!HandOver(*first, true).ok()) {
        MutexLock bucket_lock(bucket.mu);
        for (Waiter* each = bucket.head; each; each = each->next) {
          if (each->pi && each->key == first->key) each->owner = 0;
        }
      }
    }
  }
}

}  // namespace sentry::kernel
