// SPDX-License-Identifier: Apache-2.0
// A terminal inside the sandbox for a container's process: one of its own devpts.
#ifndef SENTRY_BOOT_TERMINAL_H_
#define SENTRY_BOOT_TERMINAL_H_

#include <optional>

#include "absl/status/statusor.h"
#include "runsc/spec/spec.h"
#include "sentry/boot/filesystems.h"
#include "sentry/kernel/session.h"
#include "sentry/vfs/file_description.h"

namespace sentry {

struct ContainerTerminal {
  vfs::FileRef master, slave;
  RefPtr<kernel::ControllingTerminal> controlling;
};

absl::StatusOr<ContainerTerminal> NewContainerTerminal(const MountTree& tree, const Credentials& creds,
                                                       const std::optional<runsc::spec::ConsoleSize>& size);
// TIOCSWINSZ on the master, SIGWINCH to the foreground group.
void SetTerminalSize(vfs::FileDescription& master, uint16_t rows, uint16_t columns);

}  // namespace sentry

#endif  // SENTRY_BOOT_TERMINAL_H_
