// SPDX-License-Identifier: Apache-2.0
// Placement: which CPU a sentry thread and its stub thread share. A hand-over between two CPUs costs ten times one on
// the same CPU (an IPI), so both are pinned together. Counts the pairs per CPU within the mask the process started
// with. Best effort: when the host refuses an affinity, placement switches itself off. Thread-safe, lock-free.
#ifndef PLATFORM_PTRACE_PLACEMENT_H_
#define PLATFORM_PTRACE_PLACEMENT_H_

#include <sched.h>
#include <sys/types.h>

#include <atomic>
#include <memory>
#include <vector>

namespace platform::ptrace {

class Placement {
 public:
  // Reads the calling thread's affinity mask.
  Placement();

  // One sentry thread's place. Used by that thread only.
  struct Slot {
    int index = -1;                   // in cpus_; -1: not placed yet
    int stub_index = -1;              // of the stub thread's CPU, if that is another
    bool counted = false;             // as a runnable pair
    uint64_t allowed = ~uint64_t{0};  // bit i: cpus_[i]; those behind the 64th with all bits set only
  };

  // Gives the slot a CPU, the least loaded one, and counts it.
  void Enter(Slot& slot);
  // The pair sleeps for long, or ends.
  void Leave(Slot& slot);
  // True if the slot was given another CPU, because its own has two runnable pairs or more and another has none.
  bool Rebalance(Slot& slot);
  // Before Enter: gives the slot the CPU of the pair that has woken it, if there is none but that one. False if not.
  bool Follow(Slot& slot, int index);
  // A CPU without pairs for the stub thread alone, while the sentry thread has its own for itself; both then count as a
  // pair. False if there is none that is allowed.
  bool Spread(Slot& slot);
  // Both threads have one CPU again: the sentry's, or the stub's. Not yet pinned.
  void Gather(Slot& slot, bool to_stub);
  // Somebody else has come to one of the two CPUs.
  bool IsCrowded(const Slot& slot) const { return Pairs(slot.index) > 1 || Pairs(slot.stub_index) > 1; }
  int Pairs(int index) const { return pairs_[static_cast<size_t>(index)].load(std::memory_order_relaxed); }
  // Changes Slot::allowed, and the slot's CPU if it must.
  void Restrict(Slot& slot, uint64_t allowed);
  // Whether the CPUs are numbered 0 to cpu_count()-1.
  bool numbered_densely() const;
  // Pins the calling thread and `tid` (0: only the caller) to the slot's CPU.
  void Pin(const Slot& slot, pid_t tid);
  // Pins `tid` alone (0: the caller).
  void PinOther(const Slot& slot, pid_t tid);
  void PinStub(const Slot& slot, pid_t tid);
  bool enabled() const { return enabled_.load(std::memory_order_relaxed); }
  int PairsForTest(int index) const { return pairs_[static_cast<size_t>(index)].load(); }
  int cpu_count() const { return static_cast<int>(cpus_.size()); }

 private:
  void PinTo(int index, pid_t tid);
  // Of the allowed ones; of all, if none of them is.
  int LeastLoaded(uint64_t allowed) const;

  std::vector<int> cpus_;  // host CPU numbers
  std::unique_ptr<std::atomic<int>[]> pairs_;
  std::atomic<bool> enabled_{false};
};

}  // namespace platform::ptrace

#endif  // PLATFORM_PTRACE_PLACEMENT_H_
