// SPDX-License-Identifier: Apache-2.0
// Filesystem (a mounted superblock) and Inode (a file as the filesystem sees it). The vfs walks paths, caches names in
// dentries, checks permissions and mount flags, and calls these with simple, already validated requests; the defaults
// answer the errno Linux gives for a filesystem without the operation, so a filesystem overrides only what it has.
//
// Locking: directory operations (Lookup, Create … Rename, and the victim's removal) are called with the mutex of the
// directory's dentry held (LockRank::kDirectory); everything else without vfs locks. Inodes protect their own state
// (LockRank::kInode).
#ifndef SENTRY_VFS_INODE_H_
#define SENTRY_VFS_INODE_H_

#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "sentry/common.h"
#include "sentry/kernel/core/credentials.h"
#include "sentry/kernel/core/io.h"

namespace sentry::vfs {

class Dentry;
class FileDescription;
class FileLocks;
class Filesystem;
class Inode;
class InotifyWatches;
class Mount;
struct Path;

struct Timestamp {
  int64_t seconds = 0;
  uint32_t nanoseconds = 0;
  static Timestamp Now();  // CLOCK_REALTIME
  friend auto operator<=>(const Timestamp&, const Timestamp&) = default;
};

struct InodeStat {
  uint64_t ino = 0;
  dev_t dev = 0;    // glibc encoding (makedev)
  mode_t mode = 0;  // type and permissions
  uint32_t nlink = 1;
  uid_t uid = 0;
  gid_t gid = 0;
  dev_t rdev = 0;
  uint64_t size = 0;
  uint64_t blocks = 0;  // of 512 bytes
  uint32_t block_size = 4096;
  Timestamp atime, mtime, ctime, btime;
  bool has_btime = false;
};

struct SetStatRequest {
  std::optional<mode_t> mode;  // permission bits only
  std::optional<uid_t> uid;
  std::optional<gid_t> gid;
  std::optional<uint64_t> size;
  std::optional<Timestamp> atime, mtime;  // resolved: never UTIME_NOW or UTIME_OMIT
};

// Owner and mode of a new file. The mode has the umask applied; the vfs handles setgid directories before the call.
struct CreateAttributes {
  mode_t mode = 0;  // permission bits
  uid_t uid = 0;
  gid_t gid = 0;
};

struct StatFs {
  uint64_t magic = 0;
  uint64_t block_size = 4096, blocks = 0, blocks_free = 0, blocks_available = 0, files = 0, files_free = 0;
  uint64_t name_max = 255;
};

class Filesystem : public RefCounted<Filesystem> {
 public:
  virtual ~Filesystem() = default;
  // "tmpfs", "proc", "overlay"…: /proc/mounts and /proc/filesystems.
  virtual std::string_view TypeName() const = 0;
  virtual RefPtr<Inode> Root() = 0;
  virtual StatFs GetStatFs() = 0;
  // Filesystem part of the options in /proc/mounts, e.g. "size=65536k,mode=755"; no leading comma.
  virtual std::string MountOptions() const { return ""; }
  // What /proc/PID/mountinfo shows the calling task as the root of a mount of `path` in this filesystem.
  virtual std::string MountRoot(std::string path) const { return path; }
  virtual Result<void> Remount(std::string_view options) { return OkResult(); }
  virtual Result<void> SyncFs() { return OkResult(); }
  // The last mount is gone and the dentry tree freed: what keeps contents alive lets go of them (tmpfs drops its root).
  // Called without locks. A stacked filesystem passes it on to the layers that it owns.
  virtual void OnLastUnmount() {}
  bool IsMounted() const;
  // The user namespace it was mounted in; null: the root one. Ids without a mapping there can't be stored; devices
  // don't work and set-id bits mean nothing outside it. Set before the first use.
  const UserNamespace* user_ns() const { return user_ns_.get(); }
  void set_user_ns(RefPtr<UserNamespace> ns) { user_ns_ = ns && ns->IsRoot() ? nullptr : std::move(ns); }
  // The whole filesystem, not one mount of it (SB_RDONLY).
  bool IsReadOnly() const { return read_only_.load(std::memory_order_relaxed); }
  void set_read_only(bool value) { read_only_.store(value, std::memory_order_relaxed); }
  // How many filesystems are stacked in this one: 0 for one that is not over others.
  int stack_depth() const { return stack_depth_; }
  // Of the locks of its directories' dentries.
  LockRank directory_rank() const { return directory_rank_; }
  // st_dev: anonymous device numbers 0:N.
  dev_t device() const { return device_; }

