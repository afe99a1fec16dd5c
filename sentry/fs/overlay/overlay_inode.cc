// SPDX-License-Identifier: Apache-2.0
#include "sentry/fs/overlay/overlay_inode.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/fs.h>

#include <algorithm>
#include <memory>

namespace sentry::fs {
namespace {

// Inode numbers of what was made in the sandbox stay clear of the lower tree's.
constexpr uint64_t kUpperInodeBit = uint64_t{1} << 48;

uint64_t InodeNumberOf(const RefPtr<vfs::Inode>& lower, const RefPtr<vfs::Inode>& upper) {
  auto stat = (lower ? lower : upper)->GetStat();
  uint64_t ino = stat.ok() ? stat->ino : 0;
  return lower ? ino : ino | kUpperInodeBit;
}

int LinksOf(const RefPtr<vfs::Inode>& lower) {
  if (!lower) return 1;
  auto stat = lower->GetStat();
  return stat.ok() ? static_cast<int>(stat->nlink) : 1;
}

Result<void> CopyData(vfs::Inode& from, vfs::Inode& to, const vfs::Path& path, uint64_t limit) {
  vfs::FileRef source = TRY(from.Open(path, OverlayInode::RealFlags(O_RDONLY | O_NOATIME)));
  vfs::FileRef sink = TRY(to.Open(path, OverlayInode::RealFlags(O_WRONLY)));
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

}  // namespace

OverlayInode::OverlayInode(RefPtr<OverlayFilesystem> filesystem, RefPtr<vfs::Inode> lower, RefPtr<vfs::Inode> upper,
                           mode_t type)
    : Inode(filesystem, type),
      lower_(std::move(lower)),
      ino_(InodeNumberOf(lower_, upper)),
      upper_(std::move(upper)),
      copied_up_(static_cast<bool>(upper_)),
      links_(LinksOf(lower_)) {
  if (!lower_ && type == S_IFDIR) links_ = 2;
}

OverlayInode::~OverlayInode() {
  if (lower_) fs().Forget(lower_.get(), this);
}

RefPtr<vfs::Inode> OverlayInode::Real() const {
  MutexLock lock(mu_);
  return upper_ ? upper_ : lower_;
}

Result<RefPtr<vfs::Inode>> OverlayInode::CopyUp(uint64_t data_limit) {
  MutexLock copying(copy_mu_);
  {
    MutexLock lock(mu_);
    if (upper_) return upper_;
  }
  vfs::InodeStat stat = TRY(lower_->GetStat());
  std::string target = IsSymlink() ? TRY(lower_->ReadLink()) : "";
  RefPtr<vfs::Inode> upper =
      TRY(fs().NewUpper(type(), stat.rdev, target, {.mode = stat.mode & 07777, .uid = stat.uid, .gid = stat.gid}));
  if (IsRegular() && data_limit > 0 && stat.size > 0) {
    // A place for the two temporary descriptions; they never meet a guest.
    vfs::Path path{nullptr, vfs::Dentry::NewRoot(RefPtr<vfs::Inode>(this), "copy-up")};
    TRY(CopyData(*lower_, *upper, path, std::min(data_limit, stat.size)));
  }
  auto names = lower_->ListXattr();
  if (names.ok()) {
    for (const std::string& name : *names) {
      auto value = lower_->GetXattr(name);
      if (value.ok()) (void)upper->SetXattr(name, *value, 0).ok();
    }
  }
  vfs::SetStatRequest times;
  times.atime = stat.atime;
  times.mtime = stat.mtime;
  TRY(upper->SetStat(times));
  {
    MutexLock lock(mu_);
    upper_ = upper;
  }
  copied_up_.store(true, std::memory_order_release);
  if (IsRegular()) MoveMappings(*upper);
  fs().Pin(*this);
  return upper;
}

Result<void> OverlayInode::Touch() {
  RefPtr<vfs::Inode> upper = TRY(CopyUp());
  vfs::SetStatRequest times;
  times.mtime = vfs::Timestamp::Now();
  return upper->SetStat(times);
}

Result<vfs::InodeStat> OverlayInode::GetStat() {
  vfs::InodeStat stat = TRY(Real()->GetStat());
  stat.ino = ino_;
  stat.dev = filesystem().device();
  MutexLock lock(mu_);
  stat.nlink = static_cast<uint32_t>(links_);
  return stat;
}

Result<void> OverlayInode::SetStat(const vfs::SetStatRequest& request) {
  uint64_t keep = request.size ? *request.size : UINT64_MAX;
  TRY(TRY(CopyUp(keep))->SetStat(request));
  if (request.size) InvalidateMappings(PageUp(*request.size), PageDown(UINT64_MAX), true);
  return OkResult();
}

Result<void> OverlayInode::SetXattr(std::string_view name, std::string_view value, int flags) {
  return TRY(CopyUp())->SetXattr(name, value, flags);
}

Result<void> OverlayInode::RemoveXattr(std::string_view name) { return TRY(CopyUp())->RemoveXattr(name); }

Result<RefPtr<vfs::Inode>> OverlayInode::Lookup(std::string_view name) {
  {
    MutexLock lock(mu_);
    auto it = children_.find(name);
    if (it != children_.end()) {
      if (!it->second) return Errno(ENOENT);
      return RefPtr<vfs::Inode>(it->second);
    }
  }
  if (!lower_) return Errno(ENOENT);
  return RefPtr<vfs::Inode>(fs().ForLower(TRY(lower_->Lookup(name))));
}

std::map<std::string, RefPtr<OverlayInode>, std::less<>> OverlayInode::TakeChildren() {
  MutexLock lock(mu_);
  return std::exchange(children_, {});
}

bool OverlayInode::LowerHas(std::string_view name) { return lower_ && lower_->Lookup(name).ok(); }

void OverlayInode::SetEntry(std::string_view name, RefPtr<OverlayInode> inode) {
  bool hide = !inode && LowerHas(name);
  MutexLock lock(mu_);
  auto it = children_.find(name);
  if (inode || hide) {
    if (it == children_.end())
      children_.emplace(std::string(name), std::move(inode));
    else
      std::swap(it->second, inode);
  } else if (it != children_.end()) {
    inode = std::move(it->second);
    children_.erase(it);
  }
}

void OverlayInode::AddLinks(int delta) {
  bool gone;
  {
    MutexLock lock(mu_);
    links_ += delta;
    gone = links_ <= 0;
    if (gone) links_ = 0;
  }
  if (gone) fs().Unpin(*this);
}

Result<RefPtr<vfs::Inode>> OverlayInode::Make(std::string_view name, mode_t type, dev_t rdev, std::string_view target,
                                              const vfs::CreateAttributes& a) {
  RefPtr<vfs::Inode> upper = TRY(fs().NewUpper(type, rdev, target, a));
  TRY(Touch());
  auto inode = MakeRef<OverlayInode>(RefPtr<OverlayFilesystem>(&fs()), nullptr, upper, type);
  SetEntry(name, inode);
  if (type == S_IFDIR) AddLinks(1);
  return RefPtr<vfs::Inode>(inode);
}

Result<RefPtr<vfs::Inode>> OverlayInode::CreateUnnamed(const vfs::CreateAttributes& a) {
  RefPtr<vfs::Inode> upper = TRY(fs().NewUpper(S_IFREG, 0, "", a));
  auto inode = MakeRef<OverlayInode>(RefPtr<OverlayFilesystem>(&fs()), nullptr, upper, S_IFREG);
  inode->AddLinks(-1);
  return RefPtr<vfs::Inode>(inode);
}

Result<void> OverlayInode::Link(std::string_view name, vfs::Inode& target) {
  auto& inode = static_cast<OverlayInode&>(target);
  TRY(inode.CopyUp());
  TRY(Touch());
  inode.AddLinks(1);
  SetEntry(name, RefPtr<OverlayInode>(&inode));
  return OkResult();
}

Result<void> OverlayInode::Unlink(std::string_view name, vfs::Inode& victim) {
  TRY(Touch());
  RefPtr<OverlayInode> inode(static_cast<OverlayInode*>(&victim));
  SetEntry(name, nullptr);
  inode->AddLinks(-1);
  return OkResult();
}

Result<void> OverlayInode::Rmdir(std::string_view name, vfs::Inode& victim) {
  RefPtr<OverlayInode> inode(static_cast<OverlayInode*>(&victim));
  if (!inode->ListEntries().empty()) return Errno(ENOTEMPTY);
  TRY(Touch());
  SetEntry(name, nullptr);
  inode->AddLinks(-2);
  AddLinks(-1);
  return OkResult();
}

Result<void> OverlayInode::Rename(std::string_view old_name, vfs::Inode& moved, vfs::Inode& new_directory,
                                  std::string_view new_name, vfs::Inode* replaced, unsigned flags) {
  auto& to = static_cast<OverlayInode&>(new_directory);
  RefPtr<OverlayInode> inode(static_cast<OverlayInode*>(&moved)), other(static_cast<OverlayInode*>(replaced));
  bool exchange = flags & RENAME_EXCHANGE;
  if (other && !exchange && other->IsDirectory() && !other->ListEntries().empty()) return Errno(ENOTEMPTY);
  RefPtr<OverlayInode> whiteout;
  if (flags & RENAME_WHITEOUT) {
    RefPtr<vfs::Inode> node = TRY(fs().NewUpper(S_IFCHR, 0, "", {.mode = 0}));
    whiteout = MakeRef<OverlayInode>(RefPtr<OverlayFilesystem>(&fs()), nullptr, node, S_IFCHR);
  }
  TRY(Touch());
  if (&to != this) TRY(to.Touch());
  SetEntry(old_name, exchange ? other : whiteout);
  to.SetEntry(new_name, inode);
  if (&to != this) {
    if (inode->IsDirectory()) AddLinks(-1), to.AddLinks(1);
    if (exchange && other && other->IsDirectory()) to.AddLinks(-1), AddLinks(1);
  }
  if (other && !exchange) {
    other->AddLinks(other->IsDirectory() ? -2 : -1);
    if (other->IsDirectory()) to.AddLinks(-1);
  }
  return OkResult();
}

std::vector<std::tuple<std::string, uint64_t, uint8_t>> OverlayInode::ListEntries() {
  std::vector<std::tuple<std::string, uint64_t, uint8_t>> out;
  std::map<std::string, RefPtr<OverlayInode>, std::less<>> changed;
  {
    MutexLock lock(mu_);
    changed = children_;
  }
  if (lower_) {
    vfs::Path path{nullptr, vfs::Dentry::NewRoot(RefPtr<vfs::Inode>(this), "list")};
    auto directory = lower_->Open(path, RealFlags(O_RDONLY | O_NOATIME) | O_DIRECTORY);
    if (directory.ok()) {
      (void)(*directory)
          ->IterateDirectory([&](const vfs::DirEntry& e) {
            if (e.name != "." && e.name != ".." && !changed.contains(e.name)) out.emplace_back(e.name, e.ino, e.type);
            return true;
          })
          .ok();
    }
  }
  for (const auto& [name, inode] : changed) {
    if (inode) out.emplace_back(name, inode->ino(), IFTODT(inode->type()));
  }
  return out;
}

namespace {

// A snapshot of the merged names, taken at the first read and at each rewind.
class OverlayDirectory final : public vfs::FileDescription {
 public:
  OverlayDirectory(vfs::Path path, int flags, RefPtr<OverlayInode> inode)
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
  RefPtr<OverlayInode> inode_;
  std::vector<std::tuple<std::string, uint64_t, uint8_t>> entries_;
  bool loaded_ = false;
};

}  // namespace

Result<RefPtr<vfs::FileDescription>> OverlayInode::Open(const vfs::Path& path, int flags) {
  if (IsDirectory()) return vfs::FileRef(new OverlayDirectory(path, flags, RefPtr<OverlayInode>(this)));
  if (IsRegular()) return OpenRegular(path, flags);
  return Real()->Open(path, flags);
}

}  // namespace sentry::fs
