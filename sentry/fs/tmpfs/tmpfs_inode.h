// SPDX-License-Identifier: Apache-2.0
// TmpfsInode: attributes and extended attributes, common to all kinds of file; symlinks and special files.
#ifndef SENTRY_FS_TMPFS_TMPFS_INODE_H_
#define SENTRY_FS_TMPFS_TMPFS_INODE_H_

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "sentry/fs/tmpfs/tmpfs.h"
#include "sentry/vfs/inode.h"

namespace sentry::tmpfs {

// An inode's mutex, which nests inside the filesystem's tree mutex (both rank kInode).
class ABSL_SCOPED_LOCKABLE InodeLock {
 public:
  explicit InodeLock(Mutex& mutex) ABSL_EXCLUSIVE_LOCK_FUNCTION(mutex) : mutex_(mutex) { mutex_.LockNested(); }
  ~InodeLock() ABSL_UNLOCK_FUNCTION() { mutex_.Unlock(); }
  InodeLock(const InodeLock&) = delete;
  InodeLock& operator=(const InodeLock&) = delete;

 private:
  Mutex& mutex_;
};

class TmpfsInode : public vfs::Inode {
 public:
  // The caller has charged the inode (Tmpfs::ChargeInode); the destructor releases it.
  TmpfsInode(Tmpfs& filesystem, mode_t type, const vfs::CreateAttributes& attributes);
  ~TmpfsInode() override;

  Result<vfs::InodeStat> GetStat() override;
  Result<void> SetStat(const vfs::SetStatRequest& request) override;
  Result<void> CheckPermission(const Credentials& creds, int mask) override;

  Result<std::string> GetXattr(std::string_view name) override;
  Result<void> SetXattr(std::string_view name, std::string_view value, int flags) override;
  Result<std::vector<std::string>> ListXattr() override;
  Result<void> RemoveXattr(std::string_view name) override;

  Tmpfs& tmpfs() const { return static_cast<Tmpfs&>(filesystem()); }
  uint64_t ino() const { return ino_; }
  uint32_t nlink() const;
  // Adds to the link count and touches ctime.
  void AddLinks(int change);
  void TouchCtime();
  void TouchAtime(const vfs::Path& path, int flags);

 protected:
  // Size, blocks and device. With mu_.
  virtual void FillStatLocked(vfs::InodeStat* stat) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {}
  // Truncation; called without locks. EINVAL unless regular.
  virtual Result<void> Resize(uint64_t size) { return Errno(EINVAL); }
  void TouchLocked(bool modified) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  vfs::InodeStat StatLocked() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  mutable Mutex mu_{LockRank::kInode};
  mode_t mode_ ABSL_GUARDED_BY(mu_);  // permission bits

 private:
  const uint64_t ino_;
  uid_t uid_ ABSL_GUARDED_BY(mu_);
  gid_t gid_ ABSL_GUARDED_BY(mu_);
  uint32_t nlink_ ABSL_GUARDED_BY(mu_) = 1;
  vfs::Timestamp atime_ ABSL_GUARDED_BY(mu_), mtime_ ABSL_GUARDED_BY(mu_), ctime_ ABSL_GUARDED_BY(mu_), btime_;
  using Xattrs = std::map<std::string, std::string, std::less<>>;
  std::unique_ptr<Xattrs> xattrs_ ABSL_GUARDED_BY(mu_);
  uint64_t xattr_bytes_ ABSL_GUARDED_BY(mu_) = 0;
};

class TmpfsSymlink final : public TmpfsInode {
 public:
  TmpfsSymlink(Tmpfs& filesystem, const vfs::CreateAttributes& attributes, std::string target)
      : TmpfsInode(filesystem, S_IFLNK, attributes), target_(std::move(target)) {}
  Result<std::string> ReadLink() override { return target_; }

 private:
  void FillStatLocked(vfs::InodeStat* stat) const override { stat->size = target_.size(); }
  const std::string target_;
};

// FIFO, socket, device: the vfs opens them.
class TmpfsSpecial final : public TmpfsInode {
 public:
  TmpfsSpecial(Tmpfs& filesystem, mode_t type, dev_t rdev, const vfs::CreateAttributes& attributes)
      : TmpfsInode(filesystem, type, attributes), rdev_(rdev) {}

 private:
  void FillStatLocked(vfs::InodeStat* stat) const override { stat->rdev = rdev_; }
  const dev_t rdev_;
};

}  // namespace sentry::tmpfs

#endif  // SENTRY_FS_TMPFS_TMPFS_INODE_H_
