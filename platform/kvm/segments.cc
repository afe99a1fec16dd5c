// SPDX-License-Identifier: Apache-2.0
#include "platform/kvm/segments.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <utility>

#include "platform/kvm/page_tables.h"

namespace platform::kvm {
namespace {

// A slot costs the host 8 bytes per page and up to a millisecond; small files don't need a large one.
constexpr uint64_t kLargeWindow = uint64_t{256} << 20;
constexpr uint64_t kSmallWindow = uint64_t{4} << 20;
constexpr uint64_t kFirstGpa = Arena::kGuestPhysical + Arena::kSize;
constexpr uint32_t kFirstSlot = 1 + Arena::kSize / Arena::kSlotSize;
// Of guest memory, kept without a user so that the next process needs no new slot.
constexpr size_t kMaxIdle = 8;

}  // namespace

Segments::~Segments() {
  base::MutexLock lock(mu_);
  for (auto& [key, segment] : segments_) munmap(segment->host, segment->length);
}

base::Result<Segment*> Segments::Acquire(int fd, uint64_t offset, bool write) {
  struct stat status;
  if (fstat(fd, &status) != 0) return base::Errno::Last();
  const int flags = fcntl(fd, F_GETFL);
  if (flags < 0) return base::Errno::Last();
  const int mode = flags & O_ACCMODE;
  if (mode == O_WRONLY || (write && mode != O_RDWR)) return base::Errno(EACCES);
  const bool large = static_cast<uint64_t>(status.st_size) >= kLargeWindow;
  const uint64_t window = large ? kLargeWindow : kSmallWindow;
  const uint64_t start = offset & ~(window - 1);
  const bool named = status.st_nlink != 0;
  Segment::Key key = {status.st_dev,
                      status.st_ino,
                      named ? status.st_ctim.tv_sec : 0,
                      named ? status.st_ctim.tv_nsec : 0,
                      mode == O_RDWR,
                      start,
                      window};
  base::MutexLock lock(mu_);
  if (auto found = segments_.find(key); found != segments_.end()) {
    if (found->second->refs++ == 0) std::erase(idle_, found->second.get());
    return found->second.get();
  }
  auto segment = std::make_unique<Segment>();
  segment->writable = mode == O_RDWR;
  void* host = mmap(nullptr, window, PROT_READ | (segment->writable ? PROT_WRITE : 0), MAP_SHARED | MAP_NORESERVE, fd,
                    static_cast<off_t>(start));
  if (host == MAP_FAILED) return base::Errno::Last();
  auto& gpas = free_gpas_[window];
  if (next_gpa_ == 0) next_gpa_ = kFirstGpa;
  uint64_t gpa = (next_gpa_ + window - 1) & ~(window - 1);
  if (!gpas.empty()) {
    gpa = gpas.back();
  } else if (gpa + window > vm_.guest_physical_limit()) {
    munmap(host, window);
    return base::Errno(ENOMEM);
  }
  const uint32_t slot = free_slots_.empty() ? kFirstSlot + next_slot_ : free_slots_.back();
  base::Result<void> added = slot >= vm_.max_slots() ? base::Result<void>(base::Errno(ENOMEM))
                                                     : vm_.SetSlot(slot, segment->writable ? 0 : KVM_MEM_READONLY, gpa,
                                                                   static_cast<uint8_t*>(host), window);
  if (!added.ok()) {
    munmap(host, window);
    return base::Errno(ENOMEM);
  }
  if (gpas.empty()) {
    next_gpa_ = gpa + window;
  } else {
    gpas.pop_back();
  }
  if (free_slots_.empty()) {
    ++next_slot_;
  } else {
    free_slots_.pop_back();
  }
  segment->gpa = gpa;
  segment->host = static_cast<uint8_t*>(host);
  segment->length = window;
  segment->file_offset = start;
  segment->key = key;
  segment->slot = slot;
  segment->refs = 1;
  segment->keep = large && !named;
  return segments_.emplace(key, std::move(segment)).first->second.get();
}

void Segments::Ref(Segment* segment) {
  base::MutexLock lock(mu_);
  ++segment->refs;
}

void Segments::Unref(Segment* segment) {
  base::MutexLock lock(mu_);
  if (--segment->refs != 0) return;
  if (segment->keep) {
    idle_.push_back(segment);
    if (idle_.size() <= kMaxIdle) return;
    segment = idle_.front();
    idle_.erase(idle_.begin());
  }
  DropLocked(segment);
}

void Segments::DropLocked(Segment* segment) {
  if (!vm_.SetSlot(segment->slot, 0, segment->gpa, segment->host, 0).ok()) {
    // Without its slot's number nobody can be given this memory; with it the mapping must stay.
    idle_.push_back(segment);
    segment->keep = true;
    return;
  }
  munmap(segment->host, segment->length);
  free_gpas_[segment->length].push_back(segment->gpa);
  free_slots_.push_back(segment->slot);
  const Segment::Key key = segment->key;
  segments_.erase(key);
}

size_t Segments::size() {
  base::MutexLock lock(mu_);
  return segments_.size();
}

}  // namespace platform::kvm
