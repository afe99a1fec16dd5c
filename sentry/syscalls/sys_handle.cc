// SPDX-License-Identifier: Apache-2.0
// name_to_handle_at, open_by_handle_at. A handle is the file's device and inode number. Which file that is, the sentry
// remembers for the last kRemembered files that were asked about; older handles are stale, as are those of deleted
// files.
#include <fcntl.h>

#include <list>
#include <map>

#include "sentry/syscalls/handlers.h"

namespace sentry::syscalls {
namespace {

constexpr unsigned kMaxHandle = 128;  // MAX_HANDLE_SZ
constexpr int kHandleType = 0x81;     // FILEID_INO64_GEN
constexpr size_t kRemembered = 16384;

struct Header {  // struct file_handle
  uint32_t bytes;
  int32_t type;
};
struct Identity {
  uint64_t device, inode;
  friend auto operator<=>(const Identity&, const Identity&) = default;
};

class Memory {
 public:
  void Remember(const Identity& id, RefPtr<vfs::Dentry> dentry) {
    RefPtr<vfs::Dentry> dropped;  // after the lock
    MutexLock lock(mu_);
    auto [it, fresh] = files_.try_emplace(id);
    dropped = std::exchange(it->second, std::move(dentry));
    if (!fresh) return;
    order_.push_back(id);
    if (order_.size() <= kRemembered) return;
    auto oldest = files_.find(order_.front());
    order_.pop_front();
    dropped = std::move(oldest->second);
    files_.erase(oldest);
  }
  RefPtr<vfs::Dentry> Find(const Identity& id) const {
    MutexLock lock(mu_);
    auto it = files_.find(id);
    return it == files_.end() ? nullptr : it->second;
  }

 private:
  mutable Mutex mu_{LockRank::kLeaf};
  std::map<Identity, RefPtr<vfs::Dentry>> files_ ABSL_GUARDED_BY(mu_);
  std::list<Identity> order_ ABSL_GUARDED_BY(mu_);
};

Memory& TheMemory() {
  static Memory* memory = new Memory;
  return *memory;
}

// Filesystems whose files have no lasting numbers have no handles (export_operations of the kernel).
bool HasHandles(const vfs::Path& path) {
  const std::string_view type = path.inode()->filesystem().TypeName();
  return type == "tmpfs" || type == "overlay" || type == "9p";
}

}  // namespace

SYSCALL_HANDLER(SysNameToHandleAt) {
  const int flags = args.Int(4);
  if (flags & ~(AT_SYMLINK_FOLLOW | AT_EMPTY_PATH)) return Errno(EINVAL);
  std::string path = TRY(CopyInPath(task, args.Addr(1)));
  const bool empty = flags & AT_EMPTY_PATH;
  uint32_t resolve = (flags & AT_SYMLINK_FOLLOW ? vfs::kFollowFinal : 0u) | (empty ? vfs::kEmptyPath : 0u);
  vfs::Path where = TRY(vfs::Resolve(TRY(WalkFrom(task, args.Int(0), path, empty)), path, resolve));
  if (!HasHandles(where)) return Errno(EOPNOTSUPP);
  auto header = TRY(task.CopyIn<Header>(args.Addr(2)));
  if (header.bytes > kMaxHandle) return Errno(EINVAL);
  const bool fits = header.bytes >= sizeof(Identity);
  const vfs::InodeStat stat = TRY(where.inode()->GetStat());
  const Identity id = {stat.dev, stat.ino};
  header = {sizeof id, kHandleType};
  TRY(task.CopyOut(args.Addr(3), where.mount->id()));
  TRY(task.CopyOut(args.Addr(2), header));
  if (!fits) return Errno(EOVERFLOW);
  TRY(task.CopyOut(args.Addr(2) + sizeof header, id));
  TheMemory().Remember(id, where.dentry);
  return 0;
}

SYSCALL_HANDLER(SysOpenByHandleAt) {
  if (!task.HasCapability(CAP_DAC_READ_SEARCH)) return Errno(EPERM);
  auto header = TRY(task.CopyIn<Header>(args.Addr(1)));
  if (header.bytes > kMaxHandle || header.bytes == 0) return Errno(EINVAL);
  vfs::WalkContext context = TRY(WalkFrom(task, args.Int(0), "", true));
  if (header.type != kHandleType || header.bytes < sizeof(Identity)) return Errno(ESTALE);
  auto id = TRY(task.CopyIn<Identity>(args.Addr(1) + sizeof header));
  vfs::Path where = {context.start.mount, TheMemory().Find(id)};
  // Of the filesystem that the descriptor is on, and still there.
  if (!where || !where.mount || &where.inode()->filesystem() != where.mount->filesystem().get()) return Errno(ESTALE);
  if (TRY(where.inode()->GetStat()).nlink == 0) return Errno(ESTALE);
  const int flags = args.Int(2) & ~(O_CREAT | O_EXCL | O_NOCTTY);
  return InstallFile(task, TRY(vfs::OpenPath(context, where, flags)), flags & O_CLOEXEC);
}

}  // namespace sentry::syscalls
