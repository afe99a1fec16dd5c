// SPDX-License-Identifier: Apache-2.0
#include "sentry/fs/host/host_file.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>

#include "sentry/fs/host/host_poller.h"
#include "sentry/vfs/special_files.h"

namespace sentry::fs {
namespace {

class HostInode final : public vfs::Inode {
 public:
  HostInode(RefPtr<vfs::Filesystem> filesystem, UniqueFd fd, mode_t type, uint64_t ino, const Credentials& creds)
      : Inode(std::move(filesystem), type), fd_(std::move(fd)), ino_(ino), uid_(creds.fsuid), gid_(creds.fsgid) {}

  int fd() const { return fd_.get(); }

  Result<vfs::InodeStat> GetStat() override {
    struct stat s;
    if (fstat(fd_.get(), &s) != 0) return Errno::Last();
    vfs::InodeStat out;
    out.ino = ino_;
    out.dev = filesystem().device();
    out.mode = s.st_mode;
    out.uid = uid_;
    out.gid = gid_;
    out.rdev = s.st_rdev;
    out.size = static_cast<uint64_t>(s.st_size);
    out.blocks = static_cast<uint64_t>(s.st_blocks);
    out.block_size = static_cast<uint32_t>(s.st_blksize);
    out.atime = {s.st_atim.tv_sec, static_cast<uint32_t>(s.st_atim.tv_nsec)};
    out.mtime = {s.st_mtim.tv_sec, static_cast<uint32_t>(s.st_mtim.tv_nsec)};
    out.ctime = {s.st_ctim.tv_sec, static_cast<uint32_t>(s.st_ctim.tv_nsec)};
    return out;
  }
  Result<void> SetStat(const vfs::SetStatRequest& request) override {
    if (request.size) {
      if (ftruncate(fd_.get(), static_cast<off_t>(*request.size)) != 0) return Errno::Last();
    }
    return OkResult();
  }
  Result<vfs::FileRef> Open(const vfs::Path& path, int flags) override;
  // /dev/stdin and /proc/self/fd/0 of a pipe or a device reopen the stream itself.
  bool HandlesOpen() const override { return true; }

 private:
  UniqueFd fd_;
  uint64_t ino_;
  uid_t uid_;
  gid_t gid_;
};

class HostFile final : public vfs::FileDescription {
 public:
  HostFile(vfs::Path path, int flags, RefPtr<HostInode> inode)
      : FileDescription(std::move(path), flags), host_inode_(std::move(inode)), fd_(dup_cloexec(host_inode_->fd())) {
    polled_ = fd_ && HostPoller::Get().Add(fd_.get(), queue_);
  }
  ~HostFile() override {
    if (polled_) HostPoller::Get().Remove(fd_.get());
  }

  Result<size_t> Read(IoTarget& target) override {
    if (polled_ && !(PollHostFd(fd_.get()) & (EPOLLIN | EPOLLHUP | EPOLLERR | EPOLLRDHUP))) return Errno(EAGAIN);
    return target.PutFromHost(fd_.get(), -1,
                              polled_ ? std::min<size_t>(target.remaining(), 65536) : target.remaining());
  }
  Result<size_t> Write(IoSource& source) override {
    if (!polled_) return source.TakeToHost(fd_.get(), -1, source.remaining());
    if (!(PollHostFd(fd_.get()) & (EPOLLOUT | EPOLLHUP | EPOLLERR))) return Errno(EAGAIN);
    // A pipe that polls writable has room for PIPE_BUF bytes, no more is promised.
    return source.TakeToHost(fd_.get(), -1, std::min<size_t>(source.remaining(), PIPE_BUF));
  }
  bool ContinuesPartialWrites() const override { return polled_; }
  Result<size_t> PRead(IoTarget& target, int64_t offset) override {
    if (!host_inode_->IsRegular()) return Errno(ESPIPE);
    return target.PutFromHost(fd_.get(), offset, target.remaining());
  }
  Result<size_t> PWrite(IoSource& source, int64_t offset, int64_t* end) override {
    if (!host_inode_->IsRegular()) return Errno(ESPIPE);
    size_t n = TRY(source.TakeToHost(fd_.get(), offset < 0 ? -1 : offset, source.remaining()));
    *end = offset < 0 ? lseek(fd_.get(), 0, SEEK_CUR) : offset + static_cast<int64_t>(n);
    return n;
  }
  Result<int64_t> Seek(int64_t offset, int whence) override {
    off_t at = lseek(fd_.get(), offset, whence);
    if (at < 0) return Errno::Last();
    return int64_t{at};
  }
  EventMask Poll() override { return polled_ ? PollHostFd(fd_.get()) : kEventIn | kEventOut; }
  WaitQueue* wait_queue() override { return polled_ ? &queue_ : nullptr; }
  Result<int64_t> Ioctl(unsigned request, uint64_t argument) override {
    int value = 0;
    if (request != FIONREAD) return Errno(ENOTTY);
    if (ioctl(fd_.get(), FIONREAD, &value) != 0) return Errno::Last();
    TRY(Caller::Current().CopyOut(UserAddr(argument), value));
    return 0;
  }
  std::string LinkName() const override {
    std::string ino = std::to_string(host_inode_->GetStat().ok() ? host_inode_->GetStat()->ino : 0);
    if (host_inode_->type() == S_IFIFO) return "pipe:[" + ino + "]";
    if (host_inode_->type() == S_IFSOCK) return "socket:[" + ino + "]";
    return "";
  }

