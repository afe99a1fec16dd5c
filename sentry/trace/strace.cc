// SPDX-License-Identifier: Apache-2.0
#include "sentry/trace/strace.h"

#include <stdio.h>

#include <algorithm>
#include <atomic>
#include <bitset>
#include <string_view>

#include "base/clock.h"
#include "base/log.h"
#include "sentry/syscalls/table.h"
#include "sentry/trace/format.h"

namespace sentry::trace {
namespace {

using syscalls::kTableSize;

// Shown at entry, too: they may never return, or their arguments are gone then.
constexpr std::string_view kShownAtEntry[] = {"execve", "execveat", "exit", "exit_group", "rt_sigreturn"};

bool Returns(const syscalls::Entry& entry) {
  return std::string_view(entry.name) != "exit" && std::string_view(entry.name) != "exit_group";
}

struct Settings {
  std::bitset<kTableSize> shown, shown_at_entry;
  bool unknown_too = true;
  size_t max_string = 0;
};
// Replaced whole, and kept for the life of the process: a call may still look at the old one. An operator's changes are
// few.
std::atomic<const Settings*> current{nullptr};

thread_local int64_t entered_ns = 0;

void Print(kernel::Task& task, const std::string& text) {
  base::Log(base::LogLevel::kInfo, "[%4d:%4d] %s", task.group().tgid(), task.tid(), text.c_str());
}

void OnCall(kernel::Task& task, uint64_t number, const syscalls::Arguments& args, const syscalls::Value* result) {
  if (!base::LogEnabled(base::LogLevel::kInfo)) return;
  const Settings* settings = current.load(std::memory_order_acquire);
  if (!settings) return;
  const syscalls::Entry* entry = syscalls::Find(number);
  if (entry ? !settings->shown[number] : !settings->unknown_too) return;
  const bool at_entry = entry && settings->shown_at_entry[number];
  CallView call{.name = entry ? entry->name : "",
                .kinds = entry ? entry->arguments : "hex,hex,hex,hex,hex,hex",
                .result = result};
  std::copy(std::begin(args.raw), std::end(args.raw), call.raw);
  if (!result) {
    entered_ns = base::MonotonicNs();
    if (at_entry) Print(task, FormatCall(call, task, settings->max_string) + (Returns(*entry) ? " ..." : " = ?"));
    return;
  }
  if (at_entry && !Returns(*entry)) return;
  const int64_t took_us = (base::MonotonicNs() - entered_ns) / 1000;
  std::string line;
  if (at_entry) {
    line = std::string("<... ") + call.name + " resumed>";
  } else if (entry) {
    line = FormatCall(call, task, settings->max_string);
  } else {
    char name[32];
    snprintf(name, sizeof name, "syscall_%#lx", number);
    line = name + FormatCall(call, task, settings->max_string);
  }
  Print(task, line + " = " + FormatResult(call) + " <" + std::to_string(took_us) + "us>");
}

}  // namespace

void EnableStrace(std::vector<std::string> only, size_t max_string) {
  auto* made = new Settings();
  made->max_string = max_string;
  made->unknown_too = only.empty();
  for (unsigned number = 0; number < kTableSize; ++number) {
    const syscalls::Entry* entry = syscalls::Find(number);
    if (!entry) continue;
    const std::string_view name = entry->name;
    auto wanted = std::find(only.begin(), only.end(), name);
    made->shown[number] = made->unknown_too || wanted != only.end();
    made->shown_at_entry[number] =
        std::find(std::begin(kShownAtEntry), std::end(kShownAtEntry), name) != std::end(kShownAtEntry);
    if (wanted != only.end()) only.erase(wanted);
  }
  for (const std::string& name : only) LOG_WARNING("--strace-syscalls: there is no system call %s", name.c_str());
  current.store(made, std::memory_order_release);
  syscalls::SetTraceHook(&OnCall);
}

void DisableStrace() { current.store(nullptr, std::memory_order_release); }

}  // namespace sentry::trace
