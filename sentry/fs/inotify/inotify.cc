// SPDX-License-Identifier: Apache-2.0
// A Watch is held by the inode's list and by the descriptor's map. The descriptor detaches its watches before it goes;
// a watch whose inode goes reports IN_IGNORED (the vfs sends IN_DELETE_SELF and drops the list).
#include "sentry/fs/inotify/inotify.h"

#include <fcntl.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>

#include <algorithm>

#include "sentry/kernel/core/tunables.h"
#include "sentry/vfs/special_files.h"

namespace sentry::fs {
namespace {

constexpr char kName[] = "anon_inode:inotify";
// What each user has of instances and watches, for the limits of /proc/sys/fs/inotify.
class Usage {
 public:
  struct Counts {
    int64_t instances = 0, watches = 0;
  };
  static bool Take(uid_t user, int64_t Counts::*what, int64_t limit) {
    MutexLock lock(mu_);
    int64_t& count = counts_[user].*what;
    if (count >= limit) return false;
    ++count;
    return true;
  }
  static void Give(uid_t user, int64_t Counts::*what, int64_t n = 1) {
    MutexLock lock(mu_);
    Counts& counts = counts_[user];
    counts.*what -= n;
    if (counts.instances == 0 && counts.watches == 0) counts_.erase(user);
  }

 private:
  static inline Mutex mu_{LockRank::kLeaf};
  static inline std::map<uid_t, Counts> counts_;
};
using Counts = Usage::Counts;

constexpr uint32_t kWatchable = IN_ALL_EVENTS | IN_UNMOUNT | IN_IGNORED | IN_Q_OVERFLOW;

}  // namespace

class InotifyFile::Watch final : public vfs::InotifyWatch {
 public:
  Watch(InotifyFile* owner, RefPtr<vfs::Inode> inode, int descriptor, uint32_t mask)
      : inode_(std::move(inode)), descriptor_(descriptor), owner_(owner), mask_(mask) {}

  void OnEvent(uint32_t mask, uint32_t cookie, std::string_view name) override {
    RefPtr<Watch> self(this);
    MutexLock lock(mu_);
    if (!owner_ || (mask & mask_ & IN_EXCL_UNLINK)) return;
    mask &= ~static_cast<uint32_t>(IN_EXCL_UNLINK);
    uint32_t seen = mask & (mask_ | IN_UNMOUNT | IN_ISDIR);
    bool ends = (mask & (IN_DELETE_SELF | IN_UNMOUNT)) != 0;
    if (seen & ~static_cast<uint32_t>(IN_ISDIR)) {
      owner_->Enqueue({descriptor_, seen, cookie, std::string(name)});
      if (mask_ & IN_ONESHOT) ends = true;
    }
    if (ends) {
      owner_->Forget(*this);
      owner_ = nullptr;
      inode_->inotify_watches().Remove(this);
    }
  }
  // Takes it off the inode; no event comes after.
  void Detach() {
    RefPtr<Watch> self(this);
    MutexLock lock(mu_);
    if (!owner_) return;
    owner_ = nullptr;
    inode_->inotify_watches().Remove(this);
  }
  void SetMask(uint32_t mask, bool add) {
    MutexLock lock(mu_);
    mask_ = add ? mask_ | mask : mask;
  }
  const RefPtr<vfs::Inode>& inode() const { return inode_; }
  int descriptor() const { return descriptor_; }

