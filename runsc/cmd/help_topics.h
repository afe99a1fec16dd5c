// SPDX-License-Identifier: Apache-2.0
// Topics of `runsc help` that other modules provide ("syscalls", from the sentry's table), registered by main.
#ifndef RUNSC_CMD_HELP_TOPICS_H_
#define RUNSC_CMD_HELP_TOPICS_H_

#include <string>

namespace runsc {

struct HelpTopic {
  const char* name;
  std::string (*text)();
};

// At most 8, before the command runs. `name` and `text` live as long as the process.
void RegisterHelpTopic(HelpTopic topic);
const HelpTopic* FindHelpTopic(const std::string& name);

}  // namespace runsc

#endif  // RUNSC_CMD_HELP_TOPICS_H_
