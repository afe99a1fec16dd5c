// SPDX-License-Identifier: Apache-2.0
// "#!" lines (execve(2), "Interpreter scripts").
#ifndef SENTRY_LOADER_SCRIPT_H_
#define SENTRY_LOADER_SCRIPT_H_

#include <string>
#include <string_view>

#include "sentry/common.h"

namespace sentry::loader {

// Bytes of a file that decide its format (BINPRM_BUF_SIZE); a longer "#!" line is cut here.
inline constexpr size_t kFormatBytes = 256;
// Scripts that may interpret scripts: the sixth gives ELOOP.
inline constexpr int kMaxScriptDepth = 5;

struct ScriptLine {
  std::string interpreter;
  std::string argument;  // the rest of the line as one; meaningful with has_argument
  bool has_argument = false;
};

// `start` is the head of the file, at most kFormatBytes, beginning with "#!". ENOEXEC: no name, or a name that was cut.
Result<ScriptLine> ParseScriptLine(std::string_view start);

}  // namespace sentry::loader

#endif  // SENTRY_LOADER_SCRIPT_H_
