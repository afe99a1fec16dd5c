// SPDX-License-Identifier: Apache-2.0
#include "sentry/fs/gofer/gofer_fs.h"

#include <sys/resource.h>

#include <algorithm>

#include "sentry/fs/gofer/gofer_inode.h"

namespace sentry::fs {

GoferFilesystem::GoferFilesystem(std::unique_ptr<::gofer::Client> client, GoferOptions options)
    : client_(std::move(client)), options_(options), max_idle_([] {
        rlimit limit;
        return getrlimit(RLIMIT_NOFILE, &limit) == 0 ? std::min<uint64_t>(kMaxIdle, limit.rlim_cur / 8) : 0;
      }()) {}

RefPtr<vfs::Inode> GoferFilesystem::Root() { return InodeFor(client_->mount().root); }

vfs::StatFs GoferFilesystem::GetStatFs() {
  vfs::StatFs out;
  out.magic = 0x01021997;  // V9FS_MAGIC: what gVisor's gofer mounts say
  auto s = client_->StatFs(client_->mount().root.node);
  if (!s.ok()) return out;
  out.block_size = s->bsize;
  out.blocks = s->blocks;
  out.blocks_free = s->bfree;
  out.blocks_available = s->bavail;
  out.files = s->files;
  out.files_free = s->ffree;
  out.name_max = s->namelen;
  return out;
}

Result<void> GoferFilesystem::SyncFs() { return client_->SyncFs(client_->mount().root.node); }

GoferFilesystem::Key GoferFilesystem::KeyOf(const ::gofer::Attr& attr) {
  return {attr.dev_major, attr.dev_minor, attr.ino, attr.btime.sec, attr.btime.nsec};
}

RefPtr<GoferInode> GoferFilesystem::InodeFor(const ::gofer::NodeAttr& node) {
  RefPtr<GoferInode> found;
  {
    MutexLock lock(mu_);
    GoferInode*& slot = inodes_[KeyOf(node.attr)];
    if (slot && slot->TryIncRef()) {
      found = RefPtr<GoferInode>::Adopt(slot);
    } else {
      found = MakeRef<GoferInode>(RefPtr<GoferFilesystem>(this), node);
      slot = found.get();
      return found;
    }
  }
  if (found->node() != node.node) client_->Forget(node.node);
  return found;
}

void GoferFilesystem::KeepIdle(const GoferInode& inode, UniqueFd fd) {
  UniqueFd replaced;
  MutexLock lock(idle_mu_);
  if (auto it = idle_of_.find(&inode); it != idle_of_.end()) {
    replaced = std::move(it->second->fd);
    idle_.erase(it->second);
    idle_of_.erase(it);
  } else if (max_idle_ == 0) {
    return;
  } else if (idle_.size() >= max_idle_) {
    replaced = std::move(idle_.front().fd);
    idle_of_.erase(idle_.front().inode);
    idle_.pop_front();
  }
  idle_of_[&inode] = idle_.insert(idle_.end(), Idle{&inode, std::move(fd)});
}

UniqueFd GoferFilesystem::TakeIdle(const GoferInode& inode) {
  MutexLock lock(idle_mu_);
  auto it = idle_of_.find(&inode);
  if (it == idle_of_.end()) return UniqueFd();
  UniqueFd fd = std::move(it->second->fd);
  idle_.erase(it->second);
  idle_of_.erase(it);
  return fd;
}

bool GoferFilesystem::DropIdle() {
  std::list<Idle> dropped;
  MutexLock lock(idle_mu_);
  dropped.swap(idle_);
  idle_of_.clear();
  return !dropped.empty();
}

void GoferFilesystem::Forget(const GoferInode& inode) {
  TakeIdle(inode);
  {
    MutexLock lock(mu_);
    auto it = inodes_.find(KeyOf(inode.first_attr()));
    if (it != inodes_.end() && it->second == &inode) inodes_.erase(it);
  }
  if (inode.node() != client_->mount().root.node) client_->Forget(inode.node());
}

RefPtr<vfs::Filesystem> NewGoferFilesystem(std::unique_ptr<::gofer::Client> client, GoferOptions options) {
  return MakeRef<GoferFilesystem>(std::move(client), options);
}

}  // namespace sentry::fs
