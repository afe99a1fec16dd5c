// SPDX-License-Identifier: Apache-2.0
#include "sentry/syscalls/table.h"

#include <array>
#include <atomic>

#include "base/log.h"
#include "sentry/kernel/kernel.h"
#include "sentry/mm/userfault.h"
#include "sentry/syscalls/handlers.h"

namespace sentry::syscalls {
namespace {

constexpr std::array<Entry, kTableSize> MakeTable() {
  std::array<Entry, kTableSize> table{};
#define CALL(number, name, handler, arguments) table[number] = {#name, handler, Support::kFull, 0, "", arguments};
#define PART(number, name, handler, arguments, note) \
  table[number] = {#name, handler, Support::kPartial, 0, note, arguments};
#define NONE(number, name, error, reason) table[number] = {#name, nullptr, Support::kRefused, error, reason, ""};
#define GONE(number, name, reason) NONE(number, name, ENOSYS, reason)
#include "sentry/syscalls/table_x86_64.inc"
#undef CALL
#undef PART
#undef NONE
#undef GONE
  return table;
}

const std::array<Entry, kTableSize> kTable = MakeTable();
std::array<std::atomic<uint64_t>, kTableSize + 1> refused_counts;
std::atomic<TraceHook> trace_hook{nullptr};

Value Call(Task& task, uint64_t number, const Arguments& args) {
  const Entry* entry = Find(number);
  if (entry && entry->handler) [[likely]]
    return entry->handler(task, args);
  unsigned index = entry ? static_cast<unsigned>(number) : kTableSize;
  if (refused_counts[index].fetch_add(1, std::memory_order_relaxed) == 0) {
    LOG_INFO("system call %lu (%s) is refused: %s", number, entry ? entry->name : "no such number",
             entry ? entry->note : "ENOSYS");
  }
  return Errno(entry && entry->error ? entry->error : ENOSYS);
}

}  // namespace

const Entry* Find(uint64_t number) {
  if (number >= kTableSize || !kTable[number].name) return nullptr;
  return &kTable[number];
}

uint64_t RefusedCount(unsigned number) {
  return number <= kTableSize ? refused_counts[number].load(std::memory_order_relaxed) : 0;
}

void SetTraceHook(TraceHook hook) {
  if (hook) kernel::WatchCalls();
  trace_hook.store(hook, std::memory_order_relaxed);
}

void Dispatch(Task& task) {
  kernel::Registers& regs = task.regs();
  // Only the low half counts (arch/x86/entry/common.c).
  uint64_t number = static_cast<uint32_t>(regs.orig_rax);
  Arguments args{{regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9}};
  TraceHook hook = trace_hook.load(std::memory_order_relaxed);
  if (hook) [[unlikely]]
    hook(task, number, args, nullptr);
  Value result = Call(task, number, args);
  // A copy under a lock met memory whose faults a handler of the guest resolves.
  while (!result.ok() && result.error() == Errno(EFAULT) && mm::AwaitMissedUserfault())
    result = Call(task, number, args);
  if (hook) [[unlikely]]
    hook(task, number, args, &result);
  regs.rax = result.ok() ? static_cast<uint64_t>(*result) : static_cast<uint64_t>(-int64_t{result.error().number()});
}

}  // namespace sentry::syscalls
