// SPDX-License-Identifier: Apache-2.0
// UringRequest: the life of a request.
#include <poll.h>

#include <algorithm>
#include <cstring>

#include "sentry/syscalls/call_scope.h"
#include "sentry/syscalls/uring.h"

namespace sentry::syscalls {

UringRequest::UringRequest(RefPtr<Ring> the_ring, Task& task, const io_uring_sqe& entry)
    : ring(std::move(the_ring)), sqe(entry), group_(task.group_ref()), identity_(kernel::TaskIdentity::Of(task)) {}

UringRequest::~UringRequest() {
  if (queue()) queue()->Remove(*this);
}

void UringRequest::Kick() {
  if (kicked_.exchange(true, std::memory_order_acq_rel)) return;
  // Not when it is in its destructor already: it leaves the queue right after.
  if (TryIncRef()) group_->async_work().Retry(RefPtr<AsyncJob>::Adopt(this));
}

bool UringRequest::Claim(State from) {
  MutexLock lock(ring->mu_);
  if (state_ != from) return false;
  state_ = State::kDone;
  return true;
}

int UringRequest::Cancel(int32_t result) {
  RefPtr<UringRequest> self(this);
  bool blocking = false;
  {
    MutexLock lock(ring->mu_);
    switch (state_) {
      case State::kDone:
        return -ENOENT;
      case State::kNew:
      case State::kRunning:
        cancelled_ = true;
        return -EALREADY;
      case State::kBlocking:
        cancelled_ = true;
        blocking = true;
        break;
      case State::kQueued:
      case State::kArmed:
      case State::kTimer:
        state_ = State::kDone;
    }
  }
  if (blocking) {
    if (!group_->async_work().Interrupt(*this)) return -EALREADY;
    if (!Claim(State::kBlocking)) return -EALREADY;
  }
  FinishElsewhere(result);
  return 0;
}

// --- The end

bool UringRequest::PostMore(int32_t result, uint32_t flags) {
  return ring->Post(sqe.user_data, result, flags | IORING_CQE_F_MORE);
}

RefPtr<UringRequest> UringRequest::Finish(int32_t result, uint32_t flags) {
  RefPtr<UringRequest> self(this);
  if (queue()) queue()->Remove(*this);
  if (timer_) timer_->Disarm();
  RefPtr<UringRequest> bound;  // the LINK_TIMEOUT that watches this one
  {
    MutexLock lock(ring->mu_);
    bound = std::move(link_timeout_);
    watched.Reset();
  }
  const bool failed = result < expected;
  RefPtr<UringRequest> follower = std::move(next);
  if (follower && follower->IsLinkTimeout()) {
    // It never came to watch: this one was too quick.
    bound = std::exchange(follower, std::move(follower->next));
    MutexLock lock(ring->mu_);
    bound->state_ = State::kTimer;
  }
  const bool quiet = (sqe.flags & IOSQE_CQE_SKIP_SUCCESS) && result >= 0;
  const bool is_timeout = sqe.opcode == IORING_OP_TIMEOUT || IsLinkTimeout();
  if (!quiet) (void)ring->Post(sqe.user_data, result, flags, !is_timeout);
  ring->Remove(*this);
  if (bound && bound->Claim(State::kTimer)) (void)bound->Finish(-ECANCELED);
  const bool breaks = failed && !(sqe.flags & IOSQE_IO_HARDLINK) &&
                      !(is_timeout && result == -ETIME && (sqe.timeout_flags & IORING_TIMEOUT_ETIME_SUCCESS));
  // One by one and not by recursion: a chain may be as long as the ring.
  while (follower && breaks) {
    RefPtr<UringRequest> cancelled = std::exchange(follower, nullptr);
    follower = std::move(cancelled->next);
    {
      MutexLock lock(ring->mu_);
      cancelled->state_ = State::kDone;
    }
    (void)ring->Post(cancelled->sqe.user_data, -ECANCELED, 0);
    ring->RequestEnded(std::exchange(cancelled->counted_, false));
  }
  vfs::FileRef dropped;
  {
    MutexLock lock(ring->mu_);
    dropped = std::move(file);
  }
  ring->RequestEnded(std::exchange(counted_, false));
  return follower;
}

void UringRequest::FinishElsewhere(int32_t result) {
  RefPtr<UringRequest> follower = Finish(result);
  if (follower) IssueLater(std::move(follower));
}

// --- Attempts

void UringRequest::Issue(Task& task, RefPtr<UringRequest> request) {
  while (request) {
    RefPtr<UringRequest> current = std::move(request);
    bool cancelled = current->ring->IsClosed() || current->group_->IsExiting();
    {
      MutexLock lock(current->ring->mu_);
      cancelled |= current->cancelled_;
      current->state_ = cancelled ? State::kDone : State::kRunning;
    }
    if (cancelled) {
      request = current->Finish(-ECANCELED);
      continue;
    }
    // Someone else's credentials need a thread that can take them on.
    if (current->sqe.personality) {
      request = current->GoBlocking(task);
      continue;
    }
    if (current->sqe.flags & IOSQE_ASYNC) {
      const UringOp* op = FindUringOp(current->sqe.opcode);
      if (op && !op->wait_mask && op->run != RunPollAdd && op->run != RunTimeout) {
        request = current->GoBlocking(task);
        continue;
      }
    }
    request = current->Attempt(task, /*may_sleep=*/false);
  }
}

void UringRequest::IssueLater(RefPtr<UringRequest> request) {
  auto prepared = request->group_->async_work().Prepare();
  {
    MutexLock lock(request->ring->mu_);
    request->state_ = prepared.ok() ? State::kQueued : State::kDone;
  }
  if (!prepared.ok()) {
    request->FinishElsewhere(-ECANCELED);
    return;
  }
  request->ring->Add(*request);
  request->Kick();
}

void UringRequest::Run(Task& worker) {
  RefPtr<UringRequest> self(this);
  kicked_.store(false, std::memory_order_release);
  State before;
  {
    MutexLock lock(ring->mu_);
    before = state_;
    if (before == State::kRunning) missed_ = true;  // whoever runs it looks again before it rests
    if (before == State::kQueued || before == State::kArmed) state_ = State::kRunning;
    if (before == State::kTimer && base::MonotonicNs() < deadline_ns) return;  // was set anew meanwhile
  }
  RefPtr<UringRequest> follower;
  switch (before) {
    case State::kQueued:
      Issue(worker, std::move(self));
      return;
    case State::kArmed:
      follower = Attempt(worker, /*may_sleep=*/false);
      break;
    case State::kBlocking:
      follower = Attempt(worker, /*may_sleep=*/true);
      break;
    case State::kTimer: {
      RefPtr<UringRequest> target;
      if (!Claim(State::kTimer)) return;
      {
        MutexLock lock(ring->mu_);
        target = std::move(watched);
      }
      int cancelled = target ? target->Cancel() : 0;
      follower = Finish(cancelled == -EALREADY ? -EALREADY : -ETIME);
      break;
    }
    default:
      return;
  }
  if (follower) Issue(worker, std::move(follower));
}

Result<void> UringRequest::ResolveFile(Task& task) {
  if (file) return OkResult();
  vfs::FileRef found = (sqe.flags & IOSQE_FIXED_FILE) ? TRY(ring->FixedFile(static_cast<uint32_t>(sqe.fd)))
                                                      : TRY(task.fds().Get(sqe.fd));
  MutexLock lock(ring->mu_);  // Ring::Find looks at it
  file = std::move(found);
  return OkResult();
}

RefPtr<UringRequest> UringRequest::Attempt(Task& task, bool may_sleep) {
  const UringOp& op = *FindUringOp(sqe.opcode);
  Outcome outcome;
  auto resolved = op.needs_file ? ResolveFile(task) : OkResult();
  if (!resolved.ok()) {
    outcome = Outcome::Error(resolved.error().number());
  } else {
    wait_mask = op.wait_mask;
    kernel::NoSleep no_sleep(task, !may_sleep);
    outcome = op.run(*this, task);
  }
  if (outcome.kind == Outcome::kPending) return nullptr;
  if (outcome.kind == Outcome::kWait && !may_sleep) {
    return wait_mask && file && file->wait_queue() ? Arm(task) : GoBlocking(task);
  }
  if (outcome.kind == Outcome::kWait) outcome = Outcome::Error(EINTR);
  {
    MutexLock lock(ring->mu_);
    state_ = State::kDone;
  }
  return Finish(outcome.result, outcome.flags);
}

RefPtr<UringRequest> UringRequest::Arm(Task& task) {
  const bool first = !queue();
  if (first) {
    if (!group_->async_work().Prepare().ok()) {
      Claim(State::kRunning);
      return Finish(-ENOMEM);
    }
    file->wait_queue()->Add(*this, wait_mask);
    ring->Add(*this);
    StartLinkTimeout();
    // What came between the attempt and the entry in the queue was missed.
    return Attempt(task, /*may_sleep=*/false);
  }
  bool cancelled, missed;
  {
    MutexLock lock(ring->mu_);
    cancelled = cancelled_;
    missed = std::exchange(missed_, false);
    state_ = cancelled ? State::kDone : State::kArmed;
  }
  if (cancelled) return Finish(-ECANCELED);
  if (missed) Kick();
  return nullptr;
}

RefPtr<UringRequest> UringRequest::GoBlocking(Task& task) {
  if (sqe.personality) {
    RefPtr<const Credentials> creds = ring->Personality(sqe.personality);
    if (creds) identity_.creds = std::move(creds);
  }
  ring->Add(*this);
  StartLinkTimeout();
  bool cancelled;
  {
    MutexLock lock(ring->mu_);
    cancelled = cancelled_;
    state_ = cancelled ? State::kDone : State::kBlocking;
  }
  if (cancelled) return Finish(-ECANCELED);
  auto queued = group_->async_work().RunBlocking(RefPtr<AsyncJob>(this));
  if (queued.ok()) return nullptr;
  if (!Claim(State::kBlocking)) return nullptr;
  return Finish(-EAGAIN);
}

void UringRequest::StartLinkTimeout() {
  if (!next || !next->IsLinkTimeout()) return;
  RefPtr<UringRequest> timeout = std::exchange(next, std::move(next->next));
  timeout->MakeTimer();
  const bool prepared = group_->async_work().Prepare().ok();
  {
    MutexLock lock(ring->mu_);
    timeout->state_ = State::kTimer;
    timeout->watched = RefPtr<UringRequest>(this);
    link_timeout_ = timeout;
  }
  ring->Add(*timeout);
  if (prepared) timeout->StartTimer(timeout->deadline_ns);
}

void UringRequest::MakeTimer() {
  timer_ = std::make_unique<Timer>([this](uint64_t) { Kick(); });
}

void UringRequest::StartTimer(int64_t deadline) {
  {
    MutexLock lock(ring->mu_);
    deadline_ns = deadline;
  }
  if (deadline != kNoDeadline) timer_->Arm(std::max<int64_t>(deadline, 1), 0);
}

RefPtr<UringRequest> UringRequest::StartTimeout() {
  MakeTimer();
  {
    MutexLock lock(ring->mu_);
    if (sqe.off) target_count = ring->completions_ + sqe.off;
  }
  ring->Add(*this);
  bool cancelled;
  {
    MutexLock lock(ring->mu_);
    cancelled = cancelled_;
    state_ = cancelled ? State::kDone : State::kTimer;
  }
  if (cancelled) return Finish(-ECANCELED);
  StartTimer(deadline_ns);
  return nullptr;
}

void UringRequest::Rearm(bool new_events) {
  if (new_events) {
    queue()->Remove(*this);
    file->wait_queue()->Add(*this, sqe.poll32_events);
  }
  bool cancelled;
  {
    MutexLock lock(ring->mu_);
    cancelled = cancelled_;
    if (!cancelled) state_ = State::kArmed;
  }
  if (cancelled) {
    FinishElsewhere(-ECANCELED);
    return;
  }
  // What came meanwhile was not taken.
  Kick();
}

// --- Handlers

Value UringRequest::Call(Task& task, Handler handler, const Arguments& args, vfs::FileRef* made) {
  CallScope scope(file, made != nullptr);
  Value value = handler(task, args);
  if (made) *made = std::move(scope.made);
  return value;
}

Outcome UringRequest::CallDone(Task& task, Handler handler, const Arguments& args) {
  Value value = Call(task, handler, args);
  if (value.ok()) return Outcome::Done(*value);
  if (value.error() == kernel::kWouldSleep) return Outcome::Wait();
  if (value.error().IsRestart()) return Outcome::Error(EINTR);
  return Outcome::Error(value.error().number());
}

}  // namespace sentry::syscalls