 private:
  const RefPtr<vfs::Inode> inode_;  // a watched inode stays in memory; the cycle ends with Detach or the last event
  const int descriptor_;
  Mutex mu_{LockRank::kFsContext};
  InotifyFile* owner_ ABSL_GUARDED_BY(mu_);
  uint32_t mask_ ABSL_GUARDED_BY(mu_);
};

size_t InotifyFile::Event::Size() const {
  // Names are padded with NULs to a multiple of the header's size.
  size_t padded =
      name.empty() ? 0 : (name.size() + 1 + sizeof(inotify_event) - 1) / sizeof(inotify_event) * sizeof(inotify_event);
  return sizeof(inotify_event) + padded;
}

InotifyFile::InotifyFile(vfs::Path path, int flags, uid_t user)
    : FileDescription(std::move(path), O_RDONLY | (flags & O_NONBLOCK)),
      user_(user),
      max_queued_(static_cast<size_t>(tunables::inotify_max_queued_events.Get())) {}

Result<RefPtr<InotifyFile>> InotifyFile::Create(const Credentials& creds, int flags) {
  if (!Usage::Take(creds.ruid, &Counts::instances, tunables::inotify_max_user_instances)) return Errno(EMFILE);
  return RefPtr<InotifyFile>(new InotifyFile(vfs::NewAnonymousPath(kName, 0600, creds), flags, creds.ruid));
}

InotifyFile* InotifyFile::From(vfs::FileDescription& file) {
  if (file.path().dentry->parent() || file.path().dentry->name() != kName) return nullptr;
  return static_cast<InotifyFile*>(&file);
}

InotifyFile::~InotifyFile() {
  std::map<int, RefPtr<Watch>> watches;
  {
    MutexLock lock(mu_);
    watches.swap(watches_);
  }
  for (auto& [descriptor, watch] : watches) watch->Detach();
  Usage::Give(user_, &Counts::watches, static_cast<int64_t>(watches.size()));
  Usage::Give(user_, &Counts::instances);
}

void InotifyFile::Enqueue(Event event) {
  {
    MutexLock lock(mu_);
    // An event equal to the last one is merged into it.
    if (!events_.empty() && events_.back() == event) return;
    if (events_.size() >= max_queued_) {
      if (!events_.empty() && events_.back().mask == IN_Q_OVERFLOW) return;
      event = {-1, IN_Q_OVERFLOW, 0, ""};
    }
    events_.push_back(std::move(event));
  }
  queue_.Notify(kEventIn);
}

void InotifyFile::Forget(Watch& watch) {
  Enqueue({watch.descriptor(), IN_IGNORED, 0, ""});
  size_t gone;
  {
    MutexLock lock(mu_);
    gone = watches_.erase(watch.descriptor());
  }
  if (gone) Usage::Give(user_, &Counts::watches);
}

Result<int> InotifyFile::AddWatch(const RefPtr<vfs::Inode>& inode, uint32_t mask) {
  uint32_t kept = mask & (kWatchable | IN_ONESHOT | IN_EXCL_UNLINK);
  RefPtr<Watch> known, fresh;
  // Taken for a new watch, and given back when there is one already.
  const bool room = Usage::Take(user_, &Counts::watches, tunables::inotify_max_user_watches);
  {
    MutexLock lock(mu_);
    for (const auto& [descriptor, existing] : watches_) {
      if (existing->inode() == inode) known = existing;
    }
    if (!known && room) {
      fresh = MakeRef<Watch>(this, inode, next_descriptor_++, kept);
      watches_[fresh->descriptor()] = fresh;
    }
  }
  if (!fresh && room) Usage::Give(user_, &Counts::watches);
  if (!fresh && !known) return Errno(ENOSPC);
  if (known) {
    if (mask & IN_MASK_CREATE) return Errno(EEXIST);
    known->SetMask(kept, mask & IN_MASK_ADD);
    return known->descriptor();
  }
  inode->inotify_watches().Add(fresh);
  return fresh->descriptor();
}

Result<void> InotifyFile::RemoveWatch(int descriptor) {
  RefPtr<Watch> watch;
  {
    MutexLock lock(mu_);
    auto it = watches_.find(descriptor);
    if (it == watches_.end()) return Errno(EINVAL);
    watch = it->second;
  }
  watch->Detach();
  Forget(*watch);
  return OkResult();
}

Result<size_t> InotifyFile::Read(IoTarget& target) {
  size_t done = 0;
  for (;;) {
    Event event;
    {
      MutexLock lock(mu_);
      if (events_.empty()) break;
      if (events_.front().Size() > target.remaining()) {
        if (done == 0) return Errno(EINVAL);
        break;
      }
      event = std::move(events_.front());
      events_.pop_front();
    }
    inotify_event header{.wd = event.descriptor,
                         .mask = event.mask,
                         .cookie = event.cookie,
                         .len = static_cast<uint32_t>(event.Size() - sizeof(inotify_event))};
    std::string record(event.Size(), '\0');
    memcpy(record.data(), &header, sizeof header);
    memcpy(record.data() + sizeof header, event.name.data(), event.name.size());
    auto n = target.Put(record.data(), record.size());
    if (!n.ok()) return done ? Result<size_t>(done) : n;
    done += *n;
  }
  if (done == 0) return Errno(EAGAIN);
  return done;
}

Result<int64_t> InotifyFile::Ioctl(unsigned request, uint64_t argument) {
  if (request != FIONREAD) return Errno(ENOTTY);
  size_t total = 0;
  {
    MutexLock lock(mu_);
    for (const Event& event : events_) total += event.Size();
  }
  TRY(Caller::Current().CopyOut(UserAddr(argument), static_cast<int>(total)));
  return 0;
}

EventMask InotifyFile::Poll() {
  MutexLock lock(mu_);
  return events_.empty() ? 0 : kEventIn;
}

}  // namespace sentry::fs
