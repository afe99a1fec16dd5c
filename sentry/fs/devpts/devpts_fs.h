// SPDX-License-Identifier: Apache-2.0
// Devpts: one instance: the slaves by number, and ptmx. And the files of both ends.
#ifndef SENTRY_FS_DEVPTS_DEVPTS_FS_H_
#define SENTRY_FS_DEVPTS_DEVPTS_FS_H_

#include <map>

#include "sentry/fs/devpts/pty.h"
#include "sentry/fs/devpts/tty.h"
#include "sentry/vfs/inode.h"

namespace sentry::fs {

struct DevptsOptions {
  std::optional<uid_t> uid;  // of new slaves; default the opener's
  std::optional<gid_t> gid;
  mode_t mode = 0600;
  mode_t ptmx_mode = 0;
  unsigned max = 4096;
  static Result<DevptsOptions> Parse(std::string_view text);
};

class SlaveInode;

class Devpts final : public vfs::Filesystem {
 public:
  explicit Devpts(const DevptsOptions& options) : options_(options) {}
  ~Devpts() override;

  std::string_view TypeName() const override { return "devpts"; }
  RefPtr<vfs::Inode> Root() override;
  vfs::StatFs GetStatFs() override { return {.magic = 0x1cd1}; }
  std::string MountOptions() const override;
  Result<void> Remount(std::string_view options) override;
  void OnLastUnmount() override;

  // The next free number. ENOSPC.
  Result<RefPtr<Tty>> NewTty(const Credentials& creds);
  void RemoveTty(unsigned index);
  RefPtr<SlaveInode> FindSlave(unsigned index);
  std::vector<unsigned> List();
  DevptsOptions options() const;

  // Opens a new master; `path` is what was opened, `root` the instance's root on the mount it is used by.
  static Result<vfs::FileRef> OpenMaster(const vfs::Path& path, const vfs::Path& root, int flags);

 private:
  mutable Mutex mu_{LockRank::kInode};
  DevptsOptions options_ ABSL_GUARDED_BY(mu_);
  RefPtr<vfs::Inode> root_ ABSL_GUARDED_BY(mu_);
  // A slave's inode refers back to this; its master's close, or the last unmount, ends that.
  std::map<unsigned, RefPtr<SlaveInode>> slaves_ ABSL_GUARDED_BY(mu_);
};

// /dev/pts/N.
class SlaveInode final : public vfs::Inode {
 public:
  SlaveInode(Devpts& fs, RefPtr<Tty> tty, uid_t uid, gid_t gid, mode_t mode);
  const RefPtr<Tty>& tty() const { return tty_; }
  Result<vfs::InodeStat> GetStat() override;
  Result<void> SetStat(const vfs::SetStatRequest& request) override;
  bool HandlesOpen() const override { return true; }
  Result<vfs::FileRef> Open(const vfs::Path& path, int flags) override;

 private:
  const RefPtr<Tty> tty_;
  Mutex mu_{LockRank::kInode};
  mode_t mode_ ABSL_GUARDED_BY(mu_);
  uid_t uid_ ABSL_GUARDED_BY(mu_);
  gid_t gid_ ABSL_GUARDED_BY(mu_);
  vfs::Timestamp atime_ ABSL_GUARDED_BY(mu_), mtime_ ABSL_GUARDED_BY(mu_), ctime_ ABSL_GUARDED_BY(mu_);
};

// pty_file.cc. `check_lock`: as Tty::OpenSlave.
Result<vfs::FileRef> OpenSlaveFile(const vfs::Path& path, int flags, const RefPtr<Tty>& tty, bool check_lock);
vfs::FileRef NewMasterFile(const vfs::Path& path, const vfs::Path& root, int flags, RefPtr<Tty> tty);
// The terminal of either end's file; null for other files.
RefPtr<Tty> TtyOf(vfs::FileDescription& file);

}  // namespace sentry::fs

#endif  // SENTRY_FS_DEVPTS_DEVPTS_FS_H_
