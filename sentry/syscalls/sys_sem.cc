// SPDX-License-Identifier: Apache-2.0
// System V semaphores: semget(2), semop(2), semtimedop(2), semctl(2).
#include <sys/sem.h>

#include "sentry/syscalls/handlers.h"
#include "sentry/syscalls/ipc_util.h"

#ifndef SEM_STAT_ANY
#define SEM_STAT_ANY 20
#endif

namespace sentry::syscalls {
namespace {

using ipc::IdKind;

Value Operate(Task& task, const Arguments& args, int64_t deadline) {
  const int id = args.Int(0);
  const uint64_t count = args.Uint(2);
  ipc::Semaphores& semaphores = IpcOf(task).semaphores();
  if (count < 1 || id < 0) return Errno(EINVAL);
  if (count > static_cast<uint64_t>(semaphores.limits().per_call)) return Errno(E2BIG);
  std::vector<sembuf> operations(count);
  TRY(task.CopyInBytes(args.Addr(1), operations.data(), count * sizeof(sembuf)));
  bool undo = false;
  for (const sembuf& op : operations) undo |= (op.sem_flg & SEM_UNDO) != 0;
  if (undo && !task.semaphore_undo) task.semaphore_undo = MakeRef<ipc::SemaphoreUndo>();
  TRY(semaphores.Operate(task, id, operations, task.semaphore_undo, deadline));
  return 0;
}

Value Info(Task& task, UserAddr to, bool usage) {
  const ipc::SemaphoreLimits limits = IpcOf(task).semaphores().limits();
  const ipc::Semaphores::Totals totals = IpcOf(task).semaphores().totals();
  constexpr int kDefaultTotal = 1024000000, kUndoEntries = 500, kUndoBytes = 20;
  seminfo info = {.semmap = kDefaultTotal,
                  .semmni = limits.sets,
                  .semmns = limits.total,
                  .semmnu = kDefaultTotal,
                  .semmsl = limits.per_set,
                  .semopm = limits.per_call,
                  .semume = kUndoEntries,
                  .semusz = usage ? totals.sets : kUndoBytes,
                  .semvmx = ipc::kSemValueMax,
                  .semaem = usage ? totals.semaphores : ipc::kSemValueMax};
  TRY(task.CopyOut(to, info));
  return totals.max_index;
}

Value Status(Task& task, int id, int command, UserAddr to) {
  const IdKind kind = command == IPC_STAT ? IdKind::kId : IdKind::kIndex;
  ipc::SemaphoreSetStatus status =
      TRY(IpcOf(task).semaphores().Status(id, kind, command != SEM_STAT_ANY, *task.creds()));
  semid_ds ds = {};
  ds.sem_perm = ToIpcPerm(*task.creds(), status.permissions, status.id);
  ds.sem_otime = status.otime;
  ds.sem_ctime = status.ctime;
  ds.sem_nsems = status.count;
  TRY(task.CopyOut(to, ds));
  return kind == IdKind::kId ? 0 : status.id;
}

Value CopyAll(Task& task, int id, int command, UserAddr array) {
  ipc::Semaphores& semaphores = IpcOf(task).semaphores();
  if (command == GETALL) {
    std::vector<uint16_t> values = TRY(semaphores.GetAll(id, *task.creds()));
    TRY(task.CopyOutBytes(array, values.data(), values.size() * sizeof(uint16_t)));
    return 0;
  }
  std::vector<uint16_t> values(TRY(semaphores.CountForWrite(id, *task.creds())));
  TRY(task.CopyInBytes(array, values.data(), values.size() * sizeof(uint16_t)));
  TRY(semaphores.SetAll(id, values, *task.creds()));
  return 0;
}

}  // namespace

SYSCALL_HANDLER(SysSemget) {
  return TRY(IpcOf(task).semaphores().Get(args.Int(0), args.Int(1), args.Int(2), *task.creds()));
}

SYSCALL_HANDLER(SysSemop) { return Operate(task, args, kNoDeadline); }
SYSCALL_HANDLER(SysSemtimedop) { return Operate(task, args, TRY(CopyInTimeoutDeadline(task, args.Addr(3)))); }

SYSCALL_HANDLER(SysSemctl) {
  const int id = args.Int(0), number = args.Int(1), command = args.Int(2);
  const Credentials& creds = *task.creds();
  ipc::Semaphores& semaphores = IpcOf(task).semaphores();
  if (id < 0) return Errno(EINVAL);
  switch (command) {
    case IPC_INFO:
    case SEM_INFO:
      return Info(task, args.Addr(3), command == SEM_INFO);
    case IPC_STAT:
    case SEM_STAT:
    case SEM_STAT_ANY:
      return Status(task, id, command, args.Addr(3));
    case GETALL:
    case SETALL:
      return CopyAll(task, id, command, args.Addr(3));
    case GETVAL:
      return TRY(semaphores.GetValue(id, number, creds));
    case GETPID:
      return TRY(semaphores.GetPid(id, number, creds));
    case GETNCNT:
    case GETZCNT:
      return TRY(semaphores.CountWaiters(id, number, command == GETZCNT, creds));
    case SETVAL:
      TRY(semaphores.SetValue(id, number, args.Int(3), creds));
      return 0;
    case IPC_SET: {
      semid_ds ds = TRY(task.CopyIn<semid_ds>(args.Addr(3)));
      TRY(semaphores.SetOwner(id, TRY(ToOwnerChange(*task.creds(), ds.sem_perm)), creds));
      return 0;
    }
    case IPC_RMID:
      TRY(semaphores.Remove(id, creds));
      return 0;
    default:
      return Errno(EINVAL);
  }
}

}  // namespace sentry::syscalls
