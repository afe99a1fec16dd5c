// SPDX-License-Identifier: Apache-2.0
#include "sentry/vfs/inotify_watches.h"

#include <sys/inotify.h>

#include <algorithm>

#include "sentry/vfs/path.h"

namespace sentry::vfs {

void InotifyWatches::Add(RefPtr<InotifyWatch> watch) {
  MutexLock lock(mu_);
  watches_.push_back(std::move(watch));
}

void InotifyWatches::Remove(InotifyWatch* watch) {
  RefPtr<InotifyWatch> removed;
  MutexLock lock(mu_);
  auto it = std::find_if(watches_.begin(), watches_.end(), [&](const RefPtr<InotifyWatch>& w) { return w == watch; });
  if (it == watches_.end()) return;
  removed = std::move(*it);
  watches_.erase(it);
}

void InotifyWatches::Notify(uint32_t mask, uint32_t cookie, std::string_view name) {
  std::vector<RefPtr<InotifyWatch>> watches;
  {
    MutexLock lock(mu_);
    watches = watches_;
  }
  for (const RefPtr<InotifyWatch>& watch : watches) watch->OnEvent(mask, cookie, name);
}

void NotifyInotify(const Dentry& dentry, uint32_t mask, uint32_t cookie) {
  Inode* inode = dentry.inode().get();
  if (!inode) return;
  if (inode->IsDirectory()) mask |= IN_ISDIR;
  // The directory first, as fsnotify_parent().
  if (RefPtr<Dentry> parent = dentry.parent(); parent && parent->inode()->HasInotifyWatches()) {
    parent->inode()->inotify_watches().Notify(mask, cookie, dentry.name());
  }
  if (inode->HasInotifyWatches()) inode->inotify_watches().Notify(mask, cookie, "");
}

uint32_t NextInotifyCookie() {
  static std::atomic<uint32_t> next{1};
  uint32_t cookie = next.fetch_add(1, std::memory_order_relaxed);
  return cookie ? cookie : next.fetch_add(1, std::memory_order_relaxed);
}

}  // namespace sentry::vfs
