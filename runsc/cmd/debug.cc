// SPDX-License-Identifier: Apache-2.0
// runsc debug: a look at a sandbox that hangs, without its help.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "runsc/cmd/command.h"
#include "runsc/errors.h"

namespace runsc {
namespace {

using enum FlagType;

constexpr FlagDef kDebugFlags[] = {
    {"stacks", "", kBool, "false", "print what each host thread of the sentry and the gofer waits for"},
    {"ps", "", kBool, "false", "print the processes of the container, as ps does"},
    {"signal", "", kInteger, "-1", "send this signal to the sentry's process"},
    {"log", "", kBool, "false", "print where the container's state and debug logs are"},
    {"log-level", "", kString, "", "from now on log this and worse: debug, info or warning"},
    {"strace", "", kString, "", "log system calls from now on: all, off, or names separated by commas"},
};

std::string ReadProc(const std::string& path) {
  base::UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  char text[8192];
  ssize_t n = fd.ok() ? read(fd.get(), text, sizeof text) : -1;
  std::string out(text, n > 0 ? n : 0);
  while (!out.empty() && out.back() == '\n') out.pop_back();
  return out;
}

// Thread by thread: its name, the host call it is in (number and arguments, proc(5)), and its kernel stack where the
// reader may see it.
void PrintStacks(const char* what, pid_t pid) {
  const std::string tasks = absl::StrCat("/proc/", pid, "/task");
  std::vector<int> threads;
  if (DIR* directory = opendir(tasks.c_str())) {
    while (dirent* entry = readdir(directory)) {
      int tid;
      if (absl::SimpleAtoi(entry->d_name, &tid)) threads.push_back(tid);
    }
    closedir(directory);
  }
  std::sort(threads.begin(), threads.end());
  PrintOut(absl::StrCat(what, " ", pid, ": ", threads.size(), " threads\n"));
  for (int tid : threads) {
    const std::string task = absl::StrCat(tasks, "/", tid);
    PrintOut(absl::StrCat("  thread ", tid, " (", ReadProc(task + "/comm"), "): ", ReadProc(task + "/syscall"), "\n"));
    std::string stack = ReadProc(task + "/stack");
    if (!stack.empty()) PrintOut(absl::StrCat("    ", absl::StrReplaceAll(stack, {{"\n", "\n    "}}), "\n"));
  }
}

absl::StatusOr<control::LoggingChange> LoggingOf(const ParsedFlags& flags) {
  control::LoggingChange change;
  if (flags.Has("log-level")) {
    constexpr const char* kLevels[] = {"debug", "info", "warning"};
    auto level = std::find(std::begin(kLevels), std::end(kLevels), flags.Get("log-level"));
    if (level == std::end(kLevels)) {
      return absl::InvalidArgumentError(
          absl::StrCat("--log-level: must be debug, info or warning, is \"", flags.Get("log-level"), "\""));
    }
    change.level = static_cast<int>(level - std::begin(kLevels));
  }
  if (flags.Has("strace")) {
    const std::string& what = flags.Get("strace");
    change.strace = what != "off";
    if (*change.strace && what != "all") change.strace_only = absl::StrSplit(what, ',', absl::SkipEmpty());
  }
  return change;
}

}  // namespace

std::span<const FlagDef> DebugFlags() { return kDebugFlags; }

absl::StatusOr<int> RunDebug(CommandContext& context) {
  const ParsedFlags& flags = context.flags;
  Container container = VALUE_OR_RETURN(Container::Open(context.config, context.args()[0]));
  const ContainerRecord& record = container.record();
  if (flags.GetBool("log")) {
    PrintOut(absl::StrCat("state: ", context.config.root, "/", record.id, "\n"));
    PrintOut(absl::StrCat(
        "debug log: ", context.config.debug_log.empty() ? "none (--debug-log)" : context.config.debug_log, "\n"));
  }
  if (record.status == Status::kStopped) return absl::FailedPreconditionError("container not running");
  if (flags.GetBool("stacks")) {
    PrintStacks("sentry", record.sandbox_pid);
    PrintStacks("gofer", record.gofer_pid);
  }
  if (flags.GetBool("ps")) RETURN_IF_ERROR(PrintProcessTable(container));
  if (flags.Has("log-level") || flags.Has("strace")) {
    auto change = VALUE_OR_RETURN(LoggingOf(flags));
    auto client = VALUE_OR_RETURN(container.Connect());
    RETURN_IF_ERROR(client.SetLogging(change));
  }
  int64_t signal = flags.GetInteger("signal");
  if (signal > 64) return absl::InvalidArgumentError("--signal: not in 0..64");
  if (signal >= 0 && kill(record.sandbox_pid, static_cast<int>(signal)) != 0) {
    return absl::InternalError(absl::StrCat("kill: ", ErrnoText(errno)));
  }
  return 0;
}

}  // namespace runsc
