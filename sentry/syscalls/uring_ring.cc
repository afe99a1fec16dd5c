// SPDX-License-Identifier: Apache-2.0
// Ring: submission, completion, waiting and cancellation.
#include <algorithm>

#include "sentry/syscalls/uring.h"

namespace sentry::syscalls {
namespace {

constexpr uint8_t kSqeFlags = IOSQE_FIXED_FILE | IOSQE_IO_DRAIN | IOSQE_IO_LINK | IOSQE_IO_HARDLINK | IOSQE_ASYNC |
                              IOSQE_BUFFER_SELECT | IOSQE_CQE_SKIP_SUCCESS;

}  // namespace

Ring::Ring(std::unique_ptr<UringQueues> queues, uint32_t setup_flags)
    : queues_(std::move(queues)), setup_flags_(setup_flags), disabled_((setup_flags & IORING_SETUP_R_DISABLED) != 0) {}

Ring::~Ring() {
  for (const auto& group : groups_) group->async_work().RemoveClient(*this);
}

Result<RefPtr<Ring>> Ring::Create(Task& task, uint32_t entries, io_uring_params* params) {
  auto queues = TRY(UringQueues::Create(entries, params));
  RefPtr<Ring> ring(new Ring(std::move(queues), params->flags));
  if ((params->flags & IORING_SETUP_SINGLE_ISSUER) && !ring->IsDisabled()) ring->issuer_.store(task.tid());
  params->features = IORING_FEAT_SINGLE_MMAP | IORING_FEAT_NODROP | IORING_FEAT_SUBMIT_STABLE | IORING_FEAT_RW_CUR_POS |
                     IORING_FEAT_CUR_PERSONALITY | IORING_FEAT_FAST_POLL | IORING_FEAT_POLL_32BITS |
                     IORING_FEAT_SQPOLL_NONFIXED | IORING_FEAT_EXT_ARG | IORING_FEAT_NATIVE_WORKERS |
                     IORING_FEAT_CQE_SKIP | IORING_FEAT_LINKED_FILE;
  return ring;
}

void Ring::KnowGroup(kernel::ThreadGroup& group) {
  {
    MutexLock lock(mu_);
    for (const auto& known : groups_) {
      if (known == &group) return;
    }
    groups_.push_back(RefPtr<kernel::ThreadGroup>(&group));
  }
  group.async_work().AddClient(*this);
}

void Ring::Add(UringRequest& request) {
  KnowGroup(request.group());
  MutexLock lock(mu_);
  if (waiting_.emplace(&request, RefPtr<UringRequest>(&request)).second && request.target_count) ++counted_timeouts_;
}

void Ring::Remove(UringRequest& request) {
  RefPtr<UringRequest> dropped;
  MutexLock lock(mu_);
  auto it = waiting_.find(&request);
  if (it == waiting_.end()) return;
  dropped = std::move(it->second);
  waiting_.erase(it);
  if (request.target_count) --counted_timeouts_;
}

// --- Completions

bool Ring::Post(uint64_t user_data, int32_t result, uint32_t flags, bool counts) {
  const bool posted = queues_->Post(user_data, result, flags);
  vfs::FileRef eventfd;
  bool check;
  {
    MutexLock lock(mu_);
    if (counts) ++completions_;
    check = counts && counted_timeouts_ > 0;
    if (eventfd_) eventfd = eventfd_;
  }
  if (eventfd && !queues_->EventfdDisabled()) {
    const uint64_t one = 1;
    BufferSource source(&one, sizeof one);
    (void)eventfd->Write(source).ok();
  }
  queue_.Notify(kEventIn);
  if (check) CheckCountedTimeouts();
  return posted;
}

void Ring::CheckCountedTimeouts() {
  std::vector<RefPtr<UringRequest>> due;
  {
    MutexLock lock(mu_);
    for (auto& [key, request] : waiting_) {
      if (request->target_count == 0 || request->target_count > completions_ ||
          request->state_ != UringRequest::State::kTimer)
        continue;
      request->state_ = UringRequest::State::kDone;
      due.push_back(request);
    }
  }
  for (const auto& request : due) request->FinishElsewhere(0);
}

EventMask Ring::Poll() {
  EventMask events = 0;
  if (!queues_->SqFull()) events |= kEventOut;
  if (queues_->Ready() > 0 || queues_->HasOverflown()) events |= kEventIn;
  return events;
}

Result<void> Ring::Wait(Task& task, uint32_t min, int64_t deadline_ns) {
  min = std::min(min, queues_->cq_entries());
  auto enough = [&] {
    (void)queues_->Flush();
    return queues_->Ready() >= min || IsClosed();
  };
  if (enough()) return OkResult();
  BlockerEntry entry(task.blocker());
  queue_.Add(entry, kEventIn);
  for (Result<void> slept;;) {
    if (enough()) return OkResult();
    if (!slept.ok()) {
      if (queues_->Ready() > 0) return OkResult();
      return slept.error() == Errno(ETIMEDOUT) ? Errno(ETIME) : Errno(EINTR);
    }
    slept = task.Block(deadline_ns);
  }
}

// --- Submission

Result<void> Ring::CheckIssuer(Task& task) {
  if (!(setup_flags_ & IORING_SETUP_SINGLE_ISSUER) || (setup_flags_ & IORING_SETUP_SQPOLL)) return OkResult();
  pid_t expected = 0;
  if (issuer_.compare_exchange_strong(expected, task.tid()) || expected == task.tid()) return OkResult();
  return Errno(EEXIST);
}

Result<void> Ring::CheckEntry(const io_uring_sqe& sqe) {
  if (sqe.opcode >= IORING_OP_LAST) return Errno(EINVAL);
  if (sqe.flags & ~kSqeFlags) return Errno(EINVAL);
  const UringOp* op = FindUringOp(sqe.opcode);
  if ((sqe.flags & IOSQE_BUFFER_SELECT) && !(op && op->selects_buffers)) return Errno(EOPNOTSUPP);
  {
    MutexLock lock(mu_);
    if (restrictions_.active) {
      const Restrictions& r = restrictions_;
      if (!r.sqe_ops[sqe.opcode] || (sqe.flags & r.flags_required) != r.flags_required ||
          (sqe.flags & ~(r.flags_allowed | r.flags_required)))
        return Errno(EACCES);
    }
    if (sqe.personality && !personalities_.contains(sqe.personality)) return Errno(EINVAL);
  }
  if (!op) return Errno(sqe.opcode == IORING_OP_URING_CMD ? EOPNOTSUPP : EINVAL);
  if (sqe.ioprio && !op->takes_ioprio) return Errno(EINVAL);
  // A ring for polled I/O has no operation for files that cannot be polled, and here none can.
  if ((setup_flags_ & IORING_SETUP_IOPOLL) && op->needs_file) return Errno(EOPNOTSUPP);
  return OkResult();
}

// Behind IOSQE_IO_DRAIN: when something before it is under way.
bool Ring::MustDefer(const RefPtr<UringRequest>& head) {
  MutexLock lock(mu_);
  bool drain = false;
  for (UringRequest* r = head.get(); r; r = r->next.get()) drain |= (r->sqe.flags & IOSQE_IO_DRAIN) != 0;
  if (deferred_.empty() && !(drain && in_flight_ > 0)) {
    for (UringRequest* r = head.get(); r; r = r->next.get()) r->counted_ = true, ++in_flight_;
    return false;
  }
  deferred_.push_back(head);
  return true;
}

void Ring::RequestEnded(bool counted) {
  if (!counted) return;
  {
    MutexLock lock(mu_);
    if (--in_flight_ > 0 || deferred_.empty()) return;
  }
  RunDeferred();
}

void Ring::RunDeferred() {
  for (bool drain = false; !drain;) {
    RefPtr<UringRequest> head;
    {
      MutexLock lock(mu_);
      if (deferred_.empty()) return;
      for (UringRequest* r = deferred_.front().get(); r; r = r->next.get())
        drain |= (r->sqe.flags & IOSQE_IO_DRAIN) != 0;
      if (drain && in_flight_ > 0) return;
      head = std::move(deferred_.front());
      deferred_.pop_front();
      for (UringRequest* r = head.get(); r; r = r->next.get()) r->counted_ = true, ++in_flight_;
    }
    UringRequest::IssueLater(std::move(head));
  }
}

Result<int64_t> Ring::Submit(Task& task, uint32_t count) {
  TRY(CheckIssuer(task));
  count = std::min(count, queues_->Submitted());
  RefPtr<UringRequest> head, last;
  bool broken = false;  // the chain that is being put together has a bad entry
  auto start = [&] {
    RefPtr<UringRequest> first = std::exchange(head, nullptr);
    last.Reset();
    if (std::exchange(broken, false)) {
      // All of a chain fail with its bad entry; that one was marked with its error.
      for (RefPtr<UringRequest> r = std::move(first); r;) {
        RefPtr<UringRequest> rest = std::move(r->next);
        (void)Post(r->sqe.user_data, r->prepare_error ? -r->prepare_error : -ECANCELED, 0);
        r = std::move(rest);
      }
      return;
    }
    if (!MustDefer(first)) UringRequest::Issue(task, std::move(first));
  };
  int64_t done = 0;
  while (done < count) {
    io_uring_sqe sqe;
    if (!queues_->Take(&sqe)) break;
    ++done;
    auto request = MakeRef<UringRequest>(RefPtr<Ring>(this), task, sqe);
    auto checked = CheckEntry(sqe);
    const bool link_timeout = sqe.opcode == IORING_OP_LINK_TIMEOUT;
    if (checked.ok() && link_timeout && (!last || last->IsLinkTimeout())) checked = Errno(EINVAL);
    if (checked.ok() && (link_timeout || sqe.opcode == IORING_OP_TIMEOUT)) checked = PrepareTimeout(*request, task);
    if (!checked.ok()) request->prepare_error = checked.error().number();
    if (last) {
      last->next = request;
    } else {
      head = request;
    }
    last = request;
    broken |= !checked.ok();
    const bool goes_on = (sqe.flags & (IOSQE_IO_LINK | IOSQE_IO_HARDLINK)) != 0;
    if (!goes_on) start();
    if (!checked.ok() && !(setup_flags_ & IORING_SETUP_SUBMIT_ALL)) break;
  }
  // A chain ends with the batch.
  if (head) start();
  return done;
}

// --- Cancellation

std::vector<RefPtr<UringRequest>> Ring::Find(const Matcher& matches, bool all) {
  std::vector<RefPtr<UringRequest>> found;
  MutexLock lock(mu_);
  for (const auto& [key, request] : waiting_) {
    if (request->state_ == UringRequest::State::kDone || !matches(*request)) continue;
    found.push_back(request);
    if (!all) break;
  }
  return found;
}

size_t Ring::CancelRequestsOf(const kernel::ThreadGroup& group) {
  auto mine = Find([&](const UringRequest& r) { return &r.group() == &group; }, true);
  size_t cancelled = 0;
  RefPtr<SqThread> thread;
  {
    MutexLock lock(mu_);
    if (sq_thread_ && &sq_thread_->group() == &group) thread = std::move(sq_thread_);
  }
  if (thread) thread->Stop();
  for (const auto& request : mine) cancelled += request->Cancel() == 0;
  return cancelled;
}

void Ring::Close() {
  if (closed_.exchange(true, std::memory_order_acq_rel)) return;
  std::deque<RefPtr<UringRequest>> deferred;
  {
    MutexLock lock(mu_);
    deferred.swap(deferred_);
  }
  // A chain is taken apart from the front, without recursion.
  for (RefPtr<UringRequest>& head : deferred) {
    while (head) head = std::move(head->next);
  }
  for (const auto& request : Find([](const UringRequest&) { return true; }, true)) (void)request->Cancel();
  queue_.Notify(kAllEvents);
  sq_queue_.Notify(kAllEvents);
  // Files and the like may hold the ring itself.
  std::vector<vfs::FileRef> files;
  vfs::FileRef eventfd;
  RefPtr<SqThread> sq_thread;
  {
    MutexLock lock(mu_);
    files.swap(files_);
    eventfd = std::move(eventfd_);
    sq_thread = std::move(sq_thread_);
  }
  if (sq_thread) sq_thread->Stop();
}

}  // namespace sentry::syscalls
