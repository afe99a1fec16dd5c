// SPDX-License-Identifier: Apache-2.0
// Command-line flags from tables: one table drives parsing, defaults and help. -name and --name are the same; values
// come as =value or as the next argument; a boolean takes =value only. "--" ends the flags.
#ifndef RUNSC_FLAGS_H_
#define RUNSC_FLAGS_H_

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace runsc {

enum class FlagType : uint8_t { kBool, kString, kInteger, kList };

struct FlagDef {
  const char* name;
  const char* alias;  // "" = none
  FlagType type;
  const char* default_value;
  const char* help;
  // Not null: taken for compatibility and without effect, for this reason; using it gives a warning.
  const char* ignored_because = nullptr;
};

class ParsedFlags {
 public:
  // The last value given, or the default. `name` must be in the table.
  const std::string& Get(const std::string& name) const;
  bool GetBool(const std::string& name) const { return Get(name) == "true"; }
  int64_t GetInteger(const std::string& name) const;
  // Every value given, in order.
  std::vector<std::string> GetAll(const std::string& name) const;
  // Whether it was given.
  bool Has(const std::string& name) const;
  // What was given, as "--name=value", in order.
  std::vector<std::string> AsArguments() const;

  std::vector<std::string> args;      // what is not a flag
  std::vector<std::string> warnings;  // ignored flags that were given

 private:
  friend absl::StatusOr<ParsedFlags> ParseFlags(std::span<const FlagDef> table, std::span<const std::string> arguments,
                                                bool interspersed);
  std::map<std::string, std::string> values_;  // defaults, then the last one given
  std::vector<std::pair<std::string, std::string>> given_;
};

// `interspersed`: flags may follow arguments; else the first argument ends them (commands that run a command).
// -h and --help are always known (Has("help")).
absl::StatusOr<ParsedFlags> ParseFlags(std::span<const FlagDef> table, std::span<const std::string> arguments,
                                       bool interspersed);

// One or two lines per flag.
std::string FlagsHelp(std::span<const FlagDef> table);

}  // namespace runsc

#endif  // RUNSC_FLAGS_H_
