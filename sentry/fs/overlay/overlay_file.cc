// SPDX-License-Identifier: Apache-2.0
// Open regular files of the overlay and their mappings. Both follow a copy-up: what was opened for reading before goes
// on with the file that is written. The real files' descriptions carry O_PATH, which keeps them out of the inode's
// accounts (opens, write access, inotify): the overlay's own description is in them.
#include <fcntl.h>
#include <linux/falloc.h>

#include "sentry/fs/overlay/overlay_node.h"
#include "sentry/vfs/vfs.h"

namespace sentry::fs {
namespace {

class OverlayFile final : public vfs::FileDescription {
 public:
  OverlayFile(vfs::Path path, int flags, RefPtr<OverlayNode> inode, vfs::FileRef real, bool is_upper)
      : FileDescription(std::move(path), flags),
        inode_(std::move(inode)),
        first_(std::move(real)),
        upper_(is_upper ? first_.get() : nullptr) {}

  Result<size_t> PRead(IoTarget& target, int64_t offset) override { return TRY(Current())->PRead(target, offset); }
  Result<size_t> PWrite(IoSource& source, int64_t offset, int64_t* end) override {
    return TRY(Current())->PWrite(source, offset, end);
  }
  Result<int64_t> Seek(int64_t offset, int whence) override {
    if (whence != SEEK_DATA && whence != SEEK_HOLE) return FileDescription::Seek(offset, whence);
    int64_t at = TRY(TRY(Current())->Seek(offset, whence));
    MutexLock lock(position_mu());
    set_position(at);
    return at;
  }
  Result<void> ConfigureMmap(mm::MmapRequest& request) override {
    if (!request.is_private && !IsWritable()) {
      if (request.protection.write) return Errno(EACCES);
      request.max_protection.write = false;
    }
    request.object = TRY(inode_->NewMapping(path()));
    return OkResult();
  }
  Result<void> Sync(bool data_only) override { return TRY(Current())->Sync(data_only); }
  Result<void> Allocate(int mode, uint64_t offset, uint64_t length) override {
    TRY(TRY(Current())->Allocate(mode, offset, length));
    if (mode & FALLOC_FL_PUNCH_HOLE) inode_->InvalidateMappings(PageDown(offset), PageUp(offset + length), false);
    return OkResult();
  }

 private:
  Result<vfs::FileDescription*> Current() {
    if (vfs::FileDescription* upper = upper_.load(std::memory_order_acquire)) return upper;
    if (!inode_->IsCopiedUp()) return first_.get();
    vfs::FileRef opened = TRY(inode_->Real()->Open(path(), OverlayNode::RealFlags(flags())));
    MutexLock lock(mu_);
    if (!second_) {
      second_ = std::move(opened);
      upper_.store(second_.get(), std::memory_order_release);
    }
    return second_.get();
  }

  const RefPtr<OverlayNode> inode_;
  const vfs::FileRef first_;
  Mutex mu_{LockRank::kLeaf};
  vfs::FileRef second_ ABSL_GUARDED_BY(mu_);  // the upper file, if `first_` is the lower one
  std::atomic<vfs::FileDescription*> upper_;
};

}  // namespace

OverlayMapping::OverlayMapping(vfs::Path path, RefPtr<OverlayNode> inode, RefPtr<mm::MappedObject> real)
    : path_(std::move(path)), inode_(std::move(inode)), first_(real), real_(std::move(real)) {}

OverlayMapping::~OverlayMapping() { inode_->ForgetMapping(*this); }

RefPtr<mm::MappedObject> OverlayMapping::Real() const {
  MutexLock lock(mu_);
  return real_;
}

void OverlayMapping::Follow(RefPtr<mm::MappedObject> upper) {
  MutexLock lock(mu_);
  real_ = std::move(upper);  // `first_` keeps the old one
}

std::string OverlayMapping::Name() const { return vfs::PathNameFromTop(path_); }
dev_t OverlayMapping::Device() const { return inode_->filesystem().device(); }
uint64_t OverlayMapping::InodeNumber() const { return inode_->ino(); }
const void* OverlayMapping::Identity() const { return inode_.get(); }
mm::ReverseMap& OverlayMapping::reverse_map() { return inode_->reverse_map(); }

Result<void> OverlayMapping::PunchHole(uint64_t offset, uint64_t length) {
  TRY(Real()->PunchHole(offset, length));
  inode_->InvalidateMappings(offset, PageUp(offset + length), false);
  return OkResult();
}

int OverlayNode::RealFlags(int flags) { return (flags & (O_ACCMODE | O_NOATIME)) | O_PATH; }

Result<vfs::FileRef> OverlayNode::OpenRegular(const vfs::Path& path, int flags) {
  bool write = (flags & O_ACCMODE) != O_RDONLY || (flags & O_TRUNC);
  if (write) TRY(CopyUp(flags & O_TRUNC ? 0 : UINT64_MAX));
  // Asked first: a copy-up in between is then met at the next use.
  const bool is_upper = IsCopiedUp();
  vfs::FileRef real = TRY(Real()->Open(path, RealFlags(flags)));
  return vfs::FileRef(MakeRef<OverlayFile>(path, flags, RefPtr<OverlayNode>(this), std::move(real), is_upper));
}

Result<RefPtr<mm::MappedObject>> OverlayNode::RealMapping(vfs::Inode& real, const vfs::Path& path) {
  vfs::FileRef file = TRY(real.Open(path, RealFlags(O_RDONLY)));
  mm::MmapRequest request;  // private: the layers give what may be written through only by their own rules
  TRY(file->ConfigureMmap(request));
  return std::move(request.object);
}

Result<RefPtr<mm::MappedObject>> OverlayNode::NewMapping(const vfs::Path& path) {
  RefPtr<vfs::Inode> real;
  RefPtr<OverlayMapping> mapping;
  for (;;) {
    real = Real();
    mapping = MakeRef<OverlayMapping>(path, RefPtr<OverlayNode>(this), TRY(RealMapping(*real, path)));
    MutexLock lock(mu_);
    if (upper_ && !(upper_ == real)) continue;
    if (!upper_) following_.insert(mapping.get());
    return RefPtr<mm::MappedObject>(mapping);
  }
}

void OverlayNode::ForgetMapping(OverlayMapping& mapping) {
  MutexLock lock(mu_);
  following_.erase(&mapping);
}

void OverlayNode::MoveMappings(vfs::Inode& upper) {
  std::vector<RefPtr<OverlayMapping>> moving;
  {
    MutexLock lock(mu_);
    for (OverlayMapping* mapping : following_) {
      if (mapping->TryIncRef()) moving.push_back(RefPtr<OverlayMapping>::Adopt(mapping));
    }
    following_.clear();
  }
  if (moving.empty()) return;
  auto object = RealMapping(upper, vfs::Path{nullptr, vfs::Dentry::NewRoot(RefPtr<vfs::Inode>(this), "copy-up")});
  if (!object.ok()) return;
  for (const auto& mapping : moving) mapping->Follow(*object);
  InvalidateMappings(0, PageDown(UINT64_MAX), false);
}

void OverlayNode::InvalidateMappings(uint64_t start, uint64_t end, bool private_copies) {
  if (start < end && !reverse_map_.Empty()) reverse_map_.Invalidate(start, end - start, private_copies);
}

}  // namespace sentry::fs
