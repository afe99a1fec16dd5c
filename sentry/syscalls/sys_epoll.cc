// SPDX-License-Identifier: Apache-2.0
// epoll_create, epoll_ctl, epoll_wait and their newer forms.
#include <sys/epoll.h>

#include "sentry/fs/epoll/epoll.h"
#include "sentry/syscalls/access_ok.h"
#include "sentry/syscalls/handlers.h"

namespace sentry::syscalls {
namespace {

Value Create(Task& task, int flags) {
  if (flags & ~EPOLL_CLOEXEC) return Errno(EINVAL);
  return InstallFile(task, fs::EpollFile::Create(*task.creds()), flags & EPOLL_CLOEXEC);
}

Value Wait(Task& task, int fd, UserAddr address, int limit, int64_t deadline_ns) {
  if (limit <= 0 || limit > static_cast<int>(INT32_MAX / sizeof(epoll_event))) return Errno(EINVAL);
  TRY(CheckRange(address, static_cast<uint64_t>(limit) * sizeof(epoll_event)));
  vfs::FileRef file = TRY(GetFile(task, fd));
  fs::EpollFile* epoll = fs::EpollFile::From(*file);
  if (!epoll) return Errno(EINVAL);
  std::vector<epoll_event> ready = epoll->TakeReady(limit);
  if (ready.empty() && deadline_ns != 0) {
    BlockerEntry entry(task.blocker());
    file->wait_queue()->Add(entry, kEventIn);
    // What came together with a signal or the deadline is still taken, as Linux does.
    Result<void> slept;
    for (;;) {
      ready = epoll->TakeReady(limit);
      if (!ready.empty()) break;
      if (!slept.ok()) {
        if (slept.error() == Errno(ETIMEDOUT)) break;
        return slept.error() == base::kErestartsys ? Errno(EINTR) : slept.error();
      }
      slept = task.Block(deadline_ns);
    }
  }
  if (!ready.empty()) TRY(task.CopyOutBytes(address, ready.data(), ready.size() * sizeof(epoll_event)));
  return static_cast<int64_t>(ready.size());
}

int64_t DeadlineOfMs(int timeout_ms) {
  return timeout_ms < 0 ? kNoDeadline : timeout_ms == 0 ? 0 : DeadlineAfter(timeout_ms * int64_t{1'000'000});
}

}  // namespace

SYSCALL_HANDLER(SysEpollCreate) { return args.Int(0) <= 0 ? Value(Errno(EINVAL)) : Create(task, 0); }
SYSCALL_HANDLER(SysEpollCreate1) { return Create(task, args.Int(0)); }

SYSCALL_HANDLER(SysEpollCtl) {
  int operation = args.Int(1), fd = args.Int(2);
  epoll_event event = {};
  if (operation != EPOLL_CTL_DEL) event = TRY(task.CopyIn<epoll_event>(args.Addr(3)));
  vfs::FileRef file = TRY(GetFile(task, args.Int(0)));
  vfs::FileRef target = TRY(GetFile(task, fd));
  fs::EpollFile* epoll = fs::EpollFile::From(*file);
  if (!target->wait_queue()) return Errno(EPERM);
  if (!epoll || file == target) return Errno(EINVAL);
  switch (operation) {
    case EPOLL_CTL_ADD:
      TRY(epoll->Add(*target, fd, event));
      return 0;
    case EPOLL_CTL_MOD:
      TRY(epoll->Modify(*target, fd, event));
      return 0;
    case EPOLL_CTL_DEL:
      TRY(epoll->Remove(*target, fd));
      return 0;
  }
  return Errno(EINVAL);
}

SYSCALL_HANDLER(SysEpollWait) { return Wait(task, args.Int(0), args.Addr(1), args.Int(2), DeadlineOfMs(args.Int(3))); }

SYSCALL_HANDLER(SysEpollPwait) {
  if (!args.Addr(4).IsNull()) task.SetTemporaryMask(TRY(CopyInSignalSet(task, args.Addr(4), args.Size(5))));
  return Wait(task, args.Int(0), args.Addr(1), args.Int(2), DeadlineOfMs(args.Int(3)));
}

SYSCALL_HANDLER(SysEpollPwait2) {
  int64_t deadline = kNoDeadline;
  if (!args.Addr(3).IsNull()) {
    int64_t ns = TRY(CopyInTimespecNs(task, args.Addr(3)));
    deadline = ns == 0 ? 0 : DeadlineAfter(ns);
  }
  if (!args.Addr(4).IsNull()) task.SetTemporaryMask(TRY(CopyInSignalSet(task, args.Addr(4), args.Size(5))));
  return Wait(task, args.Int(0), args.Addr(1), args.Int(2), deadline);
}

}  // namespace sentry::syscalls
