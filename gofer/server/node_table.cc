// SPDX-License-Identifier: Apache-2.0
#include "gofer/server/node_table.h"

#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <utility>

namespace gofer {

using base::Errno;
using base::MutexLock;
using base::OkResult;
using base::RefPtr;
using base::Result;
using base::UniqueFd;

namespace {

constexpr int kEvictBatch = 16;

bool OutOfFds(Errno e) { return e == Errno(EMFILE) || e == Errno(ENFILE); }

}  // namespace

Identity Identity::Of(const Attr& attr) {
  Identity id{.dev = makedev(attr.dev_major, attr.dev_minor),
              .ino = attr.ino,
              .mnt_id = attr.mnt_id,
              .type = attr.mode & S_IFMT};
  if (attr.mask & STATX_BTIME) {
    id.btime_sec = attr.btime.sec;
    id.btime_nsec = attr.btime.nsec;
  }
  return id;
}

Node::~Node() { table_->OnDestroyed(this); }

NodeTable::NodeTable(const HostFs* fs, uint64_t max_nodes, uint64_t max_fds, bool cross)
    : fs_(fs), max_nodes_(max_nodes), max_fds_(max_fds), cross_(cross) {}

NodeTable::~NodeTable() {
  std::unordered_map<NodeId, RefPtr<Node>> ids;
  {
    MutexLock lock(mu_);
    ids.swap(ids_);
  }
}

void NodeTable::OnDestroyed(Node* node) {
  MutexLock lock(mu_);
  LeaveLru(node);
  if (node->is_dir_) {
    auto it = dirs_.find(node->identity_);
    if (it != dirs_.end() && it->second == node) dirs_.erase(it);
  } else if (node->parent_) {
    auto it = node->parent_->files_.find(node->name_);
    if (it != node->parent_->files_.end() && it->second == node) node->parent_->files_.erase(it);
  }
}

void NodeTable::EnterLru(Node* node) {
  if (node->in_lru_ || node->pins_ > 0 || !node->fd_ || !node->parent_) return;
  lru_.push_front(node);
  node->lru_ = lru_.begin();
  node->in_lru_ = true;
}

void NodeTable::LeaveLru(Node* node) {
  if (!node->in_lru_) return;
  lru_.erase(node->lru_);
  node->in_lru_ = false;
}

bool NodeTable::Evict(int count) {
  std::vector<RefPtr<NodeFd>> closing;
  MutexLock lock(mu_);
  while (count-- > 0 && !lru_.empty()) {
    Node* node = lru_.back();
    LeaveLru(node);
    closing.push_back(std::move(node->fd_));
  }
  return !closing.empty();
}

Result<void> NodeTable::ReserveFd() {
  if (fd_count_ < max_fds_) return OkResult();
  Evict(kEvictBatch);
  if (fd_count_ < max_fds_) return OkResult();
  return Errno(ENFILE);
}

template <typename Open>
Result<UniqueFd> NodeTable::OpenWithRoom(Open open) {
  TRY(ReserveFd());
  Result<UniqueFd> fd = open();
  if (!fd.ok() && OutOfFds(fd.error()) && Evict(kEvictBatch)) fd = open();
  if (!fd.ok() && OutOfFds(fd.error())) return Errno(ENFILE);
  return fd;
}

Result<NodeAttr> NodeTable::AddRoot(UniqueFd fd) {
  Attr attr = TRY(fs_->Stat(fd.get()));
  Identity identity = Identity::Of(attr);
  RefPtr<Node> node(new Node(this, identity, S_ISDIR(attr.mode)));
  node->fd_ = base::MakeRef<NodeFd>(std::move(fd), &fd_count_);
  if (node->is_dir_) {
    MutexLock lock(mu_);
    dirs_[identity] = node.get();
  }
  NodeId id = TRY(AddId(std::move(node)));
  return NodeAttr{id, attr};
}

Result<RefPtr<Node>> NodeTable::Get(NodeId id) const {
  MutexLock lock(mu_);
  auto it = ids_.find(id);
  if (it == ids_.end()) return Errno(ENOENT);
  return it->second;
}

uint64_t NodeTable::node_count() const {
  MutexLock lock(mu_);
  return ids_.size();
}

Result<NodeId> NodeTable::AddId(RefPtr<Node> node) {
  MutexLock lock(mu_);
  if (ids_.size() >= max_nodes_) return Errno(ENFILE);
  NodeId id = next_id_++;
  ids_.emplace(id, std::move(node));
  return id;
}

void NodeTable::Forget(NodeId id) {
  RefPtr<Node> dropped;
  MutexLock lock(mu_);
  auto it = ids_.find(id);
  if (it == ids_.end()) return;
  dropped = std::move(it->second);
  ids_.erase(it);
}

Result<NodeAttr> NodeTable::Lookup(const RefPtr<Node>& dir, const std::string& name) {
  if (!dir->is_dir()) return Errno(ENOTDIR);
  RefPtr<NodeFd> dir_fd = TRY(Fd(dir));
  Attr attr = TRY(fs_->StatAt(dir_fd->get(), name));
  Identity identity = Identity::Of(attr);
  if (!cross_ && (identity.mnt_id != dir->identity_.mnt_id || identity.dev != dir->identity_.dev)) {
    return Errno(EACCES);
  }
  RefPtr<Node> node;
  if (S_ISDIR(attr.mode)) {
    node = TRY(DirectoryNode(dir_fd->get(), name, &attr));
  } else {
    node = FileNode(dir, name, identity);
  }
  NodeId id = TRY(AddId(std::move(node)));
  return NodeAttr{id, attr};
}

Result<NodeAttr> NodeTable::AddFile(const RefPtr<Node>& dir, const std::string& name, const Attr& attr) {
  NodeId id = TRY(AddId(FileNode(dir, name, Identity::Of(attr))));
  return NodeAttr{id, attr};
}

Result<RefPtr<Node>> NodeTable::DirectoryNode(int dir_fd, const std::string& name, Attr* attr) {
  auto find = [this](const Identity& identity) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) -> RefPtr<Node> {
    auto it = dirs_.find(identity);
    if (it == dirs_.end() || !it->second->TryIncRef()) return nullptr;
    return RefPtr<Node>::Adopt(it->second);
  };
  {
    MutexLock lock(mu_);
    if (RefPtr<Node> known = find(Identity::Of(*attr))) return known;
    // Directories keep their fds: a quarter stays for opening files, so that the client learns of the pressure while it
    // can still work.
    if (dirs_.size() >= max_fds_ - max_fds_ / 4) return Errno(ENFILE);
  }
  UniqueFd fd = TRY(OpenWithRoom([&] { return fs_->OpenPathAt(dir_fd, name, /*directory=*/true, cross_); }));
  *attr = TRY(fs_->Stat(fd.get()));
  Identity identity = Identity::Of(*attr);
  auto counted = base::MakeRef<NodeFd>(std::move(fd), &fd_count_);
  RefPtr<Node> node(new Node(this, identity, /*is_dir=*/true));
  MutexLock lock(mu_);
  // `node` unused dies after the lock: it was declared before it.
  if (RefPtr<Node> known = find(identity)) return known;
  node->fd_ = std::move(counted);
  dirs_[identity] = node.get();
  return node;
}

