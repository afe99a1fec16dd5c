// SPDX-License-Identifier: Apache-2.0
// POSIX message queues for the system call layer and boot.
#ifndef SENTRY_FS_MQUEUE_MQUEUE_H_
#define SENTRY_FS_MQUEUE_MQUEUE_H_

#include <signal.h>

#include <functional>
#include <optional>
#include <string>

#include "sentry/kernel/task.h"
#include "sentry/vfs/vfs.h"

namespace sentry::fs {

inline constexpr unsigned kMqPriorities = 32768;  // MQ_PRIO_MAX

struct MqAttributes {
  int64_t max_messages = 0, message_size = 0, messages = 0;
};

// The factory for RegisterFilesystemType("mqueue", …): the instance of the mounting task's IPC namespace (of the first
// one for boot/, which has no task).
Result<RefPtr<vfs::Filesystem>> NewMqueue(const vfs::MountSource& source);

// mq_open(2). `flags` as of open(2); `attributes` empty: the defaults.
Result<vfs::FileRef> MqOpen(kernel::Task& task, const std::string& name, int flags, mode_t mode,
                            std::optional<MqAttributes> attributes);
Result<void> MqUnlink(kernel::Task& task, const std::string& name);

// The queue behind a file, valid as long as that; EBADF.
class Queue;
Result<Queue*> QueueOf(vfs::FileDescription& file);
MqAttributes AttributesOf(Queue& queue);
// Block unless `nonblocking` (EAGAIN), until the absolute CLOCK_MONOTONIC deadline (ETIMEDOUT). EMSGSIZE, ENOMEM.
Result<void> MqSend(Caller& caller, Queue& queue, std::string text, unsigned priority, bool nonblocking,
                    int64_t deadline_ns);
struct MqMessage {
  std::string text;
  unsigned priority = 0;
};
Result<MqMessage> MqReceive(Caller& caller, Queue& queue, size_t room, bool nonblocking, int64_t deadline_ns);
// mq_notify(2); null takes the caller's registration back. With SIGEV_THREAD `tell` is called once, without locks, in
// whatever task ends the registration: by a message, or otherwise. EBUSY.
enum class MqEnd : uint8_t { kMessage = 1, kRemoved = 2 };  // as Linux's NOTIFY_WOKENUP and NOTIFY_REMOVED
Result<void> MqNotify(kernel::Task& task, Queue& queue, const sigevent* event, std::function<void(MqEnd)> tell = {});

}  // namespace sentry::fs

#endif  // SENTRY_FS_MQUEUE_MQUEUE_H_
