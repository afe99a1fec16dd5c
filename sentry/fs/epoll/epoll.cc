// SPDX-License-Identifier: Apache-2.0
// Life of an item: Add registers it with the file's wait queue and with the file itself (EpollLink). An event marks it
// ready. TakeReady asks the file what is really there. The file's last reference calls OnFileGone before it is
// destroyed, so an item's file pointer is valid as long as the item; whether the file may still be asked is decided by
// TryIncRef.
#include "sentry/fs/epoll/epoll.h"

#include <algorithm>
#include <cstdio>

#include "sentry/vfs/special_files.h"

namespace sentry::fs {
namespace {

constexpr int kMaxNesting = 4;  // fs/eventpoll.c: EP_MAX_NESTS
// Reported whether asked for or not.
constexpr uint32_t kAlways = EPOLLERR | EPOLLHUP;
constexpr uint32_t kInputBits = EPOLLIN | EPOLLPRI | EPOLLOUT | EPOLLERR | EPOLLHUP | EPOLLRDNORM | EPOLLRDBAND |
                                EPOLLWRNORM | EPOLLWRBAND | EPOLLMSG | EPOLLRDHUP;

}  // namespace

struct EpollFile::Item final : public WaitEntry, public vfs::FileDescription::EpollLink {
  Item(EpollFile& owner, vfs::FileDescription* file, int fd) : owner(owner), file(file), fd(fd) {}
  void OnEvent(EventMask events) override {
    if (events & interest.load(std::memory_order_relaxed)) owner.MarkReady(*this);
  }
  void OnFileDestroyed() override { owner.OnFileGone(*this); }

