// SPDX-License-Identifier: Apache-2.0
#include "sentry/vfs/inotify_watches.h"

#include <sys/inotify.h>

#include <algorithm>
#include <unordered_set>

#include "sentry/vfs/dentry_cache.h"
#include "sentry/vfs/fanotify.h"
#include "sentry/vfs/file_description.h"
#include "sentry/vfs/path.h"

namespace sentry::vfs {

namespace {

// Which inodes are watched, for the end of their filesystem.
struct Watched {
  Mutex mu{LockRank::kLeaf};
  std::unordered_set<InotifyWatches*> all ABSL_GUARDED_BY(mu);
};
Watched& TheWatched() {
  static Watched* watched = new Watched;
  return *watched;
}

}  // namespace

InotifyWatches::~InotifyWatches() {
  Watched& watched = TheWatched();
  MutexLock lock(watched.mu);
  watched.all.erase(this);
}

void InotifyWatches::NotifyUnmount(const Filesystem& filesystem) {
  std::vector<RefPtr<Inode>> inodes;
  {
    Watched& watched = TheWatched();
    MutexLock lock(watched.mu);
    for (InotifyWatches* watches : watched.all) {
      Inode* inode = watches->inode_.load(std::memory_order_relaxed);
      if (inode && &inode->filesystem() == &filesystem && inode->TryIncRef())
        inodes.push_back(RefPtr<Inode>::Adopt(inode));
    }
  }
  for (const RefPtr<Inode>& inode : inodes)
    inode->inotify_watches().Notify(IN_UNMOUNT | (inode->IsDirectory() ? IN_ISDIR : 0), 0, "");
}

void InotifyWatches::Add(RefPtr<InotifyWatch> watch) {
  MutexLock lock(mu_);
  watches_.push_back(std::move(watch));
  Watched& watched = TheWatched();
  MutexLock registry(watched.mu);
  watched.all.insert(this);
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

namespace {

void NotifyWatches(const Dentry& dentry, uint32_t mask, uint32_t cookie) {
  Inode* inode = dentry.inode().get();
  if (!inode) return;
  if (inode->IsDirectory()) mask |= IN_ISDIR;
  if (dentry.IsUnhashed()) mask |= IN_EXCL_UNLINK;
  // The directory first, as fsnotify_parent().
  if (RefPtr<Dentry> parent = dentry.parent(); parent && parent->inode()->HasInotifyWatches()) {
    parent->inode()->inotify_watches().Notify(mask, cookie, dentry.name());
  }
  if (inode->HasInotifyWatches()) inode->inotify_watches().Notify(mask, cookie, "");
}

// inotify's bits of these events are fanotify's.
void NotifyMarks(const Dentry& dentry, const Path* path, uint32_t mask) {
  Inode* inode = dentry.inode().get();
  if (inode->IsDirectory()) mask |= FAN_ONDIR;
  const RefPtr<Dentry> parent = dentry.parent();
  const std::string name = parent ? dentry.name() : "";
  Fanotify::Get().Notify({.mask = mask,
                          .path = path && path->mount ? path : nullptr,
                          .object = inode,
                          .object_dentry = &dentry,
                          .directory = parent.get(),
                          .name = name});
}

}  // namespace

void NotifyFile(const Path& path, uint32_t mask) {
  if (path.inode() && Fanotify::Get().Any()) NotifyMarks(*path.dentry, &path, mask);
  NotifyWatches(*path.dentry, mask, 0);
}

void NotifyFile(const FileDescription& file, uint32_t mask) {
  if (!(file.flags() & kNoNotify)) NotifyFile(file.path(), mask);
}

Result<void> AskToRead(const FileDescription& file) {
  if (!Fanotify::Get().Any() || (file.flags() & kNoNotify)) return OkResult();
  return Fanotify::Get().Ask(file.path(), FAN_ACCESS_PERM);
}

Result<void> AskToExecute(const Path& path) {
  if (!Fanotify::Get().Any()) return OkResult();
  TRY(Fanotify::Get().Ask(path, FAN_OPEN_EXEC_PERM));
  return Fanotify::Get().Ask(path, FAN_OPEN_PERM);
}

void NotifyExecuted(const Path& path) { NotifyFile(path, IN_OPEN | (Fanotify::Get().Any() ? FAN_OPEN_EXEC : 0)); }

void NotifyInotify(const Dentry& dentry, uint32_t mask, uint32_t cookie) {
  if (dentry.inode() && Fanotify::Get().Any()) NotifyMarks(dentry, nullptr, mask);
  NotifyWatches(dentry, mask, cookie);
}

void FinishUnmount() { DentryCache::Get().Shrink(); }

uint32_t NextInotifyCookie() {
  static std::atomic<uint32_t> next{1};
  uint32_t cookie = next.fetch_add(1, std::memory_order_relaxed);
  return cookie ? cookie : next.fetch_add(1, std::memory_order_relaxed);
}

}  // namespace sentry::vfs
