// SPDX-License-Identifier: Apache-2.0
// Seldom used memory calls: remap_file_pages(2), mseal(2), pkey_*(2), memfd_secret(2), cachestat(2),
// process_mrelease(2).
#include <fcntl.h>
#include <sys/mman.h>

#include <algorithm>

#include "sentry/fs/tmpfs/memfd.h"
#include "sentry/kernel/pidfd.h"
#include "sentry/syscalls/handlers.h"
#include "sentry/syscalls/mm_util.h"

namespace sentry::syscalls {

SYSCALL_HANDLER(SysRemapFilePages) {
  if (args.Int(2) != 0) return Errno(EINVAL);
  RefreshLimits(task);
  TRY(task.mm().RemapPages(args.Ulong(0), args.Size(1), args.Ulong(3), !(args.Int(4) & MAP_NONBLOCK)));
  return 0;
}

SYSCALL_HANDLER(SysMseal) {
  if (args.Ulong(2) != 0) return Errno(EINVAL);
  TRY(task.mm().Seal(args.Ulong(0), args.Size(1)));
  return 0;
}

// Protection keys, as on a CPU without them: none can be had, and only "no key" is right.
SYSCALL_HANDLER(SysPkeyAlloc) { return Errno(EINVAL); }
SYSCALL_HANDLER(SysPkeyFree) { return Errno(EINVAL); }
SYSCALL_HANDLER(SysPkeyMprotect) {
  if (args.Int(3) == -1) return SysMprotect(task, args);
  const uint64_t start = args.Ulong(0), length = args.Ulong(1);
  if (start % kPageSize) return Errno(EINVAL);
  if (length == 0) return 0;
  if (start + PageUp(length) <= start) return Errno(ENOMEM);
  return Errno(EINVAL);
}

SYSCALL_HANDLER(SysMemfdSecret) {
  const unsigned flags = args.Uint(0);
  if (flags & ~static_cast<unsigned>(O_CLOEXEC)) return Errno(EINVAL);
  vfs::FileRef file = TRY(tmpfs::NewSecretMemfd(*task.creds()));
  return InstallFile(task, std::move(file), flags & O_CLOEXEC);
}

// The sentry keeps no page cache of its own that could be dirty or evicted: what a file has counts as cached.
SYSCALL_HANDLER(SysCachestat) {
  struct Range {
    uint64_t offset, length;
  };
  struct Counts {
    uint64_t cached, dirty, writeback, evicted, recently_evicted;
  };
  vfs::FileRef file = TRY(GetFile(task, args.Int(0)));
  const Range range = TRY(task.CopyIn<Range>(args.Addr(1)));
  if (args.Uint(3) != 0) return Errno(EINVAL);
  Counts counts = {};
  if (file->inode()->IsRegular()) {
    const uint64_t size = PageUp(TRY(file->GetStat()).size) / kPageSize;
    const uint64_t first = range.offset / kPageSize;
    uint64_t end = UINT64_MAX;
    if (range.length && range.offset <= UINT64_MAX - range.length)
      end = (range.offset + range.length - 1) / kPageSize + 1;
    end = std::min(end, size);
    if (end > first) counts.cached = end - first;
  }
  TRY(task.CopyOut(args.Addr(2), counts));
  return 0;
}

// A killed process gives its memory back by itself; there is nothing to hurry.
SYSCALL_HANDLER(SysProcessMrelease) {
  if (args.Uint(1) != 0) return Errno(EINVAL);
  vfs::FileRef file = TRY(GetFile(task, args.Int(0)));
  RefPtr<kernel::ThreadGroup> group = kernel::ThreadGroupOfPidFile(*file);
  if (!group) return Errno(EBADF);
  RefPtr<Task> leader = group->leader();
  if (!leader || group->HasExited() || !leader->mm_ref()) return Errno(ESRCH);
  if (!group->IsExiting()) return Errno(EINVAL);
  return 0;
}

}  // namespace sentry::syscalls
