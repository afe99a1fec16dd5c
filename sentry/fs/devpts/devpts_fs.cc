// SPDX-License-Identifier: Apache-2.0
// devpts: every mount has an instance of its own (since Linux 4.7 "newinstance" means nothing more).
#include "sentry/fs/devpts/devpts_fs.h"

#include <dirent.h>
#include <sys/sysmacros.h>

#include "sentry/vfs/file_description.h"

namespace sentry::fs {
namespace {

constexpr unsigned kMaxPtys = 1 << 20;  // NR_UNIX98_PTY_MAX
constexpr uint64_t kRootIno = 1, kPtmxIno = 2, kSlaveIno = 3;

bool ParseUnsigned(std::string_view text, unsigned base, uint32_t* value) {
  uint64_t n = 0;
  if (text.empty()) return false;
  for (char c : text) {
    if (c < '0' || static_cast<unsigned>(c - '0') >= base) return false;
    n = n * base + static_cast<unsigned>(c - '0');
    if (n > UINT32_MAX) return false;
  }
  *value = static_cast<uint32_t>(n);
  return true;
}

class DevptsInode : public vfs::Inode {
 public:
  DevptsInode(Devpts& fs, mode_t type, uint64_t ino)
      : Inode(RefPtr<vfs::Filesystem>(&fs), type), ino_(ino), created_(vfs::Timestamp::Now()) {}
  Devpts& fs() const { return static_cast<Devpts&>(filesystem()); }
  Result<vfs::InodeStat> GetStat() override {
    vfs::InodeStat stat;
    stat.ino = ino_;
    stat.dev = filesystem().device();
    stat.mode = S_IFDIR | 0755;
    stat.nlink = 2;
    stat.atime = stat.mtime = stat.ctime = created_;
    return stat;
  }

 private:
  const uint64_t ino_;
  const vfs::Timestamp created_;
};

class PtmxInode final : public DevptsInode {
 public:
  explicit PtmxInode(Devpts& fs) : DevptsInode(fs, S_IFCHR, kPtmxIno) {}
  Result<vfs::InodeStat> GetStat() override {
    vfs::InodeStat stat = TRY(DevptsInode::GetStat());
    mode_t changed = mode_.load(std::memory_order_relaxed);
    stat.mode = S_IFCHR | (changed != kUnchanged ? changed : fs().options().ptmx_mode);
    stat.nlink = 1;
    stat.rdev = makedev(5, 2);
    return stat;
  }
  Result<void> SetStat(const vfs::SetStatRequest& request) override {
    if (request.uid || request.gid) return Errno(EPERM);
    if (request.mode) mode_.store(*request.mode & 07777, std::memory_order_relaxed);
    return OkResult();
  }
  bool HandlesOpen() const override { return true; }
  Result<vfs::FileRef> Open(const vfs::Path& path, int flags) override {
    vfs::Path root{path.mount, path.dentry->parent()};
    if (!root.dentry) {
      // A bind mount of the node alone.
      root.dentry = vfs::Dentry::NewRoot(fs().Root());
    }
    return Devpts::OpenMaster(path, root, flags);
  }

 private:
  static constexpr mode_t kUnchanged = ~mode_t{0};
  std::atomic<mode_t> mode_{kUnchanged};
};

class RootInode final : public DevptsInode {
 public:
  explicit RootInode(Devpts& fs) : DevptsInode(fs, S_IFDIR, kRootIno), ptmx_(MakeRef<PtmxInode>(fs)) {}
  // Names come and go with masters.
  bool MayCacheNames() const override { return false; }
  Result<RefPtr<vfs::Inode>> Lookup(std::string_view name) override {
    if (name == "ptmx") return RefPtr<vfs::Inode>(ptmx_);
    uint32_t index;
    if (name.size() > 1 && name[0] == '0') return Errno(ENOENT);
    if (!ParseUnsigned(name, 10, &index)) return Errno(ENOENT);
    RefPtr<SlaveInode> slave = fs().FindSlave(index);
    if (!slave) return Errno(ENOENT);
    return RefPtr<vfs::Inode>(slave);
  }
  Result<vfs::FileRef> Open(const vfs::Path& path, int flags) override;

