// SPDX-License-Identifier: Apache-2.0
// Private to fs/overlay.
//
// The overlay of the sandbox's own roots. The upper inodes are unlinked files of one tmpfs: the overlay keeps names
// itself, in the directories' `children_` (name → inode, or a whiteout), so nothing but memory is needed and renames of
// lower directories just work. A lower file keeps one OverlayInode whatever name finds it; once it differs from its
// lower file it is pinned, so the change can't be lost.
#ifndef SENTRY_FS_OVERLAY_OVERLAY_INODE_H_
#define SENTRY_FS_OVERLAY_OVERLAY_INODE_H_

#include <map>
#include <set>
#include <string>
#include <unordered_map>

#include "sentry/fs/overlay/overlay.h"
#include "sentry/fs/overlay/overlay_node.h"

namespace sentry::fs {

class OverlayInode;

class OverlayFilesystem final : public vfs::Filesystem {
 public:
  OverlayFilesystem(RefPtr<vfs::Filesystem> lower, RefPtr<vfs::Filesystem> upper)
      : lower_(std::move(lower)), upper_(std::move(upper)), work_(upper_->Root()) {
    SetStacking(1, LockRank::kDirectory);
  }
  ~OverlayFilesystem() override;
  std::string_view TypeName() const override { return "overlay"; }
  RefPtr<vfs::Inode> Root() override;
  vfs::StatFs GetStatFs() override;
  Result<void> SyncFs() override { return OkResult(); }
  // Lets go of what changed, then of the layers.
  void OnLastUnmount() override;

  RefPtr<OverlayInode> ForLower(const RefPtr<vfs::Inode>& lower);
  // A fresh, unlinked inode of the upper tmpfs.
  Result<RefPtr<vfs::Inode>> NewUpper(mode_t type, dev_t rdev, std::string_view target, const vfs::CreateAttributes& a);
  void Forget(const vfs::Inode* lower, const OverlayInode* inode);
  void Pin(OverlayInode& inode);
  void Unpin(OverlayInode& inode);
  // What was copied up and has a name yet.
  std::vector<RefPtr<OverlayInode>> Pinned();

 private:
  RefPtr<vfs::Filesystem> lower_, upper_;
  RefPtr<vfs::Inode> work_;
  Mutex work_mu_{LockRank::kOverlayWork};
  uint64_t next_work_ ABSL_GUARDED_BY(work_mu_) = 0;
  Mutex mu_{LockRank::kLeaf};
  std::unordered_map<const vfs::Inode*, OverlayInode*> by_lower_ ABSL_GUARDED_BY(mu_);
  std::set<RefPtr<OverlayInode>> pinned_ ABSL_GUARDED_BY(mu_);
};

class OverlayInode final : public OverlayNode {
 public:
  OverlayInode(RefPtr<OverlayFilesystem> filesystem, RefPtr<vfs::Inode> lower, RefPtr<vfs::Inode> upper, mode_t type);
  ~OverlayInode() override;

  OverlayFilesystem& fs() const { return static_cast<OverlayFilesystem&>(filesystem()); }
  // Takes out the names, for a teardown that doesn't recurse into the tree.
  std::map<std::string, RefPtr<OverlayInode>, std::less<>> TakeChildren();
  std::vector<Entry> ListEntries() override;
  // Of a directory: the names whose meaning is not the lower directory's. A null inode is a whiteout.
  std::map<std::string, RefPtr<OverlayInode>, std::less<>> Changes();
  using OverlayNode::lower;
  // What the lower directory has under a name; null: nothing.
  RefPtr<vfs::Inode> LowerEntry(std::string_view name);

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
  Result<RefPtr<vfs::Inode>> NewUpper(const vfs::InodeStat& stat, std::string_view target) override;
  void OnCopiedUp() override;
  // Puts an inode (or, with null, the absence of one) under a name.
  void SetEntry(std::string_view name, RefPtr<OverlayInode> inode);
  void AddLinks(int delta);
  // The directory's times changed. Copies it up.
  Result<void> Touch();

  Mutex names_mu_{LockRank::kMappable};
  int links_ ABSL_GUARDED_BY(names_mu_);
  // Directories: what differs from the lower one. A null inode is a whiteout.
  std::map<std::string, RefPtr<OverlayInode>, std::less<>> children_ ABSL_GUARDED_BY(names_mu_);
};

}  // namespace sentry::fs

#endif  // SENTRY_FS_OVERLAY_OVERLAY_INODE_H_
