// SPDX-License-Identifier: Apache-2.0
// tmpfs(5): files in ranges of the sandbox's MemoryFile, directories in the sentry's heap. Serves guest mounts,
// /dev/shm, the upper layer of overlays and (fs/tmpfs/memfd.h) memfds.
#ifndef SENTRY_FS_TMPFS_TMPFS_H_
#define SENTRY_FS_TMPFS_TMPFS_H_

#include <atomic>
#include <optional>
#include <string>
#include <string_view>

#include "platform/memory_file.h"
#include "sentry/vfs/inode.h"
#include "sentry/vfs/vfs.h"

namespace sentry::tmpfs {

class TmpfsDirectory;

struct TmpfsOptions {
  std::optional<uint64_t> size;       // bytes; 0: no limit; empty: the default
  std::optional<uint64_t> nr_inodes;  // 0: no limit
  mode_t mode = 01777;
  uid_t uid = 0;
  bool uid_given = false, gid_given = false;
  gid_t gid = 0;
  // Comma-separated, as mount(2) gets them. EINVAL for what tmpfs does not know.
  static Result<TmpfsOptions> Parse(std::string_view options);
};

// Where the files' pages live, and how much memory the sandbox may use in all (0: not known): guest mounts get half of
// that by default, or 8 GiB. Once, at start, before the first mount.
void ConfigureTmpfs(platform::MemoryFile& memory, uint64_t total_memory);

// The instance without limits behind memfds; null before ConfigureTmpfs.
class Tmpfs* KernelTmpfs();

// The factory for RegisterFilesystemType("tmpfs", NewTmpfs) (and "ramfs").
Result<RefPtr<vfs::Filesystem>> NewTmpfs(const vfs::MountSource& source);

class Tmpfs final : public vfs::Filesystem {
 public:
  static RefPtr<Tmpfs> Create(platform::MemoryFile& memory, const TmpfsOptions& options);
  ~Tmpfs() override;

  std::string_view TypeName() const override { return "tmpfs"; }
  // Keeps its contents until the last unmount (OnLastUnmount), then starts empty again.
  RefPtr<vfs::Inode> Root() override;
  vfs::StatFs GetStatFs() override;
  std::string MountOptions() const override;
  // Only size and nr_inodes change; EINVAL below what is in use.
  Result<void> Remount(std::string_view options) override;
  void OnLastUnmount() override;

  // For the inodes.
  platform::MemoryFile& memory() const { return memory_; }
  // ENOSPC.
  Result<void> ChargePages(uint64_t pages);
  void ReleasePages(uint64_t pages) { used_pages_.fetch_sub(pages, std::memory_order_relaxed); }
  Result<void> ChargeInode();
  void ReleaseInode() { used_inodes_.fetch_sub(1, std::memory_order_relaxed); }
  uint64_t NextInodeNumber() { return next_ino_.fetch_add(1, std::memory_order_relaxed); }
  uint64_t used_pages() const { return used_pages_.load(std::memory_order_relaxed); }
  // All names and links of the filesystem; an inode's own mutex nests inside.
  Mutex& tree_mu() ABSL_LOCK_RETURNED(tree_mu_) { return tree_mu_; }

 private:
  Tmpfs(platform::MemoryFile& memory, const TmpfsOptions& options);

  platform::MemoryFile& memory_;
  TmpfsOptions options_;
  std::atomic<uint64_t> max_pages_;  // UINT64_MAX: no limit
  std::atomic<uint64_t> max_inodes_;
  const uint64_t default_pages_, default_inodes_;
  std::atomic<uint64_t> used_pages_{0}, used_inodes_{0}, next_ino_{1};
  Mutex tree_mu_{LockRank::kInode};
  Mutex root_mu_{LockRank::kInode};
  RefPtr<TmpfsDirectory> root_ ABSL_GUARDED_BY(root_mu_);
};

}  // namespace sentry::tmpfs

#endif  // SENTRY_FS_TMPFS_TMPFS_H_
