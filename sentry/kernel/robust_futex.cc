// SPDX-License-Identifier: Apache-2.0
// What a task's end does to futexes: robust lists (Documentation/locking/robust-futex-ABI.rst), PI ownership,
// clear_child_tid.
#include <linux/futex.h>

#include "sentry/kernel/futex.h"
#include "sentry/kernel/task_internal.h"

namespace sentry::kernel {
namespace {

struct RobustListHead {
  uint64_t next;
  int64_t futex_offset;
  uint64_t pending;
};

// Marks one lock as left by its dead owner. False: the list is broken, stop.
bool HandleDeath(Task& task, MmFutexMemory& memory, UserAddr address, bool pi, bool pending) {
  if (address.value() % 4) return false;
  uint32_t tid = static_cast<uint32_t>(task.CallerTid());
  Result<uint32_t> word = memory.Load(address);
  if (!word.ok()) return false;
  uint32_t value = *word;
  for (;;) {
    if (pending && !pi && value == 0) {
      // Unlocked, but died before the wake-up that follows.
      (void)FutexTable::Get().Wake(memory, address, true, 1);
      return true;
    }
    if ((value & FutexTable::kTidMask) != tid) return true;
    uint32_t desired = (value & FutexTable::kWaiters) | FutexTable::kOwnerDied;
    Result<uint32_t> seen = memory.CompareExchange(address, value, desired);
    if (!seen.ok()) return false;
    if (*seen == value) break;
    value = *seen;
  }
  // Private waiters are keyed otherwise; both kinds may wait.
  if (!pi && (value & FutexTable::kWaiters)) {
    (void)FutexTable::Get().Wake(memory, address, true, 1);
    (void)FutexTable::Get().Wake(memory, address, false, 1);
  }
  return true;
}

}  // namespace

void ExitFutexes(Task& task) {
  UserAddr head_address = task.robust_list_head;
  task.robust_list_head = UserAddr();
  MmFutexMemory memory(task.mm());
  if (!head_address.IsNull()) {
    if (auto head = task.CopyIn<RobustListHead>(head_address); head.ok()) {
      auto futex_of = [&](uint64_t entry) {
        return UserAddr((entry & ~uint64_t{1}) + static_cast<uint64_t>(head->futex_offset));
      };
      uint64_t entry = head->next;
      // A guest's list may be circular: ROBUST_LIST_LIMIT.
      for (int left = 2048; left > 0 && (entry & ~uint64_t{1}) != head_address.value(); --left) {
        Result<uint64_t> next = task.CopyIn<uint64_t>(UserAddr(entry & ~uint64_t{1}));
        if (entry != head->pending && !HandleDeath(task, memory, futex_of(entry), entry & 1, false)) break;
        if (!next.ok()) break;
        entry = *next;
      }
      if (head->pending & ~uint64_t{1})
        (void)HandleDeath(task, memory, futex_of(head->pending), head->pending & 1, true);
    }
  }
  FutexTable::Get().OwnerExited(static_cast<uint64_t>(task.tid()));
}

uint64_t FutexOwner(Task& task, uint32_t tid) {
  RefPtr<Task> owner = Task::Internal::kernel(task).tasks().FindTask(task.pid_ns(), static_cast<pid_t>(tid));
  if (!owner) return 0;
  SignalLock lock(owner->group());
  if (owner->internal().signals_detached) return FutexTable::kDying;
  return static_cast<uint64_t>(owner->tid());
}

void ClearChildTid(Task& task) {
  UserAddr address = task.clear_child_tid;
  task.clear_child_tid = UserAddr();
  if (address.IsNull()) return;
  if (!task.CopyOut(address, uint32_t{0}).ok()) return;
  MmFutexMemory memory(task.mm());
  (void)FutexTable::Get().Wake(memory, address, true, 1);
}

}  // namespace sentry::kernel
