// SPDX-License-Identifier: Apache-2.0
#include "sentry/loader/script.h"

namespace sentry::loader {

Result<ScriptLine> ParseScriptLine(std::string_view start) {
  constexpr std::string_view kBlank = " \t";
  if (!start.starts_with("#!")) return Errno(ENOEXEC);
  std::string_view line = start.substr(2);
  size_t newline = line.find('\n');
  if (newline != line.npos) {
    line = line.substr(0, newline);
  } else {
    // Short files end where Linux's zeroed buffer begins; in a full buffer the name must end before its last byte.
    bool cut = start.size() >= kFormatBytes;
    if (cut) line = line.substr(0, kFormatBytes - 1 - 2);
    size_t name = line.find_first_not_of(kBlank);
    if (name == line.npos) return Errno(ENOEXEC);
    if (cut && line.find_first_of(std::string_view(" \t\0", 3), name) == line.npos) return Errno(ENOEXEC);
  }
  line = line.substr(0, line.find('\0'));
  size_t name = line.find_first_not_of(kBlank);
  if (name == line.npos) return Errno(ENOEXEC);
  line = line.substr(name, line.find_last_not_of(kBlank) + 1 - name);
  size_t name_end = line.find_first_of(kBlank);
  ScriptLine result;
  result.interpreter = line.substr(0, name_end);
  if (name_end != line.npos) {
    result.argument = line.substr(line.find_first_not_of(kBlank, name_end));
    result.has_argument = true;
  }
  return result;
}

}  // namespace sentry::loader
