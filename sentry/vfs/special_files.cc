// SPDX-License-Identifier: Apache-2.0
// Registries of device drivers, the FIFO opener and filesystem types: filled at start, then only read. Anonymous
// places.
#include "sentry/vfs/special_files.h"

#include <map>

#include "base/log.h"
#include "sentry/vfs/vfs.h"

namespace sentry::vfs {
namespace {

struct Registry {
  std::map<std::pair<mode_t, unsigned>, DeviceOpener> devices;
  FifoOpener fifo = nullptr;
  std::vector<std::pair<std::string, bool>> type_names;
  std::map<std::string, FilesystemFactory, std::less<>> factories;
};

Registry& TheRegistry() {
  static Registry& registry = *new Registry();
  return registry;
}

class AnonymousFilesystem final : public Filesystem {
 public:
  std::string_view TypeName() const override { return "anon_inodefs"; }
  RefPtr<Inode> Root() override;
  StatFs GetStatFs() override { return {.magic = 0x09041934}; }
  static AnonymousFilesystem& Get() {
    static AnonymousFilesystem& filesystem = *MakeRef<AnonymousFilesystem>().Release();
    return filesystem;
  }
  uint64_t NextInode() { return next_inode_.fetch_add(1, std::memory_order_relaxed); }

 private:
  std::atomic<uint64_t> next_inode_{1000};
};

class AnonymousInode final : public Inode {
 public:
  AnonymousInode(mode_t mode, uid_t uid, gid_t gid)
      : Inode(RefPtr<Filesystem>(&AnonymousFilesystem::Get()), mode),
        mode_(mode),
        uid_(uid),
        gid_(gid),
        ino_(AnonymousFilesystem::Get().NextInode()),
        created_(Timestamp::Now()) {}
  Result<InodeStat> GetStat() override {
    MutexLock lock(mu_);
    InodeStat stat;
    stat.ino = ino_;
    stat.dev = filesystem().device();
    stat.mode = mode_;
    stat.uid = uid_;
    stat.gid = gid_;
    stat.atime = stat.mtime = stat.ctime = created_;
    return stat;
  }
  Result<void> SetStat(const SetStatRequest& request) override {
    MutexLock lock(mu_);
    if (request.size) return Errno(EINVAL);
    if (request.mode) mode_ = (mode_ & S_IFMT) | (*request.mode & 07777);
    if (request.uid) uid_ = *request.uid;
    if (request.gid) gid_ = *request.gid;
    return OkResult();
  }

 private:
  Mutex mu_{LockRank::kInode};
  mode_t mode_ ABSL_GUARDED_BY(mu_);
  uid_t uid_ ABSL_GUARDED_BY(mu_);
  gid_t gid_ ABSL_GUARDED_BY(mu_);
  const uint64_t ino_;
  const Timestamp created_;
};

RefPtr<Inode> AnonymousFilesystem::Root() { return MakeRef<AnonymousInode>(S_IFDIR | 0500, 0, 0); }

const RefPtr<Mount>& AnonymousMount() {
  static const RefPtr<Mount>& mount = *new RefPtr<Mount>([] {
    RefPtr<Filesystem> filesystem(&AnonymousFilesystem::Get());
    return MakeRef<Mount>(filesystem, Dentry::NewRoot(filesystem->Root()), 0, "none");
  }());
  return mount;
}

}  // namespace

bool IsAnonymousMount(const Mount& mount) { return &mount == AnonymousMount().get(); }

bool IsNamespaceFile(const Path& path) {
  return IsAnonymousMount(*path.mount) && path.inode()->filesystem().TypeName() == "nsfs" &&
         !path.dentry->name().starts_with("mnt:");
}

void RegisterDevice(mode_t type, unsigned major, DeviceOpener opener) {
  TheRegistry().devices[{type & S_IFMT, major}] = opener;
}

Result<FileRef> OpenDevice(const Path& path, int flags, mode_t type, dev_t device) {
  auto it = TheRegistry().devices.find({type & S_IFMT, major(device)});
  if (it == TheRegistry().devices.end()) return Errno(ENXIO);
  return it->second(path, flags, device);
}

void RegisterFifoOpener(FifoOpener opener) { TheRegistry().fifo = opener; }

Result<FileRef> OpenFifo(const Path& path, int flags) {
  if (!TheRegistry().fifo) return Errno(ENXIO);
  return TheRegistry().fifo(path, flags);
}

Path NewAnonymousPath(std::string name, mode_t mode, const Credentials& creds) {
  return NewAnonymousPath(std::move(name), MakeRef<AnonymousInode>(mode, creds.fsuid, creds.fsgid));
}

Path NewAnonymousPath(std::string name, RefPtr<Inode> inode) {
  // "/" would ask for the root of the inode's filesystem.
  if (name.empty() || name == "/") name = "anon_inode:[file]";
  return {AnonymousMount(), Dentry::NewRoot(std::move(inode), std::move(name))};
}

void RegisterFilesystemType(const char* name, FilesystemFactory factory, bool needs_device) {
  Registry& registry = TheRegistry();
  if (registry.factories.emplace(name, factory).second) registry.type_names.emplace_back(name, needs_device);
}

FilesystemFactory FindFilesystemType(std::string_view name) {
  auto it = TheRegistry().factories.find(name);
  return it == TheRegistry().factories.end() ? nullptr : it->second;
}

std::vector<std::pair<std::string, bool>> FilesystemTypes() { return TheRegistry().type_names; }

}  // namespace sentry::vfs
