// SPDX-License-Identifier: Apache-2.0
#include "sentry/syscalls/aio_context.h"

#include <poll.h>

#include <algorithm>

#include "sentry/kernel/core/tunables.h"
#include "sentry/kernel/kernel.h"

namespace sentry::syscalls {
namespace {

// What libaio reads (its io_getevents looks at the ring before it makes the call).
struct RingHeader {
  uint32_t id, nr, head, tail;
  uint32_t magic, compat_features, incompat_features, header_length;
};
static_assert(sizeof(RingHeader) == 32);
constexpr uint32_t kMagic = 0xa10a10a1;
constexpr uint32_t kMaxEvents = 0x10000000u / sizeof(io_event);

}  // namespace

// One-shot: Settle wins once, by an event or a cancellation. The wait entry stays until Run or Cancel takes it out,
// outside of the queue's lock.
class AioContext::PollRequest final : public kernel::AsyncJob, public WaitEntry {
 public:
  PollRequest(AioContext& context, Task& task, const iocb& request, UserAddr user, vfs::FileRef file,
              vfs::FileRef eventfd)
      : context_(&context),
        group_(task.group_ref()),
        data_(request.aio_data),
        user_(user),
        wanted_(static_cast<uint16_t>(request.aio_buf) | EPOLLERR | EPOLLHUP),
        file_(std::move(file)),
        eventfd_(std::move(eventfd)) {}
  ~PollRequest() override {
    if (queue()) queue()->Remove(*this);
  }

  const kernel::TaskIdentity& identity() const override { return identity_; }
  kernel::ThreadGroup& group() const { return *group_; }
  UserAddr user() const { return user_; }

  void OnEvent(EventMask events) override {
    if (queued_.exchange(true, std::memory_order_acq_rel)) return;
    // In the destructor already: the entry leaves the queue right after.
    if (TryIncRef()) group_->async_work().Retry(RefPtr<AsyncJob>::Adopt(this));
  }
  void Arm() {
    if (WaitQueue* queue = file_->wait_queue()) queue->Add(*this, wanted_);
    OnEvent(0);  // it may be ready by now
  }
  void Run(Task&) override {
    queued_.store(false, std::memory_order_release);
    EventMask ready = file_->Poll() & wanted_;
    if (ready) Finish(ready);
  }
  // Completes with `result` unless it was completed before.
  void Finish(int64_t result) {
    if (done_.exchange(true, std::memory_order_acq_rel)) return;
    RefPtr<PollRequest> self(this);
    RefPtr<AioContext> context = std::move(context_);
    if (queue()) queue()->Remove(*this);
    {
      MutexLock lock(context->mu_);
      auto& polls = context->polls_;
      polls.erase(std::find(polls.begin(), polls.end(), this));
    }
    context->Complete({.data = data_, .obj = user_.value(), .res = result, .res2 = 0}, eventfd_.get());
  }

