// SPDX-License-Identifier: Apache-2.0
// rename(2), renameat2(2).
#include <linux/fs.h>
#include <stdio.h>
#include <sys/inotify.h>

#include <optional>

#include "sentry/vfs/fanotify.h"
#include "sentry/vfs/inotify_watches.h"
#include "sentry/vfs/landlock.h"
#include "sentry/vfs/operations.h"

namespace sentry::vfs {
namespace {

// Both directories, the ancestor first; the rename mutex too when they differ, which keeps ancestry still. README.md
// says why no cycle with rmdir's parent-then-child can form.
class ABSL_SCOPED_LOCKABLE DirectoryPair {
 public:
  DirectoryPair(Dentry& from, Dentry& to) ABSL_NO_THREAD_SAFETY_ANALYSIS : first_(&from), second_(&to) {
    if (first_ == second_) {
      second_ = nullptr;
      first_->mu().Lock();
      return;
    }
    DentryCache::Get().rename_mu().Lock();
    if (DentryCache::IsAncestor(to, from) || (!DentryCache::IsAncestor(from, to) && &to < &from))
      std::swap(first_, second_);
    first_->mu().Lock();
    second_->mu().LockNested();
  }
  ~DirectoryPair() ABSL_NO_THREAD_SAFETY_ANALYSIS {
    if (second_) second_->mu().Unlock();
    first_->mu().Unlock();
    if (second_) DentryCache::Get().rename_mu().Unlock();
  }

