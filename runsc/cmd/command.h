// SPDX-License-Identifier: Apache-2.0
// A subcommand: a row of the table in commands.cc and one function in a file of its own.
#ifndef RUNSC_CMD_COMMAND_H_
#define RUNSC_CMD_COMMAND_H_

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "runsc/config.h"
#include "runsc/container/container.h"
#include "runsc/flags.h"

namespace runsc {

// What runsc exits with for its own errors, as gVisor's.
inline constexpr int kErrorExitCode = 128;
inline constexpr char kVersion[] = "0.1.0";
inline constexpr char kSpecVersion[] = "1.2.0";

struct CommandContext {
  Config config;
  ParsedFlags global;
  ParsedFlags flags;
  int64_t start_ns = 0;  // CLOCK_MONOTONIC
  const std::vector<std::string>& args() const { return flags.args; }
};

struct Command {
  const char* name;
  const char* arguments;  // for the usage line
  const char* summary;
  std::span<const FlagDef> flags;
  int min_args;
  int max_args;  // -1 = any number
  bool interspersed;
  bool internal;
  absl::StatusOr<int> (*run)(CommandContext& context);
};

std::span<const Command> AllCommands();
const Command* FindCommand(const std::string& name);
std::string UsageOf(const Command& command);

absl::StatusOr<int> RunBoot(CommandContext&);
absl::StatusOr<int> RunCheckpoint(CommandContext&);
absl::StatusOr<int> RunCreate(CommandContext&);
absl::StatusOr<int> RunDebug(CommandContext&);
absl::StatusOr<int> RunDelete(CommandContext&);
absl::StatusOr<int> RunDo(CommandContext&);
absl::StatusOr<int> RunEvents(CommandContext&);
absl::StatusOr<int> RunExec(CommandContext&);
absl::StatusOr<int> RunFeatures(CommandContext&);
absl::StatusOr<int> RunFlags(CommandContext&);
absl::StatusOr<int> RunGoferCommand(CommandContext&);
absl::StatusOr<int> RunHelp(CommandContext&);
absl::StatusOr<int> RunInstall(CommandContext&);
absl::StatusOr<int> RunKill(CommandContext&);
absl::StatusOr<int> RunList(CommandContext&);
absl::StatusOr<int> RunPause(CommandContext&);
absl::StatusOr<int> RunPortForward(CommandContext&);
absl::StatusOr<int> RunPs(CommandContext&);
absl::StatusOr<int> RunRestore(CommandContext&);
absl::StatusOr<int> RunResume(CommandContext&);
absl::StatusOr<int> RunRun(CommandContext&);
absl::StatusOr<int> RunSpec(CommandContext&);
absl::StatusOr<int> RunStart(CommandContext&);
absl::StatusOr<int> RunState(CommandContext&);
absl::StatusOr<int> RunTar(CommandContext&);
absl::StatusOr<int> RunUninstall(CommandContext&);
absl::StatusOr<int> RunUpdate(CommandContext&);
absl::StatusOr<int> RunVersion(CommandContext&);
absl::StatusOr<int> RunWait(CommandContext&);

// Flag tables, beside the commands that use them.
std::span<const FlagDef> CreateFlags();
std::span<const FlagDef> RunFlagDefs();
std::span<const FlagDef> DoFlags();
std::span<const FlagDef> ExecFlags();
std::span<const FlagDef> InternalFlags();
std::span<const FlagDef> UpdateFlags();
std::span<const FlagDef> CheckpointFlags();
std::span<const FlagDef> DebugFlags();
std::span<const FlagDef> InstallFlags();
std::span<const FlagDef> PortForwardFlags();
std::span<const FlagDef> TarFlags();
std::span<const FlagDef> UninstallFlags();

// The descriptors of --preserve-fds. Errors name the one that is not open.
absl::StatusOr<std::vector<int>> PreservedFds(const ParsedFlags& flags);
// Reads the bundle of --bundle for create and run.
absl::StatusOr<CreateOptions> LoadCreateOptions(CommandContext& context);
// Starts a container that was made with `attached`, stays until it ends and removes it. The exit code.
absl::StatusOr<int> RunAttached(CommandContext& context, CreateOptions options, control::SignalScope scope);

// The processes of a running container, as `ps` prints them.
absl::Status PrintProcessTable(const Container& container);
// A path argument made absolute.
absl::StatusOr<std::string> AbsolutePath(const std::string& path);
// All of it, or not at all: stdout may be closed.
void PrintOut(const std::string& text);

}  // namespace runsc

#endif  // RUNSC_CMD_COMMAND_H_
