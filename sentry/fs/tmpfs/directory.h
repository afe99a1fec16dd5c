// SPDX-License-Identifier: Apache-2.0
// TmpfsDirectory: names by hash, and in order of a cookie that a name keeps for life, so that readdir neither repeats
// nor skips a name that is there throughout. Guarded by the filesystem's tree mutex.
#ifndef SENTRY_FS_TMPFS_DIRECTORY_H_
#define SENTRY_FS_TMPFS_DIRECTORY_H_

#include <map>
#include <string>
#include <unordered_map>

#include "sentry/fs/tmpfs/tmpfs_inode.h"
#include "sentry/vfs/file_description.h"

namespace sentry::tmpfs {

class TmpfsDirectory final : public TmpfsInode {
 public:
  // `parent_ino` 0: its own parent (a root).
  TmpfsDirectory(Tmpfs& filesystem, const vfs::CreateAttributes& attributes, uint64_t parent_ino);

  Result<RefPtr<vfs::Inode>> Lookup(std::string_view name) override;
  Result<RefPtr<vfs::Inode>> Create(std::string_view name, const vfs::CreateAttributes& attributes) override;
  Result<RefPtr<vfs::Inode>> Mkdir(std::string_view name, const vfs::CreateAttributes& attributes) override;
  Result<RefPtr<vfs::Inode>> Mknod(std::string_view name, mode_t type, dev_t rdev,
                                   const vfs::CreateAttributes& attributes) override;
  Result<RefPtr<vfs::Inode>> Symlink(std::string_view name, std::string_view target,
                                     const vfs::CreateAttributes& attributes) override;
  Result<void> Link(std::string_view name, vfs::Inode& target) override;
  Result<void> Unlink(std::string_view name, vfs::Inode& victim) override;
  Result<void> Rmdir(std::string_view name, vfs::Inode& victim) override;
  Result<void> Rename(std::string_view old_name, vfs::Inode& moved, vfs::Inode& new_directory,
                      std::string_view new_name, vfs::Inode* replaced, unsigned flags) override;
  Result<RefPtr<vfs::Inode>> CreateUnnamed(const vfs::CreateAttributes& attributes) override;
  Result<vfs::FileRef> Open(const vfs::Path& path, int flags) override;

  // Emits from `*position` on, moving it.
  Result<void> Iterate(int64_t* position, const vfs::FileDescription::DirSink& sink);
  // Frees a whole tree without recursion.
  static void FreeTree(RefPtr<TmpfsDirectory> root);

 private:
  struct Entry {
    RefPtr<TmpfsInode> inode;
    int64_t cookie;
  };
  struct Hash {
    using is_transparent = void;
    size_t operator()(std::string_view text) const { return std::hash<std::string_view>()(text); }
  };
  using Names = std::unordered_map<std::string, Entry, Hash, std::equal_to<>>;

  // Both with the tree mutex.
  void AddLocked(std::string_view name, RefPtr<TmpfsInode> inode);
  void RemoveLocked(Names::iterator it);
  Result<Names::iterator> FindLocked(std::string_view name, const vfs::Inode& expected);
  void TouchDirectory();
  Result<RefPtr<vfs::Inode>> AddNew(std::string_view name, RefPtr<TmpfsInode> inode);
  void FillStatLocked(vfs::InodeStat* stat) const override;

  // Guarded by tmpfs().tree_mu(), which the annotations can't name.
  Names names_;
  std::map<int64_t, const Names::value_type*> order_;
  int64_t next_cookie_ = 2;  // 0 and 1 are "." and ".."
  uint64_t parent_ino_;
  bool dead_ = false;
  std::atomic<uint64_t> count_{0};
};

}  // namespace sentry::tmpfs

#endif  // SENTRY_FS_TMPFS_DIRECTORY_H_
