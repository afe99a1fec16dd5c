// SPDX-License-Identifier: Apache-2.0
// What changes names: in the upper layer, with whiteouts where a lower one would show through.
#include <linux/fs.h>
#include <sys/stat.h>

#include "sentry/fs/overlay/stack_inode.h"
#include "sentry/vfs/layers.h"

namespace sentry::fs {

Result<void> StackInode::SetOpaque() { return Real()->SetXattr(fs().xattr_prefix() + "opaque", "y", 0); }

void StackInode::MarkUnlinked(StackInode& victim) {
  MutexLock lock(victim.copy_mu());
  victim.unlinked_ = true;
}

Result<void> StackInode::ClearName(vfs::Dentry& upper_directory, std::string_view name, bool* whiteout) {
  RefPtr<vfs::Dentry> found = TRY(vfs::LayerLookup(upper_directory, name));
  *whiteout = false;
  if (!found->inode()) return OkResult();
  if (!IsWhiteout(*found->inode())) return Errno(EEXIST);
  TRY(vfs::LayerRemove(upper_directory, name));
  *whiteout = true;
  return OkResult();
}

Result<RefPtr<vfs::Inode>> StackInode::Make(std::string_view name, mode_t type, dev_t rdev, std::string_view target,
                                            const vfs::CreateAttributes& a) {
  // A whiteout is a mark of the layers.
  if (type == S_IFCHR && rdev == kWhiteoutDevice) return Errno(EPERM);
  TRY(CopyUp());
  RefPtr<vfs::Dentry> directory = UpperDirectory();
  bool whiteout;
  TRY(ClearName(*directory, name, &whiteout));
  auto made = vfs::LayerCreate(*directory, name, {.type = type, .device = rdev, .target = target, .attributes = a});
  RefPtr<StackInode> inode;
  if (made.ok()) {
    inode = MakeRef<StackInode>(RefPtr<StackFilesystem>(&fs()), RefPtr<StackInode>(this), std::string(name), *made,
                                std::vector<RefPtr<vfs::Dentry>>());
    if (type == S_IFDIR && HasLower()) {
      // Only where something would show through does it have to work.
      auto opaque = inode->SetOpaque();
      if (!opaque.ok() && whiteout) {
        (void)vfs::LayerRemove(*directory, name).ok();
        made = Errno(EIO);
      }
    }
  }
  if (!made.ok()) {
    if (whiteout) (void)MakeWhiteout(*directory, name).ok();
    return made.error();
  }
  if (type != S_IFDIR) fs().AddUpper(inode->Real().get(), inode.get());
  return RefPtr<vfs::Inode>(inode);
}

Result<RefPtr<vfs::Inode>> StackInode::CreateUnnamed(const vfs::CreateAttributes& a) {
  TRY(CopyUp());
  auto inode = MakeRef<StackInode>(RefPtr<StackFilesystem>(&fs()), TRY(vfs::LayerCreateUnnamed(*UpperDirectory(), a)));
  fs().AddUpper(inode->Real().get(), inode.get());
  return RefPtr<vfs::Inode>(inode);
}

Result<void> StackInode::Link(std::string_view name, vfs::Inode& target) {
  TRY(CopyUp());
  RefPtr<vfs::Inode> upper = TRY(static_cast<StackInode&>(target).CopyUp());
  RefPtr<vfs::Dentry> directory = UpperDirectory();
  bool whiteout;
  TRY(ClearName(*directory, name, &whiteout));
  auto linked = vfs::LayerLink(*directory, name, *upper);
  if (!linked.ok()) {
    if (whiteout) (void)MakeWhiteout(*directory, name).ok();
    return linked.error();
  }
  return OkResult();
}

Result<void> StackInode::Unlink(std::string_view name, vfs::Inode& victim) {
  TRY(CopyUp());
  auto& inode = static_cast<StackInode&>(victim);
  RefPtr<vfs::Dentry> directory = UpperDirectory();
  // Held so that no copy-up comes between.
  MutexLock lock(inode.copy_mu());
  if (TRY(vfs::LayerLookup(*directory, name))->inode()) TRY(vfs::LayerRemove(*directory, name));
  inode.unlinked_ = true;
  return LowerHas(name) ? MakeWhiteout(*directory, name) : OkResult();
}

Result<void> StackInode::ClearWhiteouts() {
  RefPtr<vfs::Dentry> directory = UpperDirectory();
  if (!directory) return OkResult();
  std::vector<std::string> names;
  vfs::Path path{nullptr, vfs::Dentry::NewRoot(RefPtr<vfs::Inode>(this), "list")};
  vfs::FileRef opened = TRY(directory->inode()->Open(path, RealFlags(O_RDONLY | O_NOATIME) | O_DIRECTORY));
  TRY(opened->IterateDirectory([&](const vfs::DirEntry& entry) {
    if (entry.name != "." && entry.name != "..") names.emplace_back(entry.name);
    return true;
  }));
  for (const std::string& name : names) {
    RefPtr<vfs::Dentry> found = TRY(vfs::LayerLookup(*directory, name));
    if (!found->inode()) continue;
    if (!IsWhiteout(*found->inode())) return Errno(ENOTEMPTY);
    TRY(vfs::LayerRemove(*directory, name));
  }
  return OkResult();
}

Result<void> StackInode::Rmdir(std::string_view name, vfs::Inode& victim) {
  auto& inode = static_cast<StackInode&>(victim);
  if (!inode.ListEntries().empty()) return Errno(ENOTEMPTY);
  TRY(CopyUp());
  RefPtr<vfs::Dentry> directory = UpperDirectory();
  MutexLock lock(inode.copy_mu());
  TRY(inode.ClearWhiteouts());
  if (TRY(vfs::LayerLookup(*directory, name))->inode()) TRY(vfs::LayerRemove(*directory, name));
  inode.unlinked_ = true;
  return LowerHas(name) ? MakeWhiteout(*directory, name) : OkResult();
}

Result<void> StackInode::Rename(std::string_view old_name, vfs::Inode& moved, vfs::Inode& new_directory,
                                std::string_view new_name, vfs::Inode* replaced, unsigned flags) {
  if (flags & RENAME_WHITEOUT) return Errno(EINVAL);
  auto& to = static_cast<StackInode&>(new_directory);
  auto& inode = static_cast<StackInode&>(moved);
  auto* other = static_cast<StackInode*>(replaced);
  const bool exchange = flags & RENAME_EXCHANGE;
  // Directories that lower layers take part in stay where they are (redirect_dir=off): programs copy then.
  if (inode.IsDirectory() && inode.HasLower()) return Errno(EXDEV);
  if (exchange && other->IsDirectory() && other->HasLower()) return Errno(EXDEV);
  if (other && !exchange && other->IsDirectory() && !other->ListEntries().empty()) return Errno(ENOTEMPTY);
  TRY(CopyUp());
  TRY(to.CopyUp());
  TRY(inode.CopyUp());
  if (exchange) TRY(other->CopyUp());
  RefPtr<vfs::Dentry> from_upper = UpperDirectory(), to_upper = to.UpperDirectory();
  const bool old_shows = LowerHas(old_name), new_shows = to.LowerHas(new_name);
  if (inode.IsDirectory() && new_shows) TRY(inode.SetOpaque());
  if (exchange && other->IsDirectory() && old_shows) TRY(other->SetOpaque());
  bool whiteout = false;
  if (!exchange) {
    if (other && other->IsDirectory() && other->IsCopiedUp()) TRY(other->ClearWhiteouts());
    // A whiteout is not a directory: it makes way for one.
    auto cleared = ClearName(*to_upper, new_name, &whiteout);
    if (!cleared.ok() && cleared.error() != Errno(EEXIST)) return cleared;
  }
  auto renamed = vfs::LayerRename(*from_upper, old_name, *to_upper, new_name, exchange ? RENAME_EXCHANGE : 0);
  if (!renamed.ok()) {
    if (whiteout) (void)MakeWhiteout(*to_upper, new_name).ok();
    return renamed;
  }
  if (exchange) return OkResult();
  if (other) MarkUnlinked(*other);
  return old_shows ? MakeWhiteout(*from_upper, old_name) : OkResult();
}

}  // namespace sentry::fs