 private:
  // Each description polls its own descriptor: epoll keys by fd.
  static UniqueFd dup_cloexec(int fd) { return UniqueFd(fcntl(fd, F_DUPFD_CLOEXEC, 0)); }

  RefPtr<HostInode> host_inode_;
  UniqueFd fd_;
  WaitQueue queue_;
  bool polled_ = false;
};

Result<vfs::FileRef> HostInode::Open(const vfs::Path& path, int flags) {
  int mode = fcntl(fd_.get(), F_GETFL);
  if (mode < 0) return Errno::Last();
  int want = flags & O_ACCMODE, have = mode & O_ACCMODE;
  if (have != O_RDWR && want != have) return Errno(EACCES);
  return vfs::FileRef(
      new HostFile(path, flags & ~(O_CREAT | O_EXCL | O_NOCTTY | O_TRUNC | O_CLOEXEC), RefPtr<HostInode>(this)));
}

class HostFilesystem final : public vfs::Filesystem {
 public:
  std::string_view TypeName() const override { return "hostfs"; }
  RefPtr<vfs::Inode> Root() override { return nullptr; }
  vfs::StatFs GetStatFs() override { return {.magic = 0x50495045}; }  // PIPEFS_MAGIC
  uint64_t NextInode() { return next_.fetch_add(1); }

 private:
  std::atomic<uint64_t> next_{1};
};

// As /proc/PID/fd shows it. The memory devices have the same place everywhere.
std::string NameOf(const struct stat& s, uint64_t ino) {
  if (S_ISCHR(s.st_mode) && major(s.st_rdev) == 1) {
    constexpr const char* kNames[] = {"", "", "", "null", "", "zero", "", "full", "random", "urandom"};
    const unsigned number = minor(s.st_rdev);
    if (number < std::size(kNames) && *kNames[number]) return std::string("/dev/") + kNames[number];
  }
  const char* kind = S_ISFIFO(s.st_mode) ? "pipe" : S_ISSOCK(s.st_mode) ? "socket" : "host";
  return std::string(kind) + ":[" + std::to_string(ino) + "]";
}

}  // namespace

Result<vfs::FileRef> NewHostFile(UniqueFd fd, const Credentials& creds) {
  static RefPtr<HostFilesystem>* filesystem = new RefPtr<HostFilesystem>(MakeRef<HostFilesystem>());
  struct stat s;
  if (fstat(fd.get(), &s) != 0) return Errno::Last();
  int flags = fcntl(fd.get(), F_GETFL);
  if (flags < 0) return Errno::Last();
  uint64_t ino = (*filesystem)->NextInode();
  auto inode = MakeRef<HostInode>(*filesystem, std::move(fd), s.st_mode & S_IFMT, ino, creds);
  vfs::Path path = vfs::NewAnonymousPath(NameOf(s, ino), inode);
  return vfs::FileRef(new HostFile(path, flags & (O_ACCMODE | O_APPEND), inode));
}

}  // namespace sentry::fs
