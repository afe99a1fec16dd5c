// SPDX-License-Identifier: Apache-2.0
// The table of subcommands, and what several of them share.
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "absl/strings/str_cat.h"
#include "runsc/cmd/command.h"
#include "runsc/errors.h"
#include "runsc/spec/parse.h"

namespace runsc {
namespace {

using enum FlagType;

constexpr FlagDef kKillFlags[] = {
    {"all", "a", kBool, "false", "signal every process of the container"},
};
constexpr FlagDef kDeleteFlags[] = {
    {"force", "f", kBool, "false", "kill the container if it is still running; one that does not exist is no error"},
};
constexpr FlagDef kListFlags[] = {
    {"format", "f", kString, "table", "table or json"},
    {"quiet", "q", kBool, "false", "only the ids"},
};
constexpr FlagDef kPsFlags[] = {
    {"format", "f", kString, "table", "table or json"},
};
constexpr FlagDef kSpecFlags[] = {
    {"bundle", "b", kString, ".", "directory to write config.json to"},
    {"cwd", "", kString, "/", "process.cwd"},
    {"rootless", "", kBool, "false", "for a container of an ordinary user"},
};
constexpr FlagDef kWaitFlags[] = {
    {"pid", "", kInteger, "0", "of a process that exec started; 0 = the container's init"},
};
constexpr FlagDef kEventsFlags[] = {
    {"stats", "", kBool, "false", "print one set of numbers and exit"},
    {"interval", "", kInteger, "5", "seconds between two sets"},
};

}  // namespace

std::span<const Command> AllCommands() {
  static const Command commands[] = {
      {"run", "ID", "create and start a container, wait until it ends", RunFlagDefs(), 1, 1, true, false, RunRun},
      {"create", "ID", "make a container; its process waits for start", CreateFlags(), 1, 1, true, false, RunCreate},
      {"start", "ID", "start the process of a created container", {}, 1, 1, true, false, RunStart},
      {"state", "ID", "print the state of a container", {}, 1, 1, true, false, RunState},
      {"kill", "ID [SIGNAL]", "send a signal to a container's init (default: TERM)", kKillFlags, 1, 2, true, false,
       RunKill},
      {"delete", "ID...", "remove containers", kDeleteFlags, 1, -1, true, false, RunDelete},
      {"list", "", "list the containers of --root", kListFlags, 0, 0, true, false, RunList},
      {"exec", "ID COMMAND [ARG...]", "run another process in a container", ExecFlags(), 1, -1, false, false, RunExec},
      {"ps", "ID", "list the processes of a container", kPsFlags, 1, 1, true, false, RunPs},
      {"wait", "ID", "wait for the exit status of a container", kWaitFlags, 1, 1, true, false, RunWait},
      {"pause", "ID", "stop all processes of a container", {}, 1, 1, true, false, RunPause},
      {"resume", "ID", "let a paused container go on", {}, 1, 1, true, false, RunResume},
      {"update", "ID", "change the limits of a container", UpdateFlags(), 1, 1, true, false, RunUpdate},
      {"checkpoint", "ID", "save a container (not there yet)", CheckpointFlags(), 1, 1, true, false, RunCheckpoint},
      {"restore", "ID", "restore a container (not there yet)", CheckpointFlags(), 1, 1, true, false, RunRestore},
      {"tar", "rootfs-upper ID", "archive what a container changed below its root", TarFlags(), 2, 2, true, false,
       RunTar},
      {"port-forward", "ID [LOCAL:]PORT", "carry connections to a local port to one of the container",
       PortForwardFlags(), 2, 2, true, false, RunPortForward},
      {"debug", "ID", "look into a sandbox", DebugFlags(), 1, 1, true, false, RunDebug},
      {"install", "[-- RUNTIME-FLAG...]", "enter this runtime into Docker's daemon.json", InstallFlags(), 0, -1, false,
       false, RunInstall},
      {"uninstall", "", "take it out again", UninstallFlags(), 0, 0, true, false, RunUninstall},
      {"events", "ID", "print resource use", kEventsFlags, 1, 1, true, false, RunEvents},
      {"spec", "[-- ARG...]", "write a default config.json", kSpecFlags, 0, -1, false, false, RunSpec},
      {"do", "COMMAND [ARG...]", "run a command in a sandbox on the host's files", DoFlags(), 1, -1, false, false,
       RunDo},
      {"features", "", "print what this runtime supports, as JSON", {}, 0, 0, true, false, RunFeatures},
      {"flags", "", "print the global flags", {}, 0, 0, true, false, RunFlags},
      {"version", "", "print the version", {}, 0, 0, true, false, RunVersion},
      {"help", "[COMMAND]", "print help", {}, 0, 1, true, false, RunHelp},
      {"boot", "", "the sentry (internal)", InternalFlags(), 0, 0, true, true, RunBoot},
      {"gofer", "", "the gofer (internal)", InternalFlags(), 0, 0, true, true, RunGoferCommand},
  };
  return commands;
}

const Command* FindCommand(const std::string& name) {
  for (const Command& command : AllCommands()) {
    if (name == command.name) return &command;
  }
  return nullptr;
}

std::string UsageOf(const Command& command) {
  std::string text = absl::StrCat("usage: runsc [GLOBAL FLAGS] ", command.name);
  if (!command.flags.empty()) absl::StrAppend(&text, " [FLAGS]");
  absl::StrAppend(&text, *command.arguments ? " " : "", command.arguments, "\n\n", command.summary, "\n");
  if (!command.flags.empty()) absl::StrAppend(&text, "\n", FlagsHelp(command.flags));
  return text;
}

absl::StatusOr<std::string> AbsolutePath(const std::string& path) {
  if (!path.empty() && path[0] == '/') return spec::CleanPath(path);
  char* cwd = getcwd(nullptr, 0);
  if (!cwd) return absl::InvalidArgumentError(absl::StrCat("current directory: ", ErrnoText(errno)));
  std::string absolute = absl::StrCat(cwd, "/", path);
  free(cwd);
  return spec::CleanPath(absolute);
}

void PrintOut(const std::string& text) {
  for (size_t done = 0; done < text.size();) {
    ssize_t n = write(STDOUT_FILENO, text.data() + done, text.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return;
    done += n;
  }
}

}  // namespace runsc
