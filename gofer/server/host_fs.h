// SPDX-License-Identifier: Apache-2.0
// The host file calls of the gofer, all of them. A path is either one component below a directory fd, never followed,
// or "N" below /proc/self/fd: the way to reopen what an O_PATH fd names, whatever its name has become.
#ifndef GOFER_SERVER_HOST_FS_H_
#define GOFER_SERVER_HOST_FS_H_

#include <sys/statfs.h>

#include <cstdint>
#include <span>
#include <string>

#include "base/result.h"
#include "base/unique_fd.h"
#include "gofer/protocol/types.h"

namespace gofer {

class HostFs {
 public:
  // Opens /proc/self/fd: call before the process is pivoted away from /proc, and in the process that will use it.
  // ENOENT or ENOTDIR when there is no procfs.
  static base::Result<HostFs> Create();
  // The fd that stands for /proc/self/fd, for the seccomp filter.
  int proc_fd() const { return proc_fd_.get(); }

  // Gives the calling thread a working directory (/proc/self/fd, which the xattr calls need: they take no directory
  // fd) and a umask (0) of its own. Every thread that uses this object calls it once.
  base::Result<void> EnterThread() const;
  // The calling thread stays on that CPU from now on, if it may run there.
  void RunOnCpu(int cpu) const;

  // All take `dir`/`fd` = O_PATH fds, and `name` = one checked component.
  base::Result<Attr> Stat(int fd) const;
  base::Result<Attr> StatAt(int dir, const std::string& name) const;
  // O_PATH; the last component is not followed. `cross` false: EXDEV at a mount point. `directory`: ENOTDIR for others.
  base::Result<base::UniqueFd> OpenPathAt(int dir, const std::string& name, bool directory, bool cross) const;
  base::Result<base::UniqueFd> Duplicate(int fd) const;
  base::Result<base::UniqueFd> Reopen(int fd, int flags) const;
  base::Result<base::UniqueFd> CreateAt(int dir, const std::string& name, int flags, uint32_t mode) const;

  base::Result<void> Mkdir(int dir, const std::string& name, uint32_t mode) const;
  base::Result<void> Symlink(const std::string& target, int dir, const std::string& name) const;
  base::Result<void> Mknod(int dir, const std::string& name, uint32_t mode, uint32_t major, uint32_t minor) const;
  base::Result<void> Link(int fd, int dir, const std::string& name) const;
  base::Result<void> Unlink(int dir, const std::string& name, bool directory) const;
  base::Result<void> Rename(int old_dir, const std::string& old_name, int new_dir, const std::string& new_name,
                            uint32_t flags) const;
  base::Result<size_t> ReadLink(int fd, std::span<uint8_t> buffer) const;

  base::Result<void> Chown(int fd, uint32_t uid, uint32_t gid) const;
  base::Result<void> Chmod(int fd, uint32_t mode) const;
  base::Result<void> Truncate(int fd, uint64_t size) const;
  // In utimensat(2)'s coding of tv_nsec (UTIME_NOW, UTIME_OMIT).
  base::Result<void> SetTimes(int fd, const timespec times[2]) const;

  base::Result<gofer::StatFs> StatFsOf(int fd) const;
  base::Result<void> SyncFs(int fd) const;
  base::Result<size_t> GetXattr(int fd, const std::string& name, std::span<uint8_t> buffer) const;
  base::Result<void> SetXattr(int fd, const std::string& name, std::string_view value, int flags) const;
  base::Result<size_t> ListXattr(int fd, std::span<uint8_t> buffer) const;
  base::Result<void> RemoveXattr(int fd, const std::string& name) const;

  // `fd` = a directory open for reading.
  base::Result<void> Seek(int fd, uint64_t cookie) const;
  base::Result<size_t> ReadDirents(int fd, std::span<uint8_t> buffer) const;

  // O_PATH of a host path, followed: for roots, by trusted callers only.
  static base::Result<base::UniqueFd> OpenRoot(const std::string& path);
  // Raises RLIMIT_NOFILE's soft limit to the hard one and returns it.
  static uint64_t RaiseFdLimit();

 private:
  base::UniqueFd proc_fd_;
  bool has_openat2_ = false;
};

}  // namespace gofer

#endif  // GOFER_SERVER_HOST_FS_H_
