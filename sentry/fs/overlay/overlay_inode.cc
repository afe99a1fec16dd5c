// SPDX-License-Identifier: Apache-2.0
#include "sentry/fs/overlay/overlay_inode.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/fs.h>

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

}  // namespace

OverlayInode::OverlayInode(RefPtr<OverlayFilesystem> filesystem, RefPtr<vfs::Inode> lower, RefPtr<vfs::Inode> upper,
                           mode_t type)
    : OverlayNode(filesystem, lower, upper, type, InodeNumberOf(lower, upper), LockRank::kOverlayCopy),
      links_(LinksOf(lower)) {
  if (!lower && type == S_IFDIR) links_ = 2;
}

OverlayInode::~OverlayInode() {
  if (lower()) fs().Forget(lower().get(), this);
}

Result<RefPtr<vfs::Inode>> OverlayInode::NewUpper(const vfs::InodeStat& stat, std::string_view target) {
  return fs().NewUpper(type(), stat.rdev, target, {.mode = stat.mode & 07777, .uid = stat.uid, .gid = stat.gid});
}

void OverlayInode::OnCopiedUp() { fs().Pin(*this); }

Result<void> OverlayInode::Touch() {
  RefPtr<vfs::Inode> upper = TRY(CopyUp());
  vfs::SetStatRequest times;
  times.mtime = vfs::Timestamp::Now();
  return upper->SetStat(times);
}

Result<vfs::InodeStat> OverlayInode::GetStat() {
  vfs::InodeStat stat = TRY(OverlayNode::GetStat());
  MutexLock lock(names_mu_);
  stat.nlink = static_cast<uint32_t>(links_);
  return stat;
}

Result<RefPtr<vfs::Inode>> OverlayInode::Lookup(std::string_view name) {
  {
    MutexLock lock(names_mu_);
    auto it = children_.find(name);
    if (it != children_.end()) {
      if (!it->second) return Errno(ENOENT);
      return RefPtr<vfs::Inode>(it->second);
    }
  }
  if (!lower()) return Errno(ENOENT);
  return RefPtr<vfs::Inode>(fs().ForLower(TRY(lower()->Lookup(name))));
}

std::map<std::string, RefPtr<OverlayInode>, std::less<>> OverlayInode::TakeChildren() {
  MutexLock lock(names_mu_);
  return std::exchange(children_, {});
}

std::map<std::string, RefPtr<OverlayInode>, std::less<>> OverlayInode::Changes() {
  MutexLock lock(names_mu_);
  return children_;
}

RefPtr<vfs::Inode> OverlayInode::LowerEntry(std::string_view name) {
  if (!lower()) return nullptr;
  auto found = lower()->Lookup(name);
  return found.ok() ? *found : nullptr;
}

void OverlayInode::SetEntry(std::string_view name, RefPtr<OverlayInode> inode) {
  bool hide = !inode && LowerEntry(name);
  MutexLock lock(names_mu_);
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
    MutexLock lock(names_mu_);
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

std::vector<OverlayNode::Entry> OverlayInode::ListEntries() {
  std::vector<Entry> out;
  const auto changed = Changes();
  if (lower()) {
    vfs::Path path{nullptr, vfs::Dentry::NewRoot(RefPtr<vfs::Inode>(this), "list")};
    auto directory = lower()->Open(path, RealFlags(O_RDONLY | O_NOATIME) | O_DIRECTORY);
    if (directory.ok()) {
      (void)(*directory)
          ->IterateDirectory([&](const vfs::DirEntry& e) {
            if (e.name != "." && e.name != ".." && !changed.contains(e.name))
              out.push_back({std::string(e.name), e.ino, e.type});
            return true;
          })
          .ok();
    }
  }
  for (const auto& [name, inode] : changed) {
    if (inode) out.push_back({name, inode->ino(), static_cast<uint8_t>(IFTODT(inode->type()))});
  }
  return out;
}

}  // namespace sentry::fs
