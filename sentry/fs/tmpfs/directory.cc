// SPDX-License-Identifier: Apache-2.0
#include "sentry/fs/tmpfs/directory.h"

#include <dirent.h>
#include <stdio.h>

#include "sentry/fs/tmpfs/regular_file.h"

namespace sentry::tmpfs {
namespace {

constexpr uint64_t kEntrySize = 20;  // what Linux's tmpfs says a name takes
constexpr size_t kBatch = 128;       // names copied per taking of the tree mutex

class TmpfsDirectoryFile final : public vfs::FileDescription {
 public:
  // `path` may lead to an inode of a filesystem stacked above (overlay).
  TmpfsDirectoryFile(vfs::Path path, int flags, RefPtr<TmpfsDirectory> directory)
      : FileDescription(std::move(path), flags), directory_(std::move(directory)) {}
  Result<void> IterateDirectory(const DirSink& sink) override {
    MutexLock lock(position_mu());
    int64_t at = position();
    auto result = directory_->Iterate(&at, sink);
    set_position(at);
    directory_->TouchAtime(path(), flags());
    return result;
  }
  Result<size_t> PRead(IoTarget& target, int64_t offset) override { return Errno(EISDIR); }

 private:
  const RefPtr<TmpfsDirectory> directory_;
};

}  // namespace

TmpfsDirectory::TmpfsDirectory(Tmpfs& filesystem, const vfs::CreateAttributes& attributes, uint64_t parent_ino)
    : TmpfsInode(filesystem, S_IFDIR, attributes), parent_ino_(parent_ino ? parent_ino : ino()) {
  AddLinks(1);  // its "."
}

void TmpfsDirectory::FillStatLocked(vfs::InodeStat* stat) const {
  stat->size = (count_.load(std::memory_order_relaxed) + 2) * kEntrySize;
}

void TmpfsDirectory::TouchDirectory() {
  InodeLock lock(mu_);
  TouchLocked(true);
}

void TmpfsDirectory::AddLocked(std::string_view name, RefPtr<TmpfsInode> inode) {
  const int64_t cookie = next_cookie_++;
  if (inode->IsDirectory()) {
    static_cast<TmpfsDirectory&>(*inode).parent_ino_ = ino();
    AddLinks(1);
  }
  auto it = names_.emplace(std::string(name), Entry{std::move(inode), cookie}).first;
  order_.emplace_hint(order_.end(), cookie, &*it);
  count_.store(names_.size(), std::memory_order_relaxed);
}

void TmpfsDirectory::RemoveLocked(Names::iterator it) {
  if (it->second.inode->IsDirectory()) AddLinks(-1);
  order_.erase(it->second.cookie);
  names_.erase(it);
  count_.store(names_.size(), std::memory_order_relaxed);
}

Result<TmpfsDirectory::Names::iterator> TmpfsDirectory::FindLocked(std::string_view name, const vfs::Inode& expected) {
  auto it = names_.find(name);
  if (it == names_.end() || it->second.inode.get() != &expected) return Errno(ENOENT);
  return it;
}

Result<RefPtr<vfs::Inode>> TmpfsDirectory::Lookup(std::string_view name) {
  MutexLock lock(tmpfs().tree_mu());
  auto it = names_.find(name);
  if (it == names_.end()) return Errno(ENOENT);
  return RefPtr<vfs::Inode>(it->second.inode);
}

Result<RefPtr<vfs::Inode>> TmpfsDirectory::AddNew(std::string_view name, RefPtr<TmpfsInode> inode) {
  MutexLock lock(tmpfs().tree_mu());
  if (dead_) return Errno(ENOENT);
  if (names_.contains(name)) return Errno(EEXIST);
  AddLocked(name, inode);
  TouchDirectory();
  return RefPtr<vfs::Inode>(std::move(inode));
}

Result<RefPtr<vfs::Inode>> TmpfsDirectory::Create(std::string_view name, const vfs::CreateAttributes& attributes) {
  TRY(tmpfs().ChargeInode());
  return AddNew(name, MakeRef<TmpfsRegularFile>(tmpfs(), attributes));
}

Result<RefPtr<vfs::Inode>> TmpfsDirectory::Mkdir(std::string_view name, const vfs::CreateAttributes& attributes) {
  TRY(tmpfs().ChargeInode());
  return AddNew(name, MakeRef<TmpfsDirectory>(tmpfs(), attributes, ino()));
}

Result<RefPtr<vfs::Inode>> TmpfsDirectory::Mknod(std::string_view name, mode_t type, dev_t rdev,
                                                 const vfs::CreateAttributes& attributes) {
  TRY(tmpfs().ChargeInode());
  return AddNew(name, MakeRef<TmpfsSpecial>(tmpfs(), type, rdev, attributes));
}

Result<RefPtr<vfs::Inode>> TmpfsDirectory::Symlink(std::string_view name, std::string_view target,
                                                   const vfs::CreateAttributes& attributes) {
  TRY(tmpfs().ChargeInode());
  return AddNew(name, MakeRef<TmpfsSymlink>(tmpfs(), attributes, std::string(target)));
}

Result<RefPtr<vfs::Inode>> TmpfsDirectory::CreateUnnamed(const vfs::CreateAttributes& attributes) {
  TRY(tmpfs().ChargeInode());
  auto file = MakeRef<TmpfsRegularFile>(tmpfs(), attributes);
  file->AddLinks(-1);
  return RefPtr<vfs::Inode>(std::move(file));
}

Result<void> TmpfsDirectory::Link(std::string_view name, vfs::Inode& target) {
  RefPtr<TmpfsInode> inode(static_cast<TmpfsInode*>(&target));
  MutexLock lock(tmpfs().tree_mu());
  if (dead_) return Errno(ENOENT);
  if (names_.contains(name)) return Errno(EEXIST);
  if (inode->nlink() >= INT32_MAX) return Errno(EMLINK);
  AddLocked(name, inode);
  inode->AddLinks(1);
  TouchDirectory();
  return OkResult();
}

Result<void> TmpfsDirectory::Unlink(std::string_view name, vfs::Inode& victim) {
  RefPtr<TmpfsInode> removed;  // dies after the lock
  MutexLock lock(tmpfs().tree_mu());
  auto it = TRY(FindLocked(name, victim));
  removed = it->second.inode;
  RemoveLocked(it);
  removed->AddLinks(-1);
  TouchDirectory();
  return OkResult();
}

Result<void> TmpfsDirectory::Rmdir(std::string_view name, vfs::Inode& victim) {
  RefPtr<TmpfsInode> removed;
  MutexLock lock(tmpfs().tree_mu());
  auto it = TRY(FindLocked(name, victim));
  auto& directory = static_cast<TmpfsDirectory&>(*it->second.inode);
  if (!directory.names_.empty()) return Errno(ENOTEMPTY);
  removed = it->second.inode;
  directory.dead_ = true;
  RemoveLocked(it);
  directory.AddLinks(-2);
  TouchDirectory();
  return OkResult();
}

Result<void> TmpfsDirectory::Rename(std::string_view old_name, vfs::Inode& moved, vfs::Inode& new_directory,
                                    std::string_view new_name, vfs::Inode* replaced, unsigned flags) {
  auto& to = static_cast<TmpfsDirectory&>(new_directory);
  RefPtr<TmpfsInode> whiteout, victim, mover;
  if (flags & RENAME_WHITEOUT) {
    TRY(tmpfs().ChargeInode());
    vfs::CreateAttributes attributes;
    {
      InodeLock lock(mu_);
      vfs::InodeStat stat = StatLocked();
      attributes = {0, stat.uid, stat.gid};
    }
    whiteout = MakeRef<TmpfsSpecial>(tmpfs(), S_IFCHR, 0, attributes);
  }
  MutexLock lock(tmpfs().tree_mu());
  auto from_it = TRY(FindLocked(old_name, moved));
  mover = from_it->second.inode;
  auto to_it = to.names_.find(new_name);
  if ((to_it != to.names_.end()) != (replaced != nullptr) || (replaced && to_it->second.inode.get() != replaced))
    return Errno(ENOENT);
  if (to.dead_) return Errno(ENOENT);
  if (replaced) victim = to_it->second.inode;
  if (flags & RENAME_EXCHANGE) {
    if (!victim) return Errno(ENOENT);
    const std::string old_key(old_name), new_key(new_name);
    RemoveLocked(from_it);
    to.RemoveLocked(to.names_.find(new_key));
    AddLocked(old_key, victim);
    to.AddLocked(new_key, mover);
    victim->TouchCtime();
  } else {
    if (victim) {
      if (victim->IsDirectory()) {
        auto& directory = static_cast<TmpfsDirectory&>(*victim);
        if (!directory.names_.empty()) return Errno(ENOTEMPTY);
        directory.dead_ = true;
        to.RemoveLocked(to_it);
        directory.AddLinks(-2);
      } else {
        to.RemoveLocked(to_it);
        victim->AddLinks(-1);
      }
    }
    RemoveLocked(from_it);
    to.AddLocked(new_name, mover);
    if (whiteout) AddLocked(old_name, std::move(whiteout));
  }
  mover->TouchCtime();
  TouchDirectory();
  if (&to != this) to.TouchDirectory();
  return OkResult();
}

Result<vfs::FileRef> TmpfsDirectory::Open(const vfs::Path& path, int flags) {
  return vfs::FileRef(MakeRef<TmpfsDirectoryFile>(path, flags, RefPtr<TmpfsDirectory>(this)));
}

Result<void> TmpfsDirectory::Iterate(int64_t* position, const vfs::FileDescription::DirSink& sink) {
  struct Copy {
    std::string name;
    uint64_t ino;
    uint8_t type;
    int64_t cookie;
  };
  std::vector<Copy> batch;
  for (;;) {
    batch.clear();
    {
      MutexLock lock(tmpfs().tree_mu());
      if (dead_) return Errno(ENOENT);
      if (*position <= 0) batch.push_back({".", ino(), DT_DIR, 0});
      if (*position <= 1) batch.push_back({"..", parent_ino_, DT_DIR, 1});
      for (auto it = order_.lower_bound(*position); it != order_.end() && batch.size() < kBatch; ++it) {
        const auto& [name, entry] = *it->second;
        batch.push_back({name, entry.inode->ino(), static_cast<uint8_t>(IFTODT(entry.inode->type())), it->first});
      }
    }
    for (const Copy& copy : batch) {
      if (!sink({copy.name, copy.ino, copy.type, copy.cookie + 1})) return OkResult();
      *position = copy.cookie + 1;
    }
    if (batch.size() < kBatch) return OkResult();
  }
}

void TmpfsDirectory::FreeTree(RefPtr<TmpfsDirectory> root) {
  std::vector<RefPtr<TmpfsInode>> todo;
  todo.push_back(std::move(root));
  while (!todo.empty()) {
    RefPtr<TmpfsInode> inode = std::move(todo.back());
    todo.pop_back();
    if (!inode->IsDirectory()) continue;
    auto& directory = static_cast<TmpfsDirectory&>(*inode);
    MutexLock lock(directory.tmpfs().tree_mu());
    directory.dead_ = true;
    for (auto& [name, entry] : directory.names_) todo.push_back(std::move(entry.inode));
    directory.names_.clear();
    directory.order_.clear();
    directory.count_.store(0, std::memory_order_relaxed);
  }
}

}  // namespace sentry::tmpfs
