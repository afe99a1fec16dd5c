// SPDX-License-Identifier: Apache-2.0
// System V message queues: msgget(2), msgop(2), msgctl(2). Thread-safe.
#ifndef SENTRY_KERNEL_IPC_MESSAGE_QUEUE_H_
#define SENTRY_KERNEL_IPC_MESSAGE_QUEUE_H_

#include <list>
#include <string>
#include <vector>

#include "sentry/kernel/core/caller.h"
#include "sentry/kernel/ipc/budget.h"
#include "sentry/kernel/ipc/permissions.h"
#include "sentry/kernel/ipc/registry.h"

namespace sentry::ipc {

struct MessageLimits {
  int message_bytes = 8192;  // msgmax
  int queue_bytes = 16384;   // msgmnb
  int queues = 32000;        // msgmni
};

struct QueueStatus {
  Permissions permissions;
  int id = 0;
  uint64_t bytes = 0, messages = 0, max_bytes = 0;
  pid_t last_send = 0, last_receive = 0;
  int64_t stime = 0, rtime = 0, ctime = 0;
};

struct Message {
  int64_t type = 0;
  std::string text;
  Charge charge;
};

class MessageQueues : public RefCounted<MessageQueues> {
 public:
  MessageLimits limits() const;
  void set_limits(const MessageLimits& limits);

  Result<int> Get(key_t key, int flags, const Credentials& creds);
  // Blocks unless `nonblocking` (EAGAIN). EIDRM; interrupted: kErestartnohand.
  Result<void> Send(Caller& caller, int id, int64_t type, std::string text, bool nonblocking);
  // The message of `type` as msgrcv(2) selects it by the IPC_NOWAIT, MSG_EXCEPT, MSG_COPY and MSG_NOERROR of `flags`.
  // ENOMSG, E2BIG, EIDRM; interrupted: kErestartnohand.
  Result<Message> Receive(Caller& caller, int id, size_t limit, int64_t type, int flags);

  Result<QueueStatus> Status(int id, IdKind kind, bool check, const Credentials& creds) const;
  Result<void> SetOwner(int id, const OwnerChange& change, uint64_t max_bytes, const Credentials& creds);
  Result<void> Remove(int id, const Credentials& creds);
  struct Totals {
    int queues, max_index;
    uint64_t messages, bytes;
  };
  Totals totals() const;
  std::vector<QueueStatus> List() const;

  void Shutdown();

 private:
  struct Queue : public RefCounted<Queue>, public IpcObject {
    std::list<Message> messages;
    uint64_t bytes = 0, max_bytes = 0;
    PidStamp last_send, last_receive;
    int64_t stime = 0, rtime = 0, ctime = 0;
    WaitQueue wait_queue;  // kEventIn: a message came; kEventOut: there is more room
    Charge charge;
  };
  static QueueStatus StatusOf(const Queue& queue);
  static std::list<Message>::iterator Select(Queue& queue, int64_t type, int flags);
  void RemoveLocked(Queue& queue);

  mutable Mutex mu_{LockRank::kNamespace};
  MessageLimits limits_ ABSL_GUARDED_BY(mu_);
  Registry<Queue> queues_ ABSL_GUARDED_BY(mu_);
};

}  // namespace sentry::ipc

#endif  // SENTRY_KERNEL_IPC_MESSAGE_QUEUE_H_
