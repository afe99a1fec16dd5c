// SPDX-License-Identifier: Apache-2.0
// runsc events: resource use in the shape of runc's "stats" events, from the sentry's own accounting.
#include <unistd.h>

#include "absl/strings/str_cat.h"
#include "runsc/cmd/command.h"
#include "runsc/errors.h"
#include "runsc/json_writer.h"

namespace runsc {
namespace {

std::string StatsJson(const std::string& id, const control::Stats& stats) {
  JsonWriter w("");
  w.BeginObject();
  w.String("type", "stats");
  w.String("id", id);
  w.BeginObject("data");
  w.BeginObject("cpu");
  w.BeginObject("usage");
  w.Value("total", absl::StrCat(stats.cpu_ns));
  w.EndObject();
  w.EndObject();
  w.BeginObject("memory");
  w.BeginObject("usage");
  if (stats.memory_limit_bytes != 0) w.Value("limit", absl::StrCat(stats.memory_limit_bytes));
  w.Value("usage", absl::StrCat(stats.memory_bytes));
  w.EndObject();
  w.EndObject();
  w.BeginObject("pids");
  w.Value("current", absl::StrCat(stats.pids));
  w.EndObject();
  w.EndObject();
  w.EndObject();
  return w.text();
}

}  // namespace

absl::StatusOr<int> RunEvents(CommandContext& context) {
  int64_t interval = context.flags.GetInteger("interval");
  if (interval < 1 || interval > 86400) return absl::InvalidArgumentError("--interval: must be in 1..86400");
  const std::string& id = context.args()[0];
  while (true) {
    Container container = VALUE_OR_RETURN(Container::Open(context.config, id));
    if (container.record().status == Status::kStopped) {
      return absl::FailedPreconditionError("container not running");
    }
    auto client = VALUE_OR_RETURN(container.Connect());
    auto stats = VALUE_OR_RETURN(client.GetStats());
    PrintOut(StatsJson(id, stats) + "\n");
    if (context.flags.GetBool("stats")) return 0;
    sleep(static_cast<unsigned>(interval));
  }
}

}  // namespace runsc
