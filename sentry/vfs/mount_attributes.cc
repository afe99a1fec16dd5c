// SPDX-License-Identifier: Apache-2.0
// What changes of mounts without moving them, detached trees (open_tree(2), fsmount(2), mount_setattr(2)), and what a
// namespace lets a less privileged mounter see.
#include <sys/mount.h>

#include "sentry/vfs/dentry_cache.h"
#include "sentry/vfs/mount_table.h"

namespace sentry::vfs {

Result<void> MountNamespace::SetPropagation(const Path& mounted, int ms_flags, bool recursive) {
  constexpr int kTypes = MS_SHARED | MS_PRIVATE | MS_SLAVE | MS_UNBINDABLE;
  const int type = ms_flags & kTypes;
  if (type == 0 || (type & (type - 1))) return Errno(EINVAL);
  MutexLock lock(Table::mu);
  if (!(mounted.dentry == mounted.mount->root_) || mounted.mount->namespace_ != this) return Errno(EINVAL);
  std::vector<Mount*> all{mounted.mount.get()};
  if (recursive) all = Table::Subtree(*mounted.mount);
  for (Mount* mount : all) Table::ChangeType(*mount, type);
  Touch();
  return OkResult();
}

RefPtr<MountNamespace> MountNamespace::NewAnonymous(RefPtr<Mount> mount, RefPtr<UserNamespace> owner) {
  auto ns = MakeRef<MountNamespace>(std::move(mount), std::move(owner));
  ns->anonymous_ = true;
  return ns;
}

Result<RefPtr<MountNamespace>> MountNamespace::CopyDetached(const Path& source, bool recursive) const {
  RefPtr<MountNamespace> ns(new MountNamespace(CloneTag(), owner_));
  ns->anonymous_ = true;
  MutexLock lock(Table::mu);
  Mount& mount = *source.mount;
  const MountNamespace* from = mount.namespace_;
  if (mount.unbindable_ || (from != this && !(from && from->anonymous_))) return Errno(EINVAL);
  if (!recursive && Table::HasLockedChildren(mount, *source.dentry)) return Errno(EINVAL);
  if (Table::Index().size() + Table::Subtree(mount).size() >= static_cast<size_t>(Table::kMaxMounts))
    return Errno(ENOSPC);
  ns->root_ = recursive ? Table::CopyTree(mount, source.dentry, true, Table::CopyAs::kPeer, nullptr)
                        : Table::Copy(mount, source.dentry, Table::CopyAs::kPeer);
  ns->root_->locked_ = false;
  Table::SetNamespace(*ns->root_, ns.get());
  return ns;
}

Result<void> MountNamespace::SetAttributes(const Path& mounted, uint32_t set, uint32_t clear, int ms_propagation,
                                           bool recursive) {
  MutexLock lock(Table::mu);
  MountNamespace* ns = mounted.mount->namespace_;
  if (!(mounted.dentry == mounted.mount->root_) || (ns != this && !(ns && ns->anonymous_))) return Errno(EINVAL);
  std::vector<Mount*> all{mounted.mount.get()};
  if (recursive) all = Table::Subtree(*mounted.mount);
  for (const Mount* mount : all) {
    const uint32_t flags = (mount->flags() & ~clear) | set;
    TRY(mount->CheckLockedFlags(flags));
    if ((flags & ~mount->flags() & kMountReadOnly) && mount->writers_.load(std::memory_order_seq_cst) > 0)
      return Errno(EBUSY);
  }
  for (Mount* mount : all) {
    mount->set_flags((mount->flags() & ~clear) | set);
    if (ms_propagation) Table::ChangeType(*mount, ms_propagation);
  }
  ns->Touch();
  return OkResult();
}

bool MountNamespace::ShowsWhole(std::string_view type) const {
  MutexLock lock(Table::mu);
  for (const Mount* mount : Table::Subtree(*root_)) {
    if (mount->filesystem_->TypeName() != type || mount->root_->parent()) continue;
    if (!Table::HasLockedChildren(*mount, *mount->root_)) return true;
  }
  return false;
}

}  // namespace sentry::vfs
