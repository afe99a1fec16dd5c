// SPDX-License-Identifier: Apache-2.0
#include <unistd.h>

#include <string>

#include "base/log.h"
#include "gofer/server/server.h"
#include "runsc/cmd/entry_points.h"

namespace runsc {

int GoferEntryPoint(GoferArgs args) {
  const ExitStatusView container(args.exit_status_fd.get());
  gofer::GoferConfig config;
  config.debug_filter = args.config.debug;
  config.in_namespace = [&args] {
    return PassHookGate(std::move(args.hook_gate_fd))
               ? absl::OkStatus()
               : absl::AbortedError("hooks.createContainer: the runtime gave up");
  };
  for (size_t i = 0; i < args.mounts.size(); ++i) {
    gofer::ServedTree tree;
    tree.socket = std::move(args.gofer_fds[i]);
    tree.root_path = args.mounts[i].source;
    tree.settings.donate_root = args.config.directfs;
    // An upper layer takes the writes: the host's tree needs none.
    bool covered = args.mounts[i].mount_index < 0 ? args.config.overlay_root : args.config.overlay_all;
    tree.settings.read_only = args.mounts[i].readonly || covered;
    config.trees.push_back(std::move(tree));
  }
  absl::Status status = gofer::RunGofer(std::move(config));
  if (container.ok() && (status.ok() || absl::IsDeadlineExceeded(status))) _exit(ExitCodeOf(container.WaitStatus()));
  if (status.ok()) return 0;
  std::string line = "gofer: " + std::string(status.message());
  LOG_ERROR("%s", line.c_str());
  ReportFailure(std::move(args.report_fd), line);
  // A thread may be held up by a host filesystem: no destructor may wait for it.
  _exit(1);
}

}  // namespace runsc
