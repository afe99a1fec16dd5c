// SPDX-License-Identifier: Apache-2.0
// Directories and files. A directory's names are its group's children and the files that its controllers have.
#include <dirent.h>
#include <fcntl.h>
#include <sys/inotify.h>

#include <algorithm>

#include "sentry/fs/cgroup/cgroup_fs.h"
#include "sentry/kernel/core/timer.h"
#include "sentry/kernel/task.h"
#include "sentry/vfs/inotify_watches.h"
#include "sentry/vfs/permission.h"

namespace sentry::fs {
namespace {

constexpr mode_t kDirectoryMode = 0755;
constexpr size_t kMaxWrite = kPageSize;

// Tells inotify(7) from the timer thread: events happen with the TaskSet mutex held, watches take locks that come
// before it. Events of one file that come close together are one.
class Teller {
 public:
  static Teller& Get() {
    static Teller& teller = *new Teller();
    return teller;
  }
  void Tell(RefPtr<CgroupInode> inode) {
    RefPtr<CgroupInode> again;
    {
      MutexLock lock(mu_);
      if (std::find(pending_.begin(), pending_.end(), inode) != pending_.end()) {
        again = std::move(inode);
      } else {
        pending_.push_back(std::move(inode));
      }
    }
    timer_.Arm(base::MonotonicNs(), 0);
  }

 private:
  void Run() {
    std::vector<RefPtr<CgroupInode>> now;
    {
      MutexLock lock(mu_);
      now.swap(pending_);
    }
    for (const RefPtr<CgroupInode>& inode : now) inode->inotify_watches().Notify(IN_MODIFY, 0, "");
  }
  Mutex mu_{LockRank::kLeaf};
  std::vector<RefPtr<CgroupInode>> pending_ ABSL_GUARDED_BY(mu_);
  Timer timer_{[this](uint64_t) { Run(); }};
};

// The group's files that are watched in some view of it.
class Observer final : public kernel::CgroupObserver {
 public:
  void Add(CgroupInode* inode) {
    MutexLock lock(mu_);
    inodes_.push_back(inode);
  }
  void Remove(CgroupInode* inode) {
    MutexLock lock(mu_);
    std::erase(inodes_, inode);
  }
  void OnEvent(CgroupEvent event) override {
    std::vector<RefPtr<CgroupInode>> watched;
    {
      MutexLock lock(mu_);
      for (CgroupInode* inode : inodes_) {
        if (inode->file()->event == event && inode->HasInotifyWatches() && inode->TryIncRef())
          watched.push_back(RefPtr<CgroupInode>::Adopt(inode));
      }
    }
    for (RefPtr<CgroupInode>& inode : watched) Teller::Get().Tell(std::move(inode));
  }

 private:
  Mutex mu_{LockRank::kNamespace};
  std::vector<CgroupInode*> inodes_ ABSL_GUARDED_BY(mu_);
};

Observer& ObserverOf(Cgroup& group) {
  if (!group.observer) group.observer = MakeRef<Observer>();
  return static_cast<Observer&>(*group.observer);
}

const char* KeyOf(const CgroupFile* file) { return file ? file->name : ""; }

// T held.
vfs::InodeStat StatLocked(const Cgroup& group, const CgroupFile* file) {
  vfs::InodeStat stat;
  stat.mode = file ? S_IFREG | file->mode : S_IFDIR | kDirectoryMode;
  auto it = group.owners.find(KeyOf(file));
  if (it != group.owners.end()) {
    stat.mode = (stat.mode & S_IFMT) | it->second.mode;
    stat.uid = it->second.uid;
    stat.gid = it->second.gid;
  }
  return stat;
}

std::string_view Trimmed(std::string_view text) {
  constexpr std::string_view kBlanks(" \t\n\r\f\v\0", 7);
  const size_t first = text.find_first_not_of(kBlanks);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kBlanks) - first + 1);
}

