// SPDX-License-Identifier: Apache-2.0
// Dentry's life, and FsContext.
#include "sentry/vfs/dentry_cache.h"
#include "sentry/vfs/path.h"

namespace sentry::vfs {

Dentry::Dentry(RefPtr<Inode> inode, RefPtr<Dentry> parent, std::string name)
    : mu_(inode ? inode->filesystem().directory_rank() : LockRank::kDirectory),
      parent_(std::move(parent)),
      name_(std::move(name)),
      inode_(std::move(inode)) {}

RefPtr<Dentry> Dentry::NewRoot(RefPtr<Inode> inode, std::string name) {
  if (name != "/") return RefPtr<Dentry>(new Dentry(std::move(inode), nullptr, std::move(name)));
  Filesystem& filesystem = inode->filesystem();
  MutexLock lock(filesystem.root_mu_);
  if (Dentry* root = filesystem.root_dentry_; root && root->inode_ == inode && root->TryIncRef())
    return RefPtr<Dentry>::Adopt(root);
  RefPtr<Dentry> root(new Dentry(std::move(inode), nullptr, std::move(name)));
  root->is_fs_root_ = true;
  filesystem.root_dentry_ = root.get();
  return root;
}

Dentry::~Dentry() {
  if (is_fs_root_) {
    Filesystem& filesystem = inode_->filesystem();
    MutexLock lock(filesystem.root_mu_);
    if (filesystem.root_dentry_ == this) filesystem.root_dentry_ = nullptr;
  }
  // A chain of removed directories, each held by its child alone, may be as deep as the guest likes: unwind it without
  // recursion.
  RefPtr<Dentry> up = std::move(parent_);
  while (up && up->HasOneRef()) {
    RefPtr<Dentry> next;
    {
      MutexLock lock(up->name_mu_);
      next = std::move(up->parent_);
    }
    up = std::move(next);
  }
}

RefPtr<Dentry> Dentry::parent() const {
  MutexLock lock(name_mu_);
  return parent_;
}

std::string Dentry::name() const {
  MutexLock lock(name_mu_);
  return name_;
}

RefPtr<FsContext> FsContext::Clone() const {
  MutexLock lock(mu_);
  return MakeRef<FsContext>(root_, cwd_, umask());
}

Path FsContext::root() const {
  MutexLock lock(mu_);
  return root_;
}

Path FsContext::cwd() const {
  MutexLock lock(mu_);
  return cwd_;
}

void FsContext::set_root(Path path) {
  MutexLock lock(mu_);
  std::swap(root_, path);
}

void FsContext::set_cwd(Path path) {
  MutexLock lock(mu_);
  std::swap(cwd_, path);
}

}  // namespace sentry::vfs
