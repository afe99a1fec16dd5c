// SPDX-License-Identifier: Apache-2.0
// System V messages: msgget(2), msgsnd(2), msgrcv(2), msgctl(2).
#include <sys/msg.h>

#include "sentry/syscalls/handlers.h"
#include "sentry/syscalls/ipc_util.h"

#ifndef MSG_COPY
#define MSG_COPY 040000
#endif
#ifndef MSG_STAT_ANY
#define MSG_STAT_ANY 13
#endif

namespace sentry::syscalls {
namespace {

using ipc::IdKind;

Value Status(Task& task, int id, int command, UserAddr to) {
  const IdKind kind = command == IPC_STAT ? IdKind::kId : IdKind::kIndex;
  ipc::QueueStatus status = TRY(IpcOf(task).messages().Status(id, kind, command != MSG_STAT_ANY, *task.creds()));
  msqid_ds ds = {};
  ds.msg_perm = ToIpcPerm(*task.creds(), status.permissions, status.id);
  ds.msg_stime = status.stime;
  ds.msg_rtime = status.rtime;
  ds.msg_ctime = status.ctime;
  ds.__msg_cbytes = status.bytes;
  ds.msg_qnum = status.messages;
  ds.msg_qbytes = status.max_bytes;
  ds.msg_lspid = status.last_send;
  ds.msg_lrpid = status.last_receive;
  TRY(task.CopyOut(to, ds));
  return kind == IdKind::kId ? 0 : status.id;
}

Value Info(Task& task, UserAddr to, bool usage) {
  const ipc::MessageLimits limits = IpcOf(task).messages().limits();
  const ipc::MessageQueues::Totals totals = IpcOf(task).messages().totals();
  constexpr int kQueueBytes = 16384, kPoolKilobytes = 512000, kSegmentBytes = 16, kSegments = 0xffff;
  msginfo info = {.msgpool = usage ? totals.queues : kPoolKilobytes,
                  .msgmap = usage ? static_cast<int>(totals.messages) : kQueueBytes,
                  .msgmax = limits.message_bytes,
                  .msgmnb = limits.queue_bytes,
                  .msgmni = limits.queues,
                  .msgssz = kSegmentBytes,
                  .msgtql = usage ? static_cast<int>(totals.bytes) : kQueueBytes,
                  .msgseg = kSegments};
  TRY(task.CopyOut(to, info));
  return totals.max_index;
}

}  // namespace

SYSCALL_HANDLER(SysMsgget) { return TRY(IpcOf(task).messages().Get(args.Int(0), args.Int(1), *task.creds())); }

SYSCALL_HANDLER(SysMsgsnd) {
  const int id = args.Int(0);
  const UserAddr buffer = args.Addr(1);
  const size_t size = args.Size(2);
  ipc::MessageQueues& queues = IpcOf(task).messages();
  const int64_t type = TRY(task.CopyIn<int64_t>(buffer));
  if (size > static_cast<size_t>(queues.limits().message_bytes) || id < 0 || type < 1) return Errno(EINVAL);
  std::string text(size, '\0');
  if (size) TRY(task.CopyInBytes(buffer + sizeof type, text.data(), size));
  TRY(queues.Send(task, id, type, std::move(text), args.Int(3) & IPC_NOWAIT));
  return 0;
}

SYSCALL_HANDLER(SysMsgrcv) {
  const int id = args.Int(0), flags = args.Int(4);
  const UserAddr buffer = args.Addr(1);
  const size_t size = args.Size(2);
  if (id < 0 || static_cast<int64_t>(size) < 0) return Errno(EINVAL);
  if ((flags & MSG_COPY) && ((flags & MSG_EXCEPT) || !(flags & IPC_NOWAIT))) return Errno(EINVAL);
  ipc::Message message = TRY(IpcOf(task).messages().Receive(task, id, size, args.Long(3), flags));
  const size_t length = std::min(size, message.text.size());
  TRY(task.CopyOut(buffer, message.type));
  if (length) TRY(task.CopyOutBytes(buffer + sizeof message.type, message.text.data(), length));
  return static_cast<int64_t>(length);
}

SYSCALL_HANDLER(SysMsgctl) {
  const int id = args.Int(0), command = args.Int(1);
  ipc::MessageQueues& queues = IpcOf(task).messages();
  if (id < 0 || command < 0) return Errno(EINVAL);
  switch (command) {
    case IPC_INFO:
    case MSG_INFO:
      return Info(task, args.Addr(2), command == MSG_INFO);
    case IPC_STAT:
    case MSG_STAT:
    case MSG_STAT_ANY:
      return Status(task, id, command, args.Addr(2));
    case IPC_SET: {
      msqid_ds ds = TRY(task.CopyIn<msqid_ds>(args.Addr(2)));
      TRY(queues.SetOwner(id, TRY(ToOwnerChange(*task.creds(), ds.msg_perm)), ds.msg_qbytes, *task.creds()));
      return 0;
    }
    case IPC_RMID:
      TRY(queues.Remove(id, *task.creds()));
      return 0;
    default:
      return Errno(EINVAL);
  }
}

}  // namespace sentry::syscalls
