// SPDX-License-Identifier: Apache-2.0
// Client: typed, blocking calls to the gofer over one connection (= one served tree).
//
// Thread-safe. A call takes one of up to `max_channels` channels, sends one message and waits for its answer; further
// channels are opened as callers pile up, so a slow host file holds up only its own caller. No lock is held while
// waiting for the answer, but the call may wait for a free channel: call with nothing of rank >= kGoferChannel held.
//
// Errors are Linux errno numbers from the host, and:
//   EIO     the gofer is gone or broke the protocol (for good: every later call fails so as well)
//   ESTALE  the node no longer is where it was found, because somebody outside this connection renamed, replaced or
//           removed it: walk to it again
//   EROFS   the connection is read-only
//   ENFILE  the connection holds too many nodes or fds: Forget some (queued Forgets are sent and the call is repeated
//           once before this is returned)
//   EINVAL, ENAMETOOLONG  a name is empty, ".", "..", holds '/' or NUL; or is too long
// Permissions are not checked by the server beyond what the host refuses to the gofer itself: the caller checks them
// against Attr, and says who owns what it creates.
#ifndef GOFER_PROTOCOL_CLIENT_H_
#define GOFER_PROTOCOL_CLIENT_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "gofer/protocol/types.h"

namespace gofer {

class Client {
 public:
  struct Options {
    int max_channels = 4;  // 1..8
    // Called once, from whichever thread notices first that the gofer is gone, with no lock of this class held. It may
    // not delete the Client. Not called for the destructor's own hanging up.
    std::function<void()> on_disconnect;
  };

  // Takes the AF_UNIX SOCK_SEQPACKET socket whose other end the gofer serves, and mounts. Waits for the gofer's answer.
  static base::Result<std::unique_ptr<Client>> Connect(base::UniqueFd socket, Options options);
  // Hangs up. The server drops all nodes of the connection; donated fds stay good. No call may be in progress.
  ~Client();
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  // Valid for the life of the Client. The root's node is never forgotten.
  const MountInfo& mount() const { return mount_; }
  MountInfo& mutable_mount() { return mount_; }  // to take root_fd

  // For a watchdog that polls for POLLHUP while no call is made; borrowed. Never read from it.
  int socket_fd() const;
  // Marks the connection dead (and calls on_disconnect), for the watchdog that saw POLLHUP. Wakes waiting callers.
  void Disconnect();
  bool connected() const;

  // Looks names up one below the other, at most kMaxWalkNames (EINVAL above). A miss is not an error of the call: see
  // WalkResult. Fails as a whole only when `dir` is bad or the connection is.
  base::Result<WalkResult> Walk(NodeId dir, std::span<const std::string_view> names);
  // Walk of one name with the miss as the error: ENOENT when there is no such name.
  base::Result<NodeAttr> Lookup(NodeId dir, std::string_view name);

  base::Result<Attr> GetAttr(NodeId node);
  // Applies the change and returns the attributes after it. On an error part of it may have been applied.
  base::Result<Attr> SetAttr(NodeId node, const AttrChange& change);

  // A new open file description of a regular file, for pread/pwrite/mmap/fsync by the caller. `flags`: an access mode
  // and any of O_TRUNC, O_APPEND, O_NOATIME, O_DIRECT, O_SYNC, O_DSYNC, O_NONBLOCK (else EINVAL). O_CLOEXEC is set.
  // EISDIR for directories, ELOOP for symbolic links, ENXIO for FIFOs and sockets, EPERM for devices unless the
  // connection allows them.
  base::Result<OpenFile> Open(NodeId node, int flags);

  // Calls that make a file: `mode` is used as it is (the caller applied the umask; set-id bits count), `uid` and `gid`
  // own the file (the caller applies the set-gid-directory rule; kKeepId = what the host chose). EEXIST if the name
  // exists: they never open or replace. When ownership can't be set the file is removed again and the error returned.
  base::Result<CreatedFile> Create(NodeId dir, std::string_view name, int flags, uint32_t mode, uint32_t uid,
                                   uint32_t gid);
  base::Result<NodeAttr> Mkdir(NodeId dir, std::string_view name, uint32_t mode, uint32_t uid, uint32_t gid);
  // ENAMETOOLONG for targets of 4096 bytes and more.
  base::Result<NodeAttr> Symlink(NodeId dir, std::string_view name, std::string_view target, uint32_t uid,
                                 uint32_t gid);
  // Regular files, FIFOs, sockets' names refused: EPERM for all but S_IFREG, S_IFIFO and S_IFCHR 0:0 (a whiteout).
  base::Result<NodeAttr> Mknod(NodeId dir, std::string_view name, uint32_t mode, uint32_t major, uint32_t minor,
                               uint32_t uid, uint32_t gid);
  // A new name for `node`. The result is a node of its own for the new name, with the new link count.
  base::Result<NodeAttr> Link(NodeId node, NodeId dir, std::string_view name);

  // Nodes of what is removed stay usable (a deleted file can be read and changed) until forgotten.
  base::Result<void> Unlink(NodeId dir, std::string_view name);
  base::Result<void> Rmdir(NodeId dir, std::string_view name);
  // `flags`: 0, RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_WHITEOUT (renameat2(2)). Nodes follow their files.
  base::Result<void> Rename(NodeId old_dir, std::string_view old_name, NodeId new_dir, std::string_view new_name,
                            uint32_t flags);

  base::Result<std::string> ReadLink(NodeId node);

  // Directory streams. Cookies are the host's (0 = the start): an entry that exists during the whole reading is seen
  // exactly once, whatever is added and removed meanwhile, as with getdents64(2) on the host. A handle costs a host fd
  // on the server: open it on the first read, close it at the end.
  base::Result<DirHandle> OpenDir(NodeId dir);
  // Up to about 60 KiB of entries from `cookie`.
  base::Result<DirPage> ReadDir(DirHandle handle, uint64_t cookie);
  void CloseDir(DirHandle handle);
  // All entries at once: one round trip for a directory whose entries fit into one message, else OpenDir, ReadDir to
  // the end, CloseDir.
  base::Result<std::vector<DirEntry>> ReadWholeDir(NodeId dir);

  base::Result<gofer::StatFs> StatFs(NodeId node);
  // Names and sizes as in xattr(7); values above kMaxXattrSize are E2BIG. Set and Remove accept user.*,
  // security.capability and system.posix_acl_*; others EPERM. Get returns the whole value: the caller does the
  // size-0 and ERANGE rules. List returns NUL-terminated names one after the other.
  base::Result<std::string> GetXattr(NodeId node, std::string_view name);
  base::Result<void> SetXattr(NodeId node, std::string_view name, std::string_view value, int flags);
  base::Result<std::string> ListXattr(NodeId node);
  base::Result<void> RemoveXattr(NodeId node, std::string_view name);

  // syncfs(2) of the filesystem that holds `node`.
  base::Result<void> SyncFs(NodeId node);

  // Gives an id back. Queued, sent in batches: usually no round trip. Never fails; ignores kNoNode and the root.
  void Forget(NodeId node);
  // Sends what is queued now.
  void FlushForgets();

 private:
  struct Impl;
  Client();

  std::unique_ptr<Impl> impl_;
  MountInfo mount_;
};

}  // namespace gofer

#endif  // GOFER_PROTOCOL_CLIENT_H_
