// SPDX-License-Identifier: Apache-2.0
// Private to fs/overlay.
//
// An OverlayInode stands for a file of the merged tree. It starts with a lower inode, an upper one, or both (a
// directory that changed). The upper inodes are unlinked files of one tmpfs: the overlay keeps names itself, in the
// directories' `children_` (name → inode, or a whiteout), so nothing but memory is needed and renames of lower
// directories just work. A lower file keeps one OverlayInode whatever name finds it; once it differs from its lower
// file it is pinned, so the change can't be lost.
#ifndef SENTRY_FS_OVERLAY_OVERLAY_INODE_H_
#define SENTRY_FS_OVERLAY_OVERLAY_INODE_H_

#include <atomic>
#include <map>
#include <set>
#include <string>
#include <unordered_map>

#include "sentry/fs/overlay/overlay.h"
#include "sentry/mm/mapped_object.h"
#include "sentry/vfs/file_description.h"
#include "sentry/vfs/inode.h"

namespace sentry::fs {

class OverlayInode;

class OverlayFilesystem final : public vfs::Filesystem {
 public:
  OverlayFilesystem(RefPtr<vfs::Filesystem> lower, RefPtr<vfs::Filesystem> upper)
      : lower_(std::move(lower)), upper_(std::move(upper)), work_(upper_->Root()) {}
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

 private:
  RefPtr<vfs::Filesystem> lower_, upper_;
  RefPtr<vfs::Inode> work_;
  Mutex work_mu_{LockRank::kOverlayWork};
  uint64_t next_work_ ABSL_GUARDED_BY(work_mu_) = 0;
  Mutex mu_{LockRank::kLeaf};
  std::unordered_map<const vfs::Inode*, OverlayInode*> by_lower_ ABSL_GUARDED_BY(mu_);
  std::set<RefPtr<OverlayInode>> pinned_ ABSL_GUARDED_BY(mu_);
};

// What an mmap of an overlay file maps: the lower file's object until the copy-up, the upper one's after.
class OverlayMapping final : public mm::MappedObject {
 public:
  OverlayMapping(vfs::Path path, RefPtr<OverlayInode> inode, RefPtr<mm::MappedObject> real);
  ~OverlayMapping() override;
  void Follow(RefPtr<mm::MappedObject> upper);

  Result<mm::Backing> GetBacking(uint64_t offset, uint64_t length, bool write) override {
    return Real()->GetBacking(offset, length, write);
  }
  std::string Name() const override;
  dev_t Device() const override;
  uint64_t InodeNumber() const override;
  Result<void> Sync(uint64_t offset, uint64_t length) override { return Real()->Sync(offset, length); }
  Result<void> PunchHole(uint64_t offset, uint64_t length) override;
  const void* Identity() const override;
  mm::ReverseMap& reverse_map() override;

 private:
  RefPtr<mm::MappedObject> Real() const;

  const vfs::Path path_;
  const RefPtr<OverlayInode> inode_;
  const RefPtr<mm::MappedObject> first_;
  mutable Mutex mu_{LockRank::kLeaf};
  RefPtr<mm::MappedObject> real_ ABSL_GUARDED_BY(mu_);
};

class OverlayInode final : public vfs::Inode {
 public:
  OverlayInode(RefPtr<OverlayFilesystem> filesystem, RefPtr<vfs::Inode> lower, RefPtr<vfs::Inode> upper, mode_t type);
  ~OverlayInode() override;

  OverlayFilesystem& fs() const { return static_cast<OverlayFilesystem&>(filesystem()); }
  // The inode that has the attributes and data now.
  RefPtr<vfs::Inode> Real() const;
  // Makes the upper inode: attributes, xattrs, and the first `data_limit` bytes. Idempotent.
  Result<RefPtr<vfs::Inode>> CopyUp(uint64_t data_limit = UINT64_MAX);
  bool IsCopiedUp() const { return copied_up_.load(std::memory_order_acquire); }
  // Takes out the names, for a teardown that doesn't recurse into the tree.
  std::map<std::string, RefPtr<OverlayInode>, std::less<>> TakeChildren();
  uint64_t ino() const { return ino_; }
  // The flags for a layer's description under one of ours with `flags`.
  static int RealFlags(int flags);
  Result<RefPtr<mm::MappedObject>> NewMapping(const vfs::Path& path);
  void ForgetMapping(OverlayMapping& mapping);
  // After the pages [start, end) of the upper file were replaced or removed: its own reverse map knows none of our
  // mappings.
  void InvalidateMappings(uint64_t start, uint64_t end, bool private_copies);
  mm::ReverseMap& reverse_map() { return reverse_map_; }
  std::vector<std::tuple<std::string, uint64_t, uint8_t>> ListEntries();

