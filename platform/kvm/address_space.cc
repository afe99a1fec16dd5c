// SPDX-License-Identifier: Apache-2.0
#include "platform/kvm/address_space.h"

#include <errno.h>
#include <sys/mman.h>

#include <algorithm>
#include <iterator>

#include "base/log.h"
#include "platform/kvm/kvm_platform.h"
#include "platform/safe_copy.h"

namespace platform::kvm {
namespace {

// As Linux's vm.max_map_count: page tables and lists are the sentry's memory.
constexpr size_t kMaxRegions = 65530;
// A thousand entries cost less than one fault.
constexpr uint64_t kEagerLimit = uint64_t{4} << 20;

bool ValidRange(uint64_t address, uint64_t length) {
  return length != 0 && address % kPageSize == 0 && length % kPageSize == 0 && address < kGuestAddressLimit &&
         length <= kGuestAddressLimit - address;
}

bool Accessible(Protection p) { return p.read || p.write || p.exec; }

bool Allows(Protection p, Access access) {
  switch (access) {
    case Access::kWrite:
      return p.write;
    case Access::kExec:
      return p.exec;
    default:
      return Accessible(p);
  }
}

std::atomic<uint64_t> next_id{1};

}  // namespace

KvmAddressSpace::KvmAddressSpace(KvmPlatform& platform)
    : platform_(platform), id_(next_id.fetch_add(1)), tables_(platform.arena(), !platform.shadow()) {}

base::Result<base::RefPtr<KvmAddressSpace>> KvmAddressSpace::Create(KvmPlatform& platform) {
  base::RefPtr<KvmAddressSpace> space(new KvmAddressSpace(platform));
  TRY(space->tables_.Create(platform.kernel_entry()));
  return space;
}

KvmAddressSpace::~KvmAddressSpace() {
  // No CPU runs in it, and none will: its roots are loaded by contexts only, which hold references.
  base::MutexLock lock(mu_);
  for (auto& [start, region] : regions_) platform_.segments().Unref(region.segment);
}

void KvmAddressSpace::SplitLocked(uint64_t at) {
  auto it = regions_.upper_bound(at);
  if (it == regions_.begin()) return;
  --it;
  if (it->first == at || it->second.end <= at) return;
  Region tail = it->second;
  tail.offset += at - it->first;
  it->second.end = at;
  platform_.segments().Ref(tail.segment);
  regions_.emplace_hint(std::next(it), at, tail);
}

void KvmAddressSpace::RemoveLocked(uint64_t start, uint64_t end, Removed* removed) {
  SplitLocked(start);
  SplitLocked(end);
  auto it = regions_.lower_bound(start);
  while (it != regions_.end() && it->first < end) {
    const Region& region = it->second;
    const uint64_t length = region.end - it->first;
    if (Accessible(region.protection)) {
      tables_.Unmap(it->first, length);
      removed->host.emplace_back(region.segment->host + region.offset, length);
    }
    removed->segments.push_back(region.segment);
    it = regions_.erase(it);
  }
}

void KvmAddressSpace::FlushLocked(const Removed& removed) {
  if (!removed.host.empty()) {
    generation_.fetch_add(1, std::memory_order_seq_cst);
    platform_.KickOut(this);
    if (platform_.shadow()) {
      // KVM's own tables follow the sentry's mapping, not what the sentry writes into the guest's tables. After the
      // kicks: a fault that was on its way may have read the old entry.
      for (const auto& [host, length] : removed.host) madvise(host, length, MADV_DONTNEED);
    }
  }
  for (Segment* segment : removed.segments) platform_.segments().Unref(segment);
}

base::Result<void> KvmAddressSpace::EnterLocked(uint64_t start, uint64_t end, uint64_t region_start,
                                                const Region& region) {
  if (!Accessible(region.protection)) return base::OkResult();
  return tables_.Map(start, end - start, region.segment->gpa + region.offset + (start - region_start),
                     region.protection.write, region.protection.exec);
}

base::Result<void> KvmAddressSpace::Map(uint64_t address, uint64_t length, int fd, uint64_t offset,
                                        Protection protection, bool populate) {
  if (!ValidRange(address, length) || offset % kPageSize != 0 || offset + length < offset) return base::Errno(EINVAL);
  base::MutexLock lock(mu_);
  Removed removed;
  RemoveLocked(address, address + length, &removed);
  FlushLocked(removed);
  const bool eager = !careful_ && (populate || length <= kEagerLimit);
  for (const uint64_t end = address + length; address < end;) {
    base::Result<Segment*> segment = regions_.size() >= kMaxRegions
                                         ? base::Errno(ENOMEM)
                                         : platform_.segments().Acquire(fd, offset, protection.write);
    if (!segment.ok()) return segment.error();
    const uint64_t in_segment = offset - (*segment)->file_offset;
    const uint64_t part = std::min(end - address, (*segment)->length - in_segment);
    const Region region = {address + part, *segment, in_segment, protection};
    regions_[address] = region;
    // What does not fit now is entered when it is touched, or refused then.
    if (eager && !EnterLocked(address, address + part, address, region).ok()) tables_.Unmap(address, part);
    address += part;
    offset += part;
  }
  return base::OkResult();
}

void KvmAddressSpace::Unmap(uint64_t address, uint64_t length) {
  if (!ValidRange(address, length)) {
    LOG_ERROR("kvm platform: Unmap of bad range %#lx+%#lx", address, length);
    return;
  }
  base::MutexLock lock(mu_);
  Removed removed;
  RemoveLocked(address, address + length, &removed);
  FlushLocked(removed);
}

void KvmAddressSpace::Protect(uint64_t address, uint64_t length, Protection protection) {
  if (!ValidRange(address, length)) {
    LOG_ERROR("kvm platform: Protect of bad range %#lx+%#lx", address, length);
    return;
  }
  base::MutexLock lock(mu_);
  const uint64_t end = address + length;
  SplitLocked(address);
  SplitLocked(end);
  Removed removed;
  for (auto it = regions_.lower_bound(address); it != regions_.end() && it->first < end;) {
    Region& region = it->second;
    const Protection old = region.protection;
    const uint64_t size = region.end - it->first;
    if (protection.write && !region.segment->writable) {
      // A file that can't be written: the guest faults on it.
      if (Accessible(old)) {
        tables_.Unmap(it->first, size);
        removed.host.emplace_back(region.segment->host + region.offset, size);
      }
      removed.segments.push_back(region.segment);
      it = regions_.erase(it);
      continue;
    }
    region.protection = protection;
    const bool less = Accessible(old) &&
                      (!Accessible(protection) || (old.write && !protection.write) || (old.exec && !protection.exec));
    if (less) removed.host.emplace_back(region.segment->host + region.offset, size);
    // Unmapped first: what is not entered anew faults, and then counts what the region says.
    if (Accessible(old)) tables_.Unmap(it->first, size);
    if (!careful_ && size <= kEagerLimit && !EnterLocked(it->first, region.end, it->first, region).ok()) {
      tables_.Unmap(it->first, size);
    }
    ++it;
  }
  FlushLocked(removed);
}

KvmAddressSpace::Resolution KvmAddressSpace::Resolve(uint64_t address, Access access) {
  base::MutexLock lock(mu_);
  auto it = regions_.upper_bound(address);
  if (it == regions_.begin()) return Resolution::kNotMapped;
  --it;
  const Region& region = it->second;
  if (region.end <= address) return Resolution::kNotMapped;
  if (!Allows(region.protection, access)) return Resolution::kDenied;
  uint64_t start = std::max(it->first, address & ~(kBlock - 1));
  uint64_t end = std::min(region.end, (address | (kBlock - 1)) + 1);
  if (careful_) {
    start = address & ~(kPageSize - 1);
    end = start + kPageSize;
    uint32_t word;
    if (!SafeLoad32(reinterpret_cast<uint32_t*>(region.segment->host + region.offset + (start - it->first)), &word)) {
      return Resolution::kNoMemory;
    }
  }
  return EnterLocked(start, end, it->first, region).ok() ? Resolution::kRetry : Resolution::kNoMemory;
}

void KvmAddressSpace::BeCareful() {
  base::MutexLock lock(mu_);
  careful_ = true;
  Removed removed;
  for (auto& [start, region] : regions_) {
    if (!Accessible(region.protection)) continue;
    tables_.Unmap(start, region.end - start);
    removed.host.emplace_back(region.segment->host + region.offset, region.end - start);
  }
  FlushLocked(removed);
}

bool KvmAddressSpace::Peek(uint64_t address, void* to, size_t length) {
  base::MutexLock lock(mu_);
  auto* out = static_cast<uint8_t*>(to);
  while (length != 0) {
    auto it = regions_.upper_bound(address);
    if (it == regions_.begin()) return false;
    --it;
    const Region& region = it->second;
    if (region.end <= address || !Accessible(region.protection)) return false;
    const size_t part = std::min<uint64_t>(length, region.end - address);
    if (SafeCopy(out, region.segment->host + region.offset + (address - it->first), part) != part) return false;
    address += part;
    out += part;
    length -= part;
  }
  return true;
}

size_t KvmAddressSpace::HugeBlocks() {
  base::MutexLock lock(mu_);
  return tables_.huge_blocks();
}

}  // namespace platform::kvm
