// SPDX-License-Identifier: Apache-2.0
// runsc create
#include <fcntl.h>
#include <string.h>

#include "absl/strings/match.h"
#include "runsc/attach.h"
#include "runsc/cmd/command.h"
#include "runsc/errors.h"
#include "runsc/global_flags.h"
#include "runsc/spec/parse.h"

#include "absl/strings/str_cat.h"
#include "base/log.h"

namespace runsc {
namespace {

constexpr char kOursAlready[] = "the sandbox has it as its own";

constexpr FlagDef kCreateFlags[] = {
    {"bundle", "b", FlagType::kString, ".", "directory with config.json"},
    {"console-socket", "", FlagType::kString, "", "AF_UNIX socket that gets the master of the container's terminal"},
    {"pid-file", "", FlagType::kString, "", "file to write the sandbox's pid to"},
    {"user-log", "", FlagType::kString, "", "", "messages for users go to --log"},
    {"no-pivot", "", FlagType::kBool, "false", "", kOursAlready},
    {"no-new-keyring", "", FlagType::kBool, "false", "", kOursAlready},
    {"preserve-fds", "", FlagType::kInteger, "0", "pass on this many more descriptors, from 3"},
};

// Flags that a container may not choose for itself: they say where its state is, and who may choose.
constexpr const char* kOperatorsOwn[] = {"root", "allow-flag-override", "log", "log-format"};

// Annotations dev.gvisor.flag.NAME, where the operator allows them: as if given after the flags of the command line.
absl::Status ApplyFlagAnnotations(CommandContext& context, const spec::Spec& spec) {
  constexpr char kPrefix[] = "dev.gvisor.flag.";
  std::vector<std::string> arguments = context.global.AsArguments();
  const size_t given = arguments.size();
  for (const auto& [name, value] : spec.annotations) {
    if (!absl::StartsWith(name, kPrefix)) continue;
    std::string flag = name.substr(strlen(kPrefix));
    if (!context.global.GetBool("allow-flag-override")) {
      return absl::PermissionDeniedError(absl::StrCat("annotations[\"", name, "\"]: --allow-flag-override is not set"));
    }
    for (const char* own : kOperatorsOwn) {
      if (flag == own)
        return absl::PermissionDeniedError(absl::StrCat("annotations[\"", name, "\"]: cannot be chosen here"));
    }
    arguments.push_back(absl::StrCat("--", flag, "=", value));
  }
  if (arguments.size() == given) return absl::OkStatus();
  auto parsed = ParseFlags(GlobalFlags(), arguments, /*interspersed=*/false);
  if (!parsed.ok()) return Annotate(parsed.status(), "annotations");
  auto config = ParseGlobalFlags(*parsed);
  if (!config.ok()) return Annotate(config.status(), "annotations");
  context.global = *std::move(parsed);
  context.config = *std::move(config);
  return absl::OkStatus();
}

}  // namespace

std::span<const FlagDef> CreateFlags() { return kCreateFlags; }

absl::StatusOr<std::vector<int>> PreservedFds(const ParsedFlags& flags) {
  constexpr int64_t kMaxPreserved = 100;
  const int64_t count = flags.GetInteger("preserve-fds");
  if (count < 0 || count > kMaxPreserved)
    return absl::InvalidArgumentError(absl::StrCat("--preserve-fds: must be in 0..", kMaxPreserved));
  std::vector<int> fds;
  for (int fd = 3; fd < 3 + count; ++fd) {
    // What this program opened itself is closed at exec.
    const int descriptor_flags = fcntl(fd, F_GETFD);
    if (descriptor_flags < 0 || (descriptor_flags & FD_CLOEXEC))
      return absl::InvalidArgumentError(absl::StrCat("--preserve-fds: descriptor ", fd, " is not open"));
    fds.push_back(fd);
  }
  return fds;
}

absl::StatusOr<CreateOptions> LoadCreateOptions(CommandContext& context) {
  CreateOptions options{.config = &context.config,
                        .global_arguments = context.global.AsArguments(),
                        .id = context.args()[0],
                        .console_socket = context.flags.Get("console-socket"),
                        .pid_file = context.flags.Get("pid-file"),
                        .cli_start_ns = context.start_ns};
  RETURN_IF_ERROR(ValidateId(options.id));
  options.preserved_fds = VALUE_OR_RETURN(PreservedFds(context.flags));
  options.bundle = VALUE_OR_RETURN(AbsolutePath(context.flags.Get("bundle")));
  std::vector<std::string> warnings;
  options.spec = VALUE_OR_RETURN(spec::LoadSpec(options.bundle, &options.spec_text, &warnings));
  RETURN_IF_ERROR(ApplyFlagAnnotations(context, options.spec));
  options.global_arguments = context.global.AsArguments();
  for (const std::string& warning : warnings) LOG_INFO("%s/config.json: %s", options.bundle.c_str(), warning.c_str());
  return options;
}

absl::StatusOr<int> RunCreate(CommandContext& context) {
  BlockForwardedSignals();
  CreateOptions options = VALUE_OR_RETURN(LoadCreateOptions(context));
  RETURN_IF_ERROR(Container::Create(std::move(options)).status());
  return 0;
}

}  // namespace runsc
