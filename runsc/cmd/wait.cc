// SPDX-License-Identifier: Apache-2.0
// runsc wait: prints {"id":…,"exitStatus":…} when the container, or a process of exec, has ended.
#include "absl/strings/str_cat.h"
#include "runsc/attach.h"
#include "runsc/boot_args.h"
#include "runsc/cmd/command.h"
#include "runsc/errors.h"
#include "runsc/json_writer.h"

namespace runsc {
namespace {

absl::StatusOr<int> AwaitStatus(CommandContext& context, const Container& container, int32_t pid) {
  const ContainerRecord& record = container.record();
  if (record.status != Status::kStopped) {
    auto attachment = Attachment::Begin({.state_directory = context.config.root + "/" + record.id,
                                         .container_id = record.id,
                                         .sandbox_pid = record.sandbox_pid,
                                         .pid = pid});
    // Here the forwarded signals are this command's own end.
    if (attachment.ok()) return attachment->RunWithoutSignals();
    if (pid != 0) return attachment.status();
  }
  if (pid != 0) return absl::FailedPreconditionError("container not running");
  if (auto status = container.ExitStatus()) return *status;
  return absl::FailedPreconditionError("the container has ended without a status: its sandbox was killed");
}

}  // namespace

absl::StatusOr<int> RunWait(CommandContext& context) {
  int64_t pid = context.flags.GetInteger("pid");
  if (pid < 0 || pid > INT32_MAX) return absl::InvalidArgumentError("--pid: not a process id");
  Container container = VALUE_OR_RETURN(Container::Open(context.config, context.args()[0]));
  int status = VALUE_OR_RETURN(AwaitStatus(context, container, static_cast<int32_t>(pid)));
  JsonWriter w("");
  w.BeginObject();
  w.String("id", container.record().id);
  w.Number("exitStatus", ExitCodeOf(status));
  w.EndObject();
  PrintOut(w.text() + "\n");
  return 0;
}

}  // namespace runsc
