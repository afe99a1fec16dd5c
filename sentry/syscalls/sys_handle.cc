// SPDX-License-Identifier: Apache-2.0
// name_to_handle_at, open_by_handle_at. A handle is the file's device and inode number.
#include <fcntl.h>

#include "sentry/syscalls/handlers.h"
#include "sentry/vfs/file_handles.h"

namespace sentry::syscalls {
namespace {

constexpr unsigned kMaxHandle = 128;  // MAX_HANDLE_SZ
constexpr int kHandleType = 0x81;     // FILEID_INO64_GEN

struct Header {  // struct file_handle
  uint32_t bytes;
  int32_t type;
};
using Identity = vfs::FileHandles::Identity;

}  // namespace

SYSCALL_HANDLER(SysNameToHandleAt) {
  const int flags = args.Int(4);
  if (flags & ~(AT_SYMLINK_FOLLOW | AT_EMPTY_PATH)) return Errno(EINVAL);
  std::string path = TRY(CopyInPath(task, args.Addr(1)));
  const bool empty = flags & AT_EMPTY_PATH;
  uint32_t resolve = (flags & AT_SYMLINK_FOLLOW ? vfs::kFollowFinal : 0u) | (empty ? vfs::kEmptyPath : 0u);
  vfs::Path where = TRY(vfs::Resolve(TRY(WalkFrom(task, args.Int(0), path, empty)), path, resolve));
  if (!vfs::FileHandles::Exist(where.inode()->filesystem())) return Errno(EOPNOTSUPP);
  auto header = TRY(task.CopyIn<Header>(args.Addr(2)));
  if (header.bytes > kMaxHandle) return Errno(EINVAL);
  const bool fits = header.bytes >= sizeof(Identity);
  header = {sizeof(Identity), kHandleType};
  TRY(task.CopyOut(args.Addr(3), where.mount->id()));
  TRY(task.CopyOut(args.Addr(2), header));
  if (!fits) return Errno(EOVERFLOW);
  TRY(task.CopyOut(args.Addr(2) + sizeof header, TRY(vfs::FileHandles::Get().Remember(where.dentry))));
  return 0;
}

SYSCALL_HANDLER(SysOpenByHandleAt) {
  if (!task.HasCapability(CAP_DAC_READ_SEARCH)) return Errno(EPERM);
  auto header = TRY(task.CopyIn<Header>(args.Addr(1)));
  if (header.bytes > kMaxHandle || header.bytes == 0) return Errno(EINVAL);
  vfs::WalkContext context = TRY(WalkFrom(task, args.Int(0), "", true));
  if (header.type != kHandleType || header.bytes < sizeof(Identity)) return Errno(ESTALE);
  auto id = TRY(task.CopyIn<Identity>(args.Addr(1) + sizeof header));
  vfs::Path where = {context.start.mount, vfs::FileHandles::Get().Find(id)};
  // Of the filesystem that the descriptor is on, and still there.
  if (!where || !where.mount || &where.inode()->filesystem() != where.mount->filesystem().get()) return Errno(ESTALE);
  const int flags = args.Int(2) & ~(O_CREAT | O_EXCL | O_NOCTTY);
  return InstallFile(task, TRY(vfs::OpenPath(context, where, flags)), flags & O_CLOEXEC);
}

}  // namespace sentry::syscalls
