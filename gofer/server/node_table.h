// SPDX-License-Identifier: Apache-2.0
// The nodes of one connection: what a client's ids stand for, within a bound of host fds.
//
// A directory keeps an O_PATH fd for as long as it is known. Any other file is known by its directory and name, and
// gets an O_PATH fd when it is first used; such fds are closed again, least recently used first, when the bound is
// near, and reopened by name on the next use. The identity (device, inode, birth time) is compared after every opening
// by name, so a node never silently becomes another file: it is ESTALE. Renames and removals through this connection
// keep its nodes right: a renamed file's node gets the new place, a removed one keeps its fd until forgotten.
//
// Thread-safe. Lock: mu_ (leaf), never held across a host call other than close(2).
#ifndef GOFER_SERVER_NODE_TABLE_H_
#define GOFER_SERVER_NODE_TABLE_H_

#include <atomic>
#include <cstdint>
#include <list>
#include <map>
#include <string>
#include <tuple>
#include <unordered_map>
#include <vector>

#include "base/mutex.h"
#include "base/ref_ptr.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "gofer/server/host_fs.h"

namespace gofer {

class NodeTable;

// A counted O_PATH fd; outlives its eviction for as long as somebody uses it.
class NodeFd : public base::RefCounted<NodeFd> {
 public:
  NodeFd(base::UniqueFd fd, std::atomic<uint64_t>* count) : fd_(std::move(fd)), count_(count) { ++*count_; }
  ~NodeFd() {
    fd_.Reset();
    --*count_;
  }
  int get() const { return fd_.get(); }

 private:
  base::UniqueFd fd_;
  std::atomic<uint64_t>* count_;
};

struct Identity {
  uint64_t dev = 0;
  uint64_t ino = 0;
  uint64_t mnt_id = 0;
  uint32_t type = 0;  // S_IFMT
  int64_t btime_sec = 0;
  uint32_t btime_nsec = 0;
  static Identity Of(const Attr& attr);
  auto operator<=>(const Identity&) const = default;
};

class Node : public base::RefCounted<Node> {
 public:
  ~Node();
  bool is_dir() const { return is_dir_; }
  uint32_t type() const { return identity_.type; }
  const Identity& identity() const { return identity_; }

 private:
  friend class NodeTable;
  Node(NodeTable* table, const Identity& identity, bool is_dir) : table_(table), identity_(identity), is_dir_(is_dir) {}

  NodeTable* const table_;
  const Identity identity_;
  const bool is_dir_;
  // The rest is guarded by table_->mu_.
  base::RefPtr<NodeFd> fd_;
  base::RefPtr<Node> parent_;  // null: directory, root, or no longer at a known place (then fd_ is kept)
  std::string name_;
  int pins_ = 0;
  bool in_lru_ = false;
  std::list<Node*>::iterator lru_;
  std::unordered_map<std::string, Node*> files_;  // of a directory: its known non-directories, borrowed
};

class NodeTable {
 public:
  // `fs` outlives the table. `cross`: host mounts below the root are visible.
  NodeTable(const HostFs* fs, uint64_t max_nodes, uint64_t max_fds, bool cross);
  ~NodeTable();
  NodeTable(const NodeTable&) = delete;
  NodeTable& operator=(const NodeTable&) = delete;

  // The first id; takes an O_PATH fd.
  base::Result<NodeAttr> AddRoot(base::UniqueFd fd);
  // ENOENT for ids that are not held: EBADF is what a guest could mistake for its own.
  base::Result<base::RefPtr<Node>> Get(NodeId id) const;
  void Forget(NodeId id);

  // Stats `name` in `dir` and gives the caller a new id for what is there.
  base::Result<NodeAttr> Lookup(const base::RefPtr<Node>& dir, const std::string& name);
  // A new id for the non-directory that the caller just made at `name`.
  base::Result<NodeAttr> AddFile(const base::RefPtr<Node>& dir, const std::string& name, const Attr& attr);
  // The O_PATH fd of a node, opened if need be. ESTALE, ENFILE.
  base::Result<base::RefPtr<NodeFd>> Fd(const base::RefPtr<Node>& node);

  // Around a removal or renaming of a name: keeps the fd of the file known there, so that it survives. Destroyed
  // before the table.
  class Pinned {
   public:
    Pinned() = default;
    Pinned(Pinned&& other) noexcept : node_(std::move(other.node_)) {}
    ~Pinned();
    const base::RefPtr<Node>& node() const { return node_; }

   private:
    friend class NodeTable;
    base::RefPtr<Node> node_;
  };
  // Empty when no node is known there, or when the one known is already gone.
  base::Result<Pinned> PinName(const base::RefPtr<Node>& dir, const std::string& name);
  // The file known at the name is there no more.
  void Detach(const Pinned& pinned);
  // The file known at one name is now at another; whatever was known there is detached by the caller first.
  void Move(const Pinned& pinned, const base::RefPtr<Node>& dir, const std::string& name);

  // For a host fd that the connection holds outside the table: makes room and counts it. ENFILE.
  base::Result<void> ReserveFd();
  std::atomic<uint64_t>* fd_count() { return &fd_count_; }
  uint64_t node_count() const;

 private:
  friend class Node;

  base::Result<NodeId> AddId(base::RefPtr<Node> node);
  base::Result<base::RefPtr<Node>> DirectoryNode(int dir_fd, const std::string& name, Attr* attr);
  base::RefPtr<Node> FileNode(const base::RefPtr<Node>& dir, const std::string& name, const Identity& identity);
  void OnDestroyed(Node* node);
  // Takes the node from its place; the parent's reference is given back for release outside the lock.
  [[nodiscard]] base::RefPtr<Node> DetachLocked(Node* node) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void EnterLru(Node* node) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void LeaveLru(Node* node) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  bool Evict(int count);
  // Opens with a second try after evictions when the process is out of fds.
  template <typename Open>
  base::Result<base::UniqueFd> OpenWithRoom(Open open);

  const HostFs* const fs_;
  const uint64_t max_nodes_;
  const uint64_t max_fds_;
  const bool cross_;
  std::atomic<uint64_t> fd_count_{0};
  mutable base::Mutex mu_{base::LockRank::kLeaf};
  NodeId next_id_ ABSL_GUARDED_BY(mu_) = 1;
  std::unordered_map<NodeId, base::RefPtr<Node>> ids_ ABSL_GUARDED_BY(mu_);
  std::map<Identity, Node*> dirs_ ABSL_GUARDED_BY(mu_);  // borrowed
  std::list<Node*> lru_ ABSL_GUARDED_BY(mu_);            // front = most recently used
};

}  // namespace gofer

#endif  // GOFER_SERVER_NODE_TABLE_H_
