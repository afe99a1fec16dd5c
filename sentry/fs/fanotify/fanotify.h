// SPDX-License-Identifier: Apache-2.0
// fanotify(7): the descriptor side; the marks are in vfs/fanotify.h.
#ifndef SENTRY_FS_FANOTIFY_FANOTIFY_H_
#define SENTRY_FS_FANOTIFY_FANOTIFY_H_

#include <deque>
#include <memory>
#include <optional>
#include <string>

#include "sentry/vfs/fanotify.h"
#include "sentry/vfs/file_description.h"
#include "sentry/vfs/file_handles.h"

namespace sentry::fs {

// Who listens: a queue of events, and the questions that wait for an answer. Lives as long as events may come.
class FanotifyGroup final : public vfs::FanotifySink {
 public:
  // `flags` of fanotify_init(2); the queue's bound is that of the sysctl unless FAN_UNLIMITED_QUEUE.
  FanotifyGroup(unsigned flags, bool unprivileged, uid_t user);
  ~FanotifyGroup() override;
  unsigned flags() const { return flags_; }
  unsigned fid_mode() const { return flags_ & (FAN_REPORT_FID | FAN_REPORT_DFID_NAME | FAN_REPORT_TARGET_FID); }
  bool unprivileged() const { return unprivileged_; }

  unsigned priority() const override { return flags_ & (FAN_CLASS_CONTENT | FAN_CLASS_PRE_CONTENT); }
  void OnEvent(const vfs::FanotifyEvent& event, uint64_t mask) override;
  Result<void> AskPermission(const vfs::Path& path, uint64_t mask) override;

  // Why somebody waits: until it is read, then until it is answered.
  struct Question : RefCounted<Question> {
    int fd = -1;             // what the reader knows it by
    int answer = 0;          // FAN_ALLOW, FAN_DENY
    bool abandoned = false;  // nobody waits any more
  };
  struct Place {
    vfs::FileHandles::Identity handle;
    uint64_t fsid;
    friend bool operator==(const Place&, const Place&) = default;
  };
  struct Event {
    uint64_t mask = 0;
    pid_t pid = 0;  // in the root pid namespace
    std::optional<vfs::Path> path;
    std::optional<Place> directory, new_directory, object;
    std::string name, new_name;
    bool has_name = false;
    RefPtr<Question> question;
  };
  // The next event if its record fits in `room` bytes; EAGAIN, EINVAL.
  Result<Event> Take(size_t room);
  size_t RecordSize(const Event& event) const;
  // The record after the metadata.
  std::string InfoOf(const Event& event) const;
  size_t QueuedBytes() const;
  bool HasEvents() const;
  // It was read: the answer will name `fd`.
  void AwaitAnswer(RefPtr<Question> question, int fd);
  // ENOENT.
  Result<void> Answer(int fd, int answer);
  void AnswerTo(Question& question, int answer);
  // No event comes any more; all questions are answered with yes.
  void Close();
  WaitQueue& queue() { return queue_; }

 private:
  bool FillHandles(const vfs::FanotifyEvent& event, Event* out) const;
  static bool CanMerge(const Event& a, const Event& b);
  void Enqueue(Event event);

  const unsigned flags_;
  const bool unprivileged_;
  const uid_t user_;
  const size_t max_queued_;
  mutable Mutex mu_{LockRank::kLeaf};
  bool closed_ ABSL_GUARDED_BY(mu_) = false;
  std::deque<Event> events_ ABSL_GUARDED_BY(mu_);
  std::deque<RefPtr<Question>> asked_ ABSL_GUARDED_BY(mu_);
  WaitQueue queue_, answer_queue_;
};

class FanotifyFile final : public vfs::FileDescription {
 public:
  // EMFILE beyond fs.fanotify.max_user_groups of the user.
  static Result<RefPtr<FanotifyFile>> Create(const Credentials& creds, unsigned flags, unsigned event_flags,
                                             bool unprivileged);
  static FanotifyFile* From(vfs::FileDescription& file);
  ~FanotifyFile() override;
  FanotifyGroup& group() const { return *group_; }
  const RefPtr<FanotifyGroup>& group_ref() const { return group_; }

  Result<size_t> Read(IoTarget& target) override;
  Result<size_t> Write(IoSource& source) override;
  Result<int64_t> Seek(int64_t, int) override { return Errno(ESPIPE); }
  Result<int64_t> Ioctl(unsigned request, uint64_t argument) override;
  EventMask Poll() override { return (group_->HasEvents() ? kEventIn : 0); }
  WaitQueue* wait_queue() override { return &group_->queue(); }
  std::string LinkName() const override { return "anon_inode:[fanotify]"; }
  std::string FdInfo() const override;

 private:
  FanotifyFile(vfs::Path path, RefPtr<FanotifyGroup> group, unsigned event_flags);
  // A descriptor of the reader for the event's file.
  Result<int> OpenFor(const FanotifyGroup::Event& event);

  const RefPtr<FanotifyGroup> group_;
  const unsigned event_flags_;
};

}  // namespace sentry::fs

#endif  // SENTRY_FS_FANOTIFY_FANOTIFY_H_
