// SPDX-License-Identifier: Apache-2.0
// open(2), openat2(2).
#include <sys/inotify.h>

#include "base/cleanup.h"
#include "sentry/vfs/fanotify.h"
#include "sentry/vfs/inotify_watches.h"
#include "sentry/vfs/landlock.h"
#include "sentry/vfs/leases.h"
#include "sentry/vfs/operations.h"
#include "sentry/vfs/special_files.h"

namespace sentry::vfs {
namespace {

constexpr int kTmpFileBit = O_TMPFILE & ~O_DIRECTORY;
// What x86-64 Linux adds to every open(2) (glibc's O_LARGEFILE is 0).
constexpr int kKernelLargeFile = 0100000;

// O_PATH: a place and nothing else (open(2)).
class PathFile final : public FileDescription {
 public:
  PathFile(const Path& path, int flags) : FileDescription(path, flags) {}
  Result<size_t> Read(IoTarget& target) override { return Errno(EBADF); }
  Result<size_t> Write(IoSource& source) override { return Errno(EBADF); }
  Result<size_t> PRead(IoTarget& target, int64_t offset) override { return Errno(EBADF); }
  Result<size_t> PWrite(IoSource& source, int64_t offset, int64_t* end) override { return Errno(EBADF); }
  Result<int64_t> Seek(int64_t offset, int whence) override { return Errno(EBADF); }
  Result<void> IterateDirectory(const DirSink& sink) override { return Errno(EBADF); }
  Result<int64_t> Ioctl(unsigned request, uint64_t argument) override { return Errno(EBADF); }
  Result<void> ConfigureMmap(mm::MmapRequest& request) override { return Errno(EBADF); }
  Result<void> Sync(bool data_only) override { return Errno(EBADF); }
  Result<void> Allocate(int mode, uint64_t offset, uint64_t length) override { return Errno(EBADF); }
  Result<void> Truncate(uint64_t size) override { return Errno(EBADF); }
  EventMask Poll() override { return kInvalid; }