RefPtr<Node> NodeTable::FileNode(const RefPtr<Node>& dir, const std::string& name, const Identity& identity) {
  RefPtr<Node> released;
  RefPtr<Node> node(new Node(this, identity, /*is_dir=*/false));
  MutexLock lock(mu_);
  auto [it, added] = dir->files_.try_emplace(name, node.get());
  if (!added) {
    Node* known = it->second;
    if (known->identity_ == identity && known->TryIncRef()) return RefPtr<Node>::Adopt(known);
    // Somebody outside put another file there. DetachLocked erases the entry.
    released = DetachLocked(known);
    dir->files_[name] = node.get();
  }
  node->parent_ = dir;
  node->name_ = name;
  return node;
}

RefPtr<Node> NodeTable::DetachLocked(Node* node) {
  LeaveLru(node);
  RefPtr<Node> parent = std::move(node->parent_);
  if (parent) {
    auto it = parent->files_.find(node->name_);
    if (it != parent->files_.end() && it->second == node) parent->files_.erase(it);
  }
  node->name_.clear();
  return parent;
}

Result<RefPtr<NodeFd>> NodeTable::Fd(const RefPtr<Node>& node) {
  RefPtr<Node> parent;
  std::string name;
  for (int attempt = 0; attempt < 2; ++attempt) {
    RefPtr<NodeFd> parent_fd;
    {
      RefPtr<Node> previous = std::move(parent);  // released after the lock
      MutexLock lock(mu_);
      if (node->fd_) {
        if (node->in_lru_) lru_.splice(lru_.begin(), lru_, node->lru_);
        return node->fd_;
      }
      if (!node->parent_) return Errno(ESTALE);
      // A second try only makes sense when a renaming came between.
      if (attempt > 0 && node->parent_ == previous && node->name_ == name) return Errno(ESTALE);
      parent = node->parent_;
      name = node->name_;
      parent_fd = parent->fd_;
    }
    Result<UniqueFd> fd =
        OpenWithRoom([&] { return fs_->OpenPathAt(parent_fd->get(), name, /*directory=*/false, cross_); });
    if (!fd.ok()) {
      if (fd.error() == Errno(ENOENT)) continue;
      return fd.error();
    }
    Attr attr = TRY(fs_->Stat(fd->get()));
    if (Identity::Of(attr) != node->identity_) continue;
    auto counted = base::MakeRef<NodeFd>(std::move(*fd), &fd_count_);
    MutexLock lock(mu_);
    if (!node->fd_) {
      node->fd_ = counted;
      EnterLru(node.get());
    }
    return node->fd_;
  }
  return Errno(ESTALE);
}

