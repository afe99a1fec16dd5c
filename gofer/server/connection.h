// SPDX-License-Identifier: Apache-2.0
// Connection: one served tree. Decodes requests, checks every field, does them, encodes the reply. Thread-safe: each
// channel of the connection calls Handle from a thread of its own (which did HostFs::EnterThread).
#ifndef GOFER_SERVER_CONNECTION_H_
#define GOFER_SERVER_CONNECTION_H_

#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/mutex.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "gofer/protocol/codec.h"
#include "gofer/protocol/messages.h"
#include "gofer/server/host_fs.h"
#include "gofer/server/node_table.h"

namespace gofer {

class Connection {
 public:
  struct Settings {
    bool read_only = false;
    bool submounts = true;
    bool allow_devices = false;
    bool donate_root = false;
    uint64_t max_nodes = 1 << 20;
    uint64_t max_fds = 4096;
  };
  struct Reply {
    explicit Reply(std::span<uint8_t> buffer) : body(buffer) {}
    Writer body;
    std::vector<base::UniqueFd> fds;  // to donate
  };

  // `fs` outlives it; `root` is an O_PATH fd.
  Connection(const HostFs* fs, base::UniqueFd root, const Settings& settings);

  // The error becomes the reply's code. Knows all operations but kOpenChannel.
  base::Result<void> Handle(Op op, Reader& in, Reply* out);

  const NodeTable& nodes() const { return nodes_; }

 private:
  struct DirStream;

  base::Result<void> Mount(Reader& in, Reply* out);
  base::Result<void> Walk(Reader& in, Reply* out);
  base::Result<void> GetAttr(Reader& in, Reply* out);
  base::Result<void> SetAttr(Reader& in, Reply* out);
  base::Result<void> Open(Reader& in, Reply* out);
  base::Result<void> ReadLink(Reader& in, Reply* out);
  base::Result<void> StatFs(Reader& in, Reply* out);
  base::Result<void> SyncFs(Reader& in, Reply* out);
  base::Result<void> Forget(Reader& in, Reply* out);
  // connection_names.cc
  base::Result<void> Create(Reader& in, Reply* out);
  base::Result<void> Make(Op op, Reader& in, Reply* out);
  base::Result<void> Link(Reader& in, Reply* out);
  base::Result<void> Remove(Reader& in, bool directory);
  base::Result<void> Rename(Reader& in);
  // connection_dirs.cc
  base::Result<void> OpenDir(Reader& in, Reply* out);
  base::Result<void> ReadDir(Reader& in, Reply* out);
  base::Result<void> CloseDir(Reader& in);
  base::Result<void> ListDir(Reader& in, Reply* out);
  // connection_xattr.cc
  base::Result<void> GetXattr(Reader& in, Reply* out);
  base::Result<void> SetXattr(Reader& in);
  base::Result<void> ListXattr(Reader& in, Reply* out);
  base::Result<void> RemoveXattr(Reader& in);

  struct NodeAndFd {
    base::RefPtr<Node> node;
    base::RefPtr<NodeFd> fd;
  };
  base::Result<NodeAndFd> Resolve(NodeId id);
  base::Result<NodeAndFd> ResolveDir(NodeId id);
  base::Result<void> CheckWritable() const;
  // Gives a new file its owner and set-id bits, and reads its attributes back into `attr`.
  base::Result<void> Adopt(int fd, const MakeRequest& request, bool with_mode, Attr* attr);

  const HostFs* const fs_;
  const Settings settings_;
  base::UniqueFd root_;  // until mounted
  NodeTable nodes_;
  base::Mutex mu_{base::LockRank::kBoot};
  bool mounted_ ABSL_GUARDED_BY(mu_) = false;
  uint64_t next_stream_ ABSL_GUARDED_BY(mu_) = 1;
  std::unordered_map<DirHandle, std::shared_ptr<DirStream>> streams_ ABSL_GUARDED_BY(mu_);
};

// EINVAL, ENAMETOOLONG: not one component that names an entry of a directory.
base::Result<std::string> CheckedName(std::string_view name);
// EINVAL for flags that no donated fd may have. `needs_write` is set for those that change the file.
base::Result<int> CheckedOpenFlags(uint32_t flags, bool* needs_write);

}  // namespace gofer

#endif  // GOFER_SERVER_CONNECTION_H_
