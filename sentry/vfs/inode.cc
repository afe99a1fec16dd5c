// SPDX-License-Identifier: Apache-2.0
// Filesystem and Inode: defaults and per-inode companions.
#include "sentry/vfs/inode.h"

#include <sys/inotify.h>
#include <sys/sysmacros.h>

#include "sentry/vfs/fanotify.h"
#include "sentry/vfs/file_description.h"
#include "sentry/vfs/inotify_watches.h"
#include "sentry/vfs/locks.h"
#include "sentry/vfs/path.h"
#include "sentry/vfs/permission.h"

namespace sentry::vfs {
namespace {

// Gives the companion kept in `slot`, made by the first who asks.
template <typename T>
T& GetOrMake(std::atomic<T*>& slot) {
  T* object = slot.load(std::memory_order_acquire);
  if (object) return *object;
  auto fresh = std::make_unique<T>();
  if (slot.compare_exchange_strong(object, fresh.get(), std::memory_order_acq_rel)) return *fresh.release();
  return *object;
}

void NotifyDeleted(Inode& inode) {
  if (inode.HasInotifyWatches()) inode.inotify_watches().Notify(IN_DELETE_SELF, 0, "");
  if (!Fanotify::Get().Any()) return;
  Fanotify::Get().Notify({.mask = FAN_DELETE_SELF | (inode.IsDirectory() ? uint64_t{FAN_ONDIR} : 0), .object = &inode});
  Fanotify::Get().Forget(inode);
}

}  // namespace

Timestamp Timestamp::Now() {
  const int64_t ns = base::RealtimeNs();
  return {ns / base::kNsPerSecond, static_cast<uint32_t>(ns % base::kNsPerSecond)};
}

Filesystem::Filesystem() {
  // Major 0, minors counted up and never reused, as the 20-bit minor allows.
  static std::atomic<uint32_t> next{20};
  device_ = makedev(0, next.fetch_add(1, std::memory_order_relaxed) & 0xfffff);
}

bool Filesystem::IsMounted() const { return mounts_.load(std::memory_order_acquire) != 0; }

Inode::Inode(RefPtr<Filesystem> filesystem, mode_t type) : filesystem_(std::move(filesystem)), type_(type & S_IFMT) {}

Inode::~Inode() {
  delete locks_.load(std::memory_order_acquire);
  delete watches_.load(std::memory_order_acquire);
}

Result<void> Inode::CheckPermission(const Credentials& creds, int mask) {
  InodeStat stat = TRY(GetStat());
  return GenericPermission(creds, stat, mask);
}

Result<std::optional<Path>> Inode::FollowMagicLink() { return std::optional<Path>(); }

Result<RefPtr<FileDescription>> Inode::Open(const Path& path, int flags) { return Errno(ENXIO); }

FileLocks& Inode::locks() {
  FileLocks& locks = GetOrMake(locks_);
  locks.set_inode(this);
  return locks;
}

InotifyWatches& Inode::inotify_watches() {
  InotifyWatches& watches = GetOrMake(watches_);
  watches.set_inode(this);
  return watches;
}

RefPtr<SpecialObject> Inode::special() const {
  MutexLock lock(special_mu_);
  return special_;
}

void Inode::set_special(RefPtr<SpecialObject> object) {
  MutexLock lock(special_mu_);
  std::swap(special_, object);
}

void Inode::MarkDeleted() {
  deleted_.store(true, std::memory_order_seq_cst);
  if (opens_.load(std::memory_order_seq_cst) == 0 && deleted_.exchange(false)) NotifyDeleted(*this);
}

void Inode::DropOpen() {
  if (opens_.fetch_sub(1, std::memory_order_seq_cst) != 1) return;
  if (deleted_.load(std::memory_order_seq_cst) && deleted_.exchange(false)) NotifyDeleted(*this);
}

Result<void> Inode::GetWriteAccess() {
  int n = write_access_.load(std::memory_order_relaxed);
  do {
    if (n < 0) return Errno(ETXTBSY);
  } while (!write_access_.compare_exchange_weak(n, n + 1, std::memory_order_acq_rel));
  return OkResult();
}

void Inode::PutWriteAccess() { write_access_.fetch_sub(1, std::memory_order_release); }

Result<void> Inode::DenyWriteAccess() {
  int n = write_access_.load(std::memory_order_relaxed);
  do {
    if (n > 0) return Errno(ETXTBSY);
  } while (!write_access_.compare_exchange_weak(n, n - 1, std::memory_order_acq_rel));
  return OkResult();
}

void Inode::AllowWriteAccess() { write_access_.fetch_add(1, std::memory_order_release); }

}  // namespace sentry::vfs
