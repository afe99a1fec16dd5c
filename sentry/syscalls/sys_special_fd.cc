// SPDX-License-Identifier: Apache-2.0
// Calls that make special descriptors: pipe, eventfd, timerfd, signalfd, inotify, memfd, userfaultfd.
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>

#include "sentry/fs/eventfd/eventfd.h"
#include "sentry/fs/inotify/inotify.h"
#include "sentry/fs/pipe/pipe.h"
#include "sentry/fs/signalfd/signalfd.h"
#include "sentry/fs/timerfd/timerfd.h"
#include "sentry/fs/tmpfs/memfd.h"
#include "sentry/fs/userfaultfd/userfaultfd.h"
#include "sentry/kernel/core/tunables.h"
#include "sentry/syscalls/handlers.h"

namespace sentry::syscalls {
namespace {

Value MakePipe(Task& task, UserAddr address, int flags) {
  if (flags & ~(O_CLOEXEC | O_NONBLOCK | O_DIRECT)) return Errno(EINVAL);
  auto [reader, writer] = TRY(fs::NewPipe(*task.creds(), flags));
  bool cloexec = flags & O_CLOEXEC;
  int fds[2];
  fds[0] = static_cast<int>(TRY(InstallFile(task, std::move(reader), cloexec)));
  auto second = InstallFile(task, std::move(writer), cloexec);
  if (!second.ok()) {
    (void)task.fds().Close(fds[0]).ok();
    return second.error();
  }
  fds[1] = static_cast<int>(*second);
  auto copied = task.CopyOutBytes(address, fds, sizeof fds);
  if (!copied.ok()) {
    for (int fd : fds) (void)task.fds().Close(fd).ok();
    return copied.error();
  }
  return 0;
}

Value MakeEventFd(Task& task, unsigned initial, int flags) {
  if (flags & ~(EFD_CLOEXEC | EFD_NONBLOCK | EFD_SEMAPHORE)) return Errno(EINVAL);
  return InstallFile(task, fs::NewEventFd(*task.creds(), initial, flags & EFD_SEMAPHORE, flags), flags & EFD_CLOEXEC);
}

Value MakeSignalFd(Task& task, int fd, UserAddr mask_address, uint64_t size, int flags) {
  if (flags & ~(SFD_CLOEXEC | SFD_NONBLOCK)) return Errno(EINVAL);
  kernel::SignalSet mask = TRY(CopyInSignalSet(task, mask_address, size));
  if (fd == -1) return InstallFile(task, fs::SignalFd::Create(*task.creds(), mask, flags), flags & SFD_CLOEXEC);
  vfs::FileRef file = TRY(GetFile(task, fd));
  fs::SignalFd* signal_fd = fs::SignalFd::From(*file);
  if (!signal_fd) return Errno(EINVAL);
  signal_fd->set_mask(mask);
  return fd;
}

Value MakeInotify(Task& task, int flags) {
  if (flags & ~(IN_CLOEXEC | IN_NONBLOCK)) return Errno(EINVAL);
  return InstallFile(task, TRY(fs::InotifyFile::Create(*task.creds(), flags)), flags & IN_CLOEXEC);
}

itimerspec ToItimerspec(const fs::TimerFd::Setting& setting) {
  return {.it_interval = base::ToTimespec(setting.interval_ns), .it_value = base::ToTimespec(setting.value_ns)};
}

Result<int64_t> NsOf(const timespec& ts) {
  if (ts.tv_sec < 0 || ts.tv_nsec < 0 || ts.tv_nsec >= base::kNsPerSecond) return Errno(EINVAL);
  if (ts.tv_sec >= INT64_MAX / base::kNsPerSecond) return INT64_MAX;
  return ts.tv_sec * base::kNsPerSecond + ts.tv_nsec;
}

Result<vfs::FileRef> TimerFile(Task& task, int fd, fs::TimerFd** timer) {
  vfs::FileRef file = TRY(GetFile(task, fd));
  *timer = fs::TimerFd::From(*file);
  if (!*timer) return Errno(EINVAL);
  return file;
}

}  // namespace

SYSCALL_HANDLER(SysPipe) { return MakePipe(task, args.Addr(0), 0); }
SYSCALL_HANDLER(SysPipe2) { return MakePipe(task, args.Addr(0), args.Int(1)); }
SYSCALL_HANDLER(SysEventfd) { return MakeEventFd(task, args.Uint(0), 0); }
SYSCALL_HANDLER(SysEventfd2) { return MakeEventFd(task, args.Uint(0), args.Int(1)); }
SYSCALL_HANDLER(SysSignalfd) { return MakeSignalFd(task, args.Int(0), args.Addr(1), args.Ulong(2), 0); }
SYSCALL_HANDLER(SysSignalfd4) { return MakeSignalFd(task, args.Int(0), args.Addr(1), args.Ulong(2), args.Int(3)); }
SYSCALL_HANDLER(SysInotifyInit) { return MakeInotify(task, 0); }
SYSCALL_HANDLER(SysInotifyInit1) { return MakeInotify(task, args.Int(0)); }

SYSCALL_HANDLER(SysUserfaultfd) {
  const int flags = args.Int(0);
  const bool user_mode_only = flags & UFFD_USER_MODE_ONLY;
  if (!user_mode_only && tunables::unprivileged_userfaultfd == 0 && !task.HasCapability(CAP_SYS_PTRACE))
    return Errno(EPERM);
  if (flags & ~(O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY)) return Errno(EINVAL);
  auto context = MakeRef<mm::UserfaultContext>(RefPtr<mm::MemoryManager>(&task.mm()), user_mode_only);
  return InstallFile(task, MakeRef<fs::UserfaultFile>(*task.creds(), std::move(context), flags), flags & O_CLOEXEC);
}

SYSCALL_HANDLER(SysInotifyAddWatch) {
  uint32_t mask = args.Uint(2);
  if (!(mask & IN_ALL_EVENTS) || ((mask & IN_MASK_ADD) && (mask & IN_MASK_CREATE))) return Errno(EINVAL);
  vfs::FileRef file = TRY(GetFile(task, args.Int(0)));
  fs::InotifyFile* inotify = fs::InotifyFile::From(*file);
  if (!inotify) return Errno(EINVAL);
  std::string path = TRY(CopyInPath(task, args.Addr(1)));
  uint32_t resolve = (mask & IN_DONT_FOLLOW ? 0u : vfs::kFollowFinal) | (mask & IN_ONLYDIR ? vfs::kDirectory : 0u);
  vfs::Path where = TRY(vfs::Resolve(TRY(WalkFrom(task, AT_FDCWD, path)), path, resolve));
  TRY(where.inode()->CheckPermission(*task.creds(), vfs::kMayRead));
  return TRY(inotify->AddWatch(where.inode(), mask));
}

SYSCALL_HANDLER(SysInotifyRmWatch) {
  vfs::FileRef file = TRY(GetFile(task, args.Int(0)));
  fs::InotifyFile* inotify = fs::InotifyFile::From(*file);
  if (!inotify) return Errno(EINVAL);
  TRY(inotify->RemoveWatch(args.Int(1)));
  return 0;
}

SYSCALL_HANDLER(SysTimerfdCreate) {
  int clock = args.Int(0), flags = args.Int(1);
  if (flags & ~(TFD_CLOEXEC | TFD_NONBLOCK)) return Errno(EINVAL);
  switch (clock) {
    case CLOCK_REALTIME:
    case CLOCK_MONOTONIC:
    case CLOCK_BOOTTIME:
      break;
    case CLOCK_REALTIME_ALARM:
    case CLOCK_BOOTTIME_ALARM:
      if (!task.HasCapability(CAP_WAKE_ALARM)) return Errno(EPERM);
      break;
    default:
      return Errno(EINVAL);
  }
  return InstallFile(task, fs::TimerFd::Create(*task.creds(), clock, flags), flags & TFD_CLOEXEC);
}

SYSCALL_HANDLER(SysTimerfdSettime) {
  int flags = args.Int(1);
  if (flags & ~(TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET)) return Errno(EINVAL);
  itimerspec setting = TRY(task.CopyIn<itimerspec>(args.Addr(2)));
  fs::TimerFd::Setting wanted{.value_ns = TRY(NsOf(setting.it_value)), .interval_ns = TRY(NsOf(setting.it_interval))};
  fs::TimerFd* timer;
  vfs::FileRef file = TRY(TimerFile(task, args.Int(0), &timer));
  if ((flags & TFD_TIMER_ABSTIME) && wanted.value_ns != 0)
    wanted.value_ns = std::max<int64_t>(HostTimeOf(task, timer->clock(), wanted.value_ns), 1);
  itimerspec old = ToItimerspec(timer->Set(wanted, flags & TFD_TIMER_ABSTIME));
  if (!args.Addr(3).IsNull()) TRY(task.CopyOut(args.Addr(3), old));
  return 0;
}

SYSCALL_HANDLER(SysTimerfdGettime) {
  fs::TimerFd* timer;
  vfs::FileRef file = TRY(TimerFile(task, args.Int(0), &timer));
  TRY(task.CopyOut(args.Addr(1), ToItimerspec(timer->Get())));
  return 0;
}

SYSCALL_HANDLER(SysMemfdCreate) {
  constexpr unsigned kNoExecSeal = 8, kExec = 16;  // MFD_NOEXEC_SEAL, MFD_EXEC (6.3)
  unsigned flags = args.Uint(1);
  const unsigned sizes = flags & MFD_HUGETLB ? 0x3fu << 26 : 0;  // the logarithm of the page size
  if (flags & ~(MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_HUGETLB | sizes | kNoExecSeal | kExec) ||
      (flags & kNoExecSeal && flags & kExec))
    return Errno(EINVAL);
  constexpr size_t kMaxName = 249;  // NAME_MAX less "memfd:"
  auto name = task.CopyInString(args.Addr(0), kMaxName + 1);
  if (!name.ok()) return name.error() == Errno(ENAMETOOLONG) ? Errno(EINVAL) : name.error();
  if (flags & MFD_HUGETLB) return Errno(ENOENT);  // no huge pages to be had
  tmpfs::MemfdOptions options{.allow_sealing = (flags & (MFD_ALLOW_SEALING | kNoExecSeal)) != 0,
                              .no_exec_seal = (flags & kNoExecSeal) != 0};
  return InstallFile(task, TRY(tmpfs::NewMemfd(*name, *task.creds(), options, 0100000)), flags & MFD_CLOEXEC);
}

}  // namespace sentry::syscalls
