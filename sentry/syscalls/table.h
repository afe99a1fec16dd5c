// SPDX-License-Identifier: Apache-2.0
// The table of system calls: dispatch, documentation and strace in one. See table_x86_64.inc.
#ifndef SENTRY_SYSCALLS_TABLE_H_
#define SENTRY_SYSCALLS_TABLE_H_

#include <cstdint>

#include "sentry/syscalls/syscall.h"

namespace sentry::syscalls {

enum class Support : uint8_t { kFull, kPartial, kRefused };

struct Entry {
  const char* name = nullptr;  // null: no such number
  Handler handler = nullptr;   // null when refused
  Support support = Support::kRefused;
  int error = ENOSYS;  // of a refused call
  const char* note = "";
  const char* arguments = "";  // kinds, for strace
};

inline constexpr unsigned kTableSize = 463;
// Null when `number` has no row.
const Entry* Find(uint64_t number);

// Handles the call in the task's registers: result or internal restart code in rax. Registered with the kernel by
// boot/.
void Dispatch(Task& task);

// How often guests made a call that is refused or unknown (index kTableSize: no row). For the debug log at exit.
uint64_t RefusedCount(unsigned number);

// Called around each call when set: strace. `result` is null at entry.
using TraceHook = void (*)(Task& task, uint64_t number, const Arguments& args, const Value* result);
void SetTraceHook(TraceHook hook);

}  // namespace sentry::syscalls

#endif  // SENTRY_SYSCALLS_TABLE_H_
