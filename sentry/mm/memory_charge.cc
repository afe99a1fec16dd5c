// SPDX-License-Identifier: Apache-2.0
#include "sentry/mm/memory_charge.h"

#include "sentry/mm/shm_object.h"

namespace sentry::mm {
namespace {
std::atomic<MemoryCharge::Hook> current_hook{nullptr};
}  // namespace

void MemoryCharge::AddObject(const ShmObject* object) {
  MutexLock lock(mu_);
  objects_.insert(object);
}

void MemoryCharge::RemoveObject(const ShmObject* object) {
  MutexLock lock(mu_);
  objects_.erase(object);
}

int64_t MemoryCharge::Measure() const {
  int64_t total = bytes_.load(std::memory_order_relaxed);
  // Under the lock: an object that goes waits in RemoveObject.
  MutexLock lock(mu_);
  for (const ShmObject* object : objects_) total += static_cast<int64_t>(object->ResidentBytes());
  return total;
}

bool MemoryCharge::IsEmpty() const {
  if (bytes_.load(std::memory_order_relaxed) != 0) return false;
  MutexLock lock(mu_);
  return objects_.empty();
}

void MemoryCharge::SetHook(Hook hook) { current_hook.store(hook, std::memory_order_release); }

RefPtr<MemoryCharge> MemoryCharge::Current() {
  const Hook hook = current_hook.load(std::memory_order_acquire);
  return hook ? hook() : nullptr;
}

}  // namespace sentry::mm
