// SPDX-License-Identifier: Apache-2.0
// futex_wake(2), futex_wait(2), futex_requeue(2): futexes of 32 bits, as futex2 has them so far.
#include <linux/futex.h>
#include <time.h>

#include "sentry/kernel/futex.h"
#include "sentry/syscalls/handlers.h"

namespace sentry::syscalls {
namespace {

using kernel::FutexTable;
using kernel::MmFutexMemory;

constexpr uint32_t kSize32 = 2, kPrivate = FUTEX_PRIVATE_FLAG;

// Other sizes and NUMA nodes are EINVAL.
Result<bool> SharedOf(uint32_t flags) {
  if ((flags & ~kPrivate) != kSize32) return Errno(EINVAL);
  return !(flags & kPrivate);
}

Result<uint32_t> Word(uint64_t value) {
  if (value > UINT32_MAX) return Errno(EINVAL);
  return static_cast<uint32_t>(value);
}

}  // namespace

SYSCALL_HANDLER(SysFutexWake) {
  const bool shared = TRY(SharedOf(args.Uint(3)));
  const uint32_t mask = TRY(Word(args.Ulong(1)));
  if (mask == 0) return Errno(EINVAL);
  MmFutexMemory memory(task.mm());
  // Unlike futex(2), none means none; the address is looked at all the same.
  if (args.Int(2) == 0) {
    TRY(memory.Key(args.Addr(0), shared));
    return 0;
  }
  return TRY(FutexTable::Get().Wake(memory, args.Addr(0), shared, args.Int(2), mask));
}

SYSCALL_HANDLER(SysFutexWait) {
  const bool shared = TRY(SharedOf(args.Uint(3)));
  const uint32_t value = TRY(Word(args.Ulong(1))), mask = TRY(Word(args.Ulong(2)));
  int64_t deadline = kNoDeadline;
  if (!args.Addr(4).IsNull()) {
    const int clock = args.Int(5);
    if (clock != CLOCK_MONOTONIC && clock != CLOCK_REALTIME) return Errno(EINVAL);
    const int64_t at = TRY(CopyInTimespecNs(task, args.Addr(4)));
    deadline = clock == CLOCK_MONOTONIC ? HostTimeOf(task, clock, at) : DeadlineAfter(at - base::RealtimeNs());
  }
  if (mask == 0) return Errno(EINVAL);
  MmFutexMemory memory(task.mm());
  TRY(FutexTable::Get().Wait(task, memory, {.address = args.Addr(0), .shared = shared, .value = value}, mask,
                             deadline));
  return 0;
}

SYSCALL_HANDLER(SysFutexRequeue) {
  struct Waitv {
    uint64_t value, address;
    uint32_t flags, reserved;
  };
  if (args.Uint(1) != 0 || args.Addr(0).IsNull()) return Errno(EINVAL);
  Waitv pair[2];
  TRY(task.CopyInBytes(args.Addr(0), pair, sizeof pair));
  for (const Waitv& each : pair) {
    if (each.reserved != 0) return Errno(EINVAL);
    TRY(SharedOf(each.flags));
    TRY(Word(each.value));
  }
  const bool shared = TRY(SharedOf(pair[0].flags));
  if (shared != TRY(SharedOf(pair[1].flags))) return Errno(EINVAL);
  if (args.Int(2) < 0 || args.Int(3) < 0) return Errno(EINVAL);
  MmFutexMemory memory(task.mm());
  return TRY(FutexTable::Get().Requeue(memory, UserAddr(pair[0].address), UserAddr(pair[1].address), shared,
                                       args.Int(2), args.Int(3), static_cast<uint32_t>(pair[0].value)));
}

}  // namespace sentry::syscalls
