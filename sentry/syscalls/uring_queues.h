// SPDX-License-Identifier: Apache-2.0
// UringQueues: the memory of an io_uring that a guest maps: submission ring, completion ring, submission entries. The
// sentry keeps its own copies of the indices that it owns (SQ head, CQ tail), so a guest that scribbles over them only
// confuses itself; the others are read once and bounded. Thread-safe.
#ifndef SENTRY_SYSCALLS_URING_QUEUES_H_
#define SENTRY_SYSCALLS_URING_QUEUES_H_

#include <linux/io_uring.h>

#include <deque>
#include <memory>

#include "sentry/syscalls/ring_memory.h"

namespace sentry::syscalls {

class UringQueues {
 public:
  static constexpr uint32_t kMaxEntries = 32768;       // IORING_MAX_ENTRIES
  static constexpr size_t kMaxOverflow = kMaxEntries;  // completions kept for a guest that doesn't reap

  // Sizes and offsets are filled into `params`, whose flags were checked. EINVAL, ENOMEM.
  static Result<std::unique_ptr<UringQueues>> Create(uint32_t entries, io_uring_params* params);

  const RefPtr<RingMemory>& rings() const { return rings_; }
  const RefPtr<RingMemory>& sqes() const { return sqes_; }
  uint32_t sq_entries() const { return sq_entries_; }
  uint32_t cq_entries() const { return cq_entries_; }

  // Entries that the guest has queued, at most all of them.
  uint32_t Submitted() const;
  bool SqFull() const { return Submitted() == sq_entries_; }
  // Takes the next one; false: none, or its index was bad (it is dropped and counted).
  bool Take(io_uring_sqe* sqe);

  // Adds a completion: to the ring, or to the overflow list, in order. False: dropped, the list is full too.
  bool Post(uint64_t user_data, int32_t result, uint32_t flags, uint64_t extra1 = 0, uint64_t extra2 = 0);
  // Moves what has overflown to the ring, as far as there is room. True: nothing is left.
  bool Flush();
  // Completions that the guest hasn't taken.
  uint32_t Ready() const;
  bool HasOverflown() const;

  void SetSqFlags(uint32_t set, uint32_t clear);
  bool EventfdDisabled() const;

 private:
  struct Completion {
    uint64_t user_data;
    int32_t result;
    uint32_t flags;
    uint64_t extra[2];
  };
  UringQueues(RefPtr<RingMemory> rings, RefPtr<RingMemory> sqes, const io_uring_params& params);
  bool PutLocked(const Completion& completion) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  uint32_t ReadyLocked() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  bool FlushLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const RefPtr<RingMemory> rings_, sqes_;
  const uint32_t sq_entries_, cq_entries_, sqe_size_, cqe_size_, cqes_offset_, array_offset_;
  mutable Mutex mu_{LockRank::kLeaf};
  uint32_t sq_head_ ABSL_GUARDED_BY(mu_) = 0, cq_tail_ ABSL_GUARDED_BY(mu_) = 0;
  uint32_t dropped_ ABSL_GUARDED_BY(mu_) = 0, overflow_ ABSL_GUARDED_BY(mu_) = 0;
  std::deque<Completion> overflown_ ABSL_GUARDED_BY(mu_);
};

}  // namespace sentry::syscalls

#endif  // SENTRY_SYSCALLS_URING_QUEUES_H_
