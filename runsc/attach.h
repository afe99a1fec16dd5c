// SPDX-License-Identifier: Apache-2.0
// Being the visible end of a process in a sandbox: forwards signals and the terminal, and waits for the exit status.
#ifndef RUNSC_ATTACH_H_
#define RUNSC_ATTACH_H_

#include <sys/types.h>

#include <string>

#include "absl/status/statusor.h"
#include "base/unique_fd.h"
#include "runsc/control/client.h"

namespace runsc {

// Blocks the signals that Attach forwards: call before anything is created that a signal's default action would leave
// behind. What arrives meanwhile is forwarded once Attach runs.
void BlockForwardedSignals();
void UnblockForwardedSignals();

struct AttachOptions {
  std::string state_directory;
  std::string container_id;
  pid_t sandbox_pid = 0;
  int32_t pid = 0;  // in the container; 0 = init
  control::SignalScope scope = control::SignalScope::kProcess;
  // Master of the process's terminal; closed = it has our stdio.
  base::UniqueFd console;
  // Without `console`: our end of the process's terminal, whose changes of size are passed on (SIGWINCH tells of them
  // when it is our controlling terminal).
  base::UniqueFd window;
};

// The waitpid(2) status. Begin first, so that the exit can't be missed:
//   Attachment a = TRY(Attachment::Begin(options)); start the process; a.Run()
class Attachment {
 public:
  static absl::StatusOr<Attachment> Begin(AttachOptions options);
  // kAborted if the sandbox ended without telling a status.
  absl::StatusOr<int> Run();
  // The same without forwarding anything: signals do what they do.
  absl::StatusOr<int> RunWithoutSignals();

 private:
  Attachment(AttachOptions options, control::Client waiter, base::UniqueFd pidfd);
  AttachOptions options_;
  control::Client waiter_;
  base::UniqueFd pidfd_;
};

}  // namespace runsc

#endif  // RUNSC_ATTACH_H_
