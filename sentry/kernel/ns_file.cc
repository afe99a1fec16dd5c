// SPDX-License-Identifier: Apache-2.0
#include "sentry/kernel/ns_file.h"

#include <linux/nsfs.h>
#include <sched.h>

#include <set>

#include "sentry/kernel/task.h"
#include "sentry/vfs/special_files.h"

namespace sentry::kernel {
namespace {

class NamespaceFile final : public vfs::FileDescription {
 public:
  NamespaceFile(vfs::Path path, NamespaceHandle handle) : FileDescription(std::move(path), O_RDONLY), handle_(std::move(handle)) {
    MutexLock lock(registry_mu_);
    registry_.insert(this);
  }
  ~NamespaceFile() override {
    MutexLock lock(registry_mu_);
    registry_.erase(this);
  }
  // Without run-time type information: the set of all of them says which file is one.
  static NamespaceFile* From(FileDescription& file) {
    MutexLock lock(registry_mu_);
    return registry_.contains(&file) ? static_cast<NamespaceFile*>(&file) : nullptr;
  }

  Result<size_t> Read(IoTarget&) override { return Errno(EINVAL); }
  Result<size_t> Write(IoSource&) override { return Errno(EINVAL); }
  Result<int64_t> Ioctl(unsigned request, uint64_t argument) override {
    if (request == NS_GET_NSTYPE) return static_cast<int64_t>(handle_.kind);
    return Errno(ENOTTY);
  }
  Result<vfs::InodeStat> GetStat() override {
    vfs::InodeStat stat = TRY(FileDescription::GetStat());
    stat.ino = handle_.inode_number();
    return stat;
  }
  std::string LinkName() const override { return handle_.LinkName(); }
  const NamespaceHandle& handle() const { return handle_; }

 private:
  static inline Mutex registry_mu_{LockRank::kLeaf};
  static inline std::set<const FileDescription*> registry_ ABSL_GUARDED_BY(registry_mu_);
  NamespaceHandle handle_;
};

const char* KindName(int kind) {
  switch (kind) {
    case CLONE_NEWUTS:
      return "uts";
    case CLONE_NEWIPC:
      return "ipc";
    case CLONE_NEWNET:
      return "net";
    case CLONE_NEWNS:
      return "mnt";
    case CLONE_NEWPID:
      return "pid";
    case CLONE_NEWUSER:
      return "user";
    default:
      return "";
  }
}

// User namespaces have no number of their own; the initial one has Linux's.
constexpr uint64_t kInitialUserNamespace = 0xEFFFFFFD;

}  // namespace

uint64_t NamespaceHandle::inode_number() const {
  if (uts) return uts->inode_number();
  if (ipc) return ipc->inode_number();
  if (net) return net->inode_number();
  if (mounts) return mounts->inode_number();
  if (pid) return pid->inode_number();
  return kInitialUserNamespace - (user ? user->level() : 0);
}

std::string NamespaceHandle::LinkName() const { return std::string(KindName(kind)) + ":[" + std::to_string(inode_number()) + "]"; }

Result<NamespaceHandle> NamespaceOfTask(const Task& task, int kind, bool for_children) {
  RefPtr<Namespaces> namespaces = task.namespaces_ref();
  if (!namespaces) return Errno(ESRCH);
  NamespaceHandle handle;
  handle.kind = kind;
  switch (kind) {
    case CLONE_NEWUTS:
      handle.uts = namespaces->uts;
      break;
    case CLONE_NEWIPC:
      handle.ipc = namespaces->ipc;
      break;
    case CLONE_NEWNET:
      handle.net = namespaces->net;
      break;
    case CLONE_NEWNS:
      handle.mounts = namespaces->mounts;
      break;
    case CLONE_NEWPID:
      handle.pid = for_children ? namespaces->pid_for_children : task.group().pid_ns();
      break;
    case CLONE_NEWUSER:
      handle.user = task.creds_ref()->user_ns;
      break;
    default:
      return Errno(EINVAL);
  }
  return handle;
}

vfs::FileRef NewNamespaceFile(NamespaceHandle handle) {
  static const RefPtr<Credentials> kRoot = Credentials::Root(0);
  vfs::Path path = vfs::NewAnonymousPath(handle.LinkName(), S_IFREG | 0444, *kRoot);
  return MakeRef<NamespaceFile>(std::move(path), std::move(handle));
}

const NamespaceHandle* NamespaceOfFile(vfs::FileDescription& file) {
  NamespaceFile* namespace_file = NamespaceFile::From(file);
  return namespace_file ? &namespace_file->handle() : nullptr;
}

}  // namespace sentry::kernel
