// SPDX-License-Identifier: Apache-2.0
#include "sentry/kernel/ipc/shared_memory.h"

#include <stdio.h>
#include <sys/shm.h>

#include "sentry/mm/shm_object.h"

namespace sentry::ipc {

uint64_t Segment::InodeNumber() const { return static_cast<uint64_t>(id); }
void Segment::OnVmaAdded() { owner_->Attached(*this); }
void Segment::OnVmaRemoved() { owner_->Detached(*this); }

SharedMemoryLimits SharedMemory::limits() const {
  MutexLock lock(mu_);
  return limits_;
}

void SharedMemory::set_limits(const SharedMemoryLimits& limits) {
  MutexLock lock(mu_);
  limits_ = limits;
}

Result<int> SharedMemory::Get(key_t key, uint64_t size, int flags, uint64_t memory_limit, const Credentials& creds) {
  MutexLock lock(mu_);
  auto check = [&](const Segment& segment) -> Result<void> {
    if (segment.size() < size) return Errno(EINVAL);
    return OkResult();
  };
  auto make = [&]() ABSL_NO_THREAD_SAFETY_ANALYSIS -> Result<RefPtr<Segment>> {
    if (size < 1 || size > limits_.segment_bytes) return Errno(EINVAL);
    const uint64_t pages = size / kPageSize + (size % kPageSize != 0);
    if (pages > UINT64_MAX / kPageSize) return Errno(ENOSPC);
    if (pages > limits_.total_pages || pages_ > limits_.total_pages - pages) return Errno(ENOSPC);
    if (size > INT64_MAX) return Errno(EINVAL);
    const int page_shift = flags >> 26 & 0x3f;  // SHM_HUGE_SHIFT, SHM_HUGE_MASK; 0: the default
    if ((flags & SHM_HUGETLB) && page_shift != 0 && page_shift != 21 && page_shift != 30) return Errno(EINVAL);
    if (flags & SHM_HUGETLB) return Errno(creds.HasCapability(CAP_IPC_LOCK) ? ENOMEM : EPERM);
    if (size > platform::MemoryFile::kMaxSize || (!(flags & SHM_NORESERVE) && size > memory_limit))
      return Errno(ENOMEM);
    char name[32];
    snprintf(name, sizeof name, "/SYSV%08x (deleted)", static_cast<unsigned>(key));
    auto memory = TRY(mm::ShmObject::Create(memory_, pages * kPageSize, name));
    auto segment = MakeRef<Segment>(RefPtr<SharedMemory>(this), size, std::move(memory), name);
    segment->ctime_ = NowSeconds();
    segment->creator_ = PidStamp::OfCaller();
    return segment;
  };
  const size_t before = segments_.size();
  int id = TRY(segments_.Get(key, flags, limits_.segments, creds, check, make));
  if (segments_.size() > before) pages_ += PageUp(size) / kPageSize;
  return id;
}

Result<RefPtr<Segment>> SharedMemory::Pin(int id, uint32_t access, const Credentials& creds) {
  MutexLock lock(mu_);
  RefPtr<Segment> segment = TRY(segments_.Find(id));
  TRY(CheckAccess(segment->permissions, access, creds));
  ++segment->attached_;
  return segment;
}

void SharedMemory::Unpin(Segment& segment) {
  MutexLock lock(mu_);
  if (--segment.attached_ == 0 && (segment.permissions.mode & SHM_DEST)) RemoveLocked(segment);
}

// Under the lock of the address space.
void SharedMemory::Attached(Segment& segment) {
  MutexLock lock(mu_);
  ++segment.attached_;
  segment.atime_ = NowSeconds();
  segment.last_ = PidStamp::OfCaller();
}

void SharedMemory::Detached(Segment& segment) {
  MutexLock lock(mu_);
  segment.dtime_ = NowSeconds();
  segment.last_ = PidStamp::OfCaller();
  if (--segment.attached_ == 0 && (limits_.rmid_forced || (segment.permissions.mode & SHM_DEST))) RemoveLocked(segment);
}

// The memory goes with the last reference, which the caller has.
void SharedMemory::RemoveLocked(Segment& segment) {
  mu_.AssertHeld();
  if (segment.removed) return;
  pages_ -= PageUp(segment.size()) / kPageSize;
  segments_.Remove(segment);
}

SegmentStatus SharedMemory::StatusLocked(const Segment& segment) const {
  return {.permissions = segment.permissions,
          .id = segment.id,
          .size = segment.size(),
          .attached = segment.attached_,
          .atime = segment.atime_,
          .dtime = segment.dtime_,
          .ctime = segment.ctime_,
          .creator = segment.creator_.Seen(),
          .last = segment.last_.Seen()};
}

Result<SegmentStatus> SharedMemory::Status(int id, IdKind kind, bool check, const Credentials& creds) const {
  MutexLock lock(mu_);
  RefPtr<Segment> segment = TRY(segments_.Find(id, kind));
  if (check) TRY(CheckAccess(segment->permissions, 0444, creds));
  return StatusLocked(*segment);
}

Result<void> SharedMemory::SetOwner(int id, const OwnerChange& change, const Credentials& creds) {
  MutexLock lock(mu_);
  RefPtr<Segment> segment = TRY(segments_.Find(id));
  TRY(CheckOwner(segment->permissions, creds));
  TRY(ChangeOwner(segment->permissions, change));
  segment->ctime_ = NowSeconds();
  return OkResult();
}

Result<void> SharedMemory::Remove(int id, const Credentials& creds) {
  RefPtr<Segment> segment;  // outlives the lock
  MutexLock lock(mu_);
  segment = TRY(segments_.Find(id));
  TRY(CheckOwner(segment->permissions, creds));
  if (segment->attached_ == 0) {
    RemoveLocked(*segment);
    return OkResult();
  }
  segment->permissions.mode |= SHM_DEST;
  segments_.ForgetKey(*segment);
  return OkResult();
}

Result<void> SharedMemory::SetLocked(int id, bool locked, uint64_t memlock_limit, const Credentials& creds) {
  MutexLock lock(mu_);
  RefPtr<Segment> segment = TRY(segments_.Find(id));
  Permissions& permissions = segment->permissions;
  if (!creds.HasCapability(CAP_IPC_LOCK)) {
    if (creds.euid != permissions.uid && creds.euid != permissions.cuid) return Errno(EPERM);
    if (locked && memlock_limit == 0) return Errno(EPERM);
  }
  // Guest memory is never swapped by the sentry: the mark is all there is to it.
  if (locked) {
    permissions.mode |= SHM_LOCKED;
  } else {
    permissions.mode &= ~static_cast<uint32_t>(SHM_LOCKED);
  }
  return OkResult();
}

std::vector<SegmentStatus> SharedMemory::List() const {
  std::vector<SegmentStatus> list;
  std::vector<RefPtr<Segment>> segments;
  {
    MutexLock lock(mu_);
    for (const auto& [index, segment] : segments_.objects()) {
      list.push_back(StatusLocked(*segment));
      segments.push_back(segment);
    }
  }
  for (size_t i = 0; i < list.size(); ++i)
    list[i].resident = static_cast<const mm::ShmObject&>(*segments[i]->memory_).ResidentBytes();
  return list;
}

SharedMemory::Totals SharedMemory::GetTotals() const {
  uint64_t resident = 0;
  for (const SegmentStatus& status : List()) resident += status.resident;
  MutexLock lock(mu_);
  return {.segments = static_cast<int>(segments_.size()),
          .max_index = segments_.max_index(),
          .pages = pages_,
          .resident_pages = resident / kPageSize};
}

void SharedMemory::Shutdown() {
  std::vector<RefPtr<Segment>> segments;  // outlive the lock
  MutexLock lock(mu_);
  for (const auto& [index, segment] : segments_.objects()) segments.push_back(segment);
  for (const RefPtr<Segment>& segment : segments) RemoveLocked(*segment);
}

}  // namespace sentry::ipc
