// SPDX-License-Identifier: Apache-2.0
// Memory: mmap and its family, process_vm_readv/writev, process_madvise.
#include <fcntl.h>
#include <limits.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include <algorithm>

#include "sentry/kernel/kernel.h"
#include "sentry/kernel/pidfd.h"
#include "sentry/kernel/ptrace.h"
#include "sentry/syscalls/handlers.h"
#include "sentry/syscalls/mm_util.h"

namespace sentry::syscalls {
namespace {

// The address space of `target`, for a caller that shares it or may trace the process. EPERM; ESRCH when it has ended.
Result<RefPtr<mm::MemoryManager>> AccessMemoryOf(Task& task, Task& target) {
  RefPtr<mm::MemoryManager> mm = target.mm_ref();
  if (!mm) return Errno(ESRCH);
  // Who shares it needs no leave (a vfork child).
  if (mm.get() != &task.mm()) TRY(kernel::CheckPtraceAccess(task, target));
  return mm;
}

bool AnyBytes(const std::vector<iovec>& vectors) {
  return std::any_of(vectors.begin(), vectors.end(), [](const iovec& v) { return v.iov_len != 0; });
}

// Copies between two address spaces through a bounce buffer; the bytes done, EFAULT when none. Nothing to copy is no
// error, whatever the process.
Value ProcessVm(Task& task, const Arguments& args, bool write) {
  if (args.Ulong(5)) return Errno(EINVAL);
  std::vector<iovec> local = TRY(CopyInIovec(task, args.Addr(1), args.Ulong(2)));
  if (!AnyBytes(local)) return 0;
  if (args.Ulong(4) > IOV_MAX) return Errno(EINVAL);  // all 64 bits, unlike import_iovec's
  std::vector<iovec> remote = TRY(CopyInIovec(task, args.Addr(3), args.Ulong(4)));
  if (!AnyBytes(remote)) return 0;
  RefPtr<Task> target = kernel::Kernel::Get().tasks().FindTask(task.pid_ns(), args.Int(0));
  if (!target) return Errno(ESRCH);
  RefPtr<mm::MemoryManager> other = TRY(AccessMemoryOf(task, *target));
  size_t i = 0, j = 0, i_done = 0, j_done = 0, total = 0;
  uint8_t buffer[16384];
  while (i < local.size() && j < remote.size()) {
    size_t n = std::min({local[i].iov_len - i_done, remote[j].iov_len - j_done, sizeof buffer});
    if (n == 0) {
      if (i_done == local[i].iov_len)
        ++i, i_done = 0;
      else
        ++j, j_done = 0;
      continue;
    }
    UserAddr local_at(reinterpret_cast<uint64_t>(local[i].iov_base) + i_done),
        remote_at(reinterpret_cast<uint64_t>(remote[j].iov_base) + j_done);
    auto got = write ? task.mm().CopyIn(local_at, buffer, n) : other->CopyIn(remote_at, buffer, n);
    Result<size_t> put =
        got.ok() ? (write ? other->CopyOut(remote_at, buffer, *got) : task.mm().CopyOut(local_at, buffer, *got)) : got;
    if (!put.ok()) {
      if (total) break;
      return put.error();
    }
    total += *put;
    if (*put < n) break;
    i_done += n, j_done += n;
  }
  return static_cast<int64_t>(total);
}

}  // namespace

mm::Protection ProtectionOf(int prot) {
  // x86-64 has no write-only pages.
  return {.read = (prot & (PROT_READ | PROT_WRITE)) != 0,
          .write = (prot & PROT_WRITE) != 0,
          .exec = (prot & PROT_EXEC) != 0};
}

void RefreshLimits(Task& task) {
  task.mm().SetLimits({.address_space = task.SoftLimit(RLIMIT_AS),
                       .data = task.SoftLimit(RLIMIT_DATA),
                       .stack = task.SoftLimit(RLIMIT_STACK),
                       .memlock = task.HasCapability(CAP_IPC_LOCK) ? UINT64_MAX : task.SoftLimit(RLIMIT_MEMLOCK)});
}

SYSCALL_HANDLER(SysMmap) {
  int flags = args.Int(3);
  mm::MmapRequest request{.address = args.Ulong(0),
                          .length = args.Size(1),
                          .protection = ProtectionOf(args.Int(2)),
                          .fixed = (flags & (MAP_FIXED | MAP_FIXED_NOREPLACE)) != 0,
                          .no_replace = (flags & MAP_FIXED_NOREPLACE) != 0,
                          .grows_down = (flags & MAP_GROWSDOWN) != 0,
                          .populate = (flags & MAP_POPULATE) != 0 && !(flags & MAP_NONBLOCK),
                          .no_reserve = (flags & MAP_NORESERVE) != 0,
                          .locked = (flags & MAP_LOCKED) != 0,
                          .below_4g = (flags & MAP_32BIT) != 0,
                          .offset = args.Ulong(5)};
  int type = flags & MAP_TYPE;
  if (args.Ulong(5) & (kPageSize - 1)) return Errno(EINVAL);
  vfs::FileRef file;
  if (!(flags & MAP_ANONYMOUS)) file = TRY(GetFile(task, args.Int(4)));
  if (type != MAP_SHARED && type != MAP_PRIVATE && type != MAP_SHARED_VALIDATE) return Errno(EINVAL);
  request.is_private = type == MAP_PRIVATE;
  if (flags & MAP_HUGETLB) return Errno(file ? EINVAL : ENOMEM);
  if (request.length == 0) return Errno(EINVAL);
  if (request.length > platform::kGuestAddressLimit) return Errno(ENOMEM);
  if (file) {
    if (!file->IsReadable()) return Errno(EACCES);
    if (!request.is_private && !file->IsWritable()) {
      if (request.protection.write) return Errno(EACCES);
      request.max_protection.write = false;
    }
    if (file->path().mount->flags() & vfs::kMountNoExec) {
      if (request.protection.exec) return Errno(EPERM);
      request.max_protection.exec = false;
    }
    uint64_t end;
    if (__builtin_add_overflow(request.offset, PageUp(request.length), &end) || end > INT64_MAX)
      return Errno(EOVERFLOW);
    TRY(file->ConfigureMmap(request));
  }
  if ((task.personality.load() & 0x0400000) && request.protection.read)
    request.protection.exec = true;  // READ_IMPLIES_EXEC
  RefreshLimits(task);
  return static_cast<int64_t>(TRY(task.mm().Mmap(request)));
}

SYSCALL_HANDLER(SysMunmap) {
  TRY(task.mm().Munmap(args.Ulong(0), args.Size(1)));
  return 0;
}

SYSCALL_HANDLER(SysMprotect) {
  if (args.Ulong(2) >> 32) return Errno(EINVAL);
  int prot = args.Int(2);
  bool grows_down = prot & PROT_GROWSDOWN, grows_up = prot & PROT_GROWSUP;
  prot &= ~(PROT_GROWSDOWN | PROT_GROWSUP);
  if ((prot & ~(PROT_READ | PROT_WRITE | PROT_EXEC | 0x8)) || (grows_down && grows_up) || grows_up)
    return Errno(EINVAL);
  TRY(task.mm().Mprotect(args.Ulong(0), args.Size(1), ProtectionOf(prot), grows_down));
  return 0;
}

SYSCALL_HANDLER(SysBrk) {
  RefreshLimits(task);
  return static_cast<int64_t>(task.mm().Brk(args.Ulong(0)));
}

SYSCALL_HANDLER(SysMremap) {
  if (args.Ulong(3) >> 32) return Errno(EINVAL);
  RefreshLimits(task);
  return static_cast<int64_t>(
      TRY(task.mm().Mremap(args.Ulong(0), args.Size(1), args.Size(2), args.Int(3), args.Ulong(4))));
}

SYSCALL_HANDLER(SysMsync) {
  TRY(task.mm().Msync(args.Ulong(0), args.Size(1), args.Int(2)));
  return 0;
}

SYSCALL_HANDLER(SysMadvise) {
  TRY(task.mm().Madvise(args.Ulong(0), args.Size(1), args.Int(2)));
  return 0;
}

SYSCALL_HANDLER(SysProcessMadvise) {
  if (args.Uint(4) != 0) return Errno(EINVAL);
  std::vector<iovec> vectors = TRY(CopyInIovec(task, args.Addr(1), args.Ulong(2)));
  vfs::FileRef file = TRY(GetFile(task, args.Int(0)));
  RefPtr<kernel::ThreadGroup> group = kernel::ThreadGroupOfPidFile(*file);
  if (!group) return Errno(EBADF);
  RefPtr<Task> target = group->leader();
  if (!target) return Errno(ESRCH);
  const int advice = args.Int(3);
  const bool own = group.get() == &task.group();
  auto accessed = AccessMemoryOf(task, *target);
  if (!accessed.ok()) return accessed.error() == Errno(EPERM) ? Errno(EACCES) : accessed.error();
  mm::MemoryManager* mm = accessed->get();
  // What changes no contents (process_madvise(2)).
  constexpr int kCollapse = 25;
  if (advice != MADV_COLD && advice != MADV_PAGEOUT && advice != MADV_WILLNEED && advice != kCollapse)
    return Errno(EINVAL);
  if (!own && !task.HasCapability(CAP_SYS_NICE)) return Errno(EPERM);
  int64_t done = 0;
  for (const iovec& vector : vectors) {
    auto advised = mm->Madvise(reinterpret_cast<uint64_t>(vector.iov_base), vector.iov_len, advice);
    if (!advised.ok()) {
      if (done) break;
      return advised.error();
    }
    done += static_cast<int64_t>(vector.iov_len);
  }
  return done;
}

SYSCALL_HANDLER(SysMincore) {
  std::vector<uint8_t> pages;
  TRY(task.mm().Mincore(args.Ulong(0), args.Size(1), &pages));
  if (!pages.empty()) TRY(task.CopyOutBytes(args.Addr(2), pages.data(), pages.size()));
  return 0;
}

SYSCALL_HANDLER(SysMlock) {
  RefreshLimits(task);
  TRY(task.mm().Mlock(args.Ulong(0), args.Size(1), true));
  return 0;
}
SYSCALL_HANDLER(SysMlock2) {
  if (args.Int(2) & ~MLOCK_ONFAULT) return Errno(EINVAL);
  RefreshLimits(task);
  TRY(task.mm().Mlock(args.Ulong(0), args.Size(1), true));
  return 0;
}
SYSCALL_HANDLER(SysMunlock) {
  TRY(task.mm().Mlock(args.Ulong(0), args.Size(1), false));
  return 0;
}
SYSCALL_HANDLER(SysMlockall) {
  if (args.Int(0) == 0) return Errno(EINVAL);
  RefreshLimits(task);
  TRY(task.mm().MlockAll(args.Int(0)));
  return 0;
}
SYSCALL_HANDLER(SysMunlockall) {
  TRY(task.mm().MlockAll(0));
  return 0;
}

SYSCALL_HANDLER(SysProcessVmReadv) { return ProcessVm(task, args, false); }
SYSCALL_HANDLER(SysProcessVmWritev) { return ProcessVm(task, args, true); }

}  // namespace sentry::syscalls