class CgroupOpenFile final : public vfs::FileDescription {
 public:
  CgroupOpenFile(vfs::Path path, int flags)
      : FileDescription(std::move(path), flags), seen_(file().event == CgroupEvent::kCount ? 0 : Sequence()) {
    if (Caller* caller = Caller::CurrentOrNull()) opener_ = caller->creds();
  }
  Result<size_t> PRead(IoTarget& target, int64_t offset) override {
    if (offset < 0) return Errno(EINVAL);
    std::string text = TRY(Picture(offset));
    const auto at = static_cast<uint64_t>(offset);
    if (at >= text.size() || !target.remaining()) return size_t{0};
    return target.Put(text.data() + at, std::min(target.remaining(), text.size() - at));
  }
  Result<size_t> PWrite(IoSource& source, int64_t offset, int64_t* end) override {
    if (!file().write) return Errno(EINVAL);
    std::string data(std::min(source.remaining(), kMaxWrite), '\0');
    if (source.remaining() > kMaxWrite) return Errno(E2BIG);
    if (data.empty()) return size_t{0};
    data.resize(TRY(source.Take(data.data(), data.size())));
    TRY(CheckLive());
    TRY(file().write(Context(), Trimmed(data)));
    *end = std::max<int64_t>(offset, 0) + static_cast<int64_t>(data.size());
    return data.size();
  }
  EventMask Poll() override {
    const EventMask ready = kEventIn | kEventOut;
    if (file().event == CgroupEvent::kCount) return ready;
    return ready | (Sequence() == seen_.load(std::memory_order_acquire) ? 0u : EventMask{EPOLLPRI | EPOLLERR});
  }
  WaitQueue* wait_queue() override { return &group().event_queue(); }

 private:
  Cgroup& group() const { return static_cast<CgroupInode&>(*inode()).group(); }
  const CgroupFile& file() const { return *static_cast<CgroupInode&>(*inode()).file(); }
  CgroupFileContext Context() const { return {group(), opener_}; }
  uint64_t Sequence() const { return group().event_sequence(file().event); }
  // ENODEV: the group was removed, or has this controller no more.
  Result<void> CheckLive() const {
    MutexLock lock(Cgroups::mu());
    if (group().removed || FindCgroupFile(group(), file().name) != &file()) return Errno(ENODEV);
    return OkResult();
  }
  // A read at the start takes a new picture; reads further on see the same one.
  Result<std::string> Picture(int64_t offset) {
    if (offset != 0) {
      MutexLock lock(mu_);
      if (have_text_) return text_;
    }
    TRY(CheckLive());
    if (!file().read) return Errno(EINVAL);
    if (file().event != CgroupEvent::kCount) seen_.store(Sequence(), std::memory_order_release);
    std::string text = TRY(file().read(Context()));
    MutexLock lock(mu_);
    text_ = text;
    have_text_ = true;
    return text;
  }

  RefPtr<const Credentials> opener_;
  std::atomic<uint64_t> seen_;
  Mutex mu_{LockRank::kLeaf};
  std::string text_ ABSL_GUARDED_BY(mu_);
  bool have_text_ ABSL_GUARDED_BY(mu_) = false;
};

class CgroupOpenDirectory final : public vfs::FileDescription {
 public:
  CgroupOpenDirectory(vfs::Path path, int flags) : FileDescription(std::move(path), flags) {}
  Result<size_t> PRead(IoTarget&, int64_t) override { return Errno(EISDIR); }
  Result<void> IterateDirectory(const DirSink& sink) override {
    auto& directory = static_cast<CgroupDirectory&>(*inode());
    Cgroup& group = directory.group();
    // Cookies: files by their place in the tables, children by their id, which only rises.
    struct Entry {
      std::string name;
      uint8_t type;
      int64_t cookie;
    };
    constexpr int64_t kFirstChild = 1024;
    std::vector<Entry> entries{{".", DT_DIR, 0}, {"..", DT_DIR, 1}};
    {
      MutexLock lock(Cgroups::mu());
      if (group.removed) return OkResult();
      int64_t cookie = 2;
      ForEachCgroupFile(group, [&](const CgroupFile& file) { entries.push_back({file.name, DT_REG, cookie++}); });
      const size_t first = entries.size();
      for (const auto& [name, child] : group.children)
        entries.push_back({name, DT_DIR, kFirstChild + static_cast<int64_t>(child->id())});
      std::sort(entries.begin() + static_cast<std::ptrdiff_t>(first), entries.end(),
                [](const Entry& a, const Entry& b) { return a.cookie < b.cookie; });
    }
    MutexLock lock(position_mu());
    for (const Entry& entry : entries) {
      if (entry.cookie < position()) continue;
      const uint64_t ino = entry.cookie == 0 ? directory.ino() : static_cast<uint64_t>(entry.cookie) + 1;
      if (!sink({entry.name, ino, entry.type, entry.cookie + 1})) break;
      set_position(entry.cookie + 1);
    }
    return OkResult();
  }
};

}  // namespace

