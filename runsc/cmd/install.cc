// SPDX-License-Identifier: Apache-2.0
// runsc install and uninstall: the entry of this binary in Docker's daemon.json. What else stands there is kept, in its
// order.
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "runsc/cmd/command.h"
#include "runsc/errors.h"
#include "runsc/spec/json_reader.h"

namespace runsc {
namespace {

using enum FlagType;
using nlohmann::ordered_json;

constexpr char kDefaultConfig[] = "/etc/docker/daemon.json";

constexpr FlagDef kInstallFlags[] = {
    {"config_file", "", kString, kDefaultConfig, "Docker's configuration"},
    {"runtime", "", kString, "runsc", "name of the runtime in it"},
    {"clobber", "", kBool, "true", "replace an entry of that name; =false makes it an error"},
    {"experimental", "", kBool, "false", "switch Docker's experimental features on"},
    {"cgroupdriver", "", kString, "", "also set native.cgroupdriver in exec-opts: cgroupfs or systemd"},
};
constexpr FlagDef kUninstallFlags[] = {
    {"config_file", "", kString, kDefaultConfig, "Docker's configuration"},
    {"runtime", "", kString, "runsc", "name of the runtime in it"},
};

absl::StatusOr<ordered_json> ReadConfig(const std::string& path) {
  std::string text;
  absl::Status status = spec::ReadSmallFile(path, &text);
  if (absl::IsNotFound(status) || (status.ok() && text.find_first_not_of(" \t\r\n") == std::string::npos)) {
    return ordered_json::object();
  }
  RETURN_IF_ERROR(status);
  ordered_json config = ordered_json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (config.is_discarded() || !config.is_object()) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": not a JSON object: mend it, nothing was changed"));
  }
  if (config.contains("runtimes") && !config["runtimes"].is_object()) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": runtimes: must be an object"));
  }
  return config;
}

absl::Status WriteConfig(const std::string& path, const ordered_json& config) {
  const std::string text = config.dump(4) + "\n", fresh = path + ".new";
  struct stat st;
  mode_t mode = stat(path.c_str(), &st) == 0 ? st.st_mode & 07777 : 0644;
  for (size_t slash = path.find('/', 1); slash != std::string::npos; slash = path.find('/', slash + 1)) {
    mkdir(path.substr(0, slash).c_str(), 0755);
  }
  base::UniqueFd fd(open(fresh.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, mode));
  if (fd.ok() && fchmod(fd.get(), mode) == 0 &&
      write(fd.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size()) && fsync(fd.get()) == 0 &&
      rename(fresh.c_str(), path.c_str()) == 0) {
    return absl::OkStatus();
  }
  absl::Status status = absl::InternalError(absl::StrCat("--config_file: ", path, ": ", ErrnoText(errno)));
  if (fd.ok()) unlink(fresh.c_str());
  return status;
}

}  // namespace

std::span<const FlagDef> InstallFlags() { return kInstallFlags; }
std::span<const FlagDef> UninstallFlags() { return kUninstallFlags; }

// Arguments become the runtime's (runtimeArgs).
absl::StatusOr<int> RunInstall(CommandContext& context) {
  const ParsedFlags& flags = context.flags;
  const std::string path = VALUE_OR_RETURN(AbsolutePath(flags.Get("config_file"))), name = flags.Get("runtime");
  char self[PATH_MAX];
  ssize_t n = readlink("/proc/self/exe", self, sizeof self);
  if (n <= 0 || n == sizeof self) return absl::InternalError(absl::StrCat("/proc/self/exe: ", ErrnoText(errno)));
  ordered_json config = VALUE_OR_RETURN(ReadConfig(path));
  ordered_json& runtimes = config["runtimes"];
  if (runtimes.contains(name) && !flags.GetBool("clobber")) {
    return absl::AlreadyExistsError(absl::StrCat(path, ": there is a runtime \"", name, "\" already"));
  }
  ordered_json entry = {{"path", std::string(self, n)}};
  if (!context.args().empty()) entry["runtimeArgs"] = context.args();
  runtimes[name] = entry;
  if (flags.GetBool("experimental")) config["experimental"] = true;
  if (!flags.Get("cgroupdriver").empty()) {
    ordered_json kept = ordered_json::array();
    if (config.contains("exec-opts") && config["exec-opts"].is_array()) {
      for (const auto& option : config["exec-opts"]) {
        bool ours = option.is_string() && option.get<std::string>().rfind("native.cgroupdriver=", 0) == 0;
        if (!ours) kept.push_back(option);
      }
    }
    kept.push_back("native.cgroupdriver=" + flags.Get("cgroupdriver"));
    config["exec-opts"] = kept;
  }
  RETURN_IF_ERROR(WriteConfig(path, config));
  PrintOut(absl::StrCat("runtime \"", name, "\" is in ", path, ": restart Docker to use it\n"));
  return 0;
}

absl::StatusOr<int> RunUninstall(CommandContext& context) {
  const std::string path = VALUE_OR_RETURN(AbsolutePath(context.flags.Get("config_file")));
  const std::string& name = context.flags.Get("runtime");
  ordered_json config = VALUE_OR_RETURN(ReadConfig(path));
  if (!config.contains("runtimes") || !config["runtimes"].contains(name)) {
    return absl::NotFoundError(absl::StrCat(path, ": there is no runtime \"", name, "\""));
  }
  config["runtimes"].erase(name);
  if (config["runtimes"].empty()) config.erase("runtimes");
  if (config.contains("default-runtime") && config["default-runtime"] == name) config.erase("default-runtime");
  RETURN_IF_ERROR(WriteConfig(path, config));
  PrintOut(absl::StrCat("runtime \"", name, "\" is gone from ", path, ": restart Docker\n"));
  return 0;
}

}  // namespace runsc
