// SPDX-License-Identifier: Apache-2.0
// inotify(7): the descriptor side; the watches themselves hang on inodes (vfs/inotify_watches.h).
#ifndef SENTRY_FS_INOTIFY_INOTIFY_H_
#define SENTRY_FS_INOTIFY_INOTIFY_H_

#include <deque>
#include <map>
#include <string>

#include "sentry/vfs/file_description.h"
#include "sentry/vfs/inotify_watches.h"

namespace sentry::fs {

class InotifyFile final : public vfs::FileDescription {
 public:
  // EMFILE beyond fs.inotify.max_user_instances of the user.
  static Result<RefPtr<InotifyFile>> Create(const Credentials& creds, int flags);
  static InotifyFile* From(vfs::FileDescription& file);
  ~InotifyFile() override;

  // inotify_add_watch(2): the watch descriptor; EEXIST with IN_MASK_CREATE, ENOSPC beyond
  // fs.inotify.max_user_watches of the instance's user.
  Result<int> AddWatch(const RefPtr<vfs::Inode>& inode, uint32_t mask);
  Result<void> RemoveWatch(int descriptor);

  Result<size_t> Read(IoTarget& target) override;
  Result<int64_t> Seek(int64_t, int) override { return Errno(ESPIPE); }
  Result<int64_t> Ioctl(unsigned request, uint64_t argument) override;
  EventMask Poll() override;
  WaitQueue* wait_queue() override { return &queue_; }

 private:
  class Watch;
  struct Event {
    int descriptor;
    uint32_t mask, cookie;
    std::string name;
    size_t Size() const;
    friend bool operator==(const Event&, const Event&) = default;
  };
  InotifyFile(vfs::Path path, int flags, uid_t user);
  void Enqueue(Event event);
  void Forget(Watch& watch);

  const uid_t user_;         // whose limits count
  const size_t max_queued_;  // as the limit was when this was made
  mutable Mutex mu_{LockRank::kLeaf};
  std::deque<Event> events_ ABSL_GUARDED_BY(mu_);
  std::map<int, RefPtr<Watch>> watches_ ABSL_GUARDED_BY(mu_);
  int next_descriptor_ ABSL_GUARDED_BY(mu_) = 1;
  WaitQueue queue_;
};

}  // namespace sentry::fs

#endif  // SENTRY_FS_INOTIFY_INOTIFY_H_
