// SPDX-License-Identifier: Apache-2.0
// /proc/PID/ns: links to files of an internal filesystem, "nsfs", whose inode numbers are the namespaces'.
#include "sentry/fs/proc/ns_file.h"

#include <dirent.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <sys/resource.h>

#include "sentry/fs/proc/task_dir.h"
#include "sentry/kernel/kernel.h"
#include "sentry/vfs/special_files.h"

namespace sentry::fs {

using kernel::Task;

namespace {

struct NsKind {
  const char* name;       // of the link
  const char* type_name;  // in its text
  int clone_flag;
};
constexpr int kCloneNewTime = 0x80;
constexpr NsKind kKinds[] = {
    {"cgroup", "cgroup", CLONE_NEWCGROUP}, {"ipc", "ipc", CLONE_NEWIPC},
    {"mnt", "mnt", CLONE_NEWNS},           {"net", "net", CLONE_NEWNET},
    {"pid", "pid", CLONE_NEWPID},          {"pid_for_children", "pid", CLONE_NEWPID},
    {"time", "time", kCloneNewTime},       {"time_for_children", "time", kCloneNewTime},
    {"user", "user", CLONE_NEWUSER},       {"uts", "uts", CLONE_NEWUTS},
};

uint64_t InodeOf(const NamespaceRef& ref) {
  if (ref.uts) return ref.uts->inode_number();
  if (ref.ipc) return ref.ipc->inode_number();
  if (ref.net) return ref.net->inode_number();
  if (ref.mounts) return ref.mounts->inode_number();
  if (ref.pid) return ref.pid->inode_number();
  if (ref.user) return ref.user->inode_number();
  return ref.time ? ref.time->inode_number() : ref.cgroup->inode_number();
}

class NsFs final : public vfs::Filesystem {
 public:
  std::string_view TypeName() const override { return "nsfs"; }
  RefPtr<vfs::Inode> Root() override { return nullptr; }  // never mounted as a whole
  vfs::StatFs GetStatFs() override { return {.magic = 0x6e736673}; }
  static NsFs& Get() {
    static NsFs& filesystem = *MakeRef<NsFs>().Release();
    return filesystem;
  }
};

std::string TextOf(const NamespaceRef& ref) {
  for (const NsKind& kind : kKinds) {
    if (kind.clone_flag == ref.clone_flag)
      return std::string(kind.type_name) + ":[" + std::to_string(InodeOf(ref)) + "]";
  }
  return "";
}

class NsInode final : public vfs::Inode {
 public:
  explicit NsInode(NamespaceRef ref) : Inode(RefPtr<vfs::Filesystem>(&NsFs::Get()), S_IFREG), ref_(std::move(ref)) {}
  const NamespaceRef& ref() const { return ref_; }
  Result<vfs::InodeStat> GetStat() override {
    vfs::InodeStat stat;
    stat.ino = InodeOf(ref_);
    stat.dev = filesystem().device();
    stat.mode = S_IFREG | 0444;
    return stat;
  }
  Result<vfs::FileRef> Open(const vfs::Path& path, int flags) override;

 private:
  const NamespaceRef ref_;
};

vfs::Path NsPath(NamespaceRef ref) {
  std::string name = TextOf(ref);
  return vfs::NewAnonymousPath(std::move(name), MakeRef<NsInode>(std::move(ref)));
}

class NsFile final : public vfs::FileDescription {
 public:
  NsFile(vfs::Path path, int flags) : FileDescription(std::move(path), flags) {}
  std::string LinkName() const override { return TextOf(ref()); }
  Result<size_t> PRead(IoTarget&, int64_t) override { return Errno(EINVAL); }
  Result<int64_t> Ioctl(unsigned request, uint64_t argument) override {
    switch (request) {
      case NS_GET_NSTYPE:
        return int64_t{ref().clone_flag};
      case NS_GET_USERNS:
        return OpenRelated({.clone_flag = CLONE_NEWUSER, .user = ref().Owner()});
      case NS_GET_PARENT:
        if (ref().pid) return OpenRelated({.clone_flag = CLONE_NEWPID, .pid = ref().pid->parent()});
        if (ref().user) return OpenRelated({.clone_flag = CLONE_NEWUSER, .user = ref().user->parent()});
        return Errno(EINVAL);
      case NS_GET_OWNER_UID:
        if (!ref().user) return Errno(EINVAL);
        TRY(Caller::Current().CopyOut(UserAddr(argument), Caller::Current().creds()->ShownUid(ref().user->owner())));
        return int64_t{0};
      default:
        return Errno(ENOTTY);
    }
  }

