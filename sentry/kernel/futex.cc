// SPDX-License-Identifier: Apache-2.0
#include "sentry/kernel/futex.h"

#include <linux/futex.h>

#include <algorithm>
#include <deque>

#include "sentry/kernel/futex_waiter.h"

namespace sentry::kernel {

void FutexTable::Bucket::PushBack(Waiter& waiter) {
  waiter.next = nullptr;
  waiter.previous = tail;
  (tail ? tail->next : head) = &waiter;
  tail = &waiter;
}

void FutexTable::Bucket::Unlink(Waiter& waiter) {
  (waiter.previous ? waiter.previous->next : head) = waiter.next;
  (waiter.next ? waiter.next->previous : tail) = waiter.previous;
}

FutexTable& FutexTable::Get() {
  static FutexTable* const table = new FutexTable;
  return *table;
}

FutexTable::Bucket& FutexTable::BucketOf(const mm::FutexKey& key) {
  uint64_t hash =
      (reinterpret_cast<uint64_t>(key.object) >> 4) * 0x9e3779b97f4a7c15 + (key.offset >> 2) * 0xc2b2ae3d27d4eb4f;
  return buckets_[(hash >> 40) % kBuckets];
}

void FutexTable::Enqueue(Waiter& waiter, const mm::FutexKey& key) {
  Bucket& bucket = BucketOf(key);
  MutexLock lock(bucket.mu);
  waiter.key = key;
  waiter.sequence = next_sequence_.fetch_add(1, std::memory_order_relaxed);
  waiter.bucket.store(&bucket, std::memory_order_relaxed);
  bucket.PushBack(waiter);
}

bool FutexTable::Remove(Waiter& waiter) {
  for (;;) {
    Bucket* bucket = waiter.bucket.load(std::memory_order_acquire);
    if (!bucket) return waiter.woken.load(std::memory_order_acquire);
    MutexLock lock(bucket->mu);
    if (waiter.bucket.load(std::memory_order_relaxed) != bucket) continue;  // requeued or woken meanwhile
    bucket->Unlink(waiter);
    waiter.bucket.store(nullptr, std::memory_order_relaxed);
    return false;
  }
}

void FutexTable::WakeLocked(Bucket& bucket, Waiter& waiter) {
  bucket.Unlink(waiter);
  waiter.woken.store(true, std::memory_order_release);
  waiter.blocker.Wake();
  waiter.bucket.store(nullptr, std::memory_order_release);  // the waiter may be gone from here on
}

Result<void> FutexTable::Wait(Caller& caller, FutexMemory& memory, const WaitOn& on, uint32_t bitset,
                              int64_t deadline_ns) {
  mm::FutexKey key = TRY(memory.Key(on.address, on.shared));
  Waiter waiter(caller.blocker());
  waiter.bitset = bitset;
  Enqueue(waiter, key);
  Result<uint32_t> word = memory.Load(on.address);
  if (!word.ok() || *word != on.value) {
    if (Remove(waiter)) return {};
    return word.ok() ? Errno(EAGAIN) : word.error();
  }
  Result<void> blocked;
  while (blocked.ok() && !waiter.woken.load(std::memory_order_acquire)) blocked = caller.Block(deadline_ns);
  if (Remove(waiter)) return {};
  return blocked;
}

Result<int> FutexTable::WaitMany(Caller& caller, FutexMemory& memory, std::span<const WaitOn> on, int64_t deadline_ns) {
  std::deque<Waiter> waiters;
  Result<void> outcome;
  for (const WaitOn& each : on) {
    Result<mm::FutexKey> key = memory.Key(each.address, each.shared);
    if (!key.ok()) {
      outcome = key.error();
      break;
    }
    waiters.emplace_back(caller.blocker());
    Enqueue(waiters.back(), *key);
    Result<uint32_t> word = memory.Load(each.address);
    if (!word.ok() || *word != each.value) {
      outcome = word.ok() ? Errno(EAGAIN) : word.error();
      break;
    }
  }
  auto any_woken = [&] {
    return std::any_of(waiters.begin(), waiters.end(),
                       [](const Waiter& w) { return w.woken.load(std::memory_order_acquire); });
  };
  while (outcome.ok() && !any_woken()) outcome = caller.Block(deadline_ns);
  int index = -1;
  for (size_t i = 0; i < waiters.size(); ++i) {
    if (Remove(waiters[i])) index = static_cast<int>(i);
  }
  if (index >= 0) return index;
  return outcome.error();
}

Result<int> FutexTable::WakeKey(const mm::FutexKey& key, int count, uint32_t bitset) {
  Bucket& bucket = BucketOf(key);
  MutexLock lock(bucket.mu);
  int woken = 0;
  for (Waiter* waiter = bucket.head; waiter && woken < count;) {
    Waiter* next = waiter->next;
    if (waiter->key == key && (waiter->bitset & bitset)) {
      if (waiter->pi || waiter->requeue_pi) return Errno(EINVAL);
      WakeLocked(bucket, *waiter);
      ++woken;
    }
    waiter = next;
  }
  return woken;
}

Result<int> FutexTable::Wake(FutexMemory& memory, UserAddr address, bool shared, int count, uint32_t bitset) {
  // Linux wakes one for any count below one.
  return WakeKey(TRY(memory.Key(address, shared)), std::max(count, 1), bitset);
}

Result<int> FutexTable::Requeue(FutexMemory& memory, UserAddr from, UserAddr to, bool shared, int wake, int move,
                                std::optional<uint32_t> expected) {
  if (wake < 0 || move < 0) return Errno(EINVAL);
  mm::FutexKey from_key = TRY(memory.Key(from, shared));
  mm::FutexKey to_key = TRY(memory.Key(to, shared));
  // Those who queue after the comparison have seen a newer word: they are not concerned.
  uint64_t limit = next_sequence_.load(std::memory_order_relaxed);
  if (expected && TRY(memory.Load(from)) != *expected) return Errno(EAGAIN);
  Bucket& source = BucketOf(from_key);
  Bucket& target = BucketOf(to_key);
  base::LockPair lock(source.mu, target.mu);
  int woken = 0, moved = 0;
  for (Waiter* waiter = source.head; waiter && (woken < wake || moved < move);) {
    Waiter* next = waiter->next;
    if (waiter->key == from_key && waiter->sequence < limit) {
      if (waiter->pi || waiter->requeue_pi) return Errno(EINVAL);
      if (woken < wake) {
        WakeLocked(source, *waiter);
        ++woken;
      } else {
        source.Unlink(*waiter);
        waiter->key = to_key;
        waiter->sequence = next_sequence_.fetch_add(1, std::memory_order_relaxed);
        waiter->bucket.store(&target, std::memory_order_release);
        target.PushBack(*waiter);
        ++moved;
      }
    }
    waiter = next;
  }
  return woken + moved;
}

Result<int> FutexTable::WakeOp(FutexMemory& memory, UserAddr first, UserAddr second, bool shared, int wake_first,
                               int wake_second, uint32_t operation) {
  uint32_t op = (operation >> 28) & 7;
  uint32_t comparison = (operation >> 24) & 15;
  int32_t argument = static_cast<int32_t>(operation << 8) >> 20;
  int32_t compared_to = static_cast<int32_t>(operation << 20) >> 20;
  if (operation & (uint32_t{FUTEX_OP_OPARG_SHIFT} << 28)) argument = static_cast<int32_t>(1u << (argument & 31));
  if (op > FUTEX_OP_XOR || comparison > FUTEX_OP_CMP_GE) return Errno(ENOSYS);
  mm::FutexKey first_key = TRY(memory.Key(first, shared));
  mm::FutexKey second_key = TRY(memory.Key(second, shared));
  uint32_t old = TRY(memory.Load(second));
  for (;;) {
    uint32_t desired = 0;
    uint32_t value = static_cast<uint32_t>(argument);
    switch (op) {
      case FUTEX_OP_SET:
        desired = value;
        break;
      case FUTEX_OP_ADD:
        desired = old + value;
        break;
      case FUTEX_OP_OR:
        desired = old | value;
        break;
      case FUTEX_OP_ANDN:
        desired = old & ~value;
        break;
      case FUTEX_OP_XOR:
        desired = old ^ value;
        break;
    }
    uint32_t seen = TRY(memory.CompareExchange(second, old, desired));
    if (seen == old) break;
    old = seen;
  }
  int woken = TRY(WakeKey(first_key, std::max(wake_first, 1), ~0u));
  int32_t was = static_cast<int32_t>(old);
  bool holds = comparison == FUTEX_OP_CMP_EQ   ? was == compared_to
               : comparison == FUTEX_OP_CMP_NE ? was != compared_to
               : comparison == FUTEX_OP_CMP_LT ? was < compared_to
               : comparison == FUTEX_OP_CMP_LE ? was <= compared_to
               : comparison == FUTEX_OP_CMP_GT ? was > compared_to
                                               : was >= compared_to;
  if (holds) woken += TRY(WakeKey(second_key, std::max(wake_second, 1), ~0u));
  return woken;
}

}  // namespace sentry::kernel
