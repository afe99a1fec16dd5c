// SPDX-License-Identifier: Apache-2.0
// Private to fs/overlay.
//
// The overlay that guests mount (mount(2) "overlay"), with Linux's layout of the layers: whiteouts are character
// devices 0:0, a directory that hides those below has the attribute overlay.opaque, and what changes is found in
// upperdir afterwards. Nothing but caches is kept here, so that any of it may be forgotten and found again.
//
// A merged directory's upper dentry follows renames by itself; what has no upper inode yet is where it was found
// (`parent_`, `name_`), since only upper files are renamed.
#ifndef SENTRY_FS_OVERLAY_STACK_INODE_H_
#define SENTRY_FS_OVERLAY_STACK_INODE_H_

#include <map>
#include <string>
#include <unordered_map>
#include <vector>

#include "sentry/fs/overlay/overlay_node.h"
#include "sentry/vfs/path.h"

namespace sentry::fs {

class StackInode;

struct StackLayer {
  RefPtr<vfs::Mount> mount;  // private: keeps the layer's filesystem in use
  RefPtr<vfs::Dentry> root;
};

class StackFilesystem final : public vfs::Filesystem {
 public:
  // `upper` may be null (read-only). `options` is what /proc/mounts shows.
  StackFilesystem(StackLayer upper, std::vector<StackLayer> lowers, std::string options, std::string_view xattr_prefix,
                  int depth);
  std::string_view TypeName() const override { return "overlay"; }
  RefPtr<vfs::Inode> Root() override;
  vfs::StatFs GetStatFs() override;
  std::string MountOptions() const override { return options_; }
  Result<void> SyncFs() override;

  bool HasUpper() const { return static_cast<bool>(upper_.root); }
  // "trusted.overlay." or "user.overlay."
  const std::string& xattr_prefix() const { return xattr_prefix_; }
  LockRank copy_rank() const {
    return directory_rank() == LockRank::kStackedDirectory ? LockRank::kStackedCopy : LockRank::kStackedCopy2;
  }
  // The one inode of an upper file that is not a directory, if it is in use.
  RefPtr<StackInode> FindUpper(const vfs::Inode* upper);
  void AddUpper(const vfs::Inode* upper, StackInode* inode);
  void Forget(const vfs::Inode* upper, const StackInode* inode);
  // st_ino of a file that has the layer's number there. Numbers of different filesystems stay apart.
  uint64_t InodeNumber(const vfs::Inode& real);
  uint64_t InodeNumber(const vfs::Filesystem& filesystem, uint64_t ino);
  // A file that was copied up keeps its number; the last kOrigins are known.
  void RememberOrigin(const vfs::Inode& upper, uint64_t ino);

 private:
  static constexpr size_t kOrigins = 65536;
  const StackLayer upper_;
  const std::vector<StackLayer> lowers_;
  const std::string options_;
  const std::string xattr_prefix_;
  std::vector<const vfs::Filesystem*> filesystems_;  // of the layers, each once
  friend class StackInode;
  Mutex mu_{LockRank::kLeaf};
  StackInode* root_ ABSL_GUARDED_BY(mu_) = nullptr;
  std::unordered_map<const vfs::Inode*, StackInode*> by_upper_ ABSL_GUARDED_BY(mu_);
  std::map<std::pair<const vfs::Filesystem*, uint64_t>, uint64_t> origins_ ABSL_GUARDED_BY(mu_);
};

class StackInode final : public OverlayNode {
 public:
  // `upper` (a directory's dentry, or any file's) may be null; `lowers`: of a directory all that are merged, top first;
  // of another file the one that shows, when there is no upper one.
  StackInode(RefPtr<StackFilesystem> filesystem, RefPtr<StackInode> parent, std::string name, RefPtr<vfs::Dentry> upper,
             std::vector<RefPtr<vfs::Dentry>> lowers);
  // An upper file without a name (O_TMPFILE).
  StackInode(RefPtr<StackFilesystem> filesystem, RefPtr<vfs::Inode> upper);
  ~StackInode() override;

  StackFilesystem& fs() const { return static_cast<StackFilesystem&>(filesystem()); }
  std::vector<Entry> ListEntries() override;

  Result<vfs::InodeStat> GetStat() override;
  Result<RefPtr<vfs::Inode>> Lookup(std::string_view name) override;
  Result<void> Link(std::string_view name, vfs::Inode& target) override;
  Result<void> Unlink(std::string_view name, vfs::Inode& victim) override;
  Result<void> Rmdir(std::string_view name, vfs::Inode& victim) override;
  Result<void> Rename(std::string_view old_name, vfs::Inode& moved, vfs::Inode& new_directory,
                      std::string_view new_name, vfs::Inode* replaced, unsigned flags) override;
  Result<RefPtr<vfs::Inode>> CreateUnnamed(const vfs::CreateAttributes& a) override;

 private:
  Result<RefPtr<vfs::Inode>> Make(std::string_view name, mode_t type, dev_t rdev, std::string_view target,
                                  const vfs::CreateAttributes& a) override;
  Result<void> PrepareCopyUp() override;
  Result<RefPtr<vfs::Inode>> NewUpper(const vfs::InodeStat& stat, std::string_view target) override;
  Result<void> PublishUpper(const RefPtr<vfs::Inode>& upper) override;
  void AbandonUpper() override;
  void OnCopiedUp() override;
  bool IsPrivateXattr(std::string_view name) const override { return name.starts_with(fs().xattr_prefix()); }

  // Of a directory, after CopyUp().
  RefPtr<vfs::Dentry> UpperDirectory() const;
  // Whether a file of that name would show if the upper layer had none.
  bool LowerHas(std::string_view name) const;
  bool HasLower() const { return !lowers_.empty(); }
  // Makes it hide what the lower layers have in its place.
  Result<void> SetOpaque();
  // Takes the whiteouts out of the upper directory, so that it can be removed or replaced.
  Result<void> ClearWhiteouts();
  // Before another inode gets the name; makes `victim`, if it was only in lower layers, one without a name.
  static void MarkUnlinked(StackInode& victim);
  // What makes room for a new file: removes a whiteout. Sets *whiteout if there was one. EEXIST, ESTALE.
  static Result<void> ClearName(vfs::Dentry& upper_directory, std::string_view name, bool* whiteout);

  RefPtr<StackInode> parent_;  // changes in the destructor only
  const std::string name_;
  const std::vector<RefPtr<vfs::Dentry>> lowers_;
  mutable Mutex place_mu_{LockRank::kLeaf};
  RefPtr<vfs::Dentry> upper_dentry_ ABSL_GUARDED_BY(place_mu_);
  bool unlinked_ ABSL_GUARDED_BY(copy_mu()) = false;
  bool linked_at_once_ ABSL_GUARDED_BY(copy_mu()) = false;  // the copy in progress has its name already
  bool adopted_ ABSL_GUARDED_BY(copy_mu()) = false;         // it is a directory that somebody else made
};

// The marks of the layers.
inline constexpr dev_t kWhiteoutDevice = 0;
bool IsWhiteout(vfs::Inode& inode);
Result<void> MakeWhiteout(vfs::Dentry& upper_directory, std::string_view name);

}  // namespace sentry::fs

#endif  // SENTRY_FS_OVERLAY_STACK_INODE_H_
