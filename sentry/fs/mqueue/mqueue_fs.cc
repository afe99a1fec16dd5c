// SPDX-License-Identifier: Apache-2.0
// The mqueue filesystem: its directory, its instances, and what users may hold.
#include <dirent.h>
#include <fcntl.h>

#include <algorithm>

#include "sentry/fs/mqueue/queue.h"
#include "sentry/kernel/kernel.h"
#include "sentry/vfs/file_description.h"

namespace sentry::fs {

class MqueueFs;

namespace {

// Upper bounds even with CAP_SYS_RESOURCE (mq_overview(7)).
constexpr int64_t kHardMessages = 65536, kHardMessageSize = 16777216;
// What Linux charges for bookkeeping: a message header and, by priority, a tree node.
constexpr int64_t kHeaderBytes = 48, kNodeBytes = 48;
constexpr uint64_t kRootIno = 1;

struct Users {
  Mutex mu{LockRank::kLeaf};
  std::map<uid_t, uint64_t> bytes ABSL_GUARDED_BY(mu);
  static Users& Get() {
    static Users& users = *new Users();
    return users;
  }
};

// What the calling thread's next Create through the vfs is to make: mq_open's attributes don't fit its interface.
thread_local const std::optional<MqAttributes>* creating = nullptr;

}  // namespace

Result<MqUserBytes> MqUserBytes::Take(uid_t uid, uint64_t bytes, uint64_t limit) {
  Users& users = Users::Get();
  MutexLock lock(users.mu);
  uint64_t& held = users.bytes[uid];
  if (bytes > limit || held > limit - bytes) {
    if (held == 0) users.bytes.erase(uid);
    return Errno(EMFILE);
  }
  held += bytes;
  MqUserBytes taken;
  taken.uid_ = uid;
  taken.bytes_ = bytes;
  return taken;
}

MqUserBytes::~MqUserBytes() {
  if (!bytes_) return;
  Users& users = Users::Get();
  MutexLock lock(users.mu);
  auto it = users.bytes.find(uid_);
  if ((it->second -= bytes_) == 0) users.bytes.erase(it);
}

class MqueueRoot final : public vfs::Inode {
 public:
  explicit MqueueRoot(MqueueFs& fs);
  MqueueFs& fs() const;
  bool MayCacheNames() const override { return false; }
  Result<vfs::InodeStat> GetStat() override;
  Result<void> SetStat(const vfs::SetStatRequest& request) override;
  Result<RefPtr<vfs::Inode>> Lookup(std::string_view name) override;
  Result<RefPtr<vfs::Inode>> Create(std::string_view name, const vfs::CreateAttributes& attributes) override;
  Result<void> Unlink(std::string_view name, vfs::Inode& victim) override;
  Result<vfs::FileRef> Open(const vfs::Path& path, int flags) override;
  struct Name {
    std::string name;
    uint64_t ino;
  };
  std::vector<Name> List();
  void Shutdown();

 private:
  Mutex mu_{LockRank::kInode};
  std::map<std::string, RefPtr<Queue>, std::less<>> queues_ ABSL_GUARDED_BY(mu_);
  mode_t mode_ ABSL_GUARDED_BY(mu_) = S_IFDIR | 01777;
  uid_t uid_ ABSL_GUARDED_BY(mu_) = 0;
  gid_t gid_ ABSL_GUARDED_BY(mu_) = 0;
  vfs::Timestamp mtime_ ABSL_GUARDED_BY(mu_) = vfs::Timestamp::Now();
  uint64_t next_ino_ ABSL_GUARDED_BY(mu_) = kRootIno + 1;
  bool closed_ ABSL_GUARDED_BY(mu_) = false;
};

class MqueueFs final : public vfs::Filesystem {
 public:
  explicit MqueueFs(kernel::IpcNamespace& owner) : owner_(&owner) {}
  std::string_view TypeName() const override { return "mqueue"; }
  RefPtr<vfs::Inode> Root() override {
    MutexLock lock(mu_);
    if (!root_) root_ = MakeRef<MqueueRoot>(*this);
    return root_;
  }
  vfs::StatFs GetStatFs() override { return {.magic = 0x19800202}; }
  // Of the namespace, which outlives every call but those after Shutdown (null then).
  kernel::MqueueLimits limits() const {
    MutexLock lock(mu_);
    return owner_ ? owner_->mqueue_limits() : kernel::MqueueLimits{.queues = 0};
  }
  void Shutdown() {
    RefPtr<MqueueRoot> root;
    {
      MutexLock lock(mu_);
      owner_ = nullptr;
      root = std::move(root_);
    }
    if (root) root->Shutdown();
  }

