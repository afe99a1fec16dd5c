// SPDX-License-Identifier: Apache-2.0
// runsc run
#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/unique_fd.h"
#include "base/log.h"
#include "runsc/attach.h"
#include "runsc/boot_args.h"
#include "runsc/cmd/command.h"
#include "runsc/errors.h"

namespace runsc {

std::span<const FlagDef> RunFlagDefs() {
  static const std::vector<FlagDef> flags = [] {
    std::vector<FlagDef> all(CreateFlags().begin(), CreateFlags().end());
    all.push_back({"detach", "d", FlagType::kBool, "false", "return when the container is running"});
    all.push_back({"keep", "", FlagType::kBool, "false", "do not delete the container when it ends"});
    all.push_back({"no-subreaper", "", FlagType::kBool, "false", "", "this runtime is never a subreaper"});
    return all;
  }();
  return flags;
}

absl::StatusOr<int> RunAttached(CommandContext& context, CreateOptions options, control::SignalScope scope) {
  options.attached = true;
  const bool keep = context.flags.GetBool("keep");
  Container container = VALUE_OR_RETURN(Container::Create(std::move(options)));
  auto run = [&]() -> absl::StatusOr<int> {
    AttachOptions attach{.state_directory = context.config.root + "/" + container.record().id,
                         .container_id = container.record().id,
                         .sandbox_pid = container.record().sandbox_pid,
                         .scope = scope,
                         .console = container.TakeConsole()};
    Attachment attachment = VALUE_OR_RETURN(Attachment::Begin(std::move(attach)));
    RETURN_IF_ERROR(container.Start());
    return ExitCodeOf(VALUE_OR_RETURN(attachment.Run()));
  };
  // Held from here on: nothing of a sandbox that was our child outlives this command.
  base::UniqueFd sandbox(static_cast<int>(syscall(SYS_pidfd_open, container.record().sandbox_pid, 0)));
  absl::StatusOr<int> code = run();
  if (keep && code.ok()) return code;
  if (absl::Status deleted = container.Delete(/*force=*/true); !deleted.ok()) {
    LOG_WARNING("removing the container: %s", std::string(deleted.message()).c_str());
  }
  constexpr int kEndTimeoutMs = 5000;
  pollfd ended{.fd = sandbox.get(), .events = POLLIN, .revents = 0};
  if (sandbox.ok() && poll(&ended, 1, kEndTimeoutMs) == 0) LOG_WARNING("the sandbox process is slow to end");
  return code;
}

absl::StatusOr<int> RunRun(CommandContext& context) {
  BlockForwardedSignals();
  CreateOptions options = VALUE_OR_RETURN(LoadCreateOptions(context));
  if (!context.flags.GetBool("detach")) {
    return RunAttached(context, std::move(options), control::SignalScope::kProcess);
  }
  Container container = VALUE_OR_RETURN(Container::Create(std::move(options)));
  absl::Status started = container.Start();
  if (!started.ok()) {
    container.Delete(/*force=*/true).IgnoreError();
    return started;
  }
  return 0;
}

}  // namespace runsc
