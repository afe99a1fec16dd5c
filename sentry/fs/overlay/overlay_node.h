// SPDX-License-Identifier: Apache-2.0
// Private to fs/overlay.
//
// OverlayNode: a file of a merged tree. It has a lower inode, an upper one, or both; what reads its attributes and data
// goes to the upper one if there is one, what changes them makes one first (CopyUp). Who derives from it says where
// upper inodes come from and how names are kept: OverlayInode (overlay_inode.h, the sandbox's own roots) keeps names in
// memory, StackInode (stack_inode.h, guests' mounts) in the upper layer's directories.
#ifndef SENTRY_FS_OVERLAY_OVERLAY_NODE_H_
#define SENTRY_FS_OVERLAY_OVERLAY_NODE_H_

#include <atomic>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "sentry/mm/mapped_object.h"
#include "sentry/vfs/file_description.h"
#include "sentry/vfs/inode.h"

namespace sentry::fs {

class OverlayNode;

// What an mmap of an overlay file maps: the lower file's object until the copy-up, the upper one's after.
class OverlayMapping final : public mm::MappedObject {
 public:
  OverlayMapping(vfs::Path path, RefPtr<OverlayNode> inode, RefPtr<mm::MappedObject> real);
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
  const RefPtr<OverlayNode> inode_;
  const RefPtr<mm::MappedObject> first_;
  mutable Mutex mu_{LockRank::kLeaf};
  RefPtr<mm::MappedObject> real_ ABSL_GUARDED_BY(mu_);
};

class OverlayNode : public vfs::Inode {
 public:
  // The inode that has the attributes and data now.
  RefPtr<vfs::Inode> Real() const;
  // Makes the upper inode: attributes, xattrs, and the first `data_limit` bytes. Idempotent.
  Result<RefPtr<vfs::Inode>> CopyUp(uint64_t data_limit = UINT64_MAX);
  bool IsCopiedUp() const { return copied_up_.load(std::memory_order_acquire); }
  uint64_t ino() const { return ino_; }
  // The flags for a layer's description under one of ours with `flags`.
  static int RealFlags(int flags);
  Result<RefPtr<mm::MappedObject>> NewMapping(const vfs::Path& path);
  void ForgetMapping(OverlayMapping& mapping);
  // After the pages [start, end) of the upper file were replaced or removed: its own reverse map knows none of our
  // mappings.
  void InvalidateMappings(uint64_t start, uint64_t end, bool private_copies);
  mm::ReverseMap& reverse_map() { return reverse_map_; }

  struct Entry {
    std::string name;
    uint64_t ino;
    uint8_t type;  // DT_*
  };
  // Of a directory: the merged names, "." and ".." not.
  virtual std::vector<Entry> ListEntries() = 0;

  Result<vfs::InodeStat> GetStat() override;
  Result<void> SetStat(const vfs::SetStatRequest& request) override;
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
  Result<std::string> ReadLink() override { return Real()->ReadLink(); }
  Result<vfs::FileRef> Open(const vfs::Path& path, int flags) override;
  Result<std::string> GetXattr(std::string_view name) override;
  Result<void> SetXattr(std::string_view name, std::string_view value, int flags) override;
  Result<std::vector<std::string>> ListXattr() override;
  Result<void> RemoveXattr(std::string_view name) override;

 protected:
  OverlayNode(RefPtr<vfs::Filesystem> filesystem, RefPtr<vfs::Inode> lower, RefPtr<vfs::Inode> upper, mode_t type,
              uint64_t ino, LockRank copy_rank);

  virtual Result<RefPtr<vfs::Inode>> Make(std::string_view name, mode_t type, dev_t rdev, std::string_view target,
                                          const vfs::CreateAttributes& a) = 0;
  // The steps of a copy-up. Without locks: what must be there before.
  virtual Result<void> PrepareCopyUp() { return OkResult(); }
  // With copy_mu_: the new upper inode, with owner and mode, empty.
  virtual Result<RefPtr<vfs::Inode>> NewUpper(const vfs::InodeStat& stat, std::string_view target) = 0;
  // With copy_mu_, when everything is in it: gives it its name. On an error before or here `AbandonUpper` follows.
  virtual Result<void> PublishUpper(const RefPtr<vfs::Inode>& upper) { return OkResult(); }
  virtual void AbandonUpper() {}
  // Without copy_mu_.
  virtual void OnCopiedUp() {}
  // Extended attributes that are the overlay's own marks on a layer: neither shown nor copied.
  virtual bool IsPrivateXattr(std::string_view name) const { return false; }

  const RefPtr<vfs::Inode>& lower() const { return lower_; }
  Mutex& copy_mu() ABSL_LOCK_RETURNED(copy_mu_) { return copy_mu_; }
  Mutex& state_mu() const ABSL_LOCK_RETURNED(mu_) { return mu_; }

 private:
  Result<vfs::FileRef> OpenRegular(const vfs::Path& path, int flags);
  static Result<RefPtr<mm::MappedObject>> RealMapping(vfs::Inode& real, const vfs::Path& path);
  // At the end of a copy-up.
  void MoveMappings(vfs::Inode& upper);
  Result<void> FillUpper(const vfs::InodeStat& stat, vfs::Inode& upper, uint64_t data_limit);

  const RefPtr<vfs::Inode> lower_;  // null for what was made above
  const uint64_t ino_;
  Mutex copy_mu_;
  mutable Mutex mu_{LockRank::kMappable};
  RefPtr<vfs::Inode> upper_ ABSL_GUARDED_BY(mu_);
  std::atomic<bool> copied_up_;
  mm::ReverseMap reverse_map_;
  std::set<OverlayMapping*> following_ ABSL_GUARDED_BY(mu_);  // mappings of the lower file, to be moved at the copy-up
};

}  // namespace sentry::fs

#endif  // SENTRY_FS_OVERLAY_OVERLAY_NODE_H_