 private:
  Dentry* first_;
  Dentry* second_;
};

struct Ends {
  RefPtr<Dentry> source, target;
};

// The checks of do_renameat2() and vfs_rename() that need both names. Sets *same when there is nothing to do.
Result<Ends> CheckRename(const WalkContext& context, const Walker& from, const Walker& to, unsigned flags,
                         const LandlockPlace& old_place, const LandlockPlace& new_place,
                         bool* same) ABSL_NO_THREAD_SAFETY_ANALYSIS {
  DentryCache& cache = DentryCache::Get();
  Dentry& old_directory = *from.current().dentry;
  Dentry& new_directory = *to.current().dentry;
  Ends ends;
  ends.source = TRY(cache.LookupLocked(old_directory, from.last_name()));
  if (!ends.source->inode()) return Errno(ENOENT);
  ends.target = TRY(cache.LookupLocked(new_directory, to.last_name()));
  Inode& moved = *ends.source->inode();
  Inode* replaced = ends.target->inode().get();
  const bool exchange = flags & RENAME_EXCHANGE;
  if ((flags & RENAME_NOREPLACE) && replaced) return Errno(EEXIST);
  if (exchange) {
    if (!replaced) return Errno(ENOENT);
    if (!replaced->IsDirectory() && to.trailing_slash()) return Errno(ENOTDIR);
  }
  if (!moved.IsDirectory()) {
    if (from.trailing_slash()) return Errno(ENOTDIR);
    if (!exchange && to.trailing_slash()) return Errno(ENOTDIR);
  }
  if (moved.IsDirectory() && DentryCache::IsAncestor(*ends.source, new_directory)) return Errno(EINVAL);
  if (replaced && replaced->IsDirectory() && DentryCache::IsAncestor(*ends.target, old_directory)) {
    return exchange ? Errno(EINVAL) : Errno(ENOTEMPTY);
  }
  TRY(LandlockCheckMove({.source_directory = old_place,
                         .target_directory = new_place,
                         .same_directory = &old_directory == &new_directory,
                         .moved = moved,
                         .target = replaced,
                         .exchange = exchange,
                         .removes = true}));
  if (&moved == replaced) {
    *same = true;
    return ends;
  }
  TRY(MayDelete(context, old_directory, moved, moved.IsDirectory()));
  if (!replaced) {
    TRY(MayCreate(context, new_directory));
  } else {
    TRY(MayDelete(context, new_directory, *replaced, exchange ? replaced->IsDirectory() : moved.IsDirectory()));
  }
  // A directory that gets another ".." is written to.
  if (&old_directory != &new_directory) {
    if (moved.IsDirectory()) TRY(moved.CheckPermission(context.creds, kMayWrite));
    if (exchange && replaced->IsDirectory()) TRY(replaced->CheckPermission(context.creds, kMayWrite));
  }
  if (DentryCache::IsMountpoint(*ends.source) || DentryCache::IsMountpoint(*ends.target)) return Errno(EBUSY);
  return ends;
}

// Both ends in one event: for those with a mark on either directory, once.
void NotifyRename(const Dentry& from, std::string_view old_name, const Dentry& to, std::string_view new_name,
                  const Dentry& moved) {
  if (!Fanotify::Get().Any()) return;
  Fanotify::Get().Notify({.mask = FAN_RENAME | (moved.inode()->IsDirectory() ? uint64_t{FAN_ONDIR} : 0),
                          .object = moved.inode().get(),
                          .object_dentry = &moved,
                          .directory = &from,
                          .name = old_name,
                          .changes_names = true,
                          .new_directory = &to,
                          .new_name = new_name});
}

void Notify(const Walker& from, const Walker& to, const Ends& ends, unsigned flags) {
  const Dentry& old_directory = *from.current().dentry;
  const Dentry& new_directory = *to.current().dentry;
  Inode& moved = *ends.source->inode();
  Inode* other = ends.target->inode().get();
  uint32_t cookie = NextInotifyCookie();
  NotifyRename(old_directory, from.last_name(), new_directory, to.last_name(), *ends.source);
  NotifyDirectory(old_directory, IN_MOVED_FROM, *ends.source, from.last_name(), cookie);
  NotifyDirectory(new_directory, IN_MOVED_TO, *ends.source, to.last_name(), cookie);
  if (other && !(flags & RENAME_EXCHANGE)) NotifyNameRemoved(*other);
  NotifySelf(moved, IN_MOVE_SELF, ends.source.get());
  if (!(flags & RENAME_EXCHANGE)) return;
  cookie = NextInotifyCookie();
  NotifyRename(new_directory, to.last_name(), old_directory, from.last_name(), *ends.target);
  NotifyDirectory(new_directory, IN_MOVED_FROM, *ends.target, to.last_name(), cookie);
  NotifyDirectory(old_directory, IN_MOVED_TO, *ends.target, from.last_name(), cookie);
  NotifySelf(*other, IN_MOVE_SELF, ends.target.get());
}

// With the directories locked. Takes the replaced directory's lock, too.
Result<void> DoRename(const Walker& from, const Walker& to, const Ends& ends,
                      unsigned flags) ABSL_NO_THREAD_SAFETY_ANALYSIS {
  DentryCache& cache = DentryCache::Get();
  Dentry& old_directory = *from.current().dentry;
  Dentry& new_directory = *to.current().dentry;
  Inode* replaced = ends.target->inode().get();
  const bool removes_directory = replaced && replaced->IsDirectory() && !(flags & RENAME_EXCHANGE);
  if (removes_directory) ends.target->mu().LockNested();
  auto renamed = old_directory.inode()->Rename(from.last_name(), *ends.source->inode(), *new_directory.inode(),
                                               to.last_name(), replaced, flags);
  if (renamed.ok()) {
    if (removes_directory) cache.ForgetChildrenLocked(*ends.target);
    if (flags & RENAME_EXCHANGE) {
      cache.ExchangeLocked(old_directory, *ends.source, new_directory, *ends.target);
    } else {
      cache.MoveLocked(old_directory, *ends.source, new_directory, to.last_name(), ends.target.get());
    }
  }
  if (removes_directory) ends.target->mu().Unlock();
  return renamed;
}

}  // namespace

Result<void> Rename(const WalkContext& from_context, std::string_view old_path, const WalkContext& to_context,
                    std::string_view new_path, unsigned flags) {
  if (flags & ~(RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT)) return Errno(EINVAL);
  if ((flags & RENAME_EXCHANGE) && (flags & (RENAME_NOREPLACE | RENAME_WHITEOUT))) return Errno(EINVAL);
  Walker from(from_context, 0), to(to_context, 0);
  TRY(from.Start(old_path));
  TRY(from.WalkToLast());
  TRY(to.Start(new_path));
  TRY(to.WalkToLast());
  if (!(from.current().mount == to.current().mount)) return Errno(EXDEV);
  if (from.last_kind() != Walker::Last::kNormal) return Errno(EBUSY);
  if (to.last_kind() != Walker::Last::kNormal) return (flags & RENAME_NOREPLACE) ? Errno(EEXIST) : Errno(EBUSY);
  if (from.current().mount->IsReadOnly()) return Errno(EROFS);
  const LandlockPlace old_place(from.current()), new_place(to.current());
  Ends ends;
  {
    DirectoryPair lock(*from.current().dentry, *to.current().dentry);
    bool same = false;
    ends = TRY(CheckRename(from_context, from, to, flags, old_place, new_place, &same));
    // rename(2): two names of one file are left alone.
    if (same) return OkResult();
    TRY(DoRename(from, to, ends, flags));
  }
  DentryCache::Get().Shrink();
  Notify(from, to, ends, flags);
  return OkResult();
}

}  // namespace sentry::vfs
