// SPDX-License-Identifier: Apache-2.0
#include "sentry/kernel/seccomp_listener.h"

#include <algorithm>

#include "sentry/kernel/task_internal.h"

namespace sentry::kernel {

// Numbers of notifications that are long gone should not come back: Linux starts at a random one.
SeccompListener::SeccompListener() : next_id_(static_cast<uint64_t>(base::RealtimeNs()) << 16) {}

Result<SeccompListener::Reply> SeccompListener::Ask(Task& task, const seccomp_data& data, bool wait_killable) {
  auto note = std::make_shared<Note>();
  note->task = RefPtr<Task>(&task);
  note->data = data;
  note->wait_killable = wait_killable;
  BlockerEntry entry(task.blocker());
  note->queue.Add(entry, kEventIn);
  {
    MutexLock lock(mu_);
    if (closed_) return Errno(ENOSYS);
    note->id = next_id_++;
    notes_.push_back(note);
  }
  queue_.Notify(kEventIn);
  bool interrupted = false, was_killable = false;
  for (;;) {
    bool killable;
    {
      MutexLock lock(mu_);
      killable = wait_killable && note->state == State::kSent;
      // It was seen between the signal and here: from now on only death counts.
      if (interrupted && killable && !was_killable) interrupted = false;
      if (note->state == State::kReplied || (interrupted && note->installing == 0)) {
        notes_.remove(note);
        if (note->state == State::kReplied) return note->reply;
        return base::kErestartsys;
      }
    }
    if (interrupted) {
      Task::Internal::SleepOnce(task, RunState::kDiskSleep);
      continue;
    }
    was_killable = killable;
    interrupted = !(killable ? task.BlockKillable() : task.Block()).ok();
  }
}

void SeccompListener::Close() {
  std::list<NoteRef> waiting;
  {
    MutexLock lock(mu_);
    closed_ = true;
    waiting = notes_;
    for (const NoteRef& note : notes_) {
      if (note->state == State::kReplied) continue;
      note->state = State::kReplied;
      note->reply = {.error = -ENOSYS};
    }
  }
  for (const NoteRef& note : waiting) note->queue.Notify(kEventIn);
}

bool SeccompListener::IsClosed() const {
  MutexLock lock(mu_);
  return closed_;
}

void SeccompListener::Orphan() {
  {
    MutexLock lock(mu_);
    orphaned_ = true;
  }
  queue_.Notify(EPOLLHUP | kEventIn);
}

SeccompListener::NoteRef SeccompListener::FindLocked(uint64_t id) const {
  auto it = std::find_if(notes_.begin(), notes_.end(), [&](const NoteRef& note) { return note->id == id; });
  return it == notes_.end() ? nullptr : *it;
}

SeccompListener::NoteRef SeccompListener::FirstNewLocked() const {
  auto it = std::find_if(notes_.begin(), notes_.end(), [](const NoteRef& note) { return note->state == State::kNew; });
  return it == notes_.end() ? nullptr : *it;
}

Result<int64_t> SeccompListener::Receive(Task& by, UserAddr to) {
  auto given = TRY(by.CopyIn<seccomp_notif>(to));
  const char* bytes = reinterpret_cast<const char*>(&given);
  if (std::any_of(bytes, bytes + sizeof given, [](char byte) { return byte != 0; })) return Errno(EINVAL);
  NoteRef note;
  auto take = [&]() -> Result<void> {
    MutexLock lock(mu_);
    note = FirstNewLocked();
    if (note) {
      note->state = State::kSent;
      return OkResult();
    }
    // Nobody is left who could ask.
    if (orphaned_) return Errno(ENOENT);
    return Errno(EAGAIN);
  };
  // O_NONBLOCK does not count here.
  TRY(BlockOn(by, queue_, kEventIn, false, kNoDeadline, take));
  queue_.Notify(kEventOut);
  if (note->wait_killable) note->queue.Notify(kEventIn);
  seccomp_notif out = {
      .id = note->id, .pid = static_cast<uint32_t>(note->task->TidIn(by.pid_ns())), .data = note->data};
  Result<void> copied = by.CopyOut(to, out);
  if (copied.ok()) return 0;
  {
    MutexLock lock(mu_);
    if (note->state == State::kSent) note->state = State::kNew;
  }
  queue_.Notify(kEventIn);
  return copied.error();
}

Result<int64_t> SeccompListener::Send(const seccomp_notif_resp& response) {
  const bool proceed = response.flags & SECCOMP_USER_NOTIF_FLAG_CONTINUE;
  if (response.flags & ~uint32_t{SECCOMP_USER_NOTIF_FLAG_CONTINUE}) return Errno(EINVAL);
  if (proceed && (response.error || response.val)) return Errno(EINVAL);
  NoteRef note;
  {
    MutexLock lock(mu_);
    note = FindLocked(response.id);
    if (!note) return Errno(ENOENT);
    if (note->state != State::kSent) return Errno(EINPROGRESS);
    note->state = State::kReplied;
    note->reply = {.value = response.val, .error = response.error, .proceed = proceed};
  }
  note->queue.Notify(kEventIn);
  return 0;
}

Result<int64_t> SeccompListener::IsValid(uint64_t id) const {
  MutexLock lock(mu_);
  NoteRef note = FindLocked(id);
  if (!note || note->state != State::kSent) return Errno(ENOENT);
  return 0;
}

Result<int64_t> SeccompListener::AddFd(Task& by, const seccomp_notif_addfd& request) {
  if (request.newfd_flags & ~uint32_t{O_CLOEXEC}) return Errno(EINVAL);
  if (request.flags & ~uint32_t{SECCOMP_ADDFD_FLAG_SETFD | SECCOMP_ADDFD_FLAG_SEND}) return Errno(EINVAL);
  const bool set = request.flags & SECCOMP_ADDFD_FLAG_SETFD, send = request.flags & SECCOMP_ADDFD_FLAG_SEND;
  if (request.newfd && !set) return Errno(EINVAL);
  vfs::FileRef file = TRY(by.fds().GetOpen(static_cast<int>(request.srcfd)));
  NoteRef note;
  {
    MutexLock lock(mu_);
    note = FindLocked(request.id);
    if (!note) return Errno(ENOENT);
    if (note->state != State::kSent) return Errno(EINPROGRESS);
    if (send && note->installing > 0) return Errno(EBUSY);
    ++note->installing;
  }
  Result<int> fd = Errno(ESRCH);
  const bool close_on_exec = request.newfd_flags & O_CLOEXEC;
  const uint64_t limit = note->task->group().limits().Soft(RLIMIT_NOFILE);
  if (RefPtr<FdTable> fds = note->task->fds_ref()) {
    if (set) {
      Result<void> stored = fds->Set(static_cast<int>(request.newfd), std::move(file), close_on_exec, limit);
      fd = stored.ok() ? Result<int>(static_cast<int>(request.newfd)) : stored.error();
    } else {
      fd = fds->Add(std::move(file), close_on_exec, limit);
    }
  }
  {
    MutexLock lock(mu_);
    --note->installing;
    if (send && fd.ok() && note->state == State::kSent) {
      note->state = State::kReplied;
      note->reply = {.value = *fd};
    }
  }
  note->queue.Notify(kEventIn);
  return TRY(fd);
}

EventMask SeccompListener::Poll() const {
  MutexLock lock(mu_);
  EventMask events = 0;
  if (orphaned_) events |= EPOLLHUP;
  for (const NoteRef& note : notes_) {
    if (note->state == State::kNew) events |= kEventIn;
    if (note->state == State::kSent) events |= kEventOut;
  }
  return events;
}

}  // namespace sentry::kernel
