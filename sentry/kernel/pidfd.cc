// SPDX-License-Identifier: Apache-2.0
#include "sentry/kernel/pidfd.h"

#include <set>

#include "sentry/kernel/task.h"
#include "sentry/vfs/special_files.h"

namespace sentry::kernel {
namespace {

class PidFile final : public vfs::FileDescription {
 public:
  PidFile(vfs::Path path, int flags, RefPtr<ThreadGroup> group)
      : FileDescription(std::move(path), flags), group_(std::move(group)) {
    MutexLock lock(registry_mu_);
    registry_.insert(this);
  }
  ~PidFile() override {
    MutexLock lock(registry_mu_);
    registry_.erase(this);
  }

  // Without run-time type information: the set of all of them says which file is one.
  static PidFile* From(FileDescription& file) {
    MutexLock lock(registry_mu_);
    return registry_.contains(&file) ? static_cast<PidFile*>(&file) : nullptr;
  }

  Result<size_t> Read(IoTarget&) override { return Errno(EINVAL); }
  Result<size_t> Write(IoSource&) override { return Errno(EINVAL); }
  EventMask Poll() override { return group_->HasExited() ? kEventIn : 0; }
  WaitQueue* wait_queue() override { return &group_->exit_queue(); }
  std::string LinkName() const override { return "anon_inode:[pidfd]"; }
  std::string FdInfo() const override {
    const Task* reader = Task::CurrentOrNull();
    pid_t id = reader && !group_->HasExited() ? group_->TgidIn(reader->pid_ns()) : -1;
    std::string text = "Pid:\t" + std::to_string(id) + "\n";
    text += "NSpid:\t" + std::to_string(id) + "\n";
    return text;
  }
  const RefPtr<ThreadGroup>& group() const { return group_; }

 private:
  static inline Mutex registry_mu_{LockRank::kLeaf};
  static inline std::set<const FileDescription*> registry_ ABSL_GUARDED_BY(registry_mu_);
  RefPtr<ThreadGroup> group_;
};

}  // namespace

vfs::FileRef NewPidFile(RefPtr<ThreadGroup> group, int flags) {
  static const RefPtr<Credentials> kRoot = Credentials::Root(0);
  vfs::Path path = vfs::NewAnonymousPath("pidfd", S_IFREG | 0600, *kRoot);
  return MakeRef<PidFile>(std::move(path), O_RDWR | flags, std::move(group));
}

RefPtr<ThreadGroup> ThreadGroupOfPidFile(vfs::FileDescription& file) {
  PidFile* pid_file = PidFile::From(file);
  return pid_file ? pid_file->group() : nullptr;
}

}  // namespace sentry::kernel
