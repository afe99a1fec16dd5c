// SPDX-License-Identifier: Apache-2.0
// Pseudo-terminals for boot/ and the rest of the sentry: start-up, devpts instances, and ptys made without a guest.
#ifndef SENTRY_FS_DEVPTS_PTY_H_
#define SENTRY_FS_DEVPTS_PTY_H_

#include <sys/ioctl.h>

#include <string>

#include "sentry/kernel/session.h"
#include "sentry/vfs/file_description.h"
#include "sentry/vfs/vfs.h"

namespace sentry::fs {

// Registers the drivers of /dev/tty, /dev/console, /dev/ptmx (major 5) and /dev/pts/N (136 to 143); once, at start.
void RegisterTerminals();

// The factory for RegisterFilesystemType("devpts", NewDevpts): every mount is an instance of its own. Options: uid,
// gid, mode, ptmxmode, max, newinstance. EINVAL for others.
Result<RefPtr<vfs::Filesystem>> NewDevpts(const vfs::MountSource& source);

struct PtyPair {
  RefPtr<kernel::ControllingTerminal> terminal;  // for ProcessRequest::terminal
  vfs::FileRef slave;                            // O_RDWR: stdin, stdout and stderr of the process
  vfs::FileRef master;  // O_RDWR | O_NONBLOCK; Read, Write, Poll and wait_queue() work on threads without a task, too
  std::string name;     // of the slave in the instance: "0"
};

// A new terminal in a devpts instance (`devpts_root`: the root of a mount of it). Closing the master hangs it up; a
// read of the master gives what was written, then EIO once the slave's last file is closed. EINVAL when the mount is
// another kind; ENOSPC at its limit.
Result<PtyPair> NewPtyPair(const vfs::Path& devpts_root);

// The terminal of a master or slave; null for other files.
RefPtr<kernel::ControllingTerminal> TerminalOf(vfs::FileDescription& file);

// TIOCSWINSZ: tells the foreground process group (SIGWINCH) when it changed. ENOTTY. Any thread.
Result<void> SetWindowSize(vfs::FileDescription& file, const winsize& size);

}  // namespace sentry::fs

#endif  // SENTRY_FS_DEVPTS_PTY_H_
