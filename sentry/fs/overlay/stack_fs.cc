// SPDX-License-Identifier: Apache-2.0
// mount(2) of the type "overlay": its options and its layers.
#include <algorithm>
#include <optional>

#include "sentry/fs/overlay/overlay.h"
#include "sentry/fs/overlay/stack_inode.h"
#include "sentry/vfs/layers.h"
#include "sentry/vfs/vfs.h"

namespace sentry::fs {
namespace {

constexpr uint64_t kOverlayMagic = 0x794c7630;  // OVERLAYFS_SUPER_MAGIC
constexpr int kMaxStackDepth = 2;               // FILESYSTEM_MAX_STACK_DEPTH
constexpr size_t kMaxLowers = 500;              // OVL_MAX_STACK

struct Options {
  std::vector<std::string> lowers;
  std::optional<std::string> upper, work;
  bool user_xattr = false;
  std::string shown;
};

// Up to `separator`, which `\` takes the meaning of. Advances `rest` past it.
std::string TakePart(std::string_view* rest, char separator, bool keep_escapes) {
  std::string part;
  size_t at = 0;
  for (; at < rest->size() && (*rest)[at] != separator; ++at) {
    if ((*rest)[at] == '\\' && at + 1 < rest->size()) {
      if (keep_escapes) part += '\\';
      ++at;
    }
    part += (*rest)[at];
  }
  rest->remove_prefix(std::min(rest->size(), at + 1));
  return part;
}

std::string Unescaped(std::string_view text) { return TakePart(&text, '\0', false); }

// Options that say to do without what is not there, or that mean nothing here.
bool IsAccepted(std::string_view option) {
  constexpr std::string_view kAccepted[] = {"redirect_dir=off",
                                            "redirect_dir=follow",
                                            "redirect_dir=nofollow",
                                            "index=off",
                                            "nfs_export=off",
                                            "metacopy=off",
                                            "xino=off",
                                            "xino=auto",
                                            "xino=on",
                                            "uuid=on",
                                            "uuid=off",
                                            "volatile",
                                            "default_permissions"};
  return std::find(std::begin(kAccepted), std::end(kAccepted), option) != std::end(kAccepted);
}

Result<Options> Parse(std::string_view text) {
  Options options;
  auto show = [&](const std::string& option) { options.shown += (options.shown.empty() ? "" : ",") + option; };
  while (!text.empty()) {
    const std::string option = TakePart(&text, ',', true);
    if (option.empty()) continue;
    const size_t equals = option.find('=');
    const std::string key = option.substr(0, equals);
    std::string_view value = equals == option.npos ? std::string_view() : std::string_view(option).substr(equals + 1);
    if (key == "lowerdir") {
      options.lowers.clear();
      while (!value.empty()) options.lowers.push_back(TakePart(&value, ':', false));
    } else if (key == "upperdir") {
      options.upper = Unescaped(value);
    } else if (key == "workdir") {
      options.work = Unescaped(value);
    } else if (option == "userxattr") {
      options.user_xattr = true;
    } else if (!IsAccepted(option)) {
      return Errno(EINVAL);
    }
    show(option);
  }
  if (options.lowers.empty() || options.lowers.size() > kMaxLowers) return Errno(EINVAL);
  if (std::find(options.lowers.begin(), options.lowers.end(), "") != options.lowers.end()) return Errno(EINVAL);
  if (options.upper && !options.work) return Errno(EINVAL);
  // A work directory without an upper one is of no use; so are less than two layers.
  if (!options.upper && options.lowers.size() < 2) return Errno(EINVAL);
  return options;
}

Result<vfs::Path> FindDirectory(const vfs::WalkContext& walk, const std::string& name) {
  vfs::Path path = TRY(vfs::Resolve(walk, name, vfs::kFollowFinal));
  if (!path.inode()->IsDirectory()) return Errno(ENOTDIR);
  // What comes and goes by itself makes no layer.
  if (!path.inode()->MayCacheNames()) return Errno(EINVAL);
  return path;
}

StackLayer LayerAt(const vfs::Path& path) {
  const vfs::Mount& mount = *path.mount;
  return {MakeRef<vfs::Mount>(mount.filesystem(), path.dentry, mount.flags(), mount.source()), path.dentry};
}

// A fresh directory "work" in the work directory, as Linux has it: it shows that the filesystem can be written.
Result<void> PrepareWork(vfs::Dentry& work) {
  RefPtr<vfs::Dentry> old = TRY(vfs::LayerLookup(work, "work"));
  if (old->inode()) TRY(vfs::LayerRemove(work, "work"));
  TRY(vfs::LayerCreate(work, "work", {.type = S_IFDIR}));
  return OkResult();
}

Result<void> CheckUpper(const vfs::Path& upper, const vfs::Path& work) {
  if (upper.mount->IsReadOnly() || !(upper.mount == work.mount)) return Errno(EINVAL);
  if (vfs::LayerIsAncestor(*upper.dentry, *work.dentry) || vfs::LayerIsAncestor(*work.dentry, *upper.dentry))
    return Errno(EINVAL);
  // "filesystem not supported as upperdir"
  if (upper.inode()->filesystem().stack_depth() > 0) return Errno(EINVAL);
  return PrepareWork(*work.dentry);
}

}  // namespace

bool IsWhiteout(vfs::Inode& inode) {
  if (inode.type() != S_IFCHR) return false;
  auto stat = inode.GetStat();
  return stat.ok() && stat->rdev == kWhiteoutDevice;
}

Result<void> MakeWhiteout(vfs::Dentry& upper_directory, std::string_view name) {
  TRY(vfs::LayerCreate(upper_directory, name, {.type = S_IFCHR, .device = kWhiteoutDevice}));
  return OkResult();
}

StackFilesystem::StackFilesystem(StackLayer upper, std::vector<StackLayer> lowers, std::string options,
                                 std::string_view xattr_prefix, int depth)
    : upper_(std::move(upper)), lowers_(std::move(lowers)), options_(std::move(options)), xattr_prefix_(xattr_prefix) {
  LockRank rank = LockRank::kStackedDirectory;
  auto add = [&](const StackLayer& layer) {
    const vfs::Filesystem* filesystem = layer.mount->filesystem().get();
    if (filesystem->directory_rank() <= LockRank::kStackedDirectory) rank = LockRank::kStackedDirectory2;
    if (std::find(filesystems_.begin(), filesystems_.end(), filesystem) == filesystems_.end())
      filesystems_.push_back(filesystem);
  };
  if (HasUpper()) add(upper_);
  for (const StackLayer& layer : lowers_) add(layer);
  SetStacking(depth, rank);
  if (!HasUpper()) set_read_only(true);
}

RefPtr<vfs::Inode> StackFilesystem::Root() {
  RefPtr<StackInode> fresh;
  for (;;) {
    {
      MutexLock lock(mu_);
      if (root_ && root_->TryIncRef()) return RefPtr<StackInode>::Adopt(root_);
      if (fresh) {
        root_ = fresh.get();
        return fresh;
      }
    }
    std::vector<RefPtr<vfs::Dentry>> lowers;
    for (const StackLayer& layer : lowers_) lowers.push_back(layer.root);
    fresh = MakeRef<StackInode>(RefPtr<StackFilesystem>(this), nullptr, "", upper_.root, std::move(lowers));
  }
}

vfs::StatFs StackFilesystem::GetStatFs() {
  vfs::StatFs out = (HasUpper() ? upper_ : lowers_.front()).mount->filesystem()->GetStatFs();
  out.magic = kOverlayMagic;
  return out;
}

Result<void> StackFilesystem::SyncFs() { return HasUpper() ? upper_.mount->filesystem()->SyncFs() : OkResult(); }

RefPtr<StackInode> StackFilesystem::FindUpper(const vfs::Inode* upper) {
  MutexLock lock(mu_);
  auto it = by_upper_.find(upper);
  if (it == by_upper_.end() || !it->second->TryIncRef()) return nullptr;
  return RefPtr<StackInode>::Adopt(it->second);
}

void StackFilesystem::AddUpper(const vfs::Inode* upper, StackInode* inode) {
  MutexLock lock(mu_);
  by_upper_[upper] = inode;
}

void StackFilesystem::Forget(const vfs::Inode* upper, const StackInode* inode) {
  MutexLock lock(mu_);
  if (root_ == inode) root_ = nullptr;
  auto it = by_upper_.find(upper);
  if (it != by_upper_.end() && it->second == inode) by_upper_.erase(it);
}

uint64_t StackFilesystem::InodeNumber(const vfs::Filesystem& filesystem, uint64_t ino) {
  {
    MutexLock lock(mu_);
    auto it = origins_.find({&filesystem, ino});
    if (it != origins_.end()) return it->second;
  }
  const auto it = std::find(filesystems_.begin(), filesystems_.end(), &filesystem);
  return ino ^ (static_cast<uint64_t>(it - filesystems_.begin()) << 52);
}

uint64_t StackFilesystem::InodeNumber(const vfs::Inode& real) {
  auto stat = const_cast<vfs::Inode&>(real).GetStat();
  return InodeNumber(real.filesystem(), stat.ok() ? stat->ino : 0);
}

void StackFilesystem::RememberOrigin(const vfs::Inode& upper, uint64_t ino) {
  auto stat = const_cast<vfs::Inode&>(upper).GetStat();
  if (!stat.ok()) return;
  MutexLock lock(mu_);
  if (origins_.size() >= kOrigins) origins_.erase(origins_.begin());
  origins_[{&upper.filesystem(), stat->ino}] = ino;
}

Result<RefPtr<vfs::Filesystem>> NewGuestOverlay(const vfs::MountSource& source) {
  if (!source.walk) return Errno(EINVAL);
  Options options = TRY(Parse(source.options));
  StackLayer upper;
  int depth = 0;
  if (options.upper) {
    vfs::Path upper_path = TRY(FindDirectory(*source.walk, *options.upper));
    vfs::Path work_path = TRY(FindDirectory(*source.walk, *options.work));
    TRY(CheckUpper(upper_path, work_path));
    upper = LayerAt(upper_path);
  }
  std::vector<StackLayer> lowers;
  for (const std::string& name : options.lowers) {
    vfs::Path path = TRY(FindDirectory(*source.walk, name));
    depth = std::max(depth, path.inode()->filesystem().stack_depth());
    if (upper.root && upper.root == path.dentry) return Errno(ELOOP);
    lowers.push_back(LayerAt(path));
  }
  if (++depth > kMaxStackDepth) return Errno(EINVAL);
  // trusted.* is for who has CAP_SYS_ADMIN over the sandbox (overlayfs of Linux 5.11: the option userxattr).
  return RefPtr<vfs::Filesystem>(MakeRef<StackFilesystem>(std::move(upper), std::move(lowers), options.shown,
                                                          options.user_xattr ? "user.overlay." : "trusted.overlay.",
                                                          depth));
}

}  // namespace sentry::fs
