// SPDX-License-Identifier: Apache-2.0
// Segments: windows of files, mapped in the sentry and given to the VM as memory slots, so that page tables can refer
// to them. Shared by all address spaces, counted. Thread-safe.
#ifndef PLATFORM_KVM_SEGMENTS_H_
#define PLATFORM_KVM_SEGMENTS_H_

#include <cstdint>
#include <map>
#include <memory>
#include <tuple>
#include <vector>

#include "base/mutex.h"
#include "base/result.h"
#include "platform/kvm/vm.h"

namespace platform::kvm {

// Guest-physical and host place of a range of a segment. The bytes stay while the reference is held.
struct Segment {
  uint64_t gpa = 0;
  uint8_t* host = nullptr;
  uint64_t length = 0;
  uint64_t file_offset = 0;
  bool writable = false;

 private:
  friend class Segments;
  // A file's identity: device, inode, the time of its last change where it may be a copied-up file of an overlay (one
  // inode number, two files), whether it is open for writing, and the window.
  using Key = std::tuple<uint64_t, uint64_t, int64_t, int64_t, bool, uint64_t, uint64_t>;
  Key key;
  uint32_t slot = 0;
  uint64_t refs = 0;
  bool keep = false;
};

class Segments {
 public:
  explicit Segments(Vm& vm) : vm_(vm) {}
  ~Segments();

  // A reference to the segment that holds `offset` of the file. EBADF, ENODEV, EACCES (`write` on a file that isn't
  // open for that), ENOMEM.
  base::Result<Segment*> Acquire(int fd, uint64_t offset, bool write) ABSL_LOCKS_EXCLUDED(mu_);
  void Ref(Segment* segment) ABSL_LOCKS_EXCLUDED(mu_);
  // Only after no page table of the guest and no CPU refers to it on behalf of this reference.
  void Unref(Segment* segment) ABSL_LOCKS_EXCLUDED(mu_);
  size_t size() ABSL_LOCKS_EXCLUDED(mu_);

 private:
  void DropLocked(Segment* segment) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  Vm& vm_;
  base::Mutex mu_{base::LockRank::kLeaf};
  std::map<Segment::Key, std::unique_ptr<Segment>> segments_ ABSL_GUARDED_BY(mu_);
  std::map<uint64_t, std::vector<uint64_t>> free_gpas_ ABSL_GUARDED_BY(mu_);  // by length
  uint64_t next_gpa_ ABSL_GUARDED_BY(mu_) = 0;
  std::vector<uint32_t> free_slots_ ABSL_GUARDED_BY(mu_);
  uint32_t next_slot_ ABSL_GUARDED_BY(mu_) = 0;
  std::vector<Segment*> idle_ ABSL_GUARDED_BY(mu_);
};

}  // namespace platform::kvm

#endif  // PLATFORM_KVM_SEGMENTS_H_
