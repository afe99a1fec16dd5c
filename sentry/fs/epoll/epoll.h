// SPDX-License-Identifier: Apache-2.0
// epoll(7): an interest list of (file, descriptor number) pairs and the list of those that may be ready.
#ifndef SENTRY_FS_EPOLL_EPOLL_H_
#define SENTRY_FS_EPOLL_EPOLL_H_

#include <sys/epoll.h>

#include <list>
#include <map>
#include <memory>
#include <vector>

#include "sentry/vfs/file_description.h"

namespace sentry::fs {

class EpollFile final : public vfs::FileDescription {
 public:
  static RefPtr<EpollFile> Create(const Credentials& creds);
  // The epoll behind a file, or null.
  static EpollFile* From(vfs::FileDescription& file);
  ~EpollFile() override;

  // epoll_ctl(2): EEXIST, ENOENT, EPERM (not pollable), ELOOP (nesting too deep or a cycle), EINVAL.
  Result<void> Add(vfs::FileDescription& file, int fd, const epoll_event& event);
  Result<void> Modify(vfs::FileDescription& file, int fd, const epoll_event& event);
  Result<void> Remove(vfs::FileDescription& file, int fd);
  // Takes up to `limit` ready events; empty when none is.
  std::vector<epoll_event> TakeReady(size_t limit);

  EventMask Poll() override;
  WaitQueue* wait_queue() override { return &queue_; }
  std::string FdInfo() const override;

 private:
  struct Item;
  using Key = std::pair<vfs::FileDescription*, int>;
  explicit EpollFile(vfs::Path path);
  void MarkReady(Item& item);
  void OnFileGone(Item& item);
  void Drop(std::map<Key, std::unique_ptr<Item>>::iterator it) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  static bool Reaches(EpollFile& from, const EpollFile& to, int depth, int* deepest);

  mutable Mutex mu_{LockRank::kEpollSet};
  std::map<Key, std::unique_ptr<Item>> items_ ABSL_GUARDED_BY(mu_);
  // Items that had an event since they were last looked at; taken under a wait queue's lock.
  mutable Mutex ready_mu_{LockRank::kLeaf};
  std::list<Item*> ready_ ABSL_GUARDED_BY(ready_mu_);
  WaitQueue queue_;
};

}  // namespace sentry::fs

#endif  // SENTRY_FS_EPOLL_EPOLL_H_