NodeTable::Pinned::~Pinned() {
  if (!node_) return;
  NodeTable* table = node_->table_;
  MutexLock lock(table->mu_);
  --node_->pins_;
  table->EnterLru(node_.get());
}

Result<NodeTable::Pinned> NodeTable::PinName(const RefPtr<Node>& dir, const std::string& name) {
  Pinned pinned;
  {
    MutexLock lock(mu_);
    auto it = dir->files_.find(name);
    if (it == dir->files_.end() || !it->second->TryIncRef()) return pinned;
    pinned.node_ = RefPtr<Node>::Adopt(it->second);
    ++pinned.node_->pins_;
    LeaveLru(pinned.node_.get());
  }
  Result<RefPtr<NodeFd>> fd = Fd(pinned.node_);
  if (fd.ok()) return pinned;
  if (fd.error() != Errno(ESTALE)) return fd.error();
  Detach(pinned);
  return Pinned();
}

void NodeTable::Detach(const Pinned& pinned) {
  if (!pinned.node()) return;
  RefPtr<Node> released;
  MutexLock lock(mu_);
  released = DetachLocked(pinned.node().get());
}

void NodeTable::Move(const Pinned& pinned, const RefPtr<Node>& dir, const std::string& name) {
  if (!pinned.node()) return;
  RefPtr<Node> released, displaced;
  MutexLock lock(mu_);
  Node* node = pinned.node().get();
  released = DetachLocked(node);
  auto it = dir->files_.find(name);
  if (it != dir->files_.end()) {
    // Another thread may have walked here since the renaming and found this very file: its node is right as it is.
    if (it->second->identity_ != node->identity_) displaced = DetachLocked(it->second);
  }
  dir->files_[name] = node;
  node->parent_ = dir;
  node->name_ = name;
}

}  // namespace gofer
