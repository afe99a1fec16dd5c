// SPDX-License-Identifier: Apache-2.0
#include "sentry/fs/tmpfs/tmpfs_inode.h"

#include <sys/xattr.h>

#include "sentry/vfs/permission.h"

namespace sentry::tmpfs {
namespace {
// Extended attributes of one inode; charged to the mount's size by whole pages.
constexpr uint64_t kMaxXattrBytes = 1 << 20;
uint64_t XattrPages(uint64_t bytes) { return (bytes + kPageSize - 1) / kPageSize; }
}  // namespace

TmpfsInode::TmpfsInode(Tmpfs& filesystem, mode_t type, const vfs::CreateAttributes& attributes)
    : vfs::Inode(RefPtr<vfs::Filesystem>(&filesystem), type),
      mode_(attributes.mode & 07777),
      ino_(filesystem.NextInodeNumber()),
      uid_(attributes.uid),
      gid_(attributes.gid),
      atime_(vfs::Timestamp::Now()),
      mtime_(atime_),
      ctime_(atime_),
      btime_(atime_) {}

TmpfsInode::~TmpfsInode() {
  tmpfs().ReleasePages(XattrPages(xattr_bytes_));
  tmpfs().ReleaseInode();
}

vfs::InodeStat TmpfsInode::StatLocked() const {
  vfs::InodeStat stat;
  stat.ino = ino_;
  stat.dev = filesystem().device();
  stat.mode = type() | mode_;
  stat.nlink = nlink_;
  stat.uid = uid_;
  stat.gid = gid_;
  stat.atime = atime_;
  stat.mtime = mtime_;
  stat.ctime = ctime_;
  stat.btime = btime_;
  stat.has_btime = true;
  FillStatLocked(&stat);
  return stat;
}

Result<vfs::InodeStat> TmpfsInode::GetStat() {
  InodeLock lock(mu_);
  return StatLocked();
}

Result<void> TmpfsInode::CheckPermission(const Credentials& creds, int mask) {
  vfs::InodeStat stat;
  stat.mode = type();
  {
    InodeLock lock(mu_);
    stat.mode |= mode_;
    stat.uid = uid_;
    stat.gid = gid_;
  }
  return vfs::GenericPermission(creds, stat, mask);
}

Result<void> TmpfsInode::SetStat(const vfs::SetStatRequest& request) {
  if (request.size) TRY(Resize(*request.size));
  InodeLock lock(mu_);
  if (request.mode) mode_ = *request.mode & 07777;
  if (request.uid) uid_ = *request.uid;
  if (request.gid) gid_ = *request.gid;
  if (request.atime) atime_ = *request.atime;
  if (request.mtime) mtime_ = *request.mtime;
  ctime_ = vfs::Timestamp::Now();
  return OkResult();
}

uint32_t TmpfsInode::nlink() const {
  InodeLock lock(mu_);
  return nlink_;
}

void TmpfsInode::AddLinks(int change) {
  InodeLock lock(mu_);
  nlink_ += change;
  ctime_ = vfs::Timestamp::Now();
}

void TmpfsInode::TouchCtime() {
  InodeLock lock(mu_);
  ctime_ = vfs::Timestamp::Now();
}

void TmpfsInode::TouchLocked(bool modified) {
  ctime_ = vfs::Timestamp::Now();
  if (modified) mtime_ = ctime_;
}

void TmpfsInode::TouchAtime(const vfs::Path& path, int flags) {
  const vfs::Timestamp now = vfs::Timestamp::Now();
  InodeLock lock(mu_);
  vfs::InodeStat stat;
  stat.mode = type();
  stat.atime = atime_;
  stat.mtime = mtime_;
  stat.ctime = ctime_;
  if (vfs::WantsAtime(path, flags, stat, now)) atime_ = now;
}

Result<std::string> TmpfsInode::GetXattr(std::string_view name) {
  InodeLock lock(mu_);
  if (!xattrs_) return Errno(ENODATA);
  auto it = xattrs_->find(name);
  if (it == xattrs_->end()) return Errno(ENODATA);
  return it->second;
}

Result<void> TmpfsInode::SetXattr(std::string_view name, std::string_view value, int flags) {
  InodeLock lock(mu_);
  if (!xattrs_) xattrs_ = std::make_unique<Xattrs>();
  auto it = xattrs_->find(name);
  const bool exists = it != xattrs_->end();
  if (exists && (flags & XATTR_CREATE)) return Errno(EEXIST);
  if (!exists && (flags & XATTR_REPLACE)) return Errno(ENODATA);
  const uint64_t before = exists ? name.size() + it->second.size() : 0;
  const uint64_t bytes = xattr_bytes_ - before + name.size() + value.size();
  if (bytes > kMaxXattrBytes) return Errno(ENOSPC);
  const uint64_t old_pages = XattrPages(xattr_bytes_), new_pages = XattrPages(bytes);
  if (new_pages > old_pages) TRY(tmpfs().ChargePages(new_pages - old_pages));
  if (new_pages < old_pages) tmpfs().ReleasePages(old_pages - new_pages);
  xattr_bytes_ = bytes;
  (*xattrs_)[std::string(name)] = std::string(value);
  TouchLocked(false);
  return OkResult();
}

Result<std::vector<std::string>> TmpfsInode::ListXattr() {
  InodeLock lock(mu_);
  std::vector<std::string> names;
  if (xattrs_) {
    for (const auto& [name, value] : *xattrs_) names.push_back(name);
  }
  return names;
}

Result<void> TmpfsInode::RemoveXattr(std::string_view name) {
  InodeLock lock(mu_);
  if (!xattrs_) return Errno(ENODATA);
  auto it = xattrs_->find(name);
  if (it == xattrs_->end()) return Errno(ENODATA);
  const uint64_t old_pages = XattrPages(xattr_bytes_);
  xattr_bytes_ -= name.size() + it->second.size();
  tmpfs().ReleasePages(old_pages - XattrPages(xattr_bytes_));
  xattrs_->erase(it);
  TouchLocked(false);
  return OkResult();
}

}  // namespace sentry::tmpfs
