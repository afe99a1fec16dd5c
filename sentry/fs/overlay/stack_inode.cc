// SPDX-License-Identifier: Apache-2.0
// Finding files in the layers, and copying them up.
#include "sentry/fs/overlay/stack_inode.h"

#include <dirent.h>
#include <fcntl.h>

#include <set>

#include "sentry/vfs/layers.h"

namespace sentry::fs {
namespace {

RefPtr<vfs::Inode> InodeOf(const RefPtr<vfs::Dentry>& dentry) {
  return dentry ? dentry->inode() : RefPtr<vfs::Inode>();
}

RefPtr<vfs::Inode> FirstOf(const std::vector<RefPtr<vfs::Dentry>>& dentries) {
  return dentries.empty() ? nullptr : dentries.front()->inode();
}

bool IsOpaque(vfs::Inode& directory, const std::string& prefix) {
  auto value = directory.GetXattr(prefix + "opaque");
  return value.ok() && *value == "y";
}

// The names of one layer's directory, not merged.
template <typename Visit>
void ListLayer(vfs::Inode& self, vfs::Inode& directory, Visit visit) {
  vfs::Path path{nullptr, vfs::Dentry::NewRoot(RefPtr<vfs::Inode>(&self), "list")};
  auto opened = directory.Open(path, OverlayNode::RealFlags(O_RDONLY | O_NOATIME) | O_DIRECTORY);
  if (!opened.ok()) return;
  (void)(*opened)
      ->IterateDirectory([&](const vfs::DirEntry& entry) {
        if (entry.name != "." && entry.name != "..") visit(entry);
        return true;
      })
      .ok();
}

}  // namespace

StackInode::StackInode(RefPtr<StackFilesystem> filesystem, RefPtr<StackInode> parent, std::string name,
                       RefPtr<vfs::Dentry> upper, std::vector<RefPtr<vfs::Dentry>> lowers)
    : OverlayNode(
          filesystem, FirstOf(lowers), InodeOf(upper), (upper ? upper->inode() : lowers.front()->inode())->type(),
          filesystem->InodeNumber(*(lowers.empty() ? upper : lowers.front())->inode()), filesystem->copy_rank()),
      parent_(std::move(parent)),
      name_(std::move(name)),
      lowers_(std::move(lowers)),
      upper_dentry_(std::move(upper)) {}

StackInode::StackInode(RefPtr<StackFilesystem> filesystem, RefPtr<vfs::Inode> upper)
    : OverlayNode(filesystem, nullptr, upper, upper->type(), filesystem->InodeNumber(*upper), filesystem->copy_rank()) {
}

StackInode::~StackInode() {
  fs().Forget(IsCopiedUp() ? Real().get() : nullptr, this);
  // A chain of directories that only their children hold may be as deep as the guest likes.
  RefPtr<StackInode> up = std::move(parent_);
  while (up && up->HasOneRef()) up = RefPtr<StackInode>(std::move(up->parent_));
}

Result<vfs::InodeStat> StackInode::GetStat() {
  vfs::InodeStat stat = TRY(OverlayNode::GetStat());
  // The links of a merged directory are not counted.
  if (IsDirectory() && HasLower()) stat.nlink = 1;
  return stat;
}

RefPtr<vfs::Dentry> StackInode::UpperDirectory() const {
  MutexLock lock(place_mu_);
  return upper_dentry_;
}

Result<RefPtr<vfs::Inode>> StackInode::Lookup(std::string_view name) {
  const std::string& prefix = fs().xattr_prefix();
  RefPtr<vfs::Dentry> upper;
  std::vector<RefPtr<vfs::Dentry>> lowers;
  bool go_on = true;
  if (RefPtr<vfs::Dentry> directory = UpperDirectory()) {
    RefPtr<vfs::Dentry> found = TRY(vfs::LayerLookup(*directory, name));
    if (found->inode()) {
      if (IsWhiteout(*found->inode())) return Errno(ENOENT);
      go_on = found->inode()->IsDirectory() && !IsOpaque(*found->inode(), prefix);
      upper = std::move(found);
    }
  }
  for (size_t i = 0; go_on && i < lowers_.size(); ++i) {
    RefPtr<vfs::Dentry> found = TRY(vfs::LayerLookup(*lowers_[i], name));
    if (!found->inode()) continue;
    if (IsWhiteout(*found->inode())) break;
    const bool first = !upper && lowers.empty(), is_directory = found->inode()->IsDirectory();
    // What is not a directory shows only if nothing is above it, and hides all below.
    if (!is_directory && !first) break;
    go_on = is_directory && !IsOpaque(*found->inode(), prefix);
    lowers.push_back(std::move(found));
  }
  if (!upper && lowers.empty()) return Errno(ENOENT);
  const bool shared = upper && !upper->inode()->IsDirectory();
  if (shared) {
    // Another name of a file that is in use.
    if (RefPtr<StackInode> known = fs().FindUpper(upper->inode().get())) return RefPtr<vfs::Inode>(known);
  }
  auto inode = MakeRef<StackInode>(RefPtr<StackFilesystem>(&fs()), RefPtr<StackInode>(this), std::string(name), upper,
                                   std::move(lowers));
  if (shared) fs().AddUpper(upper->inode().get(), inode.get());
  return RefPtr<vfs::Inode>(inode);
}

bool StackInode::LowerHas(std::string_view name) const {
  for (const RefPtr<vfs::Dentry>& lower : lowers_) {
    auto found = vfs::LayerLookup(*lower, name);
    if (found.ok() && (*found)->inode()) return !IsWhiteout(*(*found)->inode());
  }
  return false;
}

std::vector<OverlayNode::Entry> StackInode::ListEntries() {
  std::vector<Entry> out;
  std::set<std::string, std::less<>> seen;
  auto take = [&](vfs::Dentry& directory) {
    std::vector<Entry> raw;
    ListLayer(*this, *directory.inode(), [&](const vfs::DirEntry& entry) {
      if (!seen.contains(entry.name)) raw.push_back({std::string(entry.name), entry.ino, entry.type});
    });
    for (Entry& entry : raw) {
      seen.insert(entry.name);
      if (entry.type == DT_CHR) {
        auto found = vfs::LayerLookup(directory, entry.name);
        if (!found.ok() || !(*found)->inode() || IsWhiteout(*(*found)->inode())) continue;
      }
      entry.ino = fs().InodeNumber(directory.inode()->filesystem(), entry.ino);
      out.push_back(std::move(entry));
    }
  };
  if (RefPtr<vfs::Dentry> upper = UpperDirectory()) take(*upper);
  for (const RefPtr<vfs::Dentry>& lower : lowers_) take(*lower);
  return out;
}

Result<void> StackInode::PrepareCopyUp() {
  if (!fs().HasUpper()) return Errno(EROFS);
  // From the top down, so that none finds its parent without an upper directory.
  std::vector<StackInode*> above;
  for (StackInode* up = parent_.get(); up && !up->IsCopiedUp(); up = up->parent_.get()) above.push_back(up);
  for (auto it = above.rbegin(); it != above.rend(); ++it) TRY((*it)->CopyUp());
  return OkResult();
}

Result<RefPtr<vfs::Inode>> StackInode::NewUpper(const vfs::InodeStat& stat,
                                                std::string_view target) ABSL_NO_THREAD_SAFETY_ANALYSIS {
  linked_at_once_ = adopted_ = false;
  RefPtr<vfs::Dentry> directory = unlinked_ ? fs().upper_.root : parent_ ? parent_->UpperDirectory() : nullptr;
  if (!directory) return Errno(ESTALE);
  const vfs::CreateAttributes attributes = {.mode = stat.mode & 07777, .uid = stat.uid, .gid = stat.gid};
  if (IsRegular()) {
    auto made = vfs::LayerCreateUnnamed(*directory, attributes);
    // A filesystem without O_TMPFILE: the copy has its name from the beginning.
    if (made.ok() || unlinked_ || (made.error() != Errno(EOPNOTSUPP) && made.error() != Errno(EPERM))) return made;
  }
  if (unlinked_) return Errno(ENOENT);
  auto made = vfs::LayerCreate(*directory, name_,
                               {.type = type(), .device = stat.rdev, .target = target, .attributes = attributes});
  if (made.error_number() == EEXIST && IsDirectory()) {
    // A second inode of the same directory was quicker.
    made = vfs::LayerLookup(*directory, name_);
    if (made.ok() && (!(*made)->inode() || !(*made)->inode()->IsDirectory())) return Errno(ESTALE);
    adopted_ = made.ok();
  }
  RefPtr<vfs::Dentry> dentry = TRY(made);
  linked_at_once_ = true;
  MutexLock lock(place_mu_);
  upper_dentry_ = dentry;
  return dentry->inode();
}

Result<void> StackInode::PublishUpper(const RefPtr<vfs::Inode>& upper) ABSL_NO_THREAD_SAFETY_ANALYSIS {
  if (linked_at_once_ || unlinked_) return OkResult();
  RefPtr<vfs::Dentry> directory = parent_->UpperDirectory();
  if (!directory) return Errno(ESTALE);
  RefPtr<vfs::Dentry> dentry = TRY(vfs::LayerLink(*directory, name_, *upper));
  MutexLock lock(place_mu_);
  upper_dentry_ = std::move(dentry);
  return OkResult();
}

void StackInode::AbandonUpper() ABSL_NO_THREAD_SAFETY_ANALYSIS {
  RefPtr<vfs::Dentry> dropped;
  {
    MutexLock lock(place_mu_);
    dropped = std::move(upper_dentry_);
  }
  RefPtr<vfs::Dentry> directory = parent_ ? parent_->UpperDirectory() : nullptr;
  if (linked_at_once_ && !adopted_ && directory) (void)vfs::LayerRemove(*directory, name_).ok();
}

void StackInode::OnCopiedUp() {
  RefPtr<vfs::Inode> upper = Real();
  fs().RememberOrigin(*upper, ino());
  if (!IsDirectory()) fs().AddUpper(upper.get(), this);
}

}  // namespace sentry::fs