 private:
  const NamespaceRef& ref() const { return static_cast<NsInode&>(*inode()).ref(); }
  // EPERM outside the caller's own (ioctl_ns(2)).
  Result<int64_t> OpenRelated(NamespaceRef related) {
    Task& caller = Task::Current();
    if (!related.pid && !related.user) return Errno(EPERM);
    if (related.pid && !related.pid->IsSameOrDescendantOf(caller.pid_ns())) return Errno(EPERM);
    if (related.user && !related.user->IsSameOrDescendantOf(*caller.creds()->user_ns)) return Errno(EPERM);
    vfs::FileRef file = MakeRef<NsFile>(NsPath(std::move(related)), O_RDONLY);
    return int64_t{TRY(caller.fds().Add(std::move(file), true, caller.SoftLimit(RLIMIT_NOFILE)))};
  }
};

Result<vfs::FileRef> NsInode::Open(const vfs::Path& path, int flags) {
  return vfs::FileRef(MakeRef<NsFile>(path, flags));
}

class NsLink final : public ProcInode {
 public:
  NsLink(ProcFs& fs, TaskRef task, uint32_t kind)
      : ProcInode(fs, S_IFLNK | 0777, TaskInode(task.Id(), InodeKind::kNamespace, kind), task), kind_(kind) {}
  Result<std::string> ReadLink() override { return TextOf(TRY(Find())); }
  Result<std::optional<vfs::Path>> FollowMagicLink() override { return std::optional<vfs::Path>(NsPath(TRY(Find()))); }

 private:
  Result<NamespaceRef> Find() {
    RefPtr<Task> task = task_ref().Get();
    if (!task) return Errno(ENOENT);
    TRY(CheckAccess(*task, Errno(EACCES)));
    const NsKind& kind = kKinds[kind_];
    NamespaceRef ref{.clone_flag = kind.clone_flag};
    RefPtr<kernel::Namespaces> namespaces = task->namespaces_ref();
    RefPtr<const Credentials> creds = task->creds_ref();
    if (!namespaces || !creds) return Errno(ENOENT);  // a zombie
    switch (kind.clone_flag) {
      case CLONE_NEWIPC:
        ref.ipc = namespaces->ipc;
        break;
      case CLONE_NEWNS:
        ref.mounts = namespaces->mounts;
        break;
      case CLONE_NEWNET:
        ref.net = namespaces->net;
        break;
      case CLONE_NEWPID:
        ref.pid = std::string_view(kind.name) == "pid" ? task->group().pid_ns() : namespaces->pid_for_children;
        break;
      case CLONE_NEWUSER:
        ref.user = creds->user_ns;
        break;
      case CLONE_NEWUTS:
        ref.uts = namespaces->uts;
        break;
      case CLONE_NEWCGROUP:
        ref.cgroup = namespaces->cgroup;
        break;
      default:
        ref.time = std::string_view(kind.name) == "time" ? namespaces->time : namespaces->time_for_children;
        break;
    }
    return ref;
  }
  const uint32_t kind_;
};

class NsDirectory final : public TaskDirectory {
 public:
  NsDirectory(ProcFs& fs, TaskRef task)
      : TaskDirectory(fs, S_IFDIR | 0511, TaskInode(task.Id(), InodeKind::kNamespace, 0xffff), task) {}
  Result<RefPtr<vfs::Inode>> Lookup(std::string_view name) override {
    for (uint32_t i = 0; i < std::size(kKinds); ++i) {
      if (name == kKinds[i].name) return RefPtr<vfs::Inode>(MakeRef<NsLink>(fs(), task_ref(), i));
    }
    return Errno(ENOENT);
  }
  Result<std::vector<Entry>> List() override {
    std::vector<Entry> list;
    for (uint32_t i = 0; i < std::size(kKinds); ++i) {
      list.push_back({kKinds[i].name, TaskInode(task_ref().Id(), InodeKind::kNamespace, i), DT_LNK, kFirstCookie + i});
    }
    return list;
  }
};

}  // namespace

RefPtr<UserNamespace> NamespaceRef::Owner() const {
  if (user) return user->parent();
  if (uts) return uts->owner();
  if (ipc) return ipc->owner();
  if (net) return net->owner();
  if (pid) return pid->owner();
  if (cgroup) return cgroup->owner();
  if (time) return time->owner();
  return mounts->owner();
}

RefPtr<ProcInode> NewNsDirectory(ProcFs& fs, TaskRef task) { return MakeRef<NsDirectory>(fs, std::move(task)); }

Result<NamespaceRef> NamespaceOf(vfs::FileDescription& file) {
  if (&file.inode()->filesystem() != &NsFs::Get()) return Errno(EINVAL);
  return static_cast<NsInode&>(*file.inode()).ref();
}

}  // namespace sentry::fs
