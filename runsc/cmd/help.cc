// SPDX-License-Identifier: Apache-2.0
// runsc help, flags and version
#include <string.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "runsc/cmd/command.h"
#include "runsc/cmd/help_topics.h"
#include "runsc/global_flags.h"

namespace runsc {

std::string HelpText() {
  std::string text =
      "runsc runs each container on a kernel of its own, in user space.\n\n"
      "usage: runsc [GLOBAL FLAGS] COMMAND [FLAGS] [ARG...]\n\ncommands:\n";
  size_t width = 0;
  for (const Command& command : AllCommands()) width = std::max(width, strlen(command.name) + 2);
  for (const Command& command : AllCommands()) {
    if (command.internal) continue;
    std::string name = command.name;
    absl::StrAppend(&text, "  ", name, std::string(width - name.size(), ' '), command.summary, "\n");
  }
  absl::StrAppend(&text, "\nrunsc help COMMAND and runsc flags tell more.\n");
  return text;
}

absl::StatusOr<int> RunHelp(CommandContext& context) {
  if (context.args().empty()) {
    PrintOut(HelpText());
    return 0;
  }
  const std::string& topic = context.args()[0];
  if (const HelpTopic* found = FindHelpTopic(topic)) {
    PrintOut(found->text());
    return 0;
  }
  const Command* command = FindCommand(topic);
  if (!command) return absl::InvalidArgumentError(absl::StrCat("no help topic for \"", topic, "\""));
  PrintOut(UsageOf(*command));
  return 0;
}

absl::StatusOr<int> RunFlags(CommandContext& context) {
  PrintOut(FlagsHelp(GlobalFlags()));
  return 0;
}

absl::StatusOr<int> RunVersion(CommandContext& context) {
  PrintOut(absl::StrCat("runsc version ", kVersion, "\nspec: ", kSpecVersion, "\n"));
  return 0;
}

}  // namespace runsc