  EpollFile& owner;
  vfs::FileDescription* file;
  const int fd;
  epoll_event event = {};
  std::atomic<uint32_t> interest{0};  // with kAlways; 0: disarmed by EPOLLONESHOT
  bool queued = false;                // in ready_, under ready_mu_
};

EpollFile::EpollFile(vfs::Path path) : FileDescription(std::move(path), O_RDWR) {}

RefPtr<EpollFile> EpollFile::Create(const Credentials& creds) {
  return RefPtr<EpollFile>(new EpollFile(vfs::NewAnonymousPath("anon_inode:[eventpoll]", 0600, creds)));
}

EpollFile* EpollFile::From(vfs::FileDescription& file) {
  // Only epoll files carry this name: no tree can hold a detached dentry.
  if (file.path().dentry->parent() || file.path().dentry->name() != "anon_inode:[eventpoll]") return nullptr;
  return static_cast<EpollFile*>(&file);
}

EpollFile::~EpollFile() {
  MutexLock lifetime(EpollLifetimeMutex());
  MutexLock lock(mu_);
  while (!items_.empty()) Drop(items_.begin());
}

void EpollFile::MarkReady(Item& item) {
  {
    MutexLock lock(ready_mu_);
    if (item.queued) return;
    item.queued = true;
    ready_.push_back(&item);
  }
  queue_.Notify(kEventIn);
}

void EpollFile::Drop(std::map<Key, std::unique_ptr<Item>>::iterator it) {
  Item& item = *it->second;
  if (item.queue()) item.queue()->Remove(item);
  item.file->RemoveEpollLink(&item);
  {
    MutexLock lock(ready_mu_);
    if (item.queued) ready_.remove(&item);
  }
  items_.erase(it);
}

void EpollFile::OnFileGone(Item& item) {
  MutexLock lock(mu_);
  auto it = items_.find({item.file, item.fd});
  if (it != items_.end()) Drop(it);
}

bool EpollFile::Reaches(EpollFile& from, const EpollFile& to, int depth, int* deepest) {
  *deepest = std::max(*deepest, depth);
  if (&from == &to) return true;
  if (depth > kMaxNesting) return false;
  std::vector<RefPtr<vfs::FileDescription>> nested;
  {
    MutexLock lock(from.mu_);
    for (const auto& [key, item] : from.items_) {
      if (From(*key.first) && key.first->TryIncRef()) nested.push_back(RefPtr<vfs::FileDescription>::Adopt(key.first));
    }
  }
  for (const auto& file : nested) {
    if (Reaches(*From(*file), to, depth + 1, deepest)) return true;
  }
  return false;
}

Result<void> EpollFile::Add(vfs::FileDescription& file, int fd, const epoll_event& event) {
  WaitQueue* queue = file.wait_queue();
  if (!queue) return Errno(EPERM);
  if (&file == this) return Errno(EINVAL);
  EpollFile* nested = From(file);
  if (nested && (event.events & EPOLLEXCLUSIVE)) return Errno(EINVAL);
  if ((event.events & EPOLLEXCLUSIVE) &&
      (event.events & ~(EPOLLIN | EPOLLOUT | EPOLLERR | EPOLLHUP | EPOLLWAKEUP | EPOLLET | EPOLLEXCLUSIVE))) {
    return Errno(EINVAL);
  }
  // Held while the item goes in, so that two adds can't close a cycle together.
  MutexLock nesting(EpollLifetimeMutex());
  if (nested) {
    int deepest = 0;
    if (Reaches(*nested, *this, 1, &deepest) || deepest > kMaxNesting) return Errno(ELOOP);
  }
  TRY(file.OnEpollAdd());
  Item* item;
  {
    MutexLock lock(mu_);
    auto [it, fresh] = items_.try_emplace({&file, fd});
    if (!fresh) return Errno(EEXIST);
    it->second = std::make_unique<Item>(*this, &file, fd);
    item = it->second.get();
    item->event = event;
    item->interest = (event.events & kInputBits) | kAlways;
    file.AddEpollLink(item);
    queue->Add(*item, event.events & kInputBits);
  }
  if (file.Poll() & item->interest) MarkReady(*item);
  return OkResult();
}

Result<void> EpollFile::Modify(vfs::FileDescription& file, int fd, const epoll_event& event) {
  Item* item;
  {
    MutexLock lock(mu_);
    auto it = items_.find({&file, fd});
    if (it == items_.end()) return Errno(ENOENT);
    item = it->second.get();
    if ((event.events & EPOLLEXCLUSIVE) || (item->event.events & EPOLLEXCLUSIVE)) return Errno(EINVAL);
    item->event = event;
    item->interest = (event.events & kInputBits) | kAlways;
    WaitQueue* queue = item->queue();
    queue->Remove(*item);
    queue->Add(*item, event.events & kInputBits);
  }
  // The caller holds the file, so the item lives unless another thread removes it: look it up again.
  bool ready = file.Poll() & ((event.events & kInputBits) | kAlways);
  if (ready) {
    MutexLock lock(mu_);
    auto it = items_.find({&file, fd});
    if (it != items_.end()) MarkReady(*it->second);
  }
  return OkResult();
}

Result<void> EpollFile::Remove(vfs::FileDescription& file, int fd) {
  MutexLock lock(mu_);
  auto it = items_.find({&file, fd});
  if (it == items_.end()) return Errno(ENOENT);
  Drop(it);
  return OkResult();
}

std::vector<epoll_event> EpollFile::TakeReady(size_t limit) {
  std::vector<epoll_event> out;
  std::vector<RefPtr<vfs::FileDescription>> keep;  // dropped after the lock: a last reference would come back to Drop
  MutexLock lock(mu_);
  size_t candidates;
  {
    MutexLock ready_lock(ready_mu_);
    candidates = ready_.size();
  }
  while (candidates-- > 0 && out.size() < limit) {
    Item* item;
    {
      MutexLock ready_lock(ready_mu_);
      if (ready_.empty()) break;
      item = ready_.front();
      ready_.pop_front();
      // From here on an event queues it again, so none is lost while the file is asked.
      item->queued = false;
    }
    if (item->interest == 0 || !item->file->TryIncRef()) continue;
    keep.push_back(RefPtr<vfs::FileDescription>::Adopt(item->file));
    EventMask events = item->file->Poll() & item->interest;
    if (!events) continue;
    out.push_back({.events = events, .data = item->event.data});
    if (item->event.events & EPOLLONESHOT) {
      item->interest = 0;
    } else if (!(item->event.events & EPOLLET)) {
      MutexLock ready_lock(ready_mu_);
      if (!item->queued) {
        item->queued = true;
        ready_.push_back(item);
      }
    }
  }
  return out;
}

EventMask EpollFile::Poll() {
  std::vector<RefPtr<vfs::FileDescription>> keep;
  if (!mu_.TryLock()) {
    // Asked from inside another epoll's pass (ranks are equal, order is by nesting, which has no cycles).
    mu_.LockNested();
  }
  EventMask mask = 0;
  std::vector<Item*> candidates;
  {
    MutexLock ready_lock(ready_mu_);
    candidates.assign(ready_.begin(), ready_.end());
  }
  for (Item* item : candidates) {
    if (item->interest == 0 || !item->file->TryIncRef()) continue;
    keep.push_back(RefPtr<vfs::FileDescription>::Adopt(item->file));
    if (item->file->Poll() & item->interest) {
      mask = kEventIn;
      break;
    }
  }
  mu_.Unlock();
  return mask;
}

std::string EpollFile::FdInfo() const {
  std::string out;
  MutexLock lock(mu_);
  for (const auto& [key, item] : items_) {
    char line[96];
    snprintf(line, sizeof line, "tfd: %8d events: %8x data: %16lx\n", item->fd, item->event.events,
             static_cast<unsigned long>(item->event.data.u64));
    out += line;
  }
  return out;
}

}  // namespace sentry::fs
