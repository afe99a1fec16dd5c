// SPDX-License-Identifier: Apache-2.0
// How the vfs opens what no filesystem implements: devices by number and FIFOs. fs/dev registers drivers; fs/pipe the
// FIFO opener.
#ifndef SENTRY_VFS_SPECIAL_FILES_H_
#define SENTRY_VFS_SPECIAL_FILES_H_

#include "sentry/vfs/file_description.h"

namespace sentry::vfs {

// Opens a device node at `path`. ENXIO when the minor is unknown.
using DeviceOpener = Result<FileRef> (*)(const Path& path, int flags, dev_t device);
// All minors of a major of one kind (S_IFCHR or S_IFBLK). At start only.
void RegisterDevice(mode_t type, unsigned major, DeviceOpener opener);
Result<FileRef> OpenDevice(const Path& path, int flags, mode_t type, dev_t device);

// Opens a FIFO's end; blocks (Caller::Block) for the other end as fifo(7) says.
using FifoOpener = Result<FileRef> (*)(const Path& path, int flags);
void RegisterFifoOpener(FifoOpener opener);
Result<FileRef> OpenFifo(const Path& path, int flags);

// Whether this is the internal mount of the objects below.
bool IsAnonymousMount(const Mount& mount);
// A file of /proc/PID/ns, which a bind mount keeps. Not one of a mount namespace: it could come to hold itself.
bool IsNamespaceFile(const Path& path);
// A place for objects without a name in any tree (pipes, sockets, eventfds, memfds): a detached dentry on an internal
// mount. `inode` is a simple inode with mode, owner and a fresh inode number.
Path NewAnonymousPath(std::string name, mode_t mode, const Credentials& creds);
// The same with the caller's inode (a pipe's, a memfd's).
Path NewAnonymousPath(std::string name, RefPtr<Inode> inode);

}  // namespace sentry::vfs

#endif  // SENTRY_VFS_SPECIAL_FILES_H_
