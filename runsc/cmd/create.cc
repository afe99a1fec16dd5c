// SPDX-License-Identifier: Apache-2.0
// runsc create
#include "runsc/attach.h"
#include "runsc/cmd/command.h"
#include "runsc/errors.h"
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
    {"preserve-fds", "", FlagType::kInteger, "0", "", "only stdin, stdout and stderr are passed on"},
};

}  // namespace

std::span<const FlagDef> CreateFlags() { return kCreateFlags; }

absl::StatusOr<CreateOptions> LoadCreateOptions(CommandContext& context) {
  CreateOptions options{.config = &context.config,
                        .global_arguments = context.global.AsArguments(),
                        .id = context.args()[0],
                        .console_socket = context.flags.Get("console-socket"),
                        .pid_file = context.flags.Get("pid-file"),
                        .cli_start_ns = context.start_ns};
  RETURN_IF_ERROR(ValidateId(options.id));
  options.bundle = VALUE_OR_RETURN(AbsolutePath(context.flags.Get("bundle")));
  std::vector<std::string> warnings;
  options.spec = VALUE_OR_RETURN(spec::LoadSpec(options.bundle, &options.spec_text, &warnings));
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
