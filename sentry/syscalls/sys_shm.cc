// SPDX-License-Identifier: Apache-2.0
// System V shared memory: shmget(2), shmat(2), shmdt(2), shmctl(2).
#include <sys/shm.h>

#include "base/cleanup.h"
#include "sentry/syscalls/handlers.h"
#include "sentry/syscalls/ipc_util.h"
#include "sentry/syscalls/mm_util.h"

#ifndef SHM_STAT_ANY
#define SHM_STAT_ANY 15
#endif

namespace sentry::syscalls {
namespace {

using ipc::IdKind;

Value Status(Task& task, int id, int command, UserAddr to) {
  const IdKind kind = command == IPC_STAT ? IdKind::kId : IdKind::kIndex;
  ipc::SegmentStatus status = TRY(IpcOf(task).shared_memory().Status(id, kind, command != SHM_STAT_ANY, *task.creds()));
  shmid_ds ds = {};
  ds.shm_perm = ToIpcPerm(*task.creds(), status.permissions, status.id);
  ds.shm_segsz = status.size;
  ds.shm_atime = status.atime;
  ds.shm_dtime = status.dtime;
  ds.shm_ctime = status.ctime;
  ds.shm_cpid = status.creator;
  ds.shm_lpid = status.last;
  ds.shm_nattch = status.attached;
  TRY(task.CopyOut(to, ds));
  return kind == IdKind::kId ? 0 : status.id;
}

Value Info(Task& task, int command, UserAddr to) {
  const ipc::SharedMemoryLimits limits = IpcOf(task).shared_memory().limits();
  const ipc::SharedMemory::Totals totals = IpcOf(task).shared_memory().GetTotals();
  if (command == IPC_INFO) {
    shminfo info = {};
    info.shmmax = limits.segment_bytes;
    info.shmmin = 1;
    info.shmmni = info.shmseg = static_cast<uint64_t>(limits.segments);
    info.shmall = limits.total_pages;
    TRY(task.CopyOut(to, info));
  } else {
    shm_info info = {};
    info.used_ids = totals.segments;
    info.shm_tot = totals.pages;
    info.shm_rss = totals.resident_pages;
    TRY(task.CopyOut(to, info));
  }
  return totals.max_index;
}

}  // namespace

SYSCALL_HANDLER(SysShmget) {
  return TRY(IpcOf(task).shared_memory().Get(args.Int(0), args.Size(1), args.Int(2), mm::MemoryManager::MemoryLimit(),
                                             *task.creds()));
}

SYSCALL_HANDLER(SysShmat) {
  const int id = args.Int(0), flags = args.Int(2);
  uint64_t address = args.Ulong(1);
  if (id < 0) return Errno(EINVAL);
  if (address % kPageSize) {
    if (!(flags & SHM_RND)) return Errno(EINVAL);
    address = PageDown(address);
  }
  const bool fixed = address != 0;
  if (!fixed && (flags & SHM_REMAP)) return Errno(EINVAL);
  const bool read_only = flags & SHM_RDONLY, exec = flags & SHM_EXEC;
  const uint32_t access = 0444 | (read_only ? 0 : 0222) | (exec ? 0111 : 0);

  ipc::SharedMemory& memory = IpcOf(task).shared_memory();
  RefPtr<ipc::Segment> segment = TRY(memory.Pin(id, access, *task.creds()));
  base::Cleanup unpin([&] { memory.Unpin(*segment); });
  const uint64_t size = segment->size();
  if (fixed && address + size < address) return Errno(EINVAL);
  RefreshLimits(task);
  mm::MmapRequest request{.address = address,
                          .length = size,
                          .protection = {.read = true, .write = !read_only, .exec = exec},
                          .max_protection = {.read = true, .write = !read_only, .exec = true},
                          .is_private = false,
                          .fixed = fixed,
                          .no_replace = fixed && !(flags & SHM_REMAP),
                          .object = segment};
  Result<uint64_t> mapped = task.mm().Mmap(request);
  if (!mapped.ok()) return mapped.error() == Errno(EEXIST) ? Errno(EINVAL) : mapped.error();
  return static_cast<int64_t>(*mapped);
}

SYSCALL_HANDLER(SysShmdt) {
  TRY(task.mm().Detach(args.Ulong(0)));
  return 0;
}

SYSCALL_HANDLER(SysShmctl) {
  const int id = args.Int(0), command = args.Int(1);
  const Credentials& creds = *task.creds();
  ipc::SharedMemory& memory = IpcOf(task).shared_memory();
  if (id < 0 || command < 0) return Errno(EINVAL);
  switch (command) {
    case IPC_INFO:
    case SHM_INFO:
      return Info(task, command, args.Addr(2));
    case IPC_STAT:
    case SHM_STAT:
    case SHM_STAT_ANY:
      return Status(task, id, command, args.Addr(2));
    case IPC_SET: {
      shmid_ds ds = TRY(task.CopyIn<shmid_ds>(args.Addr(2)));
      TRY(memory.SetOwner(id, TRY(ToOwnerChange(*task.creds(), ds.shm_perm)), creds));
      return 0;
    }
    case IPC_RMID:
      TRY(memory.Remove(id, creds));
      return 0;
    case SHM_LOCK:
    case SHM_UNLOCK:
      TRY(memory.SetLocked(id, command == SHM_LOCK, task.SoftLimit(RLIMIT_MEMLOCK), creds));
      return 0;
    default:
      return Errno(EINVAL);
  }
}

}  // namespace sentry::syscalls
