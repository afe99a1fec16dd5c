// SPDX-License-Identifier: Apache-2.0
// Private to fs/gofer: the filesystem and its inodes.
#ifndef SENTRY_FS_GOFER_GOFER_INODE_H_
#define SENTRY_FS_GOFER_GOFER_INODE_H_

#include <list>
#include <map>
#include <memory>
#include <string>
#include <tuple>
#include <unordered_map>

#include "gofer/protocol/client.h"
#include "sentry/fs/gofer/gofer_fs.h"
#include "sentry/mm/mapped_object.h"
#include "sentry/vfs/file_description.h"
#include "sentry/vfs/inode.h"

namespace sentry::fs {

class GoferInode;

class GoferFilesystem final : public vfs::Filesystem {
 public:
  GoferFilesystem(std::unique_ptr<::gofer::Client> client, GoferOptions options);
  std::string_view TypeName() const override { return "9p"; }
  RefPtr<vfs::Inode> Root() override;
  vfs::StatFs GetStatFs() override;
  std::string MountOptions() const override { return "trans=fd"; }
  Result<void> SyncFs() override;

  ::gofer::Client& client() { return *client_; }
  bool shared() const { return options_.shared; }
  // The one inode of a file: an existing one for the same host file (the new node is given back), else a new one.
  RefPtr<GoferInode> InodeFor(const ::gofer::NodeAttr& node);
  void Forget(const GoferInode& inode);

  // Donated descriptors for reading whose file nobody has open now, kept for its next open. An eighth of what this
  // process may open and kMaxIdle at most; the one unused longest goes first. Only of exclusive trees: elsewhere they
  // would hold the space of files that others delete.
  void KeepIdle(const GoferInode& inode, UniqueFd fd);
  UniqueFd TakeIdle(const GoferInode& inode);
  // True if there were some.
  bool DropIdle();

 private:
  static constexpr size_t kMaxIdle = 512;
  struct Idle {
    const GoferInode* inode;
    UniqueFd fd;
  };
  // Device, inode and birth time: a reused inode number is another file.
  using Key = std::tuple<uint32_t, uint32_t, uint64_t, int64_t, uint32_t>;
  static Key KeyOf(const ::gofer::Attr& attr);

  std::unique_ptr<::gofer::Client> client_;
  const GoferOptions options_;
  const size_t max_idle_;
  Mutex mu_{LockRank::kLeaf};
  std::map<Key, GoferInode*> inodes_ ABSL_GUARDED_BY(mu_);  // each removes itself when its last reference goes
  Mutex idle_mu_{LockRank::kLeaf};
  std::list<Idle> idle_ ABSL_GUARDED_BY(idle_mu_);  // unused longest first
  std::unordered_map<const GoferInode*, std::list<Idle>::iterator> idle_of_ ABSL_GUARDED_BY(idle_mu_);
};

class GoferInode final : public vfs::Inode {
 public:
  GoferInode(RefPtr<GoferFilesystem> filesystem, const ::gofer::NodeAttr& node);
  ~GoferInode() override;

  GoferFilesystem& fs() const { return static_cast<GoferFilesystem&>(filesystem()); }
  ::gofer::NodeId node() const { return node_; }
  const ::gofer::Attr& first_attr() const { return first_attr_; }
  // The attributes changed in a way that only the host knows.
  void Invalidate() { stale_.store(true, std::memory_order_release); }
  // A donated host fd for reading, or for reading and writing; valid as long as a HandleUser is.
  Result<int> Handle(bool write);
  void AddHandleUser();
  void DropHandleUser();
  // Size as it is now: from the donated fd if there is one.
  Result<uint64_t> Size();
  // A write through the donated fd ended at `end`.
  void NoteWrite(uint64_t end);
  mm::ReverseMap& reverse_map() { return reverse_map_; }

  Result<vfs::InodeStat> GetStat() override;
  Result<void> SetStat(const vfs::SetStatRequest& request) override;
  Result<RefPtr<vfs::Inode>> Lookup(std::string_view name) override;
  Result<RefPtr<vfs::Inode>> Create(std::string_view name, const vfs::CreateAttributes& a) override;
  Result<RefPtr<vfs::Inode>> Mkdir(std::string_view name, const vfs::CreateAttributes& a) override;
  Result<RefPtr<vfs::Inode>> Mknod(std::string_view name, mode_t type, dev_t rdev,
                                   const vfs::CreateAttributes& a) override;
  Result<RefPtr<vfs::Inode>> Symlink(std::string_view name, std::string_view target,
                                     const vfs::CreateAttributes& a) override;
  Result<void> Link(std::string_view name, vfs::Inode& target) override;
  Result<void> Unlink(std::string_view name, vfs::Inode& victim) override;
  Result<void> Rmdir(std::string_view name, vfs::Inode& victim) override;
  Result<void> Rename(std::string_view old_name, vfs::Inode& moved, vfs::Inode& new_directory,
                      std::string_view new_name, vfs::Inode* replaced, unsigned flags) override;
  Result<std::string> ReadLink() override;
  Result<RefPtr<vfs::FileDescription>> Open(const vfs::Path& path, int flags) override;
  Result<std::string> GetXattr(std::string_view name) override;
  Result<void> SetXattr(std::string_view name, std::string_view value, int flags) override;
  Result<std::vector<std::string>> ListXattr() override;
  Result<void> RemoveXattr(std::string_view name) override;
  bool Revalidate(std::string_view name, vfs::Inode* child) override { return !fs().shared(); }
  bool MayCacheNames() const override { return !static_cast<GoferFilesystem&>(filesystem()).shared(); }

 private:
  Result<RefPtr<vfs::Inode>> Adopt(Result<::gofer::NodeAttr> made);
  // A name of it was removed: what is no longer found must not be held open.
  void NameRemoved();

  const ::gofer::NodeId node_;
  const ::gofer::Attr first_attr_;
  std::atomic<bool> stale_{false};
  std::atomic<bool> keep_idle_;
  Mutex mu_{LockRank::kMappable};  // GetBacking takes it under an address space's
  ::gofer::Attr attr_ ABSL_GUARDED_BY(mu_);
  std::string link_target_ ABSL_GUARDED_BY(mu_);
  UniqueFd read_fd_ ABSL_GUARDED_BY(mu_), write_fd_ ABSL_GUARDED_BY(mu_);
  int handle_users_ ABSL_GUARDED_BY(mu_) = 0;
  mm::ReverseMap reverse_map_;
};

}  // namespace sentry::fs

#endif  // SENTRY_FS_GOFER_GOFER_INODE_H_
