// SPDX-License-Identifier: Apache-2.0
// The inside of the cgroup filesystems: instances, inodes, and the tables of files.
#ifndef SENTRY_FS_CGROUP_CGROUP_FS_H_
#define SENTRY_FS_CGROUP_CGROUP_FS_H_

#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "sentry/fs/cgroup/cgroup.h"
#include "sentry/kernel/cgroup.h"
#include "sentry/vfs/file_description.h"

namespace sentry::fs {

using kernel::Cgroup;
using kernel::CgroupEvent;
using kernel::Cgroups;

class CgroupDirectory;

// One view of a hierarchy: from its root, or from a namespace's. Mounts of the same view share one.
class CgroupFs final : public vfs::Filesystem {
 public:
  CgroupFs(RefPtr<Cgroup> root, std::string options) : root_group_(std::move(root)), options_(std::move(options)) {}
  // The one of that view, made when there is none.
  static RefPtr<CgroupFs> Get(RefPtr<Cgroup> root, const std::string& options);
  std::string_view TypeName() const override { return root_group_->IsV2() ? "cgroup2" : "cgroup"; }
  RefPtr<vfs::Inode> Root() override;
  vfs::StatFs GetStatFs() override { return {.magic = root_group_->IsV2() ? 0x63677270u : 0x27e0ebu}; }
  std::string MountOptions() const override;
  Result<void> Remount(std::string_view options) override { return OkResult(); }
  std::string MountRoot(std::string path) const override;
  void OnLastUnmount() override;

 private:
  const RefPtr<Cgroup> root_group_;
  const std::string options_;
  Mutex mu_{LockRank::kInode};
  RefPtr<CgroupDirectory> root_ ABSL_GUARDED_BY(mu_);
};

// What a file's functions see.
struct CgroupFileContext {
  Cgroup& group;
  RefPtr<const Credentials> opener;  // null: a sentry thread's
};

// Where a file is.
enum CgroupFilePlace : uint8_t { kOnV1 = 1, kOnV2 = 2, kOnRoot = 4, kOnOthers = 8, kEverywhere = kOnRoot | kOnOthers };

struct CgroupFile {
  const char* name;
  mode_t mode;
  uint8_t place;
  uint32_t controllers;  // any of them makes the file; 0: always there
  // Without locks; the group was there a moment ago (ENODEV is the caller's).
  Result<std::string> (*read)(const CgroupFileContext& context);
  // The same. Gets one write, without blanks at its ends.
  Result<void> (*write)(const CgroupFileContext& context, std::string_view text) = nullptr;
  CgroupEvent event = CgroupEvent::kCount;  // told by poll(2) and inotify(7)
};

std::span<const CgroupFile> CoreFiles();
std::span<const CgroupFile> ControllerFiles();
// The file of that name that the group has; null: none. T held.
const CgroupFile* FindCgroupFile(const Cgroup& group, std::string_view name);
void ForEachCgroupFile(const Cgroup& group, const std::function<void(const CgroupFile&)>& visit);

// ---- cgroup_inode.cc
class CgroupInode : public vfs::Inode {
 public:
  // `file` null: the directory.
  CgroupInode(CgroupFs& fs, RefPtr<Cgroup> group, const CgroupFile* file);
  ~CgroupInode() override;
  Cgroup& group() const { return *group_; }
  const RefPtr<Cgroup>& group_ref() const { return group_; }
  const CgroupFile* file() const { return file_; }
  Result<vfs::InodeStat> GetStat() override;
  Result<void> SetStat(const vfs::SetStatRequest& request) override;
  uint64_t ino() const;

 private:
  const RefPtr<Cgroup> group_;
  const CgroupFile* const file_;
  const vfs::Timestamp created_;
};

// Keeps the inodes of its files and directories, so that a watch stays with a name.
class CgroupDirectory final : public CgroupInode {
 public:
  CgroupDirectory(CgroupFs& fs, RefPtr<Cgroup> group) : CgroupInode(fs, std::move(group), nullptr) {}
  bool MayCacheNames() const override { return false; }
  Result<RefPtr<vfs::Inode>> Lookup(std::string_view name) override;
  Result<RefPtr<vfs::Inode>> Mkdir(std::string_view name, const vfs::CreateAttributes& attributes) override;
  Result<void> Rmdir(std::string_view name, vfs::Inode& victim) override;
  Result<vfs::FileRef> Open(const vfs::Path& path, int flags) override;
  CgroupFs& fs() const { return static_cast<CgroupFs&>(filesystem()); }
  void Clear();

 private:
  Mutex names_mu_{LockRank::kInode};
  std::map<std::string, RefPtr<CgroupInode>, std::less<>> names_ ABSL_GUARDED_BY(names_mu_);
};

class CgroupTextInode final : public CgroupInode {
 public:
  using CgroupInode::CgroupInode;
  Result<void> SetStat(const vfs::SetStatRequest& request) override;
  Result<vfs::FileRef> Open(const vfs::Path& path, int flags) override;
};

// ---- parsing (parse.cc)
// A number with an optional sign, decimal or 0x/0 prefixed, as kstrtoll(…, 0). EINVAL, ERANGE.
Result<int64_t> ParseCgroupNumber(std::string_view text);
// "max" (kCgroupNoLimit) or a number.
Result<int64_t> ParseCgroupLimit(std::string_view text);
// Bytes with a suffix of K, M, G, T; rounded down to pages. `max_word`: what means no limit.
Result<int64_t> ParseCgroupBytes(std::string_view text, std::string_view max_word);
std::string ShowCgroupLimit(int64_t value);

}  // namespace sentry::fs

#endif  // SENTRY_FS_CGROUP_CGROUP_FS_H_
