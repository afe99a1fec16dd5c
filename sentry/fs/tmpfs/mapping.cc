// SPDX-License-Identifier: Apache-2.0
// Open files and mappings of regular files, and seals (fcntl(2) F_ADD_SEALS).
#include <fcntl.h>

#include <algorithm>

#include "sentry/fs/tmpfs/regular_file.h"
#include "sentry/vfs/vfs.h"

namespace sentry::tmpfs {
namespace {

// Holes that one fault may fill around the touched page: the address space asks for more than it must have.
constexpr uint64_t kFaultFill = 64 << 10;
constexpr int kAllSeals =
    F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_FUTURE_WRITE | 0x20;  // F_SEAL_EXEC

class TmpfsFile final : public vfs::FileDescription {
 public:
  // `path` may lead to an inode of a filesystem stacked above (overlay).
  TmpfsFile(vfs::Path path, int flags, RefPtr<TmpfsRegularFile> file)
      : FileDescription(std::move(path), flags), file_(std::move(file)) {}
  TmpfsRegularFile& file() { return *file_; }

  Result<size_t> PRead(IoTarget& target, int64_t offset) override {
    size_t n = TRY(file().Read(target, offset));
    file().TouchAtime(path(), flags());
    return n;
  }
  Result<size_t> PWrite(IoSource& source, int64_t offset, int64_t* end) override {
    return file().Write(source, offset, end);
  }
  Result<int64_t> Seek(int64_t offset, int whence) override {
    if (whence != SEEK_DATA && whence != SEEK_HOLE) return FileDescription::Seek(offset, whence);
    MutexLock lock(position_mu());
    int64_t at = TRY(file().SeekData(offset, whence == SEEK_HOLE));
    set_position(at);
    return at;
  }
  Result<void> Allocate(int mode, uint64_t offset, uint64_t length) override {
    return file().Allocate(mode, offset, length);
  }
  Result<void> ConfigureMmap(mm::MmapRequest& request) override { return file().Mmap(request, path(), IsWritable()); }

 private:
  RefPtr<TmpfsRegularFile> file_;
};

// One per mmap(2) call; keeps the place for the name.
class TmpfsMapping final : public mm::MappedObject {
 public:
  TmpfsMapping(vfs::Path path, RefPtr<TmpfsRegularFile> file, bool may_write)
      : path_(std::move(path)), file_(std::move(file)), may_write_(may_write) {
    if (!may_write_) return;
    file_->AddWritableMapping(1);
    // As the open file does: mmap(2) outlives its descriptor, and what it writes needs a writable mount.
    holds_mount_write_ = path_.mount->GetWrite().ok();
  }
  ~TmpfsMapping() override {
    if (may_write_) file().AddWritableMapping(-1);
    if (holds_mount_write_) path_.mount->PutWrite();
  }
  Result<mm::Backing> GetBacking(uint64_t offset, uint64_t length, bool write) override {
    return file().GetBacking(offset, length);
  }
  std::string Name() const override { return vfs::PathNameFromTop(path_); }
  dev_t Device() const override { return file().filesystem().device(); }
  uint64_t InodeNumber() const override { return file().ino(); }
  Result<void> PunchHole(uint64_t offset, uint64_t length) override { return file().PunchHole(offset, length); }
  const void* Identity() const override { return file_.get(); }
  mm::ReverseMap& reverse_map() override { return file().reverse_map(); }

 private:
  TmpfsRegularFile& file() const { return *file_; }
  const vfs::Path path_;
  const RefPtr<TmpfsRegularFile> file_;
  const bool may_write_;
  bool holds_mount_write_ = false;
};

}  // namespace

Result<vfs::FileRef> TmpfsRegularFile::Open(const vfs::Path& path, int flags) {
  return vfs::FileRef(MakeRef<TmpfsFile>(path, flags, RefPtr<TmpfsRegularFile>(this)));
}

Result<void> TmpfsRegularFile::Mmap(mm::MmapRequest& request, const vfs::Path& path, bool writable) {
  InodeLock lock(mu_);
  bool may_write = !request.is_private && writable;
  if (!request.is_private && (seals_ & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE))) {
    if (request.protection.write) return Errno(EPERM);
    may_write = false;
  }
  if (!request.is_private && !may_write) request.max_protection.write = false;
  request.object = MakeRef<TmpfsMapping>(path, RefPtr<TmpfsRegularFile>(this), may_write);
  return OkResult();
}

// Holes are filled for reads, too: a mapping must see what is written later.
Result<mm::Backing> TmpfsRegularFile::GetBacking(uint64_t offset, uint64_t length) {
  MutexLock lock(pages_mu_);
  const uint64_t end = PageUp(size_.load(std::memory_order_acquire));
  if (offset >= end) return Errno(EFAULT);
  length = std::min(length, end - offset);
  PageMap::Run run = pages_.At(offset);
  if (!run.is_data) {
    length = std::min({length, run.length, kFaultFill});
    if (!FillLocked(offset, offset + length).ok()) {
      length = kPageSize;
      // SIGBUS for the guest, as on Linux.
      TRY(FillLocked(offset, offset + length));
    }
    run = pages_.At(offset);
  }
  mm::Backing backing;
  backing.fd = tmpfs().memory().fd();
  backing.offset = run.memory_offset;
  backing.length = std::min(run.length, length);
  backing.in_memory_file = true;
  tmpfs().memory().IncRef({backing.offset, backing.offset + backing.length});
  return backing;
}

void TmpfsRegularFile::SetInitialSeals(int seals) {
  InodeLock lock(mu_);
  seals_ = seals;
}

Result<int> TmpfsRegularFile::GetSeals() {
  InodeLock lock(mu_);
  return seals_;
}

Result<void> TmpfsRegularFile::AddSeals(int seals) {
  if (seals & ~kAllSeals) return Errno(EINVAL);
  InodeLock lock(mu_);
  if (seals_ & F_SEAL_SEAL) return Errno(EPERM);
  if ((seals & F_SEAL_WRITE) && !(seals_ & F_SEAL_WRITE) && writable_mappings_.load(std::memory_order_acquire) > 0)
    return Errno(EBUSY);
  // memfd_create(2): sealing the mode of an executable seals its contents.
  if ((seals & 0x20) && (mode_ & 0111)) seals |= F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_FUTURE_WRITE;
  seals_ |= seals;
  return OkResult();
}

}  // namespace sentry::tmpfs
