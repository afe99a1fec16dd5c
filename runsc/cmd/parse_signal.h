// SPDX-License-Identifier: Apache-2.0
#ifndef RUNSC_CMD_PARSE_SIGNAL_H_
#define RUNSC_CMD_PARSE_SIGNAL_H_

#include <string>

#include "absl/status/statusor.h"

namespace runsc {

// "TERM", "SIGTERM", "15", "RTMIN+3" -> number. In any case of letters.
absl::StatusOr<int> ParseSignal(const std::string& text);

}  // namespace runsc

#endif  // RUNSC_CMD_PARSE_SIGNAL_H_
