// SPDX-License-Identifier: Apache-2.0
#include "sentry/kernel/fd_table.h"

#include <algorithm>

#include "sentry/vfs/locks.h"

namespace sentry::kernel {
namespace {

// fs.nr_open: the ceiling whatever RLIMIT_NOFILE says; bounds the vector.
constexpr uint64_t kMaxDescriptors = 1 << 20;

// What close(2) does to a file besides dropping the reference. Without locks.
void CloseFile(const vfs::FileRef& file, const FdTable* owner) {
  if (file->flags() & O_PATH) return;
  (void)file->Flush();
  vfs::Inode* inode = file->inode().get();
  if (inode && inode->HasLocks()) inode->locks().ReleaseOwner(vfs::LockKind::kPosix, owner);
}

}  // namespace

FdTable::~FdTable() { Clear(); }

Result<vfs::FileRef> FdTable::Get(int fd) const {
  MutexLock lock(mu_);
  if (fd < 0 || static_cast<size_t>(fd) >= slots_.size() || !slots_[fd].file) return Errno(EBADF);
  return slots_[fd].file;
}

Result<vfs::FileRef> FdTable::GetOpen(int fd) const {
  vfs::FileRef file = TRY(Get(fd));
  if (file->flags() & O_PATH) return Errno(EBADF);
  return file;
}

Result<int> FdTable::Add(vfs::FileRef file, bool close_on_exec, uint64_t limit, int minimum) {
  limit = std::min(limit, kMaxDescriptors);
  if (minimum < 0 || (minimum > 0 && static_cast<uint64_t>(minimum) >= limit)) return Errno(EINVAL);
  MutexLock lock(mu_);
  size_t fd = std::max(first_free_, minimum);
  while (fd < slots_.size() && slots_[fd].file) ++fd;
  if (fd >= limit) return Errno(EMFILE);
  if (fd >= slots_.size()) slots_.resize(fd + 1);
  slots_[fd] = {std::move(file), close_on_exec};
  if (minimum <= first_free_) first_free_ = static_cast<int>(fd) + 1;
  return static_cast<int>(fd);
}

Result<void> FdTable::Set(int fd, vfs::FileRef file, bool close_on_exec, uint64_t limit) {
  if (fd < 0 || static_cast<uint64_t>(fd) >= std::min(limit, kMaxDescriptors)) return Errno(EBADF);
  vfs::FileRef old;
  {
    MutexLock lock(mu_);
    if (static_cast<size_t>(fd) >= slots_.size()) slots_.resize(fd + 1);
    old = std::move(slots_[fd].file);
    slots_[fd] = {std::move(file), close_on_exec};
  }
  if (old) CloseFile(old, this);
  return OkResult();
}

Result<void> FdTable::Close(int fd) {
  vfs::FileRef old;
  {
    MutexLock lock(mu_);
    if (fd < 0 || static_cast<size_t>(fd) >= slots_.size() || !slots_[fd].file) return Errno(EBADF);
    old = std::move(slots_[fd].file);
    first_free_ = std::min(first_free_, fd);
  }
  if (old->flags() & O_PATH) return OkResult();
  // The descriptor is gone whatever Flush says; its error is close(2)'s.
  Result<void> flushed = old->Flush();
  vfs::Inode* inode = old->inode().get();
  if (inode && inode->HasLocks()) inode->locks().ReleaseOwner(vfs::LockKind::kPosix, this);
  return flushed;
}

void FdTable::CloseRange(unsigned first, unsigned last, bool only_set_cloexec) {
  std::vector<vfs::FileRef> closed;
  {
    MutexLock lock(mu_);
    for (size_t fd = first; fd <= last && fd < slots_.size(); ++fd) {
      if (!slots_[fd].file) continue;
      if (only_set_cloexec) {
        slots_[fd].close_on_exec = true;
      } else {
        closed.push_back(std::move(slots_[fd].file));
        first_free_ = std::min(first_free_, static_cast<int>(fd));
      }
    }
  }
  for (const vfs::FileRef& file : closed) CloseFile(file, this);
}

Result<bool> FdTable::GetCloseOnExec(int fd) const {
  MutexLock lock(mu_);
  if (fd < 0 || static_cast<size_t>(fd) >= slots_.size() || !slots_[fd].file) return Errno(EBADF);
  return slots_[fd].close_on_exec;
}

Result<void> FdTable::SetCloseOnExec(int fd, bool value) {
  MutexLock lock(mu_);
  if (fd < 0 || static_cast<size_t>(fd) >= slots_.size() || !slots_[fd].file) return Errno(EBADF);
  slots_[fd].close_on_exec = value;
  return OkResult();
}

void FdTable::CloseOnExec() {
  std::vector<vfs::FileRef> closed;
  {
    MutexLock lock(mu_);
    for (size_t fd = 0; fd < slots_.size(); ++fd) {
      if (!slots_[fd].file || !slots_[fd].close_on_exec) continue;
      closed.push_back(std::move(slots_[fd].file));
      first_free_ = std::min(first_free_, static_cast<int>(fd));
    }
  }
  for (const vfs::FileRef& file : closed) CloseFile(file, this);
}

RefPtr<FdTable> FdTable::Clone() const {
  auto copy = MakeRef<FdTable>();
  MutexLock lock(mu_);
  size_t used = slots_.size();
  while (used > 0 && !slots_[used - 1].file) --used;
  // The copy is not shared yet, but its annotations want the lock; one rank, never contended.
  copy->mu_.LockNested();
  copy->slots_.assign(slots_.begin(), slots_.begin() + used);
  copy->first_free_ = std::min(first_free_, static_cast<int>(used));
  copy->mu_.Unlock();
  return copy;
}

std::vector<int> FdTable::List() const {
  std::vector<int> fds;
  MutexLock lock(mu_);
  for (size_t fd = 0; fd < slots_.size(); ++fd) {
    if (slots_[fd].file) fds.push_back(static_cast<int>(fd));
  }
  return fds;
}

void FdTable::Clear() {
  std::vector<Slot> slots;
  {
    MutexLock lock(mu_);
    slots.swap(slots_);
    first_free_ = 0;
  }
  for (const Slot& slot : slots) {
    if (slot.file) CloseFile(slot.file, this);
  }
}

}  // namespace sentry::kernel