 private:
  RefPtr<AioContext> context_;
  const RefPtr<kernel::ThreadGroup> group_;
  const kernel::TaskIdentity identity_;  // nothing of the process is needed
  const uint64_t data_;
  const UserAddr user_;
  const EventMask wanted_;
  const vfs::FileRef file_, eventfd_;
  std::atomic<bool> queued_{false}, done_{false};
};

AioContext::AioContext(RefPtr<RingMemory> ring, uint32_t reserved, uint32_t ring_events)
    : ring_(std::move(ring)), reserved_(reserved), ring_events_(ring_events) {}

AioContext::~AioContext() {
  tunables::aio_nr.value.fetch_sub(reserved_, std::memory_order_relaxed);
  for (const auto& group : groups_) group->async_work().RemoveClient(*this);
}

Result<RefPtr<AioContext>> AioContext::Create(Task& task, uint32_t events) {
  if (events > kMaxEvents / 2) return Errno(EINVAL);
  // Enough for a batch on every CPU, twice (ioctx_alloc of the kernel); the rest of the last page is used, too.
  const uint32_t batch = 4 * kernel::Kernel::Get().options().cpus;
  const uint64_t wanted = std::max(events, batch) * uint64_t{2} + 2;
  const uint64_t length = (sizeof(RingHeader) + wanted * sizeof(io_event) + kPageSize - 1) / kPageSize * kPageSize;
  const uint32_t ring_events = static_cast<uint32_t>((length - sizeof(RingHeader)) / sizeof(io_event));
  const int64_t limit = tunables::aio_max_nr;
  if (tunables::aio_nr.value.fetch_add(events, std::memory_order_relaxed) + int64_t{events} > limit) {
    tunables::aio_nr.value.fetch_sub(events, std::memory_order_relaxed);
    return Errno(EAGAIN);
  }
  auto ring = RingMemory::Create(length, "/[aio] (deleted)");
  if (!ring.ok()) {
    tunables::aio_nr.value.fetch_sub(events, std::memory_order_relaxed);
    return ring.error();
  }
  RefPtr<AioContext> context(new AioContext(*ring, events, ring_events));
  const RingHeader header = {.id = 0,
                             .nr = ring_events,
                             .head = 0,
                             .tail = 0,
                             .magic = kMagic,
                             .compat_features = 1,
                             .incompat_features = 0,
                             .header_length = sizeof(RingHeader)};
  context->ring_->Write(0, &header, sizeof header);
  mm::MmapRequest request;
  request.length = length;
  request.protection = {.read = true, .write = true};
  request.is_private = false;
  request.object = context->ring_;
  context->id_ = TRY(task.mm().Mmap(request));
  return context;
}

uint32_t AioContext::PendingLocked() const {
  uint32_t head = ring_->Load(offsetof(RingHeader, head)) % ring_events_;
  return (tail_ + ring_events_ - head) % ring_events_;
}

Result<void> AioContext::Reserve() {
  MutexLock lock(mu_);
  if (IsShut()) return Errno(EINVAL);
  if (in_flight_ + PendingLocked() >= capacity()) return Errno(EAGAIN);
  ++in_flight_;
  return OkResult();
}

void AioContext::Release() {
  MutexLock lock(mu_);
  --in_flight_;
}

void AioContext::Complete(const io_event& event, vfs::FileDescription* eventfd) {
  {
    MutexLock lock(mu_);
    --in_flight_;
    ring_->Write(sizeof(RingHeader) + tail_ * sizeof event, &event, sizeof event);
    tail_ = (tail_ + 1) % ring_events_;
    ring_->Store(offsetof(RingHeader, tail), tail_);
  }
  if (eventfd) {
    const uint64_t one = 1;
    BufferSource source(&one, sizeof one);
    (void)eventfd->Write(source).ok();
  }
  queue_.Notify(kEventIn);
}

Result<size_t> AioContext::Take(Task& task, UserAddr events, size_t limit) {
  MutexLock taking(take_mu_);
  size_t done = 0;
  while (done < limit) {
    io_event event;
    uint32_t head;
    {
      MutexLock lock(mu_);
      head = ring_->Load(offsetof(RingHeader, head)) % ring_events_;
      if (head == tail_) break;
      ring_->Read(sizeof(RingHeader) + head * sizeof event, &event, sizeof event);
    }
    auto copied = task.CopyOut(events + done * sizeof event, event);
    if (!copied.ok()) return done ? Result<size_t>(done) : copied.error();
    ring_->Store(offsetof(RingHeader, head), (head + 1) % ring_events_);
    ++done;
  }
  return done;
}

Result<void> AioContext::SubmitPoll(Task& task, const iocb& request, UserAddr user, vfs::FileRef file,
                                    vfs::FileRef eventfd) {
  kernel::AsyncWork& work = task.group().async_work();
  TRY(work.Prepare());
  auto poll = MakeRef<PollRequest>(*this, task, request, user, std::move(file), std::move(eventfd));
  bool new_group;
  {
    MutexLock lock(mu_);
    if (IsShut()) return Errno(EINVAL);
    polls_.push_back(poll);
    new_group = std::find(groups_.begin(), groups_.end(), &task.group()) == groups_.end();
    if (new_group) groups_.push_back(task.group_ref());
  }
  if (new_group) work.AddClient(*this);
  poll->Arm();
  return OkResult();
}

size_t AioContext::Cancel(bool (*matches)(const PollRequest&, const void*), const void* argument) {
  std::vector<RefPtr<PollRequest>> cancelled;
  {
    MutexLock lock(mu_);
    for (const auto& poll : polls_) {
      if (matches(*poll, argument)) cancelled.push_back(poll);
    }
  }
  for (const auto& poll : cancelled) poll->Finish(0);
  return cancelled.size();
}

Result<void> AioContext::Cancel(UserAddr user) {
  RefPtr<PollRequest> found;
  {
    MutexLock lock(mu_);
    for (const auto& poll : polls_) {
      if (poll->user() == user) found = poll;
    }
  }
  if (!found) return Errno(EINVAL);
  found->Finish(0);
  return OkResult();
}

size_t AioContext::CancelRequestsOf(const kernel::ThreadGroup& group) {
  return Cancel([](const PollRequest& poll, const void* g) { return &poll.group() == g; }, &group);
}

bool AioContext::Shut() {
  {
    MutexLock lock(mu_);
    if (shut_.exchange(true, std::memory_order_acq_rel)) return false;
  }
  Cancel([](const PollRequest&, const void*) { return true; }, nullptr);
  queue_.Notify(kAllEvents);
  return true;
}

RefPtr<AioTable> AioTable::Of(Task& task) {
  // Nothing else keeps a companion.
  RefPtr<mm::MemoryManager::Companion> companion = task.mm().companion();
  return RefPtr<AioTable>(static_cast<AioTable*>(companion.get()));
}

RefPtr<AioTable> AioTable::GetOrMake(Task& task) {
  RefPtr<mm::MemoryManager::Companion> companion = task.mm().SetCompanion(MakeRef<AioTable>());
  return RefPtr<AioTable>(static_cast<AioTable*>(companion.get()));
}

void AioTable::Add(RefPtr<AioContext> context) {
  MutexLock lock(mu_);
  const uint64_t id = context->id();
  contexts_[id] = std::move(context);
}

Result<RefPtr<AioContext>> AioTable::Find(uint64_t id) const {
  MutexLock lock(mu_);
  auto it = contexts_.find(id);
  if (it == contexts_.end()) return Errno(EINVAL);
  return it->second;
}

Result<RefPtr<AioContext>> AioTable::Remove(uint64_t id) {
  MutexLock lock(mu_);
  auto it = contexts_.find(id);
  if (it == contexts_.end()) return Errno(EINVAL);
  RefPtr<AioContext> context = std::move(it->second);
  contexts_.erase(it);
  return context;
}

void AioTable::OnClear() {
  std::map<uint64_t, RefPtr<AioContext>> contexts;
  {
    MutexLock lock(mu_);
    contexts.swap(contexts_);
  }
  for (auto& [id, context] : contexts) context->Shut();
}

}  // namespace sentry::syscalls
