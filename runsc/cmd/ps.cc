// SPDX-License-Identifier: Apache-2.0
// runsc ps. The table's pids are those in the container. The JSON form is for engines, which look its pids up on the
// host (docker top): there the sandbox's process stands for all of them.
#include <stdio.h>
#include <time.h>

#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "runsc/cmd/command.h"
#include "runsc/cmd/table.h"
#include "runsc/errors.h"
#include "runsc/json_writer.h"

namespace runsc {
namespace {

// "14:35", or "Nov23" when it started on another day.
std::string StartTime(int64_t ns) {
  time_t start = ns / base::kNsPerSecond, now = time(nullptr);
  tm s, n;
  localtime_r(&start, &s);
  localtime_r(&now, &n);
  char text[16];
  bool today = s.tm_yday == n.tm_yday && s.tm_year == n.tm_year;
  strftime(text, sizeof text, today ? "%H:%M" : "%b%d", &s);
  return text;
}

std::string CpuTime(int64_t ns) {
  int64_t seconds = ns / base::kNsPerSecond;
  char text[32];
  snprintf(text, sizeof text, "%02d:%02d:%02d", static_cast<int>(seconds / 3600 % 100),
           static_cast<int>(seconds / 60 % 60), static_cast<int>(seconds % 60));
  return text;
}

}  // namespace

absl::Status PrintProcessTable(const Container& container) {
  auto client = VALUE_OR_RETURN(container.Connect());
  auto processes = VALUE_OR_RETURN(client.Processes());
  std::vector<std::vector<std::string>> rows = {{"UID", "PID", "PPID", "C", "TTY", "STIME", "TIME", "CMD"}};
  for (const auto& p : processes) {
    rows.push_back({absl::StrCat(p.uid), absl::StrCat(p.pid), absl::StrCat(p.ppid), absl::StrCat(p.cpu_percent), p.tty,
                    StartTime(p.start_time_ns), CpuTime(p.cpu_time_ns), p.command});
  }
  PrintOut(FormatTable(rows));
  return absl::OkStatus();
}

absl::StatusOr<int> RunPs(CommandContext& context) {
  const std::string& format = context.flags.Get("format");
  if (format != "table" && format != "json") {
    return absl::InvalidArgumentError(absl::StrCat("--format: must be table or json, is \"", format, "\""));
  }
  Container container = VALUE_OR_RETURN(Container::Open(context.config, context.args()[0]));
  if (container.record().status == Status::kStopped) return absl::FailedPreconditionError("container not running");
  if (format == "table") {
    RETURN_IF_ERROR(PrintProcessTable(container));
    return 0;
  }
  auto client = VALUE_OR_RETURN(container.Connect());
  auto processes = VALUE_OR_RETURN(client.Processes());
  JsonWriter w("");
  w.BeginArray();
  if (!processes.empty()) w.Number("", container.record().sandbox_pid);
  w.EndArray();
  PrintOut(w.text() + "\n");
  return 0;
}

}  // namespace runsc