 private:
  friend class Dentry;
  friend class Mount;
  friend class DentryCache;
  mutable Mutex root_mu_{LockRank::kLeaf};
  Dentry* root_dentry_ ABSL_GUARDED_BY(root_mu_) = nullptr;  // borrowed; ~Dentry clears it
  std::atomic<int> mounts_{0};

 protected:
  Filesystem();
  void set_device(dev_t device) { device_ = device; }
  // Before the first use. A filesystem that locks other filesystems' directories under its own has a rank below theirs.
  void SetStacking(int depth, LockRank directory_rank) {
    stack_depth_ = depth;
    directory_rank_ = directory_rank;
  }

 private:
  dev_t device_;
  int stack_depth_ = 0;
  LockRank directory_rank_ = LockRank::kDirectory;
  RefPtr<UserNamespace> user_ns_;
  std::atomic<bool> read_only_{false};
};

struct DirEntry {
  std::string_view name;
  uint64_t ino;
  uint8_t type;         // DT_*
  int64_t next_offset;  // lseek cookie of the entry after this one
};

enum PermissionMask : int { kMayExec = 1, kMayWrite = 2, kMayRead = 4 };

class Inode : public RefCounted<Inode> {
 public:
  virtual ~Inode();

  Filesystem& filesystem() const { return *filesystem_; }
  const RefPtr<Filesystem>& filesystem_ref() const { return filesystem_; }
  // S_IFMT part; never changes.
  mode_t type() const { return type_; }
  bool IsDirectory() const { return type_ == S_IFDIR; }
  bool IsRegular() const { return type_ == S_IFREG; }
  bool IsSymlink() const { return type_ == S_IFLNK; }

  virtual Result<InodeStat> GetStat() = 0;
  // Already checked for permission by vfs::SetStat (setattr_prepare).
  virtual Result<void> SetStat(const SetStatRequest& request) { return Errno(EPERM); }
  // Generic rwx check (owner, group, other, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH) over GetStat.
  virtual Result<void> CheckPermission(const Credentials& creds, int mask);

  // Directories. Names are single components, never "." or "..", at most 255 bytes.
  virtual Result<RefPtr<Inode>> Lookup(std::string_view name) { return Errno(ENOENT); }
  virtual Result<RefPtr<Inode>> Create(std::string_view name, const CreateAttributes& attributes) {
    return Errno(EACCES);
  }
  virtual Result<RefPtr<Inode>> Mkdir(std::string_view name, const CreateAttributes& attributes) {
    return Errno(EPERM);
  }
  // FIFO, socket, character and block device; mode carries the type.
  virtual Result<RefPtr<Inode>> Mknod(std::string_view name, mode_t type, dev_t rdev,
                                      const CreateAttributes& attributes) {
    return Errno(EPERM);
  }
  virtual Result<RefPtr<Inode>> Symlink(std::string_view name, std::string_view target,
                                        const CreateAttributes& attributes) {
    return Errno(EPERM);
  }
  virtual Result<void> Link(std::string_view name, Inode& target) { return Errno(EPERM); }
  // `victim` is the inode of that name; not a directory.
  virtual Result<void> Unlink(std::string_view name, Inode& victim) { return Errno(EPERM); }
  virtual Result<void> Rmdir(std::string_view name, Inode& victim) { return Errno(EPERM); }
  // Same filesystem. `replaced` is null when the new name is free. Flags: RENAME_NOREPLACE (checked by the vfs),
  // RENAME_EXCHANGE, RENAME_WHITEOUT.
  virtual Result<void> Rename(std::string_view old_name, Inode& moved, Inode& new_directory, std::string_view new_name,
                              Inode* replaced, unsigned flags) {
    return Errno(EPERM);
  }
  // An unnamed regular file of this directory's filesystem (O_TMPFILE).
  virtual Result<RefPtr<Inode>> CreateUnnamed(const CreateAttributes& attributes) { return Errno(EOPNOTSUPP); }

