// SPDX-License-Identifier: Apache-2.0
// runsc checkpoint and restore: known to callers, not there yet.
#include "runsc/cmd/command.h"

namespace runsc {
namespace {

using enum FlagType;

constexpr char kNotYet[] = "nothing is saved yet";

constexpr FlagDef kFlags[] = {
    {"image-path", "", kString, "", "", kNotYet},         {"work-path", "", kString, "", "", kNotYet},
    {"parent-path", "", kString, "", "", kNotYet},        {"leave-running", "", kBool, "false", "", kNotYet},
    {"tcp-established", "", kBool, "false", "", kNotYet}, {"ext-unix-sk", "", kBool, "false", "", kNotYet},
    {"shell-job", "", kBool, "false", "", kNotYet},       {"lazy-pages", "", kBool, "false", "", kNotYet},
    {"file-locks", "", kBool, "false", "", kNotYet},      {"pre-dump", "", kBool, "false", "", kNotYet},
    {"compression", "", kString, "", "", kNotYet},        {"bundle", "b", kString, "", "", kNotYet},
    {"detach", "d", kBool, "false", "", kNotYet},         {"pid-file", "", kString, "", "", kNotYet},
    {"console-socket", "", kString, "", "", kNotYet},     {"no-pivot", "", kBool, "false", "", kNotYet},
    {"no-subreaper", "", kBool, "false", "", kNotYet},    {"background", "", kBool, "false", "", kNotYet},
};

}  // namespace

std::span<const FlagDef> CheckpointFlags() { return kFlags; }

absl::StatusOr<int> RunCheckpoint(CommandContext& context) {
  // The more helpful error first.
  auto container = Container::Open(context.config, context.args()[0]);
  if (!container.ok()) return container.status();
  return absl::UnimplementedError("checkpoint: a container cannot be saved yet");
}

absl::StatusOr<int> RunRestore(CommandContext& context) {
  return absl::UnimplementedError("restore: a container cannot be restored yet: create and start a new one");
}

}  // namespace runsc
