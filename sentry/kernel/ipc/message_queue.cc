// SPDX-License-Identifier: Apache-2.0
#include "sentry/kernel/ipc/message_queue.h"

#include <sys/msg.h>

#ifndef MSG_COPY
#define MSG_COPY 040000
#endif

namespace sentry::ipc {

MessageLimits MessageQueues::limits() const {
  MutexLock lock(mu_);
  return limits_;
}

void MessageQueues::set_limits(const MessageLimits& limits) {
  MutexLock lock(mu_);
  limits_ = limits;
}

Result<int> MessageQueues::Get(key_t key, int flags, const Credentials& creds) {
  MutexLock lock(mu_);
  auto check = [](const Queue&) { return OkResult(); };
  auto make = [&]() ABSL_NO_THREAD_SAFETY_ANALYSIS -> Result<RefPtr<Queue>> {
    Charge charge = TRY(Charge::Take(sizeof(Queue)));
    auto queue = MakeRef<Queue>();
    queue->charge = std::move(charge);
    queue->max_bytes = static_cast<uint64_t>(limits_.queue_bytes);
    queue->ctime = NowSeconds();
    return queue;
  };
  return queues_.Get(key, flags, limits_.queues, creds, check, make);
}

Result<void> MessageQueues::Send(Caller& caller, int id, int64_t type, std::string text, bool nonblocking) {
  Message message{.type = type, .text = std::move(text)};
  message.charge = TRY(Charge::Take(sizeof(Message) + message.text.size()));
  RefPtr<Queue> queue;
  {
    MutexLock lock(mu_);
    queue = TRY(queues_.Find(id));
  }
  auto attempt = [&]() -> Result<void> {
    MutexLock lock(mu_);
    if (queue->removed) return Errno(EIDRM);
    TRY(CheckAccess(queue->permissions, 0222, *caller.creds()));
    if (message.text.size() + queue->bytes > queue->max_bytes || queue->messages.size() + 1 > queue->max_bytes)
      return Errno(EAGAIN);
    queue->bytes += message.text.size();
    queue->messages.push_back(std::move(message));
    queue->last_send = PidStamp::OfCaller();
    queue->stime = NowSeconds();
    queue->wait_queue.Notify(kEventIn);
    return OkResult();
  };
  Result<void> sent = BlockOn(caller, queue->wait_queue, kEventOut, nonblocking, kNoDeadline, attempt);
  if (!sent.ok() && sent.error() == base::kErestartsys) return base::kErestartnohand;
  return sent;
}

std::list<Message>::iterator MessageQueues::Select(Queue& queue, int64_t type, int flags) {
  auto& messages = queue.messages;
  if (flags & MSG_COPY) {
    if (type < 0 || static_cast<uint64_t>(type) >= messages.size()) return messages.end();
    return std::next(messages.begin(), type);
  }
  auto lowest = messages.end();
  // msgrcv(2): of LONG_MIN there is no absolute value.
  const int64_t bound = type == INT64_MIN ? INT64_MAX : -type;
  for (auto it = messages.begin(); it != messages.end(); ++it) {
    if (type == 0) return it;
    if (type < 0) {
      if (it->type <= bound && (lowest == messages.end() || it->type < lowest->type)) lowest = it;
    } else if ((it->type == type) != ((flags & MSG_EXCEPT) != 0)) {
      return it;
    }
  }
  return lowest;
}

Result<Message> MessageQueues::Receive(Caller& caller, int id, size_t limit, int64_t type, int flags) {
  RefPtr<Queue> queue;
  {
    MutexLock lock(mu_);
    queue = TRY(queues_.Find(id));
  }
  auto attempt = [&]() -> Result<Message> {
    MutexLock lock(mu_);
    if (queue->removed) return Errno(EIDRM);
    TRY(CheckAccess(queue->permissions, 0444, *caller.creds()));
    auto it = Select(*queue, type, flags);
    if (it == queue->messages.end()) return Errno((flags & IPC_NOWAIT) ? ENOMSG : EAGAIN);
    if (it->text.size() > limit && !(flags & MSG_NOERROR)) return Errno(E2BIG);
    if (flags & MSG_COPY) {
      if (it->text.size() > limit) return Errno(EINVAL);
      return Message{.type = it->type, .text = it->text};
    }
    Message message = std::move(*it);
    queue->messages.erase(it);
    queue->bytes -= message.text.size();
    queue->last_receive = PidStamp::OfCaller();
    queue->rtime = NowSeconds();
    queue->wait_queue.Notify(kEventOut);
    return message;
  };
  Result<Message> received = BlockOn(caller, queue->wait_queue, kEventIn, false, kNoDeadline, attempt);
  if (!received.ok() && received.error() == base::kErestartsys) return base::kErestartnohand;
  return received;
}

QueueStatus MessageQueues::StatusOf(const Queue& queue) {
  return {.permissions = queue.permissions,
          .id = queue.id,
          .bytes = queue.bytes,
          .messages = queue.messages.size(),
          .max_bytes = queue.max_bytes,
          .last_send = queue.last_send.Seen(),
          .last_receive = queue.last_receive.Seen(),
          .stime = queue.stime,
          .rtime = queue.rtime,
          .ctime = queue.ctime};
}

Result<QueueStatus> MessageQueues::Status(int id, IdKind kind, bool check, const Credentials& creds) const {
  MutexLock lock(mu_);
  RefPtr<Queue> queue = TRY(queues_.Find(id, kind));
  if (check) TRY(CheckAccess(queue->permissions, 0444, creds));
  return StatusOf(*queue);
}

Result<void> MessageQueues::SetOwner(int id, const OwnerChange& change, uint64_t max_bytes, const Credentials& creds) {
  MutexLock lock(mu_);
  RefPtr<Queue> queue = TRY(queues_.Find(id));
  TRY(CheckOwner(queue->permissions, creds));
  if (max_bytes > static_cast<uint64_t>(limits_.queue_bytes) && !creds.HasCapability(CAP_SYS_RESOURCE))
    return Errno(EPERM);
  TRY(ChangeOwner(queue->permissions, change));
  queue->max_bytes = max_bytes;
  queue->ctime = NowSeconds();
  // Receivers may be shut out now, senders may have room.
  queue->wait_queue.Notify(kAllEvents);
  return OkResult();
}

void MessageQueues::RemoveLocked(Queue& queue) {
  mu_.AssertHeld();
  queues_.Remove(queue);
  queue.messages.clear();
  queue.bytes = 0;
  queue.wait_queue.Notify(kAllEvents);
}

Result<void> MessageQueues::Remove(int id, const Credentials& creds) {
  RefPtr<Queue> queue;  // outlives the lock
  MutexLock lock(mu_);
  queue = TRY(queues_.Find(id));
  TRY(CheckOwner(queue->permissions, creds));
  RemoveLocked(*queue);
  return OkResult();
}

MessageQueues::Totals MessageQueues::totals() const {
  MutexLock lock(mu_);
  Totals totals{.queues = static_cast<int>(queues_.size()), .max_index = queues_.max_index()};
  for (const auto& [index, queue] : queues_.objects()) {
    totals.messages += queue->messages.size();
    totals.bytes += queue->bytes;
  }
  return totals;
}

std::vector<QueueStatus> MessageQueues::List() const {
  MutexLock lock(mu_);
  std::vector<QueueStatus> list;
  for (const auto& [index, queue] : queues_.objects()) list.push_back(StatusOf(*queue));
  return list;
}

void MessageQueues::Shutdown() {
  std::vector<RefPtr<Queue>> queues;  // outlive the lock
  MutexLock lock(mu_);
  for (const auto& [index, queue] : queues_.objects()) queues.push_back(queue);
  for (const RefPtr<Queue>& queue : queues) RemoveLocked(*queue);
}

}  // namespace sentry::ipc
