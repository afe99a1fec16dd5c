// SPDX-License-Identifier: Apache-2.0
// Open files of the gofer filesystem: regular files over donated host fds, directories over bulk reads, and what mmap
// maps.
#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>

#include "sentry/fs/gofer/gofer_inode.h"
#include "sentry/vfs/vfs.h"

namespace sentry::fs {
namespace {

class GoferMapped final : public mm::MappedObject {
 public:
  explicit GoferMapped(vfs::FileRef file, RefPtr<GoferInode> inode, bool write)
      : file_(std::move(file)), inode_(std::move(inode)), write_(write) {
    inode_->AddHandleUser();
  }
  ~GoferMapped() override { inode_->DropHandleUser(); }

  Result<mm::Backing> GetBacking(uint64_t offset, uint64_t length, bool) override {
    uint64_t end = PageUp(TRY(inode_->Size()));
    if (offset >= end) return Errno(EFAULT);
    return mm::Backing{.fd = TRY(inode_->Handle(write_)),
                       .offset = offset,
                       .length = std::min(length, end - offset),
                       .writable = write_};
  }
  std::string Name() const override { return vfs::PathNameFromTop(file_->path()); }
  dev_t Device() const override { return inode_->filesystem().device(); }
  uint64_t InodeNumber() const override { return inode_->first_attr().ino; }
  Result<void> Sync(uint64_t, uint64_t) override { return file_->Sync(true); }
  const void* Identity() const override { return inode_.get(); }
  mm::ReverseMap& reverse_map() override { return inode_->reverse_map(); }

 private:
  vfs::FileRef file_;
  RefPtr<GoferInode> inode_;
  bool write_;
};

class GoferFile final : public vfs::FileDescription {
 public:
  GoferFile(vfs::Path path, int flags, RefPtr<GoferInode> inode)
      : FileDescription(std::move(path), flags), inode_(std::move(inode)) {
    inode_->AddHandleUser();
  }
  ~GoferFile() override { inode_->DropHandleUser(); }

  Result<size_t> PRead(IoTarget& target, int64_t offset) override {
    return target.PutFromHost(TRY(inode_->Handle(false)), offset, target.remaining());
  }
  Result<size_t> PWrite(IoSource& source, int64_t offset, int64_t* end) override {
    int fd = TRY(inode_->Handle(true));
    if (offset < 0) offset = static_cast<int64_t>(TRY(inode_->Size()));
    size_t n = TRY(source.TakeToHost(fd, offset, source.remaining()));
    *end = offset + static_cast<int64_t>(n);
    inode_->NoteWrite(*end);
    return n;
  }
  Result<int64_t> Seek(int64_t offset, int whence) override {
    if (whence != SEEK_DATA && whence != SEEK_HOLE) return FileDescription::Seek(offset, whence);
    off_t at = lseek(TRY(inode_->Handle(IsWritable())), offset, whence);
    if (at < 0) return Errno::Last();
    MutexLock lock(position_mu());
    set_position(at);
    return int64_t{at};
  }
  Result<void> ConfigureMmap(mm::MmapRequest& request) override {
    // A private mapping needs only reading; the writable handle serves shared mappings of files opened for writing.
    bool write = !request.is_private && IsWritable();
    TRY(inode_->Handle(write));
    request.object = MakeRef<GoferMapped>(vfs::FileRef(this), inode_, write);
    return OkResult();
  }
  Result<void> Sync(bool data_only) override {
    int fd = TRY(inode_->Handle(IsWritable()));
    if ((data_only ? fdatasync(fd) : fsync(fd)) != 0) return Errno::Last();
    return OkResult();
  }
  Result<void> Allocate(int mode, uint64_t offset, uint64_t length) override {
    if (fallocate(TRY(inode_->Handle(true)), mode, static_cast<off_t>(offset), static_cast<off_t>(length)) != 0)
      return Errno::Last();
    inode_->Invalidate();
    return OkResult();
  }

 private:
  RefPtr<GoferInode> inode_;
};

// Reads the whole directory when it is first read and at each rewind: a consistent view whatever happens meanwhile.
class GoferDirectory final : public vfs::FileDescription {
 public:
  GoferDirectory(vfs::Path path, int flags, RefPtr<GoferInode> inode)
      : FileDescription(std::move(path), flags), inode_(std::move(inode)) {}

  Result<void> IterateDirectory(const DirSink& sink) override {
    MutexLock lock(position_mu());
    if (position() == 0 || !loaded_) {
      entries_ = TRY(inode_->fs().client().ReadWholeDir(inode_->node()));
      loaded_ = true;
    }
    for (;;) {
      uint64_t at = static_cast<uint64_t>(position());
      int64_t next = static_cast<int64_t>(at) + 1;
      bool taken;
      if (at < 2) {
        taken = sink({at == 0 ? "." : "..", ParentOrSelf(at == 1), DT_DIR, next});
      } else if (at - 2 < entries_.size()) {
        const ::gofer::DirEntry& e = entries_[at - 2];
        taken = sink({e.name, e.ino, e.type, next});
      } else {
        return OkResult();
      }
      if (!taken) return OkResult();
      set_position(next);
    }
  }
  Result<int64_t> Seek(int64_t offset, int whence) override {
    MutexLock lock(position_mu());
    int64_t at = whence == SEEK_SET ? offset : whence == SEEK_CUR ? position() + offset : -1;
    if (at < 0) return Errno(EINVAL);
    set_position(at);
    return at;
  }
  Result<void> Sync(bool) override { return inode_->fs().SyncFs(); }

 private:
  uint64_t ParentOrSelf(bool parent) const {
    if (parent) {
      RefPtr<vfs::Dentry> up = path().dentry->parent();
      if (up && up->inode()) {
        auto stat = up->inode()->GetStat();
        if (stat.ok()) return stat->ino;
      }
    }
    return inode_->first_attr().ino;
  }

  RefPtr<GoferInode> inode_;
  std::vector<::gofer::DirEntry> entries_;
  bool loaded_ = false;
};

}  // namespace

Result<RefPtr<vfs::FileDescription>> GoferInode::Open(const vfs::Path& path, int flags) {
  RefPtr<GoferInode> self(this);
  if (IsDirectory()) return vfs::FileRef(new GoferDirectory(path, flags, self));
  if (!IsRegular()) return Errno(ENXIO);
  auto file = MakeRef<GoferFile>(path, flags, self);
  // The host's own refusal (EACCES, ETXTBSY, EROFS) shows at open, not at the first read.
  TRY(Handle((flags & O_ACCMODE) != O_RDONLY));
  return vfs::FileRef(file);
}

}  // namespace sentry::fs
