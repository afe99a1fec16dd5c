// SPDX-License-Identifier: Apache-2.0
#include <string>

#include "sentry/fs/overlay/overlay_inode.h"

namespace sentry::fs {

OverlayFilesystem::~OverlayFilesystem() = default;

RefPtr<vfs::Inode> OverlayFilesystem::Root() { return ForLower(lower_->Root()); }

vfs::StatFs OverlayFilesystem::GetStatFs() {
  vfs::StatFs out = upper_->GetStatFs();
  out.magic = 0x794c7630;  // OVERLAYFS_SUPER_MAGIC
  return out;
}

RefPtr<OverlayInode> OverlayFilesystem::ForLower(const RefPtr<vfs::Inode>& lower) {
  RefPtr<OverlayInode> fresh;
  for (;;) {
    {
      MutexLock lock(mu_);
      auto it = by_lower_.find(lower.get());
      if (it != by_lower_.end() && it->second->TryIncRef()) return RefPtr<OverlayInode>::Adopt(it->second);
      if (fresh) {
        by_lower_[lower.get()] = fresh.get();
        return fresh;
      }
    }
    // Made without the lock: it asks the lower file for its attributes.
    fresh = MakeRef<OverlayInode>(RefPtr<OverlayFilesystem>(this), lower, nullptr, lower->type());
  }
}

Result<RefPtr<vfs::Inode>> OverlayFilesystem::NewUpper(mode_t type, dev_t rdev, std::string_view target,
                                                       const vfs::CreateAttributes& a) {
  if (type == S_IFREG) return work_->CreateUnnamed(a);
  MutexLock lock(work_mu_);
  std::string name = "#" + std::to_string(next_work_++);
  RefPtr<vfs::Inode> inode = TRY(type == S_IFDIR   ? work_->Mkdir(name, a)
                                 : type == S_IFLNK ? work_->Symlink(name, target, a)
                                                   : work_->Mknod(name, type, rdev, a));
  TRY(type == S_IFDIR ? work_->Rmdir(name, *inode) : work_->Unlink(name, *inode));
  return inode;
}

void OverlayFilesystem::Forget(const vfs::Inode* lower, const OverlayInode* inode) {
  MutexLock lock(mu_);
  auto it = by_lower_.find(lower);
  if (it != by_lower_.end() && it->second == inode) by_lower_.erase(it);
}

void OverlayFilesystem::Pin(OverlayInode& inode) {
  MutexLock lock(mu_);
  pinned_.insert(RefPtr<OverlayInode>(&inode));
}

void OverlayFilesystem::Unpin(OverlayInode& inode) {
  RefPtr<OverlayInode> self(&inode);  // the last reference must not go under the lock
  MutexLock lock(mu_);
  pinned_.erase(self);
}

std::vector<RefPtr<OverlayInode>> OverlayFilesystem::Pinned() {
  MutexLock lock(mu_);
  return {pinned_.begin(), pinned_.end()};
}

void OverlayFilesystem::OnLastUnmount() {
  std::set<RefPtr<OverlayInode>> pinned;
  {
    MutexLock lock(mu_);
    pinned.swap(pinned_);
  }
  // Level by level: guests choose the depth of the tree.
  std::vector<RefPtr<OverlayInode>> all(pinned.begin(), pinned.end());
  pinned.clear();
  for (size_t i = 0; i < all.size(); ++i) {
    for (auto& [name, child] : all[i]->TakeChildren()) {
      if (child) all.push_back(std::move(child));
    }
  }
  all.clear();
  lower_->OnLastUnmount();
  upper_->OnLastUnmount();
}

Result<RefPtr<vfs::Filesystem>> NewOverlay(RefPtr<vfs::Filesystem> lower, RefPtr<vfs::Filesystem> upper) {
  return RefPtr<vfs::Filesystem>(MakeRef<OverlayFilesystem>(std::move(lower), std::move(upper)));
}

}  // namespace sentry::fs