 private:
  mutable Mutex mu_{LockRank::kInode};
  kernel::IpcNamespace* owner_ ABSL_GUARDED_BY(mu_);
  RefPtr<MqueueRoot> root_ ABSL_GUARDED_BY(mu_);
};

namespace {

// The namespace's hold on its instance, with a mount for the mq_* calls.
class Instance final : public kernel::IpcAttachment {
 public:
  explicit Instance(kernel::IpcNamespace& owner)
      : fs_(MakeRef<MqueueFs>(owner)),
        mount_(MakeRef<vfs::Mount>(fs_, vfs::Dentry::NewRoot(fs_->Root()), 0, "mqueue")) {}
  ~Instance() override { fs_->Shutdown(); }
  const RefPtr<MqueueFs>& fs() const { return fs_; }
  vfs::Path root() const { return {mount_, mount_->root()}; }

 private:
  const RefPtr<MqueueFs> fs_;
  const RefPtr<vfs::Mount> mount_;
};

RefPtr<Instance> InstanceOf(kernel::IpcNamespace& ns) {
  RefPtr<kernel::IpcAttachment> attachment = ns.Attachment(
      [](kernel::IpcNamespace& owner) -> RefPtr<kernel::IpcAttachment> { return MakeRef<Instance>(owner); });
  return RefPtr<Instance>(static_cast<Instance*>(attachment.get()));
}

class RootFile final : public vfs::FileDescription {
 public:
  RootFile(vfs::Path path, int flags, RefPtr<MqueueRoot> root)
      : FileDescription(std::move(path), flags), root_(std::move(root)) {}
  Result<size_t> PRead(IoTarget&, int64_t) override { return Errno(EISDIR); }
  Result<void> IterateDirectory(const DirSink& sink) override {
    const std::vector<MqueueRoot::Name> names = root_->List();
    MutexLock lock(position_mu());
    // A name's cookie is its inode number, which only rises.
    auto emit = [&](int64_t cookie, std::string_view name, uint64_t ino, uint8_t type) {
      if (cookie < position()) return true;
      if (!sink({name, ino, type, cookie + 1})) return false;
      set_position(cookie + 1);
      return true;
    };
    if (!emit(0, ".", kRootIno, DT_DIR) || !emit(1, "..", kRootIno, DT_DIR)) return OkResult();
    for (const MqueueRoot::Name& name : names) {
      if (!emit(static_cast<int64_t>(name.ino), name.name, name.ino, DT_REG)) break;
    }
    return OkResult();
  }

