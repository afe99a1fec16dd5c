// SPDX-License-Identifier: Apache-2.0
// runsc: parses the global flags, finds the subcommand, and turns an error into one line and an exit code.
#include "runsc/main.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "base/log.h"
#include "runsc/cmd/command.h"
#include "runsc/container/container.h"
#include "runsc/errors.h"
#include "runsc/global_flags.h"
#include "runsc/json_writer.h"

namespace runsc {

std::string HelpText();

namespace {

// containerd reads the last error from --log.
void AppendToLog(const Config& config, const std::string& message) {
  if (config.log.empty()) return;
  base::UniqueFd fd(open(config.log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644));
  if (!fd.ok()) return;
  std::string time = FormatTime(base::RealtimeNs());
  std::string line;
  if (config.log_json) {
    JsonWriter w("");
    w.BeginObject();
    w.String("level", "error");
    w.String("msg", message);
    w.String("time", time);
    w.EndObject();
    line = w.text() + "\n";
  } else {
    line = absl::StrCat("time=\"", time, "\" level=error msg=", JsonString(message), "\n");
  }
  [[maybe_unused]] ssize_t n = write(fd.get(), line.data(), line.size());
}

int Fail(const Config& config, const absl::Status& status) {
  std::string message(status.message());
  std::replace(message.begin(), message.end(), '\n', ' ');
  AppendToLog(config, message);
  dprintf(STDERR_FILENO, "runsc: %s\n", message.c_str());
  return kErrorExitCode;
}

// 0, 1 and 2 must not be taken by something else that is opened.
void OpenStandardFds() {
  for (int fd = 0; fd <= 2; ++fd) {
    if (fcntl(fd, F_GETFD) >= 0) continue;
    // Lands on the lowest free number, which is `fd`.
    [[maybe_unused]] int opened = open("/dev/null", O_RDWR);
  }
}

void StartLogging(const Command& command, CommandContext& context, base::UniqueFd* log) {
  if (command.internal) return;
  const Config& config = context.config;
  if (!config.debug_log.empty()) {
    std::string id = context.args().empty() ? "" : context.args()[0];
    auto opened = OpenDebugLog(config, command.name, ValidateId(id).ok() ? id : "");
    if (opened.ok()) *log = *std::move(opened);
  }
  // Without --debug-log only warnings are shown, on stderr.
  int fd = log->ok() ? log->get() : -1;
  base::LogLevel level = config.debug && (fd >= 0 || config.also_log_to_stderr) ? base::LogLevel::kDebug
                         : fd >= 0                                              ? base::LogLevel::kInfo
                                                                                : base::LogLevel::kWarning;
  base::InitLogging("runsc", fd, level);
  LOG_DEBUG("command %s, state below %s", command.name, config.root.c_str());
}

absl::Status CheckArguments(const Command& command, const CommandContext& context) {
  int count = static_cast<int>(context.args().size());
  if (count >= command.min_args && (command.max_args < 0 || count <= command.max_args)) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(command.name, ": wrong number of arguments (", count,
                                                 "): usage: runsc ", command.name, " ", command.arguments));
}

}  // namespace

int Main(int argc, char** argv) {
  CommandContext context;
  context.start_ns = base::MonotonicNs();
  OpenStandardFds();
  signal(SIGPIPE, SIG_IGN);
  std::vector<std::string> arguments(argv + std::min(argc, 1), argv + argc);
  auto global = ParseFlags(GlobalFlags(), arguments, /*interspersed=*/false);
  if (!global.ok()) return Fail(context.config, global.status());
  context.global = *std::move(global);
  std::vector<std::string> rest = std::move(context.global.args);
  context.global.args.clear();
  if (context.global.Has("help") || rest.empty()) {
    std::string help = HelpText();
    if (context.global.Has("help")) {
      PrintOut(help);
      return 0;
    }
    dprintf(STDERR_FILENO, "%s", help.c_str());
    return kErrorExitCode;
  }
  auto config = ParseGlobalFlags(context.global);
  if (!config.ok()) return Fail(context.config, config.status());
  context.config = *std::move(config);
  const Command* command = FindCommand(rest[0]);
  if (!command) {
    return Fail(context.config, absl::InvalidArgumentError(
                                    absl::StrCat("unknown command \"", rest[0], "\": runsc help lists the commands")));
  }
  auto flags = ParseFlags(command->flags, std::span(rest).subspan(1), command->interspersed);
  if (!flags.ok()) return Fail(context.config, Annotate(flags.status(), command->name));
  context.flags = *std::move(flags);
  if (context.flags.Has("help")) {
    PrintOut(UsageOf(*command));
    return 0;
  }
  if (absl::Status status = CheckArguments(*command, context); !status.ok()) return Fail(context.config, status);
  base::UniqueFd log;
  StartLogging(*command, context, &log);
  for (const std::string& warning : context.global.warnings) LOG_INFO("%s", warning.c_str());
  for (const std::string& warning : context.flags.warnings) LOG_INFO("%s", warning.c_str());
  auto code = command->run(context);
  if (!code.ok()) return Fail(context.config, code.status());
  return *code;
}

}  // namespace runsc
