// SPDX-License-Identifier: Apache-2.0
// futex(2), futex_waitv(2), get_robust_list(2).
#include <linux/futex.h>

#include "sentry/kernel/futex.h"
#include "sentry/kernel/ptrace.h"
#include "sentry/syscalls/handlers.h"

namespace sentry::syscalls {
namespace {

using kernel::FutexTable;
using kernel::MmFutexMemory;

constexpr uint32_t kWaitvSize32 = 2;  // FUTEX2_SIZE_U32

// Absolute time of a clock as a CLOCK_MONOTONIC deadline; the realtime clock's later jumps are not followed.
int64_t DeadlineAt(const Task& task, int64_t at_ns, bool realtime) {
  if (!realtime) return HostTimeOf(task, CLOCK_MONOTONIC, at_ns);
  return DeadlineAfter(at_ns - base::RealtimeNs());
}

Value WaitUntil(Task& task, FutexTable::WaitOn on, uint32_t bitset, int64_t deadline) {
  MmFutexMemory memory(task.mm());
  Result<void> result = FutexTable::Get().Wait(task, memory, on, bitset, deadline);
  if (result.ok()) return 0;
  if (result.error() != base::kErestartsys || deadline == kNoDeadline) return result.error();
  task.restart_block = [=](Task& self) { return WaitUntil(self, on, bitset, deadline); };
  return base::kErestartRestartblock;
}

FutexTable::PiRequest PiRequestOf(Task& task, UserAddr address, bool shared) {
  return {.address = address,
          .shared = shared,
          .self_tid = static_cast<uint32_t>(task.CallerTid()),
          .self = static_cast<uint64_t>(task.tid()),
          .priority = task.sched_priority.load(std::memory_order_relaxed),
          .resolve = [&task](uint32_t tid) { return kernel::FutexOwner(task, tid); }};
}

}  // namespace

SYSCALL_HANDLER(SysFutex) {
  UserAddr address = args.Addr(0), second = args.Addr(4);
  int command = args.Int(1) & FUTEX_CMD_MASK;
  bool shared = !(args.Int(1) & FUTEX_PRIVATE_FLAG);
  bool realtime = args.Int(1) & FUTEX_CLOCK_REALTIME;
  uint32_t value = args.Uint(2);
  auto count2 = args.Int(3);  // the timeout's place
  uint32_t bitset = args.Uint(5);
  FutexTable& table = FutexTable::Get();
  MmFutexMemory memory(task.mm());

  if (realtime && command != FUTEX_WAIT && command != FUTEX_WAIT_BITSET && command != FUTEX_LOCK_PI2 &&
      command != FUTEX_WAIT_REQUEUE_PI) {
    return Errno(ENOSYS);
  }
  int64_t deadline = kNoDeadline;
  bool timed = command == FUTEX_WAIT || command == FUTEX_WAIT_BITSET || command == FUTEX_LOCK_PI ||
               command == FUTEX_LOCK_PI2 || command == FUTEX_WAIT_REQUEUE_PI;
  if (timed && !args.Addr(3).IsNull()) {
    int64_t ns = TRY(CopyInTimespecNs(task, args.Addr(3)));
    if (command == FUTEX_WAIT) {
      deadline = DeadlineAfter(ns);
    } else {
      deadline = DeadlineAt(task, ns, realtime || command == FUTEX_LOCK_PI);
    }
  }

  switch (command) {
    case FUTEX_WAIT:
      return WaitUntil(task, {.address = address, .shared = shared, .value = value}, ~0u, deadline);
    case FUTEX_WAIT_BITSET:
      if (bitset == 0) return Errno(EINVAL);
      return WaitUntil(task, {.address = address, .shared = shared, .value = value}, bitset, deadline);
    case FUTEX_WAKE:
      return TRY(table.Wake(memory, address, shared, static_cast<int>(value)));
    case FUTEX_WAKE_BITSET:
      if (bitset == 0) return Errno(EINVAL);
      return TRY(table.Wake(memory, address, shared, static_cast<int>(value), bitset));
    case FUTEX_REQUEUE:
      return TRY(table.Requeue(memory, address, second, shared, static_cast<int>(value), count2, std::nullopt));
    case FUTEX_CMP_REQUEUE:
      return TRY(table.Requeue(memory, address, second, shared, static_cast<int>(value), count2, args.Uint(5)));
    case FUTEX_WAKE_OP:
      return TRY(table.WakeOp(memory, address, second, shared, static_cast<int>(value), count2, args.Uint(5)));
    case FUTEX_LOCK_PI:
    case FUTEX_LOCK_PI2:
      TRY(table.LockPi(task, memory, PiRequestOf(task, address, shared), false, deadline));
      return 0;
    case FUTEX_TRYLOCK_PI:
      TRY(table.LockPi(task, memory, PiRequestOf(task, address, shared), true, kNoDeadline));
      return 0;
    case FUTEX_UNLOCK_PI:
      TRY(table.UnlockPi(memory, PiRequestOf(task, address, shared)));
      return 0;
    case FUTEX_WAIT_REQUEUE_PI:
      TRY(table.WaitRequeuePi(task, memory, {.address = address, .shared = shared, .value = value},
                              PiRequestOf(task, second, shared), ~0u, deadline));
      return 0;
    case FUTEX_CMP_REQUEUE_PI:
      return TRY(table.RequeuePi(memory, {.address = address, .shared = shared, .value = args.Uint(5)},
                                 PiRequestOf(task, second, shared), static_cast<int>(value), count2));
    default:
      return Errno(ENOSYS);
  }
}

SYSCALL_HANDLER(SysFutexWaitv) {
  struct Waitv {
    uint64_t value, address;
    uint32_t flags, reserved;
  };
  unsigned count = args.Uint(1);
  if (args.Uint(2) != 0 || count == 0 || count > 128 || args.Addr(0).IsNull()) return Errno(EINVAL);
  int64_t deadline = kNoDeadline;
  if (!args.Addr(3).IsNull()) {
    int clock = args.Int(4);
    if (clock != CLOCK_MONOTONIC && clock != CLOCK_REALTIME) return Errno(EINVAL);
    deadline = DeadlineAt(task, TRY(CopyInTimespecNs(task, args.Addr(3))), clock == CLOCK_REALTIME);
  }
  std::vector<Waitv> raw(count);
  TRY(task.CopyInBytes(args.Addr(0), raw.data(), count * sizeof(Waitv)));
  std::vector<FutexTable::WaitOn> on;
  for (const Waitv& each : raw) {
    if ((each.flags & ~uint32_t{FUTEX_PRIVATE_FLAG}) != kWaitvSize32 || each.reserved != 0) return Errno(EINVAL);
    on.push_back({.address = UserAddr(each.address),
                  .shared = !(each.flags & FUTEX_PRIVATE_FLAG),
                  .value = static_cast<uint32_t>(each.value)});
  }
  MmFutexMemory memory(task.mm());
  return TRY(FutexTable::Get().WaitMany(task, memory, on, deadline));
}

SYSCALL_HANDLER(SysSetRobustList) {
  if (args.Size(1) != 24) return Errno(EINVAL);
  task.robust_list_head = args.Addr(0);
  task.robust_list_length = args.Size(1);
  return 0;
}

SYSCALL_HANDLER(SysGetRobustList) {
  RefPtr<Task> target = TRY(FindTask(task, args.Int(0)));
  TRY(kernel::CheckPtraceAccess(task, *target));
  TRY(task.CopyOut(args.Addr(2), uint64_t{24}));
  TRY(task.CopyOut(args.Addr(1), target->robust_list_head.value()));
  return 0;
}

}  // namespace sentry::syscalls
