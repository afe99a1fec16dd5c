// SPDX-License-Identifier: Apache-2.0
// /proc/PID/timens_offsets (time_namespaces(7)): of the namespace that the process's children will be in.
#include <time.h>

#include <algorithm>

#include "sentry/fs/proc/task_dir.h"

namespace sentry::fs {
namespace {

// A clock's time stays within half of what nanoseconds in 63 bits can say (proc_timens_set_offset).
constexpr int64_t kMaxSeconds = INT64_MAX / base::kNsPerSecond;

std::string Line(const char* name, int64_t ns) {
  int64_t seconds = ns / base::kNsPerSecond, rest = ns % base::kNsPerSecond;
  if (rest < 0) {
    rest += base::kNsPerSecond;
    --seconds;
  }
  std::string text;
  Append(text, "%-10s %10lld %9lld\n", name, static_cast<long long>(seconds), static_cast<long long>(rest));
  return text;
}

std::string_view TakeWord(std::string_view& text) {
  text.remove_prefix(std::min(text.find_first_not_of(" \t"), text.size()));
  const size_t end = std::min(text.find_first_of(" \t\n"), text.size());
  const std::string_view word = text.substr(0, end);
  text.remove_prefix(end);
  return word;
}

Result<RefPtr<kernel::TimeNamespace>> NamespaceFor(const Context& context) {
  RefPtr<kernel::Namespaces> namespaces = context.task->namespaces_ref();
  if (!namespaces) return Errno(ESRCH);
  return namespaces->time_for_children;
}

}  // namespace

Result<std::string> TaskTimeOffsets(const Context& context) {
  const kernel::ClockOffsets offsets = TRY(NamespaceFor(context))->offsets();
  return Line("monotonic", offsets.monotonic_ns) + Line("boottime", offsets.boottime_ns);
}

Result<size_t> WriteTaskTimeOffsets(const Context& context, std::string_view data) {
  RefPtr<kernel::TimeNamespace> ns = TRY(NamespaceFor(context));
  kernel::ClockOffsets offsets = ns->offsets();
  int lines = 0;
  struct {
    clockid_t clock;
    int64_t seconds, ns;
  } wanted[2];
  for (std::string_view text = data; !text.empty();) {
    if (text[0] == '\n' || text[0] == '\0') {
      text.remove_prefix(1);
      continue;
    }
    if (lines == 2) return Errno(EINVAL);
    const std::string_view name = TakeWord(text);
    auto& each = wanted[lines++];
    if (name == "monotonic" || name == "1") {
      each.clock = CLOCK_MONOTONIC;
    } else if (name == "boottime" || name == "7") {
      each.clock = CLOCK_BOOTTIME;
    } else {
      return Errno(EINVAL);
    }
    // Up to 19 digits, more than ParseNumber takes.
    std::string_view seconds = TakeWord(text);
    const bool negative = seconds.starts_with('-');
    if (negative) seconds.remove_prefix(1);
    if (seconds.empty() || seconds.size() > 19) return Errno(EINVAL);
    unsigned __int128 value = 0;
    for (char c : seconds) {
      if (c < '0' || c > '9') return Errno(EINVAL);
      value = value * 10 + static_cast<unsigned>(c - '0');
    }
    if (value > static_cast<unsigned __int128>(INT64_MAX)) return Errno(EINVAL);
    each.seconds = negative ? -static_cast<int64_t>(value) : static_cast<int64_t>(value);
    each.ns = TRY(ParseNumber(TakeWord(text)));
    if (each.ns < 0 || each.ns >= base::kNsPerSecond) return Errno(EINVAL);
    if (!text.empty() && text[0] != '\n') return Errno(EINVAL);
  }
  if (context.opener && !context.opener->HasCapabilityIn(ns->owner(), CAP_SYS_TIME)) return Errno(EPERM);
  for (int i = 0; i < lines; ++i) {
    const auto& each = wanted[i];
    if (each.seconds > kMaxSeconds || each.seconds < -kMaxSeconds) return Errno(ERANGE);
    const int64_t offset = each.seconds * base::kNsPerSecond + (each.seconds == -kMaxSeconds ? 0 : each.ns);
    const int64_t now = base::ClockNs(each.clock);
    if (offset < -now || (now + std::max<int64_t>(offset, 0)) / base::kNsPerSecond > kMaxSeconds / 2)
      return Errno(ERANGE);
    (each.clock == CLOCK_MONOTONIC ? offsets.monotonic_ns : offsets.boottime_ns) = offset;
  }
  TRY(ns->SetOffsets(offsets));
  return data.size();
}

}  // namespace sentry::fs
