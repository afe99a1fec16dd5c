// SPDX-License-Identifier: Apache-2.0
#include "sentry/fs/gofer/gofer_inode.h"

#include <fcntl.h>

#include <algorithm>

namespace sentry::fs {
namespace {

vfs::Timestamp ToTimestamp(const ::gofer::TimeStamp& t) { return {t.sec, t.nsec}; }

}  // namespace

GoferInode::GoferInode(RefPtr<GoferFilesystem> filesystem, const ::gofer::NodeAttr& node)
    : Inode(filesystem, node.attr.mode & S_IFMT),
      node_(node.node),
      first_attr_(node.attr),
      keep_idle_(!filesystem->shared()),
      attr_(node.attr) {}

GoferInode::~GoferInode() { fs().Forget(*this); }

Result<vfs::InodeStat> GoferInode::GetStat() {
  if (fs().shared() || stale_.exchange(false, std::memory_order_acq_rel)) {
    auto fresh = fs().client().GetAttr(node_);
    if (!fresh.ok()) {
      Invalidate();
      return fresh.error();
    }
    MutexLock lock(mu_);
    attr_ = *fresh;
  }
  MutexLock lock(mu_);
  vfs::InodeStat out;
  out.ino = attr_.ino;
  out.dev = filesystem().device();
  out.mode = attr_.mode;
  out.nlink = attr_.nlink;
  out.uid = attr_.uid;
  out.gid = attr_.gid;
  out.rdev = makedev(attr_.rdev_major, attr_.rdev_minor);
  out.size = attr_.size;
  out.blocks = attr_.blocks;
  out.block_size = attr_.blksize;
  out.atime = ToTimestamp(attr_.atime);
  out.mtime = ToTimestamp(attr_.mtime);
  out.ctime = ToTimestamp(attr_.ctime);
  out.has_btime = attr_.mask & STATX_BTIME;
  if (out.has_btime) out.btime = ToTimestamp(attr_.btime);
  return out;
}

Result<void> GoferInode::SetStat(const vfs::SetStatRequest& request) {
  ::gofer::AttrChange change;
  if (request.mode) change.fields |= ::gofer::kSetMode, change.mode = *request.mode;
  if (request.uid) change.fields |= ::gofer::kSetUid, change.uid = *request.uid;
  if (request.gid) change.fields |= ::gofer::kSetGid, change.gid = *request.gid;
  if (request.size) change.fields |= ::gofer::kSetSize, change.size = *request.size;
  if (request.atime)
    change.fields |= ::gofer::kSetAtime, change.atime = {request.atime->seconds, request.atime->nanoseconds, 0};
  if (request.mtime)
    change.fields |= ::gofer::kSetMtime, change.mtime = {request.mtime->seconds, request.mtime->nanoseconds, 0};
  uint64_t old_size;
  {
    MutexLock lock(mu_);
    old_size = attr_.size;
  }
  auto after = fs().client().SetAttr(node_, change);
  Invalidate();
  if (!after.ok()) return after.error();
  {
    MutexLock lock(mu_);
    attr_ = *after;
    stale_ = false;
  }
  if (request.size && *request.size < old_size) {
    uint64_t from = PageUp(*request.size);
    reverse_map_.Invalidate(from, UINT64_MAX - from, true);
  }
  return OkResult();
}

Result<RefPtr<vfs::Inode>> GoferInode::Adopt(Result<::gofer::NodeAttr> made) {
  if (!made.ok()) return made.error();
  return RefPtr<vfs::Inode>(fs().InodeFor(*made));
}

Result<RefPtr<vfs::Inode>> GoferInode::Lookup(std::string_view name) {
  return Adopt(fs().client().Lookup(node_, name));
}

Result<RefPtr<vfs::Inode>> GoferInode::Create(std::string_view name, const vfs::CreateAttributes& a) {
  ::gofer::CreatedFile made = TRY(fs().client().Create(node_, name, O_RDWR, a.mode, a.uid, a.gid));
  Invalidate();
  RefPtr<GoferInode> inode = fs().InodeFor(made.node);
  MutexLock lock(inode->mu_);
  // Kept for the open that follows.
  if (!inode->write_fd_) inode->write_fd_ = std::move(made.fd);
  return RefPtr<vfs::Inode>(inode);
}

Result<RefPtr<vfs::Inode>> GoferInode::Mkdir(std::string_view name, const vfs::CreateAttributes& a) {
  Invalidate();
  return Adopt(fs().client().Mkdir(node_, name, a.mode, a.uid, a.gid));
}

Result<RefPtr<vfs::Inode>> GoferInode::Mknod(std::string_view name, mode_t type, dev_t rdev,
                                             const vfs::CreateAttributes& a) {
  Invalidate();
  return Adopt(fs().client().Mknod(node_, name, type | a.mode, major(rdev), minor(rdev), a.uid, a.gid));
}

Result<RefPtr<vfs::Inode>> GoferInode::Symlink(std::string_view name, std::string_view target,
                                               const vfs::CreateAttributes& a) {
  Invalidate();
  return Adopt(fs().client().Symlink(node_, name, target, a.uid, a.gid));
}

Result<void> GoferInode::Link(std::string_view name, vfs::Inode& target) {
  auto& file = static_cast<GoferInode&>(target);
  ::gofer::NodeAttr made = TRY(fs().client().Link(file.node_, node_, name));
  fs().client().Forget(made.node);
  file.Invalidate();
  Invalidate();
  return OkResult();
}

Result<void> GoferInode::Unlink(std::string_view name, vfs::Inode& victim) {
  TRY(fs().client().Unlink(node_, name));
  static_cast<GoferInode&>(victim).NameRemoved();
  Invalidate();
  return OkResult();
}

Result<void> GoferInode::Rmdir(std::string_view name, vfs::Inode& victim) {
  TRY(fs().client().Rmdir(node_, name));
  static_cast<GoferInode&>(victim).Invalidate();
  Invalidate();
  return OkResult();
}

Result<void> GoferInode::Rename(std::string_view old_name, vfs::Inode& moved, vfs::Inode& new_directory,
                                std::string_view new_name, vfs::Inode* replaced, unsigned flags) {
  auto& to = static_cast<GoferInode&>(new_directory);
  TRY(fs().client().Rename(node_, old_name, to.node_, new_name, flags));
  Invalidate();
  to.Invalidate();
  static_cast<GoferInode&>(moved).Invalidate();
  if (replaced) {
    auto& other = static_cast<GoferInode&>(*replaced);
    flags& RENAME_EXCHANGE ? other.Invalidate() : other.NameRemoved();
  }
  return OkResult();
}

Result<std::string> GoferInode::ReadLink() {
  if (!IsSymlink()) return Errno(EINVAL);
  {
    MutexLock lock(mu_);
    // A symlink's target never changes.
    if (!link_target_.empty()) return link_target_;
  }
  std::string target = TRY(fs().client().ReadLink(node_));
  MutexLock lock(mu_);
  link_target_ = target;
  return target;
}

Result<int> GoferInode::Handle(bool write) {
  {
    MutexLock lock(mu_);
    if (write_fd_) return write_fd_.get();
    if (!write && !read_fd_) read_fd_ = fs().TakeIdle(*this);
    if (!write && read_fd_) return read_fd_.get();
  }
  auto opened = fs().client().Open(node_, write ? O_RDWR : O_RDONLY);
  if (!opened.ok() && opened.error() == Errno(EMFILE) && fs().DropIdle())
    opened = fs().client().Open(node_, write ? O_RDWR : O_RDONLY);
  if (!opened.ok()) return opened.error();
  MutexLock lock(mu_);
  UniqueFd& slot = write ? write_fd_ : read_fd_;
  if (!slot) slot = std::move(opened->fd);
  return slot.get();
}

void GoferInode::NameRemoved() {
  Invalidate();
  keep_idle_.store(false, std::memory_order_relaxed);
  fs().TakeIdle(*this);
}

void GoferInode::AddHandleUser() {
  MutexLock lock(mu_);
  ++handle_users_;
}

void GoferInode::DropHandleUser() {
  MutexLock lock(mu_);
  if (--handle_users_) return;
  if (write_fd_) Invalidate();
  write_fd_.Reset();
  if (read_fd_ && keep_idle_.load(std::memory_order_relaxed)) fs().KeepIdle(*this, std::move(read_fd_));
  read_fd_.Reset();
}

Result<uint64_t> GoferInode::Size() {
  {
    MutexLock lock(mu_);
    int fd = write_fd_ ? write_fd_.get() : read_fd_.get();
    struct stat s;
    if (fd >= 0 && fstat(fd, &s) == 0) return static_cast<uint64_t>(s.st_size);
  }
  return TRY(GetStat()).size;
}

void GoferInode::NoteWrite(uint64_t end) { Invalidate(); }

Result<std::string> GoferInode::GetXattr(std::string_view name) { return fs().client().GetXattr(node_, name); }

Result<void> GoferInode::SetXattr(std::string_view name, std::string_view value, int flags) {
  Invalidate();
  return fs().client().SetXattr(node_, name, value, flags);
}

Result<std::vector<std::string>> GoferInode::ListXattr() {
  std::string list = TRY(fs().client().ListXattr(node_));
  std::vector<std::string> out;
  for (size_t at = 0; at < list.size();) {
    size_t end = list.find('\0', at);
    if (end == std::string::npos) end = list.size();
    if (end > at) out.push_back(list.substr(at, end - at));
    at = end + 1;
  }
  return out;
}

Result<void> GoferInode::RemoveXattr(std::string_view name) {
  Invalidate();
  return fs().client().RemoveXattr(node_, name);
}

}  // namespace sentry::fs