 private:
  const RefPtr<MqueueRoot> root_;
};

Result<void> CheckName(const std::string& name) {
  if (name.empty()) return Errno(ENOENT);
  if (name == "." || name == ".." || name.find('/') != std::string::npos) return Errno(EACCES);
  return OkResult();
}

vfs::WalkContext ContextOf(kernel::Task& task, const Instance& instance) {
  return {.root = instance.root(),
          .start = instance.root(),
          .creds = *task.creds(),
          .mounts = task.namespaces().mounts,
          .umask = task.umask()};
}

}  // namespace

MqueueRoot::MqueueRoot(MqueueFs& fs) : Inode(RefPtr<vfs::Filesystem>(&fs), S_IFDIR) {}
MqueueFs& MqueueRoot::fs() const { return static_cast<MqueueFs&>(filesystem()); }

Result<vfs::InodeStat> MqueueRoot::GetStat() {
  MutexLock lock(mu_);
  vfs::InodeStat stat;
  stat.ino = kRootIno;
  stat.dev = filesystem().device();
  stat.mode = mode_;
  stat.nlink = 2;
  stat.uid = uid_;
  stat.gid = gid_;
  stat.size = queues_.size() * 20;
  stat.atime = stat.mtime = stat.ctime = mtime_;
  return stat;
}

Result<void> MqueueRoot::SetStat(const vfs::SetStatRequest& request) {
  MutexLock lock(mu_);
  if (request.mode) mode_ = S_IFDIR | (*request.mode & 07777);
  if (request.uid) uid_ = *request.uid;
  if (request.gid) gid_ = *request.gid;
  return OkResult();
}

Result<RefPtr<vfs::Inode>> MqueueRoot::Lookup(std::string_view name) {
  MutexLock lock(mu_);
  auto it = queues_.find(name);
  if (it == queues_.end()) return Errno(ENOENT);
  return RefPtr<vfs::Inode>(it->second);
}

Result<RefPtr<vfs::Inode>> MqueueRoot::Create(std::string_view name, const vfs::CreateAttributes& attributes) {
  const kernel::MqueueLimits limits = fs().limits();
  kernel::Task& task = kernel::Task::Current();
  const bool privileged = task.HasCapability(CAP_SYS_RESOURCE);
  MqAttributes wanted{std::min(limits.messages, limits.default_messages),
                      std::min(limits.message_size, limits.default_message_size)};
  if (creating && *creating) {
    wanted = **creating;
    if (wanted.max_messages <= 0 || wanted.message_size <= 0) return Errno(EINVAL);
    if (wanted.max_messages > (privileged ? kHardMessages : limits.messages) ||
        wanted.message_size > (privileged ? kHardMessageSize : limits.message_size))
      return Errno(EINVAL);
  }
  const int64_t bytes = wanted.max_messages * (wanted.message_size + kHeaderBytes) +
                        std::min<int64_t>(wanted.max_messages, kMqPriorities) * kNodeBytes;
  MqUserBytes held =
      TRY(MqUserBytes::Take(task.creds()->ruid, static_cast<uint64_t>(bytes), task.SoftLimit(RLIMIT_MSGQUEUE)));
  MutexLock lock(mu_);
  if (closed_) return Errno(EACCES);
  if (static_cast<int>(queues_.size()) >= limits.queues && !privileged) return Errno(ENOSPC);
  auto queue = MakeRef<Queue>(fs(), next_ino_++, attributes, wanted, std::move(held));
  queues_[std::string(name)] = queue;
  mtime_ = vfs::Timestamp::Now();
  return RefPtr<vfs::Inode>(std::move(queue));
}

Result<void> MqueueRoot::Unlink(std::string_view name, vfs::Inode& victim) {
  RefPtr<Queue> dropped;
  MutexLock lock(mu_);
  auto it = queues_.find(name);
  if (it == queues_.end()) return Errno(ENOENT);
  dropped = std::move(it->second);
  dropped->set_unlinked();
  queues_.erase(it);
  mtime_ = vfs::Timestamp::Now();
  return OkResult();
}

Result<vfs::FileRef> MqueueRoot::Open(const vfs::Path& path, int flags) {
  return vfs::FileRef(MakeRef<RootFile>(path, flags, RefPtr<MqueueRoot>(this)));
}

std::vector<MqueueRoot::Name> MqueueRoot::List() {
  std::vector<Name> names;
  {
    MutexLock lock(mu_);
    for (const auto& [name, queue] : queues_) names.push_back({name, queue->ino()});
  }
  std::sort(names.begin(), names.end(), [](const Name& a, const Name& b) { return a.ino < b.ino; });
  return names;
}

void MqueueRoot::Shutdown() {
  std::map<std::string, RefPtr<Queue>, std::less<>> queues;
  MutexLock lock(mu_);
  closed_ = true;
  queues.swap(queues_);
}

Result<RefPtr<vfs::Filesystem>> NewMqueue(const vfs::MountSource& source) {
  kernel::Task* task = kernel::Task::CurrentOrNull();
  RefPtr<kernel::IpcNamespace> ns = task ? task->namespaces().ipc : kernel::Kernel::Get().NewNamespaces(nullptr)->ipc;
  return RefPtr<vfs::Filesystem>(InstanceOf(*ns)->fs());
}

Result<vfs::FileRef> MqOpen(kernel::Task& task, const std::string& name, int flags, mode_t mode,
                            std::optional<MqAttributes> attributes) {
  TRY(CheckName(name));
  if ((flags & O_ACCMODE) == O_ACCMODE) return Errno(EINVAL);
  RefPtr<Instance> instance = InstanceOf(*task.namespaces().ipc);
  creating = &attributes;
  auto file = vfs::Open(ContextOf(task, *instance), name,
                        flags & (O_ACCMODE | O_CREAT | O_EXCL | O_NONBLOCK | O_NOFOLLOW), mode);
  creating = nullptr;
  return file;
}

Result<void> MqUnlink(kernel::Task& task, const std::string& name) {
  TRY(CheckName(name));
  RefPtr<Instance> instance = InstanceOf(*task.namespaces().ipc);
  return vfs::Unlink(ContextOf(task, *instance), name);
}

Result<Queue*> QueueOf(vfs::FileDescription& file) {
  if (file.inode()->filesystem().TypeName() != "mqueue" || !file.inode()->IsRegular()) return Errno(EBADF);
  return static_cast<Queue*>(file.inode().get());
}

}  // namespace sentry::fs