  Result<vfs::InodeStat> GetStat() override;
  Result<void> SetStat(const vfs::SetStatRequest& request) override;
  Result<RefPtr<vfs::Inode>> Lookup(std::string_view name) override;
  Result<RefPtr<vfs::Inode>> Create(std::string_view name, const vfs::CreateAttributes& a) override {
    return Make(name, S_IFREG, 0, "", a);
  }
  Result<RefPtr<vfs::Inode>> Mkdir(std::string_view name, const vfs::CreateAttributes& a) override {
    return Make(name, S_IFDIR, 0, "", a);
  }
  Result<RefPtr<vfs::Inode>> Mknod(std::string_view name, mode_t type, dev_t rdev,
                                   const vfs::CreateAttributes& a) override {
    return Make(name, type, rdev, "", a);
  }
  Result<RefPtr<vfs::Inode>> Symlink(std::string_view name, std::string_view target,
                                     const vfs::CreateAttributes& a) override {
    return Make(name, S_IFLNK, 0, target, a);
  }
  Result<void> Link(std::string_view name, vfs::Inode& target) override;
  Result<void> Unlink(std::string_view name, vfs::Inode& victim) override;
  Result<void> Rmdir(std::string_view name, vfs::Inode& victim) override;
  Result<void> Rename(std::string_view old_name, vfs::Inode& moved, vfs::Inode& new_directory,
                      std::string_view new_name, vfs::Inode* replaced, unsigned flags) override;
  Result<RefPtr<vfs::Inode>> CreateUnnamed(const vfs::CreateAttributes& a) override;
  Result<std::string> ReadLink() override { return Real()->ReadLink(); }
  Result<RefPtr<vfs::FileDescription>> Open(const vfs::Path& path, int flags) override;
  Result<std::string> GetXattr(std::string_view name) override { return Real()->GetXattr(name); }
  Result<void> SetXattr(std::string_view name, std::string_view value, int flags) override;
  Result<std::vector<std::string>> ListXattr() override { return Real()->ListXattr(); }
  Result<void> RemoveXattr(std::string_view name) override;

 private:
  Result<RefPtr<vfs::FileDescription>> OpenRegular(const vfs::Path& path, int flags);
  static Result<RefPtr<mm::MappedObject>> RealMapping(vfs::Inode& real, const vfs::Path& path);
  // At the end of a copy-up.
  void MoveMappings(vfs::Inode& upper);
  Result<RefPtr<vfs::Inode>> Make(std::string_view name, mode_t type, dev_t rdev, std::string_view target,
                                  const vfs::CreateAttributes& a);
  bool LowerHas(std::string_view name);
  // Puts an inode (or, with null, the absence of one) under a name.
  void SetEntry(std::string_view name, RefPtr<OverlayInode> inode);
  void AddLinks(int delta);
  // The directory's times changed. Copies it up.
  Result<void> Touch();

  const RefPtr<vfs::Inode> lower_;  // null for what was made here
  const uint64_t ino_;
  Mutex copy_mu_{LockRank::kOverlayCopy};
  mutable Mutex mu_{LockRank::kMappable};
  RefPtr<vfs::Inode> upper_ ABSL_GUARDED_BY(mu_);
  std::atomic<bool> copied_up_;
  mm::ReverseMap reverse_map_;
  std::set<OverlayMapping*> following_ ABSL_GUARDED_BY(mu_);  // mappings of the lower file, to be moved at the copy-up
  int links_ ABSL_GUARDED_BY(mu_);
  // Directories: what differs from the lower one. A null inode is a whiteout.
  std::map<std::string, RefPtr<OverlayInode>, std::less<>> children_ ABSL_GUARDED_BY(mu_);
};

}  // namespace sentry::fs

#endif  // SENTRY_FS_OVERLAY_OVERLAY_INODE_H_
