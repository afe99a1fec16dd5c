// SPDX-License-Identifier: Apache-2.0
// F_SETLEASE and F_NOTIFY of fcntl(2): who is told what happens to a file, or in a directory.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/inotify.h>

#include <map>

#include "sentry/kernel/async_work.h"
#include "sentry/kernel/core/tunables.h"
#include "sentry/syscalls/async_notifier.h"
#include "sentry/vfs/inotify_watches.h"
#include "sentry/vfs/leases.h"

namespace sentry::syscalls {
namespace {

// __f_setown of the kernel: the process becomes the owner unless there is one.
void OwnIfNobody(Task& task, vfs::FileDescription& file, bool always) {
  vfs::AsyncOwner owner = file.async_owner();
  if (owner.id != 0 && !always) return;
  owner.type = F_OWNER_PID;
  owner.id = task.CallerTgid();
  file.set_async_owner(owner);
}

constexpr uint32_t kKnown = DN_ACCESS | DN_MODIFY | DN_CREATE | DN_DELETE | DN_RENAME | DN_ATTRIB;

// DN_* bits of an inotify event.
uint32_t DnotifyBits(uint32_t mask) {
  uint32_t bits = 0;
  if (mask & IN_ACCESS) bits |= DN_ACCESS;
  if (mask & IN_MODIFY) bits |= DN_MODIFY;
  if (mask & (IN_CREATE | IN_MOVED_TO)) bits |= DN_CREATE;
  if (mask & (IN_DELETE | IN_MOVED_FROM)) bits |= DN_DELETE;
  if (mask & (IN_MOVED_FROM | IN_MOVED_TO)) bits |= DN_RENAME;
  if (mask & IN_ATTRIB) bits |= DN_ATTRIB;
  return bits;
}

// One per description of a directory. Ends with the description.
class DirectoryWatch final : public vfs::InotifyWatch, public vfs::FileDescription::EpollLink {
 public:
  DirectoryWatch(Task& task, vfs::FileDescription& file, int fd)
      : signal_(task, fd), inode_(file.inode()), file_(&file) {}

  void set_mask(uint32_t mask) { mask_.store(mask, std::memory_order_relaxed); }
  void add_mask(uint32_t mask) { mask_.fetch_or(mask, std::memory_order_relaxed); }

  void OnEvent(uint32_t mask, uint32_t, std::string_view name) override {
    if (name.empty()) return;  // the directory's own
    const uint32_t wanted = mask_.load(std::memory_order_relaxed);
    if (!(DnotifyBits(mask) & wanted)) return;
    // Without DN_MULTISHOT it is over; the empty watch goes with the description.
    if (!(wanted & DN_MULTISHOT)) set_mask(0);
    // An event may come where no signal can be sent. One job sends those of all events until it runs.
    if (untold_.fetch_add(1, std::memory_order_acq_rel) == 0)
      signal_.group->async_work().Retry(MakeRef<Sender>(RefPtr<DirectoryWatch>(this)));
  }
  void OnFileDestroyed() override;
  void Tell() {
    const uint32_t events = untold_.exchange(0, std::memory_order_acq_rel);
    vfs::AsyncOwner owner;
    {
      MutexLock lock(mu_);
      if (!file_) return;
      owner = file_->async_owner();
    }
    for (uint32_t i = 0; i < events; ++i) signal_.Send(owner, POLL_MSG, POLLIN | POLLRDNORM | POLLMSG);
  }

 private:
  class Sender final : public kernel::AsyncJob {
   public:
    explicit Sender(RefPtr<DirectoryWatch> watch) : watch_(std::move(watch)) {}
    const kernel::TaskIdentity& identity() const override { return identity_; }
    void Run(Task&) override { watch_->Tell(); }

   private:
    const RefPtr<DirectoryWatch> watch_;
    const kernel::TaskIdentity identity_;
  };

  const OwnerSignal signal_;
  const RefPtr<vfs::Inode> inode_;
  Mutex mu_{LockRank::kInotify};
  vfs::FileDescription* file_ ABSL_GUARDED_BY(mu_);
  std::atomic<uint32_t> mask_{0};
  std::atomic<uint32_t> untold_{0};
};

struct Registry {
  Mutex mu{LockRank::kLeaf};
  std::map<const vfs::FileDescription*, RefPtr<DirectoryWatch>> watches ABSL_GUARDED_BY(mu);
  RefPtr<DirectoryWatch> Find(const vfs::FileDescription* file) {
    MutexLock lock(mu);
    auto it = watches.find(file);
    return it == watches.end() ? nullptr : it->second;
  }
  RefPtr<DirectoryWatch> FindOr(const vfs::FileDescription* file, const RefPtr<DirectoryWatch>& fresh) {
    MutexLock lock(mu);
    return watches.emplace(file, fresh).first->second;
  }
};
Registry& TheRegistry() {
  static Registry* registry = new Registry;
  return *registry;
}

void DirectoryWatch::OnFileDestroyed() {
  RefPtr<DirectoryWatch> self(this);
  vfs::FileDescription* file;
  {
    MutexLock lock(mu_);
    file = std::exchange(file_, nullptr);
  }
  inode_->inotify_watches().Remove(this);
  Registry& registry = TheRegistry();
  RefPtr<DirectoryWatch> dropped;
  MutexLock lock(registry.mu);
  auto it = registry.watches.find(file);
  if (it == registry.watches.end()) return;
  dropped = std::move(it->second);
  registry.watches.erase(it);
}

}  // namespace

Value SetLease(Task& task, vfs::FileDescription& file, int fd, int type) {
  if (!file.inode()->IsRegular()) return Errno(EINVAL);
  const vfs::InodeStat stat = TRY(file.inode()->GetStat());
  if (task.creds()->fsuid != stat.uid && !task.HasCapability(CAP_LEASE)) return Errno(EACCES);
  if (type != F_RDLCK && type != F_WRLCK && type != F_UNLCK) return Errno(EINVAL);
  if (type != F_UNLCK) {
    if (tunables::leases_enable == 0) return Errno(EINVAL);
    OwnIfNobody(task, file, false);
  }
  OwnerSignal signal(task, fd);
  TRY(vfs::Leases::Get().Set(file, type, [signal](vfs::FileDescription& held) {
    signal.Send(held.async_owner(), POLL_MSG, POLLIN | POLLRDNORM | POLLMSG);
  }));
  return 0;
}

Value SetDirectoryNotification(Task& task, vfs::FileDescription& file, int fd, uint32_t mask) {
  if (!file.inode()->IsDirectory()) return Errno(ENOTDIR);
  RefPtr<DirectoryWatch> watch = TheRegistry().Find(&file);
  if ((mask & ~DN_MULTISHOT) == 0) {
    if (watch) watch->set_mask(0);
    return 0;
  }
  TRY(task.group().async_work().Prepare());
  OwnIfNobody(task, file, true);
  mask &= kKnown | DN_MULTISHOT;
  if (!watch) {
    auto fresh = MakeRef<DirectoryWatch>(task, file, fd);
    watch = TheRegistry().FindOr(&file, fresh);
    if (watch == fresh) {
      file.AddEpollLink(watch.get());
      file.inode()->inotify_watches().Add(watch);
    }
  }
  watch->add_mask(mask);
  return 0;
}

}  // namespace sentry::syscalls
