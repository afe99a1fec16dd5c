// SPDX-License-Identifier: Apache-2.0
// Whose memory shared pages are: a control group's account of tmpfs pages and of memory shared without a file. An
// object belongs, as a whole, to the group of the task that gave it its first page; private memory is not counted here
// but measured in the address spaces (MemoryManager::PrivateRanges). Thread-safe.
#ifndef SENTRY_MM_MEMORY_CHARGE_H_
#define SENTRY_MM_MEMORY_CHARGE_H_

#include <atomic>
#include <set>

#include "sentry/common.h"

namespace sentry::mm {

class ShmObject;

class MemoryCharge : public RefCounted<MemoryCharge> {
 public:
  void Add(int64_t bytes) { bytes_.fetch_add(bytes, std::memory_order_relaxed); }
  // Sparse objects, whose use has to be looked up. Borrowed until Remove.
  void AddObject(const ShmObject* object);
  void RemoveObject(const ShmObject* object);
  // Bytes in use now (host calls for the sparse ones).
  int64_t Measure() const;
  bool IsEmpty() const;

  // Of the calling task; null outside one. Set once at start.
  using Hook = RefPtr<MemoryCharge> (*)();
  static void SetHook(Hook hook);
  static RefPtr<MemoryCharge> Current();

 private:
  std::atomic<int64_t> bytes_{0};
  mutable Mutex mu_{LockRank::kBlocker};  // taken under locks of shared memory; the MemoryFile is asked under it
  std::set<const ShmObject*> objects_ ABSL_GUARDED_BY(mu_);
};

}  // namespace sentry::mm

#endif  // SENTRY_MM_MEMORY_CHARGE_H_
