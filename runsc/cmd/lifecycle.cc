// SPDX-License-Identifier: Apache-2.0
// runsc start, state, kill, delete, pause and resume: one call of the library each.
#include "absl/strings/str_cat.h"
#include "runsc/cmd/command.h"
#include "runsc/cmd/parse_signal.h"
#include "runsc/errors.h"

namespace runsc {

absl::StatusOr<int> RunStart(CommandContext& context) {
  Container container = VALUE_OR_RETURN(Container::Open(context.config, context.args()[0]));
  RETURN_IF_ERROR(container.Start());
  return 0;
}

absl::StatusOr<int> RunState(CommandContext& context) {
  Container container = VALUE_OR_RETURN(Container::Open(context.config, context.args()[0]));
  PrintOut(container.StateJson(/*pretty=*/true) + "\n");
  return 0;
}

absl::StatusOr<int> RunKill(CommandContext& context) {
  int signal = VALUE_OR_RETURN(ParseSignal(context.args().size() > 1 ? context.args()[1] : "TERM"));
  Container container = VALUE_OR_RETURN(Container::Open(context.config, context.args()[0]));
  RETURN_IF_ERROR(container.Kill(signal, context.flags.GetBool("all")));
  return 0;
}

absl::StatusOr<int> RunDelete(CommandContext& context) {
  const bool force = context.flags.GetBool("force");
  absl::Status first;
  for (const std::string& id : context.args()) {
    // A damaged record is still removed by force.
    auto container = Container::Open(context.config, id);
    absl::Status status = container.status();
    if (container.ok()) status = container->Delete(force);
    if (absl::IsNotFound(status) && force) status = absl::OkStatus();
    if (absl::IsDataLoss(status) && force) status = ContainerStore(context.config.root).Remove(id);
    if (first.ok()) first = status;
  }
  RETURN_IF_ERROR(first);
  return 0;
}

absl::StatusOr<int> RunPause(CommandContext& context) {
  Container container = VALUE_OR_RETURN(Container::Open(context.config, context.args()[0]));
  RETURN_IF_ERROR(container.Pause());
  return 0;
}

absl::StatusOr<int> RunResume(CommandContext& context) {
  Container container = VALUE_OR_RETURN(Container::Open(context.config, context.args()[0]));
  RETURN_IF_ERROR(container.Resume());
  return 0;
}

}  // namespace runsc
