// SPDX-License-Identifier: Apache-2.0
#include "platform/ptrace/placement.h"

#include <errno.h>

#include <utility>

#include "base/log.h"

namespace platform::ptrace {
namespace {

// A mask for hosts of up to 8192 CPUs, the kernel's own limit on x86-64.
constexpr int kMaxCpus = 8192;
struct CpuMask {
  cpu_set_t sets[kMaxCpus / CPU_SETSIZE];
};

bool Allowed(uint64_t mask, size_t index) { return index < 64 ? (mask >> index & 1) != 0 : mask == ~uint64_t{0}; }
bool AnyAllowed(uint64_t mask, size_t count) {
  return count >= 64 ? mask != 0 : (mask & ((uint64_t{1} << count) - 1)) != 0;
}

}  // namespace

Placement::Placement() {
  CpuMask mask = {};
  if (sched_getaffinity(0, sizeof(mask), mask.sets) == 0) {
    for (int cpu = 0; cpu < kMaxCpus; ++cpu) {
      if (CPU_ISSET_S(cpu, sizeof(mask), mask.sets)) cpus_.push_back(cpu);
    }
  }
  pairs_ = std::make_unique<std::atomic<int>[]>(cpus_.size());
  // With one CPU there is nothing to choose.
  enabled_ = cpus_.size() > 1;
}

bool Placement::numbered_densely() const {
  return !cpus_.empty() && cpus_.back() == static_cast<int>(cpus_.size()) - 1;
}

int Placement::LeastLoaded(uint64_t allowed) const {
  size_t best = 0;
  if (!AnyAllowed(allowed, cpus_.size())) allowed = ~uint64_t{0};
  int least = INT32_MAX;
  for (size_t i = 0; i < cpus_.size(); ++i) {
    if (!Allowed(allowed, i)) continue;
    int n = pairs_[i].load(std::memory_order_relaxed);
    if (n < least) {
      least = n;
      best = i;
      if (n == 0) break;
    }
  }
  return static_cast<int>(best);
}

void Placement::Enter(Slot& slot) {
  if (!enabled() || slot.counted) return;
  if (slot.index < 0) slot.index = LeastLoaded(slot.allowed);
  pairs_[static_cast<size_t>(slot.index)].fetch_add(1, std::memory_order_relaxed);
  slot.counted = true;
}

void Placement::Leave(Slot& slot) {
  if (slot.stub_index >= 0) Gather(slot, false);
  if (!slot.counted) return;
  pairs_[static_cast<size_t>(slot.index)].fetch_sub(1, std::memory_order_relaxed);
  slot.counted = false;
}

bool Placement::Rebalance(Slot& slot) {
  if (!enabled() || !slot.counted || slot.stub_index >= 0) return false;
  std::atomic<int>& own = pairs_[static_cast<size_t>(slot.index)];
  int load = own.load(std::memory_order_relaxed);
  if (load < 2) return false;
  int best = LeastLoaded(slot.allowed);
  std::atomic<int>& other = pairs_[static_cast<size_t>(best)];
  int none = 0;
  // Only one of several crowded pairs gets the idle CPU.
  if (!other.compare_exchange_strong(none, 1, std::memory_order_relaxed)) return false;
  own.fetch_sub(1, std::memory_order_relaxed);
  slot.index = best;
  return true;
}

bool Placement::Follow(Slot& slot, int index) {
  if (!enabled() || slot.counted || index < 0 || index >= cpu_count() || index == slot.index) return false;
  if (!Allowed(slot.allowed, static_cast<size_t>(index)) || Pairs(index) > 1) return false;
  slot.index = index;
  return true;
}

bool Placement::Spread(Slot& slot) {
  if (!enabled() || !slot.counted || slot.stub_index >= 0) return false;
  if (pairs_[static_cast<size_t>(slot.index)].load(std::memory_order_relaxed) != 1) return false;
  for (size_t i = 0; i < cpus_.size(); ++i) {
    int none = 0;
    if (!Allowed(slot.allowed, i) || !pairs_[i].compare_exchange_strong(none, 1, std::memory_order_relaxed)) continue;
    slot.stub_index = static_cast<int>(i);
    return true;
  }
  return false;
}

void Placement::Gather(Slot& slot, bool to_stub) {
  if (slot.stub_index < 0) return;
  if (to_stub) std::swap(slot.index, slot.stub_index);
  pairs_[static_cast<size_t>(slot.stub_index)].fetch_sub(1, std::memory_order_relaxed);
  slot.stub_index = -1;
}

void Placement::Restrict(Slot& slot, uint64_t allowed) {
  Gather(slot, false);
  slot.allowed = allowed;
  if (slot.index < 0 || Allowed(allowed, static_cast<size_t>(slot.index)) || !AnyAllowed(allowed, cpus_.size())) return;
  bool counted = slot.counted;
  Leave(slot);
  slot.index = LeastLoaded(allowed);
  if (counted) Enter(slot);
}

void Placement::Pin(const Slot& slot, pid_t tid) {
  PinOther(slot, 0);
  if (tid != 0) PinOther(slot, tid);
}

void Placement::PinOther(const Slot& slot, pid_t tid) { PinTo(slot.index, tid); }

void Placement::PinStub(const Slot& slot, pid_t tid) {
  PinTo(slot.stub_index >= 0 ? slot.stub_index : slot.index, tid);
}

void Placement::PinTo(int index, pid_t tid) {
  if (!enabled() || index < 0) return;
  CpuMask mask = {};
  CPU_SET_S(static_cast<size_t>(cpus_[static_cast<size_t>(index)]), sizeof(mask), mask.sets);
  if (sched_setaffinity(tid, sizeof(mask), mask.sets) == 0 || errno == ESRCH) return;
  if (enabled_.exchange(false)) {
    LOG_INFO("ptrace platform: sched_setaffinity: errno %d; threads are left where the host puts them", errno);
  }
}

}  // namespace platform::ptrace
