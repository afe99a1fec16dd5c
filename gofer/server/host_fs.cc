// SPDX-License-Identifier: Apache-2.0
#include "gofer/server/host_fs.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdio>

namespace gofer {

using base::Errno;
using base::OkResult;
using base::Result;
using base::UniqueFd;

namespace {

// "N", relative to /proc/self/fd.
struct FdName {
  explicit FdName(int fd) { *std::to_chars(text, text + sizeof text - 1, fd).ptr = '\0'; }
  char text[16];
};

Result<void> Check(int result) {
  if (result < 0) return Errno::Last();
  return OkResult();
}

Result<size_t> CheckSize(ssize_t result) {
  if (result < 0) return Errno::Last();
  return static_cast<size_t>(result);
}

Result<UniqueFd> CheckFd(int fd) {
  if (fd < 0) return Errno::Last();
  return UniqueFd(fd);
}

TimeStamp FromStatx(const statx_timestamp& t) { return {.sec = t.tv_sec, .nsec = t.tv_nsec}; }

constexpr uint32_t kStatxMask = STATX_BASIC_STATS | STATX_BTIME | STATX_MNT_ID;

Result<Attr> StatCommon(int dir, const char* name, int flags) {
  struct statx s;
  if (statx(dir, name, flags | AT_NO_AUTOMOUNT, kStatxMask, &s) < 0) return Errno::Last();
  return Attr{
      .mask = s.stx_mask,
      .mode = s.stx_mode,
      .uid = s.stx_uid,
      .gid = s.stx_gid,
      .nlink = s.stx_nlink,
      .blksize = s.stx_blksize,
      .size = s.stx_size,
      .blocks = s.stx_blocks,
      .ino = s.stx_ino,
      .mnt_id = (s.stx_mask & STATX_MNT_ID) ? s.stx_mnt_id : 0,
      .attributes = s.stx_attributes,
      .dev_major = s.stx_dev_major,
      .dev_minor = s.stx_dev_minor,
      .rdev_major = s.stx_rdev_major,
      .rdev_minor = s.stx_rdev_minor,
      .atime = FromStatx(s.stx_atime),
      .mtime = FromStatx(s.stx_mtime),
      .ctime = FromStatx(s.stx_ctime),
      .btime = FromStatx(s.stx_btime),
  };
}

int OpenAt2(int dir, const char* name, uint64_t flags, uint64_t resolve) {
  open_how how{.flags = flags, .mode = 0, .resolve = resolve};
  return static_cast<int>(syscall(SYS_openat2, dir, name, &how, sizeof how));
}

}  // namespace

Result<HostFs> HostFs::Create() {
  HostFs fs;
  fs.proc_fd_ = TRY(CheckFd(open("/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC)));
  // Linux 5.6. Some older container filters answer EPERM.
  UniqueFd probe(OpenAt2(fs.proc_fd_.get(), ".", O_PATH | O_CLOEXEC, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS));
  fs.has_openat2_ = probe.ok();
  return fs;
}

Result<void> HostFs::EnterThread() const {
  TRY(Check(unshare(CLONE_FS)));
  TRY(Check(fchdir(proc_fd_.get())));
  umask(0);
  return OkResult();
}

void HostFs::RunOnCpu(int cpu) const {
  constexpr int kMaxCpus = 4096;
  if (cpu < 0 || cpu >= kMaxCpus) return;
  cpu_set_t set[kMaxCpus / CPU_SETSIZE];
  CPU_ZERO_S(sizeof set, set);
  CPU_SET_S(static_cast<size_t>(cpu), sizeof set, set);
  // EINVAL: not a CPU of this process's cpuset. Then the host's choice stands.
  (void)sched_setaffinity(0, sizeof set, set);
}

Result<Attr> HostFs::Stat(int fd) const { return StatCommon(fd, "", AT_EMPTY_PATH); }

Result<Attr> HostFs::StatAt(int dir, const std::string& name) const {
  return StatCommon(dir, name.c_str(), AT_SYMLINK_NOFOLLOW);
}

Result<UniqueFd> HostFs::OpenPathAt(int dir, const std::string& name, bool directory, bool cross) const {
  int flags = O_PATH | O_NOFOLLOW | O_CLOEXEC | (directory ? O_DIRECTORY : 0);
  if (!has_openat2_) return CheckFd(openat(dir, name.c_str(), flags));
  // O_NOFOLLOW gives an fd of a symbolic link itself; RESOLVE_NO_SYMLINKS allows that with O_PATH.
  uint64_t resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | (cross ? 0 : RESOLVE_NO_XDEV);
  return CheckFd(OpenAt2(dir, name.c_str(), flags, resolve));
}

Result<UniqueFd> HostFs::Duplicate(int fd) const { return CheckFd(fcntl(fd, F_DUPFD_CLOEXEC, 0)); }

Result<UniqueFd> HostFs::Reopen(int fd, int flags) const {
  return CheckFd(openat(proc_fd_.get(), FdName(fd).text, flags | O_CLOEXEC | O_NOCTTY));
}

Result<UniqueFd> HostFs::CreateAt(int dir, const std::string& name, int flags, uint32_t mode) const {
  return CheckFd(openat(dir, name.c_str(), flags | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY, mode));
}

Result<void> HostFs::Mkdir(int dir, const std::string& name, uint32_t mode) const {
  return Check(mkdirat(dir, name.c_str(), mode));
}

Result<void> HostFs::Symlink(const std::string& target, int dir, const std::string& name) const {
  return Check(symlinkat(target.c_str(), dir, name.c_str()));
}

Result<void> HostFs::Mknod(int dir, const std::string& name, uint32_t mode, uint32_t major, uint32_t minor) const {
  return Check(mknodat(dir, name.c_str(), mode, makedev(major, minor)));
}

Result<void> HostFs::Link(int fd, int dir, const std::string& name) const {
  // AT_EMPTY_PATH would need CAP_DAC_READ_SEARCH in the initial user namespace.
  return Check(linkat(proc_fd_.get(), FdName(fd).text, dir, name.c_str(), AT_SYMLINK_FOLLOW));
}

Result<void> HostFs::Unlink(int dir, const std::string& name, bool directory) const {
  return Check(unlinkat(dir, name.c_str(), directory ? AT_REMOVEDIR : 0));
}

Result<void> HostFs::Rename(int old_dir, const std::string& old_name, int new_dir, const std::string& new_name,
                            uint32_t flags) const {
  // Not glibc's renameat2: that one calls renameat(2) for flags 0, one call more to allow.
  return Check(syscall(SYS_renameat2, old_dir, old_name.c_str(), new_dir, new_name.c_str(), flags) < 0 ? -1 : 0);
}

Result<size_t> HostFs::ReadLink(int fd, std::span<uint8_t> buffer) const {
  return CheckSize(readlinkat(fd, "", reinterpret_cast<char*>(buffer.data()), buffer.size()));
}

Result<void> HostFs::Chown(int fd, uint32_t uid, uint32_t gid) const {
  return Check(fchownat(fd, "", uid, gid, AT_EMPTY_PATH));
}

Result<void> HostFs::Chmod(int fd, uint32_t mode) const {
  return Check(fchmodat(proc_fd_.get(), FdName(fd).text, mode, 0));
}

Result<void> HostFs::Truncate(int fd, uint64_t size) const {
  UniqueFd file = TRY(Reopen(fd, O_WRONLY | O_NONBLOCK));
  return Check(ftruncate(file.get(), static_cast<off_t>(size)));
}

Result<void> HostFs::SetTimes(int fd, const timespec times[2]) const {
  return Check(utimensat(proc_fd_.get(), FdName(fd).text, times, 0));
}

Result<gofer::StatFs> HostFs::StatFsOf(int fd) const {
  struct statfs s;
  if (fstatfs(fd, &s) < 0) return Errno::Last();
  return gofer::StatFs{
      .type = static_cast<uint64_t>(s.f_type),
      .bsize = static_cast<uint64_t>(s.f_bsize),
      .blocks = s.f_blocks,
      .bfree = s.f_bfree,
      .bavail = s.f_bavail,
      .files = s.f_files,
      .ffree = s.f_ffree,
      .namelen = static_cast<uint64_t>(s.f_namelen),
      .frsize = static_cast<uint64_t>(s.f_frsize),
      .flags = static_cast<uint64_t>(s.f_flags),
  };
}

Result<void> HostFs::SyncFs(int fd) const {
  UniqueFd file = TRY(Reopen(fd, O_RDONLY | O_NONBLOCK));
  return Check(syncfs(file.get()));
}

Result<size_t> HostFs::GetXattr(int fd, const std::string& name, std::span<uint8_t> buffer) const {
  return CheckSize(getxattr(FdName(fd).text, name.c_str(), buffer.data(), buffer.size()));
}

Result<void> HostFs::SetXattr(int fd, const std::string& name, std::string_view value, int flags) const {
  return Check(setxattr(FdName(fd).text, name.c_str(), value.data(), value.size(), flags));
}

Result<size_t> HostFs::ListXattr(int fd, std::span<uint8_t> buffer) const {
  return CheckSize(listxattr(FdName(fd).text, reinterpret_cast<char*>(buffer.data()), buffer.size()));
}

Result<void> HostFs::RemoveXattr(int fd, const std::string& name) const {
  return Check(removexattr(FdName(fd).text, name.c_str()));
}

Result<void> HostFs::Seek(int fd, uint64_t cookie) const {
  return Check(lseek(fd, static_cast<off_t>(cookie), SEEK_SET) < 0 ? -1 : 0);
}

Result<size_t> HostFs::ReadDirents(int fd, std::span<uint8_t> buffer) const {
  return CheckSize(syscall(SYS_getdents64, fd, buffer.data(), buffer.size()));
}

Result<UniqueFd> HostFs::OpenRoot(const std::string& path) { return CheckFd(open(path.c_str(), O_PATH | O_CLOEXEC)); }

uint64_t HostFs::RaiseFdLimit() {
  rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) < 0) return 1024;
  rlimit raised{.rlim_cur = limit.rlim_max, .rlim_max = limit.rlim_max};
  if (setrlimit(RLIMIT_NOFILE, &raised) == 0) return raised.rlim_cur;
  return limit.rlim_cur;
}

}  // namespace gofer
