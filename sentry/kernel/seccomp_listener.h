// SPDX-License-Identifier: Apache-2.0
// The far end of SECCOMP_RET_USER_NOTIF (seccomp_unotify(2)): calls that wait for a supervisor's answer, and the file
// by which it gives them. Thread-safe; its mutex is a leaf and nobody is notified under it.
#ifndef SENTRY_KERNEL_SECCOMP_LISTENER_H_
#define SENTRY_KERNEL_SECCOMP_LISTENER_H_

#include <linux/seccomp.h>

#include <list>
#include <memory>

#include "sentry/common.h"
#include "sentry/kernel/core/user_addr.h"
#include "sentry/kernel/core/wait_queue.h"
#include "sentry/vfs/file_description.h"

namespace sentry::kernel {

class Task;

class SeccompListener : public RefCounted<SeccompListener> {
 public:
  struct Reply {
    int64_t value = 0;
    int error = 0;         // <= 0
    bool proceed = false;  // SECCOMP_USER_NOTIF_FLAG_CONTINUE: make the call after all
  };

  SeccompListener();
  // (own thread of `task`) Sleeps until the supervisor has answered, or kErestartsys. ENOSYS without a supervisor.
  // `wait_killable`: once the supervisor has seen the call, only death interrupts.
  Result<Reply> Ask(Task& task, const seccomp_data& data, bool wait_killable);
  // The supervisor has closed its file: what waits gets ENOSYS, and so does what comes.
  void Close();
  bool IsClosed() const;
  // No task has the filter any more: the file hangs up.
  void Orphan();

  // The file's operations, errors per seccomp_unotify(2).
  Result<int64_t> Receive(Task& by, UserAddr to);
  Result<int64_t> Send(const seccomp_notif_resp& response);
  Result<int64_t> IsValid(uint64_t id) const;
  Result<int64_t> AddFd(Task& by, const seccomp_notif_addfd& request);
  EventMask Poll() const;
  WaitQueue& queue() { return queue_; }

 private:
  enum class State : uint8_t { kNew, kSent, kReplied };
  struct Note {
    uint64_t id = 0;
    State state = State::kNew;
    RefPtr<Task> task;
    seccomp_data data = {};
    bool wait_killable = false;
    // AddFd calls at work in the task's table: it does not leave meanwhile.
    int installing = 0;
    Reply reply;
    WaitQueue queue;  // the task
  };
  using NoteRef = std::shared_ptr<Note>;
  NoteRef FindLocked(uint64_t id) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  NoteRef FirstNewLocked() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  mutable Mutex mu_{LockRank::kLeaf};
  std::list<NoteRef> notes_ ABSL_GUARDED_BY(mu_);
  uint64_t next_id_ ABSL_GUARDED_BY(mu_);
  bool closed_ ABSL_GUARDED_BY(mu_) = false;
  bool orphaned_ ABSL_GUARDED_BY(mu_) = false;
  WaitQueue queue_;  // the supervisor
};

// The listener's file. The last reference closes the listener.
vfs::FileRef NewSeccompListenerFile(RefPtr<SeccompListener> listener);

}  // namespace sentry::kernel

#endif  // SENTRY_KERNEL_SECCOMP_LISTENER_H_
