// SPDX-License-Identifier: Apache-2.0
#include "sentry/boot/terminal.h"

#include "absl/strings/str_cat.h"
#include "runsc/errors.h"
#include "sentry/fs/devpts/pty.h"

namespace sentry {

absl::StatusOr<ContainerTerminal> NewContainerTerminal(const MountTree& tree, const Credentials& creds,
                                                       const std::optional<runsc::spec::ConsoleSize>& size) {
  if (!tree.devpts)
    return absl::FailedPreconditionError("process.terminal: there is no devpts mount to make the terminal in");
  auto pair = fs::NewPtyPair(tree.devpts);
  if (!pair.ok())
    return absl::ResourceExhaustedError(absl::StrCat("process.terminal: ", runsc::ErrnoText(pair.error_number())));
  // The process owns its terminal, as login(1) and runc have it.
  vfs::SetStatRequest owner;
  owner.uid = creds.fsuid;
  (void)pair->slave->inode()->SetStat(owner).ok();
  if (size && size->rows) SetTerminalSize(*pair->master, size->rows, size->columns);
  return ContainerTerminal{.master = pair->master, .slave = pair->slave, .controlling = pair->terminal};
}

void SetTerminalSize(vfs::FileDescription& master, uint16_t rows, uint16_t columns) {
  (void)fs::SetWindowSize(master, {.ws_row = rows, .ws_col = columns, .ws_xpixel = 0, .ws_ypixel = 0}).ok();
}

}  // namespace sentry