CgroupInode::CgroupInode(CgroupFs& fs, RefPtr<Cgroup> group, const CgroupFile* file)
    : Inode(RefPtr<vfs::Filesystem>(&fs), file ? S_IFREG : S_IFDIR),
      group_(std::move(group)),
      file_(file),
      created_(vfs::Timestamp::Now()) {
  if (!file_ || file_->event == CgroupEvent::kCount) return;
  MutexLock lock(Cgroups::mu());
  ObserverOf(*group_).Add(this);
}

CgroupInode::~CgroupInode() {
  if (file_ && file_->event != CgroupEvent::kCount) static_cast<Observer&>(*group_->observer).Remove(this);
}

// A group's id and, for files, a number of the name.
uint64_t CgroupInode::ino() const {
  constexpr uint64_t kBits = 1024;
  if (!file_) return group_->id() * kBits + 1;
  uint64_t index = 2;
  for (std::span<const CgroupFile> files : {CoreFiles(), ControllerFiles()}) {
    if (file_ >= files.data() && file_ < files.data() + files.size())
      return group_->id() * kBits + index + static_cast<uint64_t>(file_ - files.data());
    index += files.size();
  }
  return index;
}

Result<vfs::InodeStat> CgroupInode::GetStat() {
  MutexLock lock(Cgroups::mu());
  vfs::InodeStat stat = StatLocked(*group_, file_);
  stat.ino = ino();
  stat.dev = filesystem().device();
  stat.nlink = file_ ? 1 : group_->removed ? 0 : 2 + static_cast<uint32_t>(group_->children.size());
  stat.atime = stat.mtime = stat.ctime = created_;
  return stat;
}

Result<void> CgroupInode::SetStat(const vfs::SetStatRequest& request) {
  if (!request.mode && !request.uid && !request.gid) return OkResult();
  MutexLock lock(Cgroups::mu());
  const vfs::InodeStat now = StatLocked(*group_, file_);
  group_->owners[KeyOf(file_)] = {.uid = request.uid.value_or(now.uid),
                                  .gid = request.gid.value_or(now.gid),
                                  .mode = request.mode.value_or(now.mode) & 07777};
  return OkResult();
}

// O_TRUNC means nothing.
Result<void> CgroupTextInode::SetStat(const vfs::SetStatRequest& request) { return CgroupInode::SetStat(request); }

Result<vfs::FileRef> CgroupTextInode::Open(const vfs::Path& path, int flags) {
  return vfs::FileRef(MakeRef<CgroupOpenFile>(path, flags));
}

Result<RefPtr<vfs::Inode>> CgroupDirectory::Lookup(std::string_view name) {
  RefPtr<Cgroup> child;
  const CgroupFile* file = nullptr;
  {
    MutexLock lock(Cgroups::mu());
    if (!group().removed) {
      auto it = group().children.find(name);
      if (it != group().children.end()) child = it->second;
      file = child ? nullptr : FindCgroupFile(group(), name);
    }
  }
  MutexLock lock(names_mu_);
  auto it = names_.find(name);
  if (it != names_.end()) {
    const bool fits = child ? &it->second->group() == child.get() && !it->second->file() : it->second->file() == file;
    if (fits && (child || file)) return RefPtr<vfs::Inode>(it->second);
    names_.erase(it);
  }
  if (!child && !file) return Errno(ENOENT);
  RefPtr<CgroupInode> made;
  if (child) {
    made = MakeRef<CgroupDirectory>(fs(), std::move(child));
  } else {
    made = MakeRef<CgroupTextInode>(fs(), group_ref(), file);
  }
  names_.emplace(std::string(name), made);
  return RefPtr<vfs::Inode>(std::move(made));
}

