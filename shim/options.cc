// SPDX-License-Identifier: Apache-2.0
#include "shim/options.h"

#include <errno.h>
#include <limits.h>
#include <unistd.h>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "runsc/errors.h"
#include "runsc/spec/json_reader.h"
#include "shim/proto/options.pb.h"

namespace shim {
namespace {

std::string DefaultBinary() {
  char path[PATH_MAX];
  ssize_t n = readlink("/proc/self/exe", path, sizeof path);
  if (n <= 0 || n == sizeof path) return "runsc";
  std::string self(path, n);
  std::string beside = self.substr(0, self.rfind('/')) + "/runsc";
  return access(beside.c_str(), X_OK) == 0 ? beside : "runsc";
}

// "text", true, 123.
bool ParseValue(std::string text, std::string* value) {
  if (text.size() >= 2 && text[0] == '"') {
    size_t end = text.find('"', 1);
    if (end == std::string::npos) return false;
    std::string rest(absl::StripAsciiWhitespace(text.substr(end + 1)));
    if (!rest.empty() && rest[0] != '#') return false;
    *value = text.substr(1, end - 1);
    return value->find('\\') == std::string::npos;
  }
  text = std::string(absl::StripAsciiWhitespace(text.substr(0, text.find('#'))));
  *value = text;
  if (text == "true" || text == "false") return true;
  return !text.empty() && text.find_first_not_of("-0123456789") == std::string::npos;
}

}  // namespace

absl::Status ParseConfig(const std::string& text, RuntimeOptions* out) {
  std::string table;
  int number = 0;
  for (absl::string_view raw : absl::StrSplit(text, '\n')) {
    ++number;
    std::string line(absl::StripAsciiWhitespace(raw));
    auto wrong = [&](const char* what) {
      return absl::InvalidArgumentError(absl::StrCat("line ", number, ": ", what));
    };
    if (line.empty() || line[0] == '#') continue;
    if (line[0] == '[') {
      size_t end = line.find(']');
      if (end == std::string::npos) return wrong("a table needs a closing ]");
      table = line.substr(1, end - 1);
      if (table != "runsc_config") return wrong("the only table is [runsc_config]");
      continue;
    }
    size_t equals = line.find('=');
    if (equals == std::string::npos) return wrong("must look like name = value");
    std::string key(absl::StripAsciiWhitespace(line.substr(0, equals)));
    if (key.size() >= 2 && key.front() == '"' && key.back() == '"') key = key.substr(1, key.size() - 2);
    std::string value;
    if (!ParseValue(std::string(absl::StripAsciiWhitespace(line.substr(equals + 1))), &value)) {
      return wrong("a value is \"text\", a number, true or false");
    }
    if (table == "runsc_config") {
      out->flags.push_back(absl::StrCat("--", key, "=", value));
    } else if (key == "binary_name") {
      out->binary = value;
    } else if (key == "root") {
      if (value.empty() || value[0] != '/') return wrong("root must be an absolute path");
      out->root = value;
    } else if (key != "shim_cgroup" && key != "grouping" && key != "io_uid" && key != "io_gid") {
      return wrong("unknown key; flags of runsc belong into [runsc_config]");
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<RuntimeOptions> ParseOptions(const pb::Any& options) {
  RuntimeOptions out;
  std::string path, text;
  // The name counts, whatever stands before it.
  if (absl::EndsWith(options.type_url(), "runc.v1.Options")) {
    pb::RuncOptions runc;
    if (!runc.ParseFromString(options.value())) return absl::InvalidArgumentError("options: malformed");
    // Engines fill in runc's name where none was given.
    if (runc.binary_name() != "runc") out.binary = runc.binary_name();
    if (!runc.root().empty()) out.root = runc.root();
    if (runc.systemd_cgroup()) out.flags.push_back("--systemd-cgroup=true");
  } else if (absl::EndsWith(options.type_url(), "runtimeoptions.v1.Options")) {
    pb::RuntimeOptions runtime;
    if (!runtime.ParseFromString(options.value())) return absl::InvalidArgumentError("options: malformed");
    path = runtime.config_path();
    text = runtime.config_body();
  } else if (!options.type_url().empty()) {
    return absl::InvalidArgumentError(absl::StrCat("options: unknown type ", options.type_url()));
  }
  if (text.empty() && path.empty() && access(kDefaultConfigPath, F_OK) == 0) path = kDefaultConfigPath;
  if (text.empty() && !path.empty()) RETURN_IF_ERROR(runsc::spec::ReadSmallFile(path, &text));
  RETURN_IF_ERROR(runsc::Annotate(ParseConfig(text, &out), path.empty() ? "options" : path));
  if (out.binary.empty()) out.binary = DefaultBinary();
  return out;
}

}  // namespace shim
