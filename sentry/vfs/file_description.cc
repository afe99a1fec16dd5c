// SPDX-License-Identifier: Apache-2.0
#include "sentry/vfs/file_description.h"

#include <limits.h>
#include <sys/inotify.h>

#include <algorithm>
#include <utility>

#include "sentry/vfs/inotify_watches.h"
#include "sentry/vfs/locks.h"
#include "sentry/vfs/permission.h"

namespace sentry::vfs {
namespace {

constexpr int kCreationFlags = O_CREAT | O_EXCL | O_NOCTTY | O_TRUNC | O_CLOEXEC;
// fcntl(2) F_SETFL.
constexpr int kSettableFlags = O_APPEND | O_ASYNC | O_DIRECT | O_NOATIME | O_NONBLOCK;

}  // namespace

FileDescription::FileDescription(Path path, int flags) : path_(std::move(path)), flags_(flags & ~kCreationFlags) {
  const int mode = flags & O_ACCMODE;
  readable_ = !(flags & O_PATH) && (mode == O_RDONLY || mode == O_RDWR);
  writable_ = !(flags & O_PATH) && (mode == O_WRONLY || mode == O_RDWR);
  Inode& inode = *path_.dentry->inode();
  if (flags & O_PATH) return;
  inode.AddOpen();
  // vfs::Open holds both while it opens, so that neither fails here then; a kernel-made file on a read-only mount goes
  // without.
  if (!writable_ || !(inode.IsRegular() || inode.IsDirectory())) return;
  holds_write_access_ = inode.IsRegular() && inode.GetWriteAccess().ok();
  holds_mount_write_ = path_.mount && path_.mount->GetWrite().ok();
}

void FileDescription::PutWriteAccess() {
  if (std::exchange(holds_write_access_, false)) inode()->PutWriteAccess();
}

Mutex& FileDescription::EpollLifetimeMutex() {
  static Mutex* mu = new Mutex(LockRank::kEpollNesting);
  return *mu;
}

void FileDescription::OnLastRef() const {
  auto* self = const_cast<FileDescription*>(this);
  {
    MutexLock lock(links_mu_);
    if (epoll_links_.empty()) return;
  }
  MutexLock lifetime(EpollLifetimeMutex());
  for (;;) {
    EpollLink* link;
    {
      MutexLock lock(self->links_mu_);
      if (self->epoll_links_.empty()) return;
      link = self->epoll_links_.back();
      self->epoll_links_.pop_back();
    }
    link->OnFileDestroyed();
  }
}

FileDescription::~FileDescription() {
  Inode& inode = *path_.dentry->inode();
  if (FileLocks* locks = inode.locks_if_any()) {
    locks->ReleaseOwner(LockKind::kFlock, this);
    locks->ReleaseOwner(LockKind::kOfd, this);
  }
  if (holds_write_access_) inode.PutWriteAccess();
  if (holds_mount_write_) path_.mount->PutWrite();
  if (flags() & O_PATH) return;
  NotifyFile(*this, writable_ ? IN_CLOSE_WRITE : IN_CLOSE_NOWRITE);
  inode.DropOpen();
}

Result<void> FileDescription::SetStatusFlags(int flags) {
  flags &= kSettableFlags;
  if ((flags & O_NOATIME) && !(this->flags() & O_NOATIME)) {
    if (Caller* caller = Caller::CurrentOrNull()) {
      InodeStat stat = TRY(GetStat());
      const Credentials& creds = *caller->creds();
      if (!IsOwnerOrCapable(creds, stat)) return Errno(EPERM);
    }
  }
  TRY(OnSetFlags((this->flags() & ~kSettableFlags) | flags));
  int old = this->flags();
  while (!flags_.compare_exchange_weak(old, (old & ~kSettableFlags) | flags)) {
  }
  return OkResult();
}

Result<size_t> FileDescription::Read(IoTarget& target) {
  MutexLock lock(position_mu_);
  const int64_t at = position();
  size_t n = TRY(PRead(target, at));
  set_position(at + static_cast<int64_t>(n));
  return n;
}

Result<size_t> FileDescription::Write(IoSource& source) {
  MutexLock lock(position_mu_);
  const bool append = flags() & O_APPEND;
  int64_t end = position();
  const int64_t at = append ? -1 : end;
  size_t n = TRY(PWrite(source, at, &end));
  if (append) {
    set_position(end);
  } else {
    set_position(at + static_cast<int64_t>(n));
  }
  return n;
}

Result<int64_t> FileDescription::Seek(int64_t offset, int whence) {
  Inode& file = *inode();
  // Pipes, sockets and the objects without a type don't seek.
  if (file.type() != S_IFREG && file.type() != S_IFDIR && file.type() != S_IFBLK) return Errno(ESPIPE);
  MutexLock lock(position_mu_);
  int64_t base = 0;
  switch (whence) {
    case SEEK_SET:
      break;
    case SEEK_CUR:
      base = position();
      break;
    case SEEK_END:
      base = static_cast<int64_t>(TRY(GetStat()).size);
      break;
    case SEEK_DATA:
    case SEEK_HOLE: {
      // All data, and one hole at the end (lseek(2)).
      const int64_t size = static_cast<int64_t>(TRY(GetStat()).size);
      if (offset < 0 || offset >= size) return Errno(ENXIO);
      if (whence == SEEK_HOLE) offset = size;
      break;
    }
    default:
      return Errno(EINVAL);
  }
  int64_t result;
  if (__builtin_add_overflow(base, offset, &result)) return Errno(offset > 0 ? EOVERFLOW : EINVAL);
  if (result < 0) return Errno(EINVAL);
  set_position(result);
  return result;
}

Result<void> FileDescription::Truncate(uint64_t size) {
  SetStatRequest request;
  request.size = size;
  Caller* caller = Caller::CurrentOrNull();
  InodeStat stat = TRY(GetStat());
  request.mode = ModeAfterWrite(stat, caller ? caller->creds().get() : nullptr);
  return inode()->SetStat(request);
}

Result<InodeStat> FileDescription::GetStat() { return inode()->GetStat(); }

Result<void> FileDescription::Flush() {
  FileLocks* locks = inode()->locks_if_any();
  if (Caller* caller = Caller::CurrentOrNull(); locks && caller)
    locks->ReleaseOwner(LockKind::kPosix, caller->LockOwner());
  return OkResult();
}

void FileDescription::NotifyAccess() { NotifyFile(*this, IN_ACCESS); }
void FileDescription::NotifyModify() { NotifyFile(*this, IN_MODIFY); }

AsyncOwner FileDescription::async_owner() const {
  MutexLock lock(links_mu_);
  return async_ ? *async_ : AsyncOwner();
}

void FileDescription::set_async_owner(const AsyncOwner& owner) {
  MutexLock lock(links_mu_);
  if (async_) {
    *async_ = owner;
  } else {
    async_ = std::make_unique<AsyncOwner>(owner);
  }
}

void FileDescription::NotifyEvents(EventMask events) {
  if (WaitQueue* queue = wait_queue()) queue->Notify(events);
}

void FileDescription::AddEpollLink(EpollLink* link) {
  MutexLock lock(links_mu_);
  epoll_links_.push_back(link);
}

void FileDescription::RemoveEpollLink(EpollLink* link) {
  MutexLock lock(links_mu_);
  std::erase(epoll_links_, link);
}

}  // namespace sentry::vfs
