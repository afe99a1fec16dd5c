// SPDX-License-Identifier: Apache-2.0
// The vfs's operations on paths: what the file system calls do after decoding their arguments. Each checks search and
// access permissions, mount flags (EROFS), limits (ELOOP after 40 links, ENAMETOOLONG), and notifies inotify.
#ifndef SENTRY_VFS_VFS_H_
#define SENTRY_VFS_VFS_H_

#include <sys/stat.h>

#include <string>
#include <string_view>
#include <vector>

#include "sentry/kernel/core/credentials.h"
#include "sentry/vfs/file_description.h"
#include "sentry/vfs/path.h"

namespace sentry::vfs {

// Who walks, and from where.
struct WalkContext {
  Path root;   // chroot
  Path start;  // cwd, or the dirfd's path
  const Credentials& creds;
  RefPtr<MountNamespace> mounts;
  mode_t umask = 0;
};

enum ResolveFlags : uint32_t {
  kFollowFinal = 1,  // follow a symlink in the last component
  kDirectory = 2,    // the result must be a directory (ENOTDIR)
  kEmptyPath = 4,    // "" means start (AT_EMPTY_PATH)
  // openat2(2)
  kNoXdev = 16,
  kNoMagicLinks = 32,
  kNoSymlinks = 64,
  kBeneath = 128,
  kInRoot = 256,
  kCached = 512,  // EAGAIN unless answered from the dentry cache
  kNoAutomount = 1024,
};

Result<Path> Resolve(const WalkContext& context, std::string_view path, uint32_t flags);

struct ParentAndName {
  Path parent;
  std::string
      name;  // may be "." or ".." or "/" (the root itself): the callers answer EBUSY/EINVAL/ENOTEMPTY… as Linux does
  bool trailing_slash = false;
};
Result<ParentAndName> ResolveParent(const WalkContext& context, std::string_view path, uint32_t flags);

// open(2) in full: O_CREAT, O_EXCL, O_TRUNC, O_DIRECTORY, O_NOFOLLOW, O_PATH, O_TMPFILE, O_NOATIME. `resolve` are the
// openat2 bits. A FIFO's blocking open happens in the caller through vfs/special_files.h. `mode` before the umask.
Result<FileRef> Open(const WalkContext& context, std::string_view path, int flags, mode_t mode, uint32_t resolve = 0);
// Opens an already resolved place (reopen through /proc/self/fd, exec).
Result<FileRef> OpenPath(const WalkContext& context, const Path& path, int flags);

Result<InodeStat> Stat(const WalkContext& context, std::string_view path, uint32_t flags, Path* where = nullptr);
Result<void> Mkdir(const WalkContext& context, std::string_view path, mode_t mode);
Result<void> Mknod(const WalkContext& context, std::string_view path, mode_t mode, dev_t device);
// As Mknod for a socket, but gives the place (bind(2)). EADDRINUSE when it exists.
Result<Path> MknodSocket(const WalkContext& context, std::string_view path, mode_t mode);
Result<void> Symlink(const WalkContext& context, std::string_view target, std::string_view path);
Result<void> Link(const WalkContext& from, std::string_view old_path, const WalkContext& to, std::string_view new_path,
                  uint32_t flags);
Result<void> Unlink(const WalkContext& context, std::string_view path);
Result<void> Rmdir(const WalkContext& context, std::string_view path);
Result<void> Rename(const WalkContext& from, std::string_view old_path, const WalkContext& to,
                    std::string_view new_path, unsigned flags);
Result<std::string> ReadLink(const WalkContext& context, std::string_view path);
// access(2) with the credentials of the context (the caller swaps in the real ids).
Result<void> Access(const WalkContext& context, std::string_view path, int mask, uint32_t flags);
// chmod, chown, truncate, utimens on a resolved place: permission rules of setattr_prepare (CAP_FOWNER, CAP_CHOWN, sgid
// and suid clearing). `times_now`: utimensat with both UTIME_NOW or NULL needs only write permission.
Result<void> SetStat(const WalkContext& context, const Path& path, SetStatRequest request, bool times_now = false);

Result<std::string> GetXattr(const WalkContext& context, const Path& path, std::string_view name);
Result<void> SetXattr(const WalkContext& context, const Path& path, std::string_view name, std::string_view value,
                      int flags);
Result<std::vector<std::string>> ListXattr(const WalkContext& context, const Path& path);
Result<void> RemoveXattr(const WalkContext& context, const Path& path, std::string_view name);

// The name of `path` as seen from `root` (d_path): " (deleted)" appended for unlinked names, "(unreachable)" prefix
// outside the root, as getcwd(2) and /proc show.
std::string PathName(const MountNamespace& mounts, const Path& path, const Path& root);

// The same up to the top of the mounts that `path` is in, whoever asks (MappedObject::Name, the log).
std::string PathNameFromTop(const Path& path);

// Filesystem types that mount(2) knows ("tmpfs", "proc", …), registered by sentry/boot at start.
struct MountSource {
  std::string_view source;
  std::string_view options;
  const Credentials& creds;
  const WalkContext* walk = nullptr;  // of who mounts; null at boot
};
using FilesystemFactory = Result<RefPtr<Filesystem>> (*)(const MountSource& source);
void RegisterFilesystemType(const char* name, FilesystemFactory factory, bool needs_device = false);
FilesystemFactory FindFilesystemType(std::string_view name);
// For /proc/filesystems.
std::vector<std::pair<std::string, bool>> FilesystemTypes();

}  // namespace sentry::vfs

#endif  // SENTRY_VFS_VFS_H_
