// SPDX-License-Identifier: Apache-2.0
#include "sentry/vfs/file_handles.h"

#include <utility>
#include <vector>

namespace sentry::vfs {

FileHandles& FileHandles::Get() {
  static FileHandles* handles = new FileHandles;
  return *handles;
}

bool FileHandles::Exist(const Filesystem& filesystem) {
  const std::string_view type = filesystem.TypeName();
  return type == "tmpfs" || type == "overlay" || type == "9p";
}

RefPtr<Dentry> FileHandles::EraseLocked(std::map<Identity, Entry>::iterator it) {
  RefPtr<Dentry> dropped = std::move(it->second.dentry);
  order_.erase(it->second.position);
  files_.erase(it);
  count_.store(files_.size(), std::memory_order_seq_cst);
  return dropped;
}

RefPtr<Dentry> FileHandles::Forget(const Identity& id) {
  MutexLock lock(mu_);
  auto it = files_.find(id);
  return it == files_.end() ? nullptr : EraseLocked(it);
}

Result<FileHandles::Identity> FileHandles::Remember(const RefPtr<Dentry>& dentry) {
  const InodeStat stat = TRY(dentry->inode()->GetStat());
  const Identity id = {stat.dev, stat.ino};
  {
    RefPtr<Dentry> former, oldest;
    MutexLock lock(mu_);
    auto [it, fresh] = files_.try_emplace(id);
    former = std::exchange(it->second.dentry, dentry);
    if (fresh) {
      it->second.position = order_.insert(order_.end(), id);
      count_.store(files_.size(), std::memory_order_seq_cst);
      if (files_.size() > kRemembered) oldest = EraseLocked(files_.find(order_.front()));
    }
  }
  // A deletion that came before was not told of; one that comes now is.
  OnNameRemoved(*dentry->inode());
  return id;
}

RefPtr<Dentry> FileHandles::Find(const Identity& id) const {
  RefPtr<Dentry> found;
  {
    MutexLock lock(mu_);
    auto it = files_.find(id);
    if (it != files_.end()) found = it->second.dentry;
  }
  if (!found) return nullptr;
  auto stat = found->inode()->GetStat();
  return stat.ok() && stat->nlink != 0 ? found : nullptr;
}

void FileHandles::OnNameRemoved(Inode& inode) {
  if (count_.load(std::memory_order_seq_cst) == 0) return;
  auto stat = inode.GetStat();
  if (stat.ok() && stat->nlink == 0) (void)Forget({stat->dev, stat->ino});
}

void FileHandles::OnLastUnmount(const Filesystem& filesystem) {
  if (count_.load(std::memory_order_seq_cst) == 0) return;
  std::vector<RefPtr<Dentry>> dropped;
  MutexLock lock(mu_);
  for (auto it = files_.begin(); it != files_.end();) {
    auto next = std::next(it);
    if (&it->second.dentry->inode()->filesystem() == &filesystem) dropped.push_back(EraseLocked(it));
    it = next;
  }
}

}  // namespace sentry::vfs
