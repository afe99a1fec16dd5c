// SPDX-License-Identifier: Apache-2.0
#include "sentry/syscalls/uring_queues.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace sentry::syscalls {
namespace {

// Where the words are; io_uring_params tells the guest. Each index has a cache line of its own.
enum Word : uint32_t {
  kSqHead = 0,
  kSqTail = 64,
  kCqHead = 128,
  kCqTail = 192,
  kSqMask = 256,
  kCqMask = 260,
  kSqEntries = 264,
  kCqEntries = 268,
  kSqDropped = 272,
  kSqFlags = 276,
  kCqFlags = 280,
  kCqOverflow = 284,
  kCqes = 320,
};

uint32_t CqeSize(const io_uring_params& p) { return p.flags & IORING_SETUP_CQE32 ? 32 : 16; }
uint32_t SqeSize(const io_uring_params& p) { return p.flags & IORING_SETUP_SQE128 ? 128 : 64; }
uint32_t ArrayOffset(const io_uring_params& p) { return kCqes + p.cq_entries * CqeSize(p); }

Result<void> ChooseSizes(uint32_t entries, io_uring_params* p) {
  const bool clamp = p->flags & IORING_SETUP_CLAMP;
  if (entries == 0) return Errno(EINVAL);
  if (entries > UringQueues::kMaxEntries) {
    if (!clamp) return Errno(EINVAL);
    entries = UringQueues::kMaxEntries;
  }
  p->sq_entries = std::bit_ceil(entries);
  if (!(p->flags & IORING_SETUP_CQSIZE)) {
    p->cq_entries = 2 * p->sq_entries;
    return OkResult();
  }
  if (p->cq_entries == 0) return Errno(EINVAL);
  if (p->cq_entries > 2 * UringQueues::kMaxEntries) {
    if (!clamp) return Errno(EINVAL);
    p->cq_entries = 2 * UringQueues::kMaxEntries;
  }
  p->cq_entries = std::bit_ceil(p->cq_entries);
  if (p->cq_entries < p->sq_entries) return Errno(EINVAL);
  return OkResult();
}

}  // namespace

Result<std::unique_ptr<UringQueues>> UringQueues::Create(uint32_t entries, io_uring_params* p) {
  TRY(ChooseSizes(entries, p));
  auto rings = TRY(RingMemory::Create(ArrayOffset(*p) + p->sq_entries * sizeof(uint32_t), "anon_inode:[io_uring]"));
  auto sqes = TRY(RingMemory::Create(uint64_t{p->sq_entries} * SqeSize(*p), "anon_inode:[io_uring]"));
  p->sq_off = {};
  p->sq_off.head = kSqHead;
  p->sq_off.tail = kSqTail;
  p->sq_off.ring_mask = kSqMask;
  p->sq_off.ring_entries = kSqEntries;
  p->sq_off.flags = kSqFlags;
  p->sq_off.dropped = kSqDropped;
  p->sq_off.array = ArrayOffset(*p);
  p->cq_off = {};
  p->cq_off.head = kCqHead;
  p->cq_off.tail = kCqTail;
  p->cq_off.ring_mask = kCqMask;
  p->cq_off.ring_entries = kCqEntries;
  p->cq_off.overflow = kCqOverflow;
  p->cq_off.cqes = kCqes;
  p->cq_off.flags = kCqFlags;
  rings->Store(kSqMask, p->sq_entries - 1);
  rings->Store(kCqMask, p->cq_entries - 1);
  rings->Store(kSqEntries, p->sq_entries);
  rings->Store(kCqEntries, p->cq_entries);
  return std::unique_ptr<UringQueues>(new UringQueues(std::move(rings), std::move(sqes), *p));
}

UringQueues::UringQueues(RefPtr<RingMemory> rings, RefPtr<RingMemory> sqes, const io_uring_params& p)
    : rings_(std::move(rings)),
      sqes_(std::move(sqes)),
      sq_entries_(p.sq_entries),
      cq_entries_(p.cq_entries),
      sqe_size_(SqeSize(p)),
      cqe_size_(CqeSize(p)),
      cqes_offset_(kCqes),
      array_offset_(ArrayOffset(p)) {}

uint32_t UringQueues::Submitted() const {
  MutexLock lock(mu_);
  return std::min(rings_->Load(kSqTail) - sq_head_, sq_entries_);
}

bool UringQueues::Take(io_uring_sqe* sqe) {
  MutexLock lock(mu_);
  if (rings_->Load(kSqTail) == sq_head_) return false;
  const uint32_t index = rings_->Load(array_offset_ + (sq_head_ & (sq_entries_ - 1)) * sizeof(uint32_t));
  ++sq_head_;
  const bool good = index < sq_entries_;
  if (good) sqes_->Read(uint64_t{index} * sqe_size_, sqe, sizeof *sqe);
  if (!good) rings_->Store(kSqDropped, ++dropped_);
  // The entry may be reused by the guest from here on.
  rings_->Store(kSqHead, sq_head_);
  return good;
}

uint32_t UringQueues::ReadyLocked() const { return std::min(cq_tail_ - rings_->Load(kCqHead), cq_entries_); }

uint32_t UringQueues::Ready() const {
  MutexLock lock(mu_);
  return ReadyLocked();
}

bool UringQueues::PutLocked(const Completion& c) {
  if (ReadyLocked() == cq_entries_) return false;
  const uint64_t at = cqes_offset_ + uint64_t{cq_tail_ & (cq_entries_ - 1)} * cqe_size_;
  rings_->Write(at, &c, cqe_size_);
  rings_->Store(kCqTail, ++cq_tail_);
  return true;
}

bool UringQueues::FlushLocked() {
  if (overflown_.empty()) return true;
  while (!overflown_.empty() && PutLocked(overflown_.front())) overflown_.pop_front();
  if (!overflown_.empty()) return false;
  rings_->Update(kSqFlags, 0, IORING_SQ_CQ_OVERFLOW);
  return true;
}

bool UringQueues::Flush() {
  MutexLock lock(mu_);
  return FlushLocked();
}

bool UringQueues::HasOverflown() const {
  MutexLock lock(mu_);
  return !overflown_.empty();
}

bool UringQueues::Post(uint64_t user_data, int32_t result, uint32_t flags, uint64_t extra1, uint64_t extra2) {
  const Completion completion = {user_data, result, flags, {extra1, extra2}};
  MutexLock lock(mu_);
  // In order: nothing overtakes what has overflown.
  if (overflown_.empty() && PutLocked(completion)) return true;
  if (overflown_.size() >= kMaxOverflow) {
    rings_->Store(kCqOverflow, ++overflow_);
    return false;
  }
  overflown_.push_back(completion);
  rings_->Update(kSqFlags, IORING_SQ_CQ_OVERFLOW, 0);
  return true;
}

void UringQueues::SetSqFlags(uint32_t set, uint32_t clear) { rings_->Update(kSqFlags, set, clear); }

bool UringQueues::EventfdDisabled() const { return rings_->Load(kCqFlags) & IORING_CQ_EVENTFD_DISABLED; }

}  // namespace sentry::syscalls