 private:
  static constexpr EventMask kInvalid = 0x20;  // POLLNVAL
};

int AccessMask(int flags) {
  int mask = 0;
  const int mode = flags & O_ACCMODE;
  if (mode != O_WRONLY) mask |= kMayRead;
  if (mode != O_RDONLY) mask |= kMayWrite;
  if (flags & O_TRUNC) mask |= kMayWrite;
  return mask;
}

// may_open() of Linux: what an existing file's type, mount and mode allow.
Result<void> CheckOpen(const WalkContext& context, const Path& path, int flags) {
  Inode& inode = *path.inode();
  const int mask = AccessMask(flags);
  switch (inode.type()) {
    case S_IFLNK:
      return Errno(ELOOP);
    case S_IFDIR:
      if (mask & kMayWrite) return Errno(EISDIR);
      break;
    case S_IFCHR:
    case S_IFBLK:
      // Devices of filesystems that a user namespace mounted could be anybody's (SB_I_NODEV); terminals open
      // themselves.
      if ((path.mount->flags() & kMountNoDev) || (inode.filesystem().user_ns() && !inode.HandlesOpen()))
        return Errno(EACCES);
      break;
    default:
      break;
  }
  TRY(inode.CheckPermission(context.creds, mask));
  if (flags & O_NOATIME) {
    InodeStat stat = TRY(inode.GetStat());
    if (!IsOwnerOrCapable(context.creds, stat)) return Errno(EPERM);
  }
  return OkResult();
}

// Opens with all permissions checked.
Result<FileRef> DoOpen(const WalkContext& context, const Path& path, int flags, bool created) {
  if (flags & O_PATH) return FileRef(MakeRef<PathFile>(path, flags));
  Inode& inode = *path.inode();
  if (Fanotify::Get().Any() && !(flags & kNoNotify)) TRY(Fanotify::Get().Ask(path, FAN_OPEN_PERM));
  if (Leases::Get().Any() && inode.IsRegular() && !created)
    TRY(Leases::Get().Break(inode, (flags & O_ACCMODE) != O_RDONLY || (flags & O_TRUNC), flags & O_NONBLOCK));
  flags |= kKernelLargeFile;
  if (!inode.IsRegular()) flags &= ~O_TRUNC;
  const bool writes = (flags & O_ACCMODE) != O_RDONLY || (flags & O_TRUNC);
  bool mount_write = false, write_access = false;
  base::Cleanup release([&] {
    if (mount_write) path.mount->PutWrite();
    if (write_access) inode.PutWriteAccess();
  });
  if (writes && inode.IsRegular()) {
    TRY(path.mount->GetWrite());
    mount_write = true;
    TRY(inode.GetWriteAccess());
    write_access = true;
  }
  TRY(LandlockCheckOpen(path, flags, /*execute=*/false));
  FileRef file;
  const int without_create = created ? flags : flags & ~(O_CREAT | O_EXCL);
  if (inode.HandlesOpen() || inode.IsRegular() || inode.IsDirectory()) {
    file = TRY(inode.Open(path, without_create));
  } else if (inode.type() == S_IFIFO) {
    file = TRY(OpenFifo(path, without_create));
  } else if (inode.type() == S_IFCHR || inode.type() == S_IFBLK) {
    InodeStat stat = TRY(inode.GetStat());
    file = TRY(OpenDevice(path, without_create, inode.type(), stat.rdev));
  } else {
    file = TRY(inode.Open(path, without_create));
  }
  if ((flags & O_TRUNC) && !created) {
    TRY(TruncateInode(&context.creds, inode, 0));
    NotifyFile(path, IN_MODIFY);
  }
  NotifyFile(*file, IN_OPEN);
  return file;
}

Result<FileRef> OpenTmpFile(const WalkContext& context, std::string_view path, int flags, mode_t mode, uint32_t walk) {
  Path directory = TRY(Resolve(context, path, walk | kDirectory));
  TRY(CheckMountWritable(directory));
  TRY(MayCreate(context, *directory.dentry));
  CreateAttributes attributes = TRY(NewFileAttributes(context, *directory.inode(), mode & 07777, false));
  RefPtr<Inode> inode = TRY(directory.inode()->CreateUnnamed(attributes));
  inode->set_linkable(!(flags & O_EXCL));
  InodeStat stat = TRY(inode->GetStat());
  RefPtr<Dentry> dentry =
      DentryCache::Get().NewUnnamed(directory.dentry, "#" + std::to_string(stat.ino), std::move(inode));
  return DoOpen(context, {directory.mount, std::move(dentry)}, flags & ~(kTmpFileBit | O_DIRECTORY | O_EXCL), true);
}

// Creates the last component of the walk if it isn't there. Null: it exists, and `*child` is it.
Result<RefPtr<Dentry>> CreateLast(const WalkContext& context, Walker& walker, mode_t mode, RefPtr<Dentry>* child) {
  Dentry& directory = *walker.current().dentry;
  const LandlockPlace place(walker.current());
  MutexLock lock(directory.mu());
  *child = TRY(DentryCache::Get().LookupLocked(directory, walker.last_name()));
  if ((*child)->inode()) return RefPtr<Dentry>();
  if (walker.current().mount->IsReadOnly()) return Errno(EROFS);
  TRY(LandlockCheckCreate(place, S_IFREG));
  TRY(MayCreate(context, directory));
  CreateAttributes attributes = TRY(NewFileAttributes(context, *directory.inode(), mode & 07777, false));
  RefPtr<Inode> inode = TRY(directory.inode()->Create(walker.last_name(), attributes));
  return DentryCache::Get().AddLocked(directory, walker.last_name(), std::move(inode));
}

Result<FileRef> OpenCreate(const WalkContext& context, std::string_view path, int flags, mode_t mode, uint32_t walk) {
  Walker walker(context, walk);
  TRY(walker.Start(path));
  for (;;) {
    TRY(walker.WalkToLast());
    if (walker.last_kind() != Walker::Last::kNormal) {
      TRY(walker.StepLast());
      return (flags & O_EXCL) ? Errno(EEXIST) : Errno(EISDIR);
    }
    if (walker.trailing_slash()) return Errno(EISDIR);
    RefPtr<Dentry> child;
    if (RefPtr<Dentry> created = TRY(CreateLast(context, walker, mode, &child))) {
      DentryCache::Get().Shrink();
      NotifyDirectory(*walker.current().dentry, IN_CREATE, *created, walker.last_name());
      return DoOpen(context, {walker.current().mount, std::move(created)}, flags, true);
    }
    if (flags & O_EXCL) return Errno(EEXIST);
    if (TRY(walker.EnterLast(std::move(child), !(flags & O_NOFOLLOW)))) break;
  }
  Path place = TRY(walker.Finish());
  if (place.inode()->IsDirectory()) return Errno(EISDIR);
  TRY(CheckOpen(context, place, flags));
  return DoOpen(context, place, flags, false);
}

}  // namespace

Result<FileRef> Open(const WalkContext& context, std::string_view path, int flags, mode_t mode, uint32_t resolve) {
  if (flags & O_PATH) flags &= O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
  uint32_t walk = resolve & ~(kFollowFinal | kDirectory);
  if (!(flags & O_NOFOLLOW)) walk |= kFollowFinal;
  if (flags & O_DIRECTORY) walk |= kDirectory;
  if ((flags & (O_CREAT | O_TRUNC | kTmpFileBit)) && (resolve & kCached)) return Errno(EAGAIN);
  if (flags & kTmpFileBit) {
    if (!(flags & O_DIRECTORY) || (flags & O_CREAT) || (flags & O_ACCMODE) == O_RDONLY) return Errno(EINVAL);
    return OpenTmpFile(context, path, flags, mode, walk);
  }
  if (flags & O_CREAT) {
    if (flags & O_DIRECTORY) return Errno(EINVAL);
    return OpenCreate(context, path, flags, mode, walk);
  }
  Path place = TRY(Resolve(context, path, walk));
  if (!(flags & O_PATH)) TRY(CheckOpen(context, place, flags));
  return DoOpen(context, place, flags, false);
}

Result<FileRef> OpenPath(const WalkContext& context, const Path& path, int flags) {
  flags &= ~(O_CREAT | O_EXCL);
  if ((flags & O_DIRECTORY) && !path.inode()->IsDirectory()) return Errno(ENOTDIR);
  if (!(flags & O_PATH)) TRY(CheckOpen(context, path, flags));
  return DoOpen(context, path, flags, false);
}

}  // namespace sentry::vfs
