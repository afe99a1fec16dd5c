// SPDX-License-Identifier: Apache-2.0
// The flags before the subcommand.
#ifndef RUNSC_GLOBAL_FLAGS_H_
#define RUNSC_GLOBAL_FLAGS_H_

#include <span>
#include <string>

#include "absl/status/statusor.h"
#include "base/unique_fd.h"
#include "runsc/config.h"
#include "runsc/flags.h"

namespace runsc {

std::span<const FlagDef> GlobalFlags();

// Checks the values; errors name the flag and what it takes.
absl::StatusOr<Config> ParseGlobalFlags(const ParsedFlags& flags);

// Parses "none" or {root|all}:{self|memory|dir=PATH}[,size=BYTES].
absl::Status ParseOverlay2(const std::string& text, Config* config);

// Opens --debug-log for `command`; a closed fd when the flag is not given. A path that ends in / is a directory for
// runsc.log.%TIMESTAMP%.%COMMAND%.txt; %TIMESTAMP%, %COMMAND% and %ID% are replaced in any.
absl::StatusOr<base::UniqueFd> OpenDebugLog(const Config& config, const std::string& command, const std::string& id);
std::string ExpandLogPath(const std::string& pattern, const std::string& timestamp, const std::string& command,
                          const std::string& id);

}  // namespace runsc

#endif  // RUNSC_GLOBAL_FLAGS_H_
