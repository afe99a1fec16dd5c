// SPDX-License-Identifier: Apache-2.0
// Private to fs/mqueue: a queue and its filesystem.
#ifndef SENTRY_FS_MQUEUE_QUEUE_H_
#define SENTRY_FS_MQUEUE_QUEUE_H_

#include <deque>
#include <functional>
#include <map>

#include "sentry/fs/mqueue/mqueue.h"
#include "sentry/kernel/ipc/budget.h"

namespace sentry::fs {

// What RLIMIT_MSGQUEUE counts for a user: held by the queue.
class MqUserBytes {
 public:
  // EMFILE.
  static Result<MqUserBytes> Take(uid_t uid, uint64_t bytes, uint64_t limit);
  MqUserBytes() = default;
  MqUserBytes(MqUserBytes&& other) noexcept : uid_(other.uid_), bytes_(std::exchange(other.bytes_, 0)) {}
  MqUserBytes& operator=(MqUserBytes&& other) noexcept {
    std::swap(uid_, other.uid_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~MqUserBytes();

 private:
  uid_t uid_ = 0;
  uint64_t bytes_ = 0;
};

class Queue final : public vfs::Inode {
 public:
  Queue(vfs::Filesystem& fs, uint64_t ino, const vfs::CreateAttributes& attributes, const MqAttributes& limits,
        MqUserBytes bytes);
  ~Queue() override;

  Result<vfs::InodeStat> GetStat() override;
  Result<void> SetStat(const vfs::SetStatRequest& request) override;
  Result<vfs::FileRef> Open(const vfs::Path& path, int flags) override;

  // EAGAIN when full.
  Result<void> Send(std::string& text, unsigned priority, ipc::Charge& charge);
  // EAGAIN when empty.
  Result<MqMessage> Receive();
  Result<void> Notify(kernel::Task& task, const sigevent* event, std::function<void(MqEnd)> tell);
  void LeaveNotification(const kernel::ThreadGroup* group);
  std::string StatusLine();
  EventMask Poll();
  MqAttributes attributes();
  WaitQueue& wait_queue() { return wait_queue_; }
  std::atomic<int> waiting_receivers{0};
  uint64_t ino() const { return ino_; }
  void set_unlinked() { unlinked_.store(true, std::memory_order_relaxed); }

 private:
  struct Entry {
    std::string text;
    ipc::Charge charge;
  };
  struct Registration {
    RefPtr<kernel::ThreadGroup> group;  // null: none
    int kind = SIGEV_NONE, signal = 0;
    sigval value = {};
    std::function<void(MqEnd)> tell;
  };

  const uint64_t ino_;
  const MqAttributes limits_;
  const MqUserBytes bytes_;
  std::atomic<bool> unlinked_{false};
  WaitQueue wait_queue_;
  Mutex mu_{LockRank::kInode};
  mode_t mode_ ABSL_GUARDED_BY(mu_);
  uid_t uid_ ABSL_GUARDED_BY(mu_);
  gid_t gid_ ABSL_GUARDED_BY(mu_);
  vfs::Timestamp atime_ ABSL_GUARDED_BY(mu_), mtime_ ABSL_GUARDED_BY(mu_), ctime_ ABSL_GUARDED_BY(mu_);
  // Highest priority first.
  std::map<unsigned, std::deque<Entry>, std::greater<>> messages_ ABSL_GUARDED_BY(mu_);
  int64_t count_ ABSL_GUARDED_BY(mu_) = 0;
  uint64_t queued_bytes_ ABSL_GUARDED_BY(mu_) = 0;
  Registration registration_ ABSL_GUARDED_BY(mu_);
};

}  // namespace sentry::fs

#endif  // SENTRY_FS_MQUEUE_QUEUE_H_