  virtual Result<std::string> ReadLink() { return Errno(EINVAL); }
  // proc's magic links jump to an object instead of a path. Empty optional: an ordinary link.
  virtual Result<std::optional<Path>> FollowMagicLink();

  // Opens regular files, directories and whatever the filesystem implements itself. FIFOs, sockets (ENXIO) and devices
  // are opened by the vfs (see vfs/special_files.h) unless HandlesOpen(). `flags` are the open(2) flags; permissions
  // were checked; O_TRUNC is done by the vfs through SetStat after this.
  virtual Result<RefPtr<FileDescription>> Open(const Path& path, int flags);  // default ENXIO
  virtual bool HandlesOpen() const { return false; }

  virtual Result<std::string> GetXattr(std::string_view name) { return Errno(EOPNOTSUPP); }
  virtual Result<void> SetXattr(std::string_view name, std::string_view value, int flags) { return Errno(EOPNOTSUPP); }
  virtual Result<std::vector<std::string>> ListXattr() { return std::vector<std::string>(); }
  virtual Result<void> RemoveXattr(std::string_view name) { return Errno(EOPNOTSUPP); }

  // fcntl(2) F_GET_SEALS, F_ADD_SEALS. The access mode was checked.
  virtual Result<int> GetSeals() { return Errno(EINVAL); }
  virtual Result<void> AddSeals(int seals) { return Errno(EINVAL); }

  // Whether a cached name of this directory is still right. Default yes: the sentry is the only writer.
  virtual bool Revalidate(std::string_view name, Inode* child) { return true; }
  // Whether found names and misses may be cached at all (proc's pid directories say no).
  virtual bool MayCacheNames() const { return true; }

  // Lazily made per-inode companions; valid as long as the inode.
  FileLocks& locks();
  FileLocks* locks_if_any() const { return locks_.load(std::memory_order_acquire); }
  // Some were taken once: closing a descriptor has POSIX locks to release.
  bool HasLocks() const { return locks_.load(std::memory_order_acquire) != nullptr; }
  InotifyWatches& inotify_watches();
  bool HasInotifyWatches() const { return watches_.load(std::memory_order_acquire) != nullptr; }
  // Bound AF_UNIX socket (type S_IFSOCK), FIFO pipe: an object the special-file layer keeps here. Guarded by its own
  // lock.
  RefPtr<class SpecialObject> special() const;
  void set_special(RefPtr<SpecialObject> object);

  // Open file descriptions (O_PATH not), for the time of IN_DELETE_SELF and for leases.
  void AddOpen() { opens_.fetch_add(1, std::memory_order_acq_rel); }
  int open_count() const { return opens_.load(std::memory_order_acquire); }
  // Call after the last name went (nlink 0) or a file was closed; sends IN_DELETE_SELF once, when nothing has the inode
  // any more.
  void MarkDeleted();
  void DropOpen();
  // linkat(2) may give a file without names a first one (O_TMPFILE without O_EXCL).
  bool IsLinkable() const { return linkable_.load(std::memory_order_relaxed); }
  void set_linkable(bool linkable) { linkable_.store(linkable, std::memory_order_relaxed); }

  // ETXTBSY accounting: > 0 writers, < 0 executing (deny_write_access).
  Result<void> GetWriteAccess();
  void PutWriteAccess();
  Result<void> DenyWriteAccess();
  void AllowWriteAccess();

 protected:
  Inode(RefPtr<Filesystem> filesystem, mode_t type);

 private:
  RefPtr<Filesystem> filesystem_;
  mode_t type_;
  std::atomic<FileLocks*> locks_{nullptr};
  std::atomic<InotifyWatches*> watches_{nullptr};
  mutable Mutex special_mu_{LockRank::kLeaf};
  RefPtr<SpecialObject> special_ ABSL_GUARDED_BY(special_mu_);
  std::atomic<int> write_access_{0};
  std::atomic<int> opens_{0};
  std::atomic<bool> deleted_{false};
  std::atomic<bool> linkable_{false};
};

class SpecialObject : public RefCounted<SpecialObject> {
 public:
  virtual ~SpecialObject() = default;
};

}  // namespace sentry::vfs

#endif  // SENTRY_VFS_INODE_H_
