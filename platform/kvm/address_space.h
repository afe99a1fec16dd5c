// SPDX-License-Identifier: Apache-2.0
// KvmAddressSpace: what a guest process has mapped, and its page tables. Small mappings are entered when they are made,
// large ones block by block when they are touched.
#ifndef PLATFORM_KVM_ADDRESS_SPACE_H_
#define PLATFORM_KVM_ADDRESS_SPACE_H_

#include <atomic>
#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include "base/mutex.h"
#include "base/result.h"
#include "platform/kvm/page_tables.h"
#include "platform/kvm/segments.h"
#include "platform/platform.h"

namespace platform::kvm {

class KvmPlatform;

class KvmAddressSpace final : public AddressSpace {
 public:
  static base::Result<base::RefPtr<KvmAddressSpace>> Create(KvmPlatform& platform);
  ~KvmAddressSpace() override;

  // By any thread. EINVAL, EBADF, EACCES, ENOMEM.
  base::Result<void> Map(uint64_t address, uint64_t length, int fd, uint64_t offset, Protection protection,
                         bool populate) override ABSL_LOCKS_EXCLUDED(mu_);
  void Unmap(uint64_t address, uint64_t length) override ABSL_LOCKS_EXCLUDED(mu_);
  void Protect(uint64_t address, uint64_t length, Protection protection) override ABSL_LOCKS_EXCLUDED(mu_);

  enum class Resolution : uint8_t { kRetry, kNotMapped, kDenied, kNoMemory };
  // After a page fault: enters the mapping if there is one that allows the access.
  Resolution Resolve(uint64_t address, Access access) ABSL_LOCKS_EXCLUDED(mu_);
  // The host had nothing behind a page: forgets all entries, and looks at each page before it enters it from now on.
  void BeCareful() ABSL_LOCKS_EXCLUDED(mu_);
  // Copies guest memory; false if not all is there.
  bool Peek(uint64_t address, void* to, size_t length) ABSL_LOCKS_EXCLUDED(mu_);

  // Blocks of 2 MiB that are one entry of the page tables.
  size_t HugeBlocks() ABSL_LOCKS_EXCLUDED(mu_);

  uint64_t id() const { return id_; }
  // Grows when translations that CPUs may hold are no longer good.
  uint64_t generation() const { return generation_.load(std::memory_order_seq_cst); }
  uint64_t root(int which) const { return tables_.root(which); }

 private:
  struct Region {
    uint64_t end;
    Segment* segment;
    uint64_t offset;  // in the segment
    Protection protection;
  };
  using Regions = std::map<uint64_t, Region>;
  struct Removed {
    std::vector<std::pair<uint8_t*, uint64_t>> host;
    std::vector<Segment*> segments;
  };

  explicit KvmAddressSpace(KvmPlatform& platform);
  // Makes a region begin at `at` if one contains it.
  void SplitLocked(uint64_t at) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void RemoveLocked(uint64_t start, uint64_t end, Removed* removed) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // No CPU has the removed translations any more on return; gives the references back.
  void FlushLocked(const Removed& removed) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  base::Result<void> EnterLocked(uint64_t start, uint64_t end, uint64_t region_start, const Region& region)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  KvmPlatform& platform_;
  const uint64_t id_;
  std::atomic<uint64_t> generation_{1};
  base::Mutex mu_{base::LockRank::kPlatform};
  PageTables tables_;
  Regions regions_ ABSL_GUARDED_BY(mu_);
  bool careful_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace platform::kvm

#endif  // PLATFORM_KVM_ADDRESS_SPACE_H_