Result<RefPtr<vfs::Inode>> CgroupDirectory::Mkdir(std::string_view name, const vfs::CreateAttributes& attributes) {
  if (name.find('\n') != std::string_view::npos) return Errno(EINVAL);
  {
    MutexLock lock(Cgroups::mu());
    if (group().removed) return Errno(ENOENT);
    if (FindCgroupFile(group(), name)) return Errno(EEXIST);
    RefPtr<Cgroup> made = TRY(Cgroups::Get().MakeLocked(group(), std::string(name)));
    made->owners[""] = {.uid = attributes.uid, .gid = attributes.gid, .mode = attributes.mode & 07777};
    if (attributes.uid != 0 || attributes.gid != 0) {
      // A delegate owns the files, too (cgroup_kn_set_ugid).
      ForEachCgroupFile(*made, [&](const CgroupFile& file) {
        made->owners[file.name] = {.uid = attributes.uid, .gid = attributes.gid, .mode = file.mode};
      });
    }
  }
  return Lookup(name);
}

Result<void> CgroupDirectory::Rmdir(std::string_view name, vfs::Inode& victim) {
  RefPtr<CgroupInode> dropped;
  {
    MutexLock lock(Cgroups::mu());
    TRY(Cgroups::Get().RemoveLocked(static_cast<CgroupInode&>(victim).group()));
  }
  {
    MutexLock lock(names_mu_);
    auto it = names_.find(name);
    if (it == names_.end()) return OkResult();
    dropped = std::move(it->second);
    names_.erase(it);
  }
  static_cast<CgroupDirectory&>(*dropped).Clear();
  return OkResult();
}

Result<vfs::FileRef> CgroupDirectory::Open(const vfs::Path& path, int flags) {
  return vfs::FileRef(MakeRef<CgroupOpenDirectory>(path, flags));
}

// Not under the parent's lock but for leaves: the depth is bounded by the groups'.
void CgroupDirectory::Clear() {
  std::map<std::string, RefPtr<CgroupInode>, std::less<>> names;
  {
    MutexLock lock(names_mu_);
    names.swap(names_);
  }
  for (auto& [name, inode] : names) {
    if (!inode->file()) static_cast<CgroupDirectory&>(*inode).Clear();
  }
}

const CgroupFile* FindCgroupFile(const Cgroup& group, std::string_view name) {
  const CgroupFile* found = nullptr;
  ForEachCgroupFile(group, [&](const CgroupFile& file) {
    if (name == file.name) found = &file;
  });
  return found;
}

void ForEachCgroupFile(const Cgroup& group, const std::function<void(const CgroupFile&)>& visit) {
  const uint32_t available = group.AvailableControllers();
  const uint8_t version = group.IsV2() ? kOnV2 : kOnV1, where = group.IsRoot() ? kOnRoot : kOnOthers;
  for (std::span<const CgroupFile> files : {CoreFiles(), ControllerFiles()}) {
    for (const CgroupFile& file : files) {
      if (!(file.place & version) || !(file.place & where)) continue;
      if (file.controllers && !(file.controllers & available)) continue;
      visit(file);
    }
  }
}

Result<RefPtr<Cgroup>> CgroupOfDirectory(vfs::FileDescription& file) {
  if (file.inode()->filesystem().TypeName() != "cgroup2" || !file.inode()->IsDirectory()) return Errno(EBADF);
  return static_cast<CgroupInode&>(*file.inode()).group_ref();
}

Result<void> MayMoveLocked(const Credentials& creds, const Cgroup& from, const Cgroup& to) {
  if (!to.IsV2()) return OkResult();
  auto may_write = [&](const Cgroup& group) {
    return vfs::GenericPermission(creds, StatLocked(group, FindCgroupFile(group, "cgroup.procs")), vfs::kMayWrite);
  };
  TRY(may_write(to));
  const Cgroup* common = &to;
  while (!from.IsBelow(*common)) common = common->parent();
  return may_write(*common);
}

}  // namespace sentry::fs