 private:
  const RefPtr<PtmxInode> ptmx_;
};

class RootFile final : public vfs::FileDescription {
 public:
  RootFile(vfs::Path path, int flags) : FileDescription(std::move(path), flags) {}
  Result<size_t> PRead(IoTarget&, int64_t) override { return Errno(EISDIR); }
  Result<void> IterateDirectory(const DirSink& sink) override {
    const std::vector<unsigned> slaves = static_cast<RootInode&>(*inode()).fs().List();
    MutexLock lock(position_mu());
    // A name's cookie stays: 3 + its number.
    auto emit = [&](int64_t cookie, std::string_view name, uint64_t ino, uint8_t type) {
      if (cookie < position()) return true;
      if (!sink({name, ino, type, cookie + 1})) return false;
      set_position(cookie + 1);
      return true;
    };
    if (!emit(0, ".", kRootIno, DT_DIR) || !emit(1, "..", kRootIno, DT_DIR) || !emit(2, "ptmx", kPtmxIno, DT_CHR))
      return OkResult();
    for (unsigned index : slaves) {
      if (!emit(3 + int64_t{index}, std::to_string(index), kSlaveIno + index, DT_CHR)) break;
    }
    return OkResult();
  }
};

Result<vfs::FileRef> RootInode::Open(const vfs::Path& path, int flags) {
  return vfs::FileRef(MakeRef<RootFile>(path, flags));
}

}  // namespace

Result<DevptsOptions> DevptsOptions::Parse(std::string_view text) {
  DevptsOptions options;
  while (!text.empty()) {
    const size_t comma = text.find(',');
    std::string_view option = text.substr(0, comma);
    text = comma == std::string_view::npos ? std::string_view() : text.substr(comma + 1);
    const size_t equals = option.find('=');
    const std::string_view key = option.substr(0, equals);
    const std::string_view value = equals == std::string_view::npos ? std::string_view() : option.substr(equals + 1);
    uint32_t number = 0;
    bool ok = true;
    if (key == "uid") {
      ok = ParseUnsigned(value, 10, &number);
      options.uid = number;
    } else if (key == "gid") {
      ok = ParseUnsigned(value, 10, &number);
      options.gid = number;
    } else if (key == "mode") {
      ok = ParseUnsigned(value, 8, &number);
      options.mode = number & 0777;
    } else if (key == "ptmxmode") {
      ok = ParseUnsigned(value, 8, &number);
      options.ptmx_mode = number & 0777;
    } else if (key == "max") {
      ok = ParseUnsigned(value, 10, &number) && number <= kMaxPtys;
      options.max = number;
    } else {
      ok = key == "newinstance" || key.empty();
    }
    if (!ok) return Errno(EINVAL);
  }
  return options;
}

Devpts::~Devpts() = default;

DevptsOptions Devpts::options() const {
  MutexLock lock(mu_);
  return options_;
}

RefPtr<vfs::Inode> Devpts::Root() {
  {
    MutexLock lock(mu_);
    if (root_) return root_;
  }
  auto root = MakeRef<RootInode>(*this);
  MutexLock lock(mu_);
  if (!root_) root_ = root;
  return root_;
}

void Devpts::OnLastUnmount() {
  RefPtr<vfs::Inode> root;
  MutexLock lock(mu_);
  root = std::move(root_);
}

std::string Devpts::MountOptions() const {
  const DevptsOptions now = options();
  std::string text;
  if (now.uid) text += "uid=" + std::to_string(*now.uid) + ",";
  if (now.gid) text += "gid=" + std::to_string(*now.gid) + ",";
  char modes[48];
  snprintf(modes, sizeof modes, "mode=%03o,ptmxmode=%03o", now.mode, now.ptmx_mode);
  text += modes;
  if (now.max != DevptsOptions().max) text += ",max=" + std::to_string(now.max);
  return text;
}

Result<void> Devpts::Remount(std::string_view text) {
  DevptsOptions parsed = TRY(DevptsOptions::Parse(text));
  MutexLock lock(mu_);
  options_ = parsed;
  return OkResult();
}

Result<RefPtr<Tty>> Devpts::NewTty(const Credentials& creds) {
  unsigned index = 0;
  for (;;) {
    {
      MutexLock lock(mu_);
      index = 0;
      for (const auto& [used, slave] : slaves_) {
        if (used != index) break;
        ++index;
      }
      if (index >= options_.max) return Errno(ENOSPC);
    }
    const DevptsOptions now = options();
    auto tty = MakeRef<Tty>(index);
    auto slave =
        MakeRef<SlaveInode>(*this, tty, now.uid.value_or(creds.fsuid), now.gid.value_or(creds.fsgid), now.mode);
    MutexLock lock(mu_);
    if (slaves_.emplace(index, std::move(slave)).second) return tty;
  }
}

void Devpts::RemoveTty(unsigned index) {
  RefPtr<SlaveInode> removed;
  MutexLock lock(mu_);
  auto it = slaves_.find(index);
  if (it == slaves_.end()) return;
  removed = std::move(it->second);
  slaves_.erase(it);
}

RefPtr<SlaveInode> Devpts::FindSlave(unsigned index) {
  MutexLock lock(mu_);
  auto it = slaves_.find(index);
  return it == slaves_.end() ? nullptr : it->second;
}

std::vector<unsigned> Devpts::List() {
  std::vector<unsigned> list;
  MutexLock lock(mu_);
  for (const auto& [index, slave] : slaves_) list.push_back(index);
  return list;
}

Result<vfs::FileRef> Devpts::OpenMaster(const vfs::Path& path, const vfs::Path& root, int flags) {
  Devpts& fs = static_cast<Devpts&>(root.inode()->filesystem());
  Caller* caller = Caller::CurrentOrNull();
  RefPtr<const Credentials> creds = caller ? caller->creds() : RefPtr<const Credentials>(Credentials::Root(0));
  RefPtr<Tty> tty = TRY(fs.NewTty(*creds));
  return NewMasterFile(path, root, flags, std::move(tty));
}

SlaveInode::SlaveInode(Devpts& fs, RefPtr<Tty> tty, uid_t uid, gid_t gid, mode_t mode)
    : Inode(RefPtr<vfs::Filesystem>(&fs), S_IFCHR), tty_(std::move(tty)), mode_(mode), uid_(uid), gid_(gid) {
  atime_ = mtime_ = ctime_ = vfs::Timestamp::Now();
}

Result<vfs::InodeStat> SlaveInode::GetStat() {
  vfs::InodeStat stat;
  stat.ino = kSlaveIno + tty_->index();
  stat.dev = filesystem().device();
  stat.rdev = tty_->Device();
  stat.block_size = 1024;
  MutexLock lock(mu_);
  stat.mode = S_IFCHR | mode_;
  stat.uid = uid_;
  stat.gid = gid_;
  stat.atime = atime_;
  stat.mtime = mtime_;
  stat.ctime = ctime_;
  return stat;
}

Result<void> SlaveInode::SetStat(const vfs::SetStatRequest& request) {
  MutexLock lock(mu_);
  if (request.mode) mode_ = *request.mode & 07777;
  if (request.uid) uid_ = *request.uid;
  if (request.gid) gid_ = *request.gid;
  if (request.atime) atime_ = *request.atime;
  if (request.mtime) mtime_ = *request.mtime;
  ctime_ = vfs::Timestamp::Now();
  return OkResult();
}

Result<vfs::FileRef> SlaveInode::Open(const vfs::Path& path, int flags) {
  return OpenSlaveFile(path, flags, tty_, true);
}

Result<RefPtr<vfs::Filesystem>> NewDevpts(const vfs::MountSource& source) {
  DevptsOptions options = TRY(DevptsOptions::Parse(source.options));
  if (options.uid) options.uid = source.creds.ToKernel(IdKind::kUser, *options.uid);
  if (options.gid) options.gid = source.creds.ToKernel(IdKind::kGroup, *options.gid);
  if (options.uid == kInvalidId || options.gid == kInvalidId) return Errno(EINVAL);
  return RefPtr<vfs::Filesystem>(MakeRef<Devpts>(options));
}

}  // namespace sentry::fs
