// SPDX-License-Identifier: Apache-2.0
#include "runsc/flags.h"

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace runsc {
namespace {

constexpr FlagDef kHelp = {"help", "h", FlagType::kBool, "false", "show this help"};

const FlagDef* FindFlag(std::span<const FlagDef> table, const std::string& name) {
  for (const FlagDef& flag : table) {
    if (name == flag.name || (*flag.alias && name == flag.alias)) return &flag;
  }
  if (name == kHelp.name || name == kHelp.alias) return &kHelp;
  return nullptr;
}

// "true" or "false" for what Go's strconv.ParseBool takes; "" otherwise.
std::string ParseBool(const std::string& text) {
  for (const char* yes : {"1", "t", "T", "true", "TRUE", "True"}) {
    if (text == yes) return "true";
  }
  for (const char* no : {"0", "f", "F", "false", "FALSE", "False"}) {
    if (text == no) return "false";
  }
  return "";
}

}  // namespace

const std::string& ParsedFlags::Get(const std::string& name) const {
  static const std::string empty;
  auto it = values_.find(name);
  return it == values_.end() ? empty : it->second;
}

int64_t ParsedFlags::GetInteger(const std::string& name) const {
  int64_t value = 0;
  // The text was checked by ParseFlags.
  if (!absl::SimpleAtoi(Get(name), &value)) return 0;
  return value;
}

std::vector<std::string> ParsedFlags::GetAll(const std::string& name) const {
  std::vector<std::string> all;
  for (const auto& [given, value] : given_) {
    if (given == name) all.push_back(value);
  }
  return all;
}

bool ParsedFlags::Has(const std::string& name) const {
  for (const auto& [given, value] : given_) {
    if (given == name) return true;
  }
  return false;
}

std::vector<std::string> ParsedFlags::AsArguments() const {
  std::vector<std::string> arguments;
  for (const auto& [name, value] : given_) arguments.push_back(absl::StrCat("--", name, "=", value));
  return arguments;
}

absl::StatusOr<ParsedFlags> ParseFlags(std::span<const FlagDef> table, std::span<const std::string> arguments,
                                       bool interspersed) {
  ParsedFlags parsed;
  for (const FlagDef& flag : table) parsed.values_[flag.name] = flag.default_value;
  for (size_t i = 0; i < arguments.size(); ++i) {
    const std::string& argument = arguments[i];
    if (argument == "--") {
      parsed.args.insert(parsed.args.end(), arguments.begin() + i + 1, arguments.end());
      break;
    }
    if (argument.size() < 2 || argument[0] != '-') {
      if (!interspersed) {
        parsed.args.insert(parsed.args.end(), arguments.begin() + i, arguments.end());
        break;
      }
      parsed.args.push_back(argument);
      continue;
    }
    std::string name = argument.substr(argument[1] == '-' ? 2 : 1);
    std::string value;
    size_t equals = name.find('=');
    bool has_value = equals != std::string::npos;
    if (has_value) {
      value = name.substr(equals + 1);
      name.resize(equals);
    }
    const FlagDef* flag = FindFlag(table, name);
    if (!flag) return absl::InvalidArgumentError(absl::StrCat("flag provided but not defined: -", name));
    if (flag->type == FlagType::kBool) {
      if (!has_value) value = "true";
      std::string truth = ParseBool(value);
      if (truth.empty()) {
        return absl::InvalidArgumentError(
            absl::StrCat("--", flag->name, ": must be true or false, is \"", value, "\""));
      }
      value = truth;
    } else if (!has_value) {
      if (i + 1 == arguments.size()) {
        return absl::InvalidArgumentError(absl::StrCat("--", flag->name, ": needs a value"));
      }
      value = arguments[++i];
    }
    int64_t number;
    if (flag->type == FlagType::kInteger && !absl::SimpleAtoi(value, &number)) {
      return absl::InvalidArgumentError(absl::StrCat("--", flag->name, ": must be an integer, is \"", value, "\""));
    }
    if (flag->ignored_because) {
      parsed.warnings.push_back(absl::StrCat("--", flag->name, " has no effect: ", flag->ignored_because));
    }
    parsed.values_[flag->name] = value;
    parsed.given_.emplace_back(flag->name, value);
  }
  return parsed;
}

std::string FlagsHelp(std::span<const FlagDef> table) {
  std::string help;
  for (const FlagDef& flag : table) {
    if (flag.ignored_because) continue;
    absl::StrAppend(&help, "  --", flag.name);
    if (*flag.alias) absl::StrAppend(&help, ", -", flag.alias);
    if (flag.type == FlagType::kInteger) absl::StrAppend(&help, " N");
    if (flag.type == FlagType::kString || flag.type == FlagType::kList) absl::StrAppend(&help, " VALUE");
    absl::StrAppend(&help, "\n        ", flag.help);
    if (flag.type == FlagType::kList) absl::StrAppend(&help, " (may be repeated)");
    std::string value = flag.default_value;
    if (!value.empty() && value != "false") absl::StrAppend(&help, " (default: ", value, ")");
    absl::StrAppend(&help, "\n");
  }
  return help;
}

}  // namespace runsc
