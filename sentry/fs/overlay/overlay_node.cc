// SPDX-License-Identifier: Apache-2.0
// Attributes and copy-up; directories' descriptions.
#include "sentry/fs/overlay/overlay_node.h"

#include <dirent.h>
#include <fcntl.h>

#include <algorithm>
#include <memory>

namespace sentry::fs {
namespace {

Result<void> CopyData(vfs::Inode& from, vfs::Inode& to, const vfs::Path& path, uint64_t limit) {
  vfs::FileRef source = TRY(from.Open(path, OverlayNode::RealFlags(O_RDONLY | O_NOATIME)));
  vfs::FileRef sink = TRY(to.Open(path, OverlayNode::RealFlags(O_WRONLY)));
  constexpr size_t kChunk = 256 << 10;
  auto buffer = std::make_unique<uint8_t[]>(std::min<uint64_t>(kChunk, std::max<uint64_t>(limit, 1)));
  for (uint64_t at = 0; at < limit;) {
    BufferTarget target(buffer.get(), std::min<uint64_t>(kChunk, limit - at));
    size_t got = TRY(source->PRead(target, static_cast<int64_t>(at)));
    if (got == 0) break;
    BufferSource data(buffer.get(), got);
    int64_t end;
    while (data.remaining()) {
      if (TRY(sink->PWrite(data, static_cast<int64_t>(at + data.done()), &end)) == 0) return Errno(ENOSPC);
    }
    at += got;
  }
  return OkResult();
}

// A snapshot of the merged names, taken at the first read and at each rewind.
class OverlayDirectory final : public vfs::FileDescription {
 public:
  OverlayDirectory(vfs::Path path, int flags, RefPtr<OverlayNode> inode)
      : FileDescription(std::move(path), flags), inode_(std::move(inode)) {}

  Result<void> IterateDirectory(const DirSink& sink) override {
    bool load;
    {
      MutexLock lock(position_mu());
      load = position() == 0 || !loaded_;
    }
    // Read without the lock: the lower directory's description has one of the same rank.
    auto fresh = load ? inode_->ListEntries() : decltype(entries_)();
    MutexLock lock(position_mu());
    if (load) {
      entries_ = std::move(fresh);
      loaded_ = true;
    }
    for (;;) {
      uint64_t at = static_cast<uint64_t>(position());
      int64_t next = static_cast<int64_t>(at) + 1;
      bool taken;
      if (at < 2) {
        RefPtr<vfs::Dentry> up = at == 1 ? path().dentry->parent() : nullptr;
        auto stat = up && up->inode() ? up->inode()->GetStat() : inode_->GetStat();
        taken = sink({at == 0 ? "." : "..", stat.ok() ? stat->ino : 0, DT_DIR, next});
      } else if (at - 2 < entries_.size()) {
        const auto& [name, ino, type] = entries_[at - 2];
        taken = sink({name, ino, type, next});
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
  Result<void> Sync(bool) override { return OkResult(); }

 private:
  RefPtr<OverlayNode> inode_;
  std::vector<OverlayNode::Entry> entries_;
  bool loaded_ = false;
};

}  // namespace

OverlayNode::OverlayNode(RefPtr<vfs::Filesystem> filesystem, RefPtr<vfs::Inode> lower, RefPtr<vfs::Inode> upper,
                         mode_t type, uint64_t ino, LockRank copy_rank)
    : Inode(std::move(filesystem), type),
      lower_(std::move(lower)),
      ino_(ino),
      copy_mu_(copy_rank),
      upper_(std::move(upper)),
      copied_up_(static_cast<bool>(upper_)) {}

RefPtr<vfs::Inode> OverlayNode::Real() const {
  MutexLock lock(mu_);
  return upper_ ? upper_ : lower_;
}

Result<void> OverlayNode::FillUpper(const vfs::InodeStat& stat, vfs::Inode& upper, uint64_t data_limit) {
  if (IsRegular() && data_limit > 0 && stat.size > 0) {
    // A place for the two temporary descriptions; they never meet a guest.
    vfs::Path path{nullptr, vfs::Dentry::NewRoot(RefPtr<vfs::Inode>(this), "copy-up")};
    TRY(CopyData(*lower_, upper, path, std::min(data_limit, stat.size)));
  }
  auto names = lower_->ListXattr();
  if (names.ok()) {
    for (const std::string& name : *names) {
      if (IsPrivateXattr(name)) continue;
      auto value = lower_->GetXattr(name);
      if (value.ok()) (void)upper.SetXattr(name, *value, 0).ok();
    }
  }
  vfs::SetStatRequest times;
  times.atime = stat.atime;
  times.mtime = stat.mtime;
  return upper.SetStat(times);
}

Result<RefPtr<vfs::Inode>> OverlayNode::CopyUp(uint64_t data_limit) {
  if (IsCopiedUp()) return Real();
  TRY(PrepareCopyUp());
  RefPtr<vfs::Inode> upper;
  {
    MutexLock copying(copy_mu_);
    if (IsCopiedUp()) return Real();
    vfs::InodeStat stat = TRY(lower_->GetStat());
    std::string target = IsSymlink() ? TRY(lower_->ReadLink()) : "";
    upper = TRY(NewUpper(stat, target));
    auto done = FillUpper(stat, *upper, data_limit);
    if (done.ok()) done = PublishUpper(upper);
    if (!done.ok()) {
      AbandonUpper();
      return done.error();
    }
    {
      MutexLock lock(mu_);
      upper_ = upper;
    }
    copied_up_.store(true, std::memory_order_release);
    if (IsRegular()) MoveMappings(*upper);
  }
  OnCopiedUp();
  return upper;
}

Result<vfs::InodeStat> OverlayNode::GetStat() {
  vfs::InodeStat stat = TRY(Real()->GetStat());
  stat.ino = ino_;
  stat.dev = filesystem().device();
  return stat;
}

Result<void> OverlayNode::SetStat(const vfs::SetStatRequest& request) {
  uint64_t keep = request.size ? *request.size : UINT64_MAX;
  TRY(TRY(CopyUp(keep))->SetStat(request));
  if (request.size) InvalidateMappings(PageUp(*request.size), PageDown(UINT64_MAX), true);
  return OkResult();
}

Result<std::string> OverlayNode::GetXattr(std::string_view name) {
  if (IsPrivateXattr(name)) return Errno(EOPNOTSUPP);
  return Real()->GetXattr(name);
}

Result<void> OverlayNode::SetXattr(std::string_view name, std::string_view value, int flags) {
  if (IsPrivateXattr(name)) return Errno(EOPNOTSUPP);
  return TRY(CopyUp())->SetXattr(name, value, flags);
}

Result<std::vector<std::string>> OverlayNode::ListXattr() {
  std::vector<std::string> names = TRY(Real()->ListXattr());
  std::erase_if(names, [&](const std::string& name) { return IsPrivateXattr(name); });
  return names;
}

Result<void> OverlayNode::RemoveXattr(std::string_view name) {
  if (IsPrivateXattr(name)) return Errno(EOPNOTSUPP);
  return TRY(CopyUp())->RemoveXattr(name);
}

Result<vfs::FileRef> OverlayNode::Open(const vfs::Path& path, int flags) {
  if (IsDirectory()) return vfs::FileRef(new OverlayDirectory(path, flags, RefPtr<OverlayNode>(this)));
  if (IsRegular()) return OpenRegular(path, flags);
  return Real()->Open(path, flags);
}

}  // namespace sentry::fs
